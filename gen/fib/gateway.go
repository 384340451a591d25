package fib

import (
	"net/netip"
)

// GatewayRules are the rules of a set that can spoil the kernel's check of a gateway.
// Before it takes a route, the kernel looks the gateway up in the route's own table and
// then through the rules that exist at that moment, as a packet without source or mark
// (fib_check_nh in net/ipv4/fib_semantics.c, ip6_route_check_nh in net/ipv6/route.c). If a
// rule leads this lookup anywhere but to table main, which has the subnets of all
// addresses, the kernel refuses a valid gateway.
type GatewayRules struct {
	to    map[netip.Prefix]bool // those to a prefix; each uplink has rules to its own addresses
	bits  map[int]bool          // their lengths
	rules []Rule                // all others
}

// Add puts a rule into the set if it can spoil the check.
func (g *GatewayRules) Add(r Rule) {
	switch {
	case r.Action == Goto && r.Goto <= PriorityMain: // the rule that it leads to is added by itself
	case r.Action == Nop || !r.Not && asksForMore(&r) || r.Action == Lookup && r.Table == TableMain && !r.L3MDev:
	case !r.Not && r.To.Bits() > 0:
		if g.to == nil {
			g.to, g.bits = map[netip.Prefix]bool{}, map[int]bool{}
		}
		g.to[r.To.Masked()], g.bits[r.To.Bits()] = true, true
	default:
		g.rules = append(g.rules, r)
	}
}

// Catch says whether one of the rules may select the lookup of a gateway. It ignores that a
// rule for main may come first: networkd adds rules in no fixed order.
func (g *GatewayRules) Catch(gateway netip.Addr) bool {
	if gateway.Is6() && gateway.IsLinkLocalUnicast() {
		return false // never looked up
	}
	for bits := range g.bits {
		if p, err := gateway.Prefix(bits); err == nil && g.to[p] {
			return true
		}
	}
	return Any(g.rules, func(r *Rule) bool {
		matches := !asksForMore(r) && (r.To.Bits() <= 0 || r.To.Contains(gateway))
		// Which link oif names may not be known; the lookup's iif is lo for IPv4, and none
		// for IPv6.
		uncertain := r.OIF != "" || r.IIF == "lo"
		return r.Family == FamilyOf(gateway) && (matches != r.Not || uncertain && r.Not)
	})
}

// asksForMore says whether a rule selects by something that a packet with only a destination lacks.
func asksForMore(r *Rule) bool {
	return r.From.Bits() > 0 && !r.From.Contains(netip.IPv4Unspecified()) || r.Mark != 0 ||
		r.IIF != "" && r.IIF != "lo" || r.TOS != 0 || r.IPProto != 0 || r.SPort.Hi != 0 || r.DPort.Hi != 0 ||
		r.UIDRange.Value.Lo > 0 || r.L3MDev
}
