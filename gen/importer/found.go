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
	Files []string // that were read, as the host sees them

	Tables    []fib.Table // names, as far as they are known
	Links     []Link
	Addresses []Address
	Routes    []Route
	Rules     []Rule
	Left      []Left

	// Everything says that the source holds all that there is, and not what somebody
	// wrote for uplinks: a link then only counts with a default route.
	Everything bool
}

// Link is a network interface that the source speaks of.
type Link struct {
	Name string // the key that the rest of Found refers to
	// Match selects the link where that is not by Name.
	Match fib.Match
	Learn fib.Learn // Table is 0 for main
	// DefaultRA says that router advertisements are accepted because nothing is said of them.
	DefaultRA bool
	NoDefault bool   // what it learns makes no default route in main
	MTU       uint32 // bytes; 0 leaves it alone
	MTUSet    Left   // the command that sets it, which is none of the link's own configuration
	DNS       []netip.Addr
	Domains   []string
	Origin    fib.Origin
	// Own is what no spec has of the link's own configuration. It is lost only where that
	// is not left alone.
	Own []Left
}

// addDNS adds DNS servers. networkd's port and server name and NetworkManager's zone are of
// no address alone, which is all that a spec has: what has them is the link's own.
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
	// Stays says that it is part of the link's own configuration, which goes on to hold
	// it where the spec has manage = "policy".
	Stays   bool
	Learned bool   // it comes from DHCP or a router advertisement
	Text    string // as in the source; may be empty
}

// Route is a route that the source adds. A Nexthop without a Link leaves by the link
// whose subnet has the gateway.
type Route struct {
	fib.Route
	Stays bool // as in Address
	// Learned says that it comes from DHCP or a router advertisement: no spec has it.
	Learned bool
	Text    string
}

// Rule is a rule that the source adds.
type Rule struct {
	fib.Rule
	// AnyPriority says that the source gives none: the kernel then puts it before the
	// first rule but that of priority 0 (fib_default_rule_pref, net/core/fib_rules.c).
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

// left notes what is not carried over. Text is kept to one line.
func (f *Found) left(at fib.Origin, text, format string, args ...any) {
	f.Left = append(f.Left, Left{at, oneLine(text), oneLine(fmt.Sprintf(format, args...))})
}

// plain makes one line of a text, in which nothing moves a terminal's cursor.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == '\uFFFD' {
			return '?'
		}
		return r
	}, strings.Join(strings.Fields(s), " "))
}

// oneLine is plain, and not too long.
func oneLine(s string) string {
	s = plain(s)
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return s
}

// link returns the link of that name, which it adds if need be. The pointer holds until
// the next call.
func (f *Found) link(name string, at fib.Origin) *Link {
	for i := range f.Links {
		if f.Links[i].Name == name {
			return &f.Links[i]
		}
	}
	f.Links = append(f.Links, Link{Name: name, Origin: at})
	return &f.Links[len(f.Links)-1]
}

// settle fills in what the kernel would: the link of a gateway, and the priority of
// rules without one. Of a rule's prefixes it compares no more bits than their length
// (fib4_rule_match, net/ipv4/fib_rules.c), and yet a delete has to name the others as well:
// they are there up to here.
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
		// Of what goes nowhere a scope means nothing: NetworkManager says link.
		if r := &f.Routes[i]; r.Family == fib.Inet && !r.Type.HasDevice() {
			r.Scope = r.DefaultScope()
		}
	}
	f.settlePriorities()
}

// isKernels says whether a rule is one that the kernel makes by itself (fib_default_rules_init,
// net/ipv4/fib_rules.c): scripts that flush all rules put them back.
func isKernels(r fib.Rule) bool {
	for p, table := range map[uint32]uint32{0: fib.TableLocal, fib.PriorityMain: fib.TableMain, fib.PriorityMain + 1: fib.TableDefault} {
		if r == (fib.Rule{Family: r.Family, Priority: p, Action: fib.Lookup, Table: table}) {
			return r.Family == fib.Inet || table != fib.TableDefault // of which IPv6 has no rule
		}
	}
	return false
}

// without notes what a command says that cannot be carried over.
func (f *Found) without(c change, at fib.Origin, text string) {
	if len(c.lost) > 0 {
		f.left(at, text, "without `%s`", strings.Join(c.lost, "`, `"))
	}
}

// routeOf reads a command of ip(8) that says a route of a link; where it cannot be carried
// over, it is left.
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

// addRule adds the rule of a command of ip(8), or leaves it.
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

// appendWay makes a route one more way of an IPv6 route of the same destination and
// metric, as the kernel does where both have a gateway (rt6_qualify_for_ecmp,
// net/ipv6/route.c).
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

// settlePriorities numbers the rules that have no priority. Where no number is given at
// all, and the order makes no difference, they keep their freedom.
func (f *Found) settlePriorities() {
	given := slices.ContainsFunc(f.Rules, func(r Rule) bool { return !r.AnyPriority })
	if !given && f.orderless() {
		return
	}
	for i, p := range priorities(f.Rules) {
		f.Rules[i].Priority, f.Rules[i].AnyPriority = p, false
	}
}

// priorities returns those of rules in the order in which they are added: one that has
// none comes before the first so far but that of 0.
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
// sources, or destinations that are the host's own, for which table local comes first.
// Only a rule that looks up an uplink's table can do without a number in a spec.
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
	// Of those that overlap some are neighbours in this order.
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

// withoutProtocol is a line of ip(8) without whose it is.
func withoutProtocol(line string) string {
	return strings.NewReplacer(fmt.Sprintf(" protocol %d", fib.Protocol), "", fmt.Sprintf(" proto %d", fib.Protocol), "").Replace(line)
}

func routeText(r fib.Route) string     { return "ip " + withoutProtocol(inIP.Route("add", r)) }
func ruleText(r fib.Rule) string       { return "ip " + withoutProtocol(inIP.Rule("add", r)) }
func addressText(a fib.Address) string { return "ip " + inIP.Address("add", a) }

func (r *Route) text() string   { return cmp.Or(r.Text, routeText(r.Route)) }
func (r *Rule) text() string    { return cmp.Or(r.Text, ruleText(r.Rule)) }
func (a *Address) text() string { return cmp.Or(a.Text, addressText(a.Address)) }
