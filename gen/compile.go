package gen

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// Compile returns the State that the kernel must hold for a spec, in canonical
// order. It does no I/O, and gives the same State for the same Spec. What only
// shows here (two routes that the kernel would take for one) comes back as
// spec.Errors.
func Compile(s *spec.Spec) (fib.State, error) {
	c := compiler{
		spec:       s,
		tables:     tables(s),
		priorities: priorities(s),
		links:      map[string]int{},
		waysOut:    map[way]fib.Nexthop{},
		routes:     make(map[fib.RouteKey]string, 4*len(s.Uplinks)),
		extraRules: map[int][]string{},
	}
	// Most uplinks have two routes and two rules a family.
	c.state.Routes = make([]fib.Route, 0, 4*len(s.Uplinks))
	c.state.Rules = make([]fib.Rule, 0, 4*len(s.Uplinks))
	c.makeLinks()
	for i := range s.Uplinks {
		c.uplink(&s.Uplinks[i])
	}
	c.sharedDefault()
	c.failClosed()
	c.mainFirst()
	c.distinctRules()
	c.dropHidden()
	c.excuseGateways()
	c.enoughForInet6()
	if err := s.Err(); err != nil {
		return fib.State{}, err
	}
	c.state.Sort()
	return c.state, nil
}

type compiler struct {
	spec       *spec.Spec
	state      fib.State
	tables     map[string]uint32
	priorities map[string]uint32
	links      map[string]int          // uplink → its index in state.Links
	routes     map[fib.RouteKey]string // the uplink that has it
	waysOut    map[way]fib.Nexthop     // by each uplink's own default route
	extraRules map[int][]string        // index in state.Rules → where the spec says a [[rule]]
}

// makeLinks makes one link of all the uplinks that match the same one.
func (c *compiler) makeLinks() {
	byMatch := map[fib.Match]int{}
	for i := range c.spec.Uplinks {
		u := &c.spec.Uplinks[i]
		c.state.Tables = append(c.state.Tables, fib.Table{ID: c.tables[u.Name], Name: u.Name})
		at, shared := byMatch[u.Match]
		if !shared {
			at = len(c.state.Links)
			byMatch[u.Match] = at
			c.state.Links = append(c.state.Links, fib.Link{Name: u.Name, Match: u.Match, PolicyOnly: u.PolicyOnly})
		}
		c.links[u.Name] = at
		l := &c.state.Links[at]
		l.Uplinks = append(l.Uplinks, fib.Named{Name: u.Name, Origin: u.Origin})
		l.MTU = max(l.MTU, u.MTU)
		l.DNS = append(l.DNS, u.DNS...)
		l.Domains = append(l.Domains, u.Domains...)
		if u.RequiredForOnline != "" {
			l.RequiredForOnline = u.RequiredForOnline
		}
		learn := fib.Learn{
			DHCP4: u.DHCP.Inet, DHCP6: u.DHCP.Inet6, RA: u.AcceptRA.Inet6,
			Table: c.tables[u.Name], DefaultRoute: u.DefaultRoute, Metric: u.Metric,
		}
		if learn.Any() {
			l.Learn = learn
		}
	}
}

func (c *compiler) linkOf(uplink string) string { return c.state.Links[c.links[uplink]].Name }

// addRoute adds a route of uplink u, unless the kernel would take it for another
// that is there; key is what to point at then.
func (c *compiler) addRoute(u *spec.Uplink, r fib.Route, key ...string) {
	if r.Family == fib.Inet6 && r.Metric == 0 {
		r.Metric = fib.MetricDefaultInet6
	}
	r.Origin = u.Origin
	if r.Family == fib.Inet6 && len(r.Nexthops) > 1 && slices.ContainsFunc(r.Nexthops, func(n fib.Nexthop) bool { return !n.Via.IsValid() }) {
		// ip6_route_multipath_add in net/ipv6/route.c.
		c.spec.Fail("IPv6 does not share traffic between several ways where one has no gateway", "give each its `via`", append([]string{"uplink", u.Name}, key...)...)
		return
	}
	if other, taken := c.routes[r.Key()]; taken {
		what := r.Dst.String()
		if r.IsDefault() {
			what = fmt.Sprintf("the %s default", r.Family)
		}
		msg := fmt.Sprintf("there is a route to %s with this metric in table %s already, uplink `%s`'s", what, c.tableName(r.Table), other)
		help := "give one of them another metric"
		if r.Table == fib.TableMain && r.IsDefault() {
			help = "give each uplink with default-route a `metric` of its own, or share one route in [multipath]"
		}
		c.spec.Fail(msg, help, append([]string{"uplink", u.Name}, key...)...)
		return
	}
	c.routes[r.Key()] = u.Name
	c.state.Routes = append(c.state.Routes, r)
}

