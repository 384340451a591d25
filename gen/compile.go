package gen

import (
	"fmt"
	"net/netip"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// Compile returns the State that the kernel must hold for a spec, in canonical order.
// It does no I/O, and gives the same State for the same Spec. Mistakes that only show
// here (two routes that the kernel would take for one) are returned as spec.Errors.
func Compile(s *spec.Spec) (fib.State, error) {
	c := compiler{
		spec:       s,
		tables:     tables(s),
		priorities: priorities(s),
		links:      map[string]int{},
		waysOut:    map[way]fib.Nexthop{},
		extraRules: map[int][]string{},
	}
	addresses, gateways := 0, 0
	for i := range s.Uplinks {
		addresses += len(s.Uplinks[i].Addresses)
		gateways += len(s.Uplinks[i].Gateways)
	}
	// What most specs come to: a subnet and two rules an address, a default route a gateway.
	c.routes = make(map[fib.RouteKey]string, addresses+gateways)
	c.state.Routes = make([]fib.Route, 0, addresses+gateways+1)
	c.state.Rules = make([]fib.Rule, 0, 2*addresses)
	c.state.Addresses = make([]fib.Address, 0, addresses)
	c.makeLinks()
	for i := range s.Uplinks {
		c.uplink(&s.Uplinks[i])
	}
	c.sharedDefault()
	c.probes()
	c.failClosed()
	c.mainFirst()
	c.distinctRules()
	c.belowFailover()
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
	n := len(c.spec.Uplinks)
	c.state.Tables, c.state.Links = make([]fib.Table, 0, n), make([]fib.Link, 0, n)
	byMatch := make(map[fib.Match]int, n)
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

func (c *compiler) uplink(u *spec.Uplink) {
	link, table := c.linkOf(u.Name), c.tables[u.Name]

	var defaults []fib.Route
	subnets := map[netip.Prefix]bool{}
	if learn := &c.state.Links[c.links[u.Name]].Learn; learn.Any() {
		for _, p := range u.Addresses {
			learn.Fixed = append(learn.Fixed, p.Addr())
		}
	}
	for i, p := range u.Addresses {
		to := &c.state.Addresses
		if u.PolicyOnly {
			to = &c.state.Held
		}
		*to = append(*to, fib.Address{Link: link, Prefix: p, Origin: u.Origin})
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

func (c *compiler) table(u *spec.Uplink, t spec.Table) uint32 {
	switch {
	case t.Uplink != "":
		return c.tables[t.Uplink]
	case t.ID != 0:
		return t.ID
	}
	return c.tables[u.Name]
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
