package kerneltest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Links are the links that the kernels of a contract have: up, with a carrier, and
// with an MTU of 1500. There is no other but lo and ends of pairs.
var Links = []string{"card0", "card1", "card2"}

// Run runs the contract of an apply.Kernel. newKernel makes one that holds nothing but
// Links, for each part.
func Run(t *testing.T, newKernel func(t *testing.T) apply.Kernel) {
	for _, part := range []struct {
		name string
		run  func(*contract)
	}{
		{"Links", (*contract).links},
		{"Addresses", (*contract).addresses},
		{"PrimaryAddress", (*contract).primaryAddress},
		{"RoutesByTable", (*contract).routeTable},
		{"RoutesAtRandom", (*contract).routesAtRandom},
		{"RouteErrors", (*contract).routeErrors},
		{"RouteReplace", (*contract).routeReplace},
		{"RouteDelete", (*contract).routeDelete},
		{"RoutesGoWithTheirSource", (*contract).routeSource},
		{"RulesByTable", (*contract).ruleTable},
		{"RulesAtRandom", (*contract).rulesAtRandom},
		{"RuleErrors", (*contract).ruleErrors},
		{"RuleOrder", (*contract).ruleOrder},
		{"Owner", (*contract).owner},
		{"ManyAtOnce", (*contract).manyAtOnce},
		{"InversesUndo", (*contract).inverses},
	} {
		t.Run(part.name, func(t *testing.T) {
			part.run(&contract{t, newKernel(t)})
		})
	}
}

type contract struct {
	*testing.T
	kernel apply.Kernel
}

func (c *contract) observe() apply.Snapshot {
	c.Helper()
	s, err := c.kernel.Observe(apply.Scope{})
	if err != nil {
		c.Fatal(err)
	}
	return s
}

// do carries operations out, all of which have to succeed.
func (c *contract) do(ops ...apply.Op) {
	c.Helper()
	answers := c.kernel.Execute(ops)
	if len(answers) != len(ops) {
		c.Fatalf("%d operations, %d answers", len(ops), len(answers))
	}
	for _, err := range answers {
		if err != nil {
			c.Fatal(err)
		}
	}
}

// refused wants one operation to be refused with an errno, and the error to be an
// OpError that names the operation and says msg, unless that is "".
func (c *contract) refused(op apply.Op, errno syscall.Errno, msg string) {
	c.Helper()
	answers := c.kernel.Execute([]apply.Op{op})
	if len(answers) != 1 || answers[0] == nil {
		c.Errorf("ip %s: %v, want %v", op, answers, errno)
		return
	}
	var e *apply.OpError
	if !errors.As(answers[0], &e) {
		c.Errorf("ip %s: %T, not an OpError: %v", op, answers[0], answers[0])
		return
	}
	if !errors.Is(e, errno) {
		c.Errorf("ip %s: errno %v, want %v", op, e.Err, errno)
	}
	if e.Op.String() != op.String() {
		c.Errorf("the error of %q names %q", op, e.Op)
	}
	if msg != "" && e.Msg != msg {
		c.Errorf("ip %s: the kernel says %q, want %q", op, e.Msg, msg)
	}
	want := fmt.Sprintf("ip %s: %v", op, errno)
	if e.Msg != "" {
		want = "ip " + op.String() + ": " + e.Msg
	}
	if e.Error() != want {
		c.Errorf("%q, want %q", e.Error(), want)
	}
}

func addressAdd(link, prefix string) apply.Op {
	return apply.Op{Verb: apply.AddressAdd, Address: &fib.Address{Link: link, Prefix: netip.MustParsePrefix(prefix)}}
}

func routeAdd(r fib.Route) apply.Op { return apply.Op{Verb: apply.RouteAdd, Route: &r} }
func ruleAdd(r fib.Rule) apply.Op   { return apply.Op{Verb: apply.RuleAdd, Rule: &r} }

// inverse returns the operation that undoes op.
func inverse(op apply.Op) apply.Op {
	switch op.Verb {
	case apply.AddressAdd:
		op.Verb = apply.AddressDel
	case apply.RouteAdd:
		op.Verb = apply.RouteDel
	case apply.RouteReplace:
		op.Route, op.Before = op.Before, op.Route
	case apply.RuleAdd:
		op.Verb = apply.RuleDel
	}
	return op
}

// setUp gives the links the addresses that random routes need.
func (c *contract) setUp() {
	c.Helper()
	for i, link := range Links {
		for _, p := range Setup(i) {
			c.do(addressAdd(link, p.String()))
		}
	}
	c.settle()
}

