package gen

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// ownRules adds the rules that follow from the uplink itself.
func (c *compiler) ownRules(u *spec.Uplink) {
	base := fib.Rule{Action: fib.Lookup, Table: c.tables[u.Name], Link: c.ruleLink(u), Origin: u.Origin, Order: orderOf(u)}
	add := func(r fib.Rule) { c.state.Rules = append(c.state.Rules, c.bands(u, r)...) }
	var own []netip.Prefix
	seen := map[netip.Addr]bool{}
	for _, p := range u.Addresses {
		if a := p.Addr(); !seen[a] {
			seen[a] = true
			own = append(own, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	from, to := u.From, u.To
	if from == nil {
		from = own
	}
	if to == nil {
		to = own
	}
	// In canonical order, which spares a large State the sorting.
	for _, p := range to {
		r := base
		r.Family, r.To = fib.FamilyOf(p.Addr()), p
		// Rules to other addresses than the host's own compete with the sources of all uplinks.
		if mayMove(u) && seen[p.Addr()] && p.IsSingleIP() {
			r.Order = fib.Movable
		}
		add(r)
	}
	for _, p := range from {
		r := base
		r.Family, r.From = fib.FamilyOf(p.Addr()), p
		if mayMove(u) {
			r.Order = fib.Movable
		}
		add(r)
	}
	if u.Mark.Mask != 0 {
		for _, f := range fib.Families {
			// A mark does not tell the family. If the uplink fails closed, the other
			// family must not slip past it; if not, it would be useless to ask a table
			// that is empty for that family.
			if u.Families().Has(f) || u.Fallthrough != 0 {
				r := base
				r.Family, r.Mark, r.Mask = f, u.Mark.Value, u.Mark.Mask
				add(r)
			}
		}
	}

	learn := &c.state.Links[c.links[u.Name]].Learn
	for _, f := range fib.Families {
		if !u.Learns(f) {
			continue
		}
		r := base
		r.Family = f
		for _, r := range c.bands(u, r) {
			if u.From == nil {
				learn.Rules = append(learn.Rules, fib.LearnedRule{Rule: r})
			}
			if u.To == nil {
				learn.Rules = append(learn.Rules, fib.LearnedRule{Rule: r, To: true})
			}
		}
	}
}

// orderOf says who chooses the priority of the uplink's rules.
func orderOf(u *spec.Uplink) fib.Order {
	if u.Priority != 0 {
		return fib.Given
	}
	return fib.Numbered
}

// mayMove says whether the uplink's rules for addresses may stand anywhere among those
// of the others. Those of an uplink that fails closed come first, see priorities.
func mayMove(u *spec.Uplink) bool { return u.Priority == 0 && u.Fallthrough == 0 }

// bands returns a rule of the uplink's at each priority at which it must stand.
func (c *compiler) bands(u *spec.Uplink, r fib.Rule) []fib.Rule {
	r.Priority = c.priorities[u.Name]
	if !c.spec.MainRoutesFirst {
		return []fib.Rule{r}
	}
	specific, full := r, r
	specific.SuppressPrefixLength = fib.Some[uint32](0)
	full.Priority += fib.FullLookupOffset
	return []fib.Rule{specific, full}
}

// ruleLink returns the link that the uplink's rules come and go with: none if the
// uplink fails closed, because its rules are needed most when the link is gone.
func (c *compiler) ruleLink(u *spec.Uplink) string {
	if u.Fallthrough != 0 {
		return ""
	}
	return c.linkOf(u.Name)
}

// extraRule adds a [[uplink.NAME.rule]], one for each of its families.
func (c *compiler) extraRule(u *spec.Uplink, i int) {
	e := &u.Rules[i]
	r := fib.Rule{
		Priority: e.Priority, Not: e.Not, From: e.From, To: e.To, IIF: e.IIF, OIF: e.OIF,
		Mark: e.Mark.Value, Mask: e.Mark.Mask, TOS: e.TOS, IPProto: e.IPProto, SPort: e.SPort, DPort: e.DPort,
		UIDRange: e.UIDRange, L3MDev: e.L3MDev, Action: e.Action, Goto: e.Goto,
		SuppressPrefixLength: e.SuppressPrefixLength, SuppressIfGroup: e.SuppressIfGroup,
		Link: c.ruleLink(u), Origin: u.Origin,
	}
	if r.Priority == 0 {
		r.Priority, r.Order = c.priorities[u.Name], orderOf(u)
		if c.spec.MainRoutesFirst {
			r.Priority += fib.FullLookupOffset
		}
	}
	if r.Action == fib.Lookup && !r.L3MDev {
		r.Table = c.table(u, e.Table)
	}
	if r.Action == fib.Goto && r.Goto <= r.Priority {
		c.spec.Fail(fmt.Sprintf("the rule stands at priority %d, and `goto` only goes forward", r.Priority), "", "uplink", u.Name, "rule", spec.Element(i), "goto")
	}
	if c.spec.MainRoutesFirst && r.Priority == fib.PriorityMain-1 && fib.Any(c.spec.Uplinks, func(o *spec.Uplink) bool {
		return o.Fallthrough != 0 && c.tables[o.Name] == r.Table
	}) {
		c.spec.Fail(fmt.Sprintf("a rule into a table that fails closed stands at %d at most with main-routes-first: what refuses comes right behind it", r.Priority-1), "",
			"uplink", u.Name, "rule", spec.Element(i), "priority")
	}
	for _, f := range fib.Families {
		if e.Families.Has(f) {
			r.Family = f
			c.extraRules[len(c.state.Rules)] = []string{"uplink", u.Name, "rule", spec.Element(i)}
			c.state.Rules = append(c.state.Rules, r)
		}
	}
}

// failClosed refuses packets that find no route in the table of an uplink that fails
// closed, whichever uplink's rule led them there.
//
// Without main-routes-first, a route of last resort in the table does that, in each
// family that a rule leads there. With it, a rule right behind the full lookup does,
// before any other uplink's rule: the first lookup in the table would find the route and
// stop, because the kernel does not suppress an unreachable default (fib_rules_lookup in
// net/core/fib_rules.c asks suppress only where there was no error).
func (c *compiler) failClosed() {
	closed := map[uint32]*spec.Uplink{}
	for i := range c.spec.Uplinks {
		if u := &c.spec.Uplinks[i]; u.Fallthrough != 0 {
			closed[c.tables[u.Name]] = u
		}
	}
	if len(closed) == 0 {
		return
	}
	led := map[way]bool{}
	// refusing returns the rule that, with main-routes-first, comes behind r; false for none.
	refusing := func(r fib.Rule) (fib.Rule, bool) {
		u := closed[r.Table]
		if u == nil || r.Action != fib.Lookup || r.L3MDev {
			return r, false
		}
		led[way{u.Name, r.Family}] = true
		if !c.spec.MainRoutesFirst || r.SuppressPrefixLength.Set {
			return r, false
		}
		r.Priority, r.Table, r.Link = r.Priority+1, 0, ""
		r.Action = fib.Action(u.Fallthrough) // numbered alike: RTN_* and FR_ACT_*
		r.SuppressIfGroup = fib.Opt[uint32]{}
		return r, true
	}
	last := map[fib.Rule]bool{}
	for _, r := range slices.Clone(c.state.Rules) {
		if r, ok := refusing(r); ok && !last[r.Key()] {
			last[r.Key()] = true
			c.state.Rules = append(c.state.Rules, r)
		}
	}
	for i := range c.state.Links {
		learn := &c.state.Links[i].Learn
		for _, r := range slices.Clone(learn.Rules) {
			if rule, ok := refusing(r.Rule); ok {
				r.Rule = rule
				learn.Rules = append(learn.Rules, r)
			}
		}
	}
	if c.spec.MainRoutesFirst {
		return
	}
	for i := range c.spec.Uplinks {
		u := &c.spec.Uplinks[i]
		for _, f := range fib.Families {
			if u.Fallthrough != 0 && (led[way{u.Name, f}] || u.Learns(f)) {
				c.addRoute(u, fib.Route{Family: f, Table: c.tables[u.Name], Dst: f.Any(), Type: u.Fallthrough, Metric: 4294967295}, "fallthrough")
			}
		}
	}
}

// mainFirst adds the rules that look up main's specific routes before the uplinks' defaults.
func (c *compiler) mainFirst() {
	if !c.spec.MainRoutesFirst {
		return
	}
	for _, f := range fib.Families {
		learns := func(l *fib.Link) bool {
			return fib.Any(l.Learn.Rules, func(r *fib.LearnedRule) bool { return r.Family == f })
		}
		if fib.Any(c.state.Rules, func(r *fib.Rule) bool { return r.Family == f }) || fib.Any(c.state.Links, learns) {
			c.state.Rules = append(c.state.Rules, fib.Rule{
				Family: f, Priority: priorityMainSpecific, Action: fib.Lookup, Table: fib.TableMain,
				SuppressPrefixLength: fib.Some[uint32](0), Origin: fib.Origin{File: c.spec.Files[0]},
			})
		}
	}
}

// distinctRules reports a [[rule]] that is the same as another rule: the kernel
// has each only once.
func (c *compiler) distinctRules() {
	if len(c.extraRules) == 0 {
		return
	}
	rules := c.state.Rules
	sorted := make([]int, len(rules))
	for i := range sorted {
		sorted[i] = i
	}
	slices.SortFunc(sorted, func(a, b int) int { return cmp.Or(rules[a].Compare(&rules[b]), a-b) })
	x := c.state.Syntax()
	for i := 1; i < len(sorted); i++ {
		first, second := sorted[i-1], sorted[i]
		if rules[first].Compare(&rules[second]) != 0 {
			continue
		}
		at, extra := c.extraRules[second]
		if !extra {
			at, extra = c.extraRules[first]
		}
		if !extra {
			continue // from and to may both say everything
		}
		c.spec.Fail("the same rule twice: "+x.Rule("add", rules[second]), "", at...)
	}
}
