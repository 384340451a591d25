package kerneltest

import (
	"math/rand/v2"
	"net/netip"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Random makes rules and routes that a spec can ask for, often with fields left out. The kernel
// takes all of them where Links are up and have the addresses of Setup.
type Random struct {
	*rand.Rand
	Links []string
}

// NewRandom returns a Random with its own seed.
func NewRandom(seed uint64, links ...string) Random {
	return Random{rand.New(rand.NewPCG(seed, seed)), links}
}

// Setup are the addresses that the routes of a Random need on the i-th link: their
// gateways and sources are in these subnets.
func Setup(i int) []netip.Prefix {
	four, six := subnet(fib.Inet, i), subnet(fib.Inet6, i)
	return []netip.Prefix{
		netip.PrefixFrom(host(four, 10), 24), netip.PrefixFrom(host(four, 11), 24),
		netip.PrefixFrom(host(six, 10), 64), netip.PrefixFrom(host(six, 11), 64),
	}
}

func subnet(f fib.Family, i int) netip.Prefix {
	if f == fib.Inet {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 99, byte(i), 0}), 24)
	}
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0x99, byte(i)}), 64)
}

func host(p netip.Prefix, n byte) netip.Addr {
	b := p.Addr().AsSlice()
	b[len(b)-1] = n
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (r Random) often() bool { return r.IntN(3) > 0 }
func (r Random) seldom() bool {
	return r.IntN(4) == 0
}

// number returns a number of at most 32 bits: small, large and the limits alike.
func (r Random) number() uint32 {
	return [...]uint32{1, 2, 255, 256, 1024, 65535, 65536, 1<<31 - 1, 1 << 31, 1<<32 - 2, 1<<32 - 1, r.Uint32() | 1, uint32(r.IntN(65536)) + 1}[r.IntN(13)]
}

// table returns a number that is no table of the kernel's own.
func (r Random) table() uint32 {
	for {
		if t := r.number(); t < fib.TableDefault || t > fib.TableLocal {
			return t
		}
	}
}

func (r Random) family() fib.Family { return fib.Families[r.IntN(2)] }

// prefix returns a prefix of any length. IPv6 ones are global, so that none of the kernel's
// special rules for other ranges applies.
func (r Random) prefix(f fib.Family, shortest int) netip.Prefix {
	var b [16]byte
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	bits := shortest + r.IntN(f.Bits()-shortest+1)
	if f == fib.Inet {
		b[0] = 11 + b[0]%100
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(b[:4])), bits).Masked()
	}
	b[0], b[1] = 0x2a, byte(r.IntN(256))
	return netip.PrefixFrom(netip.AddrFrom16(b), bits).Masked()
}

func (r Random) ports() fib.Range[uint16] {
	const most = 65534 // the kernel takes no 65535 (fib_rule_port_range_valid, include/net/fib_rules.h)
	lo := uint16(r.IntN(most) + 1)
	return fib.Range[uint16]{Lo: lo, Hi: lo + uint16(r.IntN(int(most-lo)+1))}
}

func (r Random) opt() fib.Opt[uint32] { return fib.Some(r.Uint32() >> (1 + r.IntN(31))) }

