package integration

import (
	"math/rand/v2"
	"net/netip"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/lookup"
)

// routing draws states and packets that meet: few tables, prefixes, marks and ports, so
// that a packet seldom misses all of them.
type routing struct{ *rand.Rand }

func pick[T any](g routing, list ...T) T { return list[g.IntN(len(list))] }

func (g routing) oneIn(n int) bool { return g.IntN(n) == 0 }

func (g routing) table() uint32 {
	return pick[uint32](g, 100, 101, 102, 70000, fib.TableMain, fib.TableMain, fib.TableDefault)
}

// near is a host in the card's subnet in kerneltest.Setup, where 10 and 11 are the host's own.
func (g routing) near(f fib.Family, card int, host byte) netip.Addr {
	for _, p := range kerneltest.Setup(card) {
		if fib.FamilyOf(p.Addr()) == f {
			b := p.Addr().AsSlice()
			b[len(b)-1] = host
			a, _ := netip.AddrFromSlice(b)
			return a
		}
	}
	panic("no subnet")
}

func (g routing) gateway(f fib.Family, card, n int) netip.Addr { return g.near(f, card, byte(1+n)) }

// far draws, from a few, an address that no card has in its subnet.
func (g routing) far(f fib.Family) netip.Addr {
	if f == fib.Inet {
		return netip.AddrFrom4([4]byte{20, pick[byte](g, 0, 1, 128), pick[byte](g, 0, 1, 200), pick[byte](g, 1, 2, 129)})
	}
	return netip.AddrFrom16([16]byte{0x2a, 0, 0, pick[byte](g, 0, 1, 0x80), 15: pick[byte](g, 1, 2, 129)})
}

func (g routing) family() fib.Family { return pick(g, fib.Inet, fib.Inet6) }

func (g routing) address(f fib.Family) netip.Addr {
	if g.oneIn(3) {
		return g.near(f, g.IntN(3), pick[byte](g, 0, 1, 2, 10, 11, 77, 255))
	}
	return g.far(f)
}

func (g routing) prefix(f fib.Family) netip.Prefix {
	bits := pick(g, 0, 1, 8, 9, 16, 20, 23, 24, 25, 30, 32)
	if f == fib.Inet6 {
		bits = pick(g, 0, 1, 2, 3, 16, 31, 32, 48, 64, 112, 127, 128)
	}
	return netip.PrefixFrom(g.address(f), bits).Masked()
}

func (g routing) device() string {
	return pick(g, "card0", "card1", "card2", "lo", "absent0")
}

// state draws the operations that make a state. Routes come first, because the rules that are
// there take part in looking up a gateway. The kernel may refuse some.
func (g routing) state() (ops []apply.Op) {
	for range 2 + g.IntN(24) {
		r := g.route()
		ops = append(ops, apply.Op{Verb: apply.RouteAdd, Route: &r})
	}
	for range g.IntN(16) {
		r := g.rule()
		ops = append(ops, apply.Op{Verb: apply.RuleAdd, Rule: &r})
	}
	return ops
}

func (g routing) route() fib.Route {
	f := g.family()
	r := fib.Route{Family: f, Table: g.table(), Dst: f.Any(), Type: fib.Unicast, Metric: pick[uint32](g, 0, 0, 5, 100)}
	if !g.oneIn(3) {
		r.Dst = g.prefix(f)
	}
	if f == fib.Inet6 && r.Metric == 0 {
		r.Metric = fib.MetricDefaultInet6
	}
	card := g.IntN(3)
	hop := func(card int) fib.Nexthop {
		return fib.Nexthop{Link: kerneltest.Links[card], Via: g.gateway(f, card, g.IntN(2))}
	}
	switch g.IntN(10) {
	case 0, 1:
		r.Type = pick(g, fib.RouteBlackhole, fib.RouteUnreachable, fib.RouteProhibit, fib.Throw)
		return r
	case 2:
		r.Type = pick(g, fib.Local, fib.Broadcast, fib.Anycast)
		if f == fib.Inet6 && r.Type == fib.Broadcast {
			r.Type = fib.Local
		}
		// Away from the gateways: if there is a route to the host itself for a gateway, the
		// kernel takes it for the host. The ways by it then have no gateway, which no dump shows
		// (fib_check_nh_v4_gw in net/ipv4/fib_semantics.c, nhc_scope; rt_set_nexthop).
		a := g.far(f)
		r.Dst = netip.PrefixFrom(a, a.BitLen()-8*g.IntN(2)).Masked()
		r.Nexthops = []fib.Nexthop{{Link: kerneltest.Links[card]}}
	case 3, 4:
		for i := range 2 + g.IntN(2) {
			n := hop((card + i) % 3)
			n.Weight = pick[uint16](g, 1, 2, 10)
			r.Nexthops = append(r.Nexthops, n)
		}
	case 5:
		r.Nexthops = []fib.Nexthop{{Link: kerneltest.Links[card]}}
	default:
		r.Nexthops = []fib.Nexthop{hop(card)}
	}
	if g.oneIn(4) {
		r.Src = g.near(f, g.IntN(3), pick[byte](g, 10, 11))
	}
	if f == fib.Inet {
		r.Scope = r.DefaultScope()
	}
	return r
}

