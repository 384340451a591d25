package check

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/lookup"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// ID names a kind of warning. It is stable: people filter by it.
type ID string

// The kinds.
const (
	ShadowedRule        ID = "shadowed-rule"
	NoWayOut            ID = "no-way-out"
	Inet6WithoutGateway ID = "ipv6-without-gateway"
	NoConnectedSubnet   ID = "no-connected-subnet"
	Leak                ID = "source-leaks"
	EqualPriorities     ID = "equal-priorities"
	NoDefaultRoute      ID = "no-default-route"
	GatewayOnlyInTable  ID = "gateway-only-in-table"
	NothingSelects      ID = "nothing-selects"
	MetricAlone         ID = "metric-without-default-route"
	ManyRules           ID = "many-rules"
	NoUplink            ID = "no-uplink"
	ClosedLeak          ID = "fail-closed-leaks"
	FamiliesApart       ID = "families-apart"
)

// Kinds describes each kind in one sentence, for lists of them.
var Kinds = []struct {
	ID   ID
	What string
}{
	{EqualPriorities, "two rules of one priority may select the same packet and do different things: which is asked first is left to chance"},
	{ClosedLeak, "IPv6 packets for an uplink that fails closed leave by another one while its own ways are gone"},
	{FamiliesApart, "traffic that asks for no address leaves by one uplink for IPv4 and by another for IPv6, though either has both"},
	{GatewayOnlyInTable, "table main does not reach a gateway directly, only the uplink's own table does"},
	{Inet6WithoutGateway, "an uplink has IPv6 addresses and no IPv6 gateway, and for IPv4 it has one, or it learns its addresses"},
	{ManyRules, "the kernel tries many rules one after the other for each packet, because they cannot be laid out in blocks"},
	{MetricAlone, "metric is for the default routes in table main, and the uplink has none there"},
	{NoConnectedSubnet, "packets from an address to its own subnet go to a gateway"},
	{NoDefaultRoute, "traffic that asks for no address has no way out"},
	{NoUplink, "the spec has no uplink: to bring it into effect takes away all of an earlier one"},
	{NoWayOut, "rules lead into a table that has no default route"},
	{NothingSelects, "no rule and no route in main leads to an uplink"},
	{ShadowedRule, "a rule is for nothing, because an earlier one takes all that it selects, whichever link is down"},
	{Leak, "packets from an uplink's address leave by another uplink's gateway"},
	{LinkedSpec, "a file of the spec is a link out of the directories for specs"},
	{WritableSpec, "a file or directory of the spec can be written by others than root"},
}

// Warning is one thing that is probably not meant.
type Warning struct {
	ID     ID
	Uplink string
	Origin fib.Origin
	Text   string // what was found, and its consequence
	Help   string // the remedy
}

// String returns "FILE:LINE: warning: text [id]".
func (w Warning) String() string {
	return fmt.Sprintf("%s: warning: %s [%s]", w.Origin, w.Text, w.ID)
}

// Run returns all warnings, in the order of the spec.
func Run(s *spec.Spec, state fib.State) []Warning {
	c := newChecker(s, state)
	for i := range s.Uplinks {
		u := &s.Uplinks[i]
		c.settings(u)
		c.waysOut(u)
		c.sources(u)
		c.gateways(u)
	}
	if len(s.Uplinks) == 0 && len(s.Files) > 0 {
		c.found = append(c.found, Warning{
			ID: NoUplink, Origin: fib.Origin{File: s.Files[0]}, Help: "add an [uplink.NAME]; if it is to be so, take the file away",
			Text: "the spec has no uplink: to bring it into effect takes away all that is there of an earlier one",
		})
	}
	c.mainDefaults()
	c.apart()
	c.closed()
	c.shadowed()
	c.equalPriorities()
	c.inBlocks()
	slices.SortStableFunc(c.found, func(a, b Warning) int {
		return cmp.Or(strings.Compare(a.Origin.File, b.Origin.File), a.Origin.Line-b.Origin.Line)
	})
	return c.found
}

// part is a table of one family.
type part struct {
	family fib.Family
	table  uint32
}

