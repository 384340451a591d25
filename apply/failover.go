package apply

import (
	"cmp"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// failOver adds what leads around dead uplinks: where the one that table main takes, the
// preferred one of those whose default route stands there, is dead, or one of those that
// share its default route, there is another default route in a table of its own, and two
// rules before main. Main itself is left as it is: most of what stands there is somebody
// else's, who would put it back, and this way all is done in one way. Main's other routes
// still come first.
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
	there := r.defaults(have)
	for _, f := range fib.Families {
		ways := slices.DeleteFunc(slices.Clone(s.Ways), func(w fib.MainWay) bool { return w.Family != f || device[w.Link] == "" })
		for i := range ways {
			ways[i].Metric = there.metric(ways[i], device[ways[i].Link])
		}
		slices.SortStableFunc(ways, func(a, b fib.MainWay) int {
			return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Metric, b.Metric))
		})
		inMain := slices.DeleteFunc(slices.Clone(ways), func(w fib.MainWay) bool { return !there.main[place{fib.TableMain, f, device[w.Link]}] })
		if !slices.ContainsFunc(preferred(inMain), func(w fib.MainWay) bool { return dead[w.Verdict] }) {
			continue
		}
		route := fib.Route{Family: f, Table: s.Table, Dst: f.Any(), Type: fib.Unicast, Metric: f.Metric(0), Origin: s.Origin}
		alive := slices.DeleteFunc(ways, func(w fib.MainWay) bool {
			return dead[w.Verdict] || there.own[place{w.Table, f, device[w.Link]}] == nil
		})
		for _, w := range preferred(alive) {
			hop := there.own[place{w.Table, f, device[w.Link]}].Nexthops[0]
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

// place is where a default route is.
type place struct {
	table  uint32
	family fib.Family
	device string
}

// defaults are the default routes that are wanted or there.
type defaults struct {
	// own has the route by a device in a table: a wanted one, or where others put it there,
	// the one that is there. Without any there is no way out by this uplink now.
	own map[place]*fib.Route
	// main has those of table main, whoever put them there, and others their lowest metric.
	main   map[place]bool
	others map[place]uint32
}

func (r *Resolved) defaults(have Snapshot) defaults {
	d := defaults{map[place]*fib.Route{}, map[place]bool{}, map[place]uint32{}}
	see := func(e *fib.Route, stays bool) {
		if !e.IsDefault() || len(e.Nexthops) == 0 {
			return
		}
		at := place{e.Table, e.Family, e.Nexthops[0].Link}
		if best := d.own[at]; stays && e.Type == fib.Unicast && (best == nil || e.Metric < best.Metric) {
			d.own[at] = e
		}
		for _, n := range e.Nexthops {
			if e.Table == fib.TableMain {
				d.main[place{e.Table, e.Family, n.Link}] = true
			}
		}
	}
	for i := range r.Routes {
		see(&r.Routes[i], true)
	}
	for i := range have.Routes {
		h := &have.Routes[i]
		if h.Expires < 0 {
			continue
		}
		// What is ours and not wanted is about to go, or waits for its link.
		see(&h.Route, !h.Ours())
		if h.Table == fib.TableMain && h.IsDefault() && !h.Ours() && len(h.Nexthops) == 1 {
			at := place{h.Table, h.Family, h.Nexthops[0].Link}
			if metric, found := d.others[at]; !found || h.Metric < metric {
				d.others[at] = h.Metric
			}
		}
	}
	return d
}

// metric is the spec's; where it has none for a gateway that is learned, it is that of
// whoever put it into main.
func (d defaults) metric(w fib.MainWay, device string) uint32 {
	if w.Metric != w.Family.Metric(0) {
		return w.Metric
	}
	if metric, found := d.others[place{fib.TableMain, w.Family, device}]; found {
		return metric
	}
	return w.Metric
}
