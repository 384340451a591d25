package apply

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Plan is the ordered operations that turn what there is into what is wanted.
//
// The order is make before break, and the cheap one for the kernel as well: all
// routes before the rules that lead to them, because a gateway is checked through
// the rules that are there; rules from the highest priority number down, because
// the kernel walks its list from the front to insert. Removal is the reverse.
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

// ErrForeign says that something of another's is in the way.
var ErrForeign = errors.New("in the way")

// ForeignError is a route of another's with the key of one that is wanted.
type ForeignError struct {
	Want  Op
	Route Route
}

// Error names what is in the way, and whose it is.
func (e *ForeignError) Error() string {
	have := Op{Verb: RouteAdd, Route: e.Route.Route, tableName: e.Want.tableName}
	return fmt.Sprintf("ip %s: a route of %s is in the way (%s): remove it, or give one of them another metric",
		e.Want, ProtocolName(e.Route.Protocol), have)
}

// Unwrap returns ErrForeign.
func (e *ForeignError) Unwrap() error { return ErrForeign }

// ProtocolName names the owner of a route or rule, as iproute2's rt_protos does.
func ProtocolName(p uint8) string {
	names := map[uint8]string{
		0: "nobody (protocol unspec)", 1: "an ICMP redirect (protocol redirect)", 2: "the kernel (protocol kernel)", 3: "boot scripts (protocol boot)",
		4: "an administrator or systemd-networkd (protocol static)", 9: "a router advertisement (protocol ra)", 11: "zebra (protocol zebra)", 12: "bird (protocol bird)",
		16: "a DHCP client (protocol dhcp)", 42: "babel (protocol babel)", 186: "bgp (protocol bgp)", 188: "ospf (protocol ospf)", fib.Protocol: "uplink-generator (protocol uplink)",
	}
	if n, ok := names[p]; ok {
		return n
	}
	return fmt.Sprintf("protocol %d", p)
}

// NewPlan compares what is wanted with what is there. A foreign route in the place
// of a wanted one is a ForeignError, all of them joined; the snapshot must then
// hold the routes of others, see Scope.
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
	if err := errors.Join(p.errs...); err != nil {
		return Plan{}, err
	}
	return p.plan(want, have), nil
}

