package integration

import (
	"strings"
	"testing"
)

// TestReloadSaysWhatNetworkdTookOfOthers has a service address and a routing daemon's route on a
// link whose file changes: networkd drops them, and reload says so. Those on the other link stay.
func TestReloadSaysWhatNetworkdTookOfOthers(t *testing.T) {
	t.Parallel()
	h := bootNetworkd(t, nil, provider1, provider2)
	h.spec(twoUplinks)
	h.reload()
	ip(h.ctx, t, h.Host, "address add 198.51.100.200/32 dev eth1", "route add 10.9.0.0/16 via 198.51.100.1 dev eth1 proto bird",
		"address add 192.0.2.200/32 dev eth0", "route add 10.10.0.0/16 via 192.0.2.1 dev eth0 proto bird")
	h.spec(strings.Replace(twoUplinks, "table     = 1\n", "table     = 1\nfrom = [\"198.51.100.10\", \"198.51.100.200\"]\n", 1))
	h.run("reload").expect(t, "reload", 0, "^written .*rt2.network\n$", `^uplinkctl: systemd-networkd has configured links again, and taken away .*To bring it back:
  ip address add 198.51.100.200/32 dev eth1
  ip route add 10.9.0.0/16 via 198.51.100.1 dev eth1 proto 12
$`)
	// What it prints brings them back, and a reload that changes no file removes nothing.
	ip(h.ctx, t, h.Host, "address add 198.51.100.200/32 dev eth1", "route add 10.9.0.0/16 via 198.51.100.1 dev eth1 proto 12")
	h.run("reload").expect(t, "reload again", 0, "^$", "^$")
}

// TestReloadOfARoutesAttributes changes attributes by which networkd 252 does not distinguish
// routes: it keeps the old route, even when it configures the link again.
func TestReloadOfARoutesAttributes(t *testing.T) {
	t.Parallel()
	const rt2 = "table     = 1\n"
	with := func(key string) string { return strings.Replace(twoUplinks, rt2, rt2+key+"\n", 1) }
	route := func(keys string) string {
		return twoUplinks + "\n[[uplink.rt2.route]]\nto = \"10.9.0.0/16\"\nvia = \"198.51.100.7\"\n" + keys
	}
	for name, specs := range map[string][]string{
		"onlink":          {twoUplinks, with("onlink = true"), twoUplinks},
		"a rule with oif": {twoUplinks, twoUplinks + "\n[[uplink.rt2.rule]]\noif = \"eth1\"\n", twoUplinks},
		"mtu":             {route(""), route("mtu = 1400\n"), route("mtu = 1300\n"), route("")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := bootNetworkd(t, nil, provider1, provider2)
			for _, spec := range specs {
				h.spec(spec)
				h.reload()
				h.holds(spec)
				h.run("diff").expect(t, "diff", 0, "", "")
			}
			// A try goes there and back.
			h.spec(specs[1])
			r := h.startTry("--timeout", "60")
			h.holds(specs[1])
			h.run("try", "--cancel").expect(t, "try --cancel", 0, "^all is as it was before; ", "")
			r.decided()
			h.holds(specs[0])
		})
	}
}
