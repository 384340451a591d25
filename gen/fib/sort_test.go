package fib

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// The first address of a subnet is its primary one: those of one link stay in the order
// in which they were written, however many there are.
func TestSortKeepsTheOrderOfALinksAddresses(t *testing.T) {
	var s State
	for i := range 200 {
		s.Addresses = append(s.Addresses, Address{
			Link:   fmt.Sprintf("eth%d", 3-i%4),
			Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(200 - i)}), 24),
		})
	}
	s.Sort()
	for i, a := range s.Addresses[1:] {
		before := s.Addresses[i]
		if before.Link > a.Link || before.Link == a.Link && before.Prefix.Addr().Less(a.Prefix.Addr()) {
			t.Fatalf("%s %s stands before %s %s", before.Link, before.Prefix, a.Link, a.Prefix)
		}
	}
}

func TestSortStableIsThatOfTheLibrary(t *testing.T) {
	type item struct{ key, place int }
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 200 {
		list := make([]item, n)
		for i := range list {
			list[i] = item{random.IntN(1 + n/2), i}
		}
		want := slices.Clone(list)
		slices.SortStableFunc(want, func(a, b item) int { return cmp.Compare(a.key, b.key) })
		SortStable(list, func(a, b *item) int { return cmp.Compare(a.key, b.key) })
		if !slices.Equal(list, want) {
			t.Fatalf("%d items: %v, want %v", n, list, want)
		}
	}
}