// checker holds what the checks ask for again and again.
type checker struct {
	spec    *spec.Spec
	state   fib.State
	kernel  *lookup.Resolver
	owners  map[uint32]*spec.Uplink // of tables
	tables  map[string]uint32       // of uplinks
	links   map[string]string       // uplink → device
	origins map[fib.Origin]*spec.Uplink
	held    map[netip.Addr]bool
	near    map[netip.Prefix]bool // destinations in table main, and whether a route leads there without a gateway
	out     map[part]bool         // those whose routes lead everywhere
	routes  map[part][]fib.Route  // of each table
	leading map[part][]fib.Rule   // into each table
	gotos   []fib.Rule
	outside map[string]bool                   // devices that a route in another uplink's table, or main, leads to
	behind  map[lookup.Neighbour]*spec.Uplink // by gateway; the first of several
	rest    map[fib.Family]string             // how packets leave for which no uplink's table has a route, as words
	syntax  fib.Syntax
	found   []Warning
}

func newChecker(s *spec.Spec, state fib.State) *checker {
	host := lookup.FromState(state)
	c := &checker{
		spec: s, state: state, kernel: lookup.New(host), owners: map[uint32]*spec.Uplink{}, tables: map[string]uint32{}, links: map[string]string{},
		origins: map[fib.Origin]*spec.Uplink{}, held: map[netip.Addr]bool{}, out: map[part]bool{}, routes: map[part][]fib.Route{}, leading: map[part][]fib.Rule{},
		outside: map[string]bool{}, near: map[netip.Prefix]bool{}, behind: map[lookup.Neighbour]*spec.Uplink{}, rest: map[fib.Family]string{},
		syntax: state.Syntax(),
	}
	for i := range s.Uplinks {
		c.origins[s.Uplinks[i].Origin] = &s.Uplinks[i]
	}
	for _, t := range state.Tables {
		c.owners[t.ID], c.tables[t.Name] = s.Uplink(t.Name), t.ID
	}
	device := c.syntax.Device
	for _, l := range state.Links {
		for _, u := range l.Uplinks {
			c.links[u.Name] = device(l.Name)
		}
	}
	for _, a := range host.Addresses {
		c.held[a.Prefix.Addr()] = true
	}
	for _, r := range host.Routes {
		if r.Table == fib.TableMain {
			c.near[r.Dst] = c.near[r.Dst] || r.Type == fib.Unicast && len(r.Nexthops) == 1 && !r.Nexthops[0].Via.IsValid()
		}
	}
	for i := range s.Uplinks {
		for _, gw := range s.Uplinks[i].Gateways {
			if at := (lookup.Neighbour{Link: c.links[s.Uplinks[i].Name], Addr: gw}); c.behind[at] == nil {
				c.behind[at] = &s.Uplinks[i]
			}
		}
	}
	for _, r := range state.Routes {
		p := part{r.Family, r.Table}
		c.routes[p] = append(c.routes[p], r)
		for _, n := range r.Nexthops {
			if o := c.owners[r.Table]; o == nil || c.links[o.Name] != device(n.Link) {
				c.outside[device(n.Link)] = true
			}
		}
	}
	for _, r := range state.Rules {
		if r.Action == fib.Lookup && !r.L3MDev {
			p := part{r.Family, r.Table}
			c.leading[p] = append(c.leading[p], r)
		}
		if r.Action == fib.Goto {
			c.gotos = append(c.gotos, r)
		}
	}
	for p, routes := range c.routes {
		c.out[p] = everywhere(p.family, routes)
	}
	for _, f := range fib.Families {
		c.rest[f] = c.mainWay(f)
	}
	return c
}

func (c *checker) warn(id ID, u *spec.Uplink, help, format string, args ...any) {
	c.found = append(c.found, Warning{ID: id, Uplink: u.Name, Origin: u.Origin, Text: fmt.Sprintf(format, args...), Help: help})
}

// everywhere says whether routes lead to all usable addresses of a family: by a default route,
// or by more specific ones that together cover as much, such as the two halves that VPNs add.
func everywhere(f fib.Family, routes []fib.Route) bool {
	reached := map[netip.Prefix]bool{}
	var byLength [129][]netip.Prefix
	add := func(p netip.Prefix) {
		if !reached[p] {
			reached[p] = true
			byLength[p.Bits()] = append(byLength[p.Bits()], p)
		}
	}
	for i := range routes {
		if r := &routes[i]; r.Type == fib.Unicast {
			add(r.Dst)
		}
	}
	for bits := f.Bits(); bits > 0; bits-- {
		for _, p := range byLength[bits] {
			if around := netip.PrefixFrom(p.Addr(), bits-1).Masked(); reached[sibling(p)] {
				add(around)
			}
		}
	}
	return reached[f.Any()] || reached[globalUnicast]
}

