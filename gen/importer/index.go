package importer

import (
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// index finds what belongs together without going through all of Found for each uplink.
type index struct {
	policy       map[string]bool // of the links that have addresses
	links        map[string]int  // places in Found.Links
	learning     map[uint32][]string
	routes       map[uint32][]*Route // by table
	routesByLink map[string][]*Route
	lookups      map[uint32][]*Rule   // by the table that they look up
	hosts        map[tableHost]int    // how many of these are for one address
	addresses    []*Address           // sorted
	on           map[string][]*uplink // by link
}

type tableHost struct {
	table uint32
	host  netip.Prefix
}

func newIndex(f *Found, rules []*Rule) *index {
	x := &index{
		policy: map[string]bool{}, links: map[string]int{}, learning: map[uint32][]string{}, routes: map[uint32][]*Route{},
		routesByLink: map[string][]*Route{}, lookups: map[uint32][]*Rule{}, hosts: map[tableHost]int{}, on: map[string][]*uplink{},
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
		r := &f.Routes[i]
		x.routes[r.Table] = append(x.routes[r.Table], r)
		for n, h := range r.Nexthops {
			if !slices.ContainsFunc(r.Nexthops[:n], func(o fib.Nexthop) bool { return o.Link == h.Link }) {
				x.routesByLink[h.Link] = append(x.routesByLink[h.Link], r)
			}
		}
	}
	for _, r := range rules {
		if r.Action != fib.Lookup {
			continue
		}
		x.lookups[r.Table] = append(x.lookups[r.Table], r)
		for _, p := range [...]netip.Prefix{r.From, r.To} {
			if p.IsValid() && p.IsSingleIP() && (p == r.From || r.From != r.To) {
				x.hosts[tableHost{r.Table, p}]++
			}
		}
	}
	return x
}

// within returns the addresses in a prefix.
func (x *index) within(p netip.Prefix) []*Address {
	i, _ := slices.BinarySearchFunc(x.addresses, p.Masked().Addr(), func(a *Address, to netip.Addr) int { return a.Prefix.Addr().Compare(to) })
	j := i
	for j < len(x.addresses) && p.Contains(x.addresses[j].Prefix.Addr()) {
		j++
	}
	return x.addresses[i:j]
}
