package units

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// TestWhatNetworkdWouldGuessIsWritten has cases that comparing kernel states brought to
// light: if a key is missing, networkd 252 does something of its own.
func TestWhatNetworkdWouldGuessIsWritten(t *testing.T) {
	address := fib.Address{Link: "a", Prefix: netip.MustParsePrefix("192.0.2.10/24"), Origin: testLine}
	for _, c := range []struct {
		name    string
		state   fib.State
		has     string
		hasNone string
	}{
		{"a gateway and no address", withRoute(func(*fib.Route) {}), "Gateway=192.0.2.1\nGatewayOnLink=no\n", ""},
		{"a gateway and addresses that are learned", func() fib.State {
			s := withRoute(func(*fib.Route) {})
			s.Links[0].Learn = fib.Learn{DHCP4: true, Table: 100}
			return s
		}(), "Gateway=192.0.2.1\nGatewayOnLink=no\n", ""},
		{"a gateway and an address", func() fib.State {
			s := withRoute(func(*fib.Route) {})
			s.Addresses = []fib.Address{address}
			return s
		}(), "Gateway=192.0.2.1\n", "GatewayOnLink"},
		{"a local route in main", withRoute(func(r *fib.Route) { r.Table, r.Type = fib.TableMain, fib.Local }), "Table=254\n", ""},
		{"an MTU too low for IPv6", withLink(func(l *fib.Link) { l.MTU = 1279 }), "LinkLocalAddressing=no\n", ""},
		{"an MTU for IPv6", withLink(func(l *fib.Link) { l.MTU = 1280 }), "", "LinkLocalAddressing"},
		{"two weighted ways of IPv6 by one link", withRoute(func(r *fib.Route) {
			r.Family, r.Dst, r.Metric = fib.Inet6, netip.MustParsePrefix("2001:db8::/32"), 7
			for i, weight := range []uint16{2, 1, 3} {
				n := fib.Nexthop{Link: "a", Via: netip.MustParseAddr("fe80::1"), Weight: weight}
				for range i {
					n.Via = n.Via.Next()
				}
				r.Nexthops = append(r.Nexthops[:i:i], n)
			}
		}), "MultiPathRoute=fe80::1@eth0 2\nMultiPathRoute=fe80::3@eth0 3\n", "fe80::2@"},
	} {
		tree, _, err := Render(c.state, Target{Version: newest, Root: rootfs.At(t.TempDir())})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		text := textOf(tree)
		if !strings.Contains(text, c.has) || c.hasNone != "" && strings.Contains(text, c.hasNone) {
			t.Errorf("%s: want %q and not %q:\n%s", c.name, c.has, c.hasNone, text)
		}
	}
}

func TestAMultipathRouteHasNoOnlink(t *testing.T) {
	s := withRoute(func(r *fib.Route) {
		n := r.Nexthops[0]
		n.Weight, n.OnLink = 2, true
		r.Nexthops = []fib.Nexthop{n, n}
	})
	_, _, err := Render(s, Target{Version: newest, Root: rootfs.At(t.TempDir())})
	var refused *MultipathError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "there is no onlink") {
		t.Errorf("got %v", err)
	}
}
