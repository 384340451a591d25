package importer

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// routeType reads the type in front of a route. Some types may be shortened
// (rtnl_rtntype_a2n in iproute2's lib/rt_names.c).
func (p *ipArgs) routeType() fib.RouteType {
	if len(p.args) == 0 {
		return 0
	}
	s := p.args[0]
	if s == "brd" {
		s = "broadcast"
	}
	for _, w := range []string{"local", "broadcast", "anycast", "multicast", "prohibit", "unreachable", "blackhole", "unicast", "throw"} {
		if s == w || len(s) > 2 && w != "local" && w != "unicast" && strings.HasPrefix(w, s) {
			p.next()
			t, _ := fib.ParseRouteType(w)
			return t
		}
	}
	return 0
}

func (p *ipArgs) route() error {
	done, err := p.verb()
	if done {
		return err
	}
	if p.c.verb == "flush" {
		return p.flushRoutes()
	}
	r := &Route{}
	p.c.route = r
	var hop fib.Nexthop
	var hops []fib.Nexthop
	scope := fib.Opt[fib.Scope]{}
	haveDst, hasVia := false, false
	for len(p.args) > 0 {
		switch a := p.args[0]; {
		case a == "src":
			p.next()
			r.Src, err = p.addr()
		case a == "via":
			p.next()
			hasVia = true
			hop.Via, err = p.via()
		case a == "dev" || a == "oif":
			p.next()
			hop.Link = p.device()
		case a == "onlink":
			p.next()
			hop.OnLink = true
		case a == "scope":
			p.next()
			s := p.next()
			v, ok := fib.ParseScope(s)
			if n, numErr := strconv.ParseUint(s, 0, 8); !ok && numErr == nil {
				v, ok = fib.Scope(n), true
			}
			if !ok {
				return unknownWord(s)
			}
			scope = fib.Some(v)
		case a == "mtu" || a == "advmss" || a == "initcwnd" || a == "initrwnd":
			err = p.routeMetric(r)
		case a == "hoplimit" || a == "rtt" || a == "rttvar" || a == "rto_min" || a == "window" || a == "cwnd" || a == "ssthresh" || a == "features" || a == "quickack" || a == "congctl" || a == "fastopen_no_cookie" || a == "expires" || a == "reordering" || a == "pref" || a == "ttl-propagate":
			p.next()
			p.lose(a, p.next())
		case a == "encap" || a == "nhid" || a == "from" || a == "tos" || a == "dsfield":
			return errIP("no route of a spec has `" + a + "`")
		case a == "nexthop":
			hops, err = p.nexthops()
		case len(a) > 0 && p.word("metric", "priority", "preference") != "":
			r.Metric, err = p.number(32)
		case p.word("table") != "":
			r.Table, err = p.table()
		case p.word("protocol") != "":
			if s := p.next(); s == "" {
				return unknownWord("proto")
			}
		case p.word("realms") != "":
			p.lose("realms", p.next())
		default:
			if a == "to" {
				p.next()
			}
			if t := p.routeType(); t != 0 {
				r.Type = t
			}
			if haveDst {
				return unknownWord(a)
			}
			haveDst = true
			r.Dst, err = p.prefix()
		}
		if err != nil {
			return err
		}
	}
	if !haveDst {
		return errIP("it has no destination")
	}
	if hasVia && !hop.Via.IsValid() && !scope.Set {
		scope = fib.Some(fib.ScopeUniverse) // ip(8) asks for it if there is a `via`
	}
	return p.finishRoute(r, hop, hops, scope)
}

func (p *ipArgs) via() (netip.Addr, error) {
	if len(p.args) > 1 && (p.args[0] == "inet" || p.args[0] == "inet6") {
		p.next()
	}
	a, err := p.addr()
	if err == nil && a.IsUnspecified() {
		if a.Is6() {
			return a, errIP(":: is no gateway")
		}
		a = netip.Addr{} // to the kernel this is no gateway
	}
	return a, err
}

func (p *ipArgs) routeMetric(r *Route) error {
	name := p.next()
	if len(p.args) > 0 && p.args[0] == "lock" {
		p.lose(name, p.next())
	}
	n, err := p.number(32)
	switch name {
	case "mtu":
		r.MTU = n
	case "advmss":
		r.AdvMSS = n
	case "initcwnd":
		r.InitCwnd = n
	case "initrwnd":
		r.InitRwnd = n
	}
	return err
}

