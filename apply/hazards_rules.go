package apply

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// lateLocal finds that table local is not looked up before our rules: they then take the packets
// for the host's own addresses.
func lateLocal(have Snapshot, turns map[fib.Family]*turns) (list []Hazard) {
	for _, f := range fib.Families {
		ours := turns[f]
		var local *fib.Rule
		for i := range have.Rules {
			r := &have.Rules[i].Rule
			if r.Family == f && r.Action == fib.Lookup && r.Table == fib.TableLocal && !r.Not && r.Key() == r.Bare() && (local == nil || r.Priority < local.Priority) {
				local = r
			}
		}
		if ours == nil || local != nil && local.Priority < ours.first.priority {
			continue
		}
		what := "no rule looks table local up"
		if local != nil {
			what = fmt.Sprintf("table local is looked up behind the uplinks' rules (priority %d)", local.Priority)
		}
		list = append(list, Hazard{Text: fmt.Sprintf("%s: what is for the host's own %s addresses leaves by an uplink; `ip%s rule add priority 0 lookup local`", what, f, dash6(f))})
	}
	return list
}

// rulesOfOthers finds rules that are never asked because one of ours sends all packets past them,
// rules that are asked before ours, and rules that lead packets past some of ours.
func rulesOfOthers(want Resolved, have Snapshot, others []othersRule, turns map[fib.Family]*turns) (list []Hazard) {
	var around []fib.Rule
	for _, w := range want.Rules {
		if jumpsWithAll(&w) {
			around = append(around, w)
		}
	}
	numbered, advised := withoutNumber(have, turns), map[fib.Family]bool{}
	for _, h := range others {
		owner, text := ProtocolName(h.rule.Protocol), ruleText(h.rule)
		over := slices.IndexFunc(around, func(w fib.Rule) bool {
			return w.Family == h.rule.Family && w.Priority < h.rule.Priority && h.rule.Priority < w.Goto
		})
		switch t := turns[h.rule.Family]; {
		case over >= 0:
			list = append(list, Hazard{Text: fmt.Sprintf("a rule of %s is never asked, because the uplinks' rules are laid out around it (%d to %d): %s: give it a priority that is not among these",
				owner, around[over].Priority, around[over].Goto, text)})
		case t == nil || harmless(h.rule):
		case h.turn.before(t.first):
			advice := ""
			if f := h.rule.Family; h.rule.Priority >= numbered[f] && h.rule.Priority < t.first.priority && !advised[f] {
				advised[f] = true
				advice = "; it looks like one added without a priority, which the kernel puts before all others, however low these are: give it one (`ip rule add … priority 32000`)"
			}
			list = append(list, Hazard{Text: fmt.Sprintf("a rule of %s is asked before the uplinks': %s%s", owner, text, advice)})
		case h.rule.Action == fib.Goto:
			past := slices.IndexFunc(want.Rules, func(w fib.Rule) bool {
				return w.Family == h.rule.Family && h.rule.Priority <= w.Priority && w.Priority < h.rule.Goto
			})
			if past >= 0 && slices.ContainsFunc(have.Rules, func(r Rule) bool { return r.Family == h.rule.Family && r.Priority == h.rule.Goto }) {
				list = append(list, Hazard{Text: fmt.Sprintf("a rule of %s leads packets past rules of the uplinks (priority %d and on): %s", owner, want.Rules[past].Priority, text)})
			}
		case t.takes(h.rule, h.turn):
			list = append(list, Hazard{Text: fmt.Sprintf("a rule of %s is asked before some of the uplinks': %s", owner, text)})
		}
	}
	return list
}

// withoutNumber returns the priority from which on the rules before ours look as if they were
// added without one. The kernel then takes the next number below the lowest
// (fib_default_rule_pref in net/core/fib_rules.c), so lowering ours would not keep it first for
// long.
func withoutNumber(have Snapshot, turns map[fib.Family]*turns) map[fib.Family]uint32 {
	from := map[fib.Family]uint32{}
	for f, t := range turns {
		count := map[uint32]int{}
		for i := range have.Rules {
			if have.Rules[i].Family == f {
				count[have.Rules[i].Priority]++
			}
		}
		from[f] = t.first.priority
		for from[f] > 1 && count[from[f]-1] == 1 {
			from[f]--
		}
	}
	return from
}

