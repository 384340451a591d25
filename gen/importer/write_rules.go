package importer

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// writeSelectors writes from and to, if they are not the uplink's own addresses, and fwmark.
func (g *guess) writeSelectors(d *document, u *uplink) {
	for _, s := range [...]struct {
		key  string
		list *[]*Rule
		of   func(*Rule) netip.Prefix
	}{
		{"from", &u.from, func(r *Rule) netip.Prefix { return r.From }},
		{"to", &u.to, func(r *Rule) netip.Prefix { return r.To }},
	} {
		var given []netip.Prefix
		for _, r := range *s.list {
			given = append(given, s.of(r))
		}
		if u.isOwn(given) {
			continue
		}
		rules := slices.Clone(*s.list)
		d.list(s.key, len(given), func(i int) (string, fix) {
			return prefixText(given[i]), func(string) {
				*s.list = slices.DeleteFunc(*s.list, func(o *Rule) bool { return o == rules[i] })
				g.demote(u, []*Rule{rules[i]})
			}
		})
	}
	if len(u.mark) > 0 {
		r := u.mark[0]
		d.key("fwmark", quote(markText(r)), func(string) { g.demote(u, u.mark) })
	}
}

// isOwn says whether prefixes are exactly the uplink's own addresses.
func (u *uplink) isOwn(given []netip.Prefix) bool {
	own := map[netip.Prefix]bool{}
	for _, a := range u.addresses {
		own[host(a)] = true
	}
	for _, p := range given {
		if !own[p] {
			return false
		}
	}
	return len(own) == len(given)
}

// demote turns the given rules into [[uplink.NAME.rule]]s.
func (g *guess) demote(u *uplink, lists ...[]*Rule) {
	for _, list := range lists {
		for _, r := range slices.Clone(list) {
			gone := func(o *Rule) bool { return o == r }
			u.from, u.to, u.mark = slices.DeleteFunc(u.from, gone), slices.DeleteFunc(u.to, gone), slices.DeleteFunc(u.mark, gone)
			u.rules = append(u.rules, []*Rule{r})
		}
	}
	if len(u.from)+len(u.to)+len(u.mark) == 0 {
		u.priority = 0
	}
}

func markText(r *Rule) string {
	s := "0x" + strconv.FormatUint(uint64(r.Mark), 16)
	if r.Mask != 0xffffffff {
		s += "/0x" + strconv.FormatUint(uint64(r.Mask), 16)
	}
	return s
}

func (g *guess) writeRule(d *document, u *uplink, rules []*Rule) {
	r := rules[0]
	drop := func(why string) {
		u.rules = slices.DeleteFunc(u.rules, func(o []*Rule) bool { return o[0] == r })
		g.because(why, anys(rules)...)
	}
	d.begin(u, true)
	d.line("[[uplink." + tomlKey(u.name) + ".rule]]")
	d.mark(1, drop)
	key := func(k, v string) { d.key(k, v, drop) }
	if !r.AnyPriority {
		key("priority", utoa(r.Priority))
	}
	if !r.From.IsValid() && !r.To.IsValid() {
		family := map[fib.Family]string{fib.Inet: "ipv4", fib.Inet6: "ipv6"}[r.Family]
		if len(rules) > 1 {
			family = "both"
		}
		key("family", quote(family))
	}
	if r.Not {
		key("not", "true")
	}
	if r.From.IsValid() {
		key("from", prefixText(r.From))
	}
	if r.To.IsValid() {
		key("to", prefixText(r.To))
	}
	if r.Mask != 0 {
		key("fwmark", quote(markText(r)))
	}
	if r.IIF != "" {
		key("iif", quote(r.IIF))
	}
	if r.OIF != "" {
		key("oif", quote(r.OIF))
	}
	if r.TOS != 0 {
		key("tos", utoa(uint32(r.TOS)))
	}
	if r.IPProto != 0 {
		name := utoa(uint32(r.IPProto))
		for n, p := range spec.IPProtocols {
			if p == r.IPProto {
				name = quote(n)
			}
		}
		key("ipproto", name)
	}
	if r.SPort.Hi != 0 {
		key("sport", quote(r.SPort.String()))
	}
	if r.DPort.Hi != 0 {
		key("dport", quote(r.DPort.String()))
	}
	if r.UIDRange.Set {
		key("uidrange", quote(r.UIDRange.Value.String()))
	}
	if r.SuppressPrefixLength.Set {
		key("suppress-prefixlength", utoa(r.SuppressPrefixLength.Value))
	}
	if r.SuppressIfGroup.Set {
		key("suppress-ifgroup", utoa(r.SuppressIfGroup.Value))
	}
	switch {
	case r.L3MDev:
		key("l3mdev", "true")
	case r.Action == fib.Lookup:
		if t := g.tableText(u, r.Table); t != "" {
			key("table", t)
		}
	case r.Action == fib.Goto:
		key("goto", utoa(r.Goto))
	default:
		key("type", quote(r.Action.String()))
	}
}