func (c *contract) settle() {
	c.Helper()
	if err := settle(c.kernel); err != nil {
		c.Fatal(err)
	}
}

func (c *contract) links() {
	s := c.observe()
	for _, name := range append([]string{"lo"}, Links...) {
		i := slices.IndexFunc(s.Links, func(l apply.Link) bool { return l.Name == name })
		if i < 0 {
			c.Fatalf("no link %s in %v", name, s.Links)
		}
		l := s.Links[i]
		if !l.Up || !l.Carrier || l.Index == 0 || l.Loopback != (name == "lo") {
			c.Errorf("%+v", l)
		}
		if name != "lo" && l.MTU != 1500 {
			c.Errorf("%+v, want an MTU of 1500", l)
		}
	}
	c.do(apply.Op{Verb: apply.LinkMTU, Link: "card0", MTU: 1400, BeforeMTU: 1500}, apply.Op{Verb: apply.LinkUp, Link: "card0"})
	for _, l := range c.observe().Links {
		if want := map[string]uint32{"card0": 1400, "card1": 1500}[l.Name]; want != 0 && l.MTU != want {
			c.Errorf("%s: MTU %d, want %d", l.Name, l.MTU, want)
		}
	}
	c.refused(apply.Op{Verb: apply.LinkUp, Link: "absent0"}, syscall.ENODEV, "")
	c.refused(apply.Op{Verb: apply.LinkMTU, Link: "absent0", MTU: 1400}, syscall.ENODEV, "")
}

func (c *contract) addresses() {
	var want []apply.Address
	for i, p := range []string{
		"192.0.2.10/24", "192.0.2.11/24", "192.0.2.10/25", "198.51.100.1/32", "203.0.113.2/31", "10.0.0.1/8", "100.64.0.1/30",
		"2001:db8::10/64", "2001:db8::11/64", "2001:db8:1::1/128", "2001:db8:2::/127", "fd00::1/8", "fe80::10/64",
	} {
		op := addressAdd(Links[i%2], p)
		c.do(op)
		want = append(want, apply.Address{Address: *op.Address, Ours: true})
		c.refused(op, syscall.EEXIST, "")
	}
	// The same address on another link is another one.
	op := addressAdd("card2", "192.0.2.10/24")
	c.do(op)
	want = append(want, apply.Address{Address: *op.Address, Ours: true})

	compare := func() {
		c.Helper()
		c.settle()
		var have []apply.Address
		for _, a := range c.observe().Addresses {
			if slices.Contains(Links, a.Link) {
				have = append(have, a)
			}
		}
		byText := func(a, b apply.Address) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) }
		slices.SortFunc(have, byText)
		slices.SortFunc(want, byText)
		if !slices.Equal(have, want) {
			c.Errorf("addresses\n%v, want\n%v", have, want)
		}
	}
	compare()
	// From the last one: on Linux the first of a subnet takes the others along.
	for i := 12; i >= 0; i-- {
		j := slices.IndexFunc(want, func(a apply.Address) bool { return a.Prefix == netip.MustParsePrefix("192.0.2.11/24") })
		if j < 0 {
			j = len(want) - 1
		}
		gone := want[j].Address
		del := apply.Op{Verb: apply.AddressDel, Address: &gone}
		c.do(del)
		c.refused(del, syscall.EADDRNOTAVAIL, "")
		want = slices.Delete(want, j, j+1)
		compare()
	}
	c.refused(addressAdd("absent0", "192.0.2.1/24"), syscall.ENODEV, "")
	c.refused(inverse(addressAdd("absent0", "192.0.2.1/24")), syscall.ENODEV, "")
}

// primaryAddress takes the first address of a subnet away, without and with promotion.
func (c *contract) primaryAddress() {
	first, second, other := addressAdd("card0", "192.0.2.10/24"), addressAdd("card0", "192.0.2.11/24"), addressAdd("card0", "192.0.2.12/25")
	for _, promote := range []bool{false, true} {
		c.do(first, second, other, apply.Op{Verb: apply.LinkPromote, Link: "card0", Promote: promote}, inverse(first))
		var have []netip.Prefix
		for _, a := range c.observe().Addresses {
			if a.Link == "card0" && a.Prefix.Addr().Is4() {
				have = append(have, a.Prefix)
			}
		}
		want := []netip.Prefix{other.Address.Prefix}
		if promote {
			want = []netip.Prefix{second.Address.Prefix, other.Address.Prefix}
		}
		slices.SortFunc(have, netip.Prefix.Compare)
		slices.SortFunc(want, netip.Prefix.Compare)
		if !slices.Equal(have, want) {
			c.Errorf("promotion %t: %v, want %v", promote, have, want)
		}
		c.do(inverse(other))
	}
}

