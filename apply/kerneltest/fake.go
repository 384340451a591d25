package kerneltest

import (
	"cmp"
	"net/netip"
	"slices"
	"syscall"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Fake is an apply.Kernel that is only memory. It models what a plan relies on: what is refused
// and with which errno, that IPv6 joins what IPv4 refuses, and what goes with an address.
// RouteGet and Neighbours answer what the test says.
type Fake struct {
	apply.Snapshot

	Ways map[apply.Packet]apply.Way
	Near []apply.Neighbour

	// Sent counts the changes that were requested.
	Sent int

	promotes map[string]bool
}

// NewFake returns a kernel with links that are up and have a carrier, and lo.
func NewFake(links ...string) *Fake {
	f := &Fake{}
	f.Links = append(f.Links, apply.Link{Index: 1, Name: "lo", MTU: 65536, Up: true, Carrier: true, Loopback: true})
	for i, name := range links {
		f.Links = append(f.Links, apply.Link{Index: i + 2, Name: name, MTU: 1500, Up: true, Carrier: true})
	}
	for _, family := range fib.Families {
		for _, r := range []fib.Rule{
			{Priority: 0, Table: fib.TableLocal}, {Priority: fib.PriorityMain, Table: fib.TableMain}, {Priority: fib.PriorityMain + 1, Table: fib.TableDefault},
		} {
			if r.Family, r.Action = family, fib.Lookup; family == fib.Inet || r.Table != fib.TableDefault {
				f.Rules = append(f.Rules, apply.Rule{Rule: r, Protocol: 2})
			}
		}
	}
	return f
}

// Observe implements apply.Kernel.
func (f *Fake) Observe(scope apply.Scope) (apply.Snapshot, error) {
	var s apply.Snapshot
	if scope.Has(apply.Links) {
		s.Links = slices.Clone(f.Links)
	}
	if scope.Has(apply.Addresses) {
		s.Addresses = slices.Clone(f.Addresses)
	}
	families := scope.Families()
	for _, r := range f.Rules {
		if scope.Has(apply.Rules) && slices.Contains(families, r.Family) {
			s.Rules = append(s.Rules, r)
		}
	}
	for _, r := range f.Routes {
		asked := scope.Foreign || r.Ours() || scope.Learned && slices.Contains(apply.LearnedFrom, r.Protocol) || scope.Defaults && r.Table == fib.TableMain && r.IsDefault()
		if scope.Has(apply.Routes) && slices.Contains(families, r.Family) && asked {
			r.Nexthops = slices.Clone(r.Nexthops)
			s.Routes = append(s.Routes, r)
		}
	}
	return s, nil
}

// RouteGet implements apply.Kernel.
func (f *Fake) RouteGet(p apply.Packet) (apply.Way, error) {
	if w, ok := f.Ways[p]; ok {
		return w, nil
	}
	return apply.Way{}, syscall.ENETUNREACH
}

// Neighbours implements apply.Kernel.
func (f *Fake) Neighbours() ([]apply.Neighbour, error) { return f.Near, nil }

// Execute implements apply.Kernel.
func (f *Fake) Execute(ops []apply.Op) []error {
	answers := make([]error, len(ops))
	for i, o := range ops {
		f.Sent++
		if msg, errno := f.execute(o); errno != 0 {
			answers[i] = &apply.OpError{Op: o, Msg: msg, Err: errno}
		}
	}
	return answers
}

func (f *Fake) link(name string) *apply.Link {
	i := slices.IndexFunc(f.Links, func(l apply.Link) bool { return l.Name == name })
	if i < 0 {
		return nil
	}
	return &f.Links[i]
}

func (f *Fake) execute(o apply.Op) (string, syscall.Errno) {
	switch o.Verb {
	case apply.LinkUp, apply.LinkMTU:
		l := f.link(o.Link)
		switch {
		case l == nil:
			return "", syscall.ENODEV
		case o.Verb == apply.LinkUp:
			l.Up, l.Carrier = true, true
		default:
			l.MTU = o.MTU
		}
	case apply.LinkPromote:
		if f.link(o.Link) == nil {
			return "", syscall.ENODEV
		}
		if f.promotes == nil {
			f.promotes = map[string]bool{}
		}
		f.promotes[o.Link] = o.Promote
	case apply.AddressAdd:
		return f.addressAdd(*o.Address)
	case apply.AddressDel:
		return f.addressDel(*o.Address)
	case apply.RouteAdd, apply.RouteReplace:
		return f.routeAdd(*o.Route, o.Protocol(), o.Verb == apply.RouteReplace)
	case apply.RouteDel:
		return f.routeDel(*o.Route, o.Protocol())
	case apply.RuleAdd:
		// Behind all that have the same priority.
		at := len(f.Rules)
		for i, r := range f.Rules {
			if r.Family > o.Rule.Family || r.Family == o.Rule.Family && r.Priority > o.Rule.Priority {
				at = i
				break
			}
		}
		f.Rules = slices.Insert(f.Rules, at, apply.Rule{Rule: plainRule(*o.Rule), Protocol: o.Protocol()})
	case apply.RuleDel:
		i := slices.IndexFunc(f.Rules, func(r apply.Rule) bool { return r.Protocol == o.Protocol() && r.Compare(o.Rule) == 0 })
		if i < 0 {
			return "", syscall.ENOENT
		}
		f.Rules = slices.Delete(f.Rules, i, i+1)
	}
	return "", 0
}

// plainRule is a rule as the kernel returns it.
func plainRule(r fib.Rule) fib.Rule {
	r.Link, r.Origin = "", fib.Origin{}
	if r.From.Bits() <= 0 {
		r.From = netip.Prefix{}
	}
	if r.To.Bits() <= 0 {
		r.To = netip.Prefix{}
	}
	return r
}

func (f *Fake) addressAdd(a fib.Address) (string, syscall.Errno) {
	a.Origin = fib.Origin{}
	if f.link(a.Link) == nil {
		return "", syscall.ENODEV
	}
	// IPv6 takes two addresses for the same whatever their prefix lengths.
	i := slices.IndexFunc(f.Addresses, func(h apply.Address) bool {
		return h.Address == a || a.Family() == fib.Inet6 && h.Link == a.Link && h.Prefix.Addr() == a.Prefix.Addr()
	})
	switch {
	case i < 0:
	case a.Family() == fib.Inet:
		return "Address already assigned", syscall.EEXIST
	default:
		return "address already assigned", syscall.EEXIST
	}
	f.Addresses = append(f.Addresses, apply.Address{Address: a, Ours: true})
	return "", 0
}

// addressDel removes, with the first address of an IPv4 subnet, the others too, unless the link
// promotes them. The routes of main with the address as their source go as well; IPv6 routes only
// lose it, in all tables.
func (f *Fake) addressDel(a fib.Address) (string, syscall.Errno) {
	a.Origin = fib.Origin{}
	i := slices.IndexFunc(f.Addresses, func(h apply.Address) bool { return h.Address == a })
	if i < 0 {
		if f.link(a.Link) == nil {
			return "", syscall.ENODEV
		}
		return "", syscall.EADDRNOTAVAIL
	}
	same := func(h apply.Address) bool { return h.Link == a.Link && h.Prefix.Masked() == a.Prefix.Masked() }
	first := slices.IndexFunc(f.Addresses, same) == i
	f.Addresses = slices.Delete(f.Addresses, i, i+1)
	if first && a.Family() == fib.Inet && !f.promotes[a.Link] {
		f.Addresses = slices.DeleteFunc(f.Addresses, same)
	}
	src := a.Prefix.Addr()
	f.Routes = slices.DeleteFunc(f.Routes, func(r apply.Route) bool { return r.Family == fib.Inet && r.Table == fib.TableMain && r.Src == src })
	for i := range f.Routes {
		if f.Routes[i].Src == src {
			f.Routes[i].Src = netip.Addr{}
		}
	}
	return "", 0
}

func (f *Fake) routeAdd(r fib.Route, protocol uint8, replace bool) (string, syscall.Errno) {
	if msg, errno := f.reachable(r); errno != 0 {
		return msg, errno
	}
	r = plainRoute(r)
	i := slices.IndexFunc(f.Routes, func(h apply.Route) bool { return h.Key() == r.Key() })
	switch {
	case i < 0:
	case !replace:
		return "", syscall.EEXIST
	default:
		f.Routes = slices.Delete(f.Routes, i, i+1)
	}
	f.Routes = append(f.Routes, apply.Route{Route: r, Protocol: protocol})
	return "", 0
}

// reachable checks links, gateways and source as the kernel does.
func (f *Fake) reachable(r fib.Route) (string, syscall.Errno) {
	for _, n := range r.Nexthops {
		l := f.link(n.Link)
		on := func(a apply.Address) bool { return a.Link == n.Link && a.Prefix.Contains(n.Via) }
		via := func(h apply.Route) bool {
			return h.Table == fib.TableMain && h.Dst.Contains(n.Via) && len(h.Nexthops) == 1 && h.Nexthops[0].Link == n.Link && !h.Nexthops[0].Via.IsValid()
		}
		switch {
		case l == nil:
			return "", syscall.ENODEV
		case !l.Up && r.Family == fib.Inet && !n.Via.IsValid():
			return "Device for nexthop is not up", syscall.ENETDOWN
		case !l.Up:
			return "Nexthop device is not up", syscall.ENETDOWN
		case !n.Via.IsValid() || n.OnLink || slices.ContainsFunc(f.Addresses, on) || slices.ContainsFunc(f.Routes, via):
		case r.Family == fib.Inet:
			return "Nexthop has invalid gateway", syscall.ENETUNREACH
		default:
			return "", syscall.EHOSTUNREACH
		}
	}
	if r.Src.IsValid() && !slices.ContainsFunc(f.Addresses, func(a apply.Address) bool { return a.Prefix.Addr() == r.Src && !a.Tentative }) {
		if r.Family == fib.Inet {
			return "Invalid prefsrc address", syscall.EINVAL
		}
		return "Invalid source address", syscall.EINVAL
	}
	return "", 0
}

func plainRoute(r fib.Route) fib.Route {
	r.Link, r.Origin = "", fib.Origin{}
	r.Nexthops = slices.Clone(r.Nexthops)
	return r
}

// routeDel deletes the route that agrees in all that a delete names: an IPv6 one is found by its
// destination and metric alone, and by its nexthop where it has only one.
func (f *Fake) routeDel(r fib.Route, protocol uint8) (string, syscall.Errno) {
	i := slices.IndexFunc(f.Routes, func(h apply.Route) bool {
		hops := r.Family == fib.Inet6 && len(r.Nexthops) != 1 || slices.EqualFunc(h.Nexthops, r.Nexthops, func(a, b fib.Nexthop) bool {
			return a.Link == b.Link && a.Via == b.Via
		})
		rest := r.Family == fib.Inet6 || cmp.Or(cmp.Compare(h.Type, r.Type), cmp.Compare(h.Scope, r.Scope), h.Src.Compare(r.Src)) == 0
		return h.Protocol == protocol && h.Key() == r.Key() && hops && rest
	})
	if i < 0 {
		return "", syscall.ESRCH
	}
	f.Routes = slices.Delete(f.Routes, i, i+1)
	return "", 0
}