// nexthops reads the rest of a multipath route.
func (p *ipArgs) nexthops() (hops []fib.Nexthop, err error) {
	for len(p.args) > 0 {
		if w := p.next(); w != "nexthop" {
			return nil, unknownWord(w)
		}
		hop := fib.Nexthop{Weight: 1}
		for len(p.args) > 0 && p.args[0] != "nexthop" {
			switch w := p.next(); w {
			case "via":
				hop.Via, err = p.via()
			case "dev":
				hop.Link = p.device()
			case "weight":
				var n uint32
				n, err = p.number(16)
				hop.Weight = uint16(n)
			case "onlink":
				hop.OnLink = true
			default:
				return nil, unknownWord(w)
			}
			if err != nil {
				return nil, err
			}
		}
		if hop.Weight == 0 || hop.Weight > 256 {
			return nil, errIP("a weight is from 1 to 256")
		}
		hops = append(hops, hop)
	}
	if len(hops) == 1 {
		hops[0].Weight = 0
	}
	return hops, nil
}

// finishRoute fills in the defaults of ip(8) and the kernel.
func (p *ipArgs) finishRoute(r *Route, hop fib.Nexthop, hops []fib.Nexthop, scope fib.Opt[fib.Scope]) error {
	r.Family = cmp.Or(p.family, fib.Inet)
	p.c.typ, p.c.scope = r.Type, scope
	r.Type = cmp.Or(r.Type, fib.Unicast)
	if !r.Dst.IsValid() {
		r.Dst = r.Family.Any()
	}
	if r.Family == fib.Inet6 {
		r.Dst = r.Dst.Masked() // as the kernel does
	} else if r.Dst != r.Dst.Masked() {
		return errIP(fmt.Sprintf("%s has bits beyond its length, which the kernel refuses", r.Dst))
	}
	single := hop != (fib.Nexthop{})
	switch {
	case !r.Type.HasDevice():
		if hop.Via.IsValid() || hops != nil {
			return errIP("a route of type " + r.Type.String() + " leads nowhere")
		}
	case single && hops != nil:
		return errIP("`via` or `dev` beside `nexthop`")
	case hops != nil:
		r.Nexthops = hops
	case !single:
		if p.c.verb != "del" {
			return errIP("neither `via` nor `dev`")
		}
	default:
		r.Nexthops = []fib.Nexthop{hop}
	}
	for _, n := range r.Nexthops {
		if n.Link == "" && !n.Via.IsValid() {
			return errIP("a way without `via` and `dev`")
		}
	}
	if r.Table == 0 {
		r.Table = fib.TableMain
		if r.Type == fib.Local || r.Type == fib.Broadcast || r.Type == fib.Anycast {
			r.Table = fib.TableLocal
		}
	}
	if r.Family == fib.Inet {
		if r.Scope = r.DefaultScope(); scope.Set {
			r.Scope = scope.Value
		}
	} else if p.c.verb != "del" {
		r.Metric = r.Family.Metric(r.Metric)
	}
	if len(r.Nexthops) > 0 {
		r.Link = r.Nexthops[0].Link
	}
	return nil
}

// flushRoutes reads `route flush` of one table, of all, or of the cache, and refuses any
// other. Without a family it flushes IPv4 if it names a table, and otherwise both
// (iproute_list_flush_or_save in iproute2's ip/iproute.c).
func (p *ipArgs) flushRoutes() error {
	r := &Route{}
	for len(p.args) > 0 {
		p.word("table")
		switch {
		case len(p.args) == 0:
			return errIP("`table` names none")
		case p.args[0] == "cache":
			p.c.verb = ""
			return nil
		case r.Table == 0 && len(p.args) == 1 && p.args[0] == "all":
			r.Family = p.family
			p.c.route = r
			return nil
		case r.Table == 0 && len(p.args) == 1:
			t, err := p.table()
			if err != nil {
				return err
			}
			r.Table = t
		default:
			return errIP("a flush of some routes only")
		}
	}
	if r.Table == 0 {
		return errIP("it takes all routes of table main away")
	}
	r.Family = cmp.Or(p.family, fib.Inet)
	p.c.route = r
	return nil
}
