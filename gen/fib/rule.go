package fib

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Action is what a rule does, numbered as FR_ACT_* in
// include/uapi/linux/fib_rules.h and named as in ip-rule(8).
type Action uint8

// The actions of a rule.
const (
	Lookup      Action = 1 // ask Table (FR_ACT_TO_TBL); with L3MDev the table of the packet's VRF
	Goto        Action = 2 // go on at the rule of priority Goto
	Nop         Action = 3
	Blackhole   Action = 6
	Unreachable Action = 7
	Prohibit    Action = 8
)

var actions = [...]string{
	Lookup: "lookup", Goto: "goto", Nop: "nop",
	Blackhole: "blackhole", Unreachable: "unreachable", Prohibit: "prohibit",
}

// ParseAction reads an action by its name in ip-rule(8).
func ParseAction(s string) (Action, bool) {
	i := slices.Index(actions[:], s)
	return Action(max(i, 0)), s != "" && i > 0
}

// String returns the name in ip-rule(8).
func (a Action) String() string {
	if int(a) < len(actions) && actions[a] != "" {
		return actions[a]
	}
	return fmt.Sprintf("action %d", uint8(a))
}

// Range is a range of numbers, both ends included.
type Range[T cmp.Ordered] struct{ Lo, Hi T }

// String returns "LO-HI", or the number where both ends are the same.
func (r Range[T]) String() string {
	if r.Lo == r.Hi {
		return fmt.Sprint(r.Lo)
	}
	return fmt.Sprintf("%v-%v", r.Lo, r.Hi)
}

func compareRange[T cmp.Ordered](a, b Range[T]) int {
	return cmp.Or(cmp.Compare(a.Lo, b.Lo), cmp.Compare(a.Hi, b.Hi))
}

// Order says who chooses a rule's priority.
type Order uint8

// Who chooses a priority.
const (
	Given    Order = iota // the spec does, or other rules rely on the number
	Numbered              // we do: any number between the rules of lower and those of higher priority will do
	Movable               // we do, and the rule selects by one prefix alone: see package blocks
)

// Rule is one entry of the routing policy database, as in ip-rule(8). The zero
// value of a selector selects everything.
type Rule struct {
	Family   Family
	Priority uint32
	Not      bool // the selectors' outcome is inverted (FIB_RULE_INVERT)

	From, To     netip.Prefix // masked; invalid (zero) or /0 for all
	IIF, OIF     string
	Mark, Mask   uint32 // fwmark; Mask 0 for no such selector
	TOS          uint8  // 0 for any
	IPProto      uint8  // 0 for any; IPPROTO_*
	SPort, DPort Range[uint16]
	UIDRange     Opt[Range[uint32]]
	L3MDev       bool

	Action Action
	Table  uint32 // for Lookup without L3MDev
	Goto   uint32 // for Goto: a priority above this rule's

	// The kernel ignores the route that the lookup found if its prefix is no longer
	// than this (suppress_prefixlength), or its device is in that group.
	SuppressPrefixLength Opt[uint32]
	SuppressIfGroup      Opt[uint32]

	// Link is the link that the rule comes and goes with, or "" for a rule that must
	// not depend on one, such as one that fails closed.
	Link   string
	Origin Origin
	Order  Order
}

// Key returns the rule without the fields that the kernel does not have, in the form
// in which equal rules are == and can be a map's key.
func (r Rule) Key() Rule {
	r.Link, r.Origin, r.Order = "", Origin{}, Given
	if r.From.Bits() <= 0 {
		r.From = netip.Prefix{}
	}
	if r.To.Bits() <= 0 {
		r.To = netip.Prefix{}
	}
	return r
}

// Bare returns the key of a rule that does the same to everything.
func (r *Rule) Bare() Rule {
	return Rule{
		Family: r.Family, Priority: r.Priority, Action: r.Action, Table: r.Table, Goto: r.Goto, L3MDev: r.L3MDev,
		SuppressPrefixLength: r.SuppressPrefixLength, SuppressIfGroup: r.SuppressIfGroup,
	}
}

