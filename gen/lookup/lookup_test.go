package lookup_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/lookup"
)

func addr(s string) (a netip.Addr) {
	if s != "" {
		a = netip.MustParseAddr(s)
	}
	return a
}

func prefix(s string) (p netip.Prefix) {
	if s != "" {
		p = netip.MustParsePrefix(s)
	}
	return p
}

// twoUplinks is the recipe with IPv6: isp1 on eth0 in table 10, rt2 on eth1 in table 20.
func twoUplinks() fib.State {
	var s fib.State
	for i, name := range []string{"isp1", "rt2"} {
		n, table := i+1, uint32(10*(i+1))
		s.Tables = append(s.Tables, fib.Table{ID: table, Name: name})
		s.Links = append(s.Links, fib.Link{Name: name, Match: fib.Match{Name: fmt.Sprintf("eth%d", i)}})
		for _, p := range []string{fmt.Sprintf("10.0.%d.10/24", n), fmt.Sprintf("2001:db8:%d::10/64", n)} {
			p := prefix(p)
			f, gateway := fib.FamilyOf(p.Addr()), p.Masked().Addr().Next()
			origin := fib.Origin{File: "/etc/uplink/uplink.toml", Line: n}
			s.Addresses = append(s.Addresses, fib.Address{Link: name, Prefix: p, Origin: origin})
			connected := fib.Route{Family: f, Table: table, Dst: p.Masked(), Type: fib.Unicast, Src: p.Addr(), Nexthops: []fib.Nexthop{{Link: name}}, Link: name, Origin: origin}
			way := fib.Route{Family: f, Table: table, Dst: f.Any(), Type: fib.Unicast, Nexthops: []fib.Nexthop{{Link: name, Via: gateway}}, Link: name, Origin: origin}
			if f == fib.Inet {
				connected.Scope = fib.ScopeLink
			}
			s.Routes = append(s.Routes, connected, way)
			if i == 0 {
				way.Table = fib.TableMain
				s.Routes = append(s.Routes, way)
			}
			host := netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
			s.Rules = append(s.Rules, fib.Rule{Family: f, Priority: 1000 + uint32(i), From: host, Action: fib.Lookup, Table: table, Origin: origin})
		}
	}
	s.Sort()
	return s
}

// way writes a result in one line.
func way(r *lookup.Result) string {
	var parts []string
	for _, w := range r.Ways() {
		s := w.Type.String()
		for _, p := range []struct {
			what  string
			value fmt.Stringer
			is    bool
		}{{"via", w.Via, w.Via.IsValid()}, {"src", w.Src, w.Src.IsValid()}} {
			if p.is {
				s += " " + p.what + " " + p.value.String()
			}
		}
		if w.Device != "" {
			s += fmt.Sprintf(" dev %s table %d", w.Device, w.Table)
		}
		parts = append(parts, s)
	}
	return string(r.Reason) + ": " + strings.Join(parts, " | ")
}

