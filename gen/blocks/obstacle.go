package blocks

import (
	"fmt"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Obstacle says why rules cannot be laid out in blocks: some packet would go another way.
type Obstacle struct {
	Origin fib.Origin // of what is in the way
	Why    string
	Help   string
}

// obstacle returns the first obstacle, or nil.
func (l *layout) obstacle() *Obstacle {
	var last uint32 // the highest number of the flat layout
	for _, p := range l.parts {
		for _, r := range slices.Concat(p.from, p.to) {
			last = max(last, r.Priority-l.band(r.Priority))
		}
	}
	stay := l.numbers()
	if len(stay) > 0 {
		last = max(last, stay[len(stay)-1])
	}
	if o := l.given(max(last, end)); o != nil {
		return o
	}
	if len(stay) > most {
		return &Obstacle{Why: fmt.Sprintf("%d uplinks have rules that do not select by an address of the spec alone, and there is room for %d", len(stay), most),
			Help: "give those a `priority` below " + fmt.Sprint(fib.FirstNumber)}
	}
	for _, p := range l.parts {
		if o := nested(p.from); o != nil {
			return o
		}
		if o := l.overtakes(p); o != nil {
			return o
		}
	}
	return nil
}

// given finds a rule that the spec puts among those that are laid out, by its priority, or
// leads there by its goto.
func (l *layout) given(last uint32) *Obstacle {
	among := func(priority uint32) bool {
		n := priority - l.band(priority)
		return n >= fib.FirstNumber && n <= last
	}
	for i := range l.Rules {
		r := &l.Rules[i]
		switch {
		case r.Order != fib.Given:
		case among(r.Priority):
			return &Obstacle{r.Origin, fmt.Sprintf("a rule stands at priority %d, where the blocks are", r.Priority),
				fmt.Sprintf("give it a `priority` below %d", fib.FirstNumber)}
		case r.Action == fib.Goto && among(r.Goto):
			return &Obstacle{r.Origin, fmt.Sprintf("a rule leads to priority %d, where the blocks are", r.Goto),
				fmt.Sprintf("give the rule that it leads to a `priority` below %d", fib.FirstNumber)}
		}
	}
	return nil
}

// nested finds a prefix of one uplink that contains a prefix of another's: chance would
// decide which of them comes first.
func nested(list []*fib.Rule) *Obstacle {
	list = slices.Clone(list)
	fib.SortStable(list, func(a, b **fib.Rule) int { return comparePrefixes((*a).From, (*b).From) })
	var around []*fib.Rule
	for _, r := range list {
		for len(around) > 0 && !around[len(around)-1].From.Overlaps(r.From) {
			around = around[:len(around)-1]
		}
		// All prefixes that contain one another so far have the same outcome.
		if len(around) > 0 && !around[0].SameOutcome(r) {
			return &Obstacle{around[0].Origin, fmt.Sprintf("its rule for %s selects sources of other uplinks too (%s)", around[0].From, r.From),
				fmt.Sprintf("give this uplink a `priority` below %d, or leave those out of its `from`", fib.FirstNumber)}
		}
		around = append(around, r)
	}
	return nil
}

// overtakes finds a rule that comes behind one of the part's now and would come before it
// in the layout, where both may select the same packet.
func (l *layout) overtakes(p *part) (o *Obstacle) {
	l.staying(func(b *fib.Rule, learned *fib.LearnedRule) {
		if o != nil || b.Family != p.family || l.twice && p.specific != (l.band(b.Priority) == 0) {
			return
		}
		for _, r := range p.from {
			if r.Compare(b) > 0 {
				break
			}
			// A learned address is the host's own, and none of those that the spec names.
			if r.SameOutcome(b) || !r.Overlaps(b) || learned != nil && (learned.To || r.From.IsSingleIP()) {
				continue
			}
			x := l.Syntax()
			o = &Obstacle{b.Origin, fmt.Sprintf("this rule and those for the sources of uplinks before it may select the same packet, and it would come first: %s", x.Rule("add", *b)),
				fmt.Sprintf("give it a `priority`: below %d if it is to come first", fib.FirstNumber)}
			return
		}
	})
	return o
}
