package apply

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Plan is the ordered operations that turn what there is into what is wanted.
//
// The order is make before break, and also the cheap one for the kernel: all routes before the
// rules that lead to them, because the kernel checks a gateway through the rules that are there;
// rules from the highest priority number down, because the kernel walks its list from the front
// to insert. Removal is the reverse. Only addresses that would make the kernel refuse something
// wanted are removed first.
type Plan struct {
	// Make is in stages, each of which must be done before the next begins.
	Make []Stage
	// Break begins when all of Make is done: rules, then routes, then addresses.
	Break []Stage
}

// Stage is operations that do not depend on each other's answers.
type Stage struct {
	Ops []Op
	// Settle lists addresses that must have passed duplicate address detection
	// before the stage begins: the kernel refuses them as a source until then.
	Settle []netip.Addr
}

// Ops returns all operations in order.
func (p Plan) Ops() []Op {
	var ops []Op
	for _, s := range slices.Concat(p.Make, p.Break) {
		ops = append(ops, s.Ops...)
	}
	return ops
}

// Len counts the operations.
func (p Plan) Len() (n int) {
	for _, s := range p.Make {
		n += len(s.Ops)
	}
	for _, s := range p.Break {
		n += len(s.Ops)
	}
	return n
}

// has says whether the plan has an operation for which so is true.
func (p Plan) has(so func(Op) bool) bool {
	in := func(s Stage) bool { return slices.ContainsFunc(s.Ops, so) }
	return slices.ContainsFunc(p.Make, in) || slices.ContainsFunc(p.Break, in)
}

// ErrForeign says that something that belongs to others is in the way.
var ErrForeign = errors.New("in the way")

// ForeignError is a route of another's with the key of one that is wanted.
type ForeignError struct {
	Want  Op
	Route Route
}

// Error names what is in the way, whose it is, and what to do. For a default route in main, and
// for a route that is the same, that is not to remove it: the user may have come in by it.
func (e *ForeignError) Error() string {
	what := fmt.Sprintf("ip %s: a route of %s is in the way", e.Want, ProtocolName(e.Route.Protocol))
	have := Op{Verb: RouteAdd, Route: &e.Route.Route, Owner: fib.Some(e.Route.Protocol), tableName: e.Want.tableName}
	r := e.Want.Route
	switch {
	case r.Table == fib.TableMain && r.IsDefault() && len(r.Nexthops) == 1:
		return fmt.Sprintf("%s (%s): where whoever configures the link adds it, leave it out of the spec (`default-route`, or the route: %s); or give one of them another metric", what, have, r.Origin)
	case e.Route.Unread == "" && r.Same(&e.Route.Route) && (e.Route.Protocol == ProtocolBoot || e.Route.Protocol == ProtocolStatic):
		// By number: the table's name may not be registered yet.
		ours := Op{Verb: RouteReplace, Route: r}
		return fmt.Sprintf("%s (the same but for its owner): `ip %s` hands it over in place; what adds it at boot has to go as well", what, ours.Batch())
	}
	return fmt.Sprintf("%s (%s): remove it, or give one of them another metric", what, have)
}

// Unwrap returns ErrForeign.
func (e *ForeignError) Unwrap() error { return ErrForeign }

// NewPlan compares what is wanted with what is there. Where the snapshot has the routes of others
// too, each one in the place of a wanted route is a ForeignError, all of them joined; see
// Conflicts for a snapshot without them.
func NewPlan(want Resolved, have Snapshot) (Plan, error) {
	names := make(map[uint32]string, len(want.Tables))
	for _, t := range want.Tables {
		names[t.ID] = t.Name
	}
	p := planner{name: func(id uint32) string {
		if n, ok := names[id]; ok {
			return n
		}
		return fmt.Sprint(id)
	}}
	p.links(want)
	p.addresses(want, have)
	p.routes(want, have)
	p.rules(want, have)
	plan := p.plan(have)
	return plan, plan.Conflicts(have.Routes)
}

// Conflicts returns a ForeignError for each route of others that is in the place of one that the
// plan adds or replaces, all of them joined: of two routes with one key the kernel replaces the
// first, whoever owns it.
func (p Plan) Conflicts(routes []Route) error {
	var added map[fib.RouteKey]*Op
	var errs []error
	for i := range routes {
		r := &routes[i]
		if r.Ours() {
			continue
		}
		if added == nil {
			added = p.addedRoutes()
		}
		if o, ok := added[r.Key()]; ok {
			errs = append(errs, &ForeignError{*o, *r})
		}
	}
	return errors.Join(errs...)
}