// globalUnicast is the part of IPv6 from which addresses are assigned (RFC 4291).
var globalUnicast = netip.MustParsePrefix("2000::/3")

// sibling returns the other half of the prefix that is one bit shorter.
func sibling(p netip.Prefix) netip.Prefix {
	a := p.Addr().AsSlice()
	a[(p.Bits()-1)/8] ^= 0x80 >> ((p.Bits() - 1) % 8)
	addr, _ := netip.AddrFromSlice(a)
	return netip.PrefixFrom(addr, p.Bits())
}

// leadsOut says whether a table's routes lead everywhere.
func (c *checker) leadsOut(table uint32, f fib.Family) bool { return c.out[part{f, table}] }

// settings finds keys that do nothing, and uplinks that nothing leads to. What an uplink
// learns is not known here.
func (c *checker) settings(u *spec.Uplink) {
	if u.Metric != 0 && !u.DefaultRoute {
		c.warn(MetricAlone, u, "add `default-route = true`, or leave `metric` out", "`metric` of uplink `%s` does nothing: it is for the default routes in table main", u.Name)
	}
	table := c.tables[u.Name]
	led := len(c.leading[part{fib.Inet, table}])+len(c.leading[part{fib.Inet6, table}]) > 0
	if !led && !c.outside[c.links[u.Name]] && !c.learns(u) {
		c.warn(NothingSelects, u, "give it `addresses`, `from`, `to`, `fwmark` or a [[rule]], or `default-route = true`", "nothing leads to uplink `%s`: no rule looks its table up, and table main has no route by it", u.Name)
	}
}

func (c *checker) learns(u *spec.Uplink) bool { return u.Learns(fib.Inet) || u.Learns(fib.Inet6) }

// waysOut finds rules that lead into a table without a default route.
func (c *checker) waysOut(u *spec.Uplink) {
	table := c.tables[u.Name]
	for _, f := range fib.Families {
		if u.Fallthrough != 0 || u.LearnsGateway(f) || c.leadsOut(table, f) {
			continue
		}
		if u.Learns(f) {
			c.warn(Inet6WithoutGateway, u, "take `accept-ra = \"ipv6\"` as well, or add its IPv6 gateway to `gateways`; for IPv4 alone `dhcp = \"ipv4\"`",
				"uplink `%s` learns IPv6 addresses by DHCPv6, which brings no gateway: what it sends from them %s", u.Name, c.instead(f))
			continue
		}
		if !slices.ContainsFunc(c.leading[part{f, table}], c.inVain) {
			continue
		}
		if f == fib.Inet6 && c.leadsOut(table, fib.Inet) {
			c.warn(Inet6WithoutGateway, u, "add its IPv6 gateway to `gateways`, or leave its IPv6 addresses out", "uplink `%s` has a way out for IPv4 only: what it sends from its IPv6 addresses %s", u.Name, c.instead(f))
			continue
		}
		c.warn(NoWayOut, u, "give it a gateway or a default [[route]], or say with `fallthrough` what becomes of the rest", "table `%s` has no %s default route: what its rules select %s", u.Name, f, c.instead(f))
	}
}

// instead says what happens to packets for which an uplink's table has no route.
func (c *checker) instead(f fib.Family) string { return "goes on to table main" + c.rest[f] }

// mainWay says by which uplink table main leads out, as far as that can be known: by the
// default route with the lowest metric, unless one may be learned.
func (c *checker) mainWay(f fib.Family) string {
	first := c.mainDefault(f, func(*fib.Route) bool { return true })
	learned := slices.ContainsFunc(c.spec.Uplinks, func(u spec.Uplink) bool { return u.DefaultRoute && u.LearnsGateway(f) })
	switch {
	case first == nil || first.Type != fib.Unicast || learned:
		return ""
	case len(first.Nexthops) > 1:
		return ", and leaves by one of several uplinks"
	}
	if o := c.origins[first.Origin]; o != nil {
		return fmt.Sprintf(", and leaves by uplink `%s`", o.Name)
	}
	return ""
}

// mainDefault returns the default route in table main with the lowest metric among
// those for which so is true.
func (c *checker) mainDefault(f fib.Family, so func(*fib.Route) bool) (first *fib.Route) {
	routes := c.routes[part{f, fib.TableMain}]
	for i := range routes {
		if r := &routes[i]; r.IsDefault() && so(r) && (first == nil || r.Metric < first.Metric) {
			first = r
		}
	}
	return first
}

