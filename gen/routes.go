package gen

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// addRoute adds a route of uplink u, unless the kernel would take it for one that
// exists already: then it reports an error at key.
func (c *compiler) addRoute(u *spec.Uplink, r fib.Route, key ...string) {
	r.Metric, r.Origin = r.Family.Metric(r.Metric), u.Origin
	if r.Family == fib.Inet6 && len(r.Nexthops) > 1 && slices.ContainsFunc(r.Nexthops, func(n fib.Nexthop) bool { return !n.Via.IsValid() }) {
		// ip6_route_multipath_add in net/ipv6/route.c.
		c.spec.Fail("IPv6 does not share traffic between several ways where one has no gateway", "give each its `via`", append([]string{"uplink", u.Name}, key...)...)
		return
	}
	if r.Family == fib.Inet6 && twice(r.Nexthops) {
		// The kernel keeps each way of an IPv6 route as a route of its own.
		c.spec.Fail("an IPv6 route takes the same way twice", "give it once, with a `weight`", append([]string{"uplink", u.Name}, key...)...)
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

// best returns the default route of a family that the kernel would use in the
// uplink's table.
func best(defaults []fib.Route, f fib.Family) (r fib.Route, ok bool) {
	for _, d := range defaults {
		if d.Family == f && (!ok || f.Metric(d.Metric) < f.Metric(r.Metric)) {
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
			r.Nexthops = single(ownFirst(link, r.Nexthops))
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

// connected says whether a gateway lies in a subnet of the uplink's, and so needs no
// onlink, which networkd does not know in a multipath route.
func connected(u *spec.Uplink, gateway netip.Addr) bool {
	return gateway.Is6() && gateway.IsLinkLocalUnicast() || slices.ContainsFunc(u.Addresses, func(p netip.Prefix) bool { return p.Contains(gateway) })
}

// enoughForInet6 reports a link that is to carry IPv6 with an MTU that is too low
// for it: the kernel switches IPv6 off on such a link.
func (c *compiler) enoughForInet6() {
	carry := map[string]bool{}
	for i := range c.state.Addresses {
		if a := &c.state.Addresses[i]; a.Family() == fib.Inet6 {
			carry[a.Link] = true
		}
	}
	for i := range c.state.Routes {
		if r := &c.state.Routes[i]; r.Family == fib.Inet6 {
			for _, n := range r.Nexthops {
				carry[n.Link] = true
			}
		}
	}
	for i := range c.spec.Uplinks {
		if u := &c.spec.Uplinks[i]; u.Learns(fib.Inet6) {
			carry[c.linkOf(u.Name)] = true
		}
	}
	for i := range c.spec.Uplinks {
		if u := &c.spec.Uplinks[i]; u.MTU != 0 && u.MTU < 1280 && carry[c.linkOf(u.Name)] {
			c.spec.Fail(fmt.Sprintf("the kernel switches IPv6 off on a link with an MTU of %d, and it is to have IPv6 addresses or routes", u.MTU), "IPv6 needs at least 1280 (RFC 8200)", "uplink", u.Name, "mtu")
		}
	}
}

// twice says whether two of the nexthops are the same but for their weight.
func twice(hops []fib.Nexthop) bool {
	for i, n := range hops {
		if slices.ContainsFunc(hops[:i], func(o fib.Nexthop) bool { return o.Link == n.Link && o.Via == n.Via }) {
			return true
		}
	}
	return false
}

// ownFirst puts the ways by a link before the others.
func ownFirst(link string, hops []fib.Nexthop) []fib.Nexthop {
	var own, others []fib.Nexthop
	for _, h := range hops {
		if h.Link == link {
			own = append(own, h)
		} else {
			others = append(others, h)
		}
	}
	return append(own, others...)
}

// single drops the weight of an only nexthop, which shares nothing.
func single(hops []fib.Nexthop) []fib.Nexthop {
	if len(hops) == 1 {
		hops[0].Weight = 0
	}
	return hops
}

// sharedMetric is the metric of the first [multipath] route in main. Uplinks whose
// routes stand there one by one come behind.
const sharedMetric = 1

// sharedDefault adds the default routes of [multipath] to main.
//
// For IPv6 that is one route: the kernel joins IPv6 routes of one metric by itself,
// so it is enough that each link's file has its own nexthop.
//
// For IPv4 each uplink has such a route, with a metric of its own and the uplink's
// own way first. The first route carries the traffic, and each of them would do. A
// route follows its link, and networkd removes a multipath route together with the
// link in whose file it stands: with one route for all, the host would lose every
// way out with that link (systemd 257 and 262, measured). Nor does networkd add a
// route before every link that it names exists and has carrier (252, 257, 262). So
// behind these each uplink has a route by itself, by which the host gets out when
// another uplink is dead already.
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
		count := uint32(len(sharing)) // of routes
		if f == fib.Inet6 {
			count = min(count, 1)
		} else if count > 1 {
			count *= 2
		}
		if c.beforeShared(f, count) {
			continue
		}
		onlink := make([]bool, len(hops)) // networkd knows it only in a route with a single way
		for i, u := range sharing {
			onlink[i] = hops[i].OnLink
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
			if f == fib.Inet && len(sharing) > 1 {
				r.Metric, r.Nexthops = r.Metric+uint32(len(sharing)), single(slices.Clone(hops[i:i+1]))
				r.Nexthops[0].OnLink = onlink[i]
				r.Scope = r.DefaultScope()
				if _, taken := c.routes[r.Key()]; !taken { // by a [[route]], which is there for just that
					c.addRoute(u, r, "default-route")
				}
			}
		}
	}
}

// beforeShared reports uplinks whose own default route in main would come before
// or between the n routes of those that share, and says whether there are any.
func (c *compiler) beforeShared(f fib.Family, n uint32) (found bool) {
	if n == 0 {
		return false
	}
	for i := range c.spec.Uplinks {
		u := &c.spec.Uplinks[i]
		if _, ok := c.wayOut(u, f); (ok || u.Learns(f)) && u.DefaultRoute && f.Metric(u.Metric) < sharedMetric+n {
			c.spec.Fail(fmt.Sprintf("the %s default route of uplink `%s` would come before the one of [multipath]", f, u.Name),
				fmt.Sprintf("give it a `metric` of at least %d to stand behind, or leave default-route out", sharedMetric+n), "uplink", u.Name, "default-route")
			found = true
		}
	}
	return found
}
