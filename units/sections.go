package units

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// file collects the sections of one .network file or drop-in.
type file struct {
	renderer *renderer
	sections []*unit.UnitSection

	guessesOnLink bool // networkd decides on GatewayOnLink= itself if it is not given
}

// section begins a section; its keys follow with set.
func (f *file) section(name string) {
	f.sections = append(f.sections, &unit.UnitSection{Section: name, Entries: make([]*unit.UnitEntry, 0, 8)})
}

// set adds a key to the current section, or refuses it by name if the systemd that
// is rendered for does not know it.
func (f *file) set(o fib.Origin, key string, value any) {
	s := f.sections[len(f.sections)-1]
	first, known := since[s.Section+"."+key]
	if !known || f.renderer.Version.Before(first) {
		f.refuse(o, key+"=", first)
		return
	}
	text := "" // the same as from fmt.Sprint, which is slower for the types of nearly all values
	switch v := value.(type) {
	case string:
		text = v
	case fmt.Stringer:
		text = v.String()
	default:
		text = fmt.Sprint(v)
	}
	s.Entries = append(s.Entries, &unit.UnitEntry{Name: key, Value: text})
}

// number adds a key unless its value is 0, which stands for "not given". Numbers
// are unsigned: as signed ones, those from 2^31 up would come out negative.
func (f *file) number(o fib.Origin, key string, value uint32) {
	if value != 0 {
		f.set(o, key, value)
	}
}

func (f *file) refuse(o fib.Origin, what string, first Version) {
	f.renderer.refused = append(f.renderer.refused, &UnsupportedError{o, what, first, f.renderer.Version})
}

// sections writes a link's file. For a link with PolicyOnly it writes only the
// sections that can be added to others' files.
func (r *renderer) sections(l *fib.Link, b *body) io.Reader {
	f := &file{renderer: r, sections: make([]*unit.UnitSection, 0, 4+len(b.routes)+len(b.rules))}
	if !l.PolicyOnly {
		f.link(l, b.addresses)
	}
	f.learn(l)
	// Without an address in the file, networkd takes a gateway to be on the link,
	// and says so in its log, whatever is learned.
	f.guessesOnLink = len(b.addresses) == 0
	for _, e := range b.routes {
		if l.Learn.Any() {
			r.refuseUnreached(e, l)
		}
		f.route(e)
	}
	if len(b.rules) > 0 && l.Learn.DHCP4 && r.Version.Before(rulesWithDHCP4Since) {
		r.errs = append(r.errs, &LinkError{b.rules[0].Origin, l.Name, "a rule beside those of its learned addresses: systemd-networkd before " + rulesWithDHCP4Since.String() +
			" fails a link with DHCPv4 for it and does not renew the lease; leave the rule out, or give the uplink its addresses"})
	}
	for _, e := range b.rules {
		f.rule(e)
	}
	return unit.SerializeSections(f.sections)
}

// minMTU6 is what IPv6 needs (RFC 8200). Below it the kernel has no IPv6 on a link.
// networkd then raises the MTU, unless it has nothing to do with IPv6 there.
const minMTU6 = 1280

// link writes [Match], [Link] and [Network] of a link that we manage.
func (f *file) link(l *fib.Link, addresses []*fib.Address) {
	var o fib.Origin
	if len(l.Uplinks) > 0 {
		o = l.Uplinks[0].Origin
	}
	f.section("Match")
	for _, m := range [...]struct{ key, value string }{
		{"Name", l.Match.Name}, {"MACAddress", l.Match.MAC}, {"Driver", l.Match.Driver}, {"Path", l.Match.Path},
	} {
		if m.value != "" {
			f.set(o, m.key, m.value)
		}
	}
	if l.Match.IsMACAlone() {
		// Not Type=ether, which would leave out wlan and wwan.
		key := "Kind"
		if f.renderer.Version.Before(since["Match.Kind"]) {
			key = "Type"
		}
		f.set(o, key, "!"+fib.Stacked)
	}

	loopback := l.Match.Name == "lo"
	if online := l.RequiredForOnline; l.MTU != 0 || online != "" || loopback {
		f.section("Link")
		f.number(o, "MTUBytes", l.MTU)
		if loopback {
			online = "no"
		}
		if online != "" {
			f.set(o, "RequiredForOnline", online)
		}
	}

	f.section("Network")
	dhcp := map[[2]bool]string{{}: "no", {true, false}: "ipv4", {false, true}: "ipv6", {true, true}: "yes"}
	f.set(o, "DHCP", dhcp[[2]bool{l.Learn.DHCP4, l.Learn.DHCP6}])
	// DHCP= and IPv6AcceptRA= have defaults that put routes into main, so both are
	// always given.
	f.set(o, "IPv6AcceptRA", yesOrNo(l.Learn.RA))
	if l.MTU != 0 && l.MTU < minMTU6 {
		f.set(o, "LinkLocalAddressing", "no")
	}
	if loopback {
		f.set(o, "LinkLocalAddressing", "no")
		// Without it, a reload removes 127.0.0.1 and ::1 (247), and leaves stale
		// rules and routes (252).
		f.set(o, "KeepConfiguration", "yes")
	}
	for _, a := range addresses {
		f.set(a.Origin, "Address", a.Prefix)
	}
	for _, a := range l.DNS {
		f.set(o, "DNS", a)
	}
	if l.Domains != nil {
		f.set(o, "Domains", strings.Join(l.Domains, " "))
	}
}

func yesOrNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// learn writes where learned gateways go. With default-route they stay in main,
// with the uplink's metric, and are copied to the uplink's table; without it they
// go to that table alone. RouteTable= together with Gateway=_dhcp4 in another table
// ends in a failed link on 252 and 257.
func (f *file) learn(l *fib.Link) {
	if !l.Learn.Any() {
		return
	}
	o := l.Uplinks[0].Origin
	if l.Learn.DHCP4 {
		f.learned(o, "DHCPv4", l.Learn)
	}
	if l.Learn.RA {
		f.learned(o, "IPv6AcceptRA", l.Learn)
	}
	if l.Learn.DHCP6 {
		// Before networkd knew RouteTable=, it made no routes from DHCPv6 except those
		// of delegated prefixes, which lead nowhere: nothing is lost without the key.
		table := !f.renderer.Version.Before(since["DHCPv6.RouteTable"])
		if table || !l.Learn.RA {
			f.section("DHCPv6")
		}
		if table {
			f.set(o, "RouteTable", l.Learn.Table)
		}
		if !l.Learn.RA {
			// Otherwise the client waits for an advertisement.
			f.set(o, "WithoutRA", "solicit")
		}
	}
	if !l.Learn.DefaultRoute {
		return
	}
	for _, learned := range [...]struct {
		is      bool
		gateway string
	}{{l.Learn.DHCP4, "_dhcp4"}, {l.Learn.RA, "_ipv6ra"}} {
		if learned.is {
			f.section("Route")
			f.set(o, "Gateway", learned.gateway)
			f.set(o, "Table", l.Learn.Table)
		}
	}
}

// learned writes the section of one protocol that learns gateways.
func (f *file) learned(o fib.Origin, section string, l fib.Learn) {
	switch {
	case !l.DefaultRoute:
		f.section(section)
		f.set(o, "RouteTable", l.Table)
	case l.Metric != 0:
		f.section(section)
		f.set(o, "RouteMetric", l.Metric)
	}
}

// route writes a [Route].
func (f *file) route(r *fib.Route) {
	o := r.Origin
	f.section("Route")
	multipath := len(r.Nexthops) > 0 && r.Nexthops[0].Weight > 0
	if multipath && len(r.Nexthops) == 1 && r.Nexthops[0].Weight == 1 {
		multipath = false // a part of an IPv6 route: Gateway= says the same, and needs no name
	}
	via := !multipath && len(r.Nexthops) == 1 && r.Nexthops[0].Via.IsValid()
	if !r.IsDefault() || !via {
		// networkd rejects a [Route] with neither a gateway nor a destination.
		f.set(o, "Destination", r.Dst)
	}
	if r.Type != fib.Unicast {
		f.set(o, "Type", r.Type)
	}
	if via {
		f.set(o, "Gateway", r.Nexthops[0].Via)
		if r.Nexthops[0].OnLink || f.guessesOnLink {
			f.set(o, "GatewayOnLink", yesOrNo(r.Nexthops[0].OnLink))
		}
	}
	if multipath {
		for _, n := range r.Nexthops {
			f.set(o, "MultiPathRoute", f.nexthop(o, n))
		}
	}
	// networkd's default is link, or host, except for unicast routes with a gateway.
	if r.Scope != fib.ScopeUniverse || r.Family == fib.Inet && r.Type.HasDevice() && (!via || r.Type != fib.Unicast) {
		f.set(o, "Scope", r.Scope)
	}
	if r.Table != fib.TableMain || r.Type != fib.Unicast {
		// networkd's default for some types is table local.
		f.set(o, "Table", r.Table)
	}
	if r.Src.IsValid() {
		f.set(o, "PreferredSource", r.Src)
	}
	if r.Metric != r.Family.Metric(0) {
		f.number(o, "Metric", r.Metric)
	}
	f.number(o, "MTUBytes", r.MTU)
	f.number(o, "TCPAdvertisedMaximumSegmentSize", r.AdvMSS)
	f.number(o, "InitialCongestionWindow", r.InitCwnd)
	f.number(o, "InitialAdvertisedReceiveWindow", r.InitRwnd)
}

