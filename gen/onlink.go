package gen

import (
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// excuseGateways marks gateways as onlink where a rule of the spec would spoil the
// kernel's check of them, see fib.GatewayRules. Where such a rule is there before the
// subnet's route is in that table, as with networkd, or with the oneshot from the second
// run on, a right gateway is refused, and networkd gives the link up for it. That an
// address reaches the gateway was checked already.
func (c *compiler) excuseGateways() {
	var rules fib.GatewayRules
	for _, r := range c.state.Rules {
		rules.Add(r)
	}
	for i := range c.state.Routes {
		if r := &c.state.Routes[i]; len(r.Nexthops) == 1 && r.Nexthops[0].Via.IsValid() {
			n := &r.Nexthops[0]
			n.OnLink = n.OnLink || rules.Catch(n.Via) && !c.elsewhere(n)
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
