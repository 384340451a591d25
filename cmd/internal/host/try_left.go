package host

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// leftOut is something of ours that does not come back, with the reason.
type leftOut struct {
	line line
	why  string
}

// notBack says what does not come back, one line for each reason.
func notBack(list []leftOut) (text []string) {
	var reasons []string
	first, count := map[string]line{}, map[string]int{}
	for _, l := range list {
		if count[l.why]++; count[l.why] == 1 {
			first[l.why], reasons = l.line, append(reasons, l.why)
		}
	}
	for _, why := range reasons {
		of := "ip " + first[why].text + " is"
		if n := count[why] - 1; n > 0 {
			of = fmt.Sprintf("ip %s and %d more are", first[why].text, n)
		}
		text = append(text, of+" not back: "+why)
	}
	return text
}

// inEffect is what was in effect before the try; nothing if that is not known.
func (w *record) inEffect() Effective {
	if w.effective == nil {
		w.effective = &Effective{}
		if json.Unmarshal(w.Marks[inEffectFile], w.effective) != nil {
			w.effective = &Effective{}
		}
	}
	return *w.effective
}

// asOfNow is what the earlier spec asks for on the host as it is now, because another address may
// have been learned. Where networkd has a part of that, the watch finds out which.
func (w *wayBack) asOfNow(now apply.Snapshot) *apply.Resolved {
	was := w.was.inEffect()
	if w.networkd && was.Backend != spec.Netlink {
		return nil
	}
	rest, err := w.Rest(was, w.networkd)
	if err != nil {
		return nil
	}
	a := w.Applier
	a.Watching = true
	want, err := a.Resolve(rest, now)
	if err != nil {
		return nil
	}
	return &want
}

// still keeps what of the record can be there now, and says what of ours cannot: what belongs to
// a link that is gone, or what was learned and is not any more. Of networkd's it drops what
// networkd removes with a carrier. What is there already can be there.
func (w *record) still(now apply.Snapshot, old *apply.Resolved) (apply.Snapshot, []leftOut) {
	var left []leftOut
	there := lines(now)
	can := w.limits(now, old)
	stays := func(l line, why string) bool {
		if why == "" || there[l] > 0 {
			return true
		}
		if !l.theirs {
			left = append(left, leftOut{l, why})
		}
		return false
	}
	serves := w.serving(can)
	files := w.asks().files
	s := pick(w.Held,
		func(a apply.Address) bool { return stays(addressLine(a), can.link(a.Link, a.Ours, false)) },
		func(r apply.Route) bool { return stays(routeLine(r), can.route(r)) },
		func(r apply.Rule) bool {
			if r.Ours() {
				return stays(ruleLine(r), can.rule(r))
			}
			file, ok := files.Rule(r.Rule)
			serving, known := serves[file]
			return !ok || !known || serving
		})
	return s, left
}

// serving says which old files networkd has a link for: a rule goes away with the links of its
// file.
func (w *record) serving(can *limits) map[string]bool {
	files, serves := w.asks().files, map[string]bool{}
	note := func(file string, link string) { serves[file] = serves[file] || can.link(link, false, false) == "" }
	for _, a := range w.Held.Addresses {
		if file, ok := files.Address(a.Address); ok && !a.Ours {
			note(file, a.Link)
		}
	}
	for _, r := range w.Held.Routes {
		if file, ok := files.Route(r.Route); ok && hasRoute(files, r) {
			for _, n := range r.Nexthops {
				note(file, n.Link)
			}
		}
	}
	return serves
}

// limits says what of its earlier state the host cannot hold now.
type limits struct {
	links     map[string]apply.Link
	carrier   map[string]bool
	addresses map[netip.Addr]bool // true once it has passed duplicate address detection

	learns map[uint32]string // the interface, by the table of what it has learned
	rules  map[fib.Rule]bool // of the spec itself
	routes map[fib.RouteKey]bool
	now    map[fib.RouteKey]bool // those that old asks for; nil where that is not known
}

func (w *record) limits(now apply.Snapshot, old *apply.Resolved) *limits {
	c := &limits{
		links: map[string]apply.Link{}, carrier: map[string]bool{"": true}, addresses: map[netip.Addr]bool{},
		learns: map[uint32]string{}, rules: map[fib.Rule]bool{}, routes: map[fib.RouteKey]bool{},
	}
	for _, l := range now.Links {
		c.links[l.Name], c.carrier[l.Name] = l, l.Carrier
	}
	for _, l := range w.Held.Links {
		_, there := c.links[l.Name]
		c.carrier[l.Name] = c.carrier[l.Name] || there && !l.Carrier
	}
	for _, a := range w.Held.Addresses {
		if c.link(a.Link, a.Ours, false) == "" {
			c.addresses[a.Prefix.Addr()] = false
		}
	}
	for _, a := range now.Addresses {
		// What is ours but was not there before is the try's, and goes.
		if _, was := c.addresses[a.Prefix.Addr()]; was || !a.Ours {
			c.addresses[a.Prefix.Addr()] = !a.Tentative
		}
	}
	state := w.inEffect().State
	for _, l := range state.Links {
		if l.Learn.Any() {
			c.learns[l.Learn.Table] = ""
		}
	}
	for _, r := range w.Held.Routes {
		if _, learns := c.learns[r.Table]; learns && len(r.Nexthops) > 0 {
			c.learns[r.Table] = r.Nexthops[0].Link
		}
	}
	for _, r := range state.Rules {
		c.rules[r.Key()] = true
	}
	for _, r := range state.Routes {
		c.routes[r.Key()] = true
	}
	if old != nil {
		c.now = map[fib.RouteKey]bool{}
		for _, r := range slices.Concat(old.Routes, old.Later.Routes) {
			c.now[r.Key()] = true
		}
	}
	return c
}

