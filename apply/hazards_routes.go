package apply

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// strangers finds routes of others in the uplinks' own tables that take packets off the spec's
// way.
func strangers(want Resolved, have Snapshot, own map[uint32]*ownTable) (list []Hazard) {
	type target struct {
		table uint32
		dst   netip.Prefix
	}
	wanted := map[target]*fib.Route{} // the route that the kernel uses
	for _, routes := range [][]fib.Route{want.Routes, want.Later.Routes} {
		for i := range routes {
			r, at := &routes[i], target{routes[i].Table, routes[i].Dst}
			if best := wanted[at]; best == nil || r.Metric < best.Metric {
				wanted[at] = r
			}
		}
	}
	connected := map[subnet]bool{}
	for _, a := range have.Addresses {
		connected[subnet{dst: a.Prefix.Masked(), link: a.Link}] = true
	}
	type owner struct {
		table    uint32
		protocol uint8
	}
	said := map[owner]int{}
	passed := map[fib.RouteKey]bool{} // wanted routes seen so far: the kernel lists first what it takes first
	for i := range have.Routes {
		h := &have.Routes[i]
		t, w := own[h.Table], wanted[target{h.Table, h.Dst}]
		if w != nil && h.Key() == w.Key() && (h.Ours() || h.MayBeNetworkds() && h.Same(w)) {
			passed[h.Key()] = true
			continue
		}
		behind := w != nil && (h.Metric > w.Metric || passed[h.Key()])
		if t == nil || behind || h.Ours() || h.Protocol == ProtocolKernel || h.Expires < 0 {
			continue
		}
		does := t.harm(h, w, connected)
		at := owner{h.Table, h.Protocol}
		if does != "" {
			said[at]++
		}
		const few = 3 // a routing daemon may have filled the table
		switch n := said[at]; {
		case does == "" || n > few+1:
		case n > few:
			list = append(list, Hazard{Text: fmt.Sprintf("table %s has more such routes of %s: `ip%s route show table %d`", t.name, ProtocolName(h.Protocol), dash6(h.Family), h.Table)})
		default:
			list = append(list, Hazard{Text: fmt.Sprintf("table %s has a route of %s that is not of the uplinks: %s: packets of %s to there %s; remove it, or write it into the spec",
				t.name, ProtocolName(h.Protocol), routeText(&h.Route), t.name, does)})
		}
	}
	return list
}

// ownTable is the table of an uplink.
type ownTable struct {
	name   string
	links  map[string]bool // that its routes lead by
	learns bool
}

// ownTables returns the tables of the uplinks, by number.
func ownTables(want Resolved) map[uint32]*ownTable {
	own, byName := make(map[uint32]*ownTable, len(want.Tables)), make(map[string]*ownTable, len(want.Tables))
	for _, t := range want.Tables {
		if t.ID < fib.TableDefault || t.ID > fib.TableLocal {
			o := &ownTable{name: t.Name, links: map[string]bool{}}
			own[t.ID], byName[t.Name] = o, o
		}
	}
	for _, l := range want.Links {
		for _, u := range l.Uplinks {
			if t := byName[u.Name]; t != nil {
				t.links[l.Device.Name] = true
			}
		}
		if t := own[l.Learn.Table]; t != nil {
			t.links[l.Device.Name], t.learns = true, t.learns || l.Learn.Any()
		}
	}
	for _, routes := range [][]fib.Route{want.Routes, want.Later.Routes} {
		for i := range routes {
			if t := own[routes[i].Table]; t != nil {
				for _, n := range routes[i].Nexthops {
					t.links[n.Link] = true
				}
			}
		}
	}
	return own
}

