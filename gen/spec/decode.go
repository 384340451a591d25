package spec

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// The keys of the spec, table by table: for suggestions, and for the test that compares
// reference.toml with them.
var (
	topKeys    = []string{"backend", "main-routes-first", "multipath", "uplink"}
	uplinkKeys = []string{
		"accept-ra", "addresses", "default-route", "dhcp", "dns", "domains", "driver", "fallthrough",
		"from", "fwmark", "gateways", "interface", "mac", "manage", "metric", "mtu", "onlink", "path",
		"priority", "probe", "required-for-online", "route", "rule", "table", "to",
	}
	multipathKeys = []string{"uplinks"}
	routeKeys     = []string{
		"advmss", "initcwnd", "initrwnd", "metric", "mtu", "multipath", "onlink", "scope", "src", "table",
		"to", "type", "via",
	}
	nexthopKeys = []string{"onlink", "uplink", "via", "weight"}
	probeKeys   = []string{"down", "interval", "port", "reliability", "targets", "timeout", "up"}
	ruleKeys    = []string{
		"dport", "family", "from", "fwmark", "goto", "iif", "ipproto", "l3mdev", "not", "oif", "priority",
		"sport", "suppress-ifgroup", "suppress-prefixlength", "table", "to", "tos", "type", "uidrange",
	}
)

// spec reads the whole tree.
func (d *decoder) spec(tree map[string]any) *Spec {
	s := &Spec{Backend: Auto, doc: d.doc}
	d.table(tree, func(key string, v any) {
		switch key {
		case "backend":
			words := []string{string(Auto), string(Networkd), string(Netlink)}
			if i := d.word(v, words...); i >= 0 {
				s.Backend = Backend(words[i])
			}
		case "main-routes-first":
			s.MainRoutesFirst = d.boolean(v)
		case "multipath":
			d.table(v, func(key string, v any) {
				if key != "uplinks" {
					d.unknown(" in [multipath]", multipathKeys)
					return
				}
				d.table(v, func(name string, v any) {
					s.Multipath = append(s.Multipath, Weighted{name, uint16(d.number(v, 1, 256))})
				})
			})
		case "uplink":
			nameless := d.nameless(v)
			if t, ok := v.(map[string]any); ok {
				s.Uplinks = make([]Uplink, 0, len(t))
			}
			d.table(v, func(name string, v any) {
				if _, isTable := v.(map[string]any); nameless && !isTable {
					return
				}
				if d.uplinkName(name) {
					s.Uplinks = append(s.Uplinks, d.uplink(name, v))
				}
			})
		default:
			help := topKeys
			if slices.Contains(uplinkKeys, key) {
				d.doc.failKey(d.path, "`"+key+"` is a key of an uplink", "put it below [uplink.NAME]")
				return
			}
			d.unknown("", help)
		}
	})
	return s
}

