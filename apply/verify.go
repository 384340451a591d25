package apply

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Check is one question to the kernel's own route lookup, with its answer.
type Check struct {
	Uplink string
	Packet Packet
	Want   Way
	Have   Way
	Err    error // the kernel gave no answer
	Why    string

	equal []Way // ways that are as right as Want
}

// OK says whether the kernel's answer is the right one.
func (c Check) OK() bool { return c.Err == nil && c.Why == "" }

// String returns the check as one line: "from 192.0.2.10 to 203.0.113.1: via …".
func (c Check) String() string {
	var b strings.Builder
	if c.Packet.From.IsValid() {
		fmt.Fprintf(&b, "from %s ", c.Packet.From)
	}
	fmt.Fprintf(&b, "to %s", c.Packet.To)
	if c.Packet.Mark != 0 {
		fmt.Fprintf(&b, " mark 0x%x", c.Packet.Mark)
	}
	if c.Packet.IIF != "" {
		fmt.Fprintf(&b, " iif %s", c.Packet.IIF)
	}
	b.WriteString(": ")
	switch {
	case c.Err != nil:
		fmt.Fprintf(&b, "%v", c.Err)
	case c.Why != "":
		fmt.Fprintf(&b, "%s (wanted %s)", c.Have, c.Want)
	default:
		b.WriteString(c.Have.String())
	}
	return b.String()
}

// String returns the way in the words of ip-route(8).
func (w Way) String() string {
	if !w.Type.HasDevice() {
		return w.Type.String()
	}
	var parts []string
	if w.Type == fib.Local {
		parts = append(parts, w.Type.String())
	}
	if w.Via.IsValid() {
		parts = append(parts, "via "+w.Via.String())
	}
	if w.Device != "" {
		parts = append(parts, "dev "+w.Device)
	}
	if w.Table != 0 {
		parts = append(parts, fmt.Sprintf("table %d", w.Table))
	}
	if w.Src.IsValid() {
		parts = append(parts, "src "+w.Src.String())
	}
	return strings.Join(parts, " ")
}

// outside are destinations that no host has on a link of its own (RFC 5737, RFC 3849 is for
// documentation; both are routed like any other address).
var outside = map[fib.Family][]netip.Addr{
	fib.Inet:  {netip.MustParseAddr("203.0.113.254"), netip.MustParseAddr("8.8.8.8")},
	fib.Inet6: {netip.MustParseAddr("2001:db8:fffe::1"), netip.MustParseAddr("2001:4860:4860::8888")},
}

// Verification is what Verify found.
type Verification struct {
	Checks  []Check
	Missing []Missing
	Waiting []Waiting // links that are not ready, or have learned no address yet
	Hazards []Hazard

	Ambiguous []error // an AmbiguousError for each link that could not be verified because of it
}

// OK says whether nothing is wrong. Hazards and links that are not ready do not count: they
// concern the host, not the state.
func (v Verification) OK() bool {
	return len(v.Missing) == 0 && len(v.Ambiguous) == 0 && !slices.ContainsFunc(v.Checks, func(c Check) bool { return !c.OK() })
}

// Err returns nil if OK, else the first that applies of ErrWrongWay, ErrMissing, ErrDuplicate and
// an AmbiguousError.
func (v Verification) Err() error {
	switch {
	case v.OK():
		return nil
	case slices.ContainsFunc(v.Checks, func(c Check) bool { return !c.OK() }):
		return ErrWrongWay
	case slices.ContainsFunc(v.Missing, func(m Missing) bool { return !m.Duplicate }):
		return ErrMissing
	case len(v.Missing) > 0:
		return ErrDuplicate
	}
	return errors.Join(v.Ambiguous...)
}

// Missing is an address of the State that a link does not have: nobody reaches the host by it,
// and the kernel cannot be asked about its ways.
type Missing struct {
	Uplink, Device string
	Address        netip.Prefix
	Duplicate      bool // it is there, but another host has it too (RFC 4862, section 5.4)
	Others         bool // it is not ours to add: apply waits for it
}

