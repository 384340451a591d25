package importer

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// The bands of main-routes-first, see uplink.toml(5).
const (
	mainSpecific = spec.MaxPriorityMainRoutesFirst + 1
	fullLookup   = fib.FullLookupOffset
)

// chooseRules leaves out the rules that main-routes-first implies.
func (g *guess) chooseRules() {
	if !g.mainFirst {
		for i := range g.Rules {
			g.rules = append(g.rules, &g.Rules[i])
		}
		return
	}
	there := map[fib.Rule]bool{}
	for i := range g.Rules {
		there[g.Rules[i].Key()] = true
	}
	implied := map[fib.Rule]bool{}
	for _, f := range fib.Families {
		implied[mainRule(f)] = true
	}
	for r := range there {
		if r.Priority >= mainSpecific || r.SuppressPrefixLength != fib.Some[uint32](0) {
			continue
		}
		full := r
		full.Priority, full.SuppressPrefixLength = r.Priority+fullLookup, fib.Opt[uint32]{}
		if there[full] {
			implied[full] = true
		}
	}
	for i := range g.Rules {
		r := &g.Rules[i]
		if implied[r.Key()] {
			continue
		}
		full := r.Key()
		full.Priority, full.SuppressPrefixLength = r.Priority+fullLookup, fib.Opt[uint32]{}
		if r.SuppressPrefixLength == fib.Some[uint32](0) && implied[full] {
			c := *r
			c.SuppressPrefixLength = fib.Opt[uint32]{}
			r = &c
		}
		g.rules = append(g.rules, r)
	}
}

func mainRule(f fib.Family) fib.Rule {
	return fib.Rule{Family: f, Priority: mainSpecific, Action: fib.Lookup, Table: fib.TableMain, SuppressPrefixLength: fib.Some[uint32](0)}
}

// kind is what a rule selects by, among the selectors for which an uplink has keys.
type kind int

const (
	other kind = iota
	byFrom
	byTo
	byMark
)

// kindOf says whether a rule looks up a table for one source, destination or mark.
func kindOf(r *fib.Rule) kind {
	plain := fib.Rule{Family: r.Family, Priority: r.Priority, Action: fib.Lookup, Table: r.Table}
	if r.From.Bits() > 0 {
		plain.From = r.From
		if plain.Key() == r.Key() {
			return byFrom
		}
		plain.From = netip.Prefix{}
	}
	if r.To.Bits() > 0 {
		plain.To = r.To
		if plain.Key() == r.Key() {
			return byTo
		}
		plain.To = netip.Prefix{}
	}
	if r.Mask != 0 {
		plain.Mark, plain.Mask = r.Mark, r.Mask
		if plain.Key() == r.Key() {
			return byMark
		}
	}
	return other
}

// assignRules expresses the rules of each uplink at the priority that most of them have by
// the uplink's keys, and the others in full.
func (g *guess) assignRules() {
	own := map[*uplink]map[uint32][]*Rule{}
	var extra []*Rule
	for _, r := range g.rules {
		u := g.byTable[r.Table]
		if u == nil || r.Action != fib.Lookup || r.L3MDev || kindOf(&r.Rule) == other {
			extra = append(extra, r)
			continue
		}
		if own[u] == nil {
			own[u] = map[uint32][]*Rule{}
		}
		p := r.Priority
		if r.AnyPriority {
			p = 0
		}
		own[u][p] = append(own[u][p], r)
	}
	taken := map[uint32]bool{}
	for _, u := range g.uplinks {
		groups := own[u]
		best, found := uint32(0), false
		for _, p := range slices.Sorted(maps.Keys(groups)) {
			// Rules by source are what an uplink is about, so they score higher; if scores
			// are equal the lowest number counts.
			if !taken[p] && g.mayStandAt(p) && (!found || score(groups[p]) > score(groups[best])) {
				best, found = p, true
			}
		}
		for _, p := range slices.Sorted(maps.Keys(groups)) {
			if !found || p != best {
				extra = append(extra, groups[p]...)
				continue
			}
			if p != 0 {
				u.priority, taken[p] = p, true
			}
			for _, r := range groups[p] {
				switch kindOf(&r.Rule) {
				case byFrom:
					u.from = append(u.from, r)
				case byTo:
					u.to = append(u.to, r)
				case byMark:
					u.mark = append(u.mark, r)
				}
			}
			extra = append(extra, u.settleMark()...)
		}
	}
	g.extraRules(extra)
}

// mayStandAt says whether an uplink's priority may be p.
func (g *guess) mayStandAt(p uint32) bool {
	if g.mainFirst {
		return p < mainSpecific
	}
	return p < fib.PriorityMain
}

func score(rules []*Rule) (n int) {
	for _, r := range rules {
		n += 2
		if kindOf(&r.Rule) == byFrom {
			n++
		}
	}
	return n
}

// settleMark keeps one mark for which a rule exists in each of the uplink's families, and
// returns the other rules.
func (u *uplink) settleMark() (extra []*Rule) {
	if len(u.mark) == 0 {
		return nil
	}
	first := u.mark[0]
	families := u.families()
	var mine []*Rule
	for _, r := range u.mark {
		if r.Mark == first.Mark && r.Mask == first.Mask {
			mine = append(mine, r)
			delete(families, r.Family)
		} else {
			extra = append(extra, r)
		}
	}
	if len(families) > 0 {
		extra = append(extra, mine...)
		mine = nil
	}
	u.mark = mine
	return extra
}

// families returns the families for which fwmark makes rules.
func (u *uplink) families() map[fib.Family]bool {
	set := map[fib.Family]bool{}
	for _, f := range fib.Families {
		if u.last != 0 || u.learns(f) {
			set[f] = true
		}
	}
	for _, a := range u.addresses {
		set[a.Family()] = true
	}
	for _, r := range slices.Concat(u.gateways, u.routes) {
		set[r.Family] = true
	}
	for _, r := range slices.Concat(u.from, u.to) {
		set[r.Family] = true
	}
	return set
}

// extraRules expresses rules in full: two that differ only in their family become one.
func (g *guess) extraRules(list []*Rule) {
	at := map[fib.Rule]*[]*Rule{}
	where := map[*[]*Rule]*uplink{}
	var order []*[]*Rule
	for _, r := range list {
		u := g.byTable[r.Table]
		if u == nil || r.Action != fib.Lookup {
			u = g.principal()
		}
		key := r.Key()
		if key.From.IsValid() || key.To.IsValid() {
			// Its family is that of its addresses.
		} else if key.Family = 0; at[key] != nil && !slices.ContainsFunc(*at[key], func(o *Rule) bool { return o.Family == r.Family }) {
			*at[key] = append(*at[key], r)
			continue
		}
		group := &[]*Rule{r}
		at[key], where[group] = group, u
		order = append(order, group)
	}
	slices.SortStableFunc(order, func(a, b *[]*Rule) int { return cmp.Compare((*a)[0].Priority, (*b)[0].Priority) })
	for _, group := range order {
		u := where[group]
		u.rules = append(u.rules, *group)
	}
}
