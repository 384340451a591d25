package integration

import (
	"strings"
	"testing"
	"time"
)

// TestMultipathWithADeadUplink brings a shared default route about while a card has no carrier.
// networkd then adds none of the routes that name that card. The host gets out by the other card,
// also when that one flaps, and by both when the dead one comes up.
func TestMultipathWithADeadUplink(t *testing.T) {
	t.Parallel()
	h := bootNetworkd(t, nil, provider1, provider2)
	ip(h.ctx, t, h.Router, "link set p2 down")
	h.spec(twoUplinks + "\n[multipath]\nuplinks = { isp1 = 2, rt2 = 1 }\n")
	start := time.Now()
	if a := h.run("reload"); a.code != 0 || !strings.Contains(a.stderr, "uplink rt2: eth1 has no carrier: it waits") {
		t.Fatalf("reload: exit status %d, %s%s", a.code, a.stdout, a.stderr)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("reload took %v", took)
	}
	defaults := func(want ...string) {
		t.Helper()
		eventually(h.ctx, t, func() (string, error) {
			out, err := h.Host.Run(h.ctx, "ip", "-4", "route", "show", "default")
			for _, w := range want {
				if !strings.Contains(out, w) {
					return "main lacks " + w + ":\n" + out, err
				}
			}
			return "", err
		})
	}
	const alone, shared = "default via 192.0.2.1 dev eth0 proto static metric 3", "nexthop via 198.51.100.1 dev eth1 weight 1"
	defaults(alone)
	h.run("verify").expect(t, "verify", 0, "waits  uplink rt2: eth1 has no carrier", "")
	ip(h.ctx, t, h.Router, "link set p1 down")
	// A flap of milliseconds makes networkd 252 fail a link, with whatever routes.
	eventually(h.ctx, t, func() (string, error) {
		return h.Host.Run(h.ctx, "ip", "-4", "address", "show", "dev", "eth0", "scope", "global")
	})
	ip(h.ctx, t, h.Router, "link set p1 up")
	defaults(alone)
	ip(h.ctx, t, h.Router, "link set p2 up")
	defaults(alone, shared, "default via 198.51.100.1 dev eth1 proto static metric 4")
	if a := h.run("diff"); a.code != 0 {
		t.Errorf("diff: %s%s", a.stdout, a.stderr)
	}
}

// TestMultipathThroughNetlinkBesideNetworkd does the same on a host whose networkd has none of
// the links: the route by the living card alone is ours, and neither missing nor too much.
func TestMultipathThroughNetlinkBesideNetworkd(t *testing.T) {
	t.Parallel()
	h := bootNetworkd(t, nil, provider1, provider2)
	ip(h.ctx, t, h.Router, "link set p2 down")
	h.spec("backend = \"netlink\"\n" + twoUplinks + "\n[multipath]\nuplinks = { isp1 = 2, rt2 = 1 }\n")
	const waits = "uplink rt2: eth1 has no carrier: it waits\n$"
	h.run("reload").expect(t, "reload", 0, ".*", waits)
	h.run("diff").expect(t, "diff", 0, "^$", waits)
	if a := h.run("status"); strings.Contains(a.stdout, "extra") || strings.Contains(a.stdout, "missing") {
		t.Errorf("status:\n%s", a.stdout)
	}
}

// TestOneAmbiguousMatchHidesNoOtherUplink checks that verify and status say which match fits two
// links, and go on with the other uplinks.
func TestOneAmbiguousMatchHidesNoOtherUplink(t *testing.T) {
	t.Parallel()
	h := bootNetworkd(t, nil, provider1, provider2)
	h.spec("backend = \"netlink\"\n[uplink.a]\ninterface = \"eth0*\"\naddresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.1\"]\n" + twoUplinks[strings.Index(twoUplinks, "[uplink.rt2]"):])
	h.run("apply", "--if-needed").expect(t, "apply", 0, "", "")
	h.run("verify").expect(t, "verify", 0, "ok     a .*ok     rt2 ", "^$")
	ip(h.ctx, t, h.Host, "link add eth0b type veth peer name other")
	const says = "uplink a matches more than one link .name eth0. is eth0 and eth0b.: make the match narrower"
	h.run("verify").expect(t, "verify", 1, "ok     rt2 .*waits  uplink a: eth0 is not the only link with name eth0", "^uplinkctl: .*"+says+"\n$")
	h.run("verify", "--json").expect(t, "verify --json", 1, `"ok": false`, says)
	h.run("status").expect(t, "status", 1, "^note: .*"+says+".*\na: waits for its link .*\nrt2: as the spec says ", "^$")
	h.run("apply", "--if-needed").expect(t, "apply", 1, "^$", says)
}

// TestDownOfWhatHasBecomeAmbiguous takes everything away although a match of what is in effect
// fits a second link by then: users are told to do that when nothing else helps.
func TestDownOfWhatHasBecomeAmbiguous(t *testing.T) {
	t.Parallel()
	h := bootNetworkd(t, nil, provider1, provider2)
	h.spec("[uplink.a]\ninterface = \"eth0*\"\naddresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.1\"]\n")
	h.run("apply", "--if-needed").expect(t, "apply", 0, "", "")
	ip(h.ctx, t, h.Host, "link add eth0b type veth peer name eth0c")
	h.run("down").expect(t, "down", 0, "", "")
	if out, err := h.Host.Run(h.ctx, "ip", "rule"); err != nil || strings.Contains(out, "192.0.2.10") {
		t.Errorf("%v\n%s", err, out)
	}
}
