package fib

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// Protocol is the number that marks routes and rules as ours (RTA_PROTOCOL,
// FRA_PROTOCOL). iproute2 shows it as "uplink" where rt_protos.d says so. It is
// free in the kernel's list (include/uapi/linux/rtnetlink.h, RTPROT_*) and in
// iproute2's.
const Protocol = 118

// Numbers that the kernel reserves (include/uapi/linux/rtnetlink.h, RT_TABLE_*;
// net/ipv4/fib_rules.c for the priority).
const (
	TableDefault = 253
	TableMain    = 254
	TableLocal   = 255

	// PriorityMain is where the kernel's own rule looks up table main. A rule of
	// this number or above is never asked for what main has a route for.
	PriorityMain = 32766

	// FirstNumber is the first table number and the first priority that we choose where
	// the spec gives none: above what people number by hand, and away from what container
	// networks and VPNs take.
	FirstNumber = 10000

	// FullLookupOffset is how far above an uplink's rules, with main-routes-first, the
	// same rules stand again, now for the defaults of its table too.
	FullLookupOffset = PriorityMain / 2

	// MetricDefaultInet6 is what the kernel gives an IPv6 route without a metric
	// (IP6_RT_PRIO_USER, include/uapi/linux/ipv6_route.h). IPv4 keeps 0.
	MetricDefaultInet6 = 1024
)

// Family is an address family, numbered as the kernel does (AF_INET, AF_INET6).
type Family uint8

// The two families that have policy routing here.
const (
	Inet  Family = 2
	Inet6 Family = 10
)

// Families lists both, in the order that a State keeps them.
var Families = [...]Family{Inet, Inet6}

// FamilyOf returns the family of an address; an IPv4-mapped IPv6 address counts
// as IPv6, as it does for the kernel.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return Inet
	}
	return Inet6
}

