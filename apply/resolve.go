package apply

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Hardware answers what rtnetlink does not say.
type Hardware interface {
	Driver(link Link) string                 // as udev's ID_NET_DRIVER
	Path(link Link) string                   // as udev's ID_PATH
	Sysctl(family, link, name string) string // net.FAMILY.conf.LINK.NAME; "" where there is none
}

// sysctlName is a setting's name in the words of sysctl(8), where the dot in a link's name is
// a slash.
func sysctlName(family, link, name string) string {
	return "net." + family + ".conf." + strings.ReplaceAll(link, ".", "/") + "." + name
}

// linkSetting is a setting of which the kernel takes the higher value, the link's or that of
// "all" (ip-sysctl, conf/interface).
func linkSetting(hw Hardware, link, name string) string {
	return max(hw.Sysctl("ipv4", "all", name), hw.Sysctl("ipv4", link, name))
}

// Resolved is a State on the links of this host: every Link in it is an interface
// name. What belongs to links that are not ready is in Later.
type Resolved struct {
	Links     []ResolvedLink
	Addresses []fib.Address
	Held      []fib.Address // addresses that others bring, whether they are there or not
	Routes    []fib.Route
	Rules     []fib.Rule
	Tables    []fib.Table

	// Later is what cannot be brought about now. Nothing of it is added; what is there already
	// stays.
	Later Pending

	// Ambiguous has an AmbiguousError for each link of the State that matches more than one. The
	// one that holds what is ours is taken for it, and is not ready.
	Ambiguous []error

	// Until is the time until something learned expires, of which the kernel does not tell; 0 for
	// never.
	Until time.Duration
}

// ResolvedLink is a link of the State with the interface that it stands for.
type ResolvedLink struct {
	fib.Link
	Device Link
}

// Pending is the part of a State that waits for links.
type Pending struct {
	Links     []Waiting
	Addresses []fib.Address
	Routes    []fib.Route
	Rules     []fib.Rule
}

// Waiting is a link of the State that is not ready, and why.
type Waiting struct {
	fib.Link
	Device string // "" while there is none
	Why    string

	// Lacks is an address of the State that the link does not have and that is not ours to add,
	// where the link is ready but for that; invalid (zero) for none.
	Lacks netip.Addr

	// Inet6 says that only its IPv6 part waits, because IPv6 is switched off there. Nobody waits
	// for that.
	Inet6 bool
}

// waits says whether it is worth waiting for.
func (w Waiting) waits() bool { return !w.Inet6 }

// String returns "uplink rt2: eth1 has no carrier".
func (w Waiting) String() string { return "uplink " + w.Name + ": " + w.Why }

// AmbiguousError says that a match selects more than one link.
type AmbiguousError struct {
	Link    fib.Link
	Devices []string
}

// Error names the uplink and the links.
func (e *AmbiguousError) Error() string {
	how := ""
	if e.Link.Match.IsMACAlone() {
		how = ", with `driver` beside `mac` (`ethtool -i LINK` shows it)"
	}
	return fmt.Sprintf("%s: uplink %s matches more than one link (%s is %s): make the match narrower%s",
		e.Link.Uplinks[0].Origin, e.Link.Name, e.Link.Match, strings.Join(e.Devices, " and "), how)
}

// withoutPorts drops, from several links with one hardware address, those that are ports of
// another: in a cloud the fast path of a card (a VF below hv_netvsc or net_failover) bears the
// card's address, but the host itself gets no packets by it.
func withoutPorts(found []Link) []Link {
	free := slices.DeleteFunc(slices.Clone(found), func(l Link) bool { return l.Master != 0 && l.PortOf != "vrf" })
	if len(free) == 0 {
		return found
	}
	return free
}

var stacked = strings.Fields(fib.Stacked)

// matches says whether a link is the one that m selects, as networkd would decide.
func matches(m fib.Match, l Link, hw Hardware) bool {
	glob := func(pattern, value string) bool {
		ok, _ := fib.MatchGlob(pattern, value)
		return ok
	}
	if m.Name != "" && !glob(m.Name, l.Name) && !slices.ContainsFunc(l.AltNames, func(n string) bool { return glob(m.Name, n) }) {
		return false
	}
	if m.MAC != "" && m.MAC != l.MAC {
		return false
	}
	if m.IsMACAlone() && slices.Contains(stacked, l.Kind) {
		return false
	}
	return (m.Driver == "" || glob(m.Driver, hw.Driver(l))) && (m.Path == "" || glob(m.Path, hw.Path(l)))
}

