package spec

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// MaxPriorityMainRoutesFirst is the highest priority that an uplink may be given with
// main-routes-first. Its rules stand at that priority and again in an upper band,
// followed there by one number for the rules that refuse, where it fails closed.
// Between the two bands is the rule for main, and all are below fib.PriorityMain.
const MaxPriorityMainRoutesFirst = fib.FullLookupOffset - 2

// validate checks what no single value can show. It looks at one uplink after the
// other, then at what they take from each other.
func (s *Spec) validate() {
	s.addresses()
	for i := range s.Uplinks {
		u := &s.Uplinks[i]
		v := uplinkChecker{s, u}
		v.link()
		v.gateways()
		for i := range u.Routes {
			v.route(i, &u.Routes[i])
		}
		for i := range u.Rules {
			v.rule(i, &u.Rules[i])
		}
		if u.Probe != nil {
			v.probe()
		}
	}
	s.unique()
	s.sharedLinks()
	s.multipath()
}

// Uplink returns the uplink of that name, or nil.
func (s *Spec) Uplink(name string) *Uplink {
	i, ok := slices.BinarySearchFunc(s.Uplinks, name, func(u Uplink, n string) int { return strings.Compare(u.Name, n) })
	if !ok {
		return nil
	}
	return &s.Uplinks[i]
}

type uplinkChecker struct {
	spec *Spec
	*Uplink
}

// fail reports an error at a key of the uplink, or at its header if there is no key.
func (v uplinkChecker) fail(help, msg string, key ...string) {
	v.spec.Fail(msg, help, append([]string{"uplink", v.Name}, key...)...)
}

// failValue reports an error at a value of the uplink.
func (v uplinkChecker) failValue(help, msg string, key ...string) {
	v.spec.doc.fail(append([]string{"uplink", v.Name}, key...), msg, help)
}

// given says whether the spec sets that key of the uplink to something, right or wrong:
// a wrong value was reported already, and must not be called missing.
func (v uplinkChecker) given(key string) bool {
	uplinks, _ := v.spec.doc.tree["uplink"].(map[string]any)
	uplink, _ := uplinks[v.Name].(map[string]any)
	value, ok := uplink[key]
	return ok && !isEmpty(value)
}

// link checks what concerns the link itself.
func (v uplinkChecker) link() {
	if !v.given("interface") && !v.given("mac") && !v.given("driver") && !v.given("path") {
		v.fail("give `interface`, `mac`, `driver` or `path`; all that are given must match", "uplink `"+v.Name+"` does not say which link it uses")
	}
	seen := map[netip.Prefix]bool{}
	for i, a := range v.Addresses {
		if seen[a] {
			v.failValue("", a.String()+" is given twice", "addresses", element(i))
		}
		seen[a] = true
		if a.Addr().Is6() && v.MTU != 0 && v.MTU < 1280 {
			v.failValue("IPv6 needs at least 1280 (RFC 8200)", "the kernel switches IPv6 off on a link with an MTU of "+strconv.Itoa(int(v.MTU)), "mtu")
			break
		}
	}
	if v.PolicyOnly {
		for key, given := range map[string]bool{
			"mtu": v.MTU != 0, "dns": v.DNS != nil, "domains": v.Domains != nil, "required-for-online": v.RequiredForOnline != "",
		} {
			if given {
				v.fail("set it there, or take manage = \"link\"", "with manage = \"policy\", `"+key+"` is left to the link's own .network file", key)
			}
		}
	}
	if v.spec.MainRoutesFirst && v.Priority > MaxPriorityMainRoutesFirst {
		v.failValue("its rules stand once at this priority, and once more "+strconv.Itoa(MaxPriorityMainRoutesFirst+2)+" above it",
			fmt.Sprintf("with main-routes-first a priority is at most %d", MaxPriorityMainRoutesFirst), "priority")
	}
}

// Learns says whether addresses and gateways of family f come from the network.
func (u *Uplink) Learns(f fib.Family) bool {
	return u.DHCP.Has(f) || u.AcceptRA.Has(f)
}

// LearnsGateway says whether a gateway of family f comes from the network. DHCP brings
// one for IPv4 alone, because DHCPv6 has none (RFC 8415).
func (u *Uplink) LearnsGateway(f fib.Family) bool {
	return u.AcceptRA.Has(f) || f == fib.Inet && u.DHCP.Inet
}