type planner struct {
	name func(uint32) string
	errs []error

	linkOps                []Op
	addressAdd, addressDel []Op
	routeAdd, routeDel     [2][]Op // by family
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

func (p *planner) addresses(want Resolved, have Snapshot) {
	there := make(map[addressKey]bool, len(have.Addresses))
	for _, a := range have.Addresses {
		there[addressKey{a.Link, a.Prefix}] = true
	}
	wanted := make(map[addressKey]bool, len(want.Addresses))
	for _, a := range want.Addresses {
		wanted[addressKey{a.Link, a.Prefix}] = true
		if !there[addressKey{a.Link, a.Prefix}] {
			p.addressAdd = append(p.addressAdd, p.op(Op{Verb: AddressAdd, Address: a}))
		}
	}
	for _, a := range want.Later.Addresses {
		wanted[addressKey{a.Link, a.Prefix}] = true
	}
	for _, a := range have.Addresses {
		if a.Ours && !wanted[addressKey{a.Link, a.Prefix}] {
			p.addressDel = append(p.addressDel, p.op(Op{Verb: AddressDel, Address: a.Address}))
		}
	}
	slices.Reverse(p.addressDel)
}

func (p *planner) routes(want Resolved, have Snapshot) {
	type held struct {
		route Route
		used  bool
	}
	there := make(map[fib.RouteKey]*held, len(want.Routes))
	ours := make([]*held, 0, len(want.Routes))
	for i := range have.Routes {
		r := have.Routes[i]
		h := &held{route: r}
		if r.Ours() {
			ours = append(ours, h)
		}
		if first, ok := there[r.Key()]; !ok || !first.route.Ours() && r.Ours() {
			there[r.Key()] = h
		}
	}
	later := make(map[fib.RouteKey]fib.Route, len(want.Later.Routes))
	for _, r := range want.Later.Routes {
		later[r.Key()] = r
	}
	for _, r := range want.Routes {
		f := index(r.Family)
		h := there[r.Key()]
		whole, waits := later[r.Key()]
		switch {
		case h == nil:
			p.routeAdd[f] = append(p.routeAdd[f], p.op(Op{Verb: RouteAdd, Route: r}))
		case !h.route.Ours():
			p.errs = append(p.errs, &ForeignError{p.op(Op{Verb: RouteAdd, Route: r}), h.route})
		case same(h.route.Route, r) || waits && same(h.route.Route, whole):
			h.used = true
		case r.Family == fib.Inet6 && (len(r.Nexthops) > 1 || len(h.route.Nexthops) > 1 || r.Type != h.route.Type):
			// Replacing an IPv6 multipath route leaves what the new one has not
			// (ip6_route_multipath_add, net/ipv6/route.c): out and in, in one stage.
			h.used = true
			p.routeAdd[f] = append(p.routeAdd[f], p.op(Op{Verb: RouteDel, Route: h.route.Route}), p.op(Op{Verb: RouteAdd, Route: r}))
		default:
			h.used = true
			p.routeAdd[f] = append(p.routeAdd[f], p.op(Op{Verb: RouteReplace, Route: r, Before: h.route.Route}))
		}
	}
	for _, h := range ours {
		if w, waits := later[h.route.Key()]; h.used || waits && same(h.route.Route, w) {
			continue
		}
		f := index(h.route.Family)
		p.routeDel[f] = append(p.routeDel[f], p.op(Op{Verb: RouteDel, Route: h.route.Route}))
	}
	for f := range p.routeAdd {
		// What a gateway is reached by comes before it: the wanted routes are in that
		// order within a table, but a route may rest on one of another table.
		slices.SortStableFunc(p.routeAdd[f], func(a, b Op) int { return cmp.Compare(a.rank(), b.rank()) })
		slices.SortStableFunc(p.routeDel[f], func(a, b Op) int { return cmp.Compare(viaGateway(b.Route), viaGateway(a.Route)) })
	}
}

// rank orders the operations that make routes: a route that has to go first for
// another, then those on the link, then those through a gateway.
func (o Op) rank() int {
	if o.Verb == RouteDel {
		return -1
	}
	return viaGateway(o.Route)
}

func viaGateway(r fib.Route) int {
	for _, n := range r.Nexthops {
		if n.Via.IsValid() {
			return 1
		}
	}
	return 0
}

// same says whether the kernel holds just what is wanted. The kernel keeps the
// nexthops of an IPv6 route in the order in which it likes them.
func same(have, want fib.Route) bool {
	if have.Family == fib.Inet6 && len(want.Nexthops) > 1 {
		have.Nexthops, want.Nexthops = slices.Clone(have.Nexthops), slices.Clone(want.Nexthops)
		slices.SortFunc(have.Nexthops, fib.Nexthop.Compare)
		slices.SortFunc(want.Nexthops, fib.Nexthop.Compare)
	}
	return have.Compare(want) == 0
}

// ruleKey is a rule as the kernel tells it from others, and as a map's key.
func ruleKey(r fib.Rule) fib.Rule {
	r.Link, r.Origin = "", fib.Origin{}
	if r.From.Bits() <= 0 {
		r.From = netip.Prefix{}
	}
	if r.To.Bits() <= 0 {
		r.To = netip.Prefix{}
	}
	return r
}

func (p *planner) rules(want Resolved, have Snapshot) {
	there := make(map[fib.Rule]int, len(have.Rules))
	for _, r := range have.Rules {
		if r.Ours() {
			there[ruleKey(r.Rule)]++
		}
	}
	wanted := make(map[fib.Rule]bool, len(want.Rules)+len(want.Later.Rules))
	for _, r := range want.Rules {
		key := ruleKey(r)
		wanted[key] = true
		if there[key] == 0 {
			f := index(r.Family)
			p.ruleAdd[f] = append(p.ruleAdd[f], p.op(Op{Verb: RuleAdd, Rule: r}))
		}
	}
	for _, r := range want.Later.Rules {
		wanted[ruleKey(r)] = true
	}
	for _, r := range have.Rules {
		key := ruleKey(r.Rule)
		// A duplicate can be there: without NLM_F_EXCL the kernel takes one. One stays.
		if r.Ours() && (!wanted[key] || there[key] > 1) {
			there[key]--
			f := index(r.Family)
			p.ruleDel[f] = append(p.ruleDel[f], p.op(Op{Verb: RuleDel, Rule: r.Rule}))
		}
	}
	for f := range p.ruleAdd {
		slices.SortStableFunc(p.ruleAdd[f], func(a, b Op) int { return cmp.Compare(b.Rule.Priority, a.Rule.Priority) })
		slices.SortStableFunc(p.ruleDel[f], func(a, b Op) int { return cmp.Compare(a.Rule.Priority, b.Rule.Priority) })
	}
}

// plan puts the operations into stages. IPv4 comes first as a whole, so that it
// does not wait for duplicate address detection.
func (p *planner) plan(want Resolved, have Snapshot) Plan {
	var plan Plan
	stage := func(to *[]Stage, ops []Op) {
		if len(ops) > 0 {
			*to = append(*to, Stage{Ops: ops})
		}
	}
	stage(&plan.Make, p.linkOps)
	stage(&plan.Make, p.addressAdd)
	for f := range p.routeAdd {
		stage(&plan.Make, p.routeAdd[f])
		if f == index(fib.Inet6) && len(p.routeAdd[f]) > 0 {
			plan.Make[len(plan.Make)-1].Settle = settling(p.routeAdd[f], p.addressAdd, have)
		}
		stage(&plan.Make, p.ruleAdd[f])
	}
	for f := range p.ruleDel {
		stage(&plan.Break, p.ruleDel[f])
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
		if src := o.Route.Src; o.Verb != RouteDel && src.IsValid() && fresh[src] {
			delete(fresh, src)
			list = append(list, src)
		}
	}
	return list
}
