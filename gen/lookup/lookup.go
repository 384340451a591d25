package lookup

import (
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Lookup finds a packet's way. The steps are the rules that matched.
func (k *Resolver) Lookup(p Packet) Result { return k.lookup(p, false) }

// Trace finds a packet's way, and lists every rule that was tried among the steps.
func (k *Resolver) Trace(p Packet) Result { return k.lookup(p, true) }

const udp = 17

func (k *Resolver) lookup(p Packet, all bool) Result {
	r := Result{Packet: p}
	f := flow{
		family: fib.FamilyOf(p.To), src: p.From, dst: p.To, hasSrc: p.From.IsValid(), mark: p.Mark,
		iif: p.IIF, oif: p.OIF, uid: p.UID.Value, tos: p.TOS, proto: p.IPProto, sport: p.SPort, dport: p.DPort,
	}
	if !f.hasSrc {
		f.src = f.family.Any().Addr()
	}
	if f.family == fib.Inet && f.proto == 0 {
		f.proto = udp // inet_rtm_getroute
	}
	if p.To.IsMulticast() || p.To.IsUnspecified() || p.To == limitedBroadcast {
		r.refuse(NotADirectWay, fib.RouteUnreachable)
		return r
	}
	if p.IIF != "" {
		// A packet that comes in is bound to no link, and has root's user id
		// (net/ipv4/route.c, ip_route_input_slow; net/ipv6/route.c, ip6_route_input).
		f.oif, f.uid = "", 0
	} else {
		f.iif = Loopback
	}
	switch {
	case f.family == fib.Inet && p.IIF != "":
		k.input4(&r, &f, all)
	case f.family == fib.Inet:
		k.output4(&r, &f, all)
	case p.IIF != "":
		f.dev, f.strict = p.IIF, needsStrict(p.To) // ip6_pol_route_input
		k.walk6(&r, &f, all)
	default:
		// ip6_route_output_flags: for a socket that is bound to a link, only a packet with
		// a source may leave by another.
		f.dev, f.strict = p.OIF, needsStrict(p.To) || p.OIF != "" && !f.hasSrc
		r.Unheld = f.hasSrc && !f.src.IsUnspecified() && !k.host.NonLocalBind6 && !k.isLocal6(f.src)
		k.walk6(&r, &f, all)
		k.again6(&r, &f, all)
	}
	return r
}

var limitedBroadcast = netip.MustParseAddr("255.255.255.255")

// needsStrict says whether a destination exists on each link (rt6_need_strict).
func needsStrict(a netip.Addr) bool { return a.IsLinkLocalUnicast() || a.IsLoopback() }

func (r *Result) refuse(why Reason, how fib.RouteType) { r.Reason, r.Way = why, Way{Type: how} }

// walk asks the rules, and says whether a route was found.
func (k *Resolver) walk(r *Result, f *flow, all bool) (verdict, bool) {
	steps, v := k.rulesLookup(f, all)
	r.Steps = steps
	switch {
	case v.refused != 0:
		r.refuse(ByRefusal, v.refused)
	case v.found.route == nil:
		r.refuse(ByNothing, fib.RouteUnreachable)
	default:
		r.Reason = ByRoute
		return v, true
	}
	return v, false
}

// output4 finds the way of an IPv4 packet that the host sends
// (ip_route_output_key_hash_rcu in net/ipv4/route.c).
func (k *Resolver) output4(r *Result, f *flow, all bool) {
	if f.hasSrc && !k.isLocal4(f.src) {
		r.refuse(BadSource, fib.RouteUnreachable)
		return
	}
	if f.oif != "" {
		if l := k.links[f.oif]; l == nil || !l.Up {
			r.refuse(LinkDown, fib.RouteUnreachable)
			return
		}
	}
	v, ok := k.walk(r, f, all)
	switch {
	case !ok && f.oif != "":
		// "Apparently, routing tables are wrong": whatever the rules said, unreachable and
		// prohibit included, the kernel takes the destination to be on the link.
		r.Reason, r.Way = ByOIF, Way{Type: fib.Unicast, Device: f.oif}
		if !f.hasSrc {
			r.Way.Src = k.selectAddr4(f.oif, netip.Addr{}, fib.ScopeLink)
		}
	case !ok:
	case v.found.route.Type == fib.Local:
		src := v.found.route.Src
		if !src.IsValid() {
			src = f.dst
		}
		r.Way = Way{Type: fib.Local, Table: v.table, Device: Loopback, Src: src}
	default:
		r.ways(k, f, v)
	}
	if !r.OK() {
		return
	}
	// The kernel does not send the host's loopback addresses abroad, whether it chose them
	// or not (__mkroute_output).
	for i, w := range r.Ways() {
		src := w.Src
		if f.hasSrc {
			src = f.src
		}
		switch martian := src.IsValid() && loopback4.Contains(src) && !k.isLoopback(w.Device); {
		case martian && i == 0:
			r.refuse(MartianSource, fib.RouteBlackhole)
		case martian:
			r.Others[i-1] = Way{Type: fib.RouteBlackhole}
		case f.hasSrc && i == 0:
			r.Way.Src = netip.Addr{}
		}
	}
}

func (k *Resolver) isLoopback(dev string) bool {
	l := k.links[dev]
	return l != nil && l.Loopback
}

// isLocal4 says whether an IPv4 address is the host's (__ip_dev_find in
// net/ipv4/devinet.c): a link has it, or table local says so.
func (k *Resolver) isLocal4(a netip.Addr) bool {
	if k.held[a] {
		return true
	}
	c, ok := k.tableLookup4(table{fib.Inet, fib.TableLocal}, &flow{family: fib.Inet, dst: a})
	return ok && c.route.Type == fib.Local
}

// isLocal6 says whether an IPv6 address is the host's: a link has it, or it is in a prefix
// that table local makes the host's, as after `ip -6 route add local PREFIX dev lo`.
func (k *Resolver) isLocal6(a netip.Addr) bool {
	if k.held[a] {
		return true
	}
	c, ok := k.tableLookup6(table{fib.Inet6, fib.TableLocal}, &flow{family: fib.Inet6, dst: a})
	return ok && own6(c.route)
}

// ways fills in the way that was found, and the others that the kernel may choose as well.
func (r *Result) ways(k *Resolver, f *flow, v verdict) {
	c := v.found
	way := func(hop fib.Nexthop) Way {
		w := Way{Type: c.route.Type, Table: v.table, Device: hop.Link, Via: hop.Via}
		if !f.hasSrc && r.Packet.IIF == "" {
			w.Src = k.source(c, hop, f.dst)
		}
		return w
	}
	r.Way = way(c.hop)
	if own6(c.route) {
		r.Way.Device = Loopback
	}
	for _, hop := range c.equal {
		if w := way(hop); w != r.Way && !slices.Contains(r.Others, w) {
			r.Others = append(r.Others, w)
		}
	}
}

// walk6 finds the way of an IPv6 packet (fib6_rule_lookup in net/ipv6/fib6_rules.c).
func (k *Resolver) walk6(r *Result, f *flow, all bool) {
	v, ok := k.walk(r, f, all)
	if !ok {
		return
	}
	r.ways(k, f, v)
	for or := v.or; or != nil; or = or.or {
		other := Result{Packet: r.Packet}
		switch {
		case or.refused != 0:
			other.refuse(ByRefusal, or.refused)
		case or.found.route == nil:
			other.refuse(ByNothing, fib.RouteUnreachable)
		default:
			other.ways(k, f, *or)
		}
		r.Others = append(r.Others, other.Ways()...)
	}
}

// again6 looks up once more, with a source, where there was no way.
func (k *Resolver) again6(r *Result, f *flow, all bool) {
	if f.hasSrc || r.OK() {
		return
	}
	src := k.selectAddr6("", f.dst)
	if !src.IsValid() {
		return
	}
	again := Result{Packet: r.Packet}
	again.Packet.From = src
	g := *f
	g.src, g.hasSrc, g.strict = src, true, needsStrict(f.dst) || f.oif != ""
	k.walk6(&again, &g, all)
	r.Again = &again
}