func (g routing) rule() fib.Rule {
	r := fib.Rule{Family: g.family(), Priority: pick[uint32](g, 10, 20, 30, 40, 50, 60, 32766, 40000), Action: fib.Lookup, Not: g.oneIn(8)}
	if g.oneIn(2) {
		r.From = g.prefix(r.Family)
	}
	if g.oneIn(3) {
		r.To = g.prefix(r.Family)
	}
	if g.oneIn(4) {
		r.Mask = pick[uint32](g, 1, 3, 0xff, 1<<32-1)
		r.Mark = uint32(g.IntN(4)) & r.Mask
	}
	if g.oneIn(6) {
		r.IIF = g.device()
	}
	if g.oneIn(6) {
		r.OIF = g.device()
	}
	if g.oneIn(8) {
		r.TOS = pick[uint8](g, 0x04, 0x08, 0x10, 0x1c)
		if r.Family == fib.Inet6 {
			r.TOS = pick[uint8](g, 0x04, 0x10, 0xb8)
		}
	}
	if g.oneIn(8) {
		r.IPProto = pick[uint8](g, 6, 17, 1)
	}
	if g.oneIn(8) {
		r.SPort = pick(g, fib.Range[uint16]{Lo: 1000, Hi: 2000}, fib.Range[uint16]{Lo: 53, Hi: 53})
	}
	if g.oneIn(8) {
		r.DPort = pick(g, fib.Range[uint16]{Lo: 443, Hi: 443}, fib.Range[uint16]{Lo: 1, Hi: 1024})
	}
	if g.oneIn(8) {
		r.UIDRange = fib.Some(pick(g, fib.Range[uint32]{Lo: 0, Hi: 0}, fib.Range[uint32]{Lo: 1000, Hi: 1999}))
	}
	switch g.IntN(8) {
	case 0:
		r.Action, r.Goto = fib.Goto, r.Priority+pick[uint32](g, 5, 10, 20, 30)
	case 1:
		r.Action = pick(g, fib.Nop, fib.Blackhole, fib.Unreachable, fib.Prohibit)
	default:
		r.Table = pick(g, g.table(), g.table(), fib.TableLocal, 999)
		if g.oneIn(3) {
			r.SuppressPrefixLength = fib.Some(pick[uint32](g, 0, 0, 8, 24, 32, 128))
		}
		if g.oneIn(4) {
			r.SuppressIfGroup = fib.Some(pick[uint32](g, 0, 7, 8))
		}
	}
	return r
}

func (g routing) packet() lookup.Packet {
	f := g.family()
	p := lookup.Packet{To: g.address(f)}
	if g.oneIn(20) {
		p.To = map[fib.Family]netip.Addr{fib.Inet: netip.MustParseAddr("127.0.0.1"), fib.Inet6: netip.IPv6Loopback()}[f]
	}
	switch g.IntN(4) {
	case 0:
		p.From = g.address(f)
	case 1, 2:
		p.From = g.near(f, g.IntN(3), pick[byte](g, 10, 11))
	}
	if g.oneIn(3) {
		p.Mark = uint32(g.IntN(6))
	}
	if g.oneIn(4) {
		p.IIF = kerneltest.Links[g.IntN(3)]
	}
	if g.oneIn(5) {
		p.OIF = pick(g, "card0", "card1", "card2", "lo")
	}
	if g.oneIn(3) || p.IIF != "" {
		p.UID = fib.Some(pick[uint32](g, 0, 1000, 5000))
	}
	if p.IIF != "" {
		// RTM_GETROUTE has nobody for a user there, a packet that is forwarded has root.
		p.UID = fib.Some[uint32](0)
	}
	if g.oneIn(4) {
		p.TOS = pick[uint8](g, 0x04, 0x08, 0x10, 0x1c, 0xb8)
	}
	if g.oneIn(2) {
		p.IPProto = pick[uint8](g, 6, 17, 1)
		if p.IPProto == 1 && f == fib.Inet6 {
			p.IPProto = 58
		}
		if p.IPProto == 6 || p.IPProto == 17 {
			p.SPort = pick[uint16](g, 0, 53, 1000, 1500, 3000)
			p.DPort = pick[uint16](g, 0, 443, 80, 5000)
		}
	}
	return p
}