func (c *compiler) tableName(id uint32) string {
	if id == fib.TableMain {
		return "main"
	}
	for _, t := range c.state.Tables {
		if t.ID == id {
			return t.Name
		}
	}
	return fmt.Sprint(id)
}

func (c *compiler) uplink(u *spec.Uplink) {
	link, table := c.linkOf(u.Name), c.tables[u.Name]

	var defaults []fib.Route
	subnets := map[netip.Prefix]bool{}
	for i, p := range u.Addresses {
		if !u.PolicyOnly {
			c.state.Addresses = append(c.state.Addresses, fib.Address{Link: link, Prefix: p, Origin: u.Origin})
		}
		if p.IsSingleIP() || subnets[p.Masked()] {
			continue // no subnet of its own
		}
		subnets[p.Masked()] = true
		r := fib.Route{
			Family: fib.FamilyOf(p.Addr()), Table: table, Dst: p.Masked(), Type: fib.Unicast,
			Src: p.Addr(), Nexthops: []fib.Nexthop{{Link: link}}, Link: link,
		}
		if r.Family == fib.Inet {
			// With scope global, a gateway inside the subnet would be refused (ENETUNREACH).
			r.Scope = fib.ScopeLink
		}
		c.addRoute(u, r, "addresses", spec.Element(i))
	}
	for i, gw := range u.Gateways {
		f := fib.FamilyOf(gw)
		r := fib.Route{
			Family: f, Table: table, Dst: f.Any(), Type: fib.Unicast,
			Nexthops: []fib.Nexthop{{Link: link, Via: gw, OnLink: u.OnLink}}, Link: link,
		}
		defaults = append(defaults, r)
		c.addRoute(u, r, "gateways", spec.Element(i))
	}
	for i := range u.Routes {
		defaults = append(defaults, c.extraRoute(u, i)...)
	}
	key := "default-route"
	if u.Metric != 0 {
		key = "metric"
	}
	for _, f := range fib.Families {
		r, ok := best(defaults, f)
		if !ok {
			continue
		}
		c.waysOut[way{u.Name, f}] = r.Nexthops[0]
		if u.DefaultRoute {
			r.Table, r.Metric = fib.TableMain, u.Metric
			c.addRoute(u, r, key)
		}
	}

	c.ownRules(u)
	for i := range u.Rules {
		c.extraRule(u, i)
	}
}

// best returns the default route of a family that the uplink's table would use.
func best(defaults []fib.Route, f fib.Family) (r fib.Route, ok bool) {
	for _, d := range defaults {
		if d.Family == f && (!ok || d.Metric < r.Metric) {
			r, ok = d, true
		}
	}
	return r, ok
}

// extraRoute adds a [[uplink.NAME.route]], and returns it where it is a default
// route of the uplink.
func (c *compiler) extraRoute(u *spec.Uplink, i int) (defaults []fib.Route) {
	e := &u.Routes[i]
	link := c.linkOf(u.Name)
	for _, f := range fib.Families {
		if !e.Families.Has(f) {
			continue
		}
		r := fib.Route{
			Family: f, Table: c.table(u, e.Table), Dst: e.To, Type: e.Type, Metric: e.Metric, Src: e.Src,
			MTU: e.MTU, AdvMSS: e.AdvMSS, InitCwnd: e.InitCwnd, InitRwnd: e.InitRwnd,
		}
		if !r.Dst.IsValid() {
			r.Dst = f.Any()
		}
		switch {
		case !e.Type.HasDevice():
		case e.Nexthops != nil:
			for _, h := range e.Nexthops {
				other := c.spec.Uplink(h.Uplink)
				r.Nexthops = append(r.Nexthops, fib.Nexthop{
					Link: c.linkOf(h.Uplink), Via: h.Via, Weight: h.Weight, OnLink: h.Via.IsValid() && (h.OnLink || other.OnLink) && (len(e.Nexthops) == 1 || !connected(other, h.Via)),
				})
			}
			// Systemd 247 wants the way by the file's own link first.
			slices.SortStableFunc(r.Nexthops, func(a, b fib.Nexthop) int { return ownFirst(link, a) - ownFirst(link, b) })
			r.Nexthops = single(r.Nexthops)
			r.Link = r.Nexthops[0].Link
		default:
			r.Nexthops = []fib.Nexthop{{Link: link, Via: e.Via, OnLink: e.Via.IsValid() && (e.OnLink || u.OnLink)}}
			r.Link = link
		}
		if f == fib.Inet {
			r.Scope = r.DefaultScope()
			if e.Scope.Set {
				r.Scope = e.Scope.Value
			}
		}
		if e.IsUplinkDefault() {
			defaults = append(defaults, r)
		}
		c.addRoute(u, r, "route", spec.Element(i))
	}
	return defaults
}

