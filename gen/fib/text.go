package fib

import (
	"net/netip"
	"strconv"
	"strings"
)

// Syntax writes a State's parts as lines of ip(8): what `ip -batch` reads, after
// the leading "-6 " of the lines that need `ip -6 -batch` is taken off.
type Syntax struct {
	// Device names the interface of a link. Nil stands for the name that the
	// link's Match gives, which only a State can tell: see State.Syntax.
	Device func(link string) string
	// Table names a table; nil for its number.
	Table func(id uint32) string
	// Protocol is the number that routes and rules bear, if it is not ours; 0 leaves it out.
	Protocol Opt[uint8]
}

// Syntax returns a Syntax that names each link's interface where its match gives
// the name literally, and otherwise "<LINK>", which no interface can be called.
func (s *State) Syntax() Syntax {
	names := make(map[string]string, len(s.Links))
	for _, l := range s.Links {
		if dev, ok := l.Match.Device(); ok {
			names[l.Name] = dev
		}
	}
	return Syntax{Device: func(link string) string {
		if dev, ok := names[link]; ok {
			return dev
		}
		return "<" + link + ">"
	}}
}

// Text returns the whole State as lines of ip(8) in the order in which they can
// be applied: addresses, routes, rules. Tables' names, probes, and the settings of
// links, which ip(8) cannot say, are comments.
func (s *State) Text() string {
	x := s.Syntax()
	var b strings.Builder
	line := func(t string) { b.WriteString(t); b.WriteByte('\n') }
	for _, t := range s.Tables {
		line("# table " + utoa(t.ID) + " " + t.Name)
	}
	for i := range s.Probes {
		line("# probe " + probeText(&s.Probes[i]))
	}
	for i := range s.Failover.Ways {
		line("# main " + mainWayText(&s.Failover.Ways[i]))
	}
	for _, l := range s.Links {
		line(x.Link(l))
		for _, r := range l.Learn.Rules {
			end := "from"
			if r.To {
				end = "to"
			}
			line("# for each address it learns, " + end + " that: " + x.Rule("add", r.Rule))
		}
	}
	for _, a := range s.Addresses {
		line(x.Address("add", a))
	}
	for _, a := range s.Held {
		line("# others bring " + a.Prefix.String() + " dev " + x.Device(a.Link))
	}
	for _, r := range s.Routes {
		line(x.Route("add", r))
	}
	for _, r := range s.Rules {
		line(x.Rule("add", r))
	}
	return b.String()
}

// Link returns what is set on a link: a comment, and a second line where the
// state wants an MTU.
func (x Syntax) Link(l Link) string {
	var w words
	w.add("# link", l.Name, "is", l.Match.String())
	if l.PolicyOnly {
		w.add("(policy only)")
	}
	if l.Learn.DHCP4 {
		w.add("dhcp4")
	}
	if l.Learn.DHCP6 {
		w.add("dhcp6")
	}
	if l.Learn.RA {
		w.add("ra")
	}
	if l.Learn.Any() {
		w.add("table", x.table(l.Learn.Table))
		if l.Learn.DefaultRoute {
			w.add("and main metric", utoa(l.Learn.Metric))
		}
	}
	for _, d := range l.DNS {
		w.add("dns", d.String())
	}
	for _, d := range l.Domains {
		w.add("domain", d)
	}
	if l.RequiredForOnline != "" {
		w.add("required-for-online", l.RequiredForOnline)
	}
	if l.MTU != 0 {
		return w.String() + "\nlink set dev " + x.Device(l.Name) + " mtu " + utoa(l.MTU)
	}
	return w.String()
}

// Address returns `address VERB …`.
func (x Syntax) Address(verb string, a Address) string {
	var w words
	w.object(a.Family(), "address", verb)
	w.add(a.Prefix.String(), "dev", x.Device(a.Link))
	if verb == "add" && a.Family() == Inet && a.Prefix.Bits() < 31 {
		w.add("brd", "+") // networkd sets a broadcast address, ip(8) by itself does not
	}
	return w.String()
}

// Route returns `route VERB …`.
func (x Syntax) Route(verb string, r Route) string {
	var w words
	w.object(r.Family, "route", verb)
	if r.Type != Unicast {
		w.add(r.Type.String())
	}
	w.add(destination(r.Dst))
	if len(r.Nexthops) == 1 {
		x.nexthop(&w, r.Nexthops[0])
	}
	// Without a table ip(8) takes main, but for these types local (iproute_modify in ip/iproute.c).
	if r.Table != TableMain || r.Type == Local || r.Type == Broadcast || r.Type == Anycast {
		w.add("table", x.table(r.Table))
	}
	w.number("proto", x.protocol())
	if r.Scope != ScopeUniverse || r.Family == Inet && r.DefaultScope() != ScopeUniverse {
		w.add("scope", r.Scope.String())
	}
	if r.Src.IsValid() {
		w.add("src", r.Src.String())
	}
	w.number("metric", r.Metric)
	w.number("mtu", r.MTU)
	w.number("advmss", r.AdvMSS)
	w.number("initcwnd", r.InitCwnd)
	w.number("initrwnd", r.InitRwnd)
	if len(r.Nexthops) > 1 {
		for _, n := range r.Nexthops {
			w.add("nexthop")
			x.nexthop(&w, n)
			w.number("weight", uint32(n.Weight))
		}
	}
	return w.String()
}