// roundTrip adds a route, wants to read it back exactly, and deletes it.
func (c *contract) roundTrip(r fib.Route) {
	c.Helper()
	c.do(routeAdd(r))
	have := c.observe().Routes
	r.Link, r.Origin = "", fib.Origin{}
	switch {
	case len(have) != 1:
		c.Errorf("%s: %d routes of ours afterwards, want 1: %+v", routeAdd(r), len(have), have)
	case !have[0].Ours():
		c.Errorf("%s: protocol %d", routeAdd(r), have[0].Protocol)
	case fmt.Sprintf("%+v", have[0].Route) != fmt.Sprintf("%+v", r):
		c.Errorf("a route came back as\n%+v, want\n%+v", have[0].Route, r)
	}
	c.do(inverse(routeAdd(r)))
	if have := c.observe().Routes; len(have) != 0 {
		c.Fatalf("not deleted: %s", routeAdd(have[0].Route))
	}
}

// routeTable takes every field of a route to its edges, in both families.
func (c *contract) routeTable() {
	c.setUp()
	for _, f := range fib.Families {
		src, gateway, other := host(subnet(f, 0), 10), host(subnet(f, 0), 1), host(subnet(f, 1), 1)
		base := fib.Route{Family: f, Table: 10000, Dst: f.Any(), Type: fib.Unicast, Nexthops: []fib.Nexthop{{Link: "card0", Via: gateway}}}
		if f == fib.Inet6 {
			base.Metric = fib.MetricDefaultInet6
		}
		try := func(change func(*fib.Route)) {
			c.Helper()
			r := base
			r.Nexthops = slices.Clone(r.Nexthops)
			change(&r)
			c.roundTrip(r)
		}
		try(func(*fib.Route) {})
		for _, table := range []uint32{1, 252, fib.TableDefault, fib.TableMain, 256, 10000, 1 << 31, 1<<32 - 1} {
			try(func(r *fib.Route) { r.Table = table })
		}
		for bits := range f.Bits() {
			try(func(r *fib.Route) {
				r.Dst = netip.PrefixFrom(host(subnet(f, 99), 255), bits+1).Masked()
			})
		}
		for _, metric := range []uint32{1, 100, 256, 1024, 1 << 31, 1<<32 - 1} {
			try(func(r *fib.Route) { r.Metric = metric })
		}
		for _, kind := range []fib.RouteType{fib.RouteBlackhole, fib.RouteUnreachable, fib.RouteProhibit, fib.Throw} {
			try(func(r *fib.Route) { r.Type, r.Nexthops = kind, nil })
			try(func(r *fib.Route) {
				r.Type, r.Nexthops, r.Metric, r.Dst = kind, nil, 1<<32-1, netip.PrefixFrom(other, f.Bits())
			})
		}
		for _, kind := range []fib.RouteType{fib.Local, fib.Broadcast, fib.Anycast, fib.Multicast} {
			if f == fib.Inet6 && kind == fib.Broadcast {
				continue // IPv6 has none
			}
			try(func(r *fib.Route) {
				r.Type, r.Nexthops = kind, []fib.Nexthop{{Link: "card1"}}
				r.Dst = netip.PrefixFrom(host(subnet(f, 99), 255), f.Bits())
				if f == fib.Inet {
					r.Scope = r.DefaultScope()
				}
			})
		}
		link := func(r *fib.Route) {
			r.Nexthops[0].Via = netip.Addr{}
			if f == fib.Inet {
				r.Scope = fib.ScopeLink
			}
		}
		try(link)
		try(func(r *fib.Route) { link(r); r.Src = src })
		try(func(r *fib.Route) { r.Src = src })
		far := host(subnet(f, 200), 1)
		try(func(r *fib.Route) { r.Nexthops[0] = fib.Nexthop{Link: "card2", Via: far, OnLink: true} })
		if f == fib.Inet {
			for _, scope := range []fib.Scope{fib.ScopeUniverse, fib.ScopeSite, 100, fib.ScopeLink, fib.ScopeHost} {
				try(func(r *fib.Route) { link(r); r.Scope = scope })
			}
		}
		for _, metrics := range []fib.Route{{MTU: 1280}, {MTU: 65520}, {AdvMSS: 1}, {AdvMSS: 65495}, {InitCwnd: 1}, {InitCwnd: 1 << 20}, {InitRwnd: 1}, {InitRwnd: 1 << 20}, {MTU: 1400, AdvMSS: 1360, InitCwnd: 20, InitRwnd: 30}} {
			try(func(r *fib.Route) {
				r.MTU, r.AdvMSS, r.InitCwnd, r.InitRwnd = metrics.MTU, metrics.AdvMSS, metrics.InitCwnd, metrics.InitRwnd
			})
		}
		for _, weight := range []uint16{1, 2, 128, 255, 256} {
			try(func(r *fib.Route) {
				r.Nexthops = []fib.Nexthop{{Link: "card0", Via: gateway, Weight: weight}, {Link: "card1", Via: other, Weight: 1}}
			})
		}
		try(func(r *fib.Route) {
			r.Nexthops = []fib.Nexthop{{Link: "card2", Via: far, Weight: 7, OnLink: true}, {Link: "card1", Via: other, Weight: 1}, {Link: "card0", Via: gateway, Weight: 3}}
		})
		try(func(r *fib.Route) {
			r.Src, r.MTU, r.Metric = src, 1400, 77
			r.Nexthops = []fib.Nexthop{{Link: "card0", Via: gateway, Weight: 2}, {Link: "card0", Via: gateway.Next(), Weight: 1}}
		})
	}
}

