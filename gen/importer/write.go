package importer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// quote writes a TOML string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f || r == '\uFFFD':
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func utoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// prefixText writes a prefix, or a single address without its length.
func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return quote(p.Addr().String())
	}
	return quote(p.String())
}

// omit says which numbers are left to gen.Compile.
type omit struct{ tables, priorities bool }

// write writes the guess as TOML.
func (g *guess) write(o omit) *document {
	d := &document{marks: map[int][]mark{}}
	if g.mainFirst {
		d.line("main-routes-first = true")
		d.line("")
	}
	if len(g.shared) > 0 {
		g.writeShared(d)
		d.line("")
	}
	for i, u := range g.uplinks {
		if i > 0 {
			d.line("")
		}
		g.writeUplink(d, u, o)
	}
	return d
}

func (g *guess) writeShared(d *document) {
	main := g.shared
	undo := func(string) { g.unshare() }
	weights := map[string]uint16{}
	for _, r := range main {
		for _, n := range r.Nexthops {
			for _, u := range g.on(n.Link) {
				if b := u.best(r.Family); b != nil && b.Nexthops[0].Via == n.Via {
					weights[u.name] = max(weights[u.name], n.Weight)
				}
			}
		}
	}
	var s []string
	for _, u := range g.uplinks {
		if w := weights[u.name]; w != 0 {
			s = append(s, tomlKey(u.name)+" = "+utoa(uint32(w)))
		}
	}
	if text := origins(anys(main)); text != "" {
		d.line("# " + text)
	}
	d.line("[multipath]")
	d.mark(1, undo)
	d.key("uplinks", "{ "+strings.Join(s, ", ")+" }", undo)
}

// unshare expresses the routes of [multipath] in full.
func (g *guess) unshare() {
	for _, r := range g.shared {
		g.extraRoute(r)
	}
	g.shared = nil
}

// tomlKey quotes a name that cannot be a bare key.
func tomlKey(name string) string {
	if strings.Contains(name, ".") {
		return quote(name)
	}
	return name
}

func (g *guess) drop(u *uplink) fix {
	shared := len(g.shared) > 0
	return func(why string) {
		if shared {
			g.unshare() // an error in them may be reported at an uplink
			return
		}
		is := func(o *uplink) bool { return o == u }
		g.uplinks = slices.DeleteFunc(g.uplinks, is)
		g.index.on[u.link] = slices.DeleteFunc(g.index.on[u.link], is)
		delete(g.byTable, u.table)
		g.because(why, u.everything()...)
	}
}

// everything returns all that an uplink is made of.
func (u *uplink) everything() (all []any) {
	for _, a := range u.addresses {
		all = append(all, a)
	}
	for _, r := range slices.Concat(u.subnets, u.gateways, u.defaults, u.lasts, u.routes) {
		all = append(all, r)
	}
	for _, r := range slices.Concat(u.from, u.to, u.mark, slices.Concat(u.rules...)) {
		all = append(all, r)
	}
	return all
}

func (g *guess) writeUplink(d *document, u *uplink, o omit) {
	if text := origins(u.everything()); text != "" {
		d.line("# " + text)
	}
	drop := g.drop(u)
	d.begin(u, false)
	d.line("[uplink." + tomlKey(u.name) + "]")
	d.mark(1, drop)
	l := Link{Name: u.link}
	if i, ok := g.index.links[u.link]; ok {
		l = g.Links[i]
	}
	g.writeMatch(d, l, drop)
	if u.policy {
		d.key("manage", quote("policy"), drop)
	}
	if u.table != 0 && (!o.tables || u.table < 10000) {
		d.key("table", utoa(u.table), drop)
	}
	if u.priority != 0 && !o.priorities {
		d.key("priority", utoa(u.priority), func(string) { g.demote(u, u.from, u.to, u.mark) })
	}
	if len(u.addresses) > 0 {
		d.list("addresses", len(u.addresses), func(i int) (string, fix) {
			a := u.addresses[i]
			return quote(a.Prefix.String()), func(why string) {
				u.addresses = slices.DeleteFunc(u.addresses, func(o *Address) bool { return o == a })
				g.because(why, a)
			}
		})
	}
	if len(u.gateways) > 0 {
		onlink := u.onlink
		d.list("gateways", len(u.gateways), func(i int) (string, fix) {
			r := u.gateways[i]
			return quote(r.Nexthops[0].Via.String()), func(why string) {
				if !onlink {
					u.onlink = true // the kernel took it somehow
					return
				}
				u.gateways = slices.DeleteFunc(u.gateways, func(o *Route) bool { return o == r })
				g.because(why, r)
			}
		})
	}
	if u.onlink {
		d.key("onlink", "true", drop)
	}
	if len(u.defaults) > 0 || u.learn.Any() && u.learn.DefaultRoute {
		undo := func(why string) {
			if u.learn.DefaultRoute = false; len(u.defaults) == 0 {
				return
			}
			if u.table == 0 {
				g.because(why, anys(u.defaults)...)
			} else {
				u.routes = append(u.routes, u.defaults...)
			}
			u.defaults = nil
		}
		d.key("default-route", "true", undo)
		if m := cmp.Or(u.metric, u.learn.Metric); m != 0 {
			d.key("metric", utoa(m), undo)
		}
	}
	g.writeLearn(d, u)
	if u.last != 0 {
		d.key("fallthrough", quote(u.last.String()), func(string) { u.last = 0 })
	}
	g.writeSelectors(d, u)
	if !u.policy && g.on(u.link)[0] == u {
		g.writeLink(d, l)
	}
	for _, r := range u.routes {
		d.line("")
		g.writeRoute(d, u, r)
	}
	for _, r := range u.rules {
		d.line("")
		g.writeRule(d, u, r)
	}
}

