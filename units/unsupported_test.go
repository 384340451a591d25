package units

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// TestRefusalsAreGroupedByKey checks that the error has a line for each key with its
// places, each place once, and the remedy once.
func TestRefusalsAreGroupedByKey(t *testing.T) {
	state := fib.State{}
	rule := func(line int, r fib.Rule) {
		link := fmt.Sprint("card", line)
		r.Origin, r.Link, r.Family = fib.Origin{File: "/etc/uplink/uplink.toml", Line: line}, link, fib.Inet
		r.Priority = uint32(100 + len(state.Rules))
		state.Rules = append(state.Rules, r)
	}
	const uplinks = 11
	for line := 1; line <= uplinks; line++ {
		o := fib.Origin{File: "/etc/uplink/uplink.toml", Line: line}
		name := fmt.Sprint("card", line)
		state.Links = append(state.Links, fib.Link{Name: name, Match: fib.Match{Name: name}, Uplinks: []fib.Named{{Name: name, Origin: o}}})
		rule(line, fib.Rule{Action: fib.Goto, Goto: 900})
		rule(line, fib.Rule{Action: fib.Goto, Goto: 901})
		if line < 3 {
			rule(line, fib.Rule{L3MDev: true})
		}
	}
	_, _, err := Render(state, Target{Version: Version{252, 0}, Root: rootfs.At(t.TempDir())})
	at := func(lines int) string {
		var list []string
		for line := 1; line <= lines; line++ {
			list = append(list, fmt.Sprint("/etc/uplink/uplink.toml:", line))
		}
		return strings.Join(list, ", ")
	}
	want := at(8) + ", and 3 more: GoTo= needs systemd 257\n" +
		at(2) + ": L3MasterDevice= needs systemd 256\n" +
		"systemd 252, which this is rendered for, would ignore them and apply the rest; leave them out of the spec, or take backend = \"netlink\""
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant\n%s", err, want)
	}
	var one *UnsupportedError
	if !errors.As(err, &one) {
		t.Errorf("%T is no UnsupportedError", err)
	}
}

// TestGatewaysThatAreNotWaitedForAreRefused has gateways that no address of the spec
// reaches, and versions of networkd that do not wait for one that does.
func TestGatewaysThatAreNotWaitedForAreRefused(t *testing.T) {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	for _, tt := range []struct {
		name    string
		learn   fib.Learn
		via     string
		onlink  bool
		own     bool // an address in the spec, with its subnet
		weights bool
		version Version
		refused bool
	}{
		{"DHCP", fib.Learn{DHCP4: true, Table: 100}, "192.0.2.1", false, false, false, Version{248, 9}, true},
		{"router advertisements", fib.Learn{RA: true, Table: 100}, "2001:db8:1::1", false, false, false, Version{256, 0}, true},
		{"multipath", fib.Learn{DHCP4: true, Table: 100}, "192.0.2.1", false, false, true, Oldest, true},
		{"another subnet", fib.Learn{DHCP4: true, Table: 100}, "198.51.100.1", false, true, false, Oldest, true},
		{"onlink", fib.Learn{DHCP4: true, Table: 100}, "192.0.2.1", true, false, false, Oldest, false},
		{"its own subnet", fib.Learn{DHCP4: true, Table: 100}, "192.0.2.1", false, true, false, Oldest, false},
		{"link-local", fib.Learn{RA: true, Table: 100}, "fe80::1", false, false, false, Oldest, false},
		{"it waits for IPv6 too", fib.Learn{RA: true, Table: 100}, "2001:db8:1::1", false, false, false, Version{257, 0}, false},
		{"it waits", fib.Learn{DHCP4: true, Table: 100}, "192.0.2.1", false, false, false, Version{249, 0}, false},
		{"nothing is learned", fib.Learn{}, "192.0.2.1", false, false, false, Oldest, false},
	} {
		via := addr(tt.via)
		f := fib.FamilyOf(via)
		r := fib.Route{Origin: testLine, Family: f, Table: 100, Dst: f.Any(), Type: fib.Unicast, Metric: f.Metric(0), Link: "a", Nexthops: []fib.Nexthop{{Link: "a", Via: via, OnLink: tt.onlink}}}
		if tt.weights {
			r.Nexthops[0].Weight = 2
		}
		state := fib.State{
			Links:  []fib.Link{{Name: "a", Match: fib.Match{Name: "eth0"}, Learn: tt.learn, Uplinks: []fib.Named{{Name: "a", Origin: testLine}}}},
			Routes: []fib.Route{r},
		}
		if tt.own {
			state.Routes = append(state.Routes, fib.Route{Family: fib.Inet, Table: 100, Dst: prefix("192.0.2.0/24"), Type: fib.Unicast, Scope: fib.ScopeLink, Src: addr("192.0.2.10"), Link: "a", Nexthops: []fib.Nexthop{{Link: "a"}}})
		}
		_, _, err := Render(state, Target{Version: tt.version, Root: rootfs.At(t.TempDir())})
		var refused *LinkError
		if errors.As(err, &refused) != tt.refused || !tt.refused && err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if tt.refused && !strings.HasPrefix(err.Error(), fmt.Sprintf("%s: uplink `a` has a gateway in no subnet of its `addresses`, %s: ", testLine, via)) {
			t.Errorf("%s: it is not said where: %v", tt.name, err)
		}
	}
}
