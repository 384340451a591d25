package check

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/lookup"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// outside has a destination of each family to which no spec has a specific route.
var outside = map[fib.Family]netip.Addr{
	fib.Inet: netip.MustParseAddr("8.8.8.8"), fib.Inet6: netip.MustParseAddr("2001:4860:4860::8888"),
}

// sources sends packets from each address of an uplink, out and into the subnet.
func (c *checker) sources(u *spec.Uplink) {
	var left leftOut
	for _, p := range u.Addresses {
		f := fib.FamilyOf(p.Addr())
		if !c.held[p.Addr()] || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		if c.leaks(u, p.Addr(), f, &left) || p.IsSingleIP() {
			continue
		}
		to := p.Masked().Addr().Next()
		for c.held[to] {
			to = to.Next()
		}
		if !p.Contains(to) || f == fib.Inet && to == fib.BroadcastOf(p) {
			continue
		}
		r := c.kernel.Lookup(lookup.Packet{From: p.Addr(), To: to})
		if last, ok := r.Last(); ok && r.OK() && r.Way.Via.IsValid() && !last.Rule.Not && last.Route.IsDefault() {
			c.warn(NoConnectedSubnet, u, fmt.Sprintf("add a [[route]] to %s without `via` to that table", p.Masked()),
				"packets from %s to its own subnet %s go to the gateway %s: table `%s` does not have the subnet", p.Addr(), p.Masked(), r.Way.Via, c.name(r.Way.Table))
		}
	}
	for _, way := range left.ways {
		c.warn(Leak, u, "add "+few(left.from[way])+" to `from`", "packets from %s leave by %s: `from` replaces the uplink's own addresses", few(left.from[way]), way)
	}
}

// leftOut collects addresses that an uplink's `from` lacks, by the way that their packets
// take: an uplink may have many, and one mistake is one warning.
type leftOut struct {
	ways []string
	from map[string][]netip.Addr
}

func (l *leftOut) add(from netip.Addr, way string) {
	if l.from == nil {
		l.from = map[string][]netip.Addr{}
	}
	if l.from[way] == nil {
		l.ways = append(l.ways, way)
	}
	l.from[way] = append(l.from[way], from)
}

// few names the first of many.
func few(list []netip.Addr) string {
	const named = 3
	var names []string
	for _, a := range list[:min(named, len(list))] {
		names = append(names, a.String())
	}
	if more := len(list) - named; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names, ", "), more)
	}
	if last := len(names) - 1; last > 0 {
		return strings.Join(names[:last], ", ") + " and " + names[last]
	}
	return names[0]
}

// leaks says whether packets from an address leave by another uplink's gateway although the
// uplink has a way out itself. Where the uplink's own rules send them there, or `from = []`
// leaves them to main, this is intended. A user who writes prefixes in `from` may think that
// they add to the addresses.
func (c *checker) leaks(u *spec.Uplink, from netip.Addr, f fib.Family, left *leftOut) bool {
	if !c.leadsOut(c.tables[u.Name], f) {
		return false
	}
	r := c.kernel.Lookup(lookup.Packet{From: from, To: outside[f]})
	last, ok := r.Last()
	if way := c.learnedWay(u, f); !ok && len(u.From) > 0 && !u.DefaultRoute && way != "" {
		left.add(from, way)
		return true
	}
	if !ok || !r.OK() || last.Rule.Origin == u.Origin || last.Rule.Origin.File == "" && u.From != nil && len(u.From) == 0 {
		return false
	}
	for _, w := range r.Ways() {
		other := c.gatewayOf(w)
		if other == nil || other == u || c.links[u.Name] == w.Device {
			continue
		}
		o := c.origins[last.Rule.Origin]
		if o == nil && len(u.From) > 0 {
			left.add(from, fmt.Sprintf("uplink `%s` (via %s)", other.Name, w.Via))
			return true
		}
		why, help := "no rule selects it before table main", "let its `from` have the address"
		if o != nil {
			why, help = fmt.Sprintf("a rule of uplink `%s` selects it first (priority %d)", o.Name, last.Rule.Priority), fmt.Sprintf("make the rule of `%s` narrower, or give `%s` a lower `priority`", o.Name, u.Name)
		}
		c.warn(Leak, u, help, "packets from %s leave by uplink `%s` (via %s): %s", from, other.Name, w.Via, why)
		return true
	}
	return false
}

// learnedWay returns the way out by table main where the spec does not have its default route,
// because an uplink learns it or other programs add it; "" where that is by the uplink's own link.
func (c *checker) learnedWay(u *spec.Uplink, f fib.Family) (way string) {
	for i := range c.spec.Uplinks {
		switch o := &c.spec.Uplinks[i]; {
		case o.DefaultRoute && o.LearnsGateway(f) && c.links[o.Name] == c.links[u.Name]:
			return ""
		case o.DefaultRoute && o.LearnsGateway(f):
			return fmt.Sprintf("uplink `%s`", o.Name)
		case o.PolicyOnly:
			way = "table main"
		}
	}
	return way
}

// gatewayOf returns the uplink whose gateway a way goes to.
func (c *checker) gatewayOf(w lookup.Way) *spec.Uplink {
	return c.behind[lookup.Neighbour{Link: w.Device, Addr: w.Via}]
}
