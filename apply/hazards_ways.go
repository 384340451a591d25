package apply

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// strays finds addresses of uplinks whose packets do not leave by the uplink, because its `from`
// names other sources. Verify asks about what the rules select, and so misses these. An uplink
// without any such rule has `from = []`, on purpose.
func strays(s fib.State, want Resolved, have Snapshot, own map[uint32]*ownTable, leads map[place]bool, ask func(Packet) (Way, error)) (list []Hazard) {
	uplinks, tables := map[fib.Origin]string{}, map[string]uint32{}
	for _, l := range want.Links {
		for _, u := range l.Uplinks {
			uplinks[u.Origin] = u.Name
		}
	}
	for id, t := range own {
		tables[t.name] = id
	}
	single, selects := map[netip.Addr]bool{}, map[uint32]bool{}
	var wide []netip.Prefix
	for _, rules := range [][]fib.Rule{want.Rules, want.Later.Rules} {
		for i := range rules {
			r := &rules[i]
			if r.From.Bits() <= 0 || r.Not || r.Action == fib.Goto {
				continue // goto rules only arrange the others
			}
			if r.From.IsSingleIP() {
				single[r.From.Addr()] = true
			} else {
				wide = append(wide, r.From)
			}
			if r.Action == fib.Lookup {
				selects[r.Table] = true
			}
		}
	}
	held := have.held()
	for _, a := range slices.Concat(s.Addresses, s.Held) {
		src, f := a.Prefix.Addr(), a.Family()
		uplink := uplinks[a.Origin]
		table := tables[uplink]
		if table == 0 || !selects[table] || !leads[place{table: table, family: f}] || !held[src] || single[src] ||
			slices.ContainsFunc(wide, func(p netip.Prefix) bool { return p.Contains(src) }) {
			continue
		}
		way, err := ask(Packet{From: src, To: outside[f][0]})
		if err != nil || way.Table == table || own[table].links[way.Device] {
			continue
		}
		leave := "leave by " + way.Device
		if !way.Type.HasDevice() {
			leave = "are refused"
		}
		list = append(list, Hazard{Text: fmt.Sprintf("packets from %s %s, not by uplink %s: its `from` replaces its own addresses: add it there", src, leave, uplink)})
	}
	return list
}

// insideSubnets finds routes in main to a part of an uplink's subnet, such as a bridge's with a
// delegated prefix. Even with main-routes-first the uplink's subnet comes before main for packets
// from the uplink's addresses: that is what tells two links on one subnet apart.
func insideSubnets(want Resolved, have Snapshot, own map[uint32]*ownTable, ask func(Packet) (Way, error)) (list []Hazard) {
	first := map[fib.Family]uint32{} // with main-routes-first, the lowest priority of the uplinks' rules
	for i := range want.Rules {
		if r := &want.Rules[i]; r.Action == fib.Lookup && own[r.Table] != nil && r.SuppressPrefixLength.Set {
			if p, known := first[r.Family]; !known || r.Priority < p {
				first[r.Family] = r.Priority
			}
		}
	}
	subnets, lengths := map[netip.Prefix][]*fib.Route{}, map[int]bool{}
	for i := range want.Routes {
		r := &want.Routes[i]
		if _, is := first[r.Family]; is && own[r.Table] != nil && !r.IsDefault() && r.Type == fib.Unicast && r.Src.IsValid() {
			subnets[r.Dst], lengths[r.Dst.Bits()] = append(subnets[r.Dst], r), true
		}
	}
	if len(subnets) == 0 {
		return nil
	}
	held := have.held()
	const few = 3
	for i := range have.Routes {
		h := &have.Routes[i]
		if h.Table != fib.TableMain || !h.Type.HasDevice() || h.Expires < 0 {
			continue
		}
		to, others := inside(h.Dst, held)
		if !others {
			continue
		}
		links := linksOf(&h.Route)
		for bits := h.Dst.Bits() - 1; bits > 0; bits-- {
			if !lengths[bits] {
				continue
			}
			for _, r := range subnets[netip.PrefixFrom(h.Dst.Addr(), bits).Masked()] {
				t := own[r.Table]
				if slices.ContainsFunc(links, func(link string) bool { return t.links[link] }) {
					continue
				}
				way, err := ask(Packet{From: r.Src, To: to})
				if err != nil || way.Table != r.Table || slices.Contains(links, way.Device) {
					continue
				}
				if len(list) == few {
					return append(list, Hazard{Text: "there are more such routes in main"})
				}
				remedy := ""
				if p := first[r.Family]; p > 1 {
					remedy = fmt.Sprintf("; a [[uplink.%s.rule]] with to = %q, table = \"main\" and priority = %d puts main first", t.name, h.Dst, p-1)
				}
				list = append(list, Hazard{Text: fmt.Sprintf("what %s sends to %s leaves by %s, not by %s: its subnet %s comes before main, with main-routes-first too%s",
					t.name, h.Dst, way.Device, strings.Join(links, " and "), r.Dst, remedy)})
			}
		}
	}
	return list
}