// Rule returns a rule.
func (r Random) Rule() fib.Rule {
	u := fib.Rule{Family: r.family(), Priority: 1 + uint32(r.IntN(32765)), Not: r.seldom(), Action: fib.Lookup}
	if r.often() {
		u.From = r.prefix(u.Family, 1)
	}
	if r.seldom() {
		u.To = r.prefix(u.Family, 1)
	}
	if r.seldom() {
		u.Mask = [...]uint32{0xff, 1 << 31, 1<<32 - 1, r.Uint32() | 1}[r.IntN(4)]
		u.Mark = r.Uint32() & u.Mask
	}
	names := append([]string{"lo", "absent0", "fifteen-letters"}, r.Links...)
	if r.seldom() {
		u.IIF = names[r.IntN(len(names))]
	}
	if r.seldom() {
		u.OIF = names[r.IntN(len(names))]
	}
	if r.seldom() {
		u.TOS = uint8(1+r.IntN(7)) << 2
		if u.Family == fib.Inet6 {
			u.TOS = uint8(1+r.IntN(63)) << 2
		}
	}
	if r.seldom() {
		u.IPProto = [...]uint8{1, 2, 6, 17, 58, 132, 136}[r.IntN(7)]
	}
	if r.seldom() {
		u.SPort = r.ports()
	}
	if r.seldom() {
		u.DPort = r.ports()
	}
	if r.seldom() {
		lo := r.Uint32N(1<<32 - 1)
		u.UIDRange = fib.Some(fib.Range[uint32]{Lo: lo, Hi: lo + r.Uint32N(1<<32-1-lo)})
	}
	switch r.IntN(8) {
	case 0:
		u.Action, u.Goto = fib.Goto, u.Priority+1+r.Uint32N(32766)
	case 1:
		u.Action = [...]fib.Action{fib.Nop, fib.Blackhole, fib.Unreachable, fib.Prohibit}[r.IntN(4)]
	default:
		u.Table = r.table()
		if r.seldom() {
			u.SuppressPrefixLength = fib.Some(uint32(r.IntN(u.Family.Bits() + 1)))
		}
		if r.seldom() {
			u.SuppressIfGroup = r.opt()
		}
	}
	return u
}

// Route returns a route.
func (r Random) Route() fib.Route {
	f := r.family()
	e := fib.Route{Family: f, Table: r.table(), Type: fib.Unicast, Dst: f.Any()}
	if r.often() {
		// Not one that a gateway is in: the kernel would refuse the gateway by another link.
		e.Dst = r.prefix(f, 16)
	}
	if r.often() {
		e.Metric = r.number()
	} else if f == fib.Inet6 {
		e.Metric = fib.MetricDefaultInet6
	}
	at := r.IntN(len(r.Links))
	if r.seldom() {
		e.Src = host(subnet(f, at), 10+byte(r.IntN(2)))
	}
	if r.seldom() {
		e.MTU = 1280 + uint32(r.IntN(65520-1280))
	}
	if r.seldom() {
		e.AdvMSS = 1 + uint32(r.IntN(65000))
	}
	if r.seldom() {
		e.InitCwnd = 1 + uint32(r.IntN(1000))
	}
	if r.seldom() {
		e.InitRwnd = 1 + uint32(r.IntN(1000))
	}
	hop := func(i int) fib.Nexthop {
		n := fib.Nexthop{Link: r.Links[i]}
		if r.often() {
			n.Via = host(subnet(f, i), 1+byte(r.IntN(9)))
			if r.seldom() {
				n.OnLink = true
				n.Via = host(subnet(f, 200+i), 1+byte(r.IntN(9)))
			}
		}
		return n
	}
	switch kind := r.IntN(8); {
	case kind == 0:
		e.Type = [...]fib.RouteType{fib.RouteBlackhole, fib.RouteUnreachable, fib.RouteProhibit, fib.Throw}[r.IntN(4)]
		e.Src, e.MTU, e.AdvMSS, e.InitCwnd, e.InitRwnd = netip.Addr{}, 0, 0, 0, 0
		return e
	case kind == 1 && len(r.Links) > 1:
		for i := range 2 + r.IntN(len(r.Links)-1) {
			n := hop(i % len(r.Links))
			if !n.Via.IsValid() {
				n.Via = host(subnet(f, i%len(r.Links)), 1+byte(r.IntN(9)))
			}
			n.Weight = uint16([...]int{1, 2, 256, 1 + r.IntN(256)}[r.IntN(4)])
			e.Nexthops = append(e.Nexthops, n)
		}
	default:
		e.Nexthops = []fib.Nexthop{hop(at)}
	}
	if f == fib.Inet {
		e.Scope = e.DefaultScope()
		if e.Scope == fib.ScopeLink && r.seldom() {
			e.Scope = [...]fib.Scope{fib.ScopeUniverse, fib.ScopeSite, 100}[r.IntN(3)]
		}
	}
	e.Link = e.Nexthops[0].Link
	return e
}
