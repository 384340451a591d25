package apply

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// LearnedFrom lists the protocols of the routes that Scope.Learned asks for. static is for what
// networkd itself puts into an uplink's table.
var LearnedFrom = []uint8{ProtocolKernel, ProtocolBoot, ProtocolStatic, ProtocolRA, ProtocolDHCP}

// learned is what links have learned, as the kernel shows it.
type learned struct {
	addresses map[string][]Address // by interface name
	main      map[string][]Route   // routes of table main that may be copied, by interface name
	there     map[fib.RouteKey]bool
	subnets   map[subnet]bool // that others have put into a table already
}

type subnet struct {
	table uint32
	dst   netip.Prefix
	link  string
}

// readLearned sorts a snapshot by the links that learn something.
func readLearned(have Snapshot) learned {
	l := learned{addresses: learnedAddresses(have), main: map[string][]Route{}, there: map[fib.RouteKey]bool{}, subnets: map[subnet]bool{}}
	for _, r := range have.Routes {
		if r.Ours() || len(r.Nexthops) == 0 {
			continue
		}
		if r.Table != fib.TableMain {
			// Also where its time is over: none can be put beside it.
			l.there[r.Key()] = true
			if !r.Nexthops[0].Via.IsValid() {
				l.subnets[subnet{r.Table, r.Dst, r.Nexthops[0].Link}] = true
			}
			continue
		}
		// The kernel keeps a route whose time is over for up to half a minute more, and says
		// nothing when it stops using it.
		if r.Type != fib.Unicast || !mayBeLearned(r) || r.Expires < 0 {
			continue
		}
		for _, n := range r.Nexthops {
			one := r
			one.Nexthops, one.Link = []fib.Nexthop{{Link: n.Link, Via: n.Via, OnLink: n.OnLink}}, n.Link
			l.main[n.Link] = append(l.main[n.Link], one)
		}
	}
	return l
}

// learnedAddresses returns by interface the addresses that may have been learned.
func learnedAddresses(have Snapshot) map[string][]Address {
	on := map[string][]Address{}
	for _, a := range have.Addresses {
		if !a.Ours && !a.Duplicate && isGlobal(a.Prefix.Addr()) {
			on[a.Link] = append(on[a.Link], a)
		}
	}
	return on
}

// mayBeLearned says whether a route of table main can come from a DHCP server or a router. Of the
// kernel's own routes this holds for an IPv6 prefix, which may have been announced without an
// address in it. The others follow from addresses, and so do routes to a single address, which
// come with the addresses of dhclient and NetworkManager.
func mayBeLearned(r Route) bool {
	switch r.Protocol {
	case ProtocolBoot, ProtocolRA, ProtocolDHCP:
		return true
	case ProtocolKernel:
		return r.Family == fib.Inet6 && isGlobal(r.Dst.Addr()) && !r.Dst.IsSingleIP()
	}
	return false
}

// isGlobal says whether an address has a meaning beyond its link.
func isGlobal(a netip.Addr) bool {
	return a.IsGlobalUnicast() // neither loopback, nor link-local, nor multicast
}

// of returns the rules and routes that follow from what a link has learned, and the time until
// the first of the routes expires; 0 for never.
func (l learned) of(link ResolvedLink) (rules []fib.Rule, routes []fib.Route, until time.Duration) {
	learn, dev := link.Learn, link.Device.Name
	origin := link.Uplinks[0].Origin
	subnets := map[netip.Prefix]bool{}
	for _, a := range l.addresses[dev] {
		f := a.Family()
		if !learn.Takes(a.Prefix.Addr()) {
			continue
		}
		for _, r := range learn.Rules {
			if r.Family == f {
				r := r.For(a.Prefix.Addr())
				if r.Link != "" {
					r.Link = dev
				}
				rules = append(rules, r)
			}
		}
		dst := a.Prefix.Masked()
		if a.Prefix.IsSingleIP() || subnets[dst] || l.subnets[subnet{learn.Table, dst, dev}] {
			continue
		}
		subnets[dst] = true
		r := fib.Route{Family: f, Table: learn.Table, Dst: dst, Type: fib.Unicast, Nexthops: []fib.Nexthop{{Link: dev}}, Link: dev, Origin: origin}
		if f == fib.Inet {
			r.Scope, r.Src = fib.ScopeLink, a.Prefix.Addr()
		} else {
			// Without a source: the kernel's preference among the addresses in one IPv6 subnet
			// changes (RFC 6724).
			r.Metric = f.Metric(0)
		}
		routes = append(routes, r)
	}
	copied, until := l.copied(link, subnets)
	return rules, append(routes, copied...), until
}

// copied returns the routes of table main by a link as they must stand in the uplink's table.
// Where networkd has put its own there, there is nothing to copy.
func (l learned) copied(link ResolvedLink, subnets map[netip.Prefix]bool) (routes []fib.Route, until time.Duration) {
	learn, dev := link.Learn, link.Device.Name
	candidates := slices.Clone(l.main[dev])
	// The preferred router comes first, and of two routes the one that the kernel takes. This
	// also makes the order the same in every run.
	slices.SortStableFunc(candidates, func(a, b Route) int {
		return cmp.Or(cmp.Compare(b.Pref, a.Pref), cmp.Compare(a.Metric, b.Metric), a.Nexthops[0].Via.Compare(b.Nexthops[0].Via))
	})
	taken := map[fib.RouteKey]bool{}
	for _, c := range candidates {
		r := c.Route
		onLink := !r.Nexthops[0].Via.IsValid()
		if !learn.Learns(r.Family) || onLink && (subnets[r.Dst] || l.subnets[subnet{learn.Table, r.Dst, dev}]) {
			continue
		}
		if r.Src.IsValid() && !slices.ContainsFunc(l.addresses[dev], func(a Address) bool { return a.Prefix.Addr() == r.Src }) {
			continue // its address is gone, and the kernel is about to remove the route
		}
		r.Table, r.Origin = learn.Table, link.Uplinks[0].Origin
		// To the kernel two routers with one metric are one route with two ways, over which it
		// would spread the packets.
		for taken[r.Key()] {
			r.Metric++
		}
		if l.there[r.Key()] {
			continue
		}
		taken[r.Key()] = true
		if onLink {
			subnets[r.Dst] = true // main may have it twice: the kernel's, and its client's
		}
		routes = append(routes, r)
		if c.Expires > 0 && (until == 0 || c.Expires < until) {
			until = c.Expires
		}
	}
	return routes, until
}