// inVain says whether a rule leads packets into its table for which that table, which has no
// default route, has none. Rules to the host's own addresses do not count: table local comes first.
func (c *checker) inVain(r fib.Rule) bool {
	if c.toItself(&r) {
		return false
	}
	return r.To.Bits() <= 0 || !slices.ContainsFunc(c.routes[part{r.Family, r.Table}], func(e fib.Route) bool {
		return e.Dst.Bits() <= r.To.Bits() && e.Dst.Contains(r.To.Addr())
	})
}

func (c *checker) name(table uint32) string {
	if u := c.owners[table]; u != nil {
		return u.Name
	}
	if table == fib.TableMain {
		return "main"
	}
	return fmt.Sprint(table)
}

// gateways finds gateways that the host itself would look for elsewhere, because table main
// has a route that is narrower than the subnet. A user who says onlink knows that the
// gateway is in no subnet.
func (c *checker) gateways(u *spec.Uplink) {
	for _, gw := range u.Gateways {
		if u.OnLink || gw.IsLinkLocalUnicast() || c.isNear(gw) {
			continue
		}
		r := c.kernel.Lookup(lookup.Packet{To: gw})
		if last, ok := r.Last(); ok && r.OK() && r.Way.Via.IsValid() && last.Rule.Origin.File == "" {
			c.warn(GatewayOnlyInTable, u, "take the route that leads there out of table main, or make it wider",
				"only table `%s` reaches the gateway %s: from elsewhere it is looked for by %s", u.Name, gw, r.Way.Device)
		}
	}
}

// isNear says whether table main's narrowest route to an address leads there without a
// gateway. A lookup of a packet would tell as well, but it also chooses a source among all
// addresses, which takes long.
func (c *checker) isNear(a netip.Addr) bool {
	for bits := a.BitLen(); bits > 0; bits-- {
		p, err := a.Prefix(bits)
		if near, there := c.near[p]; err == nil && there {
			return near
		}
	}
	return false
}

// mainDefaults finds families that have a way out, but none in table main. Where other
// programs add to main, or an uplink learns something, it cannot know.
func (c *checker) mainDefaults() {
	var lacking []string
	var first *spec.Uplink
	for i := range c.spec.Uplinks {
		if u := &c.spec.Uplinks[i]; u.PolicyOnly || c.learns(u) {
			return
		}
	}
	for _, f := range fib.Families {
		for i := range c.spec.Uplinks {
			if u := &c.spec.Uplinks[i]; c.leadsOut(c.tables[u.Name], f) && u.Fallthrough == 0 && !c.leadsOut(fib.TableMain, f) {
				lacking = append(lacking, f.String())
				first = cmp.Or(first, u)
				break
			}
		}
	}
	if len(lacking) > 0 {
		c.warn(NoDefaultRoute, first, "give one uplink `default-route = true`, or several a share in [multipath]",
			"table main has no %s default route: traffic that asks for no address has no way out", strings.Join(lacking, " and no "))
	}
}

// apart finds two uplinks of which one comes first in main for IPv4 and the other for IPv6,
// because a default route without a metric has 0 for IPv4 and 1024 for IPv6.
func (c *checker) apart() {
	firstIn := map[fib.Family]*spec.Uplink{}
	for _, f := range fib.Families {
		if first := c.mainDefault(f, func(r *fib.Route) bool { return len(r.Nexthops) == 1 }); first != nil {
			firstIn[f] = c.origins[first.Origin]
		}
	}
	u, other := firstIn[fib.Inet], firstIn[fib.Inet6]
	both := func(u *spec.Uplink) bool {
		return u != nil && u.DefaultRoute && c.leadsOut(c.tables[u.Name], fib.Inet) && c.leadsOut(c.tables[u.Name], fib.Inet6)
	}
	if u != other && both(u) && both(other) && u.Metric == 0 && other.Metric != 0 {
		help := fmt.Sprintf("give `%s` a `metric` above 1024", other.Name)
		if other.Metric > 1 {
			help = fmt.Sprintf("give `%s` a `metric` below %d, or `%s` one above 1024", u.Name, other.Metric, other.Name)
		}
		c.warn(FamiliesApart, u, help,
			"traffic that asks for no address leaves by uplink `%s` for IPv4 and by `%s` for IPv6: without `metric` a default route has 0 for IPv4, and 1024 for IPv6", u.Name, other.Name)
	}
}
