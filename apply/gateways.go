package apply

import (
	"net/netip"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// lettingPass returns rules that stand while routes of one family are added: each lets
// the kernel find one gateway in table main, where a rule that is there already, and
// that may be about to go, would lead its lookup elsewhere (fib.GatewayRules). On a host
// without such rules the gateway is found there too. A rule is for one gateway on one
// card, so packets that are on their way to anywhere else do not notice; and it is ours,
// so what a killed run leaves goes with the next.
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

// inTheWay takes those operations out of removals that must come before routes are
// added. An IPv6 address of ours on one card whose subnet has a gateway that is onlink
// on another. The kernel takes onlink for a mistake as long as table main has the gateway
// elsewhere (ip6_route_check_nh_onlink, net/ipv6/route.c). And an address that makes a
// gateway none: it is the gateway's itself (ip6_route_check_nh), or the gateway is the
// broadcast address of its subnet, which it may still be after a change of the length
// (fib_check_nh, net/ipv4/fib_semantics.c; before Linux 5.14 the first one is as well).
func inTheWay(removals, routes []Op) (first, rest []Op) {
	subnets := map[netip.Prefix]map[string]bool{} // of removals; on which links a gateway in it is
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
