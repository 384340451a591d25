package lookup

import (
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// input4 finds the way of an IPv4 packet that comes in by a link
// (ip_route_input_slow in net/ipv4/route.c).
func (k *Resolver) input4(r *Result, f *flow, all bool) {
	in := k.links[f.iif]
	loopbackAbroad := !k.isLoopback(f.iif) && (loopback4.Contains(f.src) || loopback4.Contains(f.dst))
	switch {
	case in == nil:
		r.refuse(LinkDown, fib.RouteUnreachable)
		return
	case f.src.IsMulticast() || f.src == limitedBroadcast || zeronet.Contains(f.src) || zeronet.Contains(f.dst) || loopbackAbroad:
		r.refuse(MartianSource, fib.RouteBlackhole)
		return
	}
	v, ok := k.walk(r, f, all)
	if !ok {
		if !in.Forwarding {
			r.refuse(NoForwarding, fib.RouteUnreachable)
		}
		return
	}
	kind := v.found.route.Type
	switch kind {
	case fib.Local, fib.Broadcast:
		back := *f
		if kind == fib.Broadcast {
			back.dst = f.family.Any().Addr() // the kernel looks the way back up without a source
		}
		if why, bad := k.validateSource(&back, "", in); bad {
			r.refuse(why, fib.RouteBlackhole)
			return
		}
		r.Way = Way{Type: kind, Table: v.table, Device: Loopback}
		return
	case fib.Unicast:
	default:
		if !in.Forwarding {
			r.refuse(NoForwarding, fib.RouteUnreachable)
		} else {
			r.refuse(NotADestination, fib.RouteBlackhole)
		}
		return
	}
	if !in.Forwarding {
		r.refuse(NoForwarding, fib.RouteUnreachable)
		return
	}
	// The kernel looks the way back up as if the packet came in where this one leaves.
	c := &v.found
	var reason Reason
	hops := append([]fib.Nexthop{c.hop}, c.equal...)
	good := slices.DeleteFunc(slices.Clone(hops), func(n fib.Nexthop) bool {
		why, bad := k.validateSource(f, n.Link, in)
		if bad {
			reason = why
		}
		return bad
	})
	if len(good) == 0 {
		r.refuse(reason, fib.RouteBlackhole)
		return
	}
	c.hop, c.equal = good[0], good[1:]
	r.ways(k, f, v)
	if reason != "" {
		r.Others = append(r.Others, Way{Type: fib.RouteBlackhole})
	}
}

var zeronet = netip.MustParsePrefix("0.0.0.0/8")

// validateSource looks the way back up (__fib_validate_source in net/ipv4/fib_frontend.c).
// A source that is the host's own, or that no packet can have, is a martian; rp_filter may
// drop a packet that does not come from where its answer would go. The lookup of the way
// back has neither mark nor user, and has the ports swapped.
func (k *Resolver) validateSource(f *flow, out string, in *Link) (Reason, bool) {
	back := flow{
		family: fib.Inet, src: f.dst, dst: f.src, hasSrc: true, iif: out,
		tos: f.tos, proto: f.proto, sport: f.dport, dport: f.sport,
	}
	if out == "" {
		back.iif = Loopback
	}
	_, v := k.rulesLookup(&back, false)
	switch {
	case v.refused != 0 || v.found.route == nil:
		return ReversePath, in.ReversePath != 0
	case v.found.route.Type != fib.Unicast:
		return MartianSource, true
	}
	for _, n := range v.found.route.Nexthops {
		if n.Link == in.Name {
			return "", false
		}
	}
	if len(k.primary4(in.Name)) == 0 {
		return ReversePath, in.ReversePath != 0
	}
	return ReversePath, in.ReversePath == 1
}
