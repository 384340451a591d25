package importer

import (
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// tableText names a table as a route or rule of an uplink names it; "" for the uplink's own.
func (g *guess) tableText(u *uplink, id uint32) string {
	if t := g.byTable[id]; t == u && u.table == id {
		return ""
	} else if t != nil {
		return quote(t.name)
	}
	switch id {
	case fib.TableMain:
		return quote("main")
	case fib.TableDefault:
		return quote("default")
	}
	return utoa(id)
}

func (g *guess) writeRoute(d *document, u *uplink, r *Route) {
	drop := func(why string) {
		u.routes = slices.DeleteFunc(u.routes, func(o *Route) bool { return o == r })
		g.because(why, r)
	}
	d.begin(u, true)
	d.line("[[uplink." + tomlKey(u.name) + ".route]]")
	d.mark(1, drop)
	key := func(k, v string) { d.key(k, v, drop) }
	switch {
	case !r.IsDefault():
		key("to", prefixText(r.Dst))
	case u.takesDefaultOf(r):
		key("to", quote("default"))
	default: // without an address that would be for both families
		key("to", quote(r.Dst.String()))
	}
	if r.Type != fib.Unicast {
		key("type", quote(r.Type.String()))
	}
	if len(r.Nexthops) == 1 {
		n := r.Nexthops[0]
		if n.Via.IsValid() {
			key("via", quote(n.Via.String()))
		}
		if n.OnLink && !u.onlink {
			key("onlink", "true")
		}
	}
	if r.Src.IsValid() {
		key("src", quote(r.Src.String()))
	}
	if m := r.Metric; m != 0 && m != r.Family.Metric(0) {
		key("metric", utoa(m))
	}
	for _, m := range [...]struct {
		key   string
		value uint32
	}{{"mtu", r.MTU}, {"advmss", r.AdvMSS}, {"initcwnd", r.InitCwnd}, {"initrwnd", r.InitRwnd}} {
		if m.value != 0 {
			key(m.key, utoa(m.value))
		}
	}
	if r.Family == fib.Inet && r.Scope != r.DefaultScope() {
		key("scope", quote(r.Scope.String()))
	}
	if t := g.tableText(u, r.Table); t != "" {
		key("table", t)
	}
	if len(r.Nexthops) > 1 {
		key("multipath", "["+strings.Join(g.ways(u, r), ", ")+"]")
	}
}

// takesDefaultOf says whether "default" would mean only this route's family.
func (u *uplink) takesDefaultOf(r *Route) bool {
	return r.Src.IsValid() || slices.ContainsFunc(r.Nexthops, func(n fib.Nexthop) bool { return n.Via.IsValid() })
}

func (g *guess) ways(u *uplink, r *Route) (list []string) {
	for _, n := range r.Nexthops {
		var s []string
		if n.Link != u.link {
			name := n.Link
			for _, o := range g.on(n.Link) {
				if name = o.name; o.reaches(n.Via) {
					break
				}
			}
			s = append(s, "uplink = "+quote(name))
		}
		if n.Via.IsValid() {
			s = append(s, "via = "+quote(n.Via.String()))
		}
		if n.Weight > 1 {
			s = append(s, "weight = "+utoa(uint32(n.Weight)))
		}
		if n.OnLink {
			s = append(s, "onlink = true")
		}
		list = append(list, "{ "+strings.Join(s, ", ")+" }")
	}
	return list
}
