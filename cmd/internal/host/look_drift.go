package host

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// foreign returns the routes of others that are in the way; all says whether the error is about
// nothing else.
func foreign(err error) (list []*apply.ForeignError, all bool) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // as errors.Join made it
		for _, e := range joined.Unwrap() {
			more, ok := foreign(e)
			if list = append(list, more...); !ok {
				return nil, false
			}
		}
		return list, true
	}
	var f *apply.ForeignError
	if !errors.As(err, &f) {
		return nil, false
	}
	return []*apply.ForeignError{f}, true
}

// drift assigns what a plan would change to the uplinks.
func (l *looker) drift(plan apply.Plan, conflicts []*apply.ForeignError) {
	add := func(o apply.Op, d Drift) {
		if s := l.byName[l.ownerOf(o)]; s != nil {
			s.Drift = append(s.Drift, d)
		} else {
			l.out.Drift = append(l.out.Drift, d)
		}
	}
	taken := map[fib.RouteKey]bool{}
	for _, c := range conflicts {
		taken[c.Want.Route.Key()] = true
		add(c.Want, Drift{Kind: InTheWay, Text: c.Error()})
	}
	ops := plan.Ops()
	// What is both added and removed only moves, or helps for a moment.
	added, removed := map[fib.Rule]bool{}, map[fib.Rule]bool{}
	for _, o := range ops {
		switch o.Verb {
		case apply.RuleAdd:
			added[o.Rule.Key()] = true
		case apply.RuleDel:
			removed[o.Rule.Key()] = true
		default:
		}
	}
	for _, o := range ops {
		kind := Lacks
		switch o.Verb {
		case apply.LinkPromote:
			continue
		case apply.LinkMTU, apply.RouteReplace:
			kind = Different
		case apply.AddressDel, apply.RouteDel, apply.RuleDel:
			kind = Extra
		default:
		}
		if o.Rule != nil && added[o.Rule.Key()] && removed[o.Rule.Key()] || o.Route != nil && taken[o.Route.Key()] {
			continue
		}
		add(o, Drift{kind, "ip " + o.String(), l.instead(o)})
	}
}

// instead returns what an operation replaces, or "".
func (l *looker) instead(o apply.Op) string {
	switch o.Verb {
	case apply.LinkMTU:
		return fmt.Sprintf("mtu %d", o.BeforeMTU)
	case apply.RouteReplace:
		x := fib.Syntax{Device: func(link string) string { return link }, Table: func(id uint32) string {
			return cmp.Or(l.byTable[id], fmt.Sprint(id))
		}}
		_, text, _ := strings.Cut(x.Route("add", *o.Before), "route add ")
		return text
	default:
		return ""
	}
}

// ownerOf returns the uplink that an operation belongs to, or "".
func (l *looker) ownerOf(o apply.Op) string {
	switch {
	case o.Address != nil:
		return l.owner(o.Address.Origin, 0, o.Address.Link)
	case o.Route != nil:
		return l.owner(o.Route.Origin, o.Route.Table, "")
	case o.Rule != nil:
		return l.owner(o.Rule.Origin, o.Rule.Table, "")
	}
	return l.byDevice[o.Link]
}