func TestWaysOfTwoUplinks(t *testing.T) {
	for _, c := range []struct {
		name   string
		packet lookup.Packet
		change func(*lookup.Host)
		want   string
	}{
		{"from the first", lookup.Packet{From: addr("10.0.1.10"), To: addr("8.8.8.8")}, nil, "route: unicast via 10.0.1.1 dev eth0 table 10"},
		{"from the second", lookup.Packet{From: addr("10.0.2.10"), To: addr("8.8.8.8")}, nil, "route: unicast via 10.0.2.1 dev eth1 table 20"},
		{"from the second, IPv6", lookup.Packet{From: addr("2001:db8:2::10"), To: addr("2a00::1")}, nil, "route: unicast via 2001:db8:2::1 dev eth1 table 20"},
		{"from nowhere", lookup.Packet{To: addr("8.8.8.8")}, nil, "route: unicast via 10.0.1.1 src 10.0.1.10 dev eth0 table 254"},
		{"from nowhere, IPv6", lookup.Packet{To: addr("2a00::1")}, nil, "route: unicast via 2001:db8:1::1 src 2001:db8:1::10 dev eth0 table 254"},
		{"to itself", lookup.Packet{To: addr("10.0.2.10")}, nil, "route: local src 10.0.2.10 dev lo table 255"},
		{"to all of a subnet", lookup.Packet{To: addr("10.0.2.255")}, nil, "route: broadcast src 10.0.2.10 dev eth1 table 255"},
		{"a source that is not held", lookup.Packet{From: addr("10.9.9.9"), To: addr("8.8.8.8")}, nil, "source-not-held: unreachable"},
		{"bound to a link without a way", lookup.Packet{To: addr("8.8.8.8"), OIF: "eth1"}, nil, "on-link: unicast src 10.0.2.10 dev eth1 table 0"},
		{"bound to a link without a way, IPv6", lookup.Packet{To: addr("2a00::1"), OIF: "eth1"}, nil, "no-route: unreachable"},
		{"the link is down", lookup.Packet{From: addr("10.0.2.10"), To: addr("8.8.8.8")}, func(h *lookup.Host) { h.Links[2].Up = false }, "route: unicast via 10.0.1.1 dev eth0 table 254"},
		{"forwarded", lookup.Packet{From: addr("10.0.1.99"), To: addr("8.8.8.8"), IIF: "eth1"}, nil, "route: unicast via 10.0.1.1 dev eth0 table 254"},
		{"strict reverse path", lookup.Packet{From: addr("9.9.9.9"), To: addr("10.0.1.10"), IIF: "eth1"}, func(h *lookup.Host) { h.Links[2].ReversePath = 1 }, "reverse-path: blackhole"},
		{"not forwarded", lookup.Packet{From: addr("10.0.1.99"), To: addr("8.8.8.8"), IIF: "eth1"}, func(h *lookup.Host) { h.Links[2].Forwarding = false }, "no-forwarding: unreachable"},
		{"its own source comes in", lookup.Packet{From: addr("10.0.2.10"), To: addr("8.8.8.8"), IIF: "eth0"}, nil, "martian-source: blackhole"},
		{"a gateway that fails", lookup.Packet{To: addr("2a00::1")}, func(h *lookup.Host) {
			h.Failed = map[lookup.Neighbour]bool{{Link: "eth0", Addr: addr("2001:db8:1::1")}: true}
			h.Routes = append(h.Routes, fib.Route{Family: fib.Inet6, Table: fib.TableMain, Dst: prefix("::/0"), Type: fib.Unicast, Metric: 2000, Nexthops: []fib.Nexthop{{Link: "eth1", Via: addr("fe80::1")}}})
		}, "route: unicast via fe80::1 src 2001:db8:2::10 dev eth1 table 254"},
		{"several ways", lookup.Packet{To: addr("9.9.9.9")}, func(h *lookup.Host) {
			h.Routes = append(h.Routes, fib.Route{Family: fib.Inet, Table: fib.TableMain, Dst: prefix("9.0.0.0/8"), Type: fib.Unicast, Nexthops: []fib.Nexthop{{Link: "eth0", Via: addr("10.0.1.1")}, {Link: "eth1", Via: addr("10.0.2.1")}}})
		}, "route: unicast via 10.0.1.1 src 10.0.1.10 dev eth0 table 254 | unicast via 10.0.2.1 src 10.0.2.10 dev eth1 table 254"},
		{"two defaults of one metric", lookup.Packet{To: addr("8.8.8.8")}, func(h *lookup.Host) {
			h.Routes = append(h.Routes, fib.Route{Family: fib.Inet, Table: fib.TableMain, Dst: prefix("0.0.0.0/0"), Type: fib.Unicast, Nexthops: []fib.Nexthop{{Link: "eth1", Via: addr("10.0.2.1")}}})
		}, "route: unicast via 10.0.1.1 src 10.0.1.10 dev eth0 table 254 | unicast via 10.0.2.1 src 10.0.2.10 dev eth1 table 254"},
		{"two defaults of two metrics", lookup.Packet{To: addr("8.8.8.8")}, func(h *lookup.Host) {
			h.Routes = append(h.Routes, fib.Route{Family: fib.Inet, Table: fib.TableMain, Dst: prefix("0.0.0.0/0"), Type: fib.Unicast, Metric: 1, Nexthops: []fib.Nexthop{{Link: "eth1", Via: addr("10.0.2.1")}}})
		}, "route: unicast via 10.0.1.1 src 10.0.1.10 dev eth0 table 254"},
		{"loose reverse path", lookup.Packet{From: addr("9.9.9.9"), To: addr("10.0.1.10"), IIF: "eth1"}, func(h *lookup.Host) { h.Links[2].ReversePath = 2 }, "route: local dev lo table 255"},
		{"loose reverse path, by a link without an address", lookup.Packet{From: addr("9.9.9.9"), To: addr("10.0.1.10"), IIF: "eth1"}, func(h *lookup.Host) {
			h.Links[2].ReversePath = 2
			h.Addresses = slices.DeleteFunc(h.Addresses, func(a fib.Address) bool { return a.Link == "eth1" })
		}, "reverse-path: blackhole"},
		{"multicast", lookup.Packet{To: addr("224.0.0.1")}, nil, "not-evaluated: unreachable"},
	} {
		h := lookup.FromState(twoUplinks())
		if c.change != nil {
			c.change(&h)
		}
		r := lookup.New(h).Lookup(c.packet)
		if have := way(&r); have != c.want {
			t.Errorf("%s: %s, want %s", c.name, have, c.want)
		}
	}
}

