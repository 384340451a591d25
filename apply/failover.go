package apply

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// failOver leads traffic around dead uplinks. Where table main uses a dead uplink, alone or as
// one of those that share its default route, failOver adds another default route in a table of
// its own, and two rules before main. Main's other routes still come first. Main itself stays as
// it is: most of what stands there is somebody else's, who would put it back, and so there is one
// way for all cases.
//
// Where main uses somebody else's default route, such as a VPN's, there is nothing to add: what
// leaves by it must not leave in the clear.
//
// The uplink's own table and rules stay: replies from its addresses and its probes need them.
// Where nothing is alive there is nothing to add.
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
			if metric, found := there.metric(place{ways[i].Table, f, device[ways[i].Link]}); found {
				ways[i].Metric = metric
			}
		}
		slices.SortStableFunc(ways, func(a, b fib.MainWay) int {
			return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Metric, b.Metric))
		})
		if !there.takeDead(ways, f, device, dead) {
			continue
		}
		route := fib.Route{Family: f, Table: s.Table, Dst: f.Any(), Type: fib.Unicast, Metric: f.Metric(0), Origin: s.Origin}
		alive := slices.DeleteFunc(ways, func(w fib.MainWay) bool {
			return dead[w.Verdict] || there.own[place{w.Table, f, device[w.Link]}] == nil
		})
		for _, w := range preferred(alive) {
			own := there.own[place{w.Table, f, device[w.Link]}]
			goBy(&route, own)
			hop := own.Nexthops[0]
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

// goBy gives r, the route around dead uplinks, the source and metrics of own, the uplink's route
// whose nexthop it takes. A route with several nexthops has one source and one set of metrics:
// what they agree on, and the smaller of the sizes, which fits through all.
func goBy(r, own *fib.Route) {
	if len(r.Nexthops) == 0 {
		r.Src, r.MTU, r.AdvMSS, r.InitCwnd, r.InitRwnd = own.Src, own.MTU, own.AdvMSS, own.InitCwnd, own.InitRwnd
		return
	}
	if r.Src != own.Src {
		r.Src = netip.Addr{}
	}
	if r.InitCwnd != own.InitCwnd {
		r.InitCwnd = 0
	}
	if r.InitRwnd != own.InitRwnd {
		r.InitRwnd = 0
	}
	least := func(a, b uint32) uint32 { return min(cmp.Or(a, b), cmp.Or(b, a)) } // 0 stands for the link's
	r.MTU, r.AdvMSS = least(r.MTU, own.MTU), least(r.AdvMSS, own.AdvMSS)
}

// rank puts the members of main's multipath route first, as their metric in main does.
func rank(w fib.MainWay) int {
	if w.Weight > 0 {
		return 0
	}
	return 1
}

// preferred returns those of the sorted ways that main uses: all of a multipath route, or one.
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
	// own has the default route by a device in a table: the wanted one or, where others put it
	// there, theirs. Without one there is no way out by this uplink now.
	own map[place]*fib.Route
	// main has the default routes of table main with the lowest metric of their family, whoever
	// put them there: main uses no other.
	main map[fib.Family][]*fib.Route
	// metrics has the lowest metric of main's default routes by a link, and by each gateway
	// there.
	metrics map[hop]uint32
}

// hop is a way out of table main; without a gateway, any by the link.
type hop struct {
	family fib.Family
	device string
	via    netip.Addr
}

func (r *Resolved) defaults(have Snapshot) defaults {
	d := defaults{map[place]*fib.Route{}, map[fib.Family][]*fib.Route{}, map[hop]uint32{}}
	inMain := func(e *fib.Route) {
		if !e.IsDefault() || e.Table != fib.TableMain {
			return
		}
		for _, n := range e.Nexthops {
			for _, h := range []hop{{e.Family, n.Link, n.Via}, {e.Family, n.Link, netip.Addr{}}} {
				if metric, found := d.metrics[h]; !found || e.Metric < metric {
					d.metrics[h] = e.Metric
				}
			}
		}
		best := d.main[e.Family]
		switch {
		case len(best) > 0 && e.Metric > best[0].Metric:
		case len(best) > 0 && e.Metric == best[0].Metric:
			d.main[e.Family] = append(best, e)
		default:
			d.main[e.Family] = []*fib.Route{e}
		}
	}
	own := func(e *fib.Route) {
		if !e.IsDefault() || e.Type != fib.Unicast || len(e.Nexthops) == 0 {
			return
		}
		at := place{e.Table, e.Family, e.Nexthops[0].Link}
		if best := d.own[at]; best == nil || e.Metric < best.Metric {
			d.own[at] = e
		}
	}
	for i := range r.Routes {
		inMain(&r.Routes[i])
		own(&r.Routes[i])
	}
	waits := map[fib.RouteKey]bool{}
	for _, e := range r.Later.Routes {
		waits[e.Key()] = true
	}
	for i := range have.Routes {
		h := &have.Routes[i]
		switch {
		case h.Expires < 0 || !h.IsDefault() || h.isForSome():
		case !h.Ours():
			inMain(&h.Route)
			own(&h.Route)
		// What is ours and not wanted is about to go, except what waits for its link: main still
		// uses that.
		case waits[h.Key()]:
			inMain(&h.Route)
		}
	}
	return d
}

// isForSome says whether a route is only for packets of one source or type of service.
func (r *Route) isForSome() bool {
	return slices.ContainsFunc(strings.Split(r.Unread, ", "), func(word string) bool { return word == "from" || word == "tos" })
}

// takeDead says whether table main uses a dead uplink. It is false where somebody else's default
// route has the same metric, because nobody knows which one the kernel takes.
func (d defaults) takeDead(ways []fib.MainWay, f fib.Family, device map[string]string, dead map[fib.Verdict]bool) bool {
	found := false
	for _, e := range d.main[f] {
		if len(e.Nexthops) == 0 {
			return false
		}
		for _, n := range e.Nexthops {
			// With several uplinks on one link, it is the one with this gateway.
			var by, via []fib.MainWay
			for _, w := range ways {
				if device[w.Link] != n.Link {
					continue
				}
				by = append(by, w)
				if own := d.own[place{w.Table, f, n.Link}]; own != nil && own.Nexthops[0].Via == n.Via {
					via = append(via, w)
				}
			}
			if len(via) > 0 {
				by = via
			}
			if len(by) == 0 {
				return false
			}
			found = found || slices.ContainsFunc(by, func(w fib.MainWay) bool { return dead[w.Verdict] })
		}
	}
	return found
}

// metric returns the metric that an uplink's default route has in main: that of the same gateway
// there, or else of any by the link. A DHCP client sets its own, whatever the spec says.
func (d defaults) metric(own place) (metric uint32, found bool) {
	link := hop{family: own.family, device: own.device}
	if e := d.own[own]; e != nil {
		exact := link
		exact.via = e.Nexthops[0].Via
		if metric, found = d.metrics[exact]; found {
			return metric, true
		}
	}
	metric, found = d.metrics[link]
	return metric, found
}
