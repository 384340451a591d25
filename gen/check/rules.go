package check

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// shadowed finds rules that have no effect, because an earlier one selects all that they do
// and always ends the lookup. It leaves out rules that refuse: those of uplinks that fail
// closed wait behind the lookup until its routes are gone.
func (c *checker) shadowed() {
	// The selectors in which one rule must equal another, or be wider, to cover it.
	type selectors struct {
		family     fib.Family
		from, to   netip.Prefix
		mark, mask uint32
	}
	earlier := map[selectors][]*fib.Rule{}
	lengths := map[int]bool{}
	masks := []uint32{}
	for i := range c.state.Rules {
		r := &c.state.Rules[i]
		if r.Action == fib.Lookup && !r.Not {
			c.shadowedBy(r, func(yield func(*fib.Rule) bool) {
				for _, from := range wider(r.From, lengths) {
					for _, to := range wider(r.To, lengths) {
						for _, mask := range masks {
							for _, e := range earlier[selectors{r.Family, from, to, r.Mark & mask, mask}] {
								if !yield(e) {
									return
								}
							}
						}
					}
				}
			})
		}
		k := r.Key()
		key := selectors{r.Family, k.From, k.To, r.Mark & r.Mask, r.Mask}
		earlier[key] = append(earlier[key], r)
		lengths[k.From.Bits()], lengths[k.To.Bits()] = true, true
		if !slices.Contains(masks, r.Mask) {
			masks = append(masks, r.Mask)
		}
	}
}

// wider returns the absent prefix, and those prefixes of the given lengths that p lies in.
func wider(p netip.Prefix, lengths map[int]bool) []netip.Prefix {
	list := []netip.Prefix{{}}
	for n := 1; n <= p.Bits(); n++ {
		if lengths[n] {
			list = append(list, netip.PrefixFrom(p.Addr(), n).Masked())
		}
	}
	return list
}

// shadowedBy warns of a rule if an earlier one takes all that it selects.
func (c *checker) shadowedBy(r *fib.Rule, earlier func(func(*fib.Rule) bool)) {
	for e := range earlier {
		if e.Priority >= r.Priority || !covers(e, r) || !c.ends(e, r) || c.jumped(e) {
			continue
		}
		u, other := c.origins[r.Origin], c.origins[e.Origin]
		if u == nil || other == nil {
			continue
		}
		c.warn(ShadowedRule, u, "take it out, or give it a lower `priority` than the other's",
			"this rule is never asked, because one of uplink `%s` at priority %d takes all that it selects: %s", other.Name, e.Priority, c.syntax.Rule("add", *r))
		return
	}
}

// covers says whether a rule selects all that another one does.
func covers(e, r *fib.Rule) bool {
	switch {
	case e.Not || e.L3MDev || e.SuppressIfGroup.Set:
		return false
	case e.From.Bits() > 0 && (r.From.Bits() < e.From.Bits() || !e.From.Contains(r.From.Addr())):
		return false
	case e.To.Bits() > 0 && (r.To.Bits() < e.To.Bits() || !e.To.Contains(r.To.Addr())):
		return false
	case e.Mask&^r.Mask != 0 || (e.Mark^r.Mark)&e.Mask != 0:
		return false
	case e.IIF != "" && e.IIF != r.IIF, e.OIF != "" && e.OIF != r.OIF:
		return false
	case e.TOS != 0 && e.TOS != r.TOS, e.IPProto != 0 && e.IPProto != r.IPProto:
		return false
	case e.SPort.Hi != 0 && !within(r.SPort, e.SPort), e.DPort.Hi != 0 && !within(r.DPort, e.DPort):
		return false
	case e.UIDRange.Set && (!r.UIDRange.Set || !within(r.UIDRange.Value, e.UIDRange.Value)):
		return false
	}
	return true
}

func within[T cmp.Ordered](inner, outer fib.Range[T]) bool {
	var none T
	return inner.Hi != none && inner.Lo >= outer.Lo && inner.Hi <= outer.Hi
}

