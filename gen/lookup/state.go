package lookup

import (
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// metricKernel6 is what the kernel gives the IPv6 routes that it makes itself
// (IP6_RT_PRIO_ADDRCONF, include/net/ip6_route.h).
const metricKernel6 = 256

// KernelRules are the rules that the kernel itself adds (fib_default_rules_init in
// net/ipv4/fib_rules.c, fib6_rules_net_init).
func KernelRules() []fib.Rule {
	rule := func(f fib.Family, priority, table uint32) fib.Rule {
		return fib.Rule{Family: f, Priority: priority, Action: fib.Lookup, Table: table}
	}
	return []fib.Rule{
		rule(fib.Inet, 0, fib.TableLocal), rule(fib.Inet, fib.PriorityMain, fib.TableMain), rule(fib.Inet, fib.PriorityMain+1, fib.TableDefault),
		rule(fib.Inet6, 0, fib.TableLocal), rule(fib.Inet6, fib.PriorityMain, fib.TableMain),
	}
}

// subnet is a subnet on a link. Only its first address brings routes to it.
type subnet struct {
	link   string
	prefix netip.Prefix
}

// localRoutes returns what table local holds for addresses (fib_add_ifaddr in
// net/ipv4/fib_frontend.c, addrconf_f6i_alloc in net/ipv6/route.c). Where the host
// forwards IPv6, the first address of each subnet is every router's
// (addrconf_join_anycast).
func localRoutes(addresses []fib.Address, forwarding6 bool) (routes []fib.Route) {
	primary := map[subnet]netip.Addr{}
	for _, a := range addresses {
		addr := a.Prefix.Addr()
		local := fib.Route{
			Family: a.Family(), Table: fib.TableLocal, Dst: netip.PrefixFrom(addr, addr.BitLen()), Type: fib.Local,
			Nexthops: []fib.Nexthop{{Link: a.Link}}, Link: a.Link, Origin: a.Origin,
		}
		if local.Family == fib.Inet {
			// The route to a subnet's second address has the first address as its source too.
			in := subnet{a.Link, a.Prefix.Masked()}
			if _, second := primary[in]; !second {
				primary[in] = addr
			}
			local.Scope, local.Src = fib.ScopeHost, primary[in]
		}
		routes = append(routes, local)
		if local.Family == fib.Inet6 && forwarding6 && a.Prefix.Bits() < 127 {
			local.Type, local.Dst = fib.Anycast, netip.PrefixFrom(a.Prefix.Masked().Addr(), 128)
			routes = append(routes, local)
		}
		if local.Family == fib.Inet6 || a.Prefix.IsSingleIP() {
			continue
		}
		if loopback4.Contains(addr) {
			local.Dst = a.Prefix.Masked()
			routes = append(routes, local)
		}
		if a.Prefix.Bits() < 31 {
			local.Type, local.Scope, local.Dst = fib.Broadcast, fib.ScopeLink, netip.PrefixFrom(fib.BroadcastOf(a.Prefix), 32)
			routes = append(routes, local)
		}
	}
	return routes
}

// connectedRoutes returns what table main holds for addresses: the kernel adds these
// routes together with the addresses.
func connectedRoutes(addresses []fib.Address) (routes []fib.Route) {
	seen := map[subnet]bool{}
	for _, a := range addresses {
		in := subnet{a.Link, a.Prefix.Masked()}
		if seen[in] || loopback4.Contains(a.Prefix.Addr()) || a.Prefix.Addr().IsLoopback() || a.Prefix.IsSingleIP() && a.Family() == fib.Inet {
			continue
		}
		seen[in] = true
		r := fib.Route{
			Family: a.Family(), Table: fib.TableMain, Dst: in.prefix, Type: fib.Unicast,
			Nexthops: []fib.Nexthop{{Link: a.Link}}, Link: a.Link, Origin: a.Origin,
		}
		if r.Family == fib.Inet {
			r.Scope, r.Src = fib.ScopeLink, a.Prefix.Addr()
		} else {
			r.Metric = metricKernel6
		}
		routes = append(routes, r)
	}
	return routes
}

// FromState returns the host that holds a State and nothing else but what the kernel adds
// by itself: its rules, the local routes and the connected ones. All links are up, under
// the names that their matches give, or "<LINK>" as in State.Text. An address that others
// configure (manage = "policy") counts as present where a route has it as its source,
// because without it the kernel would not take the route.
func FromState(s fib.State) Host {
	device := s.Syntax().Device
	h := Host{Links: []Link{{Name: Loopback, Up: true, Carrier: true, Loopback: true}}}
	there := map[string]bool{Loopback: true}
	for _, l := range s.Links {
		if name := device(l.Name); !there[name] {
			there[name] = true
			h.Links = append(h.Links, Link{Name: name, Up: true, Carrier: true, Forwarding: true})
		}
	}
	h.Addresses = []fib.Address{
		{Link: Loopback, Prefix: netip.MustParsePrefix("127.0.0.1/8")}, {Link: Loopback, Prefix: netip.MustParsePrefix("::1/128")},
	}
	own := slices.Clone(s.Addresses)
	held := map[netip.Addr]bool{}
	for _, a := range own {
		held[a.Prefix.Addr()] = true
	}
	// Routes to their subnets tell the subnets, wherever they stand among the other routes.
	for _, subnets := range []bool{true, false} {
		for i := range s.Routes {
			r := &s.Routes[i]
			if !r.Src.IsValid() || held[r.Src] || len(r.Nexthops) == 0 {
				continue
			}
			bits := r.Src.BitLen()
			if subnets {
				if !r.Dst.Contains(r.Src) || r.Nexthops[0].Via.IsValid() || r.IsDefault() {
					continue
				}
				bits = r.Dst.Bits()
			}
			held[r.Src] = true
			own = append(own, fib.Address{Link: r.Nexthops[0].Link, Prefix: netip.PrefixFrom(r.Src, bits), Origin: r.Origin})
		}
	}
	for _, a := range own {
		a.Link = device(a.Link)
		h.Addresses = append(h.Addresses, a)
	}
	// If two links are on one subnet, main has the route by the link whose address came first.
	connected := connectedRoutes(h.Addresses)
	h.Addresses = kernelOrder(h.Addresses)
	h.Routes = append(localRoutes(h.Addresses, h.Forwarding6), connected...)
	for _, r := range s.Routes {
		r.Nexthops = slices.Clone(r.Nexthops)
		for i := range r.Nexthops {
			r.Nexthops[i].Link = device(r.Nexthops[i].Link)
		}
		h.Routes = append(h.Routes, r)
	}
	h.Rules = append(KernelRules(), s.Rules...)
	return h
}

// kernelOrder reverses the IPv6 addresses: the kernel puts a new one before those of the
// same scope (ipv6_link_dev_addr in net/ipv6/addrconf.c).
func kernelOrder(addresses []fib.Address) (list []fib.Address) {
	for _, a := range addresses {
		if a.Family() == fib.Inet {
			list = append(list, a)
		}
	}
	for _, a := range slices.Backward(addresses) {
		if a.Family() == fib.Inet6 {
			list = append(list, a)
		}
	}
	return list
}
