package lookup

import (
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// flow is a packet as the kernel asks for it (struct flowi).
type flow struct {
	family     fib.Family
	src, dst   netip.Addr // src is unspecified where there is none
	hasSrc     bool
	mark       uint32
	iif, oif   string
	uid        uint32
	tos, proto uint8
	sport      uint16
	dport      uint16

	// For IPv6 alone. A route by dev is preferred; with strict, only such a route
	// counts (RT6_LOOKUP_F_IFACE).
	dev    string
	strict bool
}

// candidate is the result of a table's lookup: a route with the way that was chosen, and
// the ways that might have been.
type candidate struct {
	route *fib.Route
	hop   fib.Nexthop
	equal []fib.Nexthop
}

// mismatch returns the first selector that does not fit, or "" (fib_rule_match in
// net/core/fib_rules.c, then fib4_rule_match and fib6_rule_match). A rule for a link that
// does not exist selects nothing, because the link has no index.
func (k *Resolver) mismatch(r *fib.Rule, f *flow) string {
	switch {
	case r.IIF != "" && (r.IIF != f.iif || k.links[r.IIF] == nil):
		return "iif"
	case r.OIF != "" && (r.OIF != f.oif || k.links[r.OIF] == nil):
		return "oif"
	case (r.Mark^f.mark)&r.Mask != 0:
		return "fwmark"
	case r.L3MDev:
		return "l3mdev"
	case r.UIDRange.Set && (f.uid < r.UIDRange.Value.Lo || f.uid > r.UIDRange.Value.Hi):
		return "uidrange"
	case r.To.Bits() > 0 && !r.To.Contains(f.dst):
		return "to"
	// Without a source, an IPv4 packet has 0.0.0.0 and an IPv6 packet nothing that matches.
	case r.From.Bits() > 0 && (!r.From.Contains(f.src) || f.family == fib.Inet6 && !f.hasSrc):
		return "from"
	case r.TOS != 0 && !tosMatches(r.TOS, f):
		return "tos"
	case r.IPProto != 0 && r.IPProto != f.proto:
		return "ipproto"
	case r.SPort.Hi != 0 && (f.sport < r.SPort.Lo || f.sport > r.SPort.Hi):
		return "sport"
	case r.DPort.Hi != 0 && (f.dport < r.DPort.Lo || f.dport > r.DPort.Hi):
		return "dport"
	}
	return ""
}

// tosMatches compares the bits that a rule can select by: for IPv4 the three of RFC 1349
// (fib_dscp_masked_match, INET_DSCP_LEGACY_TOS_MASK), for IPv6 all six.
func tosMatches(tos uint8, f *flow) bool {
	if f.family == fib.Inet {
		return tos == f.tos&0x1c
	}
	return tos == f.tos&0xfc
}

// refusals are the route types that correspond to the rules' actions.
var refusals = map[fib.Action]fib.RouteType{
	fib.Blackhole: fib.RouteBlackhole, fib.Unreachable: fib.RouteUnreachable, fib.Prohibit: fib.RouteProhibit,
}

// verdict is how the rules end.
type verdict struct {
	found   candidate     // with a route where Found
	refused fib.RouteType // 0 where not refused
	table   uint32

	// or is the other possible end, where the rule suppresses some of several ways and not all.
	or *verdict
}

// rulesLookup walks the rules (fib_rules_lookup in net/core/fib_rules.c). With all, the
// rules that do not match are among the steps.
func (k *Resolver) rulesLookup(f *flow, all bool) (steps []Step, v verdict) {
	return k.rulesFrom(f, all, 0)
}

func (k *Resolver) rulesFrom(f *flow, all bool, start int) (steps []Step, v verdict) {
	rules := k.rules[f.family]
	var few []int
	if !all {
		few = k.selected[f.family].candidates(f)
	}
	for i := start; i < len(rules); i++ {
		if !all {
			at, _ := slices.BinarySearch(few, i)
			if few = few[at:]; len(few) == 0 {
				break
			}
			i = few[0]
		}
		r := rules[i]
		miss := k.mismatch(r, f)
		if (miss == "") == r.Not {
			if r.Not {
				miss = "not"
			}
			if all {
				steps = append(steps, Step{Rule: r, Outcome: NoMatch, Selector: miss})
			}
			continue
		}
		s := Step{Rule: r}
		switch r.Action {
		case fib.Goto:
			// Forward only, to the first rule of that priority. Without one, the kernel
			// skips the goto (FIB_RULE_UNRESOLVED).
			target := slices.IndexFunc(rules[i:], func(o *fib.Rule) bool { return o.Priority == r.Goto })
			if s.Outcome = Jumped; target < 1 {
				s.Outcome = NoTarget
			} else {
				i += target - 1
			}
		case fib.Nop:
			s.Outcome = Passed
		case fib.Lookup:
			v = k.tableLookup(f, r.Table)
			s.Route = v.found.route
			if s.Outcome, s.Why = k.suppress(r, f, &v); s.Outcome == Found && k.inGroup(r, f, &v) {
				_, or := k.rulesFrom(f, false, i+1)
				v.or = &or
			}
		default:
			s.Outcome, v.refused = Refused, refusals[r.Action]
		}
		steps = append(steps, s)
		if s.Outcome == Found || s.Outcome == Refused {
			return steps, v
		}
		v = verdict{}
	}
	return steps, verdict{}
}

// tableLookup looks a table up.
func (k *Resolver) tableLookup(f *flow, id uint32) verdict {
	t := table{f.family, id}
	v := verdict{table: id}
	var ok bool
	if f.family == fib.Inet {
		v.found, ok = k.tableLookup4(t, f)
	} else {
		v.found, ok = k.tableLookup6(t, f)
	}
	if ok && !v.found.route.Type.HasDevice() && v.found.route.Type != fib.Throw {
		v.refused = v.found.route.Type
	}
	if !ok {
		v.found.hop = fib.Nexthop{}
	}
	return v
}

// suppress says what comes of a table's answer. The kernel does not look at the prefix length
// of a route that refuses: it asks suppress only where there was no error (fib_rules_lookup).
func (k *Resolver) suppress(r *fib.Rule, f *flow, v *verdict) (Outcome, string) {
	route := v.found.route
	switch {
	case route == nil:
		return NoRoute, ""
	case route.Type == fib.Throw:
		return Thrown, ""
	case v.refused != 0:
		return Refused, ""
	case v.found.hop.Link == "":
		return NoRoute, "" // none of its ways can be used
	case r.SuppressPrefixLength.Set && uint32(route.Dst.Bits()) <= r.SuppressPrefixLength.Value:
		return Suppressed, "suppress_prefixlength"
	}
	if r.SuppressIfGroup.Set {
		// IPv4 looks at the first way of the route, whichever it takes
		// (fib4_rule_suppress). IPv6 looks at the way that it takes: inGroup removes
		// those that the rule suppresses.
		dev := v.found.hop.Link
		if f.family == fib.Inet {
			dev = route.Nexthops[0].Link
		}
		if k.group(dev) == r.SuppressIfGroup {
			i := slices.IndexFunc(v.found.equal, func(n fib.Nexthop) bool { return k.group(n.Link) != r.SuppressIfGroup })
			if f.family == fib.Inet || i < 0 {
				return Suppressed, "suppress_ifgroup"
			}
			v.found.hop, v.found.equal[i] = v.found.equal[i], v.found.hop
		}
	}
	return Found, ""
}

// inGroup removes from an IPv6 route that was found the ways that the rule suppresses,
// and says whether there were any.
func (k *Resolver) inGroup(r *fib.Rule, f *flow, v *verdict) bool {
	if !r.SuppressIfGroup.Set || f.family == fib.Inet {
		return false
	}
	n := len(v.found.equal)
	v.found.equal = slices.DeleteFunc(v.found.equal, func(n fib.Nexthop) bool { return k.group(n.Link) == r.SuppressIfGroup })
	return len(v.found.equal) < n
}

// group returns the ifgroup of a link that exists.
func (k *Resolver) group(link string) fib.Opt[uint32] {
	if l := k.links[link]; l != nil {
		return fib.Some(l.Group)
	}
	return fib.Opt[uint32]{}
}