// ends says whether a later rule r has no effect because e selects all its packets first: e
// refuses them, r looks up the same, or the table of e has a route for every packet. A route
// by a link goes away with the link, and r is then the reserve: it has no effect only if all
// its routes would go away too.
func (c *checker) ends(e, r *fib.Rule) bool {
	switch e.Action {
	case fib.Lookup:
	case fib.Goto, fib.Nop:
		return false
	default:
		return true
	}
	if e.Table == r.Table && e.SuppressPrefixLength == r.SuppressPrefixLength && !r.SuppressIfGroup.Set {
		return true
	}
	links := map[string]bool{}
	for _, d := range c.routes[part{e.Family, e.Table}] {
		switch {
		case !d.IsDefault() || d.Type == fib.Throw:
		case !d.Type.HasDevice():
			return true // and the rule does not suppress it (fib_rules_lookup in net/core/fib_rules.c)
		case !e.SuppressPrefixLength.Set:
			for _, n := range d.Nexthops {
				links[c.syntax.Device(n.Link)] = true
			}
		}
	}
	return len(links) > 0 && c.goesWith(part{r.Family, r.Table}, links)
}

// goesWith says whether a table is empty once some links are down. What other programs have
// added to a table, such as main, is not known: then the answer is no.
func (c *checker) goesWith(p part, links map[string]bool) bool {
	u := c.owners[p.table]
	if u == nil || u.Learns(p.family) && !links[c.links[u.Name]] {
		return false
	}
	return !slices.ContainsFunc(c.routes[p], func(r fib.Route) bool {
		return r.Type != fib.Throw && !r.Type.HasDevice() || slices.ContainsFunc(r.Nexthops, func(n fib.Nexthop) bool { return !links[c.syntax.Device(n.Link)] })
	})
}

// jumped says whether a rule may be jumped over.
func (c *checker) jumped(e *fib.Rule) bool {
	return slices.ContainsFunc(c.gotos, func(g fib.Rule) bool {
		return g.Family == e.Family && g.Priority < e.Priority && g.Goto > e.Priority
	})
}

// many is more rules than people give one priority by hand. Once the numbers run out, uplinks
// whose addresses differ share the last one (gen/numbers.go); it would take long to compare
// each of those with each.
const many = 500

// equalPriorities finds rules of one priority that may select the same packet and do different
// things: networkd adds them in no fixed order.
func (c *checker) equalPriorities() {
	rules := c.state.Rules
	for start := 0; start < len(rules); {
		end := start + 1
		for end < len(rules) && rules[end].Family == rules[start].Family && rules[end].Priority == rules[start].Priority {
			end++
		}
		if group := rules[start:end]; len(group) <= many {
			c.equalIn(group)
		}
		start = end
	}
}

func (c *checker) equalIn(group []fib.Rule) {
	for i := range group {
		for j := range group[:i] {
			a, b := &group[j], &group[i]
			u, other := c.origins[b.Origin], c.origins[a.Origin]
			if u == nil || other == nil || a.SameOutcome(b) || !c.overlap(a, b) {
				continue
			}
			c.warn(EqualPriorities, u, "give one of them another `priority`",
				"two rules of priority %d may select the same packet, and which one is asked first is left to chance: %s; %s", b.Priority, c.syntax.Rule("add", *a), c.syntax.Rule("add", *b))
			return // one for each priority is enough
		}
	}
}

// overlap says whether two rules surely have packets in common. Rules to the host's own
// addresses have none: table local comes first.
func (c *checker) overlap(a, b *fib.Rule) bool {
	if a.Not || b.Not || c.toItself(a) || c.toItself(b) {
		return false
	}
	return a.Overlaps(b)
}

func (c *checker) toItself(r *fib.Rule) bool { return r.To.IsSingleIP() && c.held[r.To.Addr()] }
