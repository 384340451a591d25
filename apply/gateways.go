package apply

import (
	"net/netip"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// lettingPass returns rules that stand while routes of one family are added. Each lets the kernel
// find one gateway in table main, as on a host without rules; otherwise a rule that is there
// already, perhaps one about to go, would lead the lookup elsewhere (fib.GatewayRules). Each is
// for one gateway on one card, so it affects no packet to anywhere else. They are ours, so the
// next run removes those that a killed one leaves.
func lettingPass(routes []Op, there []Rule) []*fib.Rule {
	if len(routes) == 0 {
		return nil
	}
	var rules fib.GatewayRules
	for i := range there {
		if r := &there[i]; r.Ours() && r.Family == routes[0].Route.Family {
			rules.Add(r.Rule)
		}
	}
	type hop struct {
		link string
		via  netip.Addr
	}
	var list []*fib.Rule
	seen := map[hop]bool{}
	for _, o := range routes {
		for _, n := range o.Route.Nexthops {
			if h := (hop{n.Link, n.Via}); n.Via.IsValid() && !n.OnLink && !seen[h] && rules.Catch(n.Via) {
				seen[h] = true
				list = append(list, &fib.Rule{
					Family: o.Route.Family, Priority: 0, To: netip.PrefixFrom(n.Via, n.Via.BitLen()), OIF: n.Link,
					Action: fib.Lookup, Table: fib.TableMain,
				})
			}
		}
	}
	return list
}

// inTheWay splits removals into those that must come before routes are added, and the rest. One
// kind is an IPv6 address of ours on one card whose subnet has a gateway that is onlink on
// another: the kernel takes onlink for a mistake as long as table main has the gateway elsewhere
// (ip6_route_check_nh_onlink, net/ipv6/route.c). The other is an address that keeps a gateway
// from being one: it is the gateway's own (ip6_route_check_nh), or the gateway is the broadcast
// address of its subnet, perhaps only until the prefix length changes (fib_check_nh,
// net/ipv4/fib_semantics.c; before Linux 5.14 the subnet's first address is one as well).
func inTheWay(removals, routes []Op) (first, rest []Op) {
	subnets := map[netip.Prefix]map[string]bool{} // of removals; the links that have an onlink gateway in each
	lengths, vias := map[int]bool{}, map[netip.Addr]bool{}
	for _, o := range removals {
		if p := o.Address.Prefix; p.Addr().Is6() {
			subnets[p.Masked()], lengths[p.Bits()] = map[string]bool{}, true
		}
	}
	for _, o := range routes {
		for _, n := range o.Route.Nexthops {
			if vias[n.Via] = true; !n.OnLink {
				continue
			}
			for bits := range lengths {
				if p, err := n.Via.Prefix(bits); err == nil && subnets[p] != nil {
					subnets[p][n.Link] = true
				}
			}
		}
	}
	for _, o := range removals {
		links, own := subnets[o.Address.Prefix.Masked()], 0
		if links[o.Address.Link] {
			own = 1
		}
		p := o.Address.Prefix
		none := vias[p.Addr()]
		if p.Addr().Is4() {
			none = p.Bits() < 31 && (vias[fib.BroadcastOf(p)] || vias[p.Masked().Addr()])
		}
		if len(links) > own || none {
			first = append(first, o)
		} else {
			rest = append(rest, o)
		}
	}
	return first, rest
}