func (d *decoder) uplink(name string, v any) Uplink {
	u := Uplink{Name: name, Origin: d.doc.origin(name)}
	d.table(v, func(key string, v any) {
		switch key {
		case "interface":
			u.Match.Name = d.ifname(v, true)
		case "mac":
			u.Match.MAC = d.mac(v)
		case "driver":
			u.Match.Driver = d.pattern(v)
		case "path":
			u.Match.Path = d.pattern(v)
		case "addresses":
			u.Addresses = d.addresses(v)
		case "gateways":
			d.list(v, "addresses", func(v any) {
				if a, ok := d.addr(v); ok {
					u.Gateways = append(u.Gateways, a)
				}
			})
		case "default-route":
			u.DefaultRoute = d.boolean(v)
		case "metric":
			u.Metric = d.number(v, 1, 4294967295)
		case "table":
			u.Table = d.ownTable(v)
		case "priority":
			u.Priority = d.number(v, 1, fib.PriorityMain-1)
		case "from":
			u.From = d.networks(v)
		case "to":
			u.To = d.networks(v)
		case "fwmark":
			u.Mark = d.mark(v)
		case "dhcp":
			u.DHCP = d.families(v)
		case "accept-ra":
			if u.AcceptRA = d.families(v); u.AcceptRA.Inet && !u.AcceptRA.Inet6 {
				d.fail("did you mean \"ipv6\"?", "router advertisements are IPv6 only")
			}
			u.AcceptRA.Inet = false
		case "onlink":
			u.OnLink = d.boolean(v)
		case "fallthrough":
			u.Fallthrough = [...]fib.RouteType{
				0, 0, fib.RouteUnreachable, fib.RouteBlackhole, fib.RouteProhibit,
			}[1+d.word(v, "main", "unreachable", "blackhole", "prohibit")]
		case "manage":
			u.PolicyOnly = d.word(v, "link", "policy") == 1
		case "mtu":
			u.MTU = d.number(v, 68, 65535)
		case "dns":
			d.list(v, "addresses", func(v any) {
				if a, ok := d.addr(v); ok {
					u.DNS = append(u.DNS, a)
				}
			})
		case "domains":
			d.list(v, "domains", func(v any) { u.Domains = append(u.Domains, d.domain(v)) })
		case "required-for-online":
			u.RequiredForOnline = d.requiredForOnline(v)
		case "probe":
			u.Probe = d.probe(v)
		case "route":
			d.list(v, "tables: [[uplink.NAME.route]]", func(v any) { u.Routes = append(u.Routes, d.route(v)) })
		case "rule":
			d.list(v, "tables: [[uplink.NAME.rule]]", func(v any) { u.Rules = append(u.Rules, d.rule(v)) })
		case "uplink":
			d.doc.failKey(d.path, "what stands below [uplink."+short(name)+"] is of that uplink", "write [uplink.NAME], a header of its own")
		case "backend", "main-routes-first":
			d.doc.failKey(d.path, "`"+key+"` is no key of an uplink", "put it above the first [uplink.NAME]")
		default:
			d.unknown(" in an uplink", uplinkKeys)
		}
	})
	for i := range u.Routes {
		if r := &u.Routes[i]; u.isOwn(r.Table) {
			r.Table = Table{} // as if it were left out
		}
	}
	return u
}

func (d *decoder) addresses(v any) []netip.Prefix {
	var list []netip.Prefix
	d.list(v, "addresses", func(v any) {
		p, ok := d.prefix(v)
		if !ok {
			return
		}
		a := p.Addr()
		hosts := p.Bits() < a.BitLen()-1 // /31 and /32 have neither network nor broadcast address
		switch {
		case p.Bits() == 0:
			d.fail("", "%s cannot be on a link: its subnet is everything", p)
		case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback():
			d.fail("", "%s is not an address that a host can have on a network", p)
		case a.Is4() && hosts && p == p.Masked():
			d.fail("give an address inside the network", "%s is the network itself", p)
		case a.Is4() && hosts && a == fib.BroadcastOf(p):
			d.fail("give an address inside the network", "%s is the network's broadcast address", p)
		default:
			list = append(list, p)
		}
	})
	return list
}

// ownTable reads the number of an uplink's table.
func (d *decoder) ownTable(v any) uint32 {
	id := d.number(v, 1, 4294967295)
	if id >= fib.TableDefault && id <= fib.TableLocal {
		d.fail("253 is default, 254 main and 255 local; leave `table` out for a free number", "table %d is the kernel's own", id)
	}
	return id
}

// tableRef reads the table that a route stands in or that a rule looks up: by number, by
// the kernel's name, or by an uplink's.
func (d *decoder) tableRef(v any) Table {
	switch v := v.(type) {
	case int64:
		id := d.number(v, 1, 4294967295)
		if id == fib.TableLocal {
			d.fail("", "table 255 (local) is the kernel's own")
		}
		return Table{ID: id}
	case string:
		switch v {
		case "main":
			return Table{ID: fib.TableMain}
		case "default":
			return Table{ID: fib.TableDefault}
		case "local":
			d.fail("", "table local is the kernel's own")
			return Table{}
		}
		if uplinks, ok := d.doc.tree["uplink"].(map[string]any); ok {
			if _, ok := uplinks[v]; ok {
				return Table{Uplink: v}
			}
			names := []string{"main", "default"}
			for n := range uplinks {
				names = append(names, n)
			}
			slices.Sort(names)
			d.fail(DidYouMean(v, names), "no uplink is called %s", quote(v))
		}
	default:
		d.wrongType(v, "a number, \"main\", \"default\" or an uplink's name")
	}
	return Table{}
}

