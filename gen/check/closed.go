package check

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/lookup"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// closed finds rules that fail closed for IPv4 alone, though their uplink fails closed. When
// the kernel refuses an IPv6 lookup without a source, it picks a source and asks again
// (ip6_dst_lookup_tail in net/ipv6/ip6_output.c): an earlier rule for that source then lets
// the packet out. Automatic priorities prevent it, except for the specific routes of other
// uplinks with main-routes-first. A forwarded packet always has a source.
func (c *checker) closed() {
	if !slices.ContainsFunc(c.spec.Uplinks, func(u spec.Uplink) bool { return u.Fallthrough != 0 }) {
		return
	}
	escapes, kernel := c.escapes(), c.withoutClosed()
	specific := slices.DeleteFunc(slices.Clone(c.routes[part{fib.Inet6, fib.TableMain}]), func(r fib.Route) bool { return r.IsDefault() })
	allInMain := everywhere(fib.Inet6, specific)
	hidden := slices.DeleteFunc(slices.Clone(escapes), func(e escape) bool { return allInMain || c.inMain(e.to) })
	warned := map[*spec.Uplink]bool{}
	for _, r := range c.state.Rules {
		u := c.owners[r.Table]
		if r.Family != fib.Inet6 || r.Action != fib.Lookup || u == nil || u.Fallthrough == 0 || warned[u] ||
			r.From.Bits() > 0 || !sent(&r) || c.toItself(&r) {
			continue
		}
		candidates := escapes
		if c.spec.MainRoutesFirst {
			if r.SuppressPrefixLength.Set {
				continue // the rule that refuses comes behind the full lookup
			}
			if r.Priority > spec.MaxPriorityMainRoutesFirst {
				candidates = hidden // packets to main's specific routes never get here
			}
		}
		for _, e := range candidates {
			if e.rule.Priority >= r.Priority {
				break
			}
			if !c.escapesBy(kernel, &r, &e) {
				continue
			}
			warned[u] = true
			to := ""
			if e.to.Bits() > 0 {
				to = fmt.Sprintf(" to %s", e.to)
			}
			c.warn(ClosedLeak, u, c.closedHelp(u, &r, &e),
				"IPv6 packets for uplink `%s`%s leave by uplink `%s` while its own ways are gone: the kernel then picks a source for them, and the rule for that comes first (priority %d, before %d)",
				u.Name, to, e.by.Name, e.rule.Priority, r.Priority)
			break
		}
	}
}

// closedHelp returns a remedy that works: other priorities, unless what lets the packets
// out is a rule of main-routes-first for specific routes. To leave the priorities out helps
// only where some were given.
func (c *checker) closedHelp(u *spec.Uplink, r *fib.Rule, e *escape) string {
	switch {
	case e.rule.SuppressPrefixLength.Set:
		return fmt.Sprintf("select what is for `%s` by a [[rule]] with a `priority` below %d instead: what refuses it then comes first", u.Name, e.rule.Priority)
	case r.Order == fib.Given || e.rule.Order == fib.Given:
		return "leave the priorities out, or give this one's rules a lower `priority` than the other's"
	}
	return "give this one's rules a lower `priority` than the other's"
}

// escape is a rule for a source of an uplink that does not fail closed, and the destinations
// to which it lets packets out.
type escape struct {
	rule fib.Rule
	by   *spec.Uplink
	to   netip.Prefix
}

