package spec

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// ports reads a port or a range of ports: 80, "80" or "8000-8100".
func (d *decoder) ports(v any) fib.Range[uint16] {
	const want = "a port or a range like \"8000-8100\""
	// The kernel refuses the last port (fib_rule_port_range_valid in
	// include/net/fib_rules.h).
	const most = 65534
	var r fib.Range[uint16]
	if n, ok := v.(int64); ok {
		p := uint16(d.number(n, 1, most))
		return fib.Range[uint16]{Lo: p, Hi: p}
	}
	s, ok := d.str(v, want)
	if !ok {
		return r
	}
	lo, hi, err := parseRange(s, 16)
	if err != nil || lo == 0 {
		d.fail("", "`%s` takes %s, not %s", d.key(), want, quote(s))
		return r
	}
	if hi > most {
		d.fail("", "the kernel refuses port %d in a rule: %d is the last", hi, most)
	}
	return fib.Range[uint16]{Lo: uint16(lo), Hi: uint16(hi)}
}

// uids reads a user id or a range of them.
func (d *decoder) uids(v any) fib.Opt[fib.Range[uint32]] {
	const want = "a user id or a range like \"1000-1999\""
	// The highest id is the kernel's INVALID_UID.
	const most = 0xfffffffe
	// networkd skips the whole rule for this one (uid_is_valid in src/basic/user-util.c
	// of systemd), but accepts it inside a range.
	const none = 0xffff
	const help = "it is the -1 of 16 bits; a range may end at 65534 or begin at 65536"
	if n, ok := v.(int64); ok {
		u := d.number(n, 0, most)
		if u == none {
			d.fail(help, "%d is no user id for systemd", u)
		}
		return fib.Some(fib.Range[uint32]{Lo: u, Hi: u})
	}
	s, ok := d.str(v, want)
	if !ok {
		return fib.Opt[fib.Range[uint32]]{}
	}
	lo, hi, err := parseRange(s, 32)
	if err != nil || hi > most {
		d.fail("", "`%s` takes %s, not %s", d.key(), want, quote(s))
	} else if lo == none || hi == none {
		d.fail(help, "%d is no user id for systemd", none)
	}
	return fib.Some(fib.Range[uint32]{Lo: uint32(lo), Hi: uint32(hi)})
}

func parseRange(s string, bits int) (lo, hi uint64, err error) {
	first, last, isRange := strings.Cut(s, "-")
	if lo, err = strconv.ParseUint(first, 10, bits); err != nil {
		return 0, 0, err
	}
	if hi = lo; isRange {
		if hi, err = strconv.ParseUint(last, 10, bits); err != nil {
			return 0, 0, err
		}
	}
	if hi < lo {
		return 0, 0, strconv.ErrRange
	}
	return lo, hi, nil
}

// IPProtocols are the protocols that both the kernel and networkd know by name
// (IPPROTO_* in include/uapi/linux/in.h).
var IPProtocols = map[string]uint8{
	"icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "udp": 17, "dccp": 33, "ipv6": 41, "gre": 47,
	"esp": 50, "ah": 51, "ipv6-icmp": 58, "pim": 103, "comp": 108, "sctp": 132, "udplite": 136,
}

// ipproto reads an IP protocol by name or number.
func (d *decoder) ipproto(v any) uint8 {
	if n, ok := v.(int64); ok {
		for _, p := range IPProtocols {
			if int64(p) == n {
				return p
			}
		}
		d.fail("known are those of tcp, udp, icmp, ipv6-icmp, sctp, dccp, udplite, gre, esp, ah, ipip, ipv6, comp, igmp, pim", "%d is not an IP protocol that a rule can select here", n)
		return 0
	}
	s, ok := d.str(v, "an IP protocol by name or number")
	if !ok {
		return 0
	}
	p, known := IPProtocols[s]
	if !known {
		d.fail(DidYouMean(s, slices.Sorted(maps.Keys(IPProtocols))), "%s is not an IP protocol that a rule can select here", quote(s))
	}
	return p
}
