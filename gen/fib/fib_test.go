package fib

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// TestRouteText checks each field's words.
func TestRouteText(t *testing.T) {
	t.Parallel()
	eth0 := []Nexthop{{Link: "a"}}
	for want, r := range map[string]Route{
		"route add default dev <a> proto 118 scope link":                         {Family: Inet, Table: TableMain, Dst: Inet.Any(), Type: Unicast, Scope: ScopeLink, Nexthops: eth0},
		"-6 route add default dev <a> table 7 proto 118 metric 1024":             {Family: Inet6, Table: 7, Dst: Inet6.Any(), Type: Unicast, Metric: 1024, Nexthops: eth0},
		"route add 192.0.2.1 dev <a> table default proto 118 scope host":         {Family: Inet, Table: TableDefault, Dst: prefix("192.0.2.1/32"), Type: Unicast, Scope: ScopeHost, Nexthops: eth0},
		"route add 10.0.0.0/8 dev <a> table local proto 118 scope global":        {Family: Inet, Table: TableLocal, Dst: prefix("10.0.0.0/8"), Type: Unicast, Nexthops: eth0},
		"route add local 10.0.0.0/8 dev <a> table 7 proto 118 scope host":        {Family: Inet, Table: 7, Dst: prefix("10.0.0.0/8"), Type: Local, Scope: ScopeHost, Nexthops: eth0},
		"route add broadcast 10.0.0.0/8 dev <a> table main proto 118 scope link": {Family: Inet, Table: TableMain, Dst: prefix("10.0.0.0/8"), Type: Broadcast, Scope: ScopeLink, Nexthops: eth0},
		"-6 route add anycast 2001:db8::/64 dev <a> table main proto 118":        {Family: Inet6, Table: TableMain, Dst: prefix("2001:db8::/64"), Type: Anycast, Nexthops: eth0},
		"route add multicast 239.0.0.0/8 dev <a> proto 118 scope link":           {Family: Inet, Table: TableMain, Dst: prefix("239.0.0.0/8"), Type: Multicast, Scope: ScopeLink, Nexthops: eth0},
		"route add blackhole 10.0.0.0/8 table 7 proto 118":                       {Family: Inet, Table: 7, Dst: prefix("10.0.0.0/8"), Type: RouteBlackhole},
		"route add 10.0.0.0/8 via 192.0.2.1 dev <a> onlink table 7 proto 118 scope site src 192.0.2.9 metric 1 mtu 2 advmss 3 initcwnd 4 initrwnd 5": {
			Family: Inet, Table: 7, Dst: prefix("10.0.0.0/8"), Type: Unicast, Scope: ScopeSite, Metric: 1, Src: addr("192.0.2.9"), MTU: 2, AdvMSS: 3, InitCwnd: 4, InitRwnd: 5,
			Nexthops: []Nexthop{{Link: "a", Via: addr("192.0.2.1"), OnLink: true}},
		},
		"route add default table 7 proto 118 nexthop via 192.0.2.1 dev <a> weight 2 nexthop dev <b> weight 1": {
			Family: Inet, Table: 7, Dst: Inet.Any(), Type: Unicast,
			Nexthops: []Nexthop{{Link: "a", Via: addr("192.0.2.1"), Weight: 2}, {Link: "b", Weight: 1}},
		},
	} {
		if got := new(State).Syntax(); got.Route("add", r) != want {
			t.Errorf("got  %s\nwant %s", got.Route("add", r), want)
		}
	}
}

