package integration

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// snapshot is what a kernel holds, or must hold, as lines in the words of ip(8) with every
// attribute there is. Two that are equal are the same to every packet.
type snapshot struct{ addresses, routes, rules []string }

// An exception is something that the kernel holds and that no State asks for. Everything else in
// the kernel must be asked for.
type exception struct {
	why     string
	rule    func(lab.Rule) bool
	route   func(lab.Route, []lab.Address) bool
	address func(lab.Address) bool
}

// Numbers of protocols (RTPROT_* in include/uapi/linux/rtnetlink.h).
const protocolKernel = 2

var exceptions = []exception{
	{
		why: "each namespace begins with the kernel's rules for local, main and default",
		rule: func(r lab.Rule) bool {
			tables := map[uint32]uint32{0: fib.TableLocal, fib.PriorityMain: fib.TableMain, 32767: fib.TableDefault}
			table, ok := tables[r.Priority]
			return ok && r == lab.Rule{Family: r.Family, Priority: r.Priority, Action: "lookup", Table: table, Protocol: protocolKernel}
		},
	},
	{
		why: "the kernel makes local and broadcast routes of the addresses, and ff00::/8 of each link",
		route: func(r lab.Route, _ []lab.Address) bool {
			return r.Table == fib.TableLocal && r.Protocol == protocolKernel
		},
	},
	{
		why: "the kernel makes a route in main to the subnet of each address",
		route: func(r lab.Route, addresses []lab.Address) bool {
			return r.Table == fib.TableMain && r.Protocol == protocolKernel &&
				slices.ContainsFunc(addresses, func(a lab.Address) bool {
					return a.Link == r.Dev && a.Prefix.Masked() == r.Dst && (!r.PrefSrc.IsValid() || r.PrefSrc == a.Prefix.Addr())
				})
		},
	},
	{
		why:     "each IPv6 link has a link-local address",
		address: func(a lab.Address) bool { return a.Family == lab.Inet6 && a.Prefix.Addr().IsLinkLocalUnicast() },
	},
	{
		why:     "lo has its own addresses",
		address: func(a lab.Address) bool { return a.Link == "lo" && a.Prefix.Addr().IsLoopback() },
	},
}

// indifferent has the attributes that may differ because they make no difference to a
// packet. All others have to be equal.
var indifferent = []struct {
	why   string
	rule  func(*lab.Rule)
	route func(*lab.Route)
}{
	{
		why:   "the protocol says whose it is: networkd says static, the oneshot uplink",
		rule:  func(r *lab.Rule) { r.Protocol = 0 },
		route: func(r *lab.Route) { r.Protocol = 0 },
	},
	{
		why: "networkd gives a table to every rule, main to those that look none up",
		rule: func(r *lab.Rule) {
			if r.Action != "lookup" {
				r.Table = 0
			}
		},
	},
	{
		why: "the kernel keeps the ways of an IPv6 multipath route in the order in which they came",
		route: func(r *lab.Route) {
			if r.Family == lab.Inet6 {
				hops := strings.Split(r.NextHops, ", ")
				slices.Sort(hops)
				r.NextHops = strings.Join(hops, ", ")
			}
		},
	},
}

// ruleLine returns a rule without what makes no difference.
func ruleLine(r lab.Rule) string {
	for _, i := range indifferent {
		if i.rule != nil {
			i.rule(&r)
		}
	}
	return r.String()
}

// routeLine returns a route without what makes no difference.
func routeLine(r lab.Route) string {
	for _, i := range indifferent {
		if i.route != nil {
			i.route(&r)
		}
	}
	return r.String()
}

// observe returns what the kernel of a namespace holds, the exceptions left out.
func observe(ctx context.Context, n *lab.Namespace) (snapshot, error) {
	var s snapshot
	addresses, err := n.Addresses(ctx)
	if err != nil {
		return s, err
	}
	routes, err := n.Routes(ctx)
	if err != nil {
		return s, err
	}
	rules, err := n.Rules(ctx)
	if err != nil {
		return s, err
	}
	for _, a := range addresses {
		if !slices.ContainsFunc(exceptions, func(e exception) bool { return e.address != nil && e.address(a) }) {
			s.addresses = append(s.addresses, a.String())
		}
	}
	for _, r := range routes {
		if !slices.ContainsFunc(exceptions, func(e exception) bool { return e.route != nil && e.route(r, addresses) }) {
			s.routes = append(s.routes, routeLine(r))
		}
	}
	for _, r := range rules {
		if !slices.ContainsFunc(exceptions, func(e exception) bool { return e.rule != nil && e.rule(r) }) {
			s.rules = append(s.rules, ruleLine(r))
		}
	}
	return s, nil
}

// wanted says what the kernel has to hold for a State. devices has the interface of
// each link.
func wanted(state fib.State, devices map[string]string) snapshot {
	var s snapshot
	type subnet struct {
		link   string
		prefix netip.Prefix
	}
	subnets := map[subnet]bool{}
	for _, a := range state.Addresses {
		w := wantedAddress(a, devices)
		if in := (subnet{a.Link, a.Prefix.Masked()}); subnets[in] && w.Family == lab.Inet {
			w.Other = "secondary" // the kernel's word for all but the first of a subnet
		} else {
			subnets[in] = true
		}
		s.addresses = append(s.addresses, w.String())
	}
	for _, r := range state.Routes {
		s.routes = append(s.routes, routeLine(wantedRoute(r, devices)))
	}
	for _, r := range state.Rules {
		s.rules = append(s.rules, ruleLine(wantedRule(r)))
	}
	return s
}