// TestSteps wants each rule's outcome, with the selector that does not fit.
func TestSteps(t *testing.T) {
	for _, c := range []struct {
		rule   fib.Rule
		packet lookup.Packet
		want   string
	}{
		{fib.Rule{From: prefix("10.0.1.0/24")}, lookup.Packet{}, "no-match from"},
		{fib.Rule{From: prefix("0.0.0.0/1")}, lookup.Packet{}, "no-route"}, // no source is 0.0.0.0
		{fib.Rule{From: prefix("::/1"), Family: fib.Inet6}, lookup.Packet{To: addr("2a00::1")}, "no-match from"},
		{fib.Rule{To: prefix("9.0.0.0/8")}, lookup.Packet{}, "no-match to"},
		{fib.Rule{To: prefix("9.0.0.0/8"), Not: true}, lookup.Packet{}, "no-route"},
		{fib.Rule{Not: true}, lookup.Packet{}, "no-match not"},
		{fib.Rule{Mark: 1, Mask: 3}, lookup.Packet{Mark: 2}, "no-match fwmark"},
		{fib.Rule{Mark: 1, Mask: 3}, lookup.Packet{Mark: 5}, "no-route"},
		{fib.Rule{IIF: "eth0"}, lookup.Packet{}, "no-match iif"},
		{fib.Rule{IIF: "lo"}, lookup.Packet{}, "no-route"},
		{fib.Rule{OIF: "eth0"}, lookup.Packet{OIF: "eth1"}, "no-match oif"},
		{fib.Rule{L3MDev: true}, lookup.Packet{}, "no-match l3mdev"},
		{fib.Rule{UIDRange: fib.Some(fib.Range[uint32]{Lo: 1, Hi: 5})}, lookup.Packet{}, "no-match uidrange"},
		{fib.Rule{TOS: 0x10}, lookup.Packet{TOS: 0x90}, "no-route"}, // IPv4 looks at three bits
		{fib.Rule{TOS: 0x10, Family: fib.Inet6}, lookup.Packet{TOS: 0x90, To: addr("2a00::1")}, "no-match tos"},
		{fib.Rule{IPProto: 17}, lookup.Packet{}, "no-route"}, // UDP is what RTM_GETROUTE takes
		{fib.Rule{IPProto: 6}, lookup.Packet{}, "no-match ipproto"},
		{fib.Rule{SPort: fib.Range[uint16]{Lo: 5, Hi: 9}}, lookup.Packet{SPort: 4}, "no-match sport"},
		{fib.Rule{DPort: fib.Range[uint16]{Lo: 5, Hi: 9}}, lookup.Packet{DPort: 9}, "no-route"},
		{fib.Rule{Action: fib.Nop}, lookup.Packet{}, "nop"},
		{fib.Rule{Action: fib.Goto, Goto: 32767}, lookup.Packet{}, "goto"},
		{fib.Rule{Action: fib.Goto, Goto: 500}, lookup.Packet{}, "goto-nowhere"},
		{fib.Rule{Action: fib.Prohibit}, lookup.Packet{}, "refused"},
		{fib.Rule{Table: 10}, lookup.Packet{}, "found"},
		{fib.Rule{Table: 10, SuppressPrefixLength: fib.Some[uint32](0)}, lookup.Packet{}, "suppressed suppress_prefixlength"},
		{fib.Rule{Table: 10, SuppressIfGroup: fib.Some[uint32](0)}, lookup.Packet{}, "suppressed suppress_ifgroup"},
		{fib.Rule{Table: 10, SuppressIfGroup: fib.Some[uint32](1)}, lookup.Packet{}, "found"},
	} {
		h := lookup.FromState(twoUplinks())
		if c.rule.Priority = 5; c.rule.Family == 0 {
			c.rule.Family = fib.Inet
		}
		if c.rule.Action == 0 {
			c.rule.Action = fib.Lookup
		}
		if !c.packet.To.IsValid() {
			c.packet.To = addr("8.8.8.8")
		}
		h.Rules = append(h.Rules, c.rule)
		r := lookup.New(h).Trace(c.packet)
		s := r.Steps[1] // behind the one for table local
		if have := strings.TrimSpace(string(s.Outcome) + " " + s.Selector + s.Why); have != c.want {
			t.Errorf("%+v: %q, want %q", c.rule, have, c.want)
		}
	}
}

