package importer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// compare finds everything in which the State differs from what was found.
func (g *guess) compare(r *Result) {
	r.Lost = slices.Clone(g.Left)
	links := map[string]string{} // of the State to those of the source
	linkOf := map[string]string{}
	for _, u := range g.uplinks {
		linkOf[u.name] = u.link
		if u.policy && g.on(u.link)[0] == u {
			r.Stays = append(r.Stays, u.link)
		}
	}
	for _, l := range r.State.Links {
		for _, n := range l.Uplinks {
			links[l.Name] = linkOf[n.Name]
		}
	}
	g.compareAddresses(r, links)
	g.compareRoutes(r, links)
	g.compareRules(r)
	g.compareLinks(r, links)
	g.compareTables(r)
}

func (g *guess) lose(r *Result, x any, at fib.Origin, text, why string) {
	if said := g.why[x]; said != "" {
		why = said
	}
	r.Lost = append(r.Lost, Left{at, oneLine(text), oneLine(why)})
}

type onLink struct {
	link   string
	prefix netip.Prefix
}

func (g *guess) compareAddresses(r *Result, links map[string]string) {
	have := map[onLink]bool{}
	for _, a := range r.State.Addresses {
		have[onLink{links[a.Link], a.Prefix}] = true
	}
	found := map[onLink]bool{}
	for i := range g.Addresses {
		a := &g.Addresses[i]
		k := onLink{a.Link, a.Prefix}
		switch {
		case found[k]:
		case have[k] || a.Learned || a.Stays && g.policy(a.Link):
		case g.policy(a.Link):
			g.lose(r, a, a.Origin, a.text(), "with manage = \"policy\" addresses are left to whoever configures "+a.Link)
		default:
			g.lose(r, a, a.Origin, a.text(), a.Link+" has no gateway and no table of its own")
		}
		found[k] = true
	}
	for _, a := range r.State.Addresses {
		a.Link = links[a.Link]
		if !found[onLink{a.Link, a.Prefix}] {
			r.Added = append(r.Added, addressText(a))
		}
	}
}

func (g *guess) compareRoutes(r *Result, links map[string]string) {
	have := map[fib.RouteKey]*fib.Route{}
	for i := range r.State.Routes {
		s := &r.State.Routes[i]
		s2 := *s
		s2.Nexthops = slices.Clone(s.Nexthops)
		for n := range s2.Nexthops {
			s2.Nexthops[n].Link = links[s2.Nexthops[n].Link]
		}
		have[s.Key()] = &s2
	}
	// Of two routes with one key only one can be right; the other is lost.
	matched := map[fib.RouteKey]bool{}
	var rest []*Route
	for i := range g.Routes {
		f := &g.Routes[i]
		if s := have[f.Key()]; s != nil && s.Same(&f.Route) {
			matched[f.Key()] = true
		} else if g.carried(f) {
			rest = append(rest, f)
		}
	}
	for _, f := range rest {
		s := have[f.Key()]
		switch {
		case s != nil && !matched[f.Key()]:
			matched[f.Key()] = true
			r.Changed = append(r.Changed, Left{Origin: f.Origin, Text: oneLine(f.text()), Why: "becomes `" + routeText(*s) + "`"}.String())
		case s != nil && g.why[f] == "":
			g.lose(r, f, f.Origin, f.text(), "there is another with this destination and metric")
		default:
			g.lose(r, f, f.Origin, f.text(), "no uplink's link has it")
		}
	}
	for i := range r.State.Routes {
		if k := r.State.Routes[i].Key(); !matched[k] {
			r.Added = append(r.Added, routeText(*have[k]))
		}
	}
}