// operStates are the operational states of networkctl(1), from worst to best.
var operStates = []string{"missing", "off", "no-carrier", "dormant", "degraded-carrier", "carrier", "degraded", "enslaved", "routable"}

// requiredForOnline reads RequiredForOnline= of systemd.network(5).
func (d *decoder) requiredForOnline(v any) string {
	if b, ok := v.(bool); ok {
		return [...]string{"no", "yes"}[bool2int(b)]
	}
	s, ok := d.str(v, "true, false or an operational state")
	if !ok || s == "yes" || s == "no" {
		return s
	}
	lo, hi, isRange := strings.Cut(s, ":")
	i, j := slices.Index(operStates, lo), len(operStates)
	if isRange {
		j = slices.Index(operStates, hi)
	}
	if i < 0 || j < i {
		d.fail("one of "+strings.Join(operStates, ", ")+", or two of them as \"degraded:routable\"", "%s is not an operational state", quote(s))
	}
	return s
}

func (d *decoder) route(v any) Route {
	r := Route{Type: fib.Unicast}
	toDefault := false
	d.table(v, func(key string, v any) {
		switch key {
		case "to":
			if toDefault = v == "default"; !toDefault {
				if p, ok := d.network(v); ok {
					r.To = p
				}
			}
		case "via":
			r.Via, _ = d.addr(v)
		case "src":
			r.Src, _ = d.addr(v)
		case "metric":
			r.Metric = d.number(v, 1, 4294967295)
		// The kernel accepts larger values, and stores these (ip_metrics_convert
		// in net/ipv4/metrics.c).
		case "mtu":
			r.MTU = d.number(v, 68, 65520)
		case "advmss":
			r.AdvMSS = d.number(v, 1, 65495)
		case "initcwnd":
			r.InitCwnd = d.number(v, 1, 1023)
		case "initrwnd":
			r.InitRwnd = d.number(v, 1, 1023)
		case "scope":
			r.Scope = d.scope(v)
		case "type":
			types := []string{"unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw"}
			if i := d.word(v, types...); i >= 0 {
				r.Type, _ = fib.ParseRouteType(types[i])
			}
		case "onlink":
			r.OnLink = d.boolean(v)
		case "table":
			r.Table = d.tableRef(v)
		case "multipath":
			if isEmpty(v) {
				d.doc.failKey(d.path, "`multipath` is empty", "")
			}
			d.list(v, "tables: { via = …, uplink = …, weight = … }", func(v any) { r.Nexthops = append(r.Nexthops, d.nexthop(v)) })
		default:
			d.unknown(" in a route", routeKeys)
		}
	})
	if _, isTable := v.(map[string]any); isTable && !has(v, "to") {
		d.doc.failKey(d.path, "a route needs `to`", "a prefix, or \"default\"")
	}
	return r
}

func has(v any, key string) bool {
	m, _ := v.(map[string]any)
	_, ok := m[key]
	return ok
}

// isEmpty says whether a value is an array of nothing.
func isEmpty(v any) bool {
	list, isList := v.([]any)
	return isList && len(list) == 0
}

func (d *decoder) scope(v any) fib.Opt[fib.Scope] {
	// The kernel refuses "nowhere", and systemd 247 refuses numbers.
	names := []string{"global", "site", "link", "host", "universe"}
	i := d.word(v, names...)
	if i < 0 {
		return fib.Opt[fib.Scope]{}
	}
	s, _ := fib.ParseScope(names[i])
	return fib.Some(s)
}

