package kerneltest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

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
	all, err := c.kernel.Observe(apply.Scope{Foreign: true, Only: apply.Routes})
	if ours := slices.DeleteFunc(all.Routes, func(r apply.Route) bool { return !r.Ours() }); err != nil || fmt.Sprintf("%+v", ours) != fmt.Sprintf("%+v", have) {
		c.Errorf("among others' it came back as\n%+v, want\n%+v: %v", ours, have, err)
	}
	c.do(inverse(routeAdd(r)))
	if have := c.observe().Routes; len(have) != 0 {
		c.Fatalf("not deleted: %s", routeAdd(have[0].Route))
	}
}

// routeTable tries the limits of every field of a route, in both families.
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
			if len(have) != 1 || have[0].Compare(&want) != 0 {
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

// routeDelete checks that a delete hits nothing but the route that it names.
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