func anys[T any](list []*T) (all []any) {
	for _, x := range list {
		all = append(all, x)
	}
	return all
}

func (g *guess) writeMatch(d *document, l Link, drop fix) {
	m := l.Match
	if m == (fib.Match{}) {
		m.Name = l.Name
	}
	for _, k := range [...]struct{ key, value string }{{"interface", m.Name}, {"mac", m.MAC}, {"driver", m.Driver}, {"path", m.Path}} {
		if k.value != "" {
			d.key(k.key, quote(k.value), drop)
		}
	}
}

func (g *guess) writeLearn(d *document, u *uplink) {
	if !u.learn.Any() {
		return
	}
	undo := func(why string) {
		u.learn = fib.Learn{}
		g.noLearn[u.link] = why
	}
	if u.learn.DHCP4 || u.learn.DHCP6 {
		d.key("dhcp", quote(map[[2]bool]string{{true, true}: "yes", {true, false}: "ipv4", {false, true}: "ipv6"}[[2]bool{u.learn.DHCP4, u.learn.DHCP6}]), undo)
	}
	if u.learn.RA {
		d.key("accept-ra", quote("ipv6"), undo)
	}
}

// writeLink writes the settings of the link itself.
func (g *guess) writeLink(d *document, l Link) {
	wrong := func(what string, clear func(*Link)) fix {
		return func(why string) {
			if i, ok := g.index.links[l.Name]; ok {
				clear(&g.Links[i])
			}
			g.left(l.Origin, what+" of "+l.Name, "%s", why)
		}
	}
	if l.MTU != 0 {
		d.key("mtu", utoa(l.MTU), wrong("the MTU", func(l *Link) { l.MTU = 0 }))
	}
	if len(l.DNS) > 0 {
		d.list("dns", len(l.DNS), func(i int) (string, fix) {
			a := l.DNS[i]
			return quote(a.String()), wrong("DNS server "+a.String(), func(l *Link) {
				l.DNS = slices.DeleteFunc(slices.Clone(l.DNS), func(o netip.Addr) bool { return o == a })
			})
		})
	}
	if len(l.Domains) > 0 {
		d.list("domains", len(l.Domains), func(i int) (string, fix) {
			s := l.Domains[i]
			return quote(s), wrong("domain "+s, func(l *Link) {
				l.Domains = slices.DeleteFunc(slices.Clone(l.Domains), func(o string) bool { return o == s })
			})
		})
	}
}

// origins says which lines of which files things come from: "FILE:3,5-7".
func origins(things []any) string {
	lines := map[string][]int{}
	var files []string
	see := func(o fib.Origin) {
		if o.File == "" || o.Line == 0 {
			return
		}
		if lines[o.File] == nil {
			files = append(files, o.File)
		}
		lines[o.File] = append(lines[o.File], o.Line)
	}
	for _, x := range things {
		switch x := x.(type) {
		case *Address:
			see(x.Origin)
		case *Route:
			see(x.Origin)
		case *Rule:
			see(x.Origin)
		}
	}
	slices.Sort(files)
	var parts []string
	for _, f := range files {
		l := lines[f]
		slices.Sort(l)
		l = slices.Compact(l)
		var runs []string
		for i := 0; i < len(l); {
			j := i
			for j+1 < len(l) && l[j+1] == l[j]+1 {
				j++
			}
			if runs = append(runs, strconv.Itoa(l[i])); j > i {
				runs[len(runs)-1] += "-" + strconv.Itoa(l[j])
			}
			i = j + 1
		}
		parts = append(parts, oneLine(f)+":"+strings.Join(runs, ","))
	}
	return strings.Join(parts, " ")
}