// Resolve finds the State's links among those that are there. A link that is absent, has no
// carrier, or lacks an address that is somebody else's to add, is not ready: networkd would wait
// for it too. A match that fits two links is an AmbiguousError.
func Resolve(s fib.State, have Snapshot, hw Hardware) (Resolved, error) {
	r := resolve(s, have, hw)
	if len(r.Ambiguous) > 0 {
		return Resolved{}, r.Ambiguous[0]
	}
	return r, nil
}

// resolve is Resolve, but goes on after an AmbiguousError.
func resolve(s fib.State, have Snapshot, hw Hardware) Resolved {
	r := Resolved{Tables: s.Tables, Routes: make([]fib.Route, 0, len(s.Routes)), Rules: make([]fib.Rule, 0, len(s.Rules))}
	links, lacks, inet6 := have.Links, lacking(s, have), withInet6(s)
	device, lacking := map[string]string{}, map[string]bool{} // of each link of the State that is there
	ready := readiness{all: map[string]bool{"": true}, inet6Off: map[string]bool{}}
	byName := make(map[string]*Link, len(links))
	for i := range links {
		byName[links[i].Name] = &links[i]
	}
	for _, l := range s.Links {
		var found []Link
		if name, literal := l.Match.Device(); literal && byName[name] != nil {
			if matches(l.Match, *byName[name], hw) {
				found = append(found, *byName[name])
			}
		} else {
			for _, d := range links {
				if !d.Loopback && matches(l.Match, d, hw) {
					found = append(found, d)
				}
			}
		}
		if l.Match.IsMACAlone() {
			found = withoutPorts(found)
		}
		several := ""
		if len(found) > 1 {
			e := &AmbiguousError{Link: l}
			for _, d := range found {
				e.Devices = append(e.Devices, d.Name)
			}
			r.Ambiguous = append(r.Ambiguous, e)
			found, several = withOurs(found, l, s, have), "is not the only link with "+l.Match.String()
		}
		switch {
		case len(found) == 0 && l.Networkd:
			continue
		case len(found) == 0 && several != "":
			r.Later.Links = append(r.Later.Links, Waiting{Link: l, Why: "there is more than one link with " + l.Match.String()})
			continue
		case len(found) == 0:
			r.Later.Links = append(r.Later.Links, Waiting{Link: l, Why: "there is no link with " + l.Match.String()})
			continue
		}
		device[l.Name] = found[0].Name
		why := cmp.Or(several, notReady(found[0], l.PolicyOnly))
		var lack netip.Addr
		if a, lacksOne := lacks[l.Name]; lacksOne && why == "" {
			why = "does not have the address " + a.String()
			if !l.Learn.Takes(a) {
				lack, lacking[l.Name] = a, true
			}
		}
		if l.Networkd {
			if why == "" {
				ready.all[l.Name] = true
			}
		} else if why != "" {
			r.Later.Links = append(r.Later.Links, Waiting{Link: l, Device: found[0].Name, Why: found[0].Name + " " + why, Lacks: lack})
		} else {
			ready.all[l.Name] = true
			if inet6[l.Name] && hw.Sysctl("ipv6", found[0].Name, "disable_ipv6") == "1" {
				ready.inet6Off[l.Name] = true
				r.Later.Links = append(r.Later.Links, Waiting{
					Link: l, Device: found[0].Name, Inet6: true,
					Why: found[0].Name + " has IPv6 switched off (" + sysctlName("ipv6", found[0].Name, "disable_ipv6") + ")",
				})
			}
		}
		r.Links = append(r.Links, ResolvedLink{l, found[0]})
	}
	for _, a := range s.Addresses {
		to := &r.Addresses
		if !ready.has(a.Link, a.Family()) {
			to = &r.Later.Addresses
		}
		if a.Link = device[a.Link]; a.Link != "" {
			*to = append(*to, a)
		}
	}
	for _, a := range s.Held {
		if ready.has(a.Link, a.Family()) || lacking[a.Link] {
			a.Link = device[a.Link]
			r.Held = append(r.Held, a)
		}
	}
	for _, e := range s.Routes {
		r.route(e, device, ready)
	}
	for _, e := range s.Rules {
		to := &r.Rules
		if !ready.has(e.Link, e.Family) {
			to = &r.Later.Rules
		}
		e.Link = device[e.Link]
		*to = append(*to, e)
	}
	if s.Learns() {
		r.learned(have, ready)
	}
	return r
}