// nexthop writes one way of a multipath route. networkd needs the interface's name:
// without it the route fails or is incomplete, on every version. It also needs a
// gateway, except for newer versions.
func (f *file) nexthop(o fib.Origin, n fib.Nexthop) string {
	l, _ := f.renderer.state.Link(n.Link)
	dev, literal := l.Match.Device()
	switch {
	case !literal:
		f.renderer.errs = append(f.renderer.errs, &MultipathError{o, n.Link, "the name of its link: give `interface` without a pattern"})
	case !n.Via.IsValid():
		f.renderer.errs = append(f.renderer.errs, &MultipathError{o, n.Link, "a gateway on it"})
	case n.OnLink:
		f.renderer.errs = append(f.renderer.errs, &MultipathError{o, n.Link, "a gateway in one of its subnets: there is no onlink"})
	}
	return fmt.Sprintf("%s@%s %d", n.Via, dev, n.Weight)
}

// selector writes From= or To= of a rule.
func (f *file) selector(o fib.Origin, key string, p netip.Prefix) {
	if p.Addr().IsUnspecified() && f.renderer.Version.Before(zeroPrefixSince) {
		f.refuse(o, key+"="+p.String(), zeroPrefixSince)
	}
	f.set(o, key, p)
}

// rule writes a [RoutingPolicyRule].
func (f *file) rule(r *fib.Rule) {
	o := r.Origin
	f.section("RoutingPolicyRule")
	f.set(o, "Priority", r.Priority)
	from, to := r.From.Bits() > 0, r.To.Bits() > 0
	if !from && !to {
		family := "ipv4"
		if r.Family == fib.Inet6 {
			family = "ipv6"
		}
		f.set(o, "Family", family)
	}
	if r.Not {
		f.set(o, "InvertRule", "yes")
	}
	if from {
		f.selector(o, "From", r.From)
	}
	if to {
		f.selector(o, "To", r.To)
	}
	if r.Mask != 0 {
		mark := fmt.Sprintf("%d/%d", r.Mark, r.Mask)
		if r.Mark == 0 && f.renderer.Version.Before(zeroMarkSince) {
			f.refuse(o, "FirewallMark="+mark, zeroMarkSince)
		}
		f.set(o, "FirewallMark", mark)
	}
	if r.IIF != "" {
		f.set(o, "IncomingInterface", r.IIF)
	}
	if r.OIF != "" {
		f.set(o, "OutgoingInterface", r.OIF)
	}
	f.number(o, "TypeOfService", uint32(r.TOS))
	f.number(o, "IPProtocol", uint32(r.IPProto))
	if r.SPort.Hi != 0 {
		f.set(o, "SourcePort", r.SPort)
	}
	if r.DPort.Hi != 0 {
		f.set(o, "DestinationPort", r.DPort)
	}
	if r.UIDRange.Set {
		f.set(o, "User", r.UIDRange.Value)
	}
	switch {
	case r.L3MDev:
		f.set(o, "L3MasterDevice", "yes")
	case r.Action == fib.Lookup:
		f.set(o, "Table", r.Table)
	case r.Action == fib.Goto:
		f.set(o, "GoTo", r.Goto)
	case r.Action == fib.Nop && f.renderer.Version.Before(nopSince):
		f.refuse(o, "Type=nop", nopSince)
	default:
		f.set(o, "Type", r.Action)
	}
	if r.SuppressPrefixLength.Set {
		f.set(o, "SuppressPrefixLength", r.SuppressPrefixLength.Value)
	}
	if r.SuppressIfGroup.Set {
		f.set(o, "SuppressInterfaceGroup", r.SuppressIfGroup.Value)
	}
}
