package importer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Found is what a source says, in the kernel's terms. Links are named by interface.
type Found struct {
	// From says what was read, for people: "the running kernel", "netplan".
	From  string
	Files []string // the files that were read, as the host sees them

	Tables    []fib.Table // names, as far as they are known
	Links     []Link
	Addresses []Address
	Routes    []Route
	Rules     []Rule
	Left      []Left

	// Everything says that the source holds all that the host has, not only what somebody
	// wrote for uplinks: a link then only counts with a default route.
	Everything bool
}

// Link is a network interface that the source mentions.
type Link struct {
	Name string // the key that the rest of Found refers to
	// Match selects the link if Name does not.
	Match fib.Match
	Learn fib.Learn // Table is 0 for main
	// DefaultRA says that router advertisements are accepted because the source does not
	// mention them.
	DefaultRA bool
	NoDefault bool   // what it learns makes no default route in main
	MTU       uint32 // bytes; 0 leaves it alone
	MTUSet    Left   // the command that sets it, which is not part of the link's own configuration
	DNS       []netip.Addr
	Domains   []string
	Origin    fib.Origin
	// Own is the part of the link's own configuration that no spec can express. It is lost
	// only if the spec takes that configuration over.
	Own []Left
}

// addDNS adds DNS servers. A spec has plain addresses only: one with a port or server name
// (networkd) or a zone (NetworkManager) goes to Own.
func (l *Link) addDNS(at fib.Origin, words ...string) {
	for _, w := range words {
		a, err := netip.ParseAddr(w)
		switch {
		case err != nil || a.Zone() != "":
			l.Own = append(l.Own, Left{at, "DNS server " + oneLine(w), "no address alone"})
		case !slices.Contains(l.DNS, a):
			l.DNS = append(l.DNS, a)
		}
	}
}

// addDomains adds search domains.
func (l *Link) addDomains(words ...string) {
	for _, w := range words {
		if !slices.Contains(l.Domains, w) {
			l.Domains = append(l.Domains, w)
		}
	}
}

// Address is an address that the source adds.
type Address struct {
	fib.Address
	// Stays says that the address is part of the link's own configuration, which still
	// holds it if the spec has manage = "policy".
	Stays   bool
	Learned bool   // it comes from DHCP or a router advertisement
	Text    string // as in the source; may be empty
}

// Route is a route that the source adds. A Nexthop without a Link leaves by the link
// whose subnet has the gateway.
type Route struct {
	fib.Route
	Stays bool // as in Address
	// Learned says that it comes from DHCP or a router advertisement, so that no spec has it.
	Learned bool
	Text    string
}

// Rule is a rule that the source adds.
type Rule struct {
	fib.Rule
	// AnyPriority says that the source gives no priority: the kernel then puts the rule before
	// the first one whose priority is not 0 (fib_default_rule_pref, net/core/fib_rules.c).
	AnyPriority bool
	Text        string
}

// Left is something of the source that is not carried over.
type Left struct {
	Origin fib.Origin
	Text   string // as in the source
	Why    string
}

// String returns "FILE:LINE: text: why".
func (l Left) String() string {
	s := oneLine(l.Text)
	if at := l.Origin.String(); at != "" {
		s = plain(at) + ": " + s
	}
	if l.Why != "" {
		s += ": " + oneLine(l.Why)
	}
	return s
}

// left notes something that is not carried over. It keeps the text to one line.
func (f *Found) left(at fib.Origin, text, format string, args ...any) {
	f.Left = append(f.Left, Left{at, oneLine(text), oneLine(fmt.Sprintf(format, args...))})
}

// plain makes one line of a text, without characters that move a terminal's cursor.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == '\uFFFD' {
			return '?'
		}
		return r
	}, strings.Join(strings.Fields(s), " "))
}

// oneLine is plain, cut to a limited length.
func oneLine(s string) string {
	s = plain(s)
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return s
}

// link returns the link of that name, and adds it if necessary. The pointer is
// valid until the next call.
func (f *Found) link(name string, at fib.Origin) *Link {
	for i := range f.Links {
		if f.Links[i].Name == name {
			return &f.Links[i]
		}
	}
	f.Links = append(f.Links, Link{Name: name, Origin: at})
	return &f.Links[len(f.Links)-1]
}