// withOurs returns the one of several links that holds something of ours that the State asks for
// on l; none where more than one does, or none.
func withOurs(found []Link, l fib.Link, s fib.State, have Snapshot) (list []Link) {
	tables, addresses := map[uint32]bool{}, map[netip.Prefix]bool{}
	if l.Learn.Any() {
		tables[l.Learn.Table] = true
	}
	for _, r := range s.Routes {
		if r.Link == l.Name && r.Table != fib.TableMain {
			tables[r.Table] = true
		}
	}
	for _, a := range s.Addresses {
		if a.Link == l.Name {
			addresses[a.Prefix] = true
		}
	}
	from := map[netip.Prefix]bool{} // of our rules, also where others have brought the address
	for _, h := range have.Rules {
		if h.Ours() && tables[h.Table] && h.From.IsSingleIP() {
			from[h.From] = true
		}
	}
	ours := map[string]bool{}
	for _, h := range have.Addresses {
		if a := h.Prefix.Addr(); h.Ours && addresses[h.Prefix] || from[netip.PrefixFrom(a, a.BitLen())] {
			ours[h.Link] = true
		}
	}
	for _, h := range have.Routes {
		for _, n := range h.Nexthops {
			ours[n.Link] = ours[n.Link] || h.Ours() && tables[h.Table]
		}
	}
	for _, d := range found {
		if ours[d.Name] {
			list = append(list, d)
		}
	}
	if len(list) > 1 {
		return nil
	}
	return list
}

// learned adds what follows from what links have learned. That stays while a link has no carrier:
// most clients keep their lease then.
//
// What the State itself asks for comes first: an address of the spec may be in the same subnet,
// and a [[rule]] may be for an address that is learned.
func (r *Resolved) learned(have Snapshot, ready readiness) {
	all := readLearned(have)
	rules, routes := map[fib.Rule]bool{}, map[fib.RouteKey]bool{}
	for _, list := range [][]fib.Rule{r.Rules, r.Later.Rules} {
		for _, e := range list {
			rules[e.Key()] = true
		}
	}
	for _, list := range [][]fib.Route{r.Routes, r.Later.Routes} {
		for _, e := range list {
			routes[e.Key()] = true
		}
	}
	for _, l := range r.Links {
		if !l.Learn.Any() {
			continue
		}
		ofRules, ofRoutes, until := all.of(l)
		if until > 0 && (r.Until == 0 || until < r.Until) {
			r.Until = until
		}
		for _, e := range ofRules {
			switch key := e.Key(); {
			case rules[key]:
			case ready.has(l.Name, e.Family):
				r.Rules, rules[key] = append(r.Rules, e), true
			default:
				r.Later.Rules, rules[key] = append(r.Later.Rules, e), true
			}
		}
		for _, e := range ofRoutes {
			switch key := e.Key(); {
			case routes[key]:
			case ready.has(l.Name, e.Family):
				r.Routes, routes[key] = append(r.Routes, e), true
			default:
				r.Later.Routes, routes[key] = append(r.Later.Routes, e), true
			}
		}
	}
}

// readiness says which links of a State can hold something now.
type readiness struct{ all, inet6Off map[string]bool }

func (r readiness) has(link string, f fib.Family) bool {
	return r.all[link] && (f == fib.Inet || !r.inet6Off[link])
}

// withInet6 returns the links that need IPv6.
func withInet6(s fib.State) map[string]bool {
	links := map[string]bool{}
	for i := range s.Addresses {
		if a := &s.Addresses[i]; a.Prefix.Addr().Is6() {
			links[a.Link] = true
		}
	}
	for i := range s.Routes {
		if r := &s.Routes[i]; r.Family == fib.Inet6 {
			for _, n := range r.Nexthops {
				links[n.Link] = true
			}
		}
	}
	return links
}

