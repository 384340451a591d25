package importer

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// removal is a command that takes away what no command before it has added.
type removal struct {
	change
	at   fib.Origin
	text string
}

// batch takes the lines of an `ip -batch`.
func (s *shell) batch(at fib.Origin, text string, family fib.Family) {
	line := at.Line
	text = strings.ReplaceAll(text, "\r\n", "\n")
	for len(text) > 0 {
		one, rest, _ := strings.Cut(text, "\n")
		here := fib.Origin{File: at.File, Line: line}
		line++
		var joined strings.Builder
		for strings.HasSuffix(one, `\`) && rest != "" {
			joined.WriteString(strings.TrimSuffix(one, `\`))
			one, rest, _ = strings.Cut(rest, "\n")
			line++
		}
		joined.WriteString(strings.TrimSuffix(one, `\`))
		one = joined.String()
		text = rest
		words, _, _ := strings.Cut(one, "#")
		args := strings.Fields(strings.ReplaceAll(words, `"`, ""))
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

// change takes one command of ip(8).
func (s *shell) change(at fib.Origin, text string, args []string) {
	c, err := parseIP(args, s.names)
	if err != nil {
		s.f.left(at, text, "%v", err)
		return
	}
	if len(c.lost) > 0 && c.verb != "del" && c.verb != "flush" {
		s.f.left(at, text, "without `%s`", strings.Join(c.lost, "`, `"))
	}
	text = oneLine(text)
	switch {
	case c.verb == "del" || c.verb == "flush":
		s.remove(c, at, text)
	case c.link != nil:
		if l := s.f.link(c.link.name, at); c.link.mtu != 0 {
			l.MTU = c.link.mtu
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
		s.f.Rules = append(s.f.Rules, r)
	}
}

func (s *shell) addRoute(r Route, verb string, at fib.Origin, text string) {
	r.Origin, r.Text = at, text
	if r.Table == fib.TableLocal {
		s.f.left(at, text, "table local is the kernel's own")
		return
	}
	for i := range r.Nexthops {
		// Without `dev` the kernel finds the link by the gateway's subnet; if need be it
		// is that of the configuration which runs the command.
		if n := &r.Nexthops[i]; n.Link == "" && s.iface != "" && s.f.linkOf(n.Via) == "" {
			n.Link = s.iface
		}
	}
	if len(r.Nexthops) > 0 {
		r.Link = r.Nexthops[0].Link
	}
	if verb == "append" && s.f.appendWay(r) {
		return
	}
	if verb == "replace" {
		s.f.Routes = slices.DeleteFunc(s.f.Routes, func(o Route) bool { return o.Key() == r.Key() })
	}
	s.f.Routes = append(s.f.Routes, r)
}

// remove takes away what was added before; what was not is remembered.
func (s *shell) remove(c change, at fib.Origin, text string) {
	if !s.take(c) {
		s.removed = append(s.removed, removal{c, at, text})
	}
}

// take takes away what a command does, and says whether there was any of it.
func (s *shell) take(c change) bool {
	count := func() int { return len(s.f.Addresses) + len(s.f.Routes) + len(s.f.Rules) }
	before := count()
	switch {
	case c.address != nil:
		s.f.Addresses = slices.DeleteFunc(s.f.Addresses, func(a Address) bool { return fitsAddress(c, a.Address) })
	case c.route != nil:
		s.f.Routes = slices.DeleteFunc(s.f.Routes, func(r Route) bool { return fitsRoute(c, r.Route) })
	case c.rule != nil:
		s.f.Rules = slices.DeleteFunc(s.f.Rules, func(r Rule) bool { return fitsRule(c, r.Rule) })
	}
	return count() < before
}

// finish notes what is taken away and never added: only somebody else can have added it.
func (s *shell) finish() {
	for _, c := range s.removed {
		undone := c.address != nil && slices.ContainsFunc(s.f.Addresses, func(a Address) bool { return fitsAddress(c.change, a.Address) }) ||
			c.route != nil && slices.ContainsFunc(s.f.Routes, func(r Route) bool { return fitsRoute(c.change, r.Route) }) ||
			c.rule != nil && slices.ContainsFunc(s.f.Rules, func(r Rule) bool { return fitsRule(c.change, r.Rule) })
		if !undone {
			s.f.left(c.at, c.text, "it takes away what is not added here")
		}
	}
	s.f.Tables = s.names.Tables()
}

func fitsAddress(c change, a fib.Address) bool {
	return (c.address.Link == "" || c.address.Link == a.Link) && (c.verb == "flush" || c.address.Prefix == a.Prefix)
}

// fitsRoute says whether a delete takes a route away: what it leaves open fits all.
func fitsRoute(c change, r fib.Route) bool {
	w := c.route.Route
	if c.verb == "flush" {
		return (w.Family == 0 || w.Family == r.Family) && w.Table == r.Table
	}
	if w.Family != r.Family || w.Table != r.Table || w.Dst != r.Dst || w.Metric != r.Metric && w.Metric != 0 && (w.Family == fib.Inet || w.Metric != fib.MetricDefaultInet6) {
		return false
	}
	for _, n := range w.Nexthops {
		if !slices.ContainsFunc(r.Nexthops, func(o fib.Nexthop) bool {
			return (n.Link == "" || o.Link == "" || n.Link == o.Link) && (n.Via == netip.Addr{} || n.Via == o.Via)
		}) {
			return false
		}
	}
	return true
}

// fitsRule is fitsRoute for rules.
func fitsRule(c change, r fib.Rule) bool {
	w := c.rule.Rule
	if w.Family != r.Family {
		return false
	}
	if c.verb == "flush" {
		return true
	}
	fits := func(given bool, same bool) bool { return !given || same }
	return fits(!c.rule.AnyPriority, w.Priority == r.Priority) && fits(w.From.IsValid(), w.From == r.From) && fits(w.To.IsValid(), w.To == r.To) &&
		fits(w.Mask != 0, w.Mark == r.Mark && w.Mask == r.Mask) && fits(w.IIF != "", w.IIF == r.IIF) && fits(w.OIF != "", w.OIF == r.OIF) &&
		fits(w.Table != 0 && w.Action == fib.Lookup, w.Table == r.Table) && fits(w.Action != 0, w.Action == r.Action)
}