// addedRoutes returns the operations that add or replace a route.
func (p Plan) addedRoutes() map[fib.RouteKey]*Op {
	added := make(map[fib.RouteKey]*Op, p.Len()/2) // of many uplinks half are rules
	for _, s := range p.Make {
		for i := range s.Ops {
			if o := &s.Ops[i]; o.Verb == RouteAdd || o.Verb == RouteReplace {
				added[o.Route.Key()] = o
			}
		}
	}
	return added
}

type planner struct {
	name func(uint32) string

	linkOps                []Op
	addressAdd, addressDel []Op
	addressFirst           []Op                // removals that must come before all additions
	sourceless             map[netip.Addr]bool // sources that routes lose with them
	routeAdd, routeDel     [2][]Op             // by family
	ruleAdd, ruleDel       [2][]Op
}

func index(f fib.Family) int {
	if f == fib.Inet {
		return 0
	}
	return 1
}

func (p *planner) op(o Op) Op {
	o.tableName = p.name
	return o
}

func (p *planner) ruleOps(verb Verb, rules []*fib.Rule) (ops []Op) {
	for _, r := range rules {
		ops = append(ops, p.op(Op{Verb: verb, Rule: r}))
	}
	return ops
}

func (p *planner) links(want Resolved) {
	for _, l := range want.Links {
		if l.PolicyOnly {
			continue
		}
		if l.MTU != 0 && l.MTU != l.Device.MTU {
			p.linkOps = append(p.linkOps, p.op(Op{Verb: LinkMTU, Link: l.Device.Name, MTU: l.MTU, BeforeMTU: l.Device.MTU}))
		}
		if !l.Device.Up {
			p.linkOps = append(p.linkOps, p.op(Op{Verb: LinkUp, Link: l.Device.Name}))
		}
	}
}

type addressKey struct {
	link   string
	prefix netip.Prefix
}

func keyOf(a fib.Address) addressKey { return addressKey{a.Link, a.Prefix} }

func (p *planner) addresses(want Resolved, have Snapshot) {
	wanted := make(map[addressKey]bool, len(want.Addresses)) // true once it is there
	for _, a := range slices.Concat(want.Addresses, want.Later.Addresses) {
		wanted[keyOf(a)] = false
	}
	for i := range have.Addresses {
		a := &have.Addresses[i]
		if _, ok := wanted[keyOf(a.Address)]; ok {
			wanted[keyOf(a.Address)] = true
		} else if a.Ours {
			p.addressDel = append(p.addressDel, p.op(Op{Verb: AddressDel, Address: &a.Address}))
		}
	}
	for i := range want.Addresses {
		if a := &want.Addresses[i]; !wanted[keyOf(*a)] {
			p.addressAdd = append(p.addressAdd, p.op(Op{Verb: AddressAdd, Address: a}))
		}
	}
	slices.Reverse(p.addressDel)
	p.addressFirst, p.addressDel = otherLength(p.addressDel, p.addressAdd)
	for _, o := range p.addressFirst {
		if p.sourceless == nil {
			p.sourceless = map[netip.Addr]bool{}
		}
		p.sourceless[o.Address.Prefix.Addr()] = true
	}
}

// otherLength splits removals into those that must come before addresses are added, and the rest:
// the kernel refuses an IPv6 address that the link has, whatever its prefix length
// (ipv6_add_addr, net/ipv6/addrconf.c).
func otherLength(removals, added []Op) (first, rest []Op) {
	type key struct {
		link string
		addr netip.Addr
	}
	again := map[key]bool{}
	for _, o := range added {
		again[key{o.Address.Link, o.Address.Prefix.Addr()}] = o.Address.Family() == fib.Inet6
	}
	for _, o := range removals {
		if again[key{o.Address.Link, o.Address.Prefix.Addr()}] {
			first = append(first, o)
		} else {
			rest = append(rest, o)
		}
	}
	return first, rest
}

