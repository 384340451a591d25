package importer

import (
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// index finds related items without going through all of Found for each uplink.
type index struct {
	policy    map[string]bool // of the links that have addresses: whether an address stays
	links     map[string]int  // places in Found.Links
	learning  map[uint32][]string
	routes    map[uint32][]*Route     // by table
	bySource  map[netip.Addr][]*Route // by preferred source
	subnets   map[onLink][]*Route     // those with a single way, by its link and their destination
	gateways  map[string][]way        // by link, sorted by gateway
	lookups   map[uint32][]*Rule      // by the table that they look up
	hosts     map[netip.Prefix][]tableCount
	addresses []*Address           // sorted
	on        map[string][]*uplink // by link
}

// tableCount is how many rules for one address look up a table.
type tableCount struct {
	table uint32
	count int
}

// way is a route through a gateway.
type way struct {
	via   netip.Addr
	route *Route
}

func newIndex(f *Found, rules []*Rule) *index {
	x := &index{
		policy: map[string]bool{}, links: map[string]int{}, learning: map[uint32][]string{}, routes: map[uint32][]*Route{},
		bySource: map[netip.Addr][]*Route{}, subnets: map[onLink][]*Route{}, gateways: map[string][]way{},
		lookups: map[uint32][]*Rule{}, hosts: map[netip.Prefix][]tableCount{}, on: map[string][]*uplink{},
	}
	for i := range f.Addresses {
		a := &f.Addresses[i]
		x.policy[a.Link] = x.policy[a.Link] || a.Stays
		x.addresses = append(x.addresses, a)
	}
	slices.SortStableFunc(x.addresses, func(a, b *Address) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
	for i := range f.Links {
		l := &f.Links[i]
		x.links[l.Name] = i
		if l.Learn.Any() {
			x.learning[l.Learn.Table] = append(x.learning[l.Learn.Table], l.Name)
		}
	}
	for i := range f.Routes {
		x.route(&f.Routes[i])
	}
	for _, list := range x.gateways {
		slices.SortStableFunc(list, func(a, b way) int { return a.via.Compare(b.via) })
	}
	counts := map[netip.Prefix]map[uint32]int{}
	for _, r := range rules {
		if r.Action != fib.Lookup {
			continue
		}
		x.lookups[r.Table] = append(x.lookups[r.Table], r)
		for _, p := range [...]netip.Prefix{r.From, r.To} {
			if p.IsValid() && p.IsSingleIP() && (p == r.From || r.From != r.To) {
				if counts[p] == nil {
					counts[p] = map[uint32]int{}
				}
				counts[p][r.Table]++
			}
		}
	}
	for p, tables := range counts {
		for t, n := range tables {
			x.hosts[p] = append(x.hosts[p], tableCount{t, n})
		}
	}
	return x
}

func (x *index) route(r *Route) {
	x.routes[r.Table] = append(x.routes[r.Table], r)
	if r.Src.IsValid() {
		x.bySource[r.Src] = append(x.bySource[r.Src], r)
	}
	if len(r.Nexthops) == 1 {
		k := onLink{r.Nexthops[0].Link, r.Dst}
		x.subnets[k] = append(x.subnets[k], r)
	}
	for _, h := range r.Nexthops {
		if h.Via.IsValid() {
			x.gateways[h.Link] = append(x.gateways[h.Link], way{h.Via, r})
		}
	}
}

// within returns the addresses in a prefix.
func (x *index) within(p netip.Prefix) []*Address {
	return between(x.addresses, p, func(a *Address) netip.Addr { return a.Prefix.Addr() })
}

// ways returns the routes of a link through a gateway in a prefix.
func (x *index) ways(link string, p netip.Prefix) []way {
	return between(x.gateways[link], p, func(w way) netip.Addr { return w.via })
}

// between returns the part of a sorted list whose addresses are in a prefix.
func between[T any](list []T, p netip.Prefix, of func(T) netip.Addr) []T {
	i, _ := slices.BinarySearchFunc(list, p.Masked().Addr(), func(x T, to netip.Addr) int { return of(x).Compare(to) })
	j := i
	for j < len(list) && p.Contains(of(list[j])) {
		j++
	}
	return list[i:j]
}
