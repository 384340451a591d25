package host

import (
	"fmt"
	"slices"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/units"
)

// own keeps of a snapshot what is ours, and what networkd holds because of the files before the
// try, or because of the try's.
func (w *record) own(s apply.Snapshot) apply.Snapshot {
	c := w.asks()
	return ownOf(s, c.files, c.tried)
}

// theTrys is own without what is the same in both sets of files: networkd does not touch a link
// whose file stays.
func (w *record) theTrys(s apply.Snapshot) apply.Snapshot {
	c := w.asks()
	return ownOf(s, c.filesAlone, c.triedAlone)
}

func ownOf(s apply.Snapshot, old, tried units.Contents) apply.Snapshot {
	return pick(s,
		func(a apply.Address) bool { return a.Ours || hasAddress(old, a) || hasAddress(tried, a) },
		func(r apply.Route) bool { return r.Ours() || hasRoute(old, r) || hasRoute(tried, r) },
		func(r apply.Rule) bool { return r.Ours() || hasRule(old, r) || hasRule(tried, r) })
}

// caughtUp keeps of a snapshot what networkd has added since the record, but not because of the
// try: the old files ask for it, on a link that did not exist or had no carrier. A rule has no
// link.
func (w *record) caughtUp(now apply.Snapshot) apply.Snapshot {
	old := w.asks().filesAlone
	was := map[string]bool{} // the links that networkd could configure
	for _, l := range w.Held.Links {
		was[linkKey(l)] = l.Carrier
	}
	late := map[string]bool{}
	for _, l := range now.Links {
		late[l.Name] = !was[linkKey(l)]
	}
	return pick(now,
		func(a apply.Address) bool { return late[a.Link] && !a.Ours && hasAddress(old, a) },
		func(r apply.Route) bool {
			return !slices.ContainsFunc(r.Nexthops, func(n fib.Nexthop) bool { return !late[n.Link] }) && hasRoute(old, r)
		},
		func(r apply.Rule) bool { return hasRule(old, r) })
}

// mayHold is the record plus what networkd has caught up on since.
func (w *record) mayHold(now apply.Snapshot) apply.Snapshot {
	s, more := w.Held, w.caughtUp(now)
	s.Links = now.Links
	s.Addresses = slices.Concat(s.Addresses, more.Addresses)
	s.Routes = slices.Concat(s.Routes, more.Routes)
	s.Rules = slices.Concat(s.Rules, more.Rules)
	return s
}

// linkKey tells a link from a later one with the same name.
func linkKey(l apply.Link) string { return fmt.Sprint(l.Index, " ", l.Name) }

// asked is what the files before the try and those of the try ask networkd for: all files, and
// only those that differ between the two.
type asked struct{ files, tried, filesAlone, triedAlone units.Contents }

// asks returns what the files ask for. It keeps the result, because going back compares it often.
func (w *record) asks() *asked {
	if w.asked == nil {
		w.asked = &asked{
			w.Files.Contents(), w.Tried.Contents(),
			without(w.Files, w.Tried).Contents(), without(w.Tried, w.Files).Contents(),
		}
	}
	return w.asked
}

// without returns the files of a tree that another tree does not have with the same content.
func without(tree, other units.Tree) (list units.Tree) {
	alike := map[string]string{}
	for _, f := range other {
		alike[f.Path] = string(f.Data)
	}
	for _, f := range tree {
		if data, there := alike[f.Path]; !there || data != string(f.Data) {
			list = append(list, f)
		}
	}
	return list
}

func hasAddress(c units.Contents, a apply.Address) bool {
	_, ok := c.Address(a.Address)
	return ok
}

func hasRoute(c units.Contents, r apply.Route) bool {
	if !r.MayBeNetworkds() {
		return false
	}
	_, ok := c.Route(r.Route)
	return ok
}

func hasRule(c units.Contents, r apply.Rule) bool {
	if !r.MayBeNetworkds() {
		return false
	}
	_, ok := c.Rule(r.Rule)
	return ok
}

// pick keeps of a snapshot what the functions select, and the links.
func pick(s apply.Snapshot, address func(apply.Address) bool, route func(apply.Route) bool, rule func(apply.Rule) bool) apply.Snapshot {
	some := apply.Snapshot{Links: s.Links}
	for _, a := range s.Addresses {
		if address(a) {
			some.Addresses = append(some.Addresses, a)
		}
	}
	for _, r := range s.Routes {
		if route(r) {
			some.Routes = append(some.Routes, r)
		}
	}
	for _, r := range s.Rules {
		if rule(r) {
			some.Rules = append(some.Rules, r)
		}
	}
	return some
}