// gateways checks that each gateway can be reached, and that its family has no other, given or
// learned.
func (v uplinkChecker) gateways() {
	var seen [2]netip.Addr
	for i, gw := range v.Gateways {
		f := fib.FamilyOf(gw)
		if first := seen[bool2int(gw.Is6())]; first.IsValid() {
			v.failValue("for several ways at once use [[uplink."+v.Name+".route]] with multipath",
				fmt.Sprintf("a second %s gateway beside %s", f, first), "gateways", element(i))
		}
		seen[bool2int(gw.Is6())] = gw
		if key := v.learnedBy(f); key != "" {
			v.failValue("leave one of the two out", fmt.Sprintf("the %s gateway is learned, because of `%s`, and given here as well", f, key), "gateways", element(i))
			continue
		}
		v.reachable(v, gw, v.OnLink, "gateways", element(i))
	}
	if v.DefaultRoute && !v.given("gateways") && !v.Learns(fib.Inet) && !v.Learns(fib.Inet6) && !v.hasDefault() {
		v.fail("give `gateways`, or a [[uplink."+v.Name+".route]] with to = \"default\"", "there is no default route that could stand in main too", "default-route")
	}
}

func (v uplinkChecker) learnedBy(f fib.Family) string {
	switch {
	case !v.LearnsGateway(f):
		return ""
	case f == fib.Inet:
		return "dhcp"
	}
	return "accept-ra"
}

func (u *Uplink) hasDefault() bool {
	return slices.ContainsFunc(u.Routes, func(r Route) bool { return r.IsUplinkDefault() })
}

// IsUplinkDefault says whether the route is a default route of the uplink itself, one
// that default-route also puts into main.
func (r Route) IsUplinkDefault() bool {
	return r.Type == fib.Unicast && r.Table == (Table{}) && len(r.Nexthops) == 0 && (!r.To.IsValid() || r.To.Bits() == 0)
}

// reachable checks a gateway as the kernel will (fib_check_nh in
// net/ipv4/fib_semantics.c, ip6_route_check_nh in net/ipv6/route.c).
func (v uplinkChecker) reachable(at uplinkChecker, gw netip.Addr, onlink bool, key ...string) {
	f := fib.FamilyOf(gw)
	if gw.IsUnspecified() || gw.IsMulticast() || gw.IsLoopback() || isBroadcast(gw) {
		at.failValue("", gw.String()+" cannot be a gateway", key...)
		return
	}
	reached := onlink || gw.Is6() && gw.IsLinkLocalUnicast() || v.Learns(f) || v.given("addresses") && v.Addresses == nil
	var near []string
	for _, p := range v.Addresses {
		switch {
		case p.Addr() == gw:
			at.failValue("", fmt.Sprintf("%s is the uplink's own address", gw), key...)
			return
		case gw.Is4() && p.Addr().Is4() && p.Bits() < 31 && gw == fib.BroadcastOf(p):
			at.failValue("", fmt.Sprintf("%s is the broadcast address of %s", gw, p.Masked()), key...)
			return
		case p.Contains(gw):
			reached = true
		case fib.FamilyOf(p.Addr()) == f:
			near = append(near, p.Masked().String())
		}
	}
	if v.spec.own[gw] && !gw.IsLinkLocalUnicast() { // each link has link-local addresses of its own
		at.failValue("", fmt.Sprintf("%s is the host's own address, on another uplink", gw), key...)
		return
	}
	if reached {
		return
	}
	why := fmt.Sprintf("the uplink has no %s address that reaches it", f)
	if len(near) > 0 {
		why = "it lies outside of " + strings.Join(near, " and ")
	}
	at.failValue("correct one of them, or set onlink = true if the gateway really is on the link", fmt.Sprintf("gateway %s cannot be reached: %s", gw, why), key...)
}

// isBroadcast says whether the kernel takes an IPv4 address for a broadcast address on
// any link (__inet_dev_addr_type in net/ipv4/fib_frontend.c).
func isBroadcast(a netip.Addr) bool {
	return a.Is4() && (a.As4()[0] == 0 || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}))
}

// Families returns the families that the uplink uses at all.
func (u *Uplink) Families() Families {
	set := Families{
		Inet:  u.Learns(fib.Inet),
		Inet6: u.Learns(fib.Inet6),
	}
	see := func(a netip.Addr) {
		set.Inet = set.Inet || a.Is4()
		set.Inet6 = set.Inet6 || a.Is6()
	}
	for _, l := range [][]netip.Prefix{u.Addresses, u.From, u.To} {
		for _, p := range l {
			see(p.Addr())
		}
	}
	for _, a := range u.Gateways {
		see(a)
	}
	for _, r := range u.Routes {
		for _, a := range []netip.Addr{r.To.Addr(), r.Via, r.Src} {
			see(a)
		}
	}
	for _, r := range u.Rules {
		see(r.From.Addr())
		see(r.To.Addr())
	}
	return set
}

