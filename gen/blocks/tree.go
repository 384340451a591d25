package blocks

import (
	"net/netip"
	"sort"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// rootBits is the least length of the prefixes that the root tells apart. Shorter ones
// would not let other traffic pass at once, and there are few of them.
const rootBits = 4

// tree lays out the rules of one family and one end (source or destination).
type tree struct {
	base  uint32 // the root's number
	past  uint32 // where packets go that no rule selects
	to    bool   // the rules select by destination, not by source
	like  fib.Rule
	rules []fib.Rule // those that lead to places, and end them
}

// prefix returns what a rule selects by.
func (t *tree) prefix(r *fib.Rule) netip.Prefix {
	if t.to {
		return r.To
	}
	return r.From
}

// lay gives the rules their numbers, and adds those that lead to them.
func (t *tree) lay(list []*fib.Rule) {
	fib.SortStable(list, func(a, b **fib.Rule) int { return comparePrefixes(t.prefix(*a), t.prefix(*b)) })
	if len(list) > 0 {
		t.children(list, t.like.Family.Any(), root, t.base)
	}
}

func comparePrefixes(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// children divides the rules in a prefix among the largest prefixes below it that a smaller
// kind can hold, and adds the rules that lead there.
func (t *tree) children(list []*fib.Rule, in netip.Prefix, of kind, at uint32) {
	limit := limits[of-1]
	t.divide(list, in, func(list []*fib.Rule, p netip.Prefix) bool {
		return p.Bits() > in.Bits() && p.Bits() >= rootBits && len(list) <= limit
	}, func(list []*fib.Rule, p netip.Prefix) {
		k := inline
		for k < group && len(list) > limits[k] {
			k++
		}
		if k > block && t.prefix(list[0]) == p {
			k = block // a rule for the whole prefix cannot be divided
		}
		number := at + entry(of, k)
		if k == inline {
			set(list, number)
			return
		}
		there := place(t.base, k, p)
		t.lead(number, p, there)
		if k == block {
			set(list, there)
			t.stop(there + 1)
			return
		}
		t.children(list, p, k, there)
	})
	t.stop(at + widths[of] - 1)
}

func set(list []*fib.Rule, number uint32) {
	for _, r := range list {
		r.Priority = number
	}
}

// divide halves a prefix until it is small enough, or one rule is for the whole of it.
func (t *tree) divide(list []*fib.Rule, p netip.Prefix, small func([]*fib.Rule, netip.Prefix) bool, do func([]*fib.Rule, netip.Prefix)) {
	switch {
	case len(list) == 0:
		return
	case small(list, p) || p.IsSingleIP() || t.prefix(list[0]) == p:
		do(list, p)
		return
	}
	lower, upper := halves(p)
	n := sort.Search(len(list), func(i int) bool { return t.prefix(list[i]).Addr().Compare(upper.Addr()) >= 0 })
	t.divide(list[:n], lower, small, do)
	t.divide(list[n:], upper, small, do)
}

// halves returns the two halves of a prefix.
func halves(p netip.Prefix) (lower, upper netip.Prefix) {
	a := p.Addr().AsSlice()
	a[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	addr, _ := netip.AddrFromSlice(a)
	return netip.PrefixFrom(p.Addr(), p.Bits()+1), netip.PrefixFrom(addr, p.Bits()+1)
}

// lead adds a rule at number at that sends the packets of a prefix to number there.
func (t *tree) lead(at uint32, p netip.Prefix, there uint32) {
	r := t.like
	r.Priority, r.Action, r.Goto = at, fib.Goto, there
	if t.to {
		r.To = p
	} else {
		r.From = p
	}
	t.rules = append(t.rules, r)
}

// stop adds the rule that ends a place. Where two prefixes share the place, Lay keeps one.
func (t *tree) stop(at uint32) {
	r := t.like
	r.Priority, r.Action, r.Goto = at, fib.Goto, t.past
	t.rules = append(t.rules, r)
}