// TestWhoHasAnIPv6Source checks that the result has the way from the kernel's lookup, and
// also says that the host does not have the source.
func TestWhoHasAnIPv6Source(t *testing.T) {
	away := fib.Route{Family: fib.Inet6, Table: fib.TableLocal, Dst: prefix("2001:db8:77::/48"), Type: fib.Local, Nexthops: []fib.Nexthop{{Link: "lo"}}}
	other := away
	other.Table = 20
	for _, c := range []struct {
		packet lookup.Packet
		change func(*lookup.Host)
		unheld bool
	}{
		{lookup.Packet{From: addr("2001:db8:2::10"), To: addr("2a00::1")}, nil, false},
		{lookup.Packet{From: addr("2001:db8:77::1"), To: addr("2a00::1")}, nil, true},
		{lookup.Packet{From: addr("2001:db8:77::1"), To: addr("2a00::1")}, func(h *lookup.Host) { h.Routes = append(h.Routes, away) }, false},
		{lookup.Packet{From: addr("2001:db8:77::1"), To: addr("2a00::1")}, func(h *lookup.Host) { h.Routes = append(h.Routes, other) }, true},
		{lookup.Packet{From: addr("2001:db8:77::1"), To: addr("2a00::1")}, func(h *lookup.Host) { h.NonLocalBind6 = true }, false},
		{lookup.Packet{From: addr("2001:db8:77::1"), To: addr("2a00::1"), IIF: "eth1"}, nil, false},
		{lookup.Packet{To: addr("2a00::1")}, nil, false},
	} {
		h := lookup.FromState(twoUplinks())
		if c.change != nil {
			c.change(&h)
		}
		r := lookup.New(h).Lookup(c.packet)
		if r.Unheld != c.unheld || !r.OK() {
			t.Errorf("%+v: %s, unheld %v", c.packet, way(&r), r.Unheld)
		}
	}
}

// TestOrigins wants the steps to say where in the spec they come from.
func TestOrigins(t *testing.T) {
	r := lookup.New(lookup.FromState(twoUplinks())).Lookup(lookup.Packet{From: addr("10.0.2.10"), To: addr("8.8.8.8")})
	last, ok := r.Last()
	if !ok || last.Rule.Origin.Line != 2 || last.Route.Origin.Line != 2 {
		t.Errorf("%+v", r.Steps)
	}
}

// TestASourceIsChosenAndAskedForAgain looks at an IPv6 packet that is refused without a
// source: it leaves by the uplink of the source that it then gets.
func TestASourceIsChosenAndAskedForAgain(t *testing.T) {
	h := lookup.FromState(twoUplinks())
	h.Rules = append(h.Rules, fib.Rule{Family: fib.Inet6, Priority: 2000, Action: fib.Unreachable})
	r := lookup.New(h).Lookup(lookup.Packet{To: addr("2a00::1")})
	if have, want := way(&r), "refused: unreachable"; have != want {
		t.Errorf("%s, want %s", have, want)
	}
	if have, want := way(r.Final()), "route: unicast via 2001:db8:1::1 dev eth0 table 10"; have != want || r.Again.Packet.From != addr("2001:db8:1::10") {
		t.Errorf("again from %s: %s, want %s", r.Again.Packet.From, have, want)
	}
	h.Links[1].Up = false
	if r := lookup.New(h).Lookup(lookup.Packet{To: addr("2a00::1")}); r.Again == nil || r.Again.Packet.From != addr("2001:db8:2::10") {
		t.Errorf("of a link that is down: %+v", r.Again)
	}
}

// TestAddressesOfOthers checks that addresses that others configure count as present: in
// the subnet that a route to it tells, and in no subnet if they are the source of routes
// through a gateway alone.
func TestAddressesOfOthers(t *testing.T) {
	route := func(dst, via string) fib.Route {
		return fib.Route{Family: fib.Inet, Table: 20, Dst: prefix(dst), Type: fib.Unicast, Src: addr("10.0.2.10"), Nexthops: []fib.Nexthop{{Link: "rt2", Via: addr(via)}}}
	}
	subnet, around, behind, beside, all := route("10.0.2.0/24", ""), route("10.0.0.0/8", "10.0.2.1"), route("9.0.0.0/8", "10.0.2.1"), route("9.0.0.0/16", ""), route("0.0.0.0/0", "")
	for _, c := range []struct {
		routes []fib.Route
		want   string
	}{
		{[]fib.Route{subnet}, "10.0.2.10/24"},
		{[]fib.Route{behind, subnet}, "10.0.2.10/24"},
		{[]fib.Route{around, beside, all, subnet}, "10.0.2.10/24"},
		{[]fib.Route{behind}, "10.0.2.10/32"},
		{[]fib.Route{around, beside, all}, "10.0.2.10/32"},
	} {
		h := lookup.FromState(fib.State{Links: []fib.Link{{Name: "rt2", Match: fib.Match{Name: "eth1"}}}, Routes: c.routes})
		have := ""
		for _, a := range h.Addresses {
			if a.Link == "eth1" {
				have += a.Prefix.String()
			}
		}
		if have != c.want {
			t.Errorf("%+v: %s, want %s", c.routes, have, c.want)
		}
	}
}