// Compare orders rules by family and priority, then by everything else but Link,
// Origin and Order. 0 means that both are the same rule to the kernel.
func (r *Rule) Compare(o *Rule) int {
	// What mostly differs comes first: cmp.Or evaluates all its arguments.
	if c := cmp.Or(cmp.Compare(r.Family, o.Family), cmp.Compare(r.Priority, o.Priority)); c != 0 {
		return c
	}
	if c := compareSelector(r.From, o.From); c != 0 {
		return c
	}
	if c := compareSelector(r.To, o.To); c != 0 {
		return c
	}
	if c := cmp.Or(cmp.Compare(r.Mark, o.Mark), cmp.Compare(r.Mask, o.Mask), cmp.Compare(r.Table, o.Table), cmp.Compare(r.Action, o.Action)); c != 0 {
		return c
	}
	return r.compareRest(o)
}

func (r *Rule) compareRest(o *Rule) int {
	return cmp.Or(
		cmp.Compare(r.IIF, o.IIF),
		cmp.Compare(r.OIF, o.OIF),
		compareBool(r.Not, o.Not),
		cmp.Compare(r.TOS, o.TOS),
		cmp.Compare(r.IPProto, o.IPProto),
		compareRange(r.SPort, o.SPort),
		compareRange(r.DPort, o.DPort),
		compareOpt(r.UIDRange, o.UIDRange, compareRange[uint32]),
		compareBool(r.L3MDev, o.L3MDev),
		cmp.Compare(r.Goto, o.Goto),
		compareOpt(r.SuppressPrefixLength, o.SuppressPrefixLength, cmp.Compare[uint32]),
		compareOpt(r.SuppressIfGroup, o.SuppressIfGroup, cmp.Compare[uint32]),
	)
}

// compareSelector treats an absent prefix and one of length 0 as equal: the kernel
// stores neither (net/core/fib_rules.c, src_len and dst_len).
func compareSelector(a, b netip.Prefix) int {
	if a.Bits() <= 0 && b.Bits() <= 0 {
		return 0
	}
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// SameOutcome says whether two rules do the same to a packet that both select.
func (r *Rule) SameOutcome(o *Rule) bool {
	return r.Action == o.Action && r.Table == o.Table && r.Goto == o.Goto && r.L3MDev == o.L3MDev &&
		r.SuppressPrefixLength == o.SuppressPrefixLength && r.SuppressIfGroup == o.SuppressIfGroup
}

// Overlaps says whether there are packets that two rules of one family both select, as
// far as their selectors tell. One with Not overlaps with everything.
func (r *Rule) Overlaps(o *Rule) bool {
	if r.Not || o.Not {
		return true
	}
	prefixes := func(p, q netip.Prefix) bool { return p.Bits() <= 0 || q.Bits() <= 0 || p.Overlaps(q) }
	names := func(p, q string) bool { return p == "" || q == "" || p == q }
	numbers := func(p, q uint8) bool { return p == 0 || q == 0 || p == q }
	ports := func(p, q Range[uint16]) bool { return p.Hi == 0 || q.Hi == 0 || p.Lo <= q.Hi && q.Lo <= p.Hi }
	a, b := r.UIDRange, o.UIDRange
	users := !a.Set || !b.Set || a.Value.Lo <= b.Value.Hi && b.Value.Lo <= a.Value.Hi
	return prefixes(r.From, o.From) && prefixes(r.To, o.To) && (r.Mark^o.Mark)&r.Mask&o.Mask == 0 && names(r.IIF, o.IIF) && names(r.OIF, o.OIF) &&
		numbers(r.TOS, o.TOS) && numbers(r.IPProto, o.IPProto) && ports(r.SPort, o.SPort) && ports(r.DPort, o.DPort) && users
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func compareOpt[T comparable](a, b Opt[T], compare func(a, b T) int) int {
	if !a.Set || !b.Set {
		return compareBool(a.Set, b.Set)
	}
	return compare(a.Value, b.Value)
}
