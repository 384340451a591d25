package gen

import (
	"net/netip"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// excuseGateways marks gateways as onlink where a rule of the spec would spoil the
// kernel's check of them, see fib.GatewayRules. If such a rule exists before the subnet's
// route is in the table (with networkd, or with the oneshot from the second run on), the
// kernel refuses a valid gateway, and networkd gives the link up for it. That an address
// reaches the gateway was checked already.
func (c *compiler) excuseGateways() {
	var rules fib.GatewayRules
	for _, r := range c.state.Rules {
		rules.Add(r)
	}
	subnets := c.subnets()
	for i := range c.state.Routes {
		if r := &c.state.Routes[i]; len(r.Nexthops) == 1 && r.Nexthops[0].Via.IsValid() {
			n := &r.Nexthops[0]
			n.OnLink = n.OnLink || rules.Catch(n.Via) && !subnets.elsewhere(n)
		}
	}
}

// subnets has for each IPv6 subnet of the spec the link with an address in it, or "" for several.
type subnets struct {
	links map[netip.Prefix]string
	bits  map[int]bool
}

func (c *compiler) subnets() subnets {
	s := subnets{map[netip.Prefix]string{}, map[int]bool{}}
	for i := range c.spec.Uplinks {
		link := c.linkOf(c.spec.Uplinks[i].Name)
		for _, p := range c.spec.Uplinks[i].Addresses {
			if p.Addr().Is4() {
				continue
			}
			s.bits[p.Bits()] = true
			if other, there := s.links[p.Masked()]; there && other != link {
				s.links[p.Masked()] = ""
			} else {
				s.links[p.Masked()] = link
			}
		}
	}
	return s
}

// elsewhere says whether an IPv6 gateway lies in a subnet of another link too. The kernel
// then refuses onlink as a mistake (ip6_route_check_nh_onlink).
func (s subnets) elsewhere(n *fib.Nexthop) bool {
	if n.Via.Is4() {
		return false
	}
	for bits := range s.bits {
		if p, err := n.Via.Prefix(bits); err == nil {
			if link, there := s.links[p]; there && link != n.Link {
				return true
			}
		}
	}
	return false
}
