package importer

import (
	"cmp"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// removal is a command that removes what no earlier command has added.
type removal struct {
	change
	at   fib.Origin
	text string
}

// batch reads the lines of an `ip -batch`.
func (s *shell) batch(at fib.Origin, text string, family fib.Family) {
	line := at.Line
	text = strings.ReplaceAll(text, "\r\n", "\n")
	for len(text) > 0 {
		here := fib.Origin{File: at.File, Line: line}
		var whole, joined strings.Builder
		for more := true; more && text != ""; line++ {
			one, rest, _ := strings.Cut(text, "\n")
			text = rest
			words, _, comment := strings.Cut(one, "#")
			words, more = strings.CutSuffix(words, `\`)
			more = more && !comment // a comment does not go on on the next line (getcmdline in iproute2's lib/utils.c)
			joined.WriteString(words)
			whole.WriteString(strings.TrimSuffix(one, `\`))
		}
		one := whole.String()
		args, ok := batchWords(joined.String())
		if !ok {
			s.f.left(here, one, "a quote is not closed")
			continue
		}
		if len(args) == 0 {
			continue
		}
		switch family {
		case fib.Inet:
			args = slices.Insert(args, 0, "-4")
		case fib.Inet6:
			args = slices.Insert(args, 0, "-6")
		}
		s.change(here, one, args)
	}
}

// batchWords splits a line as `ip -batch` does: a quote at the beginning of a word extends
// to the next quote of its kind (makeargs in iproute2's lib/utils.c).
func batchWords(line string) (words []string, ok bool) {
	const space = " \t\r\n"
	for {
		if line = strings.TrimLeft(line, space); line == "" {
			return words, true
		}
		end := strings.IndexAny(line, space)
		if quote := line[:1]; quote == `"` || quote == "'" {
			line = line[1:]
			if end = strings.Index(line, quote); end < 0 {
				return nil, false
			}
		}
		if end < 0 {
			return append(words, line), true
		}
		words, line = append(words, line[:end]), line[end+1:]
	}
}

// change runs one command of ip(8).
func (s *shell) change(at fib.Origin, text string, args []string) {
	c, err := parseIP(args, s.names)
	if err != nil {
		s.f.left(at, text, "%v", err)
		return
	}
	if c.verb != "del" && c.verb != "flush" {
		s.f.without(c, at, text)
	}
	text = oneLine(text)
	switch {
	case c.verb == "del" || c.verb == "flush":
		s.remove(c, at, text)
	case c.link != nil:
		if l := s.f.link(c.link.name, at); c.link.mtu != 0 {
			l.MTU, l.MTUSet = c.link.mtu, Left{Origin: at, Text: text}
		}
	case c.address != nil:
		a := *c.address
		a.Origin, a.Text, a.Stays = at, text, s.stays
		s.f.Addresses = append(s.f.Addresses, a)
	case c.route != nil:
		s.addRoute(*c.route, c.verb, at, text)
	case c.rule != nil:
		r := *c.rule
		r.Origin, r.Text = at, text
		s.addRule(r)
	}
}

func (s *shell) addRoute(r Route, verb string, at fib.Origin, text string) {
	r.Origin, r.Text = at, text
	if r.Table == fib.TableLocal {
		s.f.left(at, text, "table local is the kernel's own")
		return
	}
	for i := range r.Nexthops {
		// Without `dev` the kernel finds the link by the gateway's subnet. If no address
		// has that subnet, the link is the one whose configuration runs the command.
		if n := &r.Nexthops[i]; n.Link == "" && s.iface != "" && s.f.linkOf(n.Via) == "" {
			n.Link = s.iface
		}
	}
	if len(r.Nexthops) > 0 {
		r.Link = r.Nexthops[0].Link
	}
	same := func(o Route) bool { return o.Key() == r.Key() }
	switch {
	case verb == "append" && s.f.appendWay(r):
		return
	case verb == "replace":
		s.f.Routes = slices.DeleteFunc(s.f.Routes, same)
	case verb == "add" && s.routes[r.Key()]: // the route may have been removed since
		if i := slices.IndexFunc(s.f.Routes, same); i >= 0 {
			if s.f.Routes[i].Compare(&r.Route) != 0 {
				s.f.left(at, text, "there is another with this destination and metric")
			}
			return
		}
	}
	s.routes[r.Key()] = true
	s.f.Routes = append(s.f.Routes, r)
}

// addRule adds a rule, unless the same one exists: the kernel then refuses it.
func (s *shell) addRule(r Rule) {
	if !r.AnyPriority {
		if s.rules[r.Key()] && slices.ContainsFunc(s.f.Rules, func(o Rule) bool { return !o.AnyPriority && o.Key() == r.Key() }) {
			return
		}
		s.rules[r.Key()] = true
	}
	s.f.Rules = append(s.f.Rules, r)
}

// remove removes what was added before, and remembers a removal of anything else.
func (s *shell) remove(c change, at fib.Origin, text string) {
	if !s.take(c) {
		s.removed = append(s.removed, removal{c, at, text})
	}
}

// take removes what a command removes, and says whether there was anything. The kernel
// removes one route or rule, the first that fits; only a flush removes all.
func (s *shell) take(c change) bool {
	at := s.fitting(c)
	if len(at) == 0 {
		return false
	}
	switch {
	case c.address != nil:
		s.f.Addresses = without(s.f.Addresses, at)
	case c.verb != "flush" && c.route != nil && takeWays(&s.f.Routes[at[0]].Route, c.route.Nexthops):
	case c.route != nil:
		if c.verb != "flush" {
			at = at[:1]
		}
		s.f.Routes = without(s.f.Routes, at)
	case c.rule != nil:
		if c.verb != "flush" {
			at = at[:1]
		}
		s.f.Rules = without(s.f.Rules, at)
	}
	return true
}

// without returns a list without the elements at some places.
func without[T any](list []T, at []int) []T {
	gone := map[int]bool{}
	for _, i := range at {
		gone[i] = true
	}
	i := -1
	return slices.DeleteFunc(list, func(T) bool { i++; return gone[i] })
}

// takeWays removes single ways from an IPv6 route that keeps others, as the kernel does if
// a gateway is given (ip6_route_del, net/ipv6/route.c).
func takeWays(r *fib.Route, ways []fib.Nexthop) bool {
	if r.Family != fib.Inet6 || len(ways) == 0 || !ways[0].Via.IsValid() || len(ways) >= len(r.Nexthops) {
		return false
	}
	for _, n := range ways {
		if i := slices.IndexFunc(r.Nexthops, func(o fib.Nexthop) bool { return fitsWay(n, o) }); i >= 0 {
			r.Nexthops = slices.Delete(slices.Clone(r.Nexthops), i, i+1)
		}
	}
	if len(r.Nexthops) == 1 {
		r.Nexthops[0].Weight = 0
	}
	r.Link = r.Nexthops[0].Link
	return true
}

// fitting returns the indexes of what a command removes, in the order in which the kernel
// comes to them.
func (s *shell) fitting(c change) (at []int) {
	switch {
	case c.address != nil:
		for i := range s.f.Addresses {
			if fitsAddress(c, s.f.Addresses[i].Address) {
				at = append(at, i)
			}
		}
	case c.route != nil:
		for i := range s.f.Routes {
			if fitsRoute(c, &s.f.Routes[i].Route) {
				at = append(at, i)
			}
		}
		slices.SortStableFunc(at, func(a, b int) int { return cmp.Compare(s.f.Routes[a].Metric, s.f.Routes[b].Metric) })
	case c.rule != nil:
		for i := range s.f.Rules {
			if fitsRule(c, &s.f.Rules[i].Rule) {
				at = append(at, i)
			}
		}
		if len(at) == 0 || c.verb == "flush" {
			break
		}
		p := priorities(s.f.Rules)
		at = slices.DeleteFunc(at, func(i int) bool { return !c.rule.AnyPriority && c.rule.Priority != p[i] })
		slices.SortStableFunc(at, func(a, b int) int { return cmp.Compare(p[a], p[b]) })
	}
	return at
}

// finish notes removals of what was never added: only something else can have added it.
func (s *shell) finish() {
	for _, c := range s.removed {
		if len(s.fitting(c.change)) == 0 {
			s.f.left(c.at, c.text, "it takes away what is not added here")
		}
	}
	s.f.Tables = s.names.Tables()
}

func fitsAddress(c change, a fib.Address) bool {
	return (c.address.Link == "" || c.address.Link == a.Link) &&
		(c.verb != "flush" && c.address.Prefix == a.Prefix || c.verb == "flush" && (c.family == 0 || c.family == a.Family()))
}

// fitsRoute says whether a delete fits a route: what the delete leaves open fits everything
// (fib_table_delete, net/ipv4/fib_trie.c; ip6_route_del, net/ipv6/route.c).
func fitsRoute(c change, r *fib.Route) bool {
	w := &c.route.Route
	if c.verb == "flush" {
		return (w.Family == 0 || w.Family == r.Family) && (w.Table == 0 || w.Table == r.Table)
	}
	if w.Family != r.Family || w.Table != r.Table || w.Dst != r.Dst || w.Metric != 0 && w.Metric != r.Metric {
		return false
	}
	if w.Family == fib.Inet6 {
		return !slices.ContainsFunc(w.Nexthops, func(n fib.Nexthop) bool {
			return !slices.ContainsFunc(r.Nexthops, func(o fib.Nexthop) bool { return fitsWay(n, o) })
		})
	}
	if c.typ != 0 && c.typ != r.Type || c.scope.Set && c.scope.Value != r.Scope || w.Src.IsValid() && w.Src != r.Src {
		return false
	}
	for _, m := range [...][2]uint32{{w.MTU, r.MTU}, {w.AdvMSS, r.AdvMSS}, {w.InitCwnd, r.InitCwnd}, {w.InitRwnd, r.InitRwnd}} {
		if m[0] != 0 && m[0] != m[1] {
			return false
		}
	}
	// The kernel compares a single way with the first, and several with all of them in their order.
	if len(w.Nexthops) > len(r.Nexthops) || len(w.Nexthops) > 1 && len(w.Nexthops) != len(r.Nexthops) {
		return false
	}
	for i, n := range w.Nexthops {
		if !fitsWay(n, r.Nexthops[i]) {
			return false
		}
	}
	return true
}

func fitsWay(w, o fib.Nexthop) bool {
	return (w.Link == "" || o.Link == "" || w.Link == o.Link) && (!w.Via.IsValid() || w.Via == o.Via)
}

// fitsRule is fitsRoute for rules, except for their priority. The kernel does not compare
// `not` (rule_find, net/core/fib_rules.c).
func fitsRule(c change, r *fib.Rule) bool {
	w := &c.rule.Rule
	if w.Family != r.Family {
		return false
	}
	if c.verb == "flush" {
		return true
	}
	fits := func(given bool, same bool) bool { return !given || same }
	return fits(w.From.IsValid(), w.From == r.From) && fits(w.To.IsValid(), w.To == r.To) && fits(w.TOS != 0, w.TOS == r.TOS) &&
		fits(w.Mark != 0, w.Mark == r.Mark) && fits(w.Mask != 0, w.Mask == r.Mask) && fits(w.IIF != "", w.IIF == r.IIF) && fits(w.OIF != "", w.OIF == r.OIF) &&
		fits(w.Table != 0, w.Table == r.Table) && fits(w.Action != 0, w.Action == r.Action) && fits(w.L3MDev, r.L3MDev) &&
		fits(w.SuppressPrefixLength.Set, w.SuppressPrefixLength == r.SuppressPrefixLength) &&
		fits(w.SuppressIfGroup.Set, w.SuppressIfGroup == r.SuppressIfGroup) && fits(w.UIDRange.Set, w.UIDRange == r.UIDRange) &&
		fits(w.IPProto != 0, w.IPProto == r.IPProto) && fits(w.SPort.Hi != 0, w.SPort == r.SPort) && fits(w.DPort.Hi != 0, w.DPort == r.DPort)
}