// TestRuleText checks each field's words.
func TestRuleText(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]Rule{
		"rule del priority 1 from all lookup main protocol 118":              {Family: Inet, Priority: 1, Action: Lookup, Table: TableMain},
		"rule del priority 1 from all lookup local protocol 118":             {Family: Inet, Priority: 1, From: Inet.Any(), To: Inet.Any(), Action: Lookup, Table: TableLocal},
		"-6 rule del priority 1 from 2001:db8::1 lookup 7 protocol 118":      {Family: Inet6, Priority: 1, From: prefix("2001:db8::1/128"), Action: Lookup, Table: 7},
		"rule del priority 1 from all l3mdev protocol 118":                   {Family: Inet, Priority: 1, L3MDev: true, Action: Lookup},
		"rule del priority 1 from all goto 9 protocol 118":                   {Family: Inet, Priority: 1, Action: Goto, Goto: 9},
		"rule del priority 1 from all nop protocol 118":                      {Family: Inet, Priority: 1, Action: Nop},
		"rule del priority 1 from all fwmark 0x0/0xff prohibit protocol 118": {Family: Inet, Priority: 1, Mask: 0xff, Action: Prohibit},
		"rule del priority 1 not from 10.0.0.0/8 to 10.1.0.0/16 fwmark 0x1/0xffffffff iif i oif o tos 0x10 ipproto 6 sport 1-2 dport 3 uidrange 0-4294967294 lookup 4294967295 suppress_prefixlength 0 suppress_ifgroup 5 protocol 118": {
			Family: Inet, Priority: 1, Not: true, From: prefix("10.0.0.0/8"), To: prefix("10.1.0.0/16"), Mark: 1, Mask: 0xffffffff, IIF: "i", OIF: "o", TOS: 16, IPProto: 6,
			SPort: Range[uint16]{1, 2}, DPort: Range[uint16]{3, 3}, UIDRange: Some(Range[uint32]{0, 4294967294}), Action: Lookup, Table: 4294967295,
			SuppressPrefixLength: Some[uint32](0), SuppressIfGroup: Some[uint32](5),
		},
	} {
		if got := new(State).Syntax(); got.Rule("del", r) != want {
			t.Errorf("got  %s\nwant %s", got.Rule("del", r), want)
		}
	}
}

func TestStateText(t *testing.T) {
	t.Parallel()
	s := State{
		Tables: []Table{{7, "a"}},
		Links: []Link{
			{Name: "a", Match: Match{Name: "eth0", MAC: "02:00:00:00:00:01", Driver: "d", Path: "p"}, MTU: 1400, Domains: []string{"x", "y"}, DNS: []netip.Addr{addr("::1")}, RequiredForOnline: "no"},
			{Name: "b", Match: Match{Name: "e*"}, PolicyOnly: true, MTU: 9000, Learn: Learn{DHCP4: true, DHCP6: true, RA: true, Table: 8, DefaultRoute: true, Metric: 9}},
		},
		Addresses: []Address{{Link: "a", Prefix: prefix("192.0.2.10/24")}, {Link: "b", Prefix: prefix("2001:db8::1/64")}},
		Routes:    []Route{{Family: Inet, Table: 7, Dst: Inet.Any(), Type: Throw}},
		Rules:     []Rule{{Family: Inet, Priority: 5, Action: Lookup, Table: 7}},
	}
	want := `# table 7 a
# link a is name eth0, MAC 02:00:00:00:00:01, driver d, path p dns ::1 domain x domain y required-for-online no
link set dev eth0 mtu 1400
# link b is name e* (policy only) dhcp4 dhcp6 ra table 8 and main metric 9
link set dev <b> mtu 9000
address add 192.0.2.10/24 dev eth0 brd +
-6 address add 2001:db8::1/64 dev <b>
route add throw default table 7 proto 118
rule add priority 5 from all lookup 7 protocol 118
`
	if got := s.Text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	x := Syntax{Device: func(string) string { return "dev0" }, Table: func(uint32) string { return "t" }}
	if got := x.Address("del", s.Addresses[0]) + x.Rule("del", s.Rules[0]); got != "address del 192.0.2.10/24 dev dev0rule del priority 5 from all lookup t protocol 118" {
		t.Error(got)
	}
	for protocol, want := range map[uint8]string{
		4: "route add throw default table 7 proto 4|rule add priority 5 from all lookup 7 protocol 4",
		0: "route add throw default table 7|rule add priority 5 from all lookup 7",
	} {
		x := Syntax{Protocol: Some(protocol)}
		if got := x.Route("add", s.Routes[0]) + "|" + x.Rule("add", s.Rules[0]); got != want {
			t.Errorf("protocol %d: %s, want %s", protocol, got, want)
		}
	}
}

// variants returns a base value and, for each field that matters to the kernel, a copy
// with another value in that field.
func variants[T any](base T, change ...func(*T)) []T {
	all := []T{base}
	for _, c := range change {
		v := base
		c(&v)
		all = append(all, v)
	}
	return all
}

