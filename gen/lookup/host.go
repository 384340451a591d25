package lookup

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Loopback is the interface by which the host's own packets "come in".
const Loopback = "lo"

// Link is a network interface.
type Link struct {
	Name           string
	Up, Carrier    bool
	Group          uint32
	Loopback       bool
	Forwarding     bool  // net.ipv4.conf.LINK.forwarding
	ReversePath    uint8 // net.ipv4.conf.{all,LINK}.rp_filter, the higher
	IgnoreLinkDown bool  // net.ipv{4,6}.conf.LINK.ignore_routes_with_linkdown
}

// Neighbour is a host on a link.
type Neighbour struct {
	Link string
	Addr netip.Addr
}

// Host is the routing state of a host. Links are interface names everywhere.
type Host struct {
	Links     []Link
	Addresses []fib.Address // those of one link and family are in the kernel's order
	Routes    []fib.Route   // of all tables; routes that compare as equal are in the kernel's order
	Rules     []fib.Rule    // those of one priority in the kernel's order

	// Forwarding6 is net.ipv6.conf.all.forwarding. Without it, the kernel avoids IPv6
	// gateways that do not answer, which are in Failed.
	Forwarding6 bool
	Failed      map[Neighbour]bool

	NonLocalBind6 bool // net.ipv6.ip_nonlocal_bind
}

// table identifies a routing table.
type table struct {
	family fib.Family
	id     uint32
}

// Resolver answers for a Host. It does not change; make a new one for another state.
type Resolver struct {
	host     Host
	links    map[string]*Link
	tables   map[table]*prefixes[*fib.Route]
	rules    map[fib.Family][]*fib.Rule
	selected map[fib.Family]*selection // of rules
	held     map[netip.Addr]bool
	on       map[string][]fib.Address // by link
}

// New returns a Resolver for a host, which the caller must not change afterwards.
func New(h Host) *Resolver {
	k := &Resolver{
		host: h, links: make(map[string]*Link, len(h.Links)), tables: map[table]*prefixes[*fib.Route]{},
		rules: map[fib.Family][]*fib.Rule{}, selected: map[fib.Family]*selection{}, held: make(map[netip.Addr]bool, len(h.Addresses)),
		on: map[string][]fib.Address{},
	}
	for i := range h.Links {
		k.links[h.Links[i].Name] = &h.Links[i]
	}
	for i := range h.Addresses {
		a := h.Addresses[i]
		k.held[a.Prefix.Addr()] = true
		k.on[a.Link] = append(k.on[a.Link], a)
	}
	for i := range h.Routes {
		r := &h.Routes[i]
		t := table{r.Family, r.Table}
		if k.tables[t] == nil {
			k.tables[t] = &prefixes[*fib.Route]{}
		}
		k.tables[t].add(r.Dst, r)
	}
	for _, t := range k.tables {
		for _, routes := range t.of {
			if len(routes) > 1 {
				slices.SortStableFunc(routes, func(a, b *fib.Route) int { return cmp.Compare(a.Metric, b.Metric) })
			}
		}
	}
	for i := range h.Rules {
		r := &h.Rules[i]
		k.rules[r.Family] = append(k.rules[r.Family], r)
	}
	for f, rules := range k.rules {
		slices.SortStableFunc(rules, func(a, b *fib.Rule) int { return cmp.Compare(a.Priority, b.Priority) })
		k.selected[f] = newSelection(rules)
	}
	return k
}

// Host returns the host that the Resolver was made for.
func (k *Resolver) Host() Host { return k.host }

// alive says whether a route's way can be used: its link must be up (RTNH_F_DEAD), and must
// have a carrier if the host asks for that (RTNH_F_LINKDOWN). A route to the host itself
// needs no carrier (fib_sync_down_dev in net/ipv4/fib_semantics.c, fib6_ifdown).
func (k *Resolver) alive(r *fib.Route, n *fib.Nexthop) bool {
	l := k.links[n.Link]
	if l == nil || !l.Up {
		return false
	}
	return r.Scope == fib.ScopeHost || own6(r) || l.Carrier || !l.IgnoreLinkDown
}

// matching returns the routes of a table for a destination, the longest prefix first; those
// of one prefix are together, by metric.
func (k *Resolver) matching(t table, dst netip.Addr) []*fib.Route {
	if x := k.tables[t]; x != nil {
		return x.around(dst)
	}
	return nil
}

// own6 says whether an IPv6 route is for the host itself: its packets then arrive on lo
// (ip6_rt_get_dev_rcu). An anycast route is one only where the kernel made it
// (RTF_ANYCAST), for a subnet of the host's; one that somebody adds leads out.
func own6(r *fib.Route) bool {
	return r.Family == fib.Inet6 && (r.Type == fib.Local || r.Type == fib.Anycast && r.Table == fib.TableLocal && r.Dst.IsSingleIP())
}
