package gen

import (
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// excuseGateways marks gateways as onlink where a rule of the spec would spoil the
// kernel's check of them. The kernel looks a gateway up before it takes a route, in the
// route's own table and then through the rules, as a packet without source or mark
// (fib_check_nh in net/ipv4/fib_semantics.c, ip6_route_check_nh in net/ipv6/route.c).
// Where such a rule is there before the subnet's route is in that table, as with
// networkd, or with the oneshot from the second run on, a right gateway is refused, and
// networkd gives the link up for it. That an address reaches the gateway was checked
// already.
func (c *compiler) excuseGateways() {
	var rules []fib.Rule
	hosts := map[netip.Addr]bool{}
	for _, r := range c.state.Rules {
		switch {
		case r.Action == fib.Nop || !r.Not && asksForMore(r):
		case !r.Not && r.To.IsSingleIP():
			hosts[r.To.Addr()] = true // each uplink has such rules
		default:
			rules = append(rules, r)
		}
	}
	for i := range c.state.Routes {
		if r := &c.state.Routes[i]; len(r.Nexthops) == 1 && r.Nexthops[0].Via.IsValid() {
			n := &r.Nexthops[0]
			if n.Via.Is6() && n.Via.IsLinkLocalUnicast() {
				continue // never looked up
			}
			n.OnLink = n.OnLink || (hosts[n.Via] || caught(rules, n.Via)) && !c.elsewhere(n)
		}
	}
}

// elsewhere says whether an IPv6 gateway lies in a subnet of another link too. The kernel
// then takes onlink for a mistake (ip6_route_check_nh_onlink).
func (c *compiler) elsewhere(n *fib.Nexthop) bool {
	return n.Via.Is6() && slices.ContainsFunc(c.spec.Uplinks, func(u spec.Uplink) bool {
		return c.linkOf(u.Name) != n.Link && connected(&u, n.Via)
	})
}

// caught says whether one of the rules can lead the lookup of a gateway elsewhere than
// to table main, which has the subnets of all addresses. That another rule for main
// comes first is no help: to networkd they come in no order.
func caught(rules []fib.Rule, gateway netip.Addr) bool {
	return slices.ContainsFunc(rules, func(r fib.Rule) bool {
		matches := !asksForMore(r) && (r.To.Bits() <= 0 || r.To.Contains(gateway))
		// Which link oif is may not be known; iif is lo for IPv4, and none for IPv6.
		uncertain := r.OIF != "" || r.IIF == "lo"
		return r.Family == fib.FamilyOf(gateway) && (matches != r.Not || uncertain && r.Not) && (r.Action != fib.Lookup || r.Table != fib.TableMain)
	})
}

// asksForMore says whether a rule selects by something that a packet with nothing but a
// destination does not have.
func asksForMore(r fib.Rule) bool {
	return r.From.Bits() > 0 && !r.From.Contains(netip.IPv4Unspecified()) || r.Mark != 0 ||
		r.IIF != "" && r.IIF != "lo" || r.TOS != 0 || r.IPProto != 0 || r.SPort.Hi != 0 || r.DPort.Hi != 0 ||
		r.UIDRange.Value.Lo > 0 || r.L3MDev
}