func seed() uint64 { return rand.Uint64() }

func (c *contract) routesAtRandom() {
	c.setUp()
	s := seed()
	c.Logf("seed %#x", s)
	r := NewRandom(s, Links...)
	for range 300 {
		if route := r.Route(); !twice(route) {
			c.roundTrip(route)
		}
		if c.Failed() {
			return
		}
	}
}

// twice says whether a route names one way twice, which IPv6 refuses.
func twice(route fib.Route) bool {
	for i, n := range route.Nexthops {
		for _, o := range route.Nexthops[:i] {
			if n.Link == o.Link && n.Via == o.Via {
				return true
			}
		}
	}
	return false
}

func (c *contract) routeErrors() {
	c.setUp()
	for _, f := range fib.Families {
		gateway := host(subnet(f, 0), 1)
		r := fib.Route{Family: f, Table: 10000, Dst: f.Any(), Type: fib.Unicast, Metric: 100, Nexthops: []fib.Nexthop{{Link: "card0", Via: gateway}}}
		c.refused(inverse(routeAdd(r)), syscall.ESRCH, "")
		c.do(routeAdd(r))
		c.refused(routeAdd(r), syscall.EEXIST, "")
		other := r
		other.Nexthops = []fib.Nexthop{{Link: "card0", Via: gateway.Next()}}
		c.refused(routeAdd(other), syscall.EEXIST, "")
		c.refused(inverse(routeAdd(other)), syscall.ESRCH, "")
		other.Table++
		c.do(routeAdd(other), inverse(routeAdd(other)))

		far := r
		far.Table, far.Nexthops = 10001, []fib.Nexthop{{Link: "card0", Via: host(subnet(f, 77), 1)}}
		if f == fib.Inet {
			c.refused(routeAdd(far), syscall.ENETUNREACH, "Nexthop has invalid gateway")
		} else {
			c.refused(routeAdd(far), syscall.EHOSTUNREACH, "")
		}
		foreign := r
		foreign.Table, foreign.Src = 10001, host(subnet(f, 77), 1)
		msg := map[fib.Family]string{fib.Inet: "Invalid prefsrc address", fib.Inet6: "Invalid source address"}[f]
		c.refused(routeAdd(foreign), syscall.EINVAL, msg)
		absent := r
		absent.Table, absent.Nexthops = 10001, []fib.Nexthop{{Link: "absent0", Via: gateway, OnLink: true}}
		c.refused(routeAdd(absent), syscall.ENODEV, "")
	}
	if have := c.observe().Routes; len(have) != 2 {
		c.Errorf("%d routes, want the 2 that were there: %+v", len(have), have)
	}
}

