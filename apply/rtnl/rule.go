package rtnl

import (
	"cmp"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// The rules have a codec of our own because vishvananda/netlink 1.3.1 does not read
// a rule's type (blackhole, unreachable and prohibit look alike), leaves the
// suppress attributes out for tables from 256 up, and writes ipproto four bytes
// wide, which is wrong on a big-endian machine.

// Attributes and flags of include/uapi/linux/fib_rules.h.
const (
	fraDst               = 1
	fraSrc               = 2
	fraIIFName           = 3
	fraGoto              = 4
	fraPriority          = 6
	fraFwMark            = 10
	fraSuppressIfGroup   = 13
	fraSuppressPrefixLen = 14
	fraTable             = 15
	fraFwMask            = 16
	fraOIFName           = 17
	fraL3MDev            = 19
	fraUIDRange          = 20
	fraProtocol          = 21
	fraIPProto           = 22
	fraSPortRange        = 23
	fraDPortRange        = 24

	ruleHeaderLen = 12
	ruleInvert    = 0x2 // FIB_RULE_INVERT
)

// encodeRule writes the payload of RTM_NEWRULE or RTM_DELRULE. For a delete the
// kernel takes what is left out for "any", and removes the first match: so all is
// always written, the protocol too, which is part of a rule's identity.
func (e *encoder) encodeRule(r *fib.Rule, protocol uint8) {
	flags := uint32(0)
	if r.Not {
		flags |= ruleInvert
	}
	table := uint8(0)
	if r.Table < 256 {
		table = uint8(r.Table)
	}
	from, to := max(r.From.Bits(), 0), max(r.To.Bits(), 0)
	e.bytes(uint8(r.Family), uint8(to), uint8(from), r.TOS, table, 0, 0, uint8(r.Action))
	e.u32(flags)
	e.attr8(fraProtocol, protocol)
	e.attr32(fraPriority, r.Priority)
	if from > 0 {
		e.attrAddr(fraSrc, r.From.Addr())
	}
	if to > 0 {
		e.attrAddr(fraDst, r.To.Addr())
	}
	if r.Table != 0 {
		e.attr32(fraTable, r.Table)
	}
	if r.Mask != 0 {
		e.attr32(fraFwMark, r.Mark)
		e.attr32(fraFwMask, r.Mask)
	}
	if r.IIF != "" {
		e.attrString(fraIIFName, r.IIF)
	}
	if r.OIF != "" {
		e.attrString(fraOIFName, r.OIF)
	}
	if r.IPProto != 0 {
		e.attr8(fraIPProto, r.IPProto)
	}
	for _, p := range [...]struct {
		typ   uint16
		ports fib.Range[uint16]
	}{{fraSPortRange, r.SPort}, {fraDPortRange, r.DPort}} {
		if p.ports.Hi != 0 {
			e.attr(p.typ, native.AppendUint16(native.AppendUint16(nil, p.ports.Lo), p.ports.Hi))
		}
	}
	if u := r.UIDRange; u.Set {
		e.attr(fraUIDRange, native.AppendUint32(native.AppendUint32(nil, u.Value.Lo), u.Value.Hi))
	}
	if r.L3MDev {
		e.attr8(fraL3MDev, 1)
	}
	if r.Action == fib.Goto {
		e.attr32(fraGoto, r.Goto)
	}
	if s := r.SuppressPrefixLength; s.Set {
		e.attr32(fraSuppressPrefixLen, s.Value)
	}
	if s := r.SuppressIfGroup; s.Set {
		e.attr32(fraSuppressIfGroup, s.Value)
	}
}

// decodeRule reads the payload of an RTM_NEWRULE. Attributes that a State cannot express are only
// named: our rules have none.
func decodeRule(b []byte) (apply.Rule, error) {
	var r apply.Rule
	if len(b) < ruleHeaderLen {
		return r, errMalformed
	}
	r.Family = fib.Family(b[0])
	to, from := int(b[1]), int(b[2])
	r.TOS = b[3]
	r.Table = uint32(b[4])
	r.Action = fib.Action(b[7])
	r.Not = native.Uint32(b[8:])&ruleInvert != 0
	var err error
	a := attributes{rest: b[ruleHeaderLen:]}
	for err == nil && a.next() {
		v := a.value
		switch a.typ {
		case fraSrc:
			r.From, err = getSelector(r.Family, v, from)
		case fraDst:
			r.To, err = getSelector(r.Family, v, to)
		case fraPriority:
			r.Priority, err = get32(v)
		case fraTable:
			r.Table, err = get32(v)
		case fraProtocol:
			r.Protocol, err = get8(v)
		case fraFwMark:
			r.Mark, err = get32(v)
		case fraFwMask:
			r.Mask, err = get32(v)
		case fraIIFName:
			r.IIF = getString(v)
		case fraOIFName:
			r.OIF = getString(v)
		case fraIPProto:
			r.IPProto, err = get8(v)
		case fraSPortRange:
			r.SPort, err = getPorts(v)
		case fraDPortRange:
			r.DPort, err = getPorts(v)
		case fraUIDRange:
			if len(v) < 8 {
				return r, errMalformed
			}
			r.UIDRange = fib.Some(fib.Range[uint32]{Lo: native.Uint32(v), Hi: native.Uint32(v[4:])})
		case fraL3MDev:
			var on uint8
			on, err = get8(v)
			r.L3MDev = on != 0
		case fraGoto:
			r.Goto, err = get32(v)
		case fraSuppressPrefixLen:
			r.SuppressPrefixLength, err = getSuppress(v)
		case fraSuppressIfGroup:
			r.SuppressIfGroup, err = getSuppress(v)
		default:
			noteUnread(&r, a.typ, v)
		}
	}
	return normalRule(r), cmp.Or(err, a.err)
}

// noteUnread names what a fib.Rule lacks (FRA_* in include/uapi/linux/fib_rules.h).
func noteUnread(r *apply.Rule, typ uint16, v []byte) {
	const pad, sportMask, dportMask, whole = 18, 28, 29, 0xffff
	names := map[uint16]string{11: "realms", 12: "tun_id", 25: "dscp", 26: "flowlabel", sportMask: "sport mask", dportMask: "dport mask", 30: "dscp mask"}
	if typ == pad || typ == 27 { // the latter comes with flowlabel
		return
	}
	if mask, err := get16(v); (typ == sportMask || typ == dportMask) && err == nil && mask == whole {
		return // of one port
	}
	name, known := names[typ]
	if !known {
		name = "attribute " + strconv.Itoa(int(typ))
	}
	note(&r.Unread, name)
}

// normalRule clears what the kernel fills in and a State leaves at zero: a table for rules that
// look none up, and the mask of an absent mark.
func normalRule(r apply.Rule) apply.Rule {
	if r.Action != fib.Lookup || r.L3MDev {
		r.Table = 0
	}
	if r.Action != fib.Goto {
		r.Goto = 0
	}
	if r.Mask == 0 {
		r.Mark = 0
	}
	return r
}

// getSuppress reads a suppress attribute; -1 stands for none.
func getSuppress(v []byte) (fib.Opt[uint32], error) {
	n, err := get32(v)
	if err != nil || int32(n) < 0 {
		return fib.Opt[uint32]{}, err
	}
	return fib.Some(n), nil
}

func getPorts(v []byte) (fib.Range[uint16], error) {
	if len(v) < 4 {
		return fib.Range[uint16]{}, errMalformed
	}
	return fib.Range[uint16]{Lo: native.Uint16(v), Hi: native.Uint16(v[2:])}, nil
}

func getAddr(f fib.Family, v []byte) (netip.Addr, error) {
	a, ok := netip.AddrFromSlice(v)
	if !ok || a.Is4() != (f == fib.Inet) {
		return netip.Addr{}, errMalformed
	}
	return a, nil
}

// getSelector reads a rule's prefix. The kernel keeps the bits beyond its length, and a request
// to remove the rule must name them.
func getSelector(f fib.Family, v []byte, bits int) (netip.Prefix, error) {
	a, err := getAddr(f, v)
	if err != nil {
		return netip.Prefix{}, err
	}
	if p := netip.PrefixFrom(a, bits); p.IsValid() {
		return p, nil
	}
	return netip.Prefix{}, errMalformed
}

func getPrefix(f fib.Family, v []byte, bits int) (netip.Prefix, error) {
	p, err := getSelector(f, v, bits)
	return p.Masked(), err
}

// rules reads all rules of a family: the kernel cannot filter them.
func (k *Kernel) rules(f fib.Family) (rules []apply.Rule, err error) {
	header := make([]byte, ruleHeaderLen)
	header[0] = uint8(f)
	err = k.socket.dump(unix.RTM_GETRULE, header, func() { rules = rules[:0] }, func(b []byte) error {
		r, err := decodeRule(b)
		rules = push(rules, r)
		return err
	})
	return rules, err
}