// route checks one [[uplink.NAME.route]] and settles its family.
func (v uplinkChecker) route(i int, r *Route) {
	at := func(key ...string) []string { return append([]string{"route", element(i)}, key...) }
	var first netip.Addr
	firstKey := ""
	same := func(a netip.Addr, key ...string) {
		switch {
		case !a.IsValid():
		case !first.IsValid():
			first, firstKey = a, key[0]
		case first.Is4() != a.Is4():
			v.failValue("", fmt.Sprintf("%s is not %s as `%s` is", a, fib.FamilyOf(first), firstKey), at(key...)...)
		}
	}
	same(r.To.Addr(), "to")
	same(r.Via, "via")
	same(r.Src, "src")
	for n, hop := range r.Nexthops {
		same(hop.Via, "multipath", element(n), "via")
	}
	if r.Families = v.Families(); first.IsValid() {
		r.Families = Families{Inet: first.Is4(), Inet6: first.Is6()}
	} else if r.Families == (Families{}) {
		r.Families = Families{true, true}
	}

	switch {
	case !r.Type.HasDevice():
		for key, given := range map[string]bool{
			"via": r.Via.IsValid(), "src": r.Src.IsValid(), "onlink": r.OnLink, "multipath": r.Nexthops != nil, "scope": r.Scope.Set,
		} {
			if given {
				v.fail("", fmt.Sprintf("a route of type %s goes nowhere: `%s` has no meaning", r.Type, key), at(key)...)
			}
		}
	case r.Nexthops != nil:
		for key, given := range map[string]bool{"via": r.Via.IsValid(), "onlink": r.OnLink} {
			if given {
				v.fail("give it inside `multipath`", fmt.Sprintf("`%s` stands beside `multipath`", key), at(key)...)
			}
		}
		v.multipathRoute(r, at)
	case r.Via.IsValid():
		v.reachable(v, r.Via, r.OnLink || v.OnLink, at("via")...)
	case r.OnLink:
		v.fail("give the gateway in `via`", "`onlink` is about a gateway, and there is none", at("onlink")...)
	}
	if r.Src.IsValid() && !v.spec.mayHave(r.Src) {
		v.failValue("the kernel takes only an address that the host has", fmt.Sprintf("%s is no address of any uplink", r.Src), at("src")...)
	}
	v.scope(r, at)
}

// scope checks a route's IPv4 scope, given or not, as the kernel will (fib_create_info and
// fib_check_nh in net/ipv4/fib_semantics.c).
func (v uplinkChecker) scope(r *Route, at func(key ...string) []string) {
	switch {
	case !r.Type.HasDevice():
		return
	case !r.Families.Inet:
		if r.Scope.Set {
			v.fail("", "`scope` is IPv4 only", at("scope")...)
		}
		return
	}
	scope := r.Scope.Value
	refuse := func(help, what string) {
		v.failValue(help, fmt.Sprintf("a route %s cannot have scope %s", what, scope), at("scope")...)
	}
	if !r.Scope.Set {
		if r.Type == fib.Unicast {
			return // it gets the scope that fits its ways
		}
		scope = fib.Route{Type: r.Type}.DefaultScope()
		refuse = func(help, what string) {
			v.failValue(help, fmt.Sprintf("a route of type %s has scope %s, which one %s cannot have", r.Type, scope, what), at("type")...)
		}
	}
	least := leastScope(r.Type)
	viaGateway := r.Via.IsValid() || slices.ContainsFunc(r.Nexthops, func(n Nexthop) bool { return n.Via.IsValid() })
	help := "leave `scope` out"
	switch {
	case scope < least:
		refuse(help, "of type "+r.Type.String())
	case viaGateway && scope > fib.ScopeSite:
		if least > fib.ScopeSite {
			help = "leave the gateway out: what is of type " + r.Type.String() + " is on the link itself"
		} else if r.Type != fib.Unicast {
			help = "give it scope = \"global\""
		}
		refuse(help, "through a gateway")
	case len(r.Nexthops) > 1 && scope == fib.ScopeHost:
		if least == fib.ScopeHost {
			help = "give it one way"
		}
		refuse(help, "with several ways")
	}
}

// leastScope returns the widest scope that the kernel accepts for a type of route
// (fib_props in net/ipv4/fib_semantics.c).
func leastScope(t fib.RouteType) fib.Scope {
	switch t {
	case fib.Local:
		return fib.ScopeHost
	case fib.Broadcast, fib.Anycast:
		return fib.ScopeLink
	}
	return fib.ScopeUniverse
}

func (v uplinkChecker) multipathRoute(r *Route, at func(key ...string) []string) {
	for n := range r.Nexthops {
		hop := &r.Nexthops[n]
		if hop.Uplink == "" {
			hop.Uplink = v.Name
		}
		key := at("multipath", element(n))
		if other := v.spec.Uplink(hop.Uplink); other == nil {
			continue // reported where it was read
		} else if hop.Via.IsValid() {
			uplinkChecker{v.spec, other}.reachable(v, hop.Via, hop.OnLink || other.OnLink, append(key, "via")...)
		} else if hop.OnLink {
			v.fail("give the gateway in `via`", "`onlink` is about a gateway, and there is none", append(key, "onlink")...)
		}
	}
}