func ruleVariants() []Rule {
	base := Rule{Family: Inet, Priority: 5, Action: Lookup, Table: 7}
	return variants(base,
		func(r *Rule) { r.Family = Inet6 },
		func(r *Rule) { r.Priority++ },
		func(r *Rule) { r.Not = true },
		func(r *Rule) { r.From = prefix("10.0.0.0/8") },
		func(r *Rule) { r.From = prefix("10.0.0.0/9") },
		func(r *Rule) { r.To = prefix("10.0.0.0/8") },
		func(r *Rule) { r.IIF = "i" },
		func(r *Rule) { r.OIF = "i" },
		func(r *Rule) { r.Mark = 1 },
		func(r *Rule) { r.Mask = 1 },
		func(r *Rule) { r.TOS = 4 },
		func(r *Rule) { r.IPProto = 6 },
		func(r *Rule) { r.SPort = Range[uint16]{1, 1} },
		func(r *Rule) { r.SPort = Range[uint16]{1, 2} },
		func(r *Rule) { r.DPort = Range[uint16]{1, 1} },
		func(r *Rule) { r.UIDRange = Some(Range[uint32]{0, 0}) },
		func(r *Rule) { r.UIDRange = Some(Range[uint32]{0, 1}) },
		func(r *Rule) { r.L3MDev = true },
		func(r *Rule) { r.Action = Nop },
		func(r *Rule) { r.Table++ },
		func(r *Rule) { r.Goto = 9 },
		func(r *Rule) { r.SuppressPrefixLength = Some[uint32](0) },
		func(r *Rule) { r.SuppressPrefixLength = Some[uint32](1) },
		func(r *Rule) { r.SuppressIfGroup = Some[uint32](0) },
	)
}

func routeVariants() []Route {
	base := Route{Family: Inet, Table: 7, Dst: prefix("10.0.0.0/8"), Type: Unicast, Nexthops: []Nexthop{{Link: "a"}}}
	hop := func(n Nexthop) func(*Route) { return func(r *Route) { r.Nexthops = []Nexthop{n} } }
	return variants(base,
		func(r *Route) { r.Family = Inet6 },
		func(r *Route) { r.Table++ },
		func(r *Route) { r.Dst = prefix("10.0.0.0/9") },
		func(r *Route) { r.Dst = prefix("11.0.0.0/8") },
		func(r *Route) { r.Type = Throw },
		func(r *Route) { r.Scope = ScopeLink },
		func(r *Route) { r.Metric = 1 },
		func(r *Route) { r.Src = addr("10.0.0.1") },
		func(r *Route) { r.MTU = 1 },
		func(r *Route) { r.AdvMSS = 1 },
		func(r *Route) { r.InitCwnd = 1 },
		func(r *Route) { r.InitRwnd = 1 },
		func(r *Route) { r.Nexthops = nil },
		hop(Nexthop{Link: "b"}),
		hop(Nexthop{Link: "a", Via: addr("10.0.0.1")}),
		hop(Nexthop{Link: "a", OnLink: true}),
		hop(Nexthop{Link: "a", Weight: 1}),
		func(r *Route) { r.Nexthops = []Nexthop{{Link: "a"}, {Link: "b"}} },
	)
}

// TestCompareIsATotalOrder checks that values that differ to the kernel compare as
// different, and that the order is antisymmetric and transitive.
func TestCompareIsATotalOrder(t *testing.T) {
	t.Parallel()
	checkOrder(t, ruleVariants(), func(a, b Rule) int { return a.Compare(&b) })
	checkOrder(t, routeVariants(), func(a, b Route) int { return a.Compare(&b) })
}

func checkOrder[T any](t *testing.T, all []T, compare func(a, b T) int) {
	t.Helper()
	for i, a := range all {
		for j, b := range all {
			ab, ba := compare(a, b), compare(b, a)
			if (ab == 0) != (i == j) || ab != -ba {
				t.Errorf("%d and %d: %d, %d: %+v %+v", i, j, ab, ba, a, b)
			}
			for _, c := range all {
				if ab < 0 && compare(b, c) < 0 && compare(a, c) >= 0 {
					t.Errorf("not transitive: %+v %+v %+v", a, b, c)
				}
			}
		}
	}
}

// TestCompareKnowsEveryField fails where a field is added that Compare forgets.
func TestCompareKnowsEveryField(t *testing.T) {
	t.Parallel()
	for v, n := range map[any]int{Rule{}: 23, Nexthop{}: 4, RouteKey{}: 4} {
		if got := reflect.TypeOf(v).NumField(); got != n {
			t.Errorf("%T has %d fields: add the new one to Compare and to the variants here", v, got)
		}
	}
	if got := reflect.TypeFor[Route]().NumField(); got != 14 {
		t.Errorf("Route has %d fields: add the new one to Compare and to the variants here", got)
	}
}