// escapes returns all escapes, by priority.
func (c *checker) escapes() (list []escape) {
	see := func(r fib.Rule) {
		u := c.owners[r.Table]
		if r.Family != fib.Inet6 || r.Action != fib.Lookup || r.Not || u == nil || u.Fallthrough != 0 || !sent(&r) || c.toItself(&r) {
			return
		}
		add := func(to netip.Prefix) {
			switch {
			case r.To.Bits() <= to.Bits():
				list = append(list, escape{r, u, to})
			case to.Contains(r.To.Addr()):
				list = append(list, escape{r, u, r.To})
			}
		}
		routes := c.routes[part{fib.Inet6, r.Table}]
		if s := r.SuppressPrefixLength; s.Set {
			routes = slices.DeleteFunc(slices.Clone(routes), func(o fib.Route) bool { return uint32(o.Dst.Bits()) <= s.Value })
		}
		if everywhere(fib.Inet6, routes) || !r.SuppressPrefixLength.Set && u.LearnsGateway(fib.Inet6) {
			add(fib.Inet6.Any())
			return
		}
		for _, o := range routes {
			if o.Type == fib.Unicast {
				add(o.Dst)
			}
		}
	}
	for _, r := range c.state.Rules {
		if r.From.Bits() > 0 && !c.jumped(&r) {
			see(r)
		}
	}
	for _, l := range c.state.Links {
		for _, r := range l.Learn.Rules {
			if !r.To {
				see(r.Rule)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b escape) int { return cmp.Compare(a.rule.Priority, b.rule.Priority) })
	return list
}

// inMain says whether table main has a route to a prefix, other than a default route.
func (c *checker) inMain(p netip.Prefix) bool {
	for bits := p.Bits(); bits > 0; bits-- {
		if _, there := c.near[netip.PrefixFrom(p.Addr(), bits).Masked()]; there {
			return true
		}
	}
	return false
}

// escapesBy says whether the rule of an escape lets out a packet that r selects. If it leads
// everywhere it does, for some source; to a specific route the kernel may pick a source of another
// uplink, so the packet is looked up. What an uplink learns is not known here: its escapes count.
func (c *checker) escapesBy(kernel *lookup.Resolver, r *fib.Rule, e *escape) bool {
	if !r.Overlaps(&e.rule) || r.To.Bits() > 0 && !r.To.Overlaps(e.to) {
		return false
	}
	if e.to.Bits() == 0 || e.by.Learns(fib.Inet6) {
		return true
	}
	p := lookup.Packet{To: e.to.Addr(), Mark: r.Mark, OIF: r.OIF, TOS: r.TOS, IPProto: r.IPProto, SPort: r.SPort.Lo, DPort: r.DPort.Lo}
	if r.To.Bits() > e.to.Bits() {
		p.To = r.To.Addr()
	}
	// The first address of a subnet is that of all its routers (RFC 4291, section 2.6.1).
	for next := p.To.Next(); e.to.Contains(next) && (p.To == e.to.Addr() || c.held[p.To]); next = next.Next() {
		p.To = next
	}
	if r.UIDRange.Set {
		p.UID = fib.Some(r.UIDRange.Value.Lo)
	}
	way := kernel.Lookup(p)
	if way.Again == nil || !way.Again.OK() {
		return false
	}
	last, ok := way.Again.Last()
	return ok && last.Rule.Table == e.rule.Table
}

// withoutClosed returns the host as it is while all uplinks that fail closed have lost their ways out.
func (c *checker) withoutClosed() *lookup.Resolver {
	h := c.kernel.Host()
	shared := map[string]bool{}
	for i := range c.spec.Uplinks {
		if u := &c.spec.Uplinks[i]; u.Fallthrough == 0 {
			shared[c.links[u.Name]] = true
		}
	}
	down := map[string]bool{}
	for i := range c.spec.Uplinks {
		if link := c.links[c.spec.Uplinks[i].Name]; !shared[link] {
			down[link] = true
		}
	}
	h.Links = slices.Clone(h.Links)
	for i := range h.Links {
		h.Links[i].Up = !down[h.Links[i].Name]
	}
	h.Routes = slices.DeleteFunc(slices.Clone(h.Routes), func(r fib.Route) bool {
		u := c.owners[r.Table]
		return u != nil && u.Fallthrough != 0 && r.Type.HasDevice()
	})
	return lookup.New(h)
}

// sent says whether a rule may select what the host itself sends.
func sent(r *fib.Rule) bool { return r.IIF == "" || r.IIF == "lo" }
