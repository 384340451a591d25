package importer

import (
	"cmp"
	"net/netip"
	"strconv"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

func (p *ipArgs) rule() error {
	done, err := p.verb()
	if done {
		return err
	}
	r := &Rule{AnyPriority: true}
	p.c.rule = r
	if p.c.verb == "flush" {
		if len(p.args) > 0 {
			return errIP("a flush of some rules only")
		}
		r.Family = cmp.Or(p.family, fib.Inet)
		return nil
	}
	r.Action = 0
	for len(p.args) > 0 {
		switch a := p.args[0]; {
		case a == "not":
			p.next()
			r.Not = true
		case a == "from":
			p.next()
			r.From, err = p.prefix()
		case a == "to":
			p.next()
			r.To, err = p.prefix()
		case p.word("preference", "order", "priority") != "":
			r.Priority, err = p.number(32)
			r.AnyPriority = false
		case a == "tos" || len(a) > 2 && strings.HasPrefix("dsfield", a):
			p.next()
			var n uint64
			s := p.next()
			if n, err = strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 8); err != nil { // always hexadecimal (rtnl_dsfield_a2n)
				return unknownWord(s)
			}
			r.TOS = uint8(n)
		case a == "fwmark":
			p.next()
			err = p.mark(r)
		case len(a) > 1 && p.word("realms") != "":
			p.lose("realms", p.next())
		case len(a) > 2 && p.word("protocol") != "":
			p.next()
		case a == "t": // for tun_id, which ip(8) tries first; only an old ip(8) does not know it
			return errIP("`t` is `tun_id` to ip(8), which no rule of a spec has: write `table`")
		case p.word("table") != "" || a == "lookup" && p.next() != "":
			r.Table, err = p.table()
			r.Action = fib.Lookup
		case a == "suppress_prefixlength" || a == "sup_pl":
			p.next()
			r.SuppressPrefixLength, err = p.opt()
		case a == "suppress_ifgroup" || a == "sup_group":
			p.next()
			r.SuppressIfGroup, err = p.opt()
		case a == "dev" || a == "iif":
			p.next()
			r.IIF = p.next()
		case a == "oif":
			p.next()
			r.OIF = p.next()
		case a == "l3mdev":
			p.next()
			r.L3MDev, r.Action = true, fib.Lookup
		case a == "uidrange":
			p.next()
			s := p.next()
			lo, hi, rangeErr := parseRange(s, 32)
			if rangeErr != nil {
				return unknownWord(s)
			}
			r.UIDRange = fib.Some(fib.Range[uint32]{Lo: lo, Hi: hi})
		case a == "ipproto":
			p.next()
			s := p.next()
			n, ok := ipProtocol(s)
			if !ok {
				return unknownWord(s)
			}
			r.IPProto = n
		case a == "sport" || a == "dport":
			p.next()
			s := p.next()
			lo, hi, rangeErr := parseRange(s, 16)
			if rangeErr != nil || lo == 0 || hi == 65535 { // fib_rule_port_range_valid, include/net/fib_rules.h
				return unknownWord(s)
			}
			x := fib.Range[uint16]{Lo: uint16(lo), Hi: uint16(hi)}
			if a == "sport" {
				r.SPort = x
			} else {
				r.DPort = x
			}
		case a == "tun_id" || a == "dscp" || a == "nat" || a == "map-to":
			return errIP("no rule of a spec has `" + a + "`")
		case a == "goto":
			p.next()
			r.Goto, err = p.number(32)
			r.Action = fib.Goto
		default:
			if a == "type" {
				p.next()
			}
			switch w := p.word("nop", "unicast", "blackhole", "unreachable", "prohibit"); w {
			case "":
				return unknownWord(p.next())
			case "unicast":
				r.Action = fib.Lookup
			default:
				r.Action, _ = fib.ParseAction(w)
			}
		}
		if err != nil {
			return err
		}
	}
	return p.finishRule(r)
}

func (p *ipArgs) finishRule(r *Rule) error {
	r.Family = cmp.Or(p.asked, fib.Inet)
	if r.Family != cmp.Or(p.family, fib.Inet) {
		// ip(8) takes the family of a route from its addresses, but not that of a rule.
		return errIP("without -6 the kernel refuses a rule with an IPv6 address")
	}
	for _, x := range []*netip.Prefix{&r.From, &r.To} {
		if x.Bits() == 0 {
			*x = netip.Prefix{}
		}
	}
	if r.Action == 0 && p.c.verb != "del" {
		r.Action = fib.Lookup
	}
	if r.Action == fib.Lookup && r.Table == 0 && !r.L3MDev && p.c.verb != "del" {
		r.Table = fib.TableMain // iprule_modify in iproute2's ip/iprule.c
	}
	return nil
}

// mark reads a mark with or without a mask. Without a mask all bits count, except that a
// mark of 0 then selects nothing (fib_nl2rule, net/core/fib_rules.c).
func (p *ipArgs) mark(r *Rule) error {
	s := p.next()
	value, mask, hasMask := strings.Cut(s, "/")
	v, err := strconv.ParseUint(value, 0, 32)
	if err != nil {
		return unknownWord(s)
	}
	m := uint64(0)
	switch {
	case hasMask:
		if m, err = strconv.ParseUint(mask, 0, 32); err != nil {
			return unknownWord(s)
		}
	case v != 0:
		m = 0xffffffff
	}
	r.Mark, r.Mask = uint32(v), uint32(m)
	return nil
}

func (p *ipArgs) opt() (fib.Opt[uint32], error) {
	n, err := p.number(32)
	return fib.Some(n), err
}

func parseRange(s string, bits int) (lo, hi uint32, err error) {
	first, last, isRange := strings.Cut(s, "-")
	l, err := strconv.ParseUint(first, 0, bits)
	if err != nil {
		return 0, 0, err
	}
	h := l
	if isRange {
		if h, err = strconv.ParseUint(last, 0, bits); err != nil {
			return 0, 0, err
		}
	}
	if h < l {
		return 0, 0, strconv.ErrRange
	}
	return uint32(l), uint32(h), nil
}

// ipProtocolAliases are names of /etc/protocols for protocols that have another name in a spec.
var ipProtocolAliases = map[string]uint8{"icmpv6": 58, "ipencap": 4, "ipcomp": 108}

func ipProtocol(s string) (uint8, bool) {
	if n, err := strconv.ParseUint(s, 0, 8); err == nil {
		return uint8(n), n != 0
	}
	s = strings.ToLower(s)
	n, ok := spec.IPProtocols[s]
	if !ok {
		n, ok = ipProtocolAliases[s]
	}
	return n, ok
}