func (p *planner) routes(want Resolved, have Snapshot) {
	// Of ours there is at most one with a key; -1 once it is accounted for.
	there := make(map[fib.RouteKey]int, len(have.Routes))
	for i := range have.Routes {
		if have.Routes[i].Ours() {
			there[have.Routes[i].Key()] = i
		}
	}
	later := make(map[fib.RouteKey]*fib.Route, len(want.Later.Routes))
	for i := range want.Later.Routes {
		later[want.Later.Routes[i].Key()] = &want.Later.Routes[i]
	}
	for i := range want.Routes {
		r := &want.Routes[i]
		f := index(r.Family)
		at, ok := there[r.Key()]
		if !ok {
			if p.routeAdd[f] == nil {
				p.routeAdd[f] = make([]Op, 0, len(want.Routes)-i)
			}
			p.routeAdd[f] = append(p.routeAdd[f], p.op(Op{Verb: RouteAdd, Route: r}))
			continue
		}
		h := &have.Routes[at].Route
		there[r.Key()] = -1
		whole := later[r.Key()]
		switch {
		case !p.sourceless[r.Src] && (h.Same(r) || whole != nil && h.Same(whole)):
		default:
			p.routeAdd[f] = append(p.routeAdd[f], p.op(Op{Verb: RouteReplace, Route: r, Before: h}))
		}
	}
	for i := range have.Routes {
		h := &have.Routes[i]
		if !h.Ours() || there[h.Key()] != i {
			continue
		}
		if w := later[h.Key()]; w != nil && h.Same(w) {
			continue
		}
		f := index(h.Family)
		p.routeDel[f] = append(p.routeDel[f], p.op(Op{Verb: RouteDel, Route: &h.Route}))
	}
	for f := range p.routeAdd {
		// The route to a gateway comes before those by it: within a table the wanted routes are
		// in that order, but a route may depend on one of another table.
		p.routeAdd[f] = ranked(p.routeAdd[f], func(o Op) int { return viaGateway(o.Route) })
		p.routeDel[f] = ranked(p.routeDel[f], func(o Op) int { return 1 - viaGateway(o.Route) })
	}
}

// ranked returns the operations by rank, 0 to 2, and otherwise in their order.
func ranked(ops []Op, rank func(Op) int) []Op {
	sorted := make([]Op, 0, len(ops))
	for n := range 3 {
		for _, o := range ops {
			if rank(o) == n {
				sorted = append(sorted, o)
			}
		}
	}
	return sorted
}

func viaGateway(r *fib.Route) int {
	for _, n := range r.Nexthops {
		if n.Via.IsValid() {
			return 1
		}
	}
	return 0
}

// plan puts the operations into stages. IPv4 comes first as a whole, so that it
// does not wait for duplicate address detection.
func (p *planner) plan(have Snapshot) Plan {
	var plan Plan
	stage := func(to *[]Stage, ops []Op) {
		if len(ops) > 0 {
			*to = append(*to, Stage{Ops: ops})
		}
	}
	stage(&plan.Make, p.linkOps)
	stage(&plan.Make, p.addressFirst)
	stage(&plan.Make, p.addressAdd)
	for f := range p.routeAdd {
		pass := lettingPass(p.routeAdd[f], have.Rules)
		stage(&plan.Make, p.ruleOps(RuleAdd, pass))
		var first []Op
		first, p.addressDel = inTheWay(p.addressDel, p.routeAdd[f])
		stage(&plan.Make, first)
		stage(&plan.Make, p.routeAdd[f])
		if f == index(fib.Inet6) && len(p.routeAdd[f]) > 0 {
			plan.Make[len(plan.Make)-1].Settle = settling(p.routeAdd[f], p.addressAdd, have)
		}
		stage(&plan.Make, p.ruleOps(RuleDel, pass))
		stage(&plan.Make, ranked(p.ruleAdd[f], skips))
	}
	for f := range p.ruleDel {
		stage(&plan.Break, ranked(p.ruleDel[f], func(o Op) int { return 2 - skips(o) }))
	}
	for f := range p.routeDel {
		stage(&plan.Break, p.routeDel[f])
	}
	stage(&plan.Break, p.addressDel)
	return plan
}

// settling lists the addresses that routes take as their source and that are not
// known to have passed duplicate address detection.
func settling(routes, added []Op, have Snapshot) []netip.Addr {
	fresh := map[netip.Addr]bool{}
	for _, o := range added {
		fresh[o.Address.Prefix.Addr()] = true
	}
	for _, a := range have.Addresses {
		if a.Tentative {
			fresh[a.Prefix.Addr()] = true
		}
	}
	var list []netip.Addr
	for _, o := range routes {
		if src := o.Route.Src; src.IsValid() && fresh[src] {
			delete(fresh, src)
			list = append(list, src)
		}
	}
	return list
}