// Any returns the family's whole address space: 0.0.0.0/0 or ::/0.
func (f Family) Any() netip.Prefix {
	if f == Inet {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// Bits returns the length of the family's addresses: 32 or 128.
func (f Family) Bits() int {
	if f == Inet {
		return 32
	}
	return 128
}

// Metric returns the metric that the kernel gives a route of the family for a given
// metric, or for none (0).
func (f Family) Metric(given uint32) uint32 {
	if f == Inet6 && given == 0 {
		return MetricDefaultInet6
	}
	return given
}

// String returns "IPv4" or "IPv6".
func (f Family) String() string {
	switch f {
	case Inet:
		return "IPv4"
	case Inet6:
		return "IPv6"
	}
	return fmt.Sprintf("family %d", uint8(f))
}

// Opt is a value that may be absent. Its zero value is absent.
type Opt[T comparable] struct {
	Value T
	Set   bool
}

// Some returns a present value.
func Some[T comparable](v T) Opt[T] { return Opt[T]{Value: v, Set: true} }

// Origin is where in the spec something comes from. It is carried along for
// people and takes no part in comparisons.
type Origin struct {
	File string // path as the host sees it, "/etc/uplink/uplink.toml"
	Line int    // from 1; 0 when not known
}

// String returns "FILE:LINE", or the file alone where the line is not known.
func (o Origin) String() string {
	if o.Line == 0 {
		return o.File
	}
	return fmt.Sprintf("%s:%d", o.File, o.Line)
}

// State is all that the kernel must hold for one spec. Sort puts it in
// canonical order; Compile returns it so.
type State struct {
	Tables    []Table
	Links     []Link
	Addresses []Address
	Held      []Address // addresses of links with PolicyOnly, which others configure
	Routes    []Route
	Rules     []Rule
	Probes    []Probe // by uplink, then by family
	Failover  Failover
}

// Table is a routing table's number and its name for iproute2 and networkd.
type Table struct {
	ID   uint32 // 1..4294967295
	Name string
}

// BroadcastOf returns the last address of an IPv4 prefix, which from length 31 on is a
// host's (RFC 3021).
func BroadcastOf(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		a[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(a)
}

// Match selects a link. At least one field is set, and all that are set must match.
type Match struct {
	Name   string // interface name, or a glob as in fnmatch(3)
	MAC    string // lower case, colons: "02:00:00:00:00:01"
	Driver string // kernel driver, as in udev's ID_NET_DRIVER; may be a glob
	Path   string // persistent path, as in udev's ID_PATH; may be a glob
}

// IsGlob says whether the pattern has a character that is special to fnmatch(3).
func IsGlob(pattern string) bool { return strings.ContainsAny(pattern, "*?[\\") }

// MatchGlob says whether a name fits a pattern as in fnmatch(3), where a set may begin
// with "!". The error is path.ErrBadPattern.
func MatchGlob(pattern, name string) (bool, error) {
	return path.Match(strings.ReplaceAll(pattern, "[!", "[^"), name)
}

// Device returns the interface name where the match gives it literally.
func (m Match) Device() (name string, ok bool) {
	return m.Name, m.Name != "" && !IsGlob(m.Name)
}

// IsMACAlone says whether the match has a hardware address and nothing else.
func (m Match) IsMACAlone() bool { return m.MAC != "" && m == Match{MAC: m.MAC} }

// Stacked lists the kinds of links that bear the hardware address of the card below them,
// separated by blanks. A match by the address alone means the card.
const Stacked = "vlan bridge bond team macvlan macvtap ipvlan ipvtap macsec hsr dsa vrf"

// String says in words what is matched: "name eth1, MAC 02:00:00:00:00:01".
func (m Match) String() string {
	var s []string
	for _, f := range [...]struct{ what, value string }{
		{"name", m.Name}, {"MAC", m.MAC}, {"driver", m.Driver}, {"path", m.Path},
	} {
		if f.value != "" {
			s = append(s, f.what+" "+f.value)
		}
	}
	return strings.Join(s, ", ")
}

// Link is a network interface that one or more uplinks use.
type Link struct {
	Name    string // the first of its uplinks: the key that the rest of the State refers to
	Uplinks []Named
	Match   Match

	// PolicyOnly leaves the link, its addresses and its .network file to the program that
	// has them now (manage = "policy").
	PolicyOnly bool

	// Networkd says that systemd-networkd has the link. The State then holds only the
	// rules of its learned addresses, and what its probe needs. See LeaveToNetworkd.
	Networkd bool

	MTU               uint32 // bytes; 0 leaves it alone
	DNS               []netip.Addr
	Domains           []string
	RequiredForOnline string // as in systemd.network(5); "" leaves it alone
	Learn             Learn
}

// Named is an uplink and where the spec begins to describe it.
type Named struct {
	Name   string
	Origin Origin
}

// Learn says what a link learns from its network, and where that goes.
type Learn struct {
	DHCP4, DHCP6, RA bool
	Table            uint32 // learned gateways go here
	DefaultRoute     bool   // and the default routes among them to main as well,
	Metric           uint32 // with this metric; 0 for the default

	Fixed []netip.Addr  // addresses of the spec on this link: they are not learned
	Rules []LearnedRule // the rules that each learned address needs
}

// LearnedRule is a rule that lacks its address, which is not known before the link learns it.
type LearnedRule struct {
	Rule
	To bool // the address is the destination; else it is the source
}

// For returns the rule of one address, which is of the rule's family.
func (r LearnedRule) For(a netip.Addr) Rule {
	p := netip.PrefixFrom(a, a.BitLen())
	if r.To {
		r.Rule.To = p
	} else {
		r.From = p
	}
	return r.Rule
}

// Any says whether the link learns anything.
func (l Learn) Any() bool { return l.DHCP4 || l.DHCP6 || l.RA }

// Learns says whether addresses of family f may be learned.
func (l Learn) Learns(f Family) bool {
	if f == Inet {
		return l.DHCP4
	}
	return l.DHCP6 || l.RA
}

// Takes says whether an address on the link is one that it has learned.
func (l Learn) Takes(a netip.Addr) bool {
	return l.Learns(FamilyOf(a)) && !slices.Contains(l.Fixed, a)
}

// Address is an address on a link, with the length of its subnet.
type Address struct {
	Link   string
	Prefix netip.Prefix // not masked: 192.0.2.10/24
	Origin Origin
}

// Family returns the address's family.
func (a Address) Family() Family { return FamilyOf(a.Prefix.Addr()) }

// Sort puts the State in canonical order: the one in which equal States are
// equal item by item. The order of addresses on one link is kept, because the
// first of a subnet is its primary one.
func (s *State) Sort() {
	SortStable(s.Tables, func(a, b *Table) int { return cmp.Compare(a.ID, b.ID) })
	SortStable(s.Links, func(a, b *Link) int { return cmp.Compare(a.Name, b.Name) })
	SortStable(s.Addresses, func(a, b *Address) int { return cmp.Compare(a.Link, b.Link) })
	SortStable(s.Held, func(a, b *Address) int { return cmp.Compare(a.Link, b.Link) })
	SortStable(s.Routes, (*Route).Compare)
	SortStable(s.Rules, (*Rule).Compare)
	for _, l := range s.Links {
		SortStable(l.Learn.Rules, func(a, b *LearnedRule) int {
			return cmp.Or(a.Compare(&b.Rule), compareBool(a.To, b.To))
		})
	}
}

// Learns says whether any link learns something from its network.
func (s *State) Learns() bool {
	return Any(s.Links, func(l *Link) bool { return l.Learn.Any() })
}

// Link returns the link of that name.
func (s *State) Link(name string) (Link, bool) {
	i, ok := slices.BinarySearchFunc(s.Links, name, func(l Link, n string) int { return cmp.Compare(l.Name, n) })
	if !ok {
		return Link{}, false
	}
	return s.Links[i], true
}

// Clone returns a copy that shares with s nothing that LeaveToNetworkd or DropFamily changes.
func (s *State) Clone() State {
	c := s.CloneRules()
	c.Addresses, c.Held, c.Probes = slices.Clone(s.Addresses), slices.Clone(s.Held), slices.Clone(s.Probes)
	c.Failover.Ways = slices.Clone(s.Failover.Ways)
	c.Routes = slices.Clone(s.Routes)
	for i := range c.Routes {
		c.Routes[i].Nexthops = slices.Clone(c.Routes[i].Nexthops)
	}
	return c
}

// CloneRules returns a copy whose rules, those of learned addresses included, may be changed. It
// shares the rest with s.
func (s *State) CloneRules() State {
	c := *s
	c.Rules, c.Links = slices.Clone(s.Rules), slices.Clone(s.Links)
	for i := range c.Links {
		c.Links[i].Learn.Rules = slices.Clone(c.Links[i].Learn.Rules)
	}
	return c
}

// LeaveToNetworkd removes from the State what belongs to the links that networkd has and,
// if there is any such link or networkd has "", what belongs to no link. The rules of learned
// addresses stay: networkd has no such thing (systemd issue 33540). So do probes, and what
// fails over.
func (s *State) LeaveToNetworkd(has func(link string) bool) {
	gone, used := map[string]bool{"": has("")}, s.usedLinks()
	s.Links = Without(s.Links, func(l *Link) bool {
		gone[l.Name] = has(l.Name)
		return gone[l.Name] && len(l.Learn.Rules) == 0 && !used[l.Name]
	})
	for i := range s.Links {
		l := &s.Links[i]
		l.PolicyOnly, l.Networkd = l.PolicyOnly || gone[l.Name], l.Networkd || gone[l.Name]
	}
	for _, is := range gone {
		gone[""] = gone[""] || is
	}
	s.Addresses = Without(s.Addresses, func(a *Address) bool { return gone[a.Link] })
	s.Held = Without(s.Held, func(a *Address) bool { return gone[a.Link] })
	s.leaveRoutes(gone)
	s.Rules = Without(s.Rules, func(r *Rule) bool { return gone[r.Link] })
}

// HasLinkless says whether anything in the State belongs to no link, and so exists whatever
// becomes of the links.
func (s *State) HasLinkless() bool {
	return Any(s.Routes, func(r *Route) bool { return r.Link == "" }) || Any(s.Rules, func(r *Rule) bool { return r.Link == "" })
}

// leaveRoutes removes from the routes the ways by links that networkd has. If networkd
// has the link of an IPv4 route, it has the route with all its ways. Of an IPv6 route
// each link's file has its own way (see units), and the other ways stay here, at a higher
// metric than networkd's: at one metric the kernel joins the two routes, and reports the
// protocol of only one of them.
func (s *State) leaveRoutes(gone map[string]bool) {
	taken := make(map[RouteKey]bool)
	if Any(s.Routes, func(r *Route) bool { return r.Family == Inet6 && len(r.Nexthops) > 1 }) {
		for _, r := range s.Routes {
			taken[r.Key()] = true
		}
	}
	s.Routes = Without(s.Routes, func(r *Route) bool {
		stays := slices.ContainsFunc(r.Nexthops, func(n Nexthop) bool { return !gone[n.Link] })
		return gone[r.Link] && (r.Family == Inet || !stays) || len(r.Nexthops) > 0 && !stays
	})
	for i := range s.Routes {
		r := &s.Routes[i]
		n := len(r.Nexthops)
		if r.Nexthops = Without(r.Nexthops, func(n *Nexthop) bool { return gone[n.Link] }); len(r.Nexthops) == n {
			continue
		}
		if r.Link = r.Nexthops[0].Link; len(r.Nexthops) == 1 {
			r.Nexthops[0].Weight = 0
		}
		for r.Family == Inet6 && taken[r.Key()] {
			r.Metric++
		}
		taken[r.Key()] = true
	}
	SortStable(s.Routes, (*Route).Compare)
}

// DropFamily removes all of a family from the State, for a kernel that does not have it,
// and says whether it removed anything.
func (s *State) DropFamily(f Family) bool {
	n := s.size()
	s.Addresses = Without(s.Addresses, func(a *Address) bool { return a.Family() == f })
	s.Held = Without(s.Held, func(a *Address) bool { return a.Family() == f })
	s.Routes = Without(s.Routes, func(r *Route) bool { return r.Family == f })
	s.Rules = Without(s.Rules, func(r *Rule) bool { return r.Family == f })
	s.Probes = Without(s.Probes, func(p *Probe) bool { return p.Family == f })
	s.Failover.Ways = Without(s.Failover.Ways, func(w *MainWay) bool { return w.Family == f })
	for i := range s.Links {
		learn := &s.Links[i].Learn
		learn.Rules = Without(learn.Rules, func(r *LearnedRule) bool { return r.Family == f })
	}
	return n != s.size()
}

// size counts the items that belong to one family.
func (s *State) size() int {
	n := len(s.Addresses) + len(s.Routes) + len(s.Rules) + len(s.Probes) + len(s.Failover.Ways)
	for i := range s.Links {
		n += len(s.Links[i].Learn.Rules)
	}
	return n
}