// String returns "eth1 does not have 192.0.2.10/24".
func (m Missing) String() string {
	if m.Duplicate {
		return fmt.Sprintf("%s cannot use %s: another host has this address (duplicate address detection has failed)", m.Device, m.Address)
	}
	if m.Others {
		return fmt.Sprintf("%s does not have %s: who has the link (netplan, NetworkManager, ifupdown …) has to bring it", m.Device, m.Address.Addr())
	}
	return fmt.Sprintf("%s does not have %s", m.Device, m.Address)
}

// addresses finds which addresses are missing, which links are not ready, and which have yet to
// learn an address.
func (v *Verification) addresses(want Resolved, have Snapshot) {
	type place struct {
		device string
		addr   netip.Addr
	}
	there, named := map[place]*Address{}, map[place]bool{}
	anywhere := map[netip.Addr]*Address{}
	for i := range have.Addresses {
		a := &have.Addresses[i]
		there[place{a.Link, a.Prefix.Addr()}], anywhere[a.Prefix.Addr()] = a, a
	}
	uplink := make(map[string]string, len(want.Links))
	for _, l := range want.Links {
		uplink[l.Device.Name] = l.Name
	}
	for _, w := range want.Addresses {
		at := place{w.Link, w.Prefix.Addr()}
		named[at] = true
		if a := there[at]; a == nil || a.Duplicate {
			v.Missing = append(v.Missing, Missing{Uplink: uplink[w.Link], Device: w.Link, Address: w.Prefix, Duplicate: a != nil})
		}
	}
	// Others may add the address to a link of their choice, as hosts do that announce their
	// addresses.
	for _, w := range want.Held {
		at := place{w.Link, w.Prefix.Addr()}
		named[at] = true
		if a := cmp.Or(there[at], anywhere[at.addr]); a == nil || a.Duplicate {
			v.Missing = append(v.Missing, Missing{Uplink: uplink[w.Link], Device: w.Link, Address: w.Prefix, Duplicate: a != nil, Others: true})
		}
	}
	for _, w := range want.Later.Links {
		if a := w.Lacks; !a.IsValid() {
			v.Waiting = append(v.Waiting, w)
		} else if !named[place{w.Device, a}] {
			v.Missing = append(v.Missing, Missing{Uplink: w.Name, Device: w.Device, Address: netip.PrefixFrom(a, a.BitLen()), Others: true})
		}
	}
	for _, l := range want.Links {
		if l.Learn.Any() && !slices.ContainsFunc(have.Addresses, func(a Address) bool {
			return a.Link == l.Device.Name && l.Learn.Learns(a.Family()) && !a.Prefix.Addr().IsLinkLocalUnicast() && !named[place{a.Link, a.Prefix.Addr()}]
		}) {
			v.Waiting = append(v.Waiting, Waiting{Link: l.Link, Device: l.Device.Name, Why: l.Unlearned()})
		}
	}
}

// Unlearned says in words that the link has not learned an address.
func (l ResolvedLink) Unlearned() string {
	if !l.Learn.DHCP6 && !l.Learn.RA {
		return l.Device.Name + " has not learned an address yet: no DHCP client has brought one"
	}
	return l.Device.Name + " has not learned an address yet: neither a DHCP client nor a router advertisement has brought one"
}

