package lookup

import (
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// A host with thousands of uplinks has thousands of rules and of routes in table main, few
// of which are for a given packet.

// prefixes holds items by the prefix whose packets they are for.
type prefixes[T any] struct {
	of      map[netip.Prefix][]T
	lengths []int // of the prefixes, the longest first
}

func (x *prefixes[T]) add(p netip.Prefix, item T) {
	if x.of == nil {
		x.of = map[netip.Prefix][]T{}
	}
	if i, seen := slices.BinarySearchFunc(x.lengths, p.Bits(), func(have, bits int) int { return bits - have }); !seen {
		x.lengths = slices.Insert(x.lengths, i, p.Bits())
	}
	p = p.Masked()
	x.of[p] = append(x.of[p], item)
}

// around returns the items for an address, those of the longest prefix first.
func (x *prefixes[T]) around(a netip.Addr) (list []T) {
	for _, bits := range x.lengths {
		if p, err := a.Prefix(bits); err == nil {
			list = append(list, x.of[p]...)
		}
	}
	return list
}

// selection indexes the rules of one family by the first thing that each selects by. A rule
// is given by its index among all of the family.
type selection struct {
	from, to prefixes[int]
	marks    map[mark][]int
	masks    []uint32
	iif, oif map[string][]int
	others   []int
}

type mark struct{ value, mask uint32 }

func newSelection(rules []*fib.Rule) *selection {
	s := &selection{marks: map[mark][]int{}, iif: map[string][]int{}, oif: map[string][]int{}}
	for i, r := range rules {
		switch {
		case r.Not:
			s.others = append(s.others, i)
		case r.From.Bits() > 0:
			s.from.add(r.From, i)
		case r.To.Bits() > 0:
			s.to.add(r.To, i)
		case r.Mask != 0:
			m := mark{r.Mark & r.Mask, r.Mask}
			if s.marks[m] = append(s.marks[m], i); !slices.Contains(s.masks, r.Mask) {
				s.masks = append(s.masks, r.Mask)
			}
		case r.IIF != "":
			s.iif[r.IIF] = append(s.iif[r.IIF], i)
		case r.OIF != "":
			s.oif[r.OIF] = append(s.oif[r.OIF], i)
		default:
			s.others = append(s.others, i)
		}
	}
	return s
}

// candidates returns the indexes of the rules that may select a packet, in order.
func (s *selection) candidates(f *flow) []int {
	if s == nil {
		return nil
	}
	list := slices.Concat(s.others, s.iif[f.iif], s.oif[f.oif], s.from.around(f.src), s.to.around(f.dst))
	for _, mask := range s.masks {
		list = append(list, s.marks[mark{f.mark & mask, mask}]...)
	}
	slices.Sort(list)
	return list
}