// harm says what h, a route of others in the table, does with packets, or "" where that is what
// the spec says. h comes before w, the wanted route to its destination, if there is one.
func (t *ownTable) harm(h *Route, w *fib.Route, connected map[subnet]bool) string {
	byOwn := !slices.ContainsFunc(h.Nexthops, func(n fib.Nexthop) bool { return !t.links[n.Link] })
	sameWay := func(a, b fib.Nexthop) bool { return a.Link == b.Link && a.Via == b.Via }
	switch {
	case h.Type == fib.Throw:
		return "go on to the next rule"
	case !h.Type.HasDevice() && h.IsDefault() && w == nil:
		return "" // it fails closed, as in a VRF's table
	case !h.Type.HasDevice():
		return "go nowhere"
	case h.Type != fib.Unicast, byOwn && (w == nil || slices.EqualFunc(h.Nexthops, w.Nexthops, sameWay)):
		return ""
	case byOwn && t.learns && (h.Protocol == ProtocolDHCP || h.Protocol == ProtocolRA):
		return "" // learned, and put there by networkd
	case w == nil && len(h.Nexthops) == 1 && !h.Nexthops[0].Via.IsValid():
		if connected[subnet{dst: h.Dst, link: h.Nexthops[0].Link}] {
			return "" // the hosts are there
		}
	}
	return "go that way"
}

// mainDefaults finds default routes of others in table main that come before the spec's and lead
// elsewhere. With default-route, what a link has learned counts as the spec's.
func mainDefaults(want Resolved, have Snapshot) (list []Hazard) {
	uplink, learns := map[string]string{}, map[string]fib.Learn{}
	for _, l := range want.Links {
		uplink[l.Device.Name] = l.Name
		if l.Learn.DefaultRoute {
			learns[l.Device.Name] = l.Learn
		}
	}
	isDefault := func(r *fib.Route) bool { return r.Table == fib.TableMain && r.IsDefault() }
	wanted, best := map[fib.RouteKey]*fib.Route{}, map[fib.Family]*fib.Route{}
	better := func(r *fib.Route) {
		if b := best[r.Family]; b == nil || r.Metric < b.Metric {
			best[r.Family] = r
		}
	}
	for i := range want.Routes {
		if r := &want.Routes[i]; isDefault(r) {
			wanted[r.Key()] = r
			better(r)
		}
	}
	var others []*Route
	passed := map[*Route]*fib.Route{} // for each of others, the spec's route that was listed last before it
	last := map[fib.Family]*fib.Route{}
	for i := range have.Routes {
		h := &have.Routes[i]
		if !isDefault(&h.Route) || h.Expires < 0 {
			continue
		}
		w := wanted[h.Key()]
		switch {
		case h.Ours() || w != nil && h.MayBeNetworkds() && h.Same(w):
			last[h.Family] = w
		case len(h.Nexthops) == 1 && mayBeLearned(*h) && learns[h.Nexthops[0].Link].Learns(h.Family):
			better(&h.Route)
			last[h.Family] = &h.Route
		default:
			others = append(others, h)
			passed[h] = last[h.Family]
		}
	}
	for _, h := range others {
		b := best[h.Family]
		if b == nil || h.Metric > b.Metric || h.Metric == b.Metric && passed[h] == b {
			continue
		}
		delete(best, h.Family) // only the first is used
		if slices.Equal(linksOf(&h.Route), linksOf(b)) {
			continue
		}
		way, what := "is refused", routeText(&h.Route)
		if h.Type.HasDevice() {
			way = "leaves by " + strings.Join(linksOf(&h.Route), " and ")
		}
		if h.Metric == 0 {
			what += " metric 0"
		}
		names := linksOf(b)
		for i := range names {
			names[i] = uplink[names[i]]
		}
		list = append(list, Hazard{Text: fmt.Sprintf("what asks for no source of its own %s: %s of %s comes before the metric %d of %s; remove it, or give it a higher metric",
			way, what, ProtocolName(h.Protocol), b.Metric, strings.Join(names, " and "))})
	}
	return list
}