// mayHave says whether the host may have an address: the spec gives it, or it may be
// learned, or others configure a link's addresses.
func (s *Spec) mayHave(a netip.Addr) bool { return s.unknown.Has(fib.FamilyOf(a)) || s.own[a] }

// addresses notes which addresses the host has, and for which families it may have others.
func (s *Spec) addresses() {
	s.own = make(map[netip.Addr]bool, 2*len(s.Uplinks))
	for i := range s.Uplinks {
		u := &s.Uplinks[i]
		for _, p := range u.Addresses {
			s.own[p.Addr()] = true
		}
		s.unknown.Inet = s.unknown.Inet || u.PolicyOnly || u.Learns(fib.Inet)
		s.unknown.Inet6 = s.unknown.Inet6 || u.PolicyOnly || u.Learns(fib.Inet6)
	}
}

// leadsToClosed says whether a rule looks up the table of an uplink that fails closed.
func (v uplinkChecker) leadsToClosed(r *Rule) bool {
	if r.Action != fib.Lookup {
		return false
	}
	if r.Table == (Table{}) {
		return v.Fallthrough != 0
	}
	return slices.ContainsFunc(v.spec.Uplinks, func(u Uplink) bool { return u.Fallthrough != 0 && u.isOwn(r.Table) })
}

// isOwn says whether a table that is named is the uplink's own.
func (u *Uplink) isOwn(t Table) bool {
	return t.Uplink == u.Name || t.ID != 0 && t.ID == u.Table
}

// rule checks one [[uplink.NAME.rule]] and settles its family and its action.
func (v uplinkChecker) rule(i int, r *Rule) {
	at := func(key string) []string { return []string{"rule", element(i), key} }
	given := map[string]bool{
		"type": r.Action != 0, "goto": r.Goto != 0, "table": r.Table != (Table{}), "l3mdev": r.L3MDev,
	}
	var acts []string
	for _, key := range []string{"type", "goto", "table", "l3mdev"} {
		if given[key] {
			acts = append(acts, key)
		}
	}
	if len(acts) > 1 {
		v.fail("a rule does one thing: leave one of them out", fmt.Sprintf("`%s` stands beside `%s`", acts[1], acts[0]), at(acts[1])...)
	}
	if len(acts) == 1 && r.Priority == 0 && (acts[0] != "table" || !v.isOwn(r.Table)) {
		v.fail("below the uplink's own (from 10000 up where none is given) it is asked before it, above it after",
			"a rule that does something else than look up the uplink's own table needs a `priority`", at(acts[0])...)
	}
	switch {
	case r.Goto != 0:
		r.Action = fib.Goto
	case r.Action == 0:
		r.Action = fib.Lookup
	}
	if r.Action != fib.Lookup {
		for key, set := range map[string]bool{"suppress-prefixlength": r.SuppressPrefixLength.Set, "suppress-ifgroup": r.SuppressIfGroup.Set} {
			if set {
				v.fail("", "`"+key+"` is about what a lookup finds, and this rule looks nothing up", at(key)...)
			}
		}
	}

	var want Families
	for _, p := range []netip.Prefix{r.From, r.To} {
		want.Inet = want.Inet || p.Addr().Is4()
		want.Inet6 = want.Inet6 || p.Addr().Is6()
	}
	switch {
	case want == Families{true, true}:
		v.failValue("", fmt.Sprintf("%s is not %s as `from` is", r.To, fib.FamilyOf(r.From.Addr())), at("to")...)
	case want != Families{} && r.Families != Families{} && want != r.Families:
		v.failValue("", "the addresses of this rule are of another family", at("family")...)
	case want == Families{} && r.Families == Families{}:
		// Where the uplink that it leads to fails closed the other family must not slip past it.
		if want = v.Families(); want == (Families{}) || v.leadsToClosed(r) {
			want = Families{true, true}
		}
		r.Families = want
	case want != Families{}:
		r.Families = want
	}
	if r.Families.Inet && r.TOS&3 == 0 && r.TOS&^0x1c != 0 {
		v.failValue("for IPv4 one of 4, 8, … 28", fmt.Sprintf("the kernel refuses tos %d in an IPv4 rule", r.TOS), at("tos")...)
	}
	if most := uint32(32); r.Families.Inet && r.SuppressPrefixLength.Value > most {
		v.failValue("", "an IPv4 prefix is at most 32 long", at("suppress-prefixlength")...)
	}
}