func (g *guess) compareRules(r *Result) {
	have := map[fib.Rule]int{}
	free := map[fib.Rule]int{}
	without := func(k fib.Rule) fib.Rule { k.Priority = 0; return k }
	for _, s := range r.State.Rules {
		have[s.Key()]++
		free[without(s.Key())]++
	}
	matched := map[fib.Rule]bool{}
	for i := range g.Rules {
		f := &g.Rules[i]
		k := f.Key()
		switch {
		case !f.AnyPriority && have[k] > 0:
			matched[k] = true
		case f.AnyPriority && free[without(k)] > 0:
			matched[without(k)] = true
		default:
			g.lose(r, f, f.Origin, f.text(), "another rule of this priority selects as much")
		}
	}
	for _, s := range r.State.Rules {
		if k := s.Key(); !matched[k] && !matched[without(k)] {
			r.Added = append(r.Added, ruleText(s))
		}
	}
}

func (g *guess) compareLinks(r *Result, links map[string]string) {
	learn := map[string]fib.Learn{}
	for _, l := range r.State.Links {
		learn[links[l.Name]] = l.Learn
	}
	for i := range g.Links {
		l := &g.Links[i]
		s := learn[l.Name]
		if g.policy(l.Name) {
			if l.MTUSet.Text != "" {
				l.MTUSet.Why = "with manage = \"policy\" the MTU is left to whoever configures " + l.Name
				r.Lost = append(r.Lost, l.MTUSet)
			}
			continue
		}
		r.Lost = append(r.Lost, l.Own...)
		if len(g.on(l.Name)) == 0 {
			if l.MTU != 0 || len(l.DNS)+len(l.Domains) > 0 || l.Learn.Any() {
				r.Lost = append(r.Lost, Left{l.Origin, oneLine("the settings of " + l.Name), "it is no uplink"})
			}
			continue
		}
		for _, k := range [...]struct {
			what      string
			had, have bool
		}{{"DHCPv4", l.Learn.DHCP4, s.DHCP4}, {"DHCPv6", l.Learn.DHCP6, s.DHCP6}, {"router advertisements", l.Learn.RA, s.RA}} {
			if k.had && !k.have {
				r.Lost = append(r.Lost, Left{l.Origin, oneLine(k.what + " on " + l.Name), oneLine(g.noLearn[l.Name])})
			}
		}
		if l.DefaultRA && !s.RA {
			r.Changed = append(r.Changed, Left{l.Origin, oneLine("router advertisements on " + l.Name), "accepted by default, and no longer: `accept-ra` takes them"}.String())
		}
		if l.Learn.Any() && s.Any() {
			r.Changed = append(r.Changed, learnChanges(l, s)...)
		}
	}
}

// learnChanges lists the changes to where the routes go that a link learns, and to their metric.
func learnChanges(l *Link, s fib.Learn) (list []string) {
	change := func(format string, args ...any) {
		list = append(list, Left{Origin: l.Origin, Text: oneLine("what " + l.Name + " learns"), Why: fmt.Sprintf(format, args...)}.String())
	}
	metric := uint32(0)
	if s.DefaultRoute {
		metric = s.Metric
	}
	switch {
	case l.Learn.Table == 0 && !s.DefaultRoute:
		change("goes to table %d, not main", s.Table)
	case l.Learn.Table != 0 && l.Learn.Table != s.Table:
		change("goes to table %d, not %d", s.Table, l.Learn.Table)
	}
	if l.Learn.Table != 0 && s.DefaultRoute {
		change("goes to table main as well")
	}
	if l.Learn.Metric != metric {
		name := func(n uint32) string { return cmp.Or(strings.TrimPrefix(utoa(n), "0"), "the default") }
		change("its metric becomes %s, not %s", name(metric), name(l.Learn.Metric))
	}
	return list
}

// compareTables notes tables whose names change.
func (g *guess) compareTables(r *Result) {
	named := map[fib.Table]bool{}
	for _, t := range g.Tables {
		named[fib.Table{ID: t.ID, Name: t.Name}] = true
	}
	for _, t := range g.Tables {
		u := g.byTable[t.ID]
		if u != nil && u.name != t.Name && !named[fib.Table{ID: t.ID, Name: u.name}] {
			r.Changed = append(r.Changed, "table "+utoa(t.ID)+" "+oneLine(t.Name)+" is called "+u.name)
		}
	}
}
