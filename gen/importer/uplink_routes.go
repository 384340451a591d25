package importer

import (
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// lastMetric is the metric of the routes of last resort.
const lastMetric = 4294967295

// assignRoutes expresses each route by the key that implies it, and the others in full.
func (g *guess) assignRoutes() {
	var main []*Route
	for i := range g.Routes {
		r := &g.Routes[i]
		if !g.carried(r) {
			continue
		}
		u := g.byTable[r.Table]
		switch {
		case r.Table == fib.TableMain && len(r.Nexthops) > 0:
			main = append(main, r)
		case u != nil && g.isLast(r) && (u.last == 0 || u.last == r.Type):
			u.last, u.lasts = r.Type, append(u.lasts, r)
		case u != nil && u.connected(r):
			u.subnets = append(u.subnets, r)
		case u != nil && u.isGateway(r):
			u.gateways = append(u.gateways, r)
		default:
			g.extraRoute(r)
		}
	}
	byLink := map[string][]*Route{}
	for _, r := range main {
		byLink[r.Nexthops[0].Link] = append(byLink[r.Nexthops[0].Link], r)
	}
	for _, u := range g.uplinks {
		if u.table == 0 {
			u.mainGateways(byLink[u.link])
		}
		u.onlink = len(u.gateways) > 0 && !slices.ContainsFunc(u.gateways, func(r *Route) bool { return !r.Nexthops[0].OnLink })
		if !u.onlink {
			// If only some are onlink, those become routes in full.
			u.gateways = slices.DeleteFunc(u.gateways, func(r *Route) bool {
				if r.Nexthops[0].OnLink {
					u.routes = append(u.routes, r)
					return true
				}
				return false
			})
		}
	}
	said := g.share(main)
	defaults := map[fib.Nexthop][]*Route{}
	for _, r := range main {
		if r.IsDefault() && len(r.Nexthops) == 1 {
			defaults[r.Nexthops[0]] = append(defaults[r.Nexthops[0]], r)
		}
	}
	for _, u := range g.uplinks {
		u.mainDefaults(defaults, said)
	}
	for _, r := range main {
		if !said[r] {
			g.extraRoute(r)
		}
	}
}

// isLast says whether a route is one that fallthrough makes.
func (g *guess) isLast(r *Route) bool {
	return r.IsDefault() && r.Metric == lastMetric && !g.mainFirst &&
		(r.Type == fib.RouteUnreachable || r.Type == fib.RouteBlackhole || r.Type == fib.RouteProhibit)
}

// connected says whether the route follows from the uplink's addresses.
func (u *uplink) connected(r *Route) bool {
	for _, a := range u.addresses {
		if a.Prefix.IsSingleIP() || r.Dst != a.Prefix.Masked() {
			continue
		}
		want := fib.Route{
			Family: r.Family, Table: r.Table, Dst: r.Dst, Type: fib.Unicast, Src: a.Prefix.Addr(),
			Nexthops: []fib.Nexthop{{Link: u.link}},
		}
		fillIn(&want)
		return want.Compare(&r.Route) == 0 // src must be the first address of the subnet
	}
	return false
}

// fillIn sets the defaults of a route.
func fillIn(r *fib.Route) {
	if r.Family == fib.Inet {
		r.Scope = r.DefaultScope()
	}
	r.Metric = r.Family.Metric(r.Metric)
}

// plainDefault returns the default route through a nexthop, with nothing else set.
func plainDefault(f fib.Family, table, metric uint32, n fib.Nexthop) *fib.Route {
	r := &fib.Route{Family: f, Table: table, Dst: f.Any(), Type: fib.Unicast, Metric: metric, Nexthops: []fib.Nexthop{n}}
	fillIn(r)
	return r
}

// isGateway says whether the route is one that `gateways` makes, and the first of its family.
func (u *uplink) isGateway(r *Route) bool {
	if len(r.Nexthops) != 1 || r.Nexthops[0].Link != u.link || !r.Nexthops[0].Via.IsValid() || u.learns(r.Family) ||
		slices.ContainsFunc(u.gateways, func(o *Route) bool { return o.Family == r.Family }) {
		return false
	}
	return plainDefault(r.Family, r.Table, 0, r.Nexthops[0]).Compare(&r.Route) == 0
}

func (u *uplink) learns(f fib.Family) bool { return u.learn.Learns(f) }

// mainGateways finds the gateways of an uplink without a table in main.
func (u *uplink) mainGateways(main []*Route) {
	for _, f := range fib.Families {
		var best *Route
		for _, r := range main {
			if r.Family == f && len(r.Nexthops) == 1 && r.Nexthops[0].Link == u.link && r.Nexthops[0].Via.IsValid() && !u.learns(f) &&
				plainDefault(f, fib.TableMain, r.Metric, r.Nexthops[0]).Compare(&r.Route) == 0 && (best == nil || r.Metric < best.Metric) {
				best = r
			}
		}
		if best != nil {
			u.gateways = append(u.gateways, best)
		}
	}
}

// best returns the default route of a family in the uplink's own table.
func (u *uplink) best(f fib.Family) *fib.Route {
	var best *fib.Route
	for _, r := range slices.Concat(u.gateways, u.routes) {
		own := r.Table == u.table || u.table == 0 && slices.Contains(u.gateways, r)
		if r.Family == f && own && r.IsDefault() && r.Type == fib.Unicast && len(r.Nexthops) == 1 && (best == nil || r.Metric < best.Metric) {
			best = &r.Route
		}
	}
	return best
}

// mainDefaults sets default-route and metric if main holds exactly what these make.
func (u *uplink) mainDefaults(main map[fib.Nexthop][]*Route, said map[*Route]bool) {
	found := map[fib.Family]map[uint32]*Route{}
	var families []fib.Family
	for _, f := range fib.Families {
		b := u.best(f)
		if b == nil {
			continue
		}
		families, found[f] = append(families, f), map[uint32]*Route{}
		for _, r := range main[b.Nexthops[0]] {
			if said[r] {
				continue
			}
			want := *b
			want.Table, want.Metric = fib.TableMain, r.Metric
			if r.Family == f && r.IsDefault() && want.Compare(&r.Route) == 0 {
				metric := r.Metric
				if f == fib.Inet6 && metric == fib.MetricDefaultInet6 && found[fib.Inet][metric] == nil {
					metric = 0
				}
				found[f][metric] = r
			}
		}
	}
	if len(families) == 0 {
		return
	}
	first, any := uint32(0), false
	for m := range found[families[0]] {
		both := len(families) == 1 || found[families[1]][m] != nil
		if both && (!any || m < first) {
			first, any = m, true
		}
	}
	if !any {
		return
	}
	u.metric = first
	for _, f := range families {
		r := found[f][first]
		u.defaults, said[r] = append(u.defaults, r), true
	}
}

// extraRoute expresses a route in full, in an uplink of its link.
func (g *guess) extraRoute(r *Route) {
	u := g.byTable[r.Table]
	if len(r.Nexthops) > 0 {
		if on := g.on(r.Nexthops[0].Link); u == nil || u.link != r.Nexthops[0].Link {
			if len(on) == 0 {
				return // the comparison finds it
			}
			u = on[0]
			for _, o := range on {
				if o.reaches(r.Nexthops[0].Via) {
					u = o
					break
				}
			}
		}
	}
	if u == nil {
		u = g.principal()
	}
	u.routes = append(u.routes, r)
}

// reaches says whether a gateway lies in a subnet of the uplink.
func (u *uplink) reaches(gw netip.Addr) bool {
	return slices.ContainsFunc(u.addresses, func(a *Address) bool { return a.Prefix.Contains(gw) })
}

// principal returns the uplink that gets what belongs to no uplink.
func (g *guess) principal() *uplink {
	for _, u := range g.uplinks {
		if len(u.defaults) > 0 {
			return u
		}
	}
	return g.uplinks[0]
}

// share finds the routes of [multipath] in main: for IPv4 one for each way, with metrics
// from 1 up, each with another way first; for IPv6 one with metric 1.
func (g *guess) share(main []*Route) map[*Route]bool {
	none := map[*Route]bool{}
	var shared []*Route
	ways := map[fib.Family]map[string]uint16{}
	for _, f := range fib.Families {
		var first *Route
		for _, r := range main {
			if r.Family == f && r.Metric == 1 && r.IsDefault() && (len(r.Nexthops) > 1 || len(r.Nexthops) == 1 && len(shared) > 0) {
				first = r
			}
		}
		if first == nil {
			continue
		}
		ways[f] = map[string]uint16{}
		for _, n := range first.Nexthops {
			ways[f][n.Link] = max(n.Weight, 1)
			if !slices.ContainsFunc(g.on(n.Link), func(u *uplink) bool {
				b := u.best(f)
				return b != nil && b.Nexthops[0].Via == n.Via
			}) {
				return none
			}
		}
		for _, r := range main {
			if r.Family == f && r.IsDefault() && len(r.Nexthops) == len(first.Nexthops) && r.Metric <= uint32(len(first.Nexthops)) {
				shared = append(shared, r)
			}
		}
	}
	if ways[fib.Inet] == nil && ways[fib.Inet6] == nil || ways[fib.Inet] != nil && len(shared) < len(ways[fib.Inet]) {
		return none
	}
	g.shared = shared
	said := map[*Route]bool{}
	for _, r := range shared {
		said[r] = true
	}
	return said
}
