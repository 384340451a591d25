package apply

import (
	"cmp"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// failOver adds what leads around dead uplinks: where the one that table main takes is
// dead, or one of those that share its default route, there is another default route in
// a table of its own, and two rules before main. Main itself is left as it is: most of
// what stands there is somebody else's, who would put it back, and this way all is done
// in one way. Main's other routes still come first.
//
// The uplink's own table and rules stay: replies from its addresses and its probes need
// them. Where nothing is alive there is nothing to add.
func (r *Resolved) failOver(s fib.Failover, have Snapshot, dead map[fib.Verdict]bool) {
	if s.Table == 0 || len(dead) == 0 {
		return
	}
	device := map[string]string{}
	for _, l := range r.Links {
		device[l.Name] = l.Device.Name
	}
	for _, f := range fib.Families {
		ways := slices.DeleteFunc(slices.Clone(s.Ways), func(w fib.MainWay) bool { return w.Family != f || device[w.Link] == "" })
		for i := range ways {
			ways[i].Metric = metricInMain(ways[i], device[ways[i].Link], have)
		}
		slices.SortStableFunc(ways, func(a, b fib.MainWay) int {
			return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Metric, b.Metric))
		})
		if !slices.ContainsFunc(preferred(ways), func(w fib.MainWay) bool { return dead[w.Verdict] }) {
			continue
		}
		route := fib.Route{Family: f, Table: s.Table, Dst: f.Any(), Type: fib.Unicast, Origin: s.Origin}
		if f == fib.Inet6 {
			route.Metric = fib.MetricDefaultInet6
		}
		alive := slices.DeleteFunc(ways, func(w fib.MainWay) bool {
			_, ok := r.standing(w, device[w.Link], have)
			return dead[w.Verdict] || !ok
		})
		for _, w := range preferred(alive) {
			hop, _ := r.standing(w, device[w.Link], have)
			hop.Weight = w.Weight
			route.Nexthops = append(route.Nexthops, hop)
		}
		if len(route.Nexthops) == 0 {
			continue
		}
		if len(route.Nexthops) == 1 {
			route.Nexthops[0].Weight = 0
		}
		if f == fib.Inet {
			route.Scope = route.DefaultScope()
		}
		route.Link = route.Nexthops[0].Link
		r.Routes = append(r.Routes, route)
		r.Rules = append(r.Rules,
			fib.Rule{Family: f, Priority: fib.PriorityFailover, Action: fib.Lookup, Table: fib.TableMain, SuppressPrefixLength: fib.Some[uint32](0), Origin: s.Origin},
			fib.Rule{Family: f, Priority: fib.PriorityFailover + 1, Action: fib.Lookup, Table: s.Table, Origin: s.Origin})
	}
}

// rank puts the members of main's multipath route first, as their metrics do.
func rank(w fib.MainWay) int {
	if w.Weight > 0 {
		return 0
	}
	return 1
}

// preferred returns those of the sorted ways that main takes: all of a multipath route,
// or one.
func preferred(ways []fib.MainWay) []fib.MainWay {
	n := 0
	for n < len(ways) && ways[n].Weight > 0 {
		n++
	}
	return ways[:max(n, min(1, len(ways)))]
}

// metricInMain is the spec's; where it has none for a gateway that is learned, it is that
// of whoever put it there.
func metricInMain(w fib.MainWay, device string, have Snapshot) uint32 {
	if w.Family == fib.Inet && w.Metric > 0 || w.Family == fib.Inet6 && w.Metric != fib.MetricDefaultInet6 {
		return w.Metric
	}
	metric, found := w.Metric, false
	for _, r := range have.Routes {
		if r.Table == fib.TableMain && r.Family == w.Family && r.IsDefault() && r.Expires >= 0 && !r.Ours() && len(r.Nexthops) == 1 && r.Nexthops[0].Link == device &&
			(!found || r.Metric < metric) {
			metric, found = r.Metric, true
		}
	}
	return metric
}

// standing returns the nexthop of the default route in the uplink's own table: a wanted
// one, or where others put it there, the one that is there. Without any there is no way
// out by this uplink now.
func (r *Resolved) standing(w fib.MainWay, device string, have Snapshot) (fib.Nexthop, bool) {
	var best *fib.Route
	see := func(e *fib.Route) {
		if e.Table == w.Table && e.Family == w.Family && e.IsDefault() && e.Type == fib.Unicast && len(e.Nexthops) > 0 && e.Nexthops[0].Link == device &&
			(best == nil || e.Metric < best.Metric) {
			best = e
		}
	}
	for i := range r.Routes {
		see(&r.Routes[i])
	}
	for i := range have.Routes {
		// What is ours and not wanted is about to go.
		if h := &have.Routes[i]; !h.Ours() && h.Expires >= 0 {
			see(&h.Route)
		}
	}
	if best == nil {
		return fib.Nexthop{}, false
	}
	hop := best.Nexthops[0]
	hop.Weight = 0
	return hop, true
}