// aheadInMain finds routes of others in main that main-routes-first puts before the uplinks'
// defaults, and that lead traffic to the outside away from an uplink, as a VPN's two routes for
// one half of everything each do. The spec asks for that, but few who set it think of it.
func aheadInMain(want Resolved, have Snapshot, tables map[uint32]*ownTable, checks []Check) (list []Hazard) {
	first := map[fib.Family]bool{}
	for i := range want.Rules {
		if r := &want.Rules[i]; r.Action == fib.Lookup && r.Table == fib.TableMain && r.SuppressPrefixLength.Set {
			first[r.Family] = true
		}
	}
	if len(first) == 0 {
		return nil
	}
	wanted, own := map[fib.RouteKey]*fib.Route{}, map[string]*ownTable{}
	for i := range want.Routes {
		wanted[want.Routes[i].Key()] = &want.Routes[i]
	}
	for _, t := range tables {
		own[t.name] = t
	}
	ahead := func(to netip.Addr, device string) (best *Route) {
		for i := range have.Routes {
			h := &have.Routes[i]
			if h.Table == fib.TableMain && h.Dst.Contains(to) && !h.IsDefault() && (best == nil || h.Dst.Bits() > best.Dst.Bits()) && slices.Contains(linksOf(&h.Route), device) {
				best = h
			}
		}
		if best == nil {
			return nil
		}
		if w := wanted[best.Key()]; best.Ours() || best.MayBeNetworkds() && w != nil && best.Same(w) {
			return nil
		}
		return best
	}
	type way struct {
		to     netip.Addr
		device string
	}
	type note struct {
		check Check // the first
		last  string
		more  int // uplinks
	}
	found, notes := map[way]*Route{}, map[*Route]*note{}
	var order []*Route
	for _, c := range checks {
		t, f := own[c.Uplink], fib.FamilyOf(c.Packet.To)
		if !first[f] || t == nil || !c.OK() || c.Have.Table != fib.TableMain || c.Have.Type != fib.Unicast || t.links[c.Have.Device] || !slices.Contains(outside[f], c.Packet.To) {
			continue
		}
		at := way{c.Packet.To, c.Have.Device}
		r, known := found[at]
		if !known {
			r = ahead(at.to, at.device)
			found[at] = r
		}
		switch n := notes[r]; {
		case r == nil:
		case n == nil:
			notes[r] = &note{c, c.Uplink, 0}
			order = append(order, r)
		case n.last != c.Uplink:
			n.last, n.more = c.Uplink, n.more+1
		}
	}
	for _, r := range order {
		n := notes[r]
		who := n.check.Uplink
		if n.more > 0 {
			who += fmt.Sprintf(" (and %d more)", n.more)
		}
		list = append(list, Hazard{Text: fmt.Sprintf("what %s sends to %s leaves by %s, not by %s: %s of %s in main comes first (main-routes-first)",
			who, n.check.Packet.To, n.check.Have.Device, strings.Join(slices.Sorted(maps.Keys(own[n.check.Uplink].links)), " or "), routeText(&r.Route), ProtocolName(r.Protocol))})
	}
	return list
}

// linksOf returns the links by which a route leads, sorted.
func linksOf(r *fib.Route) (links []string) {
	for _, n := range r.Nexthops {
		links = append(links, n.Link)
	}
	slices.Sort(links)
	return slices.Compact(links)
}

// routeText returns a route in the words of ip-route(8), without its table and owner.
func routeText(r *fib.Route) string {
	text := Op{Verb: RouteAdd, Route: r, Owner: fib.Some[uint8](ProtocolUnspec)}.Batch()
	_, text, _ = strings.Cut(text, "route add ")
	return strings.Replace(text, fmt.Sprintf(" table %d", r.Table), "", 1)
}

// dash6 is the option of ip(8) for IPv6.
func dash6(f fib.Family) string {
	if f == fib.Inet6 {
		return " -6"
	}
	return ""
}
