package apply

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// strays finds addresses of uplinks whose packets do not leave by the uplink, because its
// `from` names others. Verify asks of what the rules select, and so not of these. An uplink
// without any such rule has `from = []`, and is meant so.
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
				continue // those with goto only lay the others out
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
	held := make(map[netip.Addr]bool, len(have.Addresses))
	for _, a := range have.Addresses {
		held[a.Prefix.Addr()] = true
	}
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
