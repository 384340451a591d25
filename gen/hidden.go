package gen

import (
	"iter"
	"net/netip"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// dropHidden drops rules that select a part of what another one selects, with the same
// outcome at the same priority. They change nothing, and hide the other rule: when a
// new rule leaves from, to or tos open, the kernel takes one that does not for the
// same, and says that it exists (fib4_rule_compare in net/ipv4/fib_rules.c,
// fib6_rule_compare). networkd adds rules in no fixed order, and then believes that the
// open one is there. Nor can a rule that selects everything be removed beside them: the
// kernel removes the first rule that fits (fib_nl_delrule in net/core/fib_rules.c), and
// networkd leaves the open one for good.
//
// A rule that stands for rules of other links as well follows no link: it must
// not go away with its own.
func (c *compiler) dropHidden() {
	selectsAll := func(r *fib.Rule) bool { return r.From.Bits() <= 0 && r.To.Bits() <= 0 && r.Mask == 0 }
	if len(c.extraRules) == 0 && !fib.Any(c.state.Rules, selectsAll) {
		return // those of each uplink differ in what they select
	}
	there := make(map[fib.Rule]bool, len(c.state.Rules))
	link := make(map[fib.Rule]string, len(c.state.Rules))
	for _, r := range c.state.Rules {
		key := r.Key()
		if there[key] && link[key] != r.Link {
			r.Link = ""
		}
		there[key], link[key] = true, r.Link
	}
	c.distinctToTheKernel(there)
	hidden := map[fib.Rule]bool{}
	hide := func(r, by fib.Rule) {
		hidden[r] = true
		if link[r] != link[by] {
			link[by] = ""
		}
	}
	for r := range there {
		for w := range opened(r) {
			switch {
			case w == r || !there[w]:
			case r.Not: // then the open one selects less
				hide(w, r)
			default:
				hide(r, w)
			}
		}
		if w := r.Bare(); w != r && there[w] {
			hide(r, w)
		}
	}
	for i := range c.state.Links {
		learn := &c.state.Links[i].Learn
		learn.Rules = fib.Without(learn.Rules, func(r *fib.LearnedRule) bool { return there[r.Key()] })
	}
	c.state.Rules = fib.Without(c.state.Rules, func(r *fib.Rule) bool {
		key := r.Key()
		gone := hidden[key]
		hidden[key] = true // drops an equal rule as well: from and to may both say everything
		r.Link = link[key]
		return gone
	})
}

// distinctToTheKernel reports two rules of which one has `not` and that are otherwise the
// same to the kernel, which does not compare `not` (rule_exists in net/core/fib_rules.c).
func (c *compiler) distinctToTheKernel(there map[fib.Rule]bool) {
	extra := map[fib.Rule][]string{}
	for i, at := range c.extraRules {
		extra[c.state.Rules[i].Key()] = at
	}
	said := map[string]bool{}
	for r := range there {
		for w := range opened(r) {
			if w.Not = !w.Not; !there[w] {
				continue
			}
			at := extra[r]
			if !r.Not {
				at = extra[w] // only a [[rule]] has it
			}
			key := strings.Join(at, ".")
			if said[key] {
				continue
			}
			said[key] = true
			c.spec.Fail("the kernel takes this rule and one without `not` at the same priority for the same", "give one of them another `priority`", at...)
		}
	}
}

// opened returns a rule with from, to and tos left open or not, in all combinations.
func opened(r fib.Rule) iter.Seq[fib.Rule] {
	return func(yield func(fib.Rule) bool) {
		for open := range 8 {
			w := r
			if open&1 != 0 {
				w.From = netip.Prefix{}
			}
			if open&2 != 0 {
				w.To = netip.Prefix{}
			}
			if open&4 != 0 {
				w.TOS = 0
			}
			if !yield(w) {
				return
			}
		}
	}
}