func TestCompareIgnoresWhatTheKernelDoesNotSee(t *testing.T) {
	t.Parallel()
	a := Rule{Family: Inet, Priority: 5, Action: Lookup, Table: 7}
	b := a
	b.Link, b.Origin, b.From, b.To, b.Order = "a", Origin{"f", 1}, Inet.Any(), Inet.Any(), Movable
	if a.Compare(&b) != 0 {
		t.Error("rules differ by link, origin, order or a prefix for all")
	}
	r, o := routeVariants()[0], routeVariants()[0]
	o.Link, o.Origin = "b", Origin{"f", 1}
	if r.Compare(&o) != 0 || r.Key() != o.Key() {
		t.Error("routes differ by link or origin")
	}
}

func TestSort(t *testing.T) {
	t.Parallel()
	want := State{
		Tables: []Table{{1, "b"}, {2, "a"}},
		Links:  []Link{{Name: "a"}, {Name: "b"}},
		Routes: routeVariants(), Rules: ruleVariants(),
	}
	want.Sort()
	want.Addresses = []Address{{Link: "a", Prefix: prefix("10.0.0.9/8")}, {Link: "a", Prefix: prefix("10.0.0.1/8")}, {Link: "b", Prefix: prefix("10.0.0.5/8")}}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		got := want.Clone()
		got.Tables = slices.Clone(want.Tables)
		slices.Reverse(got.Tables)
		slices.Reverse(got.Links)
		got.Addresses[1], got.Addresses[2] = got.Addresses[2], got.Addresses[1]
		rnd.Shuffle(len(got.Routes), func(i, j int) { got.Routes[i], got.Routes[j] = got.Routes[j], got.Routes[i] })
		rnd.Shuffle(len(got.Rules), func(i, j int) { got.Rules[i], got.Rules[j] = got.Rules[j], got.Rules[i] })
		if got.Sort(); !reflect.DeepEqual(got, want) {
			t.Fatalf("got\n%s\nwant\n%s", got.Text(), want.Text())
		}
	}
	for i := 1; i < len(want.Routes); i++ {
		a, b := want.Routes[i-1], want.Routes[i]
		if a.Family == b.Family && a.Table == b.Table && a.Dst.Bits() < b.Dst.Bits() {
			t.Error("a gateway's subnet comes after the gateway")
		}
	}
	if l, ok := want.Link("b"); !ok || l.Name != "b" {
		t.Error("link b is not found")
	}
	if _, ok := want.Link("c"); ok {
		t.Error("link c is found")
	}
}

