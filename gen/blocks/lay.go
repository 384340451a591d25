package blocks

import (
	"cmp"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Threshold is how many address rules of one family the kernel still tries one by one.
// Measured with 1,000 uplinks (`go run ./integration/bench -only lookup`, and its results):
// a packet that none of their 2,000 rules selects costs 9 times as much as without rules;
// in blocks 1.2 times, as with 100 uplinks. Calculated from that, not measured: 50 rules
// one by one add a fifth.
const Threshold = 50

// Worth says whether a State has more than least of the rules that Threshold counts.
func Worth(s fib.State, least int) bool {
	return slices.ContainsFunc(partsOf(&s), func(p *part) bool { return len(p.from)+len(p.to) > least })
}

// Leads says whether a layout has added the rule: it is then not an uplink's, and
// belongs to no line of the spec. The caller must know that the rule is ours, because
// the kernel stores no origin.
func Leads(r *fib.Rule) bool {
	return (r.Action == fib.Goto || r.Action == fib.Nop) && r.Origin.Line == 0
}

// Examine says whether a State has more than least rules for addresses (see Threshold), and
// if so, what keeps Lay from laying them out; nil for nothing.
func Examine(s fib.State, least int) (many bool, o *Obstacle) {
	if !Worth(s, least) {
		return false, nil
	}
	l := newLayout(s)
	return true, l.obstacle()
}

// Lay returns a State that sends every packet the way that s does, with rules of which the
// kernel tries few. Where no more than least rules select by an address (see Threshold), it
// returns s itself. It also does so where there is an obstacle, which it then returns too.
// s is in canonical order, and so is the result; s is not changed.
//
// Lay assumes that rules to the host's own addresses compete with no others: table local
// comes first.
func Lay(s fib.State, least int) (fib.State, *Obstacle) {
	if !Worth(s, least) {
		return s, nil
	}
	l := newLayout(s.CloneRules())
	if o := l.obstacle(); o != nil {
		return s, o
	}
	l.number()
	// The parts refer to the rules, which must not move yet.
	var added []fib.Rule
	for _, p := range l.parts {
		added = append(added, l.lay(p)...)
	}
	l.Rules = append(l.Rules, added...)
	for i := range l.Rules {
		l.Rules[i].Order = fib.Given
	}
	l.Sort()
	// Two prefixes that share a place have each added the rule that ends it.
	var last *fib.Rule
	l.Rules = fib.Without(l.Rules, func(r *fib.Rule) bool {
		again := last != nil && r.Compare(last) == 0
		last = r
		return again
	})
	return l.State, nil
}

// layout is a State that is being laid out.
type layout struct {
	fib.State
	parts []*part
	twice bool // main-routes-first: everything stands a second time, higher by upper
}

// newLayout begins a layout of s. It shares the rules with s, and changes them there.
func newLayout(s fib.State) *layout {
	l := &layout{State: s}
	l.parts = partsOf(&l.State)
	l.twice = slices.ContainsFunc(l.parts, func(p *part) bool { return p.specific })
	return l
}

// upper is how far above the first band of main-routes-first the second one stands.
const upper = fib.FullLookupOffset

// part is laid out by itself: the rules of one family and one band that may move.
type part struct {
	family   fib.Family
	specific bool        // the first band of main-routes-first
	from, to []*fib.Rule // in their flat order
}

func partsOf(s *fib.State) (parts []*part) {
	for i := range s.Rules {
		r := &s.Rules[i]
		if !moves(r) {
			continue
		}
		is := func(p *part) bool { return p.family == r.Family && p.specific == r.SuppressPrefixLength.Set }
		at := slices.IndexFunc(parts, is)
		if at < 0 {
			at = len(parts)
			parts = append(parts, &part{family: r.Family, specific: r.SuppressPrefixLength.Set})
		}
		if p := parts[at]; r.To.Bits() > 0 {
			p.to = append(p.to, r)
		} else {
			p.from = append(p.from, r)
		}
	}
	return parts
}

// band returns the offset of the band that a priority is in.
func (l *layout) band(priority uint32) uint32 {
	if l.twice && priority >= upper {
		return upper
	}
	return 0
}

// moves says whether a rule is one that is laid out.
func moves(r *fib.Rule) bool {
	return r.Order == fib.Movable && max(r.From.Bits(), r.To.Bits()) >= rootBits
}

// stays says whether a rule keeps its place among the others in front of the blocks.
func stays(r *fib.Rule) bool { return r.Order != fib.Given && !moves(r) }

// staying calls f with each rule that stays. For the rule of a learned address it
// passes learned as well.
func (l *layout) staying(f func(r *fib.Rule, learned *fib.LearnedRule)) {
	for i := range l.Rules {
		if stays(&l.Rules[i]) {
			f(&l.Rules[i], nil)
		}
	}
	for i := range l.Links {
		for j := range l.Links[i].Learn.Rules {
			if r := &l.Links[i].Learn.Rules[j]; stays(&r.Rule) {
				f(&r.Rule, r)
			}
		}
	}
}

// numbers returns the priorities of the rules that stay, without the offsets of their
// bands, in order.
func (l *layout) numbers() (list []uint32) {
	l.staying(func(r *fib.Rule, _ *fib.LearnedRule) { list = append(list, r.Priority-l.band(r.Priority)) })
	fib.SortStable(list, func(a, b *uint32) int { return cmp.Compare(*a, *b) })
	return slices.Compact(list)
}

// number renumbers the rules that stay, so that they all stand together before the blocks.
func (l *layout) number() {
	list := l.numbers()
	l.staying(func(r *fib.Rule, _ *fib.LearnedRule) {
		band := l.band(r.Priority)
		at, _ := slices.BinarySearch(list, r.Priority-band)
		r.Priority = band + fib.FirstNumber + uint32(at)
	})
}

// lay gives the rules of a part their places, and returns those that lead to them.
func (l *layout) lay(p *part) (added []fib.Rule) {
	base := uint32(first)
	if l.twice && !p.specific {
		base += upper
	}
	like := fib.Rule{Family: p.family, Origin: fib.Origin{File: l.Links[0].Uplinks[0].Origin.File}}
	for _, to := range []bool{false, true} {
		t := tree{base: base, past: base + half - 1, to: to, like: like}
		list := p.from
		if to {
			list = p.to
		}
		t.lay(list)
		past := like
		past.Priority, past.Action = t.past, fib.Nop
		added = append(append(added, t.rules...), past)
		base += half
	}
	return added
}
