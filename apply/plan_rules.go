package apply

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// inOrder sorts rules, which mostly are sorted.
func inOrder(rules []*fib.Rule) {
	if !slices.IsSortedFunc(rules, (*fib.Rule).Compare) {
		slices.SortFunc(rules, (*fib.Rule).Compare)
	}
}

// sortedRules returns pointers to rules in their canonical order.
func sortedRules(rules []fib.Rule) []*fib.Rule {
	list := make([]*fib.Rule, len(rules))
	for i := range rules {
		list[i] = &rules[i]
	}
	inOrder(list)
	return list
}

// rules walks what is wanted and what is there side by side.
func (p *planner) rules(want Resolved, have Snapshot) {
	var there []*fib.Rule
	for i := range have.Rules {
		if have.Rules[i].Ours() {
			there = append(there, &have.Rules[i].Rule)
		}
	}
	inOrder(there)
	later := sortedRules(want.Later.Rules)
	// What is not wanted goes, unless it waits for a link. Of duplicates, which the
	// kernel takes without NLM_F_EXCL, one stays.
	gone := map[*fib.Rule]bool{}
	unwanted := func(r *fib.Rule) {
		if i, waits := slices.BinarySearchFunc(later, r, (*fib.Rule).Compare); waits {
			later = slices.Delete(later, i, i+1)
			return
		}
		gone[r] = true
	}
	for _, w := range sortedRules(want.Rules) {
		for len(there) > 0 && there[0].Compare(w) < 0 {
			unwanted(there[0])
			there = there[1:]
		}
		if len(there) > 0 && there[0].Compare(w) == 0 {
			there = there[1:]
			continue
		}
		f := index(w.Family)
		p.ruleAdd[f] = append(p.ruleAdd[f], p.op(Op{Verb: RuleAdd, Rule: w}))
	}
	for _, r := range there {
		unwanted(r)
	}
	for f := range p.ruleAdd {
		p.ruleAdd[f] = highestFirst(p.ruleAdd[f])
	}
	p.rulesGo(gone, have)
}

// highestFirst returns the operations, which come in canonical order, from the highest priority
// number down. Within one number they keep their order, because the kernel keeps it.
func highestFirst(ops []Op) []Op {
	sorted := make([]Op, 0, len(ops))
	for end := len(ops); end > 0; {
		start := end - 1
		for start > 0 && ops[start-1].Rule.Priority == ops[end-1].Rule.Priority {
			start--
		}
		sorted = append(sorted, ops[start:end]...)
		end = start
	}
	return sorted
}

// skips says how far a rule keeps packets from the rules behind it: 2 for all packets, 1 for
// some, 0 for none. Such rules are added last and removed first: they must never stand without
// what is for the packets instead. Around a dead uplink that is the rule before, which keeps
// main's other routes; among blocks (package gen/blocks) it is what they jump to, and what leads
// there.
func skips(o Op) int {
	switch r := o.Rule; {
	case r.Priority == fib.PriorityFailover+1, jumpsWithAll(r):
		return 2
	case r.Action == fib.Goto:
		return 1
	}
	return 0
}

// jumpsWithAll says whether a rule sends every packet that comes to it past others.
func jumpsWithAll(r *fib.Rule) bool {
	return r.Action == fib.Goto && !r.Not && r.Key() == r.Bare()
}

// rulesGo plans the removal of rules. The kernel removes the first rule of a priority that
// matches everything in the request, and a request that leaves a selector open matches a narrower
// rule too (rule_find, net/core/fib_rules.c). So rules are removed from the front, and one that
// is to stay but would be hit is first put behind the others: it is added once more, and the
// first of the two goes.
func (p *planner) rulesGo(gone map[*fib.Rule]bool, have Snapshot) {
	if len(gone) == 0 {
		return
	}
	moved := false
	var group []*fib.Rule // ours of one priority
	flush := func() {
		// From the back: a rule that is put behind the others may in turn hit those before it.
		var going, again []*fib.Rule
		for _, r := range slices.Backward(group) {
			hit := func(o *fib.Rule) bool { return o.Compare(r) != 0 && hits(o, r) }
			if !gone[r] && slices.ContainsFunc(going, hit) {
				again = append(again, r)
				gone[r], moved = true, true
			}
			if gone[r] {
				going = append(going, r)
			}
		}
		for _, r := range slices.Backward(again) {
			f := index(r.Family)
			p.ruleAdd[f] = append(p.ruleAdd[f], p.op(Op{Verb: RuleAdd, Rule: r}))
		}
		for _, r := range group {
			if gone[r] {
				f := index(r.Family)
				p.ruleDel[f] = append(p.ruleDel[f], p.op(Op{Verb: RuleDel, Rule: r}))
			}
		}
		group = group[:0]
	}
	for i := range have.Rules {
		r := &have.Rules[i]
		if !r.Ours() {
			continue
		}
		if len(group) > 0 && (group[0].Family != r.Family || group[0].Priority != r.Priority) {
			flush()
		}
		group = append(group, &r.Rule)
	}
	flush()
	if moved {
		for f := range p.ruleAdd {
			slices.SortStableFunc(p.ruleAdd[f], func(a, b Op) int { return cmp.Compare(b.Rule.Priority, a.Rule.Priority) })
		}
	}
}

// hits says whether the request to delete one rule matches another of its priority. What the
// request leaves open matches everything, and the kernel ignores inversion and the target of a
// goto. A rule for a lookup always names its table, or l3mdev.
func hits(request, r *fib.Rule) bool {
	a, b := *request, *r
	if a.From.Bits() <= 0 {
		a.From, b.From = netip.Prefix{}, netip.Prefix{}
	}
	if a.To.Bits() <= 0 {
		a.To, b.To = netip.Prefix{}, netip.Prefix{}
	}
	if a.IIF == "" {
		b.IIF = ""
	}
	if a.OIF == "" {
		b.OIF = ""
	}
	if a.Mark == 0 {
		b.Mark = 0
	}
	if a.Mask == 0 {
		b.Mask = 0
	}
	if a.TOS == 0 {
		b.TOS = 0
	}
	if a.IPProto == 0 {
		b.IPProto = 0
	}
	if a.SPort.Hi == 0 {
		a.SPort, b.SPort = fib.Range[uint16]{}, fib.Range[uint16]{}
	}
	if a.DPort.Hi == 0 {
		a.DPort, b.DPort = fib.Range[uint16]{}, fib.Range[uint16]{}
	}
	if !a.UIDRange.Set {
		b.UIDRange = a.UIDRange
	}
	if !a.SuppressPrefixLength.Set {
		b.SuppressPrefixLength = a.SuppressPrefixLength
	}
	if !a.SuppressIfGroup.Set {
		b.SuppressIfGroup = a.SuppressIfGroup
	}
	a.Not, b.Not = false, false
	a.Goto, b.Goto = 0, 0
	return a.Compare(&b) == 0
}