// harmless says whether a rule of others takes nothing from ours, wherever it stands. Table local
// is for the host's own addresses, and the kernel's rule for VRFs (l3mdev) for links in a VRF.
func harmless(r *Rule) bool {
	return r.Action == fib.Lookup && r.Table == fib.TableLocal || r.L3MDev && r.Protocol == ProtocolKernel
}

// turn is when the kernel asks a rule: by priority, and within one by the order of its list.
type turn struct {
	priority uint32
	at       int
}

func (t turn) before(o turn) bool {
	return t.priority < o.priority || t.priority == o.priority && t.at < o.at
}

// turns are the turns of our rules of one family.
type turns struct {
	first turn
	// from has the last rule by each single source. wide is the last rule by a mark, or by
	// sources that are not worth comparing with those of another's rule.
	from map[netip.Addr]turn
	wide turn
	// sources are the keys of from, sorted.
	sources []netip.Addr
}

// takes says whether a rule of others can take packets from those of ours that come behind it.
func (t *turns) takes(r *Rule, at turn) bool {
	switch {
	case at.before(t.wide):
		return true
	case r.IIF != "" && r.IIF != "lo":
		return false // incoming packets do not have a source of the host's
	}
	all := r.Not || r.From.Bits() <= 0
	i := 0
	if !all {
		i, _ = slices.BinarySearchFunc(t.sources, r.From.Addr(), netip.Addr.Compare)
	}
	for ; i < len(t.sources) && (all || r.From.Contains(t.sources[i])); i++ {
		if at.before(t.from[t.sources[i]]) {
			return true
		}
	}
	return false
}

// othersRule is a rule that is neither ours nor added by networkd for us.
type othersRule struct {
	rule *Rule
	turn turn
}

// takeTurns returns the rules of others and, by family, the turns of ours. A rule of ours that is
// not there yet will come behind the others of its priority.
func takeTurns(want Resolved, have Snapshot) (others []othersRule, by map[fib.Family]*turns) {
	ours := sortedRules(slices.Concat(want.Rules, want.Later.Rules))
	place := make([]int, len(ours))
	for i := range place {
		place[i] = len(have.Rules)
	}
	for at := range have.Rules {
		r := &have.Rules[at]
		if i, same := slices.BinarySearchFunc(ours, &r.Rule, (*fib.Rule).Compare); same {
			place[i] = at
		} else if !r.Ours() {
			others = append(others, othersRule{r, turn{r.Priority, at}})
		}
	}
	by = map[fib.Family]*turns{}
	for i, r := range ours {
		t, now := by[r.Family], turn{r.Priority, place[i]}
		if t == nil {
			t = &turns{first: now, from: map[netip.Addr]turn{}}
			by[r.Family] = t
		}
		if now.before(t.first) {
			t.first = now
		}
		switch a := r.From.Addr(); {
		case r.Action != fib.Lookup || r.From.Bits() <= 0 && r.Mask == 0:
		case r.Mask != 0 || r.Not || !r.From.IsSingleIP():
			if t.wide.before(now) {
				t.wide = now
			}
		case t.from[a].before(now):
			t.from[a] = now
		}
	}
	for _, t := range by {
		t.sources = slices.SortedFunc(maps.Keys(t.from), netip.Addr.Compare)
	}
	return others, by
}

// ruleText returns a rule in the words of ip-rule(8).
func ruleText(r *Rule) string {
	text := Op{Verb: RuleAdd, Rule: &r.Rule, Owner: fib.Some[uint8](ProtocolUnspec)}.Batch()
	_, text, _ = strings.Cut(text, "rule add ")
	return text
}