// link says why a link cannot have something, or "".
func (c *limits) link(name string, ours, up bool) string {
	if name == "" {
		return ""
	}
	l, there := c.links[name]
	switch {
	case !there:
		return "there is no link " + name
	case up && !l.Up:
		return name + " is down"
	case !ours && !c.carrier[name]:
		return name + " has no carrier"
	}
	return ""
}

// route says why a route cannot be there, or "".
func (c *limits) route(r apply.Route) string {
	link := ""
	for _, n := range r.Nexthops {
		if why := c.link(n.Link, r.Ours(), r.Ours()); why != "" {
			return why
		}
		link = n.Link
	}
	if !r.Ours() {
		return ""
	}
	usable, there := c.addresses[r.Src]
	_, learns := c.learns[r.Table]
	switch {
	case r.Src.IsValid() && !there:
		return noLonger(link, r.Src)
	case r.Src.Is6() && !usable && link != "" && !c.links[link].Carrier:
		return link + " has no carrier"
	case learns && c.now != nil && !c.now[r.Key()] && !c.routes[r.Key()]:
		return "it is learned no longer"
	}
	return ""
}

// rule says why one of our rules cannot be there, or "". The kernel would accept it, but the
// address may belong to another host now.
func (c *limits) rule(r apply.Rule) string {
	link, learns := c.learns[r.Table]
	if !learns || c.rules[r.Key()] {
		return ""
	}
	for _, p := range []netip.Prefix{r.From, r.To} {
		if _, there := c.addresses[p.Addr()]; p.IsSingleIP() && !there {
			return noLonger(link, p.Addr())
		}
	}
	return ""
}

func noLonger(link string, a netip.Addr) string {
	if link == "" {
		link = "the host"
	}
	return fmt.Sprintf("%s no longer has %s", link, a)
}

// beside returns what the earlier spec asks for now and a snapshot does not have.
func beside(old *apply.Resolved, s apply.Snapshot) (more apply.Snapshot) {
	if old == nil {
		return more
	}
	addresses, routes, rules := map[onLink]bool{}, map[fib.RouteKey]bool{}, map[fib.Rule]bool{}
	for _, a := range s.Addresses {
		addresses[onLink{a.Link, a.Prefix}] = true
	}
	for _, r := range s.Routes {
		routes[r.Key()] = true
	}
	for _, r := range s.Rules {
		rules[r.Key()] = true
	}
	for _, l := range old.Links {
		more.Links = append(more.Links, l.Device)
	}
	for _, a := range old.Addresses {
		if !addresses[onLink{a.Link, a.Prefix}] {
			more.Addresses = append(more.Addresses, apply.Address{Address: a, Ours: true})
		}
	}
	for _, r := range old.Routes {
		if !routes[r.Key()] {
			more.Routes = append(more.Routes, apply.Route{Route: r, Protocol: fib.Protocol})
		}
	}
	for _, r := range old.Rules {
		if !rules[r.Key()] {
			r.Link = "" // as the kernel shows it
			more.Rules = append(more.Rules, apply.Rule{Rule: r, Protocol: fib.Protocol})
		}
	}
	return more
}

// join adds the contents of another snapshot to a snapshot.
func join(s, more apply.Snapshot) apply.Snapshot {
	s.Links = slices.Clone(s.Links)
	for _, l := range more.Links {
		if i := slices.IndexFunc(s.Links, func(h apply.Link) bool { return h.Name == l.Name }); i >= 0 {
			s.Links[i].Index = l.Index // another card has the name now, and is the one that the spec means
			continue
		}
		l.MTU = 0 // otherwise Restore would set it
		s.Links = append(s.Links, l)
	}
	s.Addresses = slices.Concat(s.Addresses, more.Addresses)
	s.Routes = slices.Concat(s.Routes, more.Routes)
	s.Rules = slices.Concat(s.Rules, more.Rules)
	return s
}

// restoreOurs brings back what of ours can be there, and returns everything that is refused.
func (w *wayBack) restoreOurs() error {
	a := w.Applier
	a.Watching = true
	return a.Restore(w.target)
}

// refusedOf says, for each line that is missing, how the kernel refused it.
func refusedOf(missing []line, restored error) (list []leftOut) {
	said := map[line]string{}
	var walk func(error)
	walk = func(err error) {
		//nolint:errorlint // each of what is joined
		switch e := err.(type) {
		case interface{ Unwrap() []error }:
			for _, err := range e.Unwrap() {
				walk(err)
			}
			return
		case *apply.OpError:
			text := e.Msg
			if text == "" {
				text = e.Err.Error()
			}
			switch {
			case e.Op.Route != nil:
				said[routeLine(apply.Route{Route: *e.Op.Route, Protocol: fib.Protocol})] = text
			case e.Op.Rule != nil:
				said[ruleLine(apply.Rule{Rule: *e.Op.Rule, Protocol: fib.Protocol})] = text
			case e.Op.Verb == apply.LinkMTU:
				said[line{text: e.Op.Batch(), device: e.Op.Link}] = text
			case e.Op.Address != nil:
				said[addressLine(apply.Address{Address: *e.Op.Address, Ours: true})] = text
			}
			return
		}
		if err = errors.Unwrap(err); err != nil {
			walk(err)
		}
	}
	walk(restored)
	for _, l := range missing {
		why := "something else takes it away"
		if text, refused := said[l]; refused {
			why = "the kernel says: " + text
		}
		list = append(list, leftOut{l, why})
	}
	slices.SortFunc(list, func(a, b leftOut) int { return cmp.Compare(a.line.text, b.line.text) })
	return list
}