func (d *decoder) nexthop(v any) Nexthop {
	n := Nexthop{Weight: 1}
	d.table(v, func(key string, v any) {
		switch key {
		case "via":
			n.Via, _ = d.addr(v)
		case "uplink":
			if s, ok := v.(string); !ok || s == "main" || s == "default" || s == "local" {
				d.fail("", "`uplink` takes the name of an uplink")
			} else {
				n.Uplink = s
				d.tableRef(v)
			}
		case "weight":
			n.Weight = uint16(d.number(v, 1, 256))
		case "onlink":
			n.OnLink = d.boolean(v)
		default:
			d.unknown(" in a multipath route", nexthopKeys)
		}
	})
	return n
}

func (d *decoder) probe(v any) *Probe {
	p := &Probe{Interval: 5, Down: 3, Up: 5, Reliability: 1}
	d.table(v, func(key string, v any) {
		to, most := (*uint32)(nil), uint32(1000)
		switch key {
		case "targets":
			if isEmpty(v) {
				d.doc.failKey(d.path, "`targets` is empty", "")
			}
			d.list(v, "addresses", func(v any) {
				if a, ok := d.addr(v); ok {
					p.Targets = append(p.Targets, a)
				}
			})
		case "port":
			p.Port = uint16(d.number(v, 0, 65535))
		case "interval":
			to, most = &p.Interval, 3600
		case "timeout":
			to, most = &p.Timeout, 3600
		case "down":
			to = &p.Down
		case "up":
			to = &p.Up
		case "reliability":
			to = &p.Reliability
		default:
			d.unknown(" in a probe", probeKeys)
		}
		if to != nil {
			*to = d.number(v, 1, most)
		}
	})
	if _, isTable := v.(map[string]any); isTable && !has(v, "targets") {
		d.doc.failKey(d.path, "a probe needs `targets`", "addresses beyond the provider's gateway that answer to everybody")
	}
	if p.Timeout == 0 {
		p.Timeout = min(2, p.Interval)
	}
	return p
}

func (d *decoder) rule(v any) Rule {
	var r Rule
	d.table(v, func(key string, v any) {
		switch key {
		case "priority":
			r.Priority = d.number(v, 1, fib.PriorityMain-1)
		case "family":
			r.Families = [...]Families{{}, {Inet: true}, {Inet6: true}, {true, true}}[1+d.word(v, "ipv4", "ipv6", "both")]
		case "not":
			r.Not = d.boolean(v)
		case "from":
			r.From, _ = d.network(v)
		case "to":
			r.To, _ = d.network(v)
		case "fwmark":
			r.Mark = d.mark(v)
		case "iif":
			r.IIF = d.ifname(v, false)
		case "oif":
			r.OIF = d.ifname(v, false)
		case "tos":
			if r.TOS = uint8(d.number(v, 4, 255)); r.TOS&3 != 0 {
				d.fail("leave the two lowest bits 0", "the kernel refuses the ECN bits in a rule's tos")
			}
		case "ipproto":
			r.IPProto = d.ipproto(v)
		case "sport":
			r.SPort = d.ports(v)
		case "dport":
			r.DPort = d.ports(v)
		case "uidrange":
			r.UIDRange = d.uids(v)
		case "l3mdev":
			r.L3MDev = d.boolean(v)
		case "type":
			types := []string{"blackhole", "unreachable", "prohibit", "nop"}
			if i := d.word(v, types...); i >= 0 {
				r.Action, _ = fib.ParseAction(types[i])
			}
		case "goto":
			r.Goto = d.number(v, 2, 4294967295)
		case "table":
			r.Table = d.tableRef(v)
		case "suppress-prefixlength":
			r.SuppressPrefixLength = fib.Some(d.number(v, 0, 128))
		case "suppress-ifgroup":
			r.SuppressIfGroup = fib.Some(d.number(v, 0, 0x7fffffff))
		default:
			d.unknown(" in a rule", ruleKeys)
		}
	})
	return r
}