// settle fills in what the kernel would: the link of a gateway, and the priority of rules
// without one. It also masks the prefixes of rules, of which the kernel compares no more
// bits than their length (fib4_rule_match, net/ipv4/fib_rules.c). The other bits are kept
// up to here, because a delete must name them too.
func (f *Found) settle() {
	for i := range f.Rules {
		r := &f.Rules[i]
		r.From, r.To = r.From.Masked(), r.To.Masked()
	}
	f.Rules = slices.DeleteFunc(f.Rules, func(r Rule) bool { return !r.AnyPriority && isKernels(r.Key()) })
	f.Routes = slices.DeleteFunc(f.Routes, func(r Route) bool {
		for i := range r.Nexthops {
			n := &r.Nexthops[i]
			if n.Link == "" {
				n.Link = f.linkOf(n.Via)
			}
			if n.Link == "" {
				f.left(r.Origin, r.text(), "no `dev`, and no address here reaches the gateway")
				return true
			}
		}
		return false
	})
	for i := range f.Routes {
		// A route that leads nowhere has no meaningful scope, but NetworkManager sets link.
		if r := &f.Routes[i]; r.Family == fib.Inet && !r.Type.HasDevice() {
			r.Scope = r.DefaultScope()
		}
	}
	f.settlePriorities()
}

// isKernels says whether a rule is one that the kernel adds by itself (fib_default_rules_init,
// net/ipv4/fib_rules.c): a script that flushes all rules adds it again.
func isKernels(r fib.Rule) bool {
	for p, table := range map[uint32]uint32{0: fib.TableLocal, fib.PriorityMain: fib.TableMain, fib.PriorityMain + 1: fib.TableDefault} {
		if r == (fib.Rule{Family: r.Family, Priority: p, Action: fib.Lookup, Table: table}) {
			return r.Family == fib.Inet || table != fib.TableDefault // IPv6 has no rule for it
		}
	}
	return false
}

// without notes the arguments of a command that cannot be carried over.
func (f *Found) without(c change, at fib.Origin, text string) {
	if len(c.lost) > 0 {
		f.left(at, text, "without `%s`", strings.Join(c.lost, "`, `"))
	}
}

// routeOf reads a command of ip(8) that adds a route on a link; if it cannot be carried
// over, routeOf notes it as left.
func (f *Found) routeOf(link string, args []string, names Names, at fib.Origin, text string) (Route, bool) {
	c, err := parseIP(args, names)
	if err != nil || c.route == nil {
		f.left(at, text, "%v", err)
		return Route{}, false
	}
	f.without(c, at, text)
	r := *c.route
	r.Origin, r.Text, r.Stays = at, text, r.Table == fib.TableMain
	if r.Link == "" {
		r.Link = link
	}
	return r, true
}

// addRule adds the rule of a command of ip(8), or notes it as left.
func (f *Found) addRule(args []string, names Names, at fib.Origin, text string) {
	c, err := parseIP(args, names)
	if err != nil || c.rule == nil {
		f.left(at, text, "%v", err)
		return
	}
	f.without(c, at, text)
	r := *c.rule
	r.Origin, r.Text = at, text
	f.Rules = append(f.Rules, r)
}

// appendWay adds a route as one more way to an IPv6 route of the same destination and metric,
// as the kernel does if both have a gateway (rt6_qualify_for_ecmp, net/ipv6/route.c).
func (f *Found) appendWay(r Route) bool {
	if r.Family != fib.Inet6 || len(r.Nexthops) != 1 || !r.Nexthops[0].Via.IsValid() {
		return false
	}
	for i := range f.Routes {
		o := &f.Routes[i]
		if o.Key() != r.Key() || len(o.Nexthops) == 0 || !o.Nexthops[0].Via.IsValid() {
			continue
		}
		o.Nexthops = append(o.Nexthops, r.Nexthops[0])
		for n := range o.Nexthops {
			o.Nexthops[n].Weight = max(o.Nexthops[n].Weight, 1)
		}
		o.Text += "; " + r.Text
		return true
	}
	return false
}