// Verify asks the kernel's route lookup, for each uplink and family and from each of its
// addresses, for the way to destinations outside, inside the connected subnet, and of every route
// of its own table. It works the same whoever brought the state about.
func (a *Applier) Verify(s fib.State) (Verification, error) {
	have, err := a.observe(Scope{Foreign: true})
	if err != nil {
		return Verification{}, err
	}
	want := resolve(s, have, a.Hardware)
	v := Verification{Ambiguous: want.Ambiguous}
	v.addresses(want, have)
	tables := map[uint32][]fib.Route{}
	for _, r := range want.Routes {
		tables[r.Table] = append(tables[r.Table], r)
	}
	learns := map[uint32]string{} // by which link
	for _, l := range want.Links {
		if l.Learn.Any() {
			learns[l.Learn.Table] = l.Device.Name
		}
	}
	for _, r := range have.Routes {
		dev, ok := learns[r.Table]
		if !ok || r.Ours() || r.Expires < 0 || len(r.Nexthops) == 0 {
			continue
		}
		// A default route that networkd has learned and put there is the uplink's way; one by
		// another link leads astray.
		if r.IsDefault() && !slices.ContainsFunc(r.Nexthops, func(n fib.Nexthop) bool { return n.Link == dev }) {
			r.Nexthops = []fib.Nexthop{{Link: dev}}
		}
		tables[r.Table] = append(tables[r.Table], r.Route)
	}
	names := map[uint32]string{}
	for _, t := range want.Tables {
		names[t.ID] = t.Name
	}
	held := have.held()
	insides := map[uint32][]netip.Addr{}
	for table, routes := range tables {
		for i := range routes {
			if to, ok := inside(routes[i].Dst, held); ok && !routes[i].IsDefault() {
				insides[table] = append(insides[table], to)
			}
		}
	}
	own := sync.OnceValue(func() *meant { return newMeant(want, have, tables) })
	for _, r := range want.Rules {
		for _, c := range a.questions(r, held, tables[r.Table], insides[r.Table]) {
			c.Uplink = names[r.Table]
			if c.Have, c.Err = a.Kernel.RouteGet(c.Packet); c.Err == nil {
				c.Why = c.Have.differs(c.Want)
			}
			if c.Packet.From.IsValid() {
				c.Have.Src = netip.Addr{} // the kernel's own choice, which it does not use
			}
			if c.Why != "" {
				c.judge(c.equal)
			}
			if c.Why != "" {
				c.judge(own().ways(&r, c.Packet))
			}
			v.Checks = append(v.Checks, c)
		}
	}
	v.Checks = slices.CompactFunc(v.Checks, func(a, b Check) bool { return a.Uplink == b.Uplink && a.Packet == b.Packet })
	neighbours, err := a.Kernel.Neighbours()
	v.Hazards = a.hazards(s, want, have, neighbours, v.Checks)
	return v, err
}

// elsewhere are sources that an incoming packet may have, which no host owns (RFC 2544, RFC
// 5180).
var elsewhere = map[fib.Family]netip.Addr{
	fib.Inet: netip.MustParseAddr("198.18.0.1"), fib.Inet6: netip.MustParseAddr("2001:2::1"),
}

// questions returns what to ask about one rule: the packets that it is for. The host's own
// packets have a source that the host holds, or only a mark. Packets that come in by a link have
// another's source, and are asked about only where they would be forwarded. Rules with further
// selectors are left out. Of the destinations, those of the rule's family are used.
func (a *Applier) questions(r fib.Rule, held map[netip.Addr]bool, table []fib.Route, insides []netip.Addr) []Check {
	if r.Action != fib.Lookup || r.L3MDev || r.Not || r.SuppressPrefixLength.Set || r.SuppressIfGroup.Set || r.Table == fib.TableMain ||
		r.IPProto != 0 || r.SPort.Hi != 0 || r.DPort.Hi != 0 || r.UIDRange.Set || r.OIF != "" || r.TOS != 0 || r.IIF == "lo" || r.To.Bits() > 0 {
		return nil
	}
	base := Packet{Mark: r.Mark, IIF: r.IIF}
	switch {
	case r.IIF != "":
		base.From = elsewhere[r.Family]
		if r.From.Bits() > 0 {
			from, ok := inside(r.From, held)
			if !ok {
				return nil
			}
			base.From = from
		}
		family := map[fib.Family]string{fib.Inet: "ipv4", fib.Inet6: "ipv6"}[r.Family]
		if held[base.From] || a.Hardware.Sysctl(family, r.IIF, "forwarding") != "1" {
			return nil
		}
	case r.From.Bits() > 0:
		if base.From = r.From.Addr(); !r.From.IsSingleIP() || !held[base.From] {
			return nil
		}
	case r.Mask == 0:
		return nil
	}
	var list []Check
	ask := func(to netip.Addr) {
		if ways := waysIn(table, to); len(ways) > 0 {
			p := base
			p.To = to
			list = append(list, Check{Packet: p, Want: ways[0], equal: ways})
		}
	}
	for _, to := range outside[r.Family] {
		ask(to)
	}
	for _, to := range insides {
		if fib.FamilyOf(to) == r.Family {
			ask(to)
		}
	}
	return list
}