func (c *contract) routeReplace() {
	c.setUp()
	for _, f := range fib.Families {
		a := fib.Route{Family: f, Table: 10000, Dst: f.Any(), Type: fib.Unicast, Metric: 100, Nexthops: []fib.Nexthop{{Link: "card0", Via: host(subnet(f, 0), 1)}}}
		b := a
		b.Nexthops, b.MTU = []fib.Nexthop{{Link: "card1", Via: host(subnet(f, 1), 1)}}, 1400
		replace := apply.Op{Verb: apply.RouteReplace, Route: &b, Before: &a}
		only := func(want fib.Route) {
			c.Helper()
			have := slices.DeleteFunc(c.observe().Routes, func(r apply.Route) bool { return r.Family != f })
			if len(have) != 1 || have[0].Compare(want) != 0 {
				c.Errorf("%+v, want only %+v", have, want)
			}
		}
		c.do(routeAdd(a), replace)
		only(b)
		c.do(inverse(replace))
		only(a)
		c.do(inverse(routeAdd(a)), replace) // where there is none it is added
		only(b)
		// From each kind to each other.
		hop := func(i int, weight uint16) fib.Nexthop {
			return fib.Nexthop{Link: Links[i], Via: host(subnet(f, i), 1), Weight: weight}
		}
		kinds := []fib.Route{b, b, b, b, b}
		kinds[0].Nexthops = []fib.Nexthop{hop(0, 0)}
		kinds[1].Nexthops = []fib.Nexthop{hop(0, 2), hop(1, 1)}
		kinds[2].Nexthops = []fib.Nexthop{hop(0, 2), hop(1, 3), hop(2, 1)}
		kinds[3].Type, kinds[3].Nexthops, kinds[3].MTU, kinds[3].Scope = fib.RouteUnreachable, nil, 0, 0
		kinds[4].Nexthops, kinds[4].Scope = []fib.Nexthop{{Link: "card2"}}, 0
		if f == fib.Inet {
			kinds[4].Scope = fib.ScopeLink
		}
		for i := range kinds {
			for j := range kinds {
				if i != j {
					c.do(apply.Op{Verb: apply.RouteReplace, Route: &kinds[i], Before: &b}, apply.Op{Verb: apply.RouteReplace, Route: &kinds[j], Before: &kinds[i]})
					only(kinds[j])
				}
			}
		}
	}
}

// routeDelete wants a delete to hit nothing but the route that it names.
func (c *contract) routeDelete() {
	c.setUp()
	for _, f := range fib.Families {
		a := fib.Route{Family: f, Table: 10000, Dst: f.Any(), Type: fib.Unicast, Metric: 100, Nexthops: []fib.Nexthop{{Link: "card0", Via: host(subnet(f, 0), 1)}}}
		c.do(routeAdd(a))
		for name, change := range map[string]func(*fib.Route){
			"table":   func(r *fib.Route) { r.Table = 10001 },
			"metric":  func(r *fib.Route) { r.Metric = 101 },
			"gateway": func(r *fib.Route) { r.Nexthops = []fib.Nexthop{{Link: "card0", Via: host(subnet(f, 0), 2)}} },
			"link":    func(r *fib.Route) { r.Nexthops = []fib.Nexthop{{Link: "card1", Via: host(subnet(f, 0), 1)}} },
			"prefix":  func(r *fib.Route) { r.Dst = subnet(f, 9) },
		} {
			b := a
			change(&b)
			op := inverse(routeAdd(b))
			if answers := c.kernel.Execute([]apply.Op{op}); !errors.Is(answers[0], syscall.ESRCH) {
				c.Errorf("another %s: ip %s: %v, want %v", name, op, answers[0], syscall.ESRCH)
			}
		}
		c.do(inverse(routeAdd(a)))
	}
}

func (c *contract) routeSource() {
	c.setUp()
	for _, f := range fib.Families {
		src := host(subnet(f, 0), 77)
		address := apply.Op{Verb: apply.AddressAdd, Address: &fib.Address{Link: "card0", Prefix: netip.PrefixFrom(src, f.Bits())}}
		r := fib.Route{Family: f, Table: fib.TableMain, Dst: f.Any(), Type: fib.Unicast, Metric: 100, Src: src, Nexthops: []fib.Nexthop{{Link: "card0", Via: host(subnet(f, 0), 1)}}}
		c.do(address)
		c.settle()
		c.do(routeAdd(r), inverse(address))
		have := slices.DeleteFunc(c.observe().Routes, func(h apply.Route) bool { return h.Family != f })
		switch {
		case f == fib.Inet && len(have) != 0:
			c.Errorf("%+v is there without its source", have)
		case f == fib.Inet6 && (len(have) != 1 || have[0].Src.IsValid()):
			c.Errorf("%+v, want the route without a source", have)
		}
	}
}