func (s snapshot) and(o snapshot) snapshot {
	return snapshot{
		addresses: slices.Concat(s.addresses, o.addresses),
		routes:    slices.Concat(s.routes, o.routes),
		rules:     slices.Concat(s.rules, o.rules),
	}
}

// diff returns the lines that only one of the two has: "-" is missing, "+" is too much; "" if
// they are equal.
func diff(want, have snapshot) string {
	var b strings.Builder
	for _, part := range [...]struct {
		what       string
		want, have []string
	}{
		{"address", want.addresses, have.addresses},
		{"route", want.routes, have.routes},
		{"rule", want.rules, have.rules},
	} {
		count := map[string]int{}
		for _, line := range part.have {
			count[line]++
		}
		for _, line := range part.want {
			count[line]--
		}
		var lines []string
		for line, n := range count {
			for range max(n, -n) {
				sign := "+"
				if n < 0 {
					sign = "-"
				}
				lines = append(lines, part.what+" "+line+" "+sign)
			}
		}
		// This puts the two lines of something that differs in one attribute together.
		slices.Sort(lines)
		for _, line := range lines {
			fmt.Fprintf(&b, "%s %s\n", line[len(line)-1:], line[:len(line)-2])
		}
	}
	return b.String()
}

func familyOf(f fib.Family) lab.Family {
	if f == fib.Inet6 {
		return lab.Inet6
	}
	return lab.Inet
}

func wantedAddress(a fib.Address, devices map[string]string) lab.Address {
	w := lab.Address{
		Link: devices[a.Link], Family: familyOf(a.Family()), Prefix: a.Prefix, Scope: "global",
		Valid: lab.Forever, Preferred: lab.Forever,
	}
	if w.Family == lab.Inet {
		w.Label = w.Link
		if a.Prefix.Bits() <= 30 {
			w.Broadcast = lastOf(a.Prefix)
		}
	}
	return w
}

// lastOf returns the broadcast address of a subnet.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

func wantedRoute(r fib.Route, devices map[string]string) lab.Route {
	w := lab.Route{
		Family: familyOf(r.Family), Table: r.Table, Type: r.Type.String(), Dst: r.Dst, Scope: r.Scope.String(),
		PrefSrc: r.Src, Metric: r.Metric,
	}
	var metrics []string
	for _, m := range [...]struct {
		name  string
		value uint32
	}{{"advmss", r.AdvMSS}, {"initcwnd", r.InitCwnd}, {"initrwnd", r.InitRwnd}, {"mtu", r.MTU}} {
		if m.value != 0 {
			metrics = append(metrics, fmt.Sprintf("%s %d", m.name, m.value))
		}
	}
	w.Metrics = strings.Join(metrics, " ")
	if !r.Type.HasDevice() && r.Family == fib.Inet6 {
		// The kernel shows the IPv6 routes that end a packet's way on lo.
		w.Dev = "lo"
	}
	if len(r.Nexthops) == 1 {
		w.Gateway, w.Dev = r.Nexthops[0].Via, devices[r.Nexthops[0].Link]
		if r.Nexthops[0].OnLink {
			w.Flags = "onlink"
		}
		return w
	}
	var hops []string
	for _, n := range r.Nexthops {
		hop := fmt.Sprintf("via %s dev %s weight %d", n.Via, devices[n.Link], n.Weight)
		if n.OnLink {
			hop += " onlink"
		}
		hops = append(hops, hop)
	}
	w.NextHops = strings.Join(hops, ", ")
	return w
}

func wantedRule(r fib.Rule) lab.Rule {
	w := lab.Rule{
		Family: familyOf(r.Family), Priority: r.Priority, Not: r.Not, From: given(r.From), To: given(r.To),
		IIF: r.IIF, OIF: r.OIF, L3MDev: r.L3MDev, Action: r.Action.String(), Table: r.Table, Goto: r.Goto,
	}
	if r.TOS != 0 {
		w.TOS = fmt.Sprintf("%#x", r.TOS)
	}
	switch r.Mask {
	case 0:
	case 1<<32 - 1:
		w.FwMark = fmt.Sprintf("%#x", r.Mark)
	default:
		w.FwMark = fmt.Sprintf("%#x/%#x", r.Mark, r.Mask)
	}
	if r.UIDRange.Set {
		w.UIDRange = fmt.Sprintf("%d-%d", r.UIDRange.Value.Lo, r.UIDRange.Value.Hi)
	}
	if r.IPProto != 0 {
		w.IPProto = fmt.Sprint(r.IPProto)
	}
	if r.SPort.Hi != 0 {
		w.SPort = r.SPort.String()
	}
	if r.DPort.Hi != 0 {
		w.DPort = r.DPort.String()
	}
	if r.SuppressPrefixLength.Set {
		w.SuppressPrefixLength = fmt.Sprint(r.SuppressPrefixLength.Value)
	}
	if r.SuppressIfGroup.Set {
		w.SuppressIfGroup = fmt.Sprint(r.SuppressIfGroup.Value)
	}
	return w
}

// given returns a selector as the kernel keeps it: one of length 0 it does not.
func given(p netip.Prefix) netip.Prefix {
	if p.Bits() <= 0 {
		return netip.Prefix{}
	}
	return p
}