// inside returns an address of a prefix that another host may have, if there is one: not the
// host's own, nor the subnet's or its broadcast address, which a prefix of two addresses does not
// have (RFC 3021, RFC 6164), nor a multicast one. For multicast the kernel decides by the
// source's link, or by table local, and looks at no other.
func inside(p netip.Prefix, held map[netip.Addr]bool) (netip.Addr, bool) {
	a, ends := p.Addr(), p.Bits() < p.Addr().BitLen()-1
	if ends {
		a = a.Next()
	}
	for held[a] || a == netip.IPv6Loopback() {
		a = a.Next()
	}
	others := a.IsValid() && p.Contains(a) && (!ends || p.Contains(a.Next()))
	return a, others && !a.IsLoopback() && !a.IsMulticast() && a != limitedBroadcast
}

var limitedBroadcast = netip.MustParseAddr("255.255.255.255")

// waysIn finds a destination's way in a table: the longest prefix, then the lowest metric. Each
// way of a route with several is right; the kernel picks one.
func waysIn(table []fib.Route, to netip.Addr) (ways []Way) {
	var best *fib.Route
	for i := range table {
		r := &table[i]
		if r.Dst.Contains(to) && (best == nil || r.Dst.Bits() > best.Dst.Bits() || r.Dst.Bits() == best.Dst.Bits() && r.Metric < best.Metric) {
			best = r
		}
	}
	switch {
	case best == nil || best.Type == fib.Throw:
		return nil
	case len(best.Nexthops) == 0 || best.Type == fib.Local:
		return []Way{{Type: best.Type, Table: best.Table}}
	}
	for _, n := range best.Nexthops {
		ways = append(ways, Way{Type: best.Type, Table: best.Table, Device: n.Link, Via: n.Via})
	}
	return ways
}

// judge compares the kernel's answer with other ways that are right, if there are any.
func (c *Check) judge(right []Way) {
	for i, w := range right {
		if why := c.Have.differs(w); i == 0 || why == "" {
			c.Want, c.Why = w, why
		}
	}
}

// differs says in what the kernel's answer differs from the wanted way, or "". It ignores the
// source: that is the packet's own or, where the packet has none, the kernel's choice.
func (w Way) differs(want Way) string {
	switch {
	case !want.Type.HasDevice():
		if w.Type != want.Type {
			return "type"
		}
		return ""
	case w.Type != want.Type:
		return "type"
	case w.Type == fib.Local && w.Table == want.Table:
		return "" // for the host itself, by lo or the link of a VRF
	case w.Device != want.Device:
		return "device"
	case w.Via != want.Via:
		return "gateway"
	case w.Table != want.Table:
		return "table"
	}
	return ""
}

// ErrMissing says that links do not have the addresses that the spec gives them.
var ErrMissing = errors.New("addresses of uplinks are missing")

// ErrDuplicate says that other hosts have addresses that the spec gives this one.
var ErrDuplicate = errors.New("another host has an address of an uplink's")

// ErrWrongWay says that the kernel sends packets another way than the spec says.
var ErrWrongWay = errors.New("packets would leave the wrong way")