func (c *contract) ownRules() []apply.Rule {
	c.Helper()
	return slices.DeleteFunc(c.observe().Rules, func(r apply.Rule) bool { return !r.Ours() })
}

// ruleRoundTrip adds a rule, wants to read it back exactly, and deletes it.
func (c *contract) ruleRoundTrip(r fib.Rule) {
	c.Helper()
	c.do(ruleAdd(r))
	have := c.ownRules()
	r.Link, r.Origin = "", fib.Origin{}
	switch {
	case len(have) != 1:
		c.Errorf("%s: %d rules of ours afterwards, want 1: %+v", ruleAdd(r), len(have), have)
	case have[0].Rule != r:
		c.Errorf("a rule came back as\n%+v, want\n%+v", have[0].Rule, r)
	}
	c.do(inverse(ruleAdd(r)))
	if have := c.ownRules(); len(have) != 0 {
		c.Fatalf("not deleted: %s", ruleAdd(have[0].Rule))
	}
}

// ruleTable takes every field of a rule to its edges, in both families.
func (c *contract) ruleTable() {
	for _, f := range fib.Families {
		base := fib.Rule{Family: f, Priority: 10000, Action: fib.Lookup, Table: 10000}
		try := func(change func(*fib.Rule)) {
			c.Helper()
			r := base
			change(&r)
			c.ruleRoundTrip(r)
		}
		try(func(*fib.Rule) {})
		for _, priority := range []uint32{1, 32765, 32768, 1 << 31, 1<<32 - 2} {
			try(func(r *fib.Rule) { r.Priority = priority })
		}
		for _, table := range []uint32{1, 252, fib.TableDefault, fib.TableMain, 256, 1 << 31, 1<<32 - 1} {
			try(func(r *fib.Rule) { r.Table = table })
			try(func(r *fib.Rule) { r.Table, r.SuppressPrefixLength = table, fib.Some[uint32](0) })
		}
		for bits := range f.Bits() {
			try(func(r *fib.Rule) { r.From = netip.PrefixFrom(host(subnet(f, 99), 255), bits+1).Masked() })
			try(func(r *fib.Rule) { r.To = netip.PrefixFrom(host(subnet(f, 99), 255), bits+1).Masked() })
		}
		try(func(r *fib.Rule) { r.Not, r.From = true, subnet(f, 1) })
		try(func(r *fib.Rule) { r.Not = true })
		for _, m := range [][2]uint32{{0, 1}, {1, 1}, {0x10, 0xff}, {1 << 31, 1 << 31}, {0, 1<<32 - 1}, {1, 1<<32 - 1}, {1<<32 - 1, 1<<32 - 1}} {
			try(func(r *fib.Rule) { r.Mark, r.Mask = m[0], m[1] })
		}
		for _, name := range []string{"lo", "card0", "absent0", "fifteen-letters"} {
			try(func(r *fib.Rule) { r.IIF = name })
			try(func(r *fib.Rule) { r.OIF = name })
		}
		for tos := 4; tos < 256; tos += 4 {
			if f == fib.Inet6 || tos < 32 {
				try(func(r *fib.Rule) { r.TOS = uint8(tos) })
			}
		}
		for _, p := range []uint8{1, 2, 4, 6, 17, 33, 41, 47, 50, 51, 58, 103, 108, 132, 136} {
			try(func(r *fib.Rule) { r.IPProto = p })
		}
		for _, p := range []fib.Range[uint16]{{Lo: 1, Hi: 1}, {Lo: 1, Hi: 65534}, {Lo: 443, Hi: 443}, {Lo: 1000, Hi: 2000}, {Lo: 65534, Hi: 65534}} {
			try(func(r *fib.Rule) { r.SPort = p })
			try(func(r *fib.Rule) { r.DPort = p })
		}
		for _, u := range []fib.Range[uint32]{{}, {Hi: 1<<32 - 2}, {Lo: 1000, Hi: 1999}, {Lo: 1<<32 - 2, Hi: 1<<32 - 2}} {
			try(func(r *fib.Rule) { r.UIDRange = fib.Some(u) })
		}
		for _, action := range []fib.Action{fib.Nop, fib.Blackhole, fib.Unreachable, fib.Prohibit} {
			try(func(r *fib.Rule) { r.Action, r.Table = action, 0 })
		}
		for _, to := range []uint32{10001, 32766, 1<<32 - 1} {
			try(func(r *fib.Rule) { r.Action, r.Table, r.Goto = fib.Goto, 0, to })
		}
		for n := range uint32(f.Bits() + 1) {
			try(func(r *fib.Rule) { r.SuppressPrefixLength = fib.Some(n) })
		}
		for _, n := range []uint32{0, 7, 1<<31 - 1} {
			try(func(r *fib.Rule) { r.SuppressIfGroup = fib.Some(n) })
		}
		all := base
		all.From, all.To, all.Not, all.IIF, all.OIF, all.Mark, all.Mask, all.TOS = subnet(f, 1), subnet(f, 2), true, "card0", "card1", 1, 3, 16
		all.IPProto, all.SPort, all.DPort = 6, fib.Range[uint16]{Lo: 1000, Hi: 2000}, fib.Range[uint16]{Lo: 443, Hi: 443}
		all.UIDRange, all.SuppressPrefixLength, all.SuppressIfGroup = fib.Some(fib.Range[uint32]{Lo: 1, Hi: 2}), fib.Some[uint32](0), fib.Some[uint32](7)
		c.ruleRoundTrip(all)

		// Of a master that the kernel may lack: no such thing, or exactly it.
		master := base
		master.L3MDev, master.Table = true, 0
		if c.kernel.Execute([]apply.Op{ruleAdd(master)})[0] == nil {
			c.do(inverse(ruleAdd(master)))
			c.ruleRoundTrip(master)
		} else {
			c.Log("NOT TESTED: l3mdev, which this kernel does not have")
		}
	}
}

