package lookup

import (
	"net/netip"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

var loopback4 = netip.MustParsePrefix("127.0.0.0/8")

// scope4 returns the scope of an IPv4 address; ip(8) and networkd give such an address no other.
func scope4(a netip.Addr) fib.Scope {
	if loopback4.Contains(a) {
		return fib.ScopeHost
	}
	return fib.ScopeUniverse
}

// selectAddr4 picks an IPv4 source on a device, preferably in the gateway's subnet
// (inet_select_addr in net/ipv4/devinet.c). A device without an address borrows another's.
func (k *Resolver) selectAddr4(dev string, gateway netip.Addr, scope fib.Scope) netip.Addr {
	var first netip.Addr
	for _, a := range k.primary4(dev) {
		if scope4(a.Addr()) > scope {
			continue
		}
		if !gateway.IsValid() || a.Contains(gateway) {
			return a.Addr()
		}
		if !first.IsValid() {
			first = a.Addr()
		}
	}
	if first.IsValid() {
		return first
	}
	for _, l := range k.host.Links {
		for _, a := range k.primary4(l.Name) {
			if s := scope4(a.Addr()); s != fib.ScopeLink && s <= scope {
				return a.Addr()
			}
		}
	}
	return netip.Addr{}
}

// primary4 returns the IPv4 addresses of a device, except those that come second in their
// subnet (__inet_insert_ifa).
func (k *Resolver) primary4(dev string) (list []netip.Prefix) {
	seen := map[netip.Prefix]bool{}
	for _, a := range k.on[dev] {
		if a.Family() == fib.Inet && !seen[a.Prefix.Masked()] {
			seen[a.Prefix.Masked()] = true
			list = append(list, a.Prefix)
		}
	}
	return list
}

// source returns the source that the kernel gives a packet which leaves by a way.
func (k *Resolver) source(c candidate, hop fib.Nexthop, dst netip.Addr) netip.Addr {
	switch {
	case c.route.Src.IsValid():
		return c.route.Src
	case c.route.Family == fib.Inet:
		return k.selectAddr4(hop.Link, hop.Via, c.route.Scope) // fib_result_prefsrc
	}
	return k.selectAddr6(hop.Link, dst)
}

// selectAddr6 picks an IPv6 source for a destination that is reached by a device, which
// is "" where none is known (ipv6_dev_get_saddr in net/ipv6/addrconf.c; RFC 6724). Which
// addresses are deprecated or temporary is not known here.
func (k *Resolver) selectAddr6(dev string, dst netip.Addr) (best netip.Addr) {
	var have [5]int
	label := label6(dst)
	consider := func(a fib.Address) {
		addr := a.Prefix.Addr()
		var score [5]int
		score[0] = truth(addr == dst)
		score[1] = scopeScore(scope6(addr), scope6(dst))
		score[2] = truth(a.Link == dev)
		score[3] = truth(label6(addr) == label)
		score[4] = min(common(addr, dst), a.Prefix.Bits()) // not beyond the subnet (RFC 6724, section 5, rule 8)
		for i := range score {
			if score[i] != have[i] || !best.IsValid() {
				if score[i] > have[i] || !best.IsValid() {
					best, have = addr, score
				}
				return
			}
		}
	}
	near := scope6(dst) <= scopeLinkLocal // then only addresses of the device itself count
	for _, l := range k.host.Links {
		if !l.Up || dev != "" && near && l.Name != dev {
			continue
		}
		for _, a := range k.on[l.Name] {
			if a.Family() == fib.Inet6 {
				consider(a)
			}
		}
	}
	return best
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

// The scopes of RFC 4291 that addresses can have.
const (
	scopeLoopback  = 1
	scopeLinkLocal = 2
	scopeSiteLocal = 5
	scopeGlobal    = 14
)

// scope6 is an IPv6 address's scope; unique local ones count as global.
func scope6(a netip.Addr) int {
	b := a.As16()
	switch {
	case a.IsMulticast():
		return int(b[1] & 0xf)
	case a.IsLoopback():
		return scopeLinkLocal // as __ipv6_addr_type says of ::1 when a source is sought
	case a.IsLinkLocalUnicast():
		return scopeLinkLocal
	case b[0] == 0xfe && b[1]&0xc0 == 0xc0:
		return scopeSiteLocal
	}
	return scopeGlobal
}

// scopeScore prefers the smallest scope that is wide enough for the destination, and
// otherwise the widest (rule 2 of RFC 6724, section 5).
func scopeScore(have, want int) int {
	if have >= want {
		return -have
	}
	return have - 128
}

// labels are the kernel's default policy (net/ipv6/addrlabel.c).
var labels = []struct {
	prefix netip.Prefix
	label  int
}{
	{netip.MustParsePrefix("::1/128"), 0},
	{netip.MustParsePrefix("::ffff:0:0/96"), 4},
	{netip.MustParsePrefix("::/96"), 3},
	{netip.MustParsePrefix("2001::/32"), 6},
	{netip.MustParsePrefix("2001:10::/28"), 7},
	{netip.MustParsePrefix("3ffe::/16"), 12},
	{netip.MustParsePrefix("2002::/16"), 2},
	{netip.MustParsePrefix("fec0::/10"), 11},
	{netip.MustParsePrefix("fc00::/7"), 5},
}

func label6(a netip.Addr) int {
	for _, l := range labels {
		if l.prefix.Contains(a) {
			return l.label
		}
	}
	return 1
}

// common returns how many leading bits two addresses have in common.
func common(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	for i := range 128 {
		if (x[i/8]^y[i/8])&(0x80>>(i%8)) != 0 {
			return i
		}
	}
	return 128
}
