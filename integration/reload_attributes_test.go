package integration

import (
	"strings"
	"testing"
)

// TestReloadOfARoutesAttributes changes what networkd 252 does not tell one route from another
// by: it leaves the old one, also when it configures the link once more.
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
