package lookup

import (
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// tableLookup4 finds the route and its way for IPv4 (fib_table_lookup in
// net/ipv4/fib_trie.c, fib_select_path in net/ipv4/fib_semantics.c): the first that has a
// usable way, from the longest prefix and the lowest metric on. If no route has one, it
// returns the first route with ok false.
func (k *Resolver) tableLookup4(t table, f *flow) (c candidate, ok bool) {
	routes := k.matching(t, f.dst)
	for i, r := range routes {
		if !r.Type.HasDevice() {
			return candidate{route: r}, true
		}
		var usable []fib.Nexthop
		for j := range r.Nexthops {
			// fib_lookup_good_nhc: a socket that is bound to a link can use no other way.
			if n := &r.Nexthops[j]; k.alive(r, n) && (f.oif == "" || n.Link == f.oif) {
				usable = append(usable, *n)
			}
		}
		if len(usable) == 0 {
			if c.route == nil {
				c.route = r
			}
			continue
		}
		c = candidate{route: r, hop: usable[0], equal: usable[1:]}
		if r.IsDefault() && r.Type == fib.Unicast && len(r.Nexthops) == 1 {
			// Defaults that were appended: the kernel takes any whose gateway
			// answers (fib_select_default).
			for _, o := range routes[i+1:] {
				if o.IsDefault() && o.Metric == r.Metric && o.Type == fib.Unicast && len(o.Nexthops) == 1 && k.alive(o, &o.Nexthops[0]) {
					c.equal = append(c.equal, o.Nexthops[0])
				}
			}
		}
		return c, true
	}
	return c, false
}

// tableLookup6 finds the route and its way for IPv6 (fib6_table_lookup in
// net/ipv6/route.c): what rt6_select takes, from the longest prefix on.
func (k *Resolver) tableLookup6(t table, f *flow) (c candidate, ok bool) {
	routes := k.matching(t, f.dst)
	// A host that does not forward skips gateways that do not answer, unless nothing else
	// is left (RT6_LOOKUP_F_REACHABLE).
	for _, reachable := range []bool{true, false} {
		if reachable && k.host.Forwarding6 {
			continue
		}
		for rest := routes; len(rest) > 0; {
			n := slices.IndexFunc(rest, func(r *fib.Route) bool { return r.Dst != rest[0].Dst })
			if n < 0 {
				n = len(rest)
			}
			if c, ok := k.select6(rest[:n], f, reachable); ok {
				return c, true
			}
			rest = rest[n:]
		}
	}
	if len(routes) > 0 {
		c.route = routes[0]
	}
	return c, false
}

// select6 chooses among the routes of one prefix (find_rr_leaf): those of the lowest
// metric or, if none of them can be used, all others alike, whatever their metric. The
// first with the best score wins; a way by the wanted device scores higher. To the kernel
// each way of a route is a route of its own.
func (k *Resolver) select6(routes []*fib.Route, f *flow, reachable bool) (c candidate, ok bool) {
	metric := routes[0].Metric
	for _, lowest := range []bool{true, false} {
		best := -1
		for _, r := range routes {
			if (r.Metric == metric) != lowest {
				continue
			}
			hops := r.Nexthops
			if !r.Type.HasDevice() {
				hops = []fib.Nexthop{{Link: Loopback}} // the device that the kernel gives them
			}
			for _, hop := range hops {
				if s := k.score6(r, &hop, f, reachable); s > best {
					best, c, ok = s, candidate{route: r, hop: hop}, true
				}
			}
		}
		if ok {
			break
		}
	}
	if !ok || len(c.route.Nexthops) < 2 {
		return c, ok
	}
	// The kernel takes any way of a route with several (fib6_select_path).
	for _, hop := range c.route.Nexthops {
		if hop != c.hop && k.score6(c.route, &hop, f, reachable) >= 0 {
			c.equal = append(c.equal, hop)
		}
	}
	return c, true
}

// score6 says how well a way fits, below 0 for not at all (find_match, rt6_score_route).
func (k *Resolver) score6(r *fib.Route, n *fib.Nexthop, f *flow, reachable bool) int {
	switch {
	case !k.alive(r, n):
		return -1
	case reachable && n.Via.IsValid() && k.host.Failed[Neighbour{n.Link, n.Via}]:
		return -1
	case f.dev == "" || n.Link == f.dev:
		return 2
	case f.strict:
		return -1
	}
	return 0
}
