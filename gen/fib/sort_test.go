package fib

import (
	"fmt"
	"net/netip"
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