func (c *contract) rulesAtRandom() {
	s := seed()
	c.Logf("seed %#x", s)
	r := NewRandom(s, Links...)
	for range 500 {
		c.ruleRoundTrip(r.Rule())
		if c.Failed() {
			return
		}
	}
}

func (c *contract) ruleErrors() {
	for _, f := range fib.Families {
		r := fib.Rule{Family: f, Priority: 10000, Action: fib.Lookup, Table: 10000, From: subnet(f, 1)}
		c.refused(inverse(ruleAdd(r)), syscall.ENOENT, "")
		c.do(ruleAdd(r))
		for name, change := range map[string]func(*fib.Rule){
			"priority": func(r *fib.Rule) { r.Priority++ },
			"table":    func(r *fib.Rule) { r.Table++ },
			"from":     func(r *fib.Rule) { r.From = subnet(f, 2) },
			"length":   func(r *fib.Rule) { r.From = netip.PrefixFrom(r.From.Addr(), r.From.Bits()-1).Masked() },
			"to":       func(r *fib.Rule) { r.To = subnet(f, 2) },
			"mark":     func(r *fib.Rule) { r.Mark, r.Mask = 1, 1 },
			"action":   func(r *fib.Rule) { r.Action, r.Table = fib.Blackhole, 0 },
			"iif":      func(r *fib.Rule) { r.IIF = "lo" },
			"ipproto":  func(r *fib.Rule) { r.IPProto = 6 },
			"dport":    func(r *fib.Rule) { r.DPort = fib.Range[uint16]{Lo: 1, Hi: 1} },
			"suppress": func(r *fib.Rule) { r.SuppressPrefixLength = fib.Some[uint32](0) },
		} {
			other := r
			change(&other)
			op := inverse(ruleAdd(other))
			if answers := c.kernel.Execute([]apply.Op{op}); !errors.Is(answers[0], syscall.ENOENT) {
				c.Errorf("another %s: ip %s: %v, want %v", name, op, answers[0], syscall.ENOENT)
			}
		}
		if n := len(c.ownRules()); n != 1 {
			c.Errorf("%d rules of ours, want 1", n)
		}
		c.do(inverse(ruleAdd(r)))
	}
}

// ruleOrder wants rules by priority, and those of one priority as they came.
func (c *contract) ruleOrder() {
	for _, f := range fib.Families {
		var want []uint32
		for _, u := range []struct{ priority, table uint32 }{{300, 1}, {100, 2}, {200, 3}, {100, 4}, {300, 5}, {100, 6}} {
			c.do(ruleAdd(fib.Rule{Family: f, Priority: u.priority, Action: fib.Lookup, Table: u.table}))
		}
		for _, r := range c.ownRules() {
			if r.Family == f {
				want = append(want, r.Table)
			}
		}
		if !slices.Equal(want, []uint32{2, 4, 6, 3, 1, 5}) {
			c.Errorf("%s: the tables are asked in the order %v", f, want)
		}
	}
}

