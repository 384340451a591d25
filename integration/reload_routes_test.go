package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// TestReloadRoutesOfEveryType has networkd add and remove a route of each type; reload waits for
// them, and diff and status must find them.
func TestReloadRoutesOfEveryType(t *testing.T) {
	t.Parallel()
	h := bootNetworkd(t, nil, provider1, provider2)
	spec := twoUplinks
	for _, r := range []string{
		`"10.9.1.0/24" local`, `"10.9.2.0/24" broadcast`, `"10.9.3.0/24" anycast`, `"10.9.4.0/24" multicast`,
		`"10.9.5.0/24" blackhole`, `"10.9.6.0/24" unreachable`, `"10.9.7.0/24" prohibit`, `"10.9.8.0/24" throw`, `"10.9.9.0/24" unicast`,
		`"2001:db8:9:1::/64" local`, `"2001:db8:9:2::/64" anycast`, `"2001:db8:9:3::/64" multicast`, `"2001:db8:9:4::/64" unreachable`,
	} {
		to, kind, _ := strings.Cut(r, " ")
		for _, table := range []string{"rt2", "main"} {
			spec += fmt.Sprintf("\n[[uplink.rt2.route]]\nto = %s\ntype = %q\ntable = %q\n", to, kind, table)
		}
	}
	for _, spec := range []string{spec, twoUplinks, spec} {
		h.spec(spec)
		h.reload()
		h.holds(spec)
		h.run("diff").expect(t, "diff", 0, "", "")
		h.run("status").expect(t, "status", 0, "(?s): as the spec says.*: as the spec says", "")
	}
}

// TestReloadRoutesByLearnedGateways gives an uplink that learns its address routes by a
// gateway, in a file of its own and in a drop-in to somebody else's.
func TestReloadRoutesByLearnedGateways(t *testing.T) {
	for name, manage := range map[string]string{"link": "", "policy": "manage = \"policy\"\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require(t, lab.NeedDHCP)
			h := bootNetworkd(t, nil, provider1, provider2)
			w := &watched{cli: newCLI(h.ctx, t, h.Host), Lab: h.Lab}
			address := netip.MustParseAddr("198.51.100.50")
			w.serve(address, time.Hour)
			// Not before: a client that has asked in vain waits longer each time.
			if manage != "" {
				if err := h.networkd.Write(map[string]string{"/etc/systemd/network/50-eth1.network": "[Match]\nName=eth1\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=yes\n"}); err != nil {
					t.Fatal(err)
				}
			}
			spec := strings.SplitAfter(twoUplinks, "table     = 1\n")[0] + manage + "dhcp = \"ipv4\"\naccept-ra = \"ipv6\"\n"
			for _, to := range []string{"10.9.0.0/16", "10.10.0.0/16"} {
				h.spec(spec + "[[uplink.rt2.route]]\nto = \"" + to + "\"\nvia = \"198.51.100.1\"\n[[uplink.rt2.route]]\nto = \"2001:db8:98::/48\"\nvia = \"fe80::1\"\n")
				h.run("reload", "--wait", "30").expect(t, "reload", 0, ".*", "")
				if err := h.Host.WaitAddresses(h.ctx, address); err != nil {
					t.Fatal(err)
				}
				routes, err := h.Host.Routes(h.ctx)
				if err != nil {
					t.Fatal(err)
				}
				found := 0
				for _, r := range routes {
					if r.Dst.String() == to || r.Dst.String() == "2001:db8:98::/48" {
						found++
						if r.Protocol != 4 || strings.Contains(r.Flags, "onlink") {
							t.Errorf("%+v", r)
						}
					}
				}
				if found != 2 {
					t.Errorf("%d routes of 2", found)
				}
			}
		})
	}
}