// connected says whether a gateway lies in a subnet of the uplink's, so that it can do
// without onlink: networkd has no such thing in a multipath route.
func connected(u *spec.Uplink, gateway netip.Addr) bool {
	return gateway.Is6() && gateway.IsLinkLocalUnicast() || slices.ContainsFunc(u.Addresses, func(p netip.Prefix) bool { return p.Contains(gateway) })
}

// enoughForInet6 reports a link that is to carry IPv6 with an MTU that is too low for
// it: the kernel has no IPv6 there then.
func (c *compiler) enoughForInet6() {
	for _, u := range c.spec.Uplinks {
		if u.MTU == 0 || u.MTU >= 1280 {
			continue
		}
		link := c.linkOf(u.Name)
		if slices.ContainsFunc(c.state.Addresses, func(a fib.Address) bool { return a.Link == link && a.Family() == fib.Inet6 }) ||
			slices.ContainsFunc(c.state.Routes, func(r fib.Route) bool {
				return r.Family == fib.Inet6 && slices.ContainsFunc(r.Nexthops, func(n fib.Nexthop) bool { return n.Link == link })
			}) {
			c.spec.Fail(fmt.Sprintf("the kernel switches IPv6 off on a link with an MTU of %d, and there are IPv6 addresses or routes for it", u.MTU), "IPv6 needs at least 1280 (RFC 8200)", "uplink", u.Name, "mtu")
		}
	}
}

func ownFirst(link string, n fib.Nexthop) int {
	if n.Link == link {
		return 0
	}
	return 1
}

// single drops the weight of an only nexthop: nothing is shared then.
func single(hops []fib.Nexthop) []fib.Nexthop {
	if len(hops) == 1 {
		hops[0].Weight = 0
	}
	return hops
}

func (c *compiler) table(u *spec.Uplink, t spec.Table) uint32 {
	switch {
	case t.Uplink != "":
		return c.tables[t.Uplink]
	case t.ID != 0:
		return t.ID
	}
	return c.tables[u.Name]
}