// TestNames checks that each name is read as what it is the name of.
func TestNames(t *testing.T) {
	t.Parallel()
	for v := range uint8(12) {
		if name := RouteType(v).String(); !strings.HasPrefix(name, "type ") {
			if got, ok := ParseRouteType(name); !ok || got != RouteType(v) {
				t.Errorf("route type %s is read as %d", name, got)
			}
		}
		if name := Action(v).String(); !strings.HasPrefix(name, "action ") {
			if got, ok := ParseAction(name); !ok || got != Action(v) {
				t.Errorf("action %s is read as %d", name, got)
			}
		}
	}
	for _, s := range []Scope{ScopeUniverse, ScopeSite, ScopeLink, ScopeHost, ScopeNowhere} {
		if got, ok := ParseScope(s.String()); !ok || got != s {
			t.Errorf("scope %s is read as %d", s, got)
		}
	}
	if s, ok := ParseScope("universe"); !ok || s != ScopeUniverse {
		t.Error("universe is another word for global")
	}
	for _, bad := range []string{"", "x", "type 0", "Unicast"} {
		_, a := ParseRouteType(bad)
		_, b := ParseAction(bad)
		_, c := ParseScope(bad)
		if a || b || c {
			t.Errorf("%q is read", bad)
		}
	}
	for want, got := range map[string]string{
		"type 0": RouteType(0).String(), "type 99": RouteType(99).String(), "action 4": Action(4).String(), "action 99": Action(99).String(), "7": Scope(7).String(),
		"IPv4": Inet.String(), "IPv6": Inet6.String(), "family 1": Family(1).String(), "f": Origin{File: "f"}.String(), "f:3": Origin{"f", 3}.String(),
		"5": Range[uint16]{5, 5}.String(), "5-6": Range[uint32]{5, 6}.String(), "0.0.0.0/0": Inet.Any().String(), "::/0": Inet6.Any().String(),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestSmallThings(t *testing.T) {
	t.Parallel()
	if Inet.Bits() != 32 || Inet6.Bits() != 128 || FamilyOf(addr("::ffff:192.0.2.1")) != Inet6 {
		t.Error("families")
	}
	if (Address{Prefix: prefix("::1/128")}).Family() != Inet6 || (Address{Prefix: prefix("10.0.0.1/8")}).Family() != Inet {
		t.Error("the family of an address")
	}
	l := Learn{DHCP4: true}
	if !l.Learns(Inet) || l.Learns(Inet6) || !l.Any() || !(Learn{RA: true}).Learns(Inet6) || !(Learn{DHCP6: true}).Learns(Inet6) || (Learn{}).Any() {
		t.Error("what is learned")
	}
	for pattern, glob := range map[string]bool{"eth0": false, "eth*": true, "eth?": true, "eth[0]": true, `eth\0`: true, "": false} {
		if dev, literal := (Match{Name: pattern}).Device(); IsGlob(pattern) != glob || literal != (!glob && pattern != "") || dev != pattern {
			t.Errorf("%q", pattern)
		}
	}
	for typ, device := range map[RouteType]bool{Unicast: true, Multicast: true, RouteBlackhole: false, Throw: false} {
		if typ.HasDevice() != device {
			t.Errorf("%s", typ)
		}
	}
}

func TestDropFamily(t *testing.T) {
	t.Parallel()
	s := State{
		Addresses: []Address{{Prefix: prefix("10.0.0.1/8")}, {Prefix: prefix("::1/128")}},
		Routes:    []Route{{Family: Inet}, {Family: Inet6}},
		Rules:     []Rule{{Family: Inet}, {Family: Inet6}},
	}
	if !s.DropFamily(Inet6) || len(s.Addresses) != 1 || len(s.Routes) != 1 || len(s.Rules) != 1 || s.Rules[0].Family != Inet {
		t.Errorf("%+v", s)
	}
	if s.DropFamily(Inet6) || !s.DropFamily(Inet) || len(s.Routes) != 0 {
		t.Errorf("%+v", s)
	}
	six := Verdict{Family: Inet6}
	for _, s := range []State{
		{Probes: []Probe{{Verdict: six}}}, {Failover: Failover{Ways: []MainWay{{Verdict: six}}}},
		{Links: []Link{{Learn: Learn{Rules: []LearnedRule{{Rule: Rule{Family: Inet6}}}}}}},
		{Addresses: []Address{{Prefix: prefix("::1/128")}}, Routes: []Route{{Family: Inet6}}},
		{Addresses: []Address{{Prefix: prefix("::1/128")}}, Rules: []Rule{{Family: Inet6}}},
		{Addresses: []Address{{Prefix: prefix("::1/128")}}, Probes: []Probe{{Verdict: six}}},
		{Addresses: []Address{{Prefix: prefix("::1/128")}}, Failover: Failover{Ways: []MainWay{{Verdict: six}}}},
	} {
		if s.DropFamily(Inet) || !s.DropFamily(Inet6) || s.DropFamily(Inet6) {
			t.Errorf("%+v", s)
		}
	}
}

// TestLeaveToNetworkd looks at routes by several links of which networkd has some.
func TestLeaveToNetworkd(t *testing.T) {
	t.Parallel()
	shared := func(f Family, metric uint32, links ...string) Route {
		r := Route{Family: f, Table: TableMain, Dst: f.Any(), Type: Unicast, Metric: metric, Link: links[0]}
		for _, l := range links {
			r.Nexthops = append(r.Nexthops, Nexthop{Link: l, Via: f.Any().Addr().Next(), Weight: 2})
		}
		return r
	}
	for _, c := range []struct {
		name, networkd string
		routes         []Route
		want           string
	}{
		{"IPv4: all of it is in the file of the first", "a", []Route{shared(Inet, 1, "a", "b")}, ""},
		{"IPv4: one way is left", "a", []Route{shared(Inet, 2, "b", "a")}, "route add default via 0.0.0.1 dev <b> proto 118 metric 2\n"},
		{"IPv4: two ways are left", "a", []Route{shared(Inet, 2, "b", "a", "c")}, "route add default proto 118 metric 2 nexthop via 0.0.0.1 dev <b> weight 2 nexthop via 0.0.0.1 dev <c> weight 2\n"},
		{"IPv6: the first is networkd's", "a", []Route{shared(Inet6, 1, "a", "b")}, "-6 route add default via ::1 dev <b> proto 118 metric 2\n"},
		{"IPv6: the second is networkd's", "a", []Route{shared(Inet6, 1, "b", "a")}, "-6 route add default via ::1 dev <b> proto 118 metric 2\n"},
		{"IPv6: behind the others", "a", []Route{shared(Inet6, 1, "a", "b"), shared(Inet6, 2, "c")}, "-6 route add default via ::1 dev <c> proto 118 metric 2\n-6 route add default via ::1 dev <b> proto 118 metric 3\n"},
		{"IPv6: behind one that is whole", "a", []Route{shared(Inet6, 1, "c"), shared(Inet6, 2, "a", "b")}, "-6 route add default via ::1 dev <c> proto 118 metric 1\n-6 route add default via ::1 dev <b> proto 118 metric 3\n"},
		{"IPv6: all are networkd's", "ab", []Route{shared(Inet6, 1, "a", "b")}, ""},
		{"IPv6: none is networkd's", "c", []Route{shared(Inet6, 1, "a", "b")}, "-6 route add default proto 118 metric 1 nexthop via ::1 dev <a> weight 2 nexthop via ::1 dev <b> weight 2\n"},
	} {
		s := State{Links: []Link{{Name: "a"}, {Name: "b"}, {Name: "c"}}, Routes: c.routes}
		for range 2 { // the second time changes nothing
			s.LeaveToNetworkd(func(link string) bool { return strings.Contains(c.networkd, link) })
			s.Links = nil
			if got := s.Text(); got != c.want {
				t.Errorf("%s: got\n%swant\n%s", c.name, got, c.want)
			}
			for _, r := range s.Routes {
				if r.Link != r.Nexthops[0].Link {
					t.Errorf("%s: %+v is for link %s", c.name, r, r.Link)
				}
			}
			s.Links = []Link{{Name: "b"}}
		}
	}
}

// several has a link for each letter, each with an address, a route, a rule, and two rules
// for what it learns; and one rule of no link.
func several() State {
	s := State{Rules: []Rule{{Family: Inet6, Priority: 9, Action: Nop}}}
	for i, l := range strings.Split("abcdefgh", "") {
		r := Rule{Family: Inet6, Priority: uint32(10 + i), Action: Nop, Link: l}
		s.Links = append(s.Links, Link{Name: l, Learn: Learn{Rules: []LearnedRule{{Rule: r}, {Rule: r, To: true}}}})
		s.Addresses = append(s.Addresses, Address{Link: l, Prefix: prefix("::1/128")})
		s.Routes = append(s.Routes, Route{Family: Inet6, Dst: Inet6.Any(), Type: Unicast, Metric: uint32(i), Link: l, Nexthops: []Nexthop{{Link: l}, {Link: "h"}}})
		s.Rules = append(s.Rules, r)
	}
	return s
}

// TestOneLinkOfNetworkds checks that everything of the other links stays, and nothing
// of no link, in whatever order the links are visited.
func TestOneLinkOfNetworkds(t *testing.T) {
	t.Parallel()
	for range 20 {
		s := several()
		s.LeaveToNetworkd(func(link string) bool { return link == "d" })
		for _, l := range s.Links {
			if is := l.Name == "d"; l.PolicyOnly != is || l.Networkd != is {
				t.Errorf("%+v", l)
			}
		}
		of := ""
		for _, r := range s.Rules {
			of += r.Link
		}
		if len(s.Links) != 8 || of != "abcefgh" || len(s.Rules) != len(of) || len(s.Addresses) != 7 {
			t.Errorf("rules of %s, %d links, addresses %v", of, len(s.Links), s.Addresses)
		}
	}
	s := several()
	if s.LeaveToNetworkd(func(string) bool { return false }); !reflect.DeepEqual(s, several()) {
		t.Errorf("without networkd: %+v", s)
	}
}

// TestCloneSharesNothing checks that no change to a clone changes the State.
func TestCloneSharesNothing(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*State){
		"LeaveToNetworkd": func(s *State) { s.LeaveToNetworkd(func(link string) bool { return link == "a" || link == "h" }) },
		"DropFamily":      func(s *State) { s.DropFamily(Inet6) },
	} {
		s := several()
		clone := s.Clone()
		if !reflect.DeepEqual(clone, s) {
			t.Errorf("%s: the clone is %+v", name, clone)
		}
		if change(&clone); !reflect.DeepEqual(s, several()) {
			t.Errorf("%s of a clone changed it to %+v", name, s)
		}
	}
}