// owner wants what bears another protocol to be read back so, and to go only where the
// operation names its owner.
func (c *contract) owner() {
	c.setUp()
	const static = 4 // RTPROT_STATIC
	for _, f := range fib.Families {
		route := routeAdd(fib.Route{Family: f, Table: 10000, Dst: f.Any(), Type: fib.Unicast, Metric: 100, Nexthops: []fib.Nexthop{{Link: "card0", Via: host(subnet(f, 0), 1)}}})
		rule := ruleAdd(fib.Rule{Family: f, Priority: 100, Action: fib.Lookup, Table: 10000})
		for i, op := range []apply.Op{route, rule} {
			op.Owner = fib.Some[uint8](static)
			c.do(op)
			gone := []error{syscall.ESRCH, syscall.ENOENT}[i]
			ours := inverse(op)
			ours.Owner = fib.Opt[uint8]{}
			if answers := c.kernel.Execute([]apply.Op{ours}); !errors.Is(answers[0], gone) {
				c.Errorf("ip %s: %v, want %v", ours, answers[0], gone)
			}
			c.do(inverse(op))
		}
		for _, r := range c.observe().Rules {
			if r.Protocol == static {
				c.Errorf("not deleted: %+v", r)
			}
		}
	}
}

// manyAtOnce sends more than any buffer holds, and wants each error at its operation.
func (c *contract) manyAtOnce() {
	c.setUp()
	var ops []apply.Op
	bad := map[int]bool{}
	for i := range 5000 {
		r := fib.Route{Family: fib.Inet, Table: uint32(10000 + i), Dst: fib.Inet.Any(), Type: fib.Unicast, Nexthops: []fib.Nexthop{{Link: "card0", Via: host(subnet(fib.Inet, 0), 1)}}}
		if i >= 4900 && i%7 == 0 {
			r.Nexthops = []fib.Nexthop{{Link: "card0", Via: host(subnet(fib.Inet, 77), 1)}}
			bad[i] = true
		}
		ops = append(ops, routeAdd(r))
	}
	carried := 0
	for i, err := range c.kernel.Execute(ops) {
		var e *apply.OpError
		switch {
		case err == nil:
			carried++
			if bad[i] {
				c.Errorf("operation %d was not refused", i)
			}
		case errors.Is(err, apply.ErrNotSent):
			if i < 4900 {
				c.Fatalf("operation %d: %v", i, err)
			}
		case !bad[i] || !errors.As(err, &e) || e.Op.Route.Table != ops[i].Route.Table || !errors.Is(err, syscall.ENETUNREACH):
			c.Fatalf("operation %d: %v", i, err)
		}
	}
	if have := len(c.observe().Routes); have != carried {
		c.Errorf("%d operations were carried out, and there are %d routes", carried, have)
	}
	if answers := c.kernel.Execute(nil); len(answers) != 0 {
		c.Errorf("%v for no operation", answers)
	}
}

// inverses wants every operation's inverse to leave the kernel as it was.
func (c *contract) inverses() {
	c.setUp()
	s := seed()
	c.Logf("seed %#x", s)
	r := NewRandom(s, Links...)
	before := c.observe()
	var ops []apply.Op
	keys := map[fib.RouteKey]bool{}
	// Routes first: a gateway is looked up through the rules that are there.
	for len(ops) < 60 {
		if e := r.Route(); !keys[e.Key()] && !twice(e) {
			keys[e.Key()] = true
			ops = append(ops, routeAdd(e))
		}
	}
	for len(ops) < 120 {
		ops = append(ops, ruleAdd(r.Rule()))
	}
	c.do(ops...)
	slices.Reverse(ops)
	for i := range ops {
		ops[i] = inverse(ops[i])
	}
	c.do(ops...)
	after := c.observe()
	if d := Diff(text(before), text(after)); d != "" {
		c.Error(d)
	}
}

// text is a snapshot with a line for each thing.
func text(s apply.Snapshot) string {
	var b strings.Builder
	for _, a := range s.Addresses {
		fmt.Fprintf(&b, "%+v\n", a)
	}
	for _, r := range s.Routes {
		fmt.Fprintf(&b, "%+v\n", r)
	}
	for _, r := range s.Rules {
		fmt.Fprintf(&b, "%+v\n", r)
	}
	return b.String()
}