// ownRules adds the rules that follow from the uplink itself.
func (c *compiler) ownRules(u *spec.Uplink) {
	base := fib.Rule{Action: fib.Lookup, Table: c.tables[u.Name], Link: c.ruleLink(u), Origin: u.Origin}
	var selected []fib.Rule
	var own []netip.Prefix
	seen := map[netip.Addr]bool{}
	for _, p := range u.Addresses {
		if a := p.Addr(); !seen[a] {
			seen[a] = true
			own = append(own, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	from, to := u.From, u.To
	if from == nil {
		from = own
	}
	if to == nil {
		to = own
	}
	for _, p := range from {
		r := base
		r.Family, r.From = fib.FamilyOf(p.Addr()), p
		selected = append(selected, r)
	}
	for _, p := range to {
		r := base
		r.Family, r.To = fib.FamilyOf(p.Addr()), p
		selected = append(selected, r)
	}
	if u.Mark.Mask != 0 {
		for _, f := range fib.Families {
			// A mark says nothing of the family. Where the uplink fails closed the other
			// family must not slip past it; where it does not, a table that is empty for
			// that family would only be asked in vain.
			if u.Families().Has(f) || u.Fallthrough != 0 {
				r := base
				r.Family, r.Mark, r.Mask = f, u.Mark.Value, u.Mark.Mask
				selected = append(selected, r)
			}
		}
	}

	priority := c.priorities[u.Name]
	for _, r := range selected {
		r.Priority = priority
		if !c.spec.MainRoutesFirst {
			c.state.Rules = append(c.state.Rules, r)
			continue
		}
		specific, full := r, r
		specific.SuppressPrefixLength = fib.Some[uint32](0)
		full.Priority = priority + fullLookupOffset
		c.state.Rules = append(c.state.Rules, specific, full)
	}
}

// failClosed ends every way into the table of an uplink that fails closed, whichever
// uplink's rule leads there.
//
// It is a route of last resort in the table, in each family that is led there. With
// main-routes-first it is a rule right behind the full lookup, before any other
// uplink's: the first lookup in the table would find the route and stop, because an
// unreachable default is not suppressed (fib_rules_lookup in net/core/fib_rules.c
// asks suppress only where there was no error).
func (c *compiler) failClosed() {
	closed := map[uint32]*spec.Uplink{}
	for i := range c.spec.Uplinks {
		if u := &c.spec.Uplinks[i]; u.Fallthrough != 0 {
			closed[c.tables[u.Name]] = u
		}
	}
	if len(closed) == 0 {
		return
	}
	led := map[way]bool{}
	last := map[fib.Rule]bool{}
	for _, r := range slices.Clone(c.state.Rules) {
		u := closed[r.Table]
		if u == nil || r.Action != fib.Lookup || r.L3MDev {
			continue
		}
		led[way{u.Name, r.Family}] = true
		if !c.spec.MainRoutesFirst || r.SuppressPrefixLength.Set {
			continue
		}
		r.Priority, r.Table, r.Link = r.Priority+1, 0, ""
		r.Action = fib.Action(u.Fallthrough) // numbered alike: RTN_* and FR_ACT_*
		r.SuppressIfGroup = fib.Opt[uint32]{}
		if key := r.Key(); !last[key] {
			last[key] = true
			c.state.Rules = append(c.state.Rules, r)
		}
	}
	if c.spec.MainRoutesFirst {
		return
	}
	for i := range c.spec.Uplinks {
		u := &c.spec.Uplinks[i]
		for _, f := range fib.Families {
			if u.Fallthrough != 0 && (led[way{u.Name, f}] || u.Learns(f)) {
				c.addRoute(u, fib.Route{Family: f, Table: c.tables[u.Name], Dst: f.Any(), Type: u.Fallthrough, Metric: 4294967295}, "fallthrough")
			}
		}
	}
}

// ruleLink returns the link whose coming and going the uplink's rules follow:
// none where they fail closed, because that is when they are needed most.
func (c *compiler) ruleLink(u *spec.Uplink) string {
	if u.Fallthrough != 0 {
		return ""
	}
	return c.linkOf(u.Name)
}

// extraRule adds a [[uplink.NAME.rule]], one for each of its families.
func (c *compiler) extraRule(u *spec.Uplink, i int) {
	e := &u.Rules[i]
	r := fib.Rule{
		Priority: e.Priority, Not: e.Not, From: e.From, To: e.To, IIF: e.IIF, OIF: e.OIF,
		Mark: e.Mark.Value, Mask: e.Mark.Mask, TOS: e.TOS, IPProto: e.IPProto, SPort: e.SPort, DPort: e.DPort,
		UIDRange: e.UIDRange, L3MDev: e.L3MDev, Action: e.Action, Goto: e.Goto,
		SuppressPrefixLength: e.SuppressPrefixLength, SuppressIfGroup: e.SuppressIfGroup,
		Link: c.ruleLink(u), Origin: u.Origin,
	}
	if r.Priority == 0 {
		r.Priority = c.priorities[u.Name]
		if c.spec.MainRoutesFirst {
			r.Priority += fullLookupOffset
		}
	}
	if r.Action == fib.Lookup && !r.L3MDev {
		r.Table = c.table(u, e.Table)
	}
	if r.Action == fib.Goto && r.Goto <= r.Priority {
		c.spec.Fail(fmt.Sprintf("the rule stands at priority %d, and `goto` only goes forward", r.Priority), "", "uplink", u.Name, "rule", spec.Element(i), "goto")
	}
	if c.spec.MainRoutesFirst && r.Priority == fib.PriorityMain-1 && slices.ContainsFunc(c.spec.Uplinks, func(o spec.Uplink) bool {
		return o.Fallthrough != 0 && c.tables[o.Name] == r.Table
	}) {
		c.spec.Fail(fmt.Sprintf("a rule into a table that fails closed stands at %d at most with main-routes-first: what refuses comes right behind it", r.Priority-1), "",
			"uplink", u.Name, "rule", spec.Element(i), "priority")
	}
	for _, f := range fib.Families {
		if e.Families.Has(f) {
			r.Family = f
			c.extraRules[len(c.state.Rules)] = []string{"uplink", u.Name, "rule", spec.Element(i)}
			c.state.Rules = append(c.state.Rules, r)
		}
	}
}

// distinctRules reports a [[rule]] that is the same as another rule: the kernel
// has each only once.
func (c *compiler) distinctRules() {
	if len(c.extraRules) == 0 {
		return
	}
	rules := c.state.Rules
	sorted := make([]int, len(rules))
	for i := range sorted {
		sorted[i] = i
	}
	slices.SortFunc(sorted, func(a, b int) int { return cmp.Or(rules[a].Compare(rules[b]), a-b) })
	x := c.state.Syntax()
	for i := 1; i < len(sorted); i++ {
		first, second := sorted[i-1], sorted[i]
		if rules[first].Compare(rules[second]) != 0 {
			continue
		}
		at, extra := c.extraRules[second]
		if !extra {
			at = c.extraRules[first]
		}
		c.spec.Fail("the same rule twice: "+x.Rule("add", rules[second]), "", at...)
	}
}

// mainFirst adds the rules that look main's specific routes up before the uplinks'
// defaults.
func (c *compiler) mainFirst() {
	if !c.spec.MainRoutesFirst {
		return
	}
	for _, f := range fib.Families {
		if slices.ContainsFunc(c.state.Rules, func(r fib.Rule) bool { return r.Family == f }) {
			c.state.Rules = append(c.state.Rules, fib.Rule{
				Family: f, Priority: priorityMainSpecific, Action: fib.Lookup, Table: fib.TableMain,
				SuppressPrefixLength: fib.Some[uint32](0), Origin: fib.Origin{File: c.spec.Files[0]},
			})
		}
	}
}

// sharedMetric is the metric of [multipath]'s first route in main. The routes of
// uplinks that stand there one by one come behind.
const sharedMetric = 1

// sharedDefault adds the default routes of [multipath] to main.
//
// For IPv6 that is one route. For IPv4 there is one for each uplink, with a metric
// of its own and the uplink's own way first: the first carries the traffic, and
// each of them would do. A route follows its link, and networkd takes a multipath
// route down with the link in whose file it stands; with one route for all, the
// host would lose every way out with that link (systemd 257 and 262, measured).
// The kernel joins IPv6 routes of one metric by itself, so there it is enough that
// each link's file has its own nexthop.
func (c *compiler) sharedDefault() {
	for _, f := range fib.Families {
		var sharing []*spec.Uplink
		var hops []fib.Nexthop
		for _, m := range c.spec.Multipath {
			u := c.spec.Uplink(m.Uplink)
			if hop, ok := c.wayOut(u, f); ok {
				hop.Weight = m.Weight
				sharing, hops = append(sharing, u), append(hops, hop)
			}
		}
		if c.beforeShared(f, uint32(len(sharing))) {
			continue
		}
		for i, u := range sharing {
			hops[i].OnLink = hops[i].OnLink && (len(hops) == 1 || !connected(u, hops[i].Via))
		}
		for i, u := range sharing {
			if f == fib.Inet6 && i > 0 {
				break
			}
			r := fib.Route{
				Family: f, Table: fib.TableMain, Dst: f.Any(), Type: fib.Unicast, Metric: sharedMetric + uint32(i),
				Nexthops: single(slices.Concat(hops[i:i+1], hops[:i], hops[i+1:])), Link: hops[i].Link,
			}
			if f == fib.Inet {
				r.Scope = r.DefaultScope()
			}
			c.addRoute(u, r, "default-route")
		}
	}
}

// beforeShared reports uplinks whose own default route in main would come before
// or between those that n uplinks share, and says whether there are any.
func (c *compiler) beforeShared(f fib.Family, n uint32) (found bool) {
	if n == 0 {
		return false
	}
	if f == fib.Inet6 {
		n = 1 // one route for all
	}
	for i := range c.spec.Uplinks {
		u := &c.spec.Uplinks[i]
		metric := u.Metric
		if f == fib.Inet6 && metric == 0 {
			metric = fib.MetricDefaultInet6
		}
		if _, ok := c.wayOut(u, f); (ok || u.Learns(f)) && u.DefaultRoute && metric < sharedMetric+n {
			c.spec.Fail(fmt.Sprintf("the %s default route of uplink `%s` would come before the one of [multipath]", f, u.Name),
				fmt.Sprintf("give it a `metric` of at least %d to stand behind, or leave default-route out", sharedMetric+n), "uplink", u.Name, "default-route")
			found = true
		}
	}
	return found
}

// way is an uplink and a family.
type way struct {
	uplink string
	family fib.Family
}

// wayOut returns the nexthop of the uplink's own default route of a family.
func (c *compiler) wayOut(u *spec.Uplink, f fib.Family) (fib.Nexthop, bool) {
	hop, ok := c.waysOut[way{u.Name, f}]
	return hop, ok
}
