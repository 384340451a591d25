package fib

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// RouteType is what a route does with a packet, numbered as RTN_* in
// include/uapi/linux/rtnetlink.h and named as in ip-route(8).
type RouteType uint8

// The types that a route here can have.
const (
	Unicast          RouteType = 1
	Local            RouteType = 2
	Broadcast        RouteType = 3
	Anycast          RouteType = 4
	Multicast        RouteType = 5
	RouteBlackhole   RouteType = 6
	RouteUnreachable RouteType = 7
	RouteProhibit    RouteType = 8
	Throw            RouteType = 9
)

var routeTypes = [...]string{
	Unicast: "unicast", Local: "local", Broadcast: "broadcast", Anycast: "anycast", Multicast: "multicast",
	RouteBlackhole: "blackhole", RouteUnreachable: "unreachable", RouteProhibit: "prohibit", Throw: "throw",
}

// ParseRouteType reads a type by its name in ip-route(8).
func ParseRouteType(s string) (RouteType, bool) {
	i := slices.Index(routeTypes[:], s)
	return RouteType(max(i, 0)), i > 0
}

// String returns the name in ip-route(8).
func (t RouteType) String() string {
	if int(t) < len(routeTypes) && t != 0 {
		return routeTypes[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// HasDevice says whether routes of this type leave by a link. The others end a
// packet's way where they stand, and belong to no link in the kernel.
func (t RouteType) HasDevice() bool { return t < RouteBlackhole }

// Scope is an IPv4 route's distance, RT_SCOPE_* in include/uapi/linux/rtnetlink.h.
// IPv6 routes have none: it is 0 there.
type Scope uint8

// The scopes that have names.
const (
	ScopeUniverse Scope = 0
	ScopeSite     Scope = 200
	ScopeLink     Scope = 253
	ScopeHost     Scope = 254
	ScopeNowhere  Scope = 255
)

// ParseScope reads a scope by its name in ip-route(8); "universe" is "global".
func ParseScope(s string) (Scope, bool) {
	switch s {
	case "global", "universe":
		return ScopeUniverse, true
	case "site":
		return ScopeSite, true
	case "link":
		return ScopeLink, true
	case "host":
		return ScopeHost, true
	case "nowhere":
		return ScopeNowhere, true
	}
	return 0, false
}

// String returns the name in ip-route(8), or the number.
func (s Scope) String() string {
	switch s {
	case ScopeUniverse:
		return "global"
	case ScopeSite:
		return "site"
	case ScopeLink:
		return "link"
	case ScopeHost:
		return "host"
	case ScopeNowhere:
		return "nowhere"
	}
	return fmt.Sprint(uint8(s))
}

// Nexthop is one way out of a route.
type Nexthop struct {
	Link   string     // Link.Name
	Via    netip.Addr // the gateway; invalid (zero) on the link itself
	OnLink bool       // the gateway need not lie in a connected subnet (RTNH_F_ONLINK)
	Weight uint16     // 1..256 among several; 0 where it is the only one
}

// Route is one entry of a routing table.
type Route struct {
	Family   Family
	Table    uint32
	Dst      netip.Prefix // masked; Family.Any() for a default route
	Type     RouteType
	Scope    Scope
	Metric   uint32     // RTA_PRIORITY: the lowest wins; IPv6 never has 0
	Src      netip.Addr // RTA_PREFSRC; invalid (zero) lets the kernel choose
	MTU      uint32     // bytes, RTAX_MTU; 0 for the link's; likewise for the three below
	AdvMSS   uint32     // bytes, RTAX_ADVMSS
	InitCwnd uint32     // packets, RTAX_INITCWND
	InitRwnd uint32     // packets, RTAX_INITRWND
	Nexthops []Nexthop  // none for the types without a device, several for multipath

	// Link is the link that the route comes and goes with: the first nexthop's, or
	// "" for a route that depends on no link.
	Link   string
	Origin Origin
}

// RouteKey is what makes two routes of one table the same to the kernel: it refuses
// to add the second (IPv4), or makes it another nexthop (IPv6).
type RouteKey struct {
	Family Family
	Table  uint32
	Dst    netip.Prefix
	Metric uint32
}

// Key returns the route's identity.
func (r Route) Key() RouteKey { return RouteKey{r.Family, r.Table, r.Dst, r.Metric} }

// Compare orders routes by family and table, from the longest prefix to the
// shortest, so that what a gateway needs comes before it, and by metric; then by
// everything else but Link and Origin. 0 means that both are the same to the kernel.
func (r *Route) Compare(o *Route) int {
	// What mostly differs comes first: cmp.Or evaluates all its arguments.
	if c := cmp.Or(cmp.Compare(r.Family, o.Family), cmp.Compare(r.Table, o.Table), cmp.Compare(o.Dst.Bits(), r.Dst.Bits())); c != 0 {
		return c
	}
	if c := r.Dst.Addr().Compare(o.Dst.Addr()); c != 0 {
		return c
	}
	return cmp.Or(
		cmp.Compare(r.Metric, o.Metric),
		cmp.Compare(r.Type, o.Type),
		cmp.Compare(r.Scope, o.Scope),
		r.Src.Compare(o.Src),
		cmp.Compare(r.MTU, o.MTU),
		cmp.Compare(r.AdvMSS, o.AdvMSS),
		cmp.Compare(r.InitCwnd, o.InitCwnd),
		cmp.Compare(r.InitRwnd, o.InitRwnd),
		slices.CompareFunc(r.Nexthops, o.Nexthops, Nexthop.Compare),
	)
}

// Same says whether two routes are one to the kernel, which keeps the nexthops of an
// IPv6 route in an order of its own.
func (r *Route) Same(o *Route) bool {
	if r.Family == Inet6 && len(r.Nexthops) > 1 {
		r, o = r.sorted(), o.sorted()
	}
	return r.Compare(o) == 0
}

func (r *Route) sorted() *Route {
	s := *r
	s.Nexthops = slices.SortedFunc(slices.Values(r.Nexthops), Nexthop.Compare)
	return &s
}

// Compare orders nexthops by link, gateway, flag and weight.
func (n Nexthop) Compare(o Nexthop) int {
	return cmp.Or(
		cmp.Compare(n.Link, o.Link),
		n.Via.Compare(o.Via),
		compareBool(n.OnLink, o.OnLink),
		cmp.Compare(n.Weight, o.Weight),
	)
}

// DefaultScope is what ip-route(8) gives an IPv4 route without a scope: link where
// it is delivered on the link itself, global where a gateway takes it on.
func (r Route) DefaultScope() Scope {
	switch r.Type {
	case Local:
		return ScopeHost
	case Broadcast, Multicast, Anycast:
		return ScopeLink
	case Unicast:
		if !slices.ContainsFunc(r.Nexthops, func(n Nexthop) bool { return n.Via.IsValid() }) {
			return ScopeLink
		}
	}
	return ScopeUniverse
}

// IsDefault says whether the route is for all destinations of its family.
func (r Route) IsDefault() bool { return r.Dst.Bits() == 0 }