func (x Syntax) nexthop(w *words, n Nexthop) {
	if n.Via.IsValid() {
		w.add("via", n.Via.String())
	}
	w.add("dev", x.Device(n.Link))
	if n.OnLink {
		w.add("onlink")
	}
}

// Rule returns `rule VERB …`. A delete must name all that an add did, because
// the kernel takes what is left out for "any".
func (x Syntax) Rule(verb string, r Rule) string {
	var w words
	w.object(r.Family, "rule", verb)
	w.add("priority", utoa(r.Priority))
	if r.Not {
		w.add("not")
	}
	w.add("from", selector(r.From))
	if r.To.Bits() > 0 {
		w.add("to", selector(r.To))
	}
	if r.Mask != 0 {
		w.add("fwmark", hex(r.Mark)+"/"+hex(r.Mask))
	}
	if r.IIF != "" {
		w.add("iif", r.IIF)
	}
	if r.OIF != "" {
		w.add("oif", r.OIF)
	}
	if r.TOS != 0 {
		w.add("tos", hex(uint32(r.TOS)))
	}
	w.number("ipproto", uint32(r.IPProto))
	if r.SPort.Hi != 0 {
		w.add("sport", r.SPort.String())
	}
	if r.DPort.Hi != 0 {
		w.add("dport", r.DPort.String())
	}
	if r.UIDRange.Set {
		w.add("uidrange", utoa(r.UIDRange.Value.Lo)+"-"+utoa(r.UIDRange.Value.Hi))
	}
	switch {
	case r.L3MDev:
		w.add("l3mdev")
	case r.Action == Lookup:
		w.add("lookup", x.table(r.Table))
	case r.Action == Goto:
		w.add("goto", utoa(r.Goto))
	default:
		w.add(r.Action.String())
	}
	if r.SuppressPrefixLength.Set {
		w.add("suppress_prefixlength", utoa(r.SuppressPrefixLength.Value))
	}
	if r.SuppressIfGroup.Set {
		w.add("suppress_ifgroup", utoa(r.SuppressIfGroup.Value))
	}
	w.number("protocol", x.protocol())
	return w.String()
}

func (x Syntax) protocol() uint32 {
	if x.Protocol.Set {
		return uint32(x.Protocol.Value)
	}
	return Protocol
}

func (x Syntax) table(id uint32) string {
	switch {
	case id == TableMain:
		return "main"
	case id == TableDefault:
		return "default"
	case id == TableLocal:
		return "local"
	case x.Table != nil:
		return x.Table(id)
	}
	return utoa(id)
}

// words builds a line of ip(8).
type words struct{ b strings.Builder }

func (w *words) add(s ...string) {
	for _, s := range s {
		if w.b.Len() > 0 {
			w.b.WriteByte(' ')
		}
		w.b.WriteString(s)
	}
}

func (w *words) number(what string, v uint32) {
	if v != 0 {
		w.add(what, utoa(v))
	}
}

func (w *words) object(f Family, object, verb string) {
	if f == Inet6 {
		w.add("-6")
	}
	w.add(object, verb)
}

// String returns the line.
func (w *words) String() string { return w.b.String() }

// destination writes a route's prefix as ip(8) prints it: a host without length.
func destination(p netip.Prefix) string {
	switch {
	case p.Bits() == 0:
		return "default"
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}

func selector(p netip.Prefix) string {
	if p.Bits() <= 0 {
		return "all"
	}
	return destination(p)
}

func utoa(v uint32) string { return strconv.FormatUint(uint64(v), 10) }

func hex(v uint32) string { return "0x" + strconv.FormatUint(uint64(v), 16) }

// probeText describes a probe: "isp1 IPv4: 1 of 198.51.100.1 203.0.113.1 (icmp), every
// 5s for 2s, down 3, up 5".
func probeText(p *Probe) string {
	var b strings.Builder
	b.WriteString(p.Uplink + " " + p.Family.String() + ": " + utoa(p.Reliability) + " of")
	for _, a := range p.Targets {
		b.WriteString(" " + a.String())
	}
	how := "icmp"
	if p.Port != 0 {
		how = "tcp port " + utoa(uint32(p.Port))
	}
	b.WriteString(" (" + how + "), every " + p.Interval.String() + " for " + p.Timeout.String() + ", down " + utoa(p.Down) + ", up " + utoa(p.Up))
	return b.String()
}

// mainWayText returns "isp1 IPv4: metric 100", or the weight.
func mainWayText(w *MainWay) string {
	if w.Weight > 0 {
		return w.Uplink + " " + w.Family.String() + ": weight " + utoa(uint32(w.Weight))
	}
	return w.Uplink + " " + w.Family.String() + ": metric " + utoa(w.Metric)
}