// route sorts a route in. With all its ways ready it is wanted. With only some ready, a route by
// those is wanted, and the whole route is not removed where it is there.
func (r *Resolved) route(e fib.Route, device map[string]string, ready readiness) {
	whole := ready.has(e.Link, e.Family)
	e.Link = device[e.Link]
	all := make([]fib.Nexthop, len(e.Nexthops))
	n, known := 0, true
	for i, hop := range e.Nexthops {
		if ready.has(hop.Link, e.Family) {
			n++
		}
		hop.Link = device[hop.Link]
		known = known && hop.Link != ""
		all[i] = hop
	}
	if n == len(all) && whole {
		e.Nexthops = all
		r.Routes = append(r.Routes, e)
		return
	}
	if known {
		later := e
		later.Nexthops = all
		r.Later.Routes = append(r.Later.Routes, later)
	}
	if n == 0 || !whole && e.Family == fib.Inet {
		return
	}
	now := make([]fib.Nexthop, 0, n)
	for i, hop := range e.Nexthops {
		if ready.has(hop.Link, e.Family) {
			now = append(now, all[i])
		}
	}
	if n == 1 {
		now[0].Weight = 0
	}
	e.Nexthops, e.Link = now, now[0].Link
	r.Routes = append(r.Routes, e)
}

// lacking finds, for links of which only the policy is ours, an address that a route
// needs as its source and that the host does not have.
func lacking(s fib.State, have Snapshot) map[string]netip.Addr {
	held := have.held()
	for _, a := range s.Addresses {
		held[a.Prefix.Addr()] = true
	}
	lacks := map[string]netip.Addr{}
	for _, r := range s.Routes {
		if _, known := lacks[r.Link]; r.Src.IsValid() && !held[r.Src] && !known {
			lacks[r.Link] = r.Src
		}
	}
	return lacks
}

// notReady says why a link cannot hold state now, or "". A link that is only down is ready where
// we may set it up.
func notReady(l Link, policyOnly bool) string {
	switch {
	case !l.Up && policyOnly:
		return "is down"
	case l.Up && !l.Carrier:
		return "has no carrier"
	}
	return ""
}

// postponeSources puts off the IPv6 routes whose source has not passed duplicate address
// detection: the kernel refuses them until then, and reports when detection is done.
func (r *Resolved) postponeSources(have Snapshot) {
	usable := make(map[netip.Addr]bool, len(have.Addresses))
	for _, a := range have.Addresses {
		usable[a.Prefix.Addr()] = usable[a.Prefix.Addr()] || !a.Tentative
	}
	r.Routes = put(r.Routes, &r.Later.Routes, func(e fib.Route) bool { return e.Family == fib.Inet6 && e.Src.IsValid() && !usable[e.Src] })
}

// awaitLinks puts off the rules whose iif or oif does not exist.
func (r *Resolved) awaitLinks(have Snapshot) {
	there := map[string]bool{"": true}
	for _, l := range have.Links {
		there[l.Name] = true
	}
	r.Rules = put(r.Rules, &r.Later.Rules, func(e fib.Rule) bool { return !there[e.IIF] || !there[e.OIF] })
}

// awaitWays drops the IPv4 routes that lack some of their ways, except those that are ours
// already.
func (r *Resolved) awaitWays(s fib.State, have Snapshot) {
	ours := map[fib.RouteKey]bool{}
	for _, h := range have.Routes {
		if h.Ours() {
			ours[h.Key()] = true
		}
	}
	ways := make(map[fib.RouteKey]int, len(s.Routes))
	for _, e := range s.Routes {
		ways[e.Key()] = len(e.Nexthops)
	}
	r.Routes = slices.DeleteFunc(r.Routes, func(e fib.Route) bool {
		return e.Family == fib.Inet && len(e.Nexthops) > 0 && len(e.Nexthops) < ways[e.Key()] && !ours[e.Key()]
	})
}

// put moves the elements for which so is true to another list, and returns the rest.
func put[T any](from []T, to *[]T, so func(T) bool) []T {
	var stay []T
	for _, e := range from {
		if so(e) {
			*to = append(*to, e)
		} else {
			stay = append(stay, e)
		}
	}
	return stay
}