// linkOf returns the link that has an address in whose subnet a lies, or "".
func (f *Found) linkOf(a netip.Addr) string {
	link, longest := "", -1
	for _, have := range f.Addresses {
		if have.Prefix.Contains(a) && have.Prefix.Bits() > longest {
			link, longest = have.Link, have.Prefix.Bits()
		}
	}
	return link
}

// settlePriorities numbers the rules that have no priority. If no rule has one, and their
// order makes no difference, it leaves them without.
func (f *Found) settlePriorities() {
	given := slices.ContainsFunc(f.Rules, func(r Rule) bool { return !r.AnyPriority })
	if !given && f.orderless() {
		return
	}
	for i, p := range priorities(f.Rules) {
		f.Rules[i].Priority, f.Rules[i].AnyPriority = p, false
	}
}

// priorities returns the priorities of rules in the order in which they are added. One that
// is added without a priority comes before the first rule so far whose priority is not 0.
func priorities(rules []Rule) []uint32 {
	list := make([]uint32, len(rules))
	first := map[fib.Family]uint32{fib.Inet: fib.PriorityMain, fib.Inet6: fib.PriorityMain}
	for i := range rules {
		r := &rules[i]
		p := r.Priority
		if r.AnyPriority {
			p = first[r.Family] - 1
		}
		if list[i] = p; p > 0 {
			first[r.Family] = min(first[r.Family], p)
		}
	}
	return list
}

// orderless says whether the order of the rules does not matter: they select different
// sources, or destinations that are the host's own, for which table local comes first. Only
// a rule that looks up an uplink's table can do without a priority in a spec.
func (f *Found) orderless() bool {
	own := map[netip.Addr]bool{}
	for _, a := range f.Addresses {
		own[a.Prefix.Addr()] = true
	}
	leads := map[uint32]bool{}
	for i := range f.Routes {
		r := &f.Routes[i]
		leads[r.Table] = leads[r.Table] || len(r.Nexthops) > 0
	}
	for _, l := range f.Links {
		leads[l.Learn.Table] = leads[l.Learn.Table] || l.Learn.Any()
	}
	var sources []netip.Prefix
	for _, r := range f.Rules {
		plain := fib.Rule{
			Family: r.Family, Priority: r.Priority, From: r.From, To: r.To, Action: fib.Lookup, Table: r.Table,
			SuppressPrefixLength: r.SuppressPrefixLength,
		}
		if plain.Key() != r.Key() || kernelTable(r.Table) || !leads[r.Table] {
			return false
		}
		switch {
		case r.To.Bits() <= 0 && r.From.Bits() > 0:
			sources = append(sources, r.From)
		case r.From.Bits() <= 0 && r.To.IsValid() && r.To.IsSingleIP() && own[r.To.Addr()]:
		default:
			return false
		}
	}
	// If any prefixes overlap, two that are neighbours in this order do.
	slices.SortFunc(sources, func(a, b netip.Prefix) int {
		return cmp.Or(a.Masked().Addr().Compare(b.Masked().Addr()), a.Bits()-b.Bits())
	})
	for i := 1; i < len(sources); i++ {
		if sources[i-1].Overlaps(sources[i]) {
			return false
		}
	}
	return true
}

var inIP = fib.Syntax{Device: func(link string) string { return link }}

// withoutProtocol returns a line of ip(8) without our protocol.
func withoutProtocol(line string) string {
	return strings.NewReplacer(fmt.Sprintf(" protocol %d", fib.Protocol), "", fmt.Sprintf(" proto %d", fib.Protocol), "").Replace(line)
}

func routeText(r fib.Route) string     { return "ip " + withoutProtocol(inIP.Route("add", r)) }
func ruleText(r fib.Rule) string       { return "ip " + withoutProtocol(inIP.Rule("add", r)) }
func addressText(a fib.Address) string { return "ip " + inIP.Address("add", a) }

func (r *Route) text() string   { return cmp.Or(r.Text, routeText(r.Route)) }
func (r *Rule) text() string    { return cmp.Or(r.Text, ruleText(r.Rule)) }
func (a *Address) text() string { return cmp.Or(a.Text, addressText(a.Address)) }
