package integration

import "github.com/uplink-generator/uplink-generator/gen/fib"

// routes draws an uplink's extra routes.
func (g *drawer) routes(u *drawnUplink) {
	var list []keys
	for range among(g, 0, 0, 0, 1, 1, 2, 4) {
		list = append(list, g.route(u))
	}
	if len(list) > 0 {
		u.keys["route"] = list
	}
}

func (g *drawer) route(u *drawnUplink) keys {
	f := g.family()
	r := keys{"to": g.network(f).String()}
	if g.oneIn(6) {
		r["to"] = among(g, "default", f.Any().String())
	}
	g.number(r, 3, "metric", 1, 2, 50, 1023, 1024, 1025, 1<<31, 4294967295)
	g.number(r, 6, "mtu", 576, 1280, 1400, 65520)
	g.number(r, 8, "advmss", 1, 1220, 1360, 65495)
	g.number(r, 8, "initcwnd", 1, 10, 1023)
	g.number(r, 8, "initrwnd", 1, 30, 1023)
	if g.oneIn(4) {
		r["table"] = g.table()
	}
	switch {
	case g.oneIn(4):
		r["type"] = among(g, "blackhole", "unreachable", "prohibit", "throw")
	case g.oneIn(5):
		// For few destinations: a gateway that is local, say, is refused.
		r["type"] = among(g, "local", "broadcast", "anycast", "multicast")
		for p := g.network(f); ; p = g.network(f) {
			if r["to"] = p.String(); p.Bits() > 24 {
				break
			}
		}
	case g.oneIn(5):
		r["multipath"] = g.nexthops(u, f)
	case g.oneIn(2):
		if gw, onlink, ok := g.gateway(u, f); ok {
			r["via"] = gw.String()
			if onlink || g.oneIn(10) {
				r["onlink"] = true
			}
			if f == fib.Inet && g.oneIn(6) {
				r["scope"] = among(g, "global", "site")
			}
		}
	default:
		if f == fib.Inet && g.oneIn(3) {
			r["scope"] = among(g, "global", "site", "link", "host")
		}
	}
	switch r["type"] {
	case "blackhole", "unreachable", "prohibit", "throw":
	default:
		g.source(r, f)
	}
	return r
}

// source draws the preferred source of a route: any address of the host.
func (g *drawer) source(r keys, f fib.Family) {
	if !g.oneIn(4) {
		return
	}
	for _, i := range g.Perm(len(g.uplinks)) {
		for _, p := range g.uplinks[i].own {
			if fib.FamilyOf(p.Addr()) == f {
				r["src"] = p.Addr().String()
				return
			}
		}
	}
}

func (g *drawer) nexthops(u *drawnUplink, f fib.Family) []keys {
	var hops []keys
	for _, o := range append([]*drawnUplink{u}, g.uplinks...) {
		if !o.literal || g.oneIn(3) {
			continue
		}
		gw, onlink, ok := g.gateway(o, f)
		if !ok {
			continue
		}
		h := keys{"via": gw.String()}
		if onlink {
			h["onlink"] = true
		}
		if o != u || g.oneIn(3) {
			h["uplink"] = o.name
		}
		g.number(h, 2, "weight", 1, 2, 10, 256)
		hops = append(hops, h)
	}
	return hops
}

// number sets a key once in n times.
func (g *drawer) number(k keys, n int, key string, values ...int64) {
	if g.oneIn(n) {
		k[key] = among(g, values...)
	}
}

// table draws a table by one of the ways to name it.
func (g *drawer) table() any {
	return among[any](g, "main", "default", g.uplinks[g.IntN(len(g.uplinks))].name, int64(77), int64(1<<31+5), int64(4294967295))
}

// rules draws an uplink's extra rules.
func (g *drawer) rules(u *drawnUplink) {
	var list []keys
	for range among(g, 0, 0, 0, 1, 1, 2, 4) {
		list = append(list, g.rule())
	}
	if len(list) > 0 {
		u.keys["rule"] = list
	}
}

func (g *drawer) rule() keys {
	f := g.family()
	r := keys{}
	if g.oneIn(3) {
		r["from"] = g.network(f).String()
	}
	if g.oneIn(3) {
		r["to"] = g.network(f).String()
	}
	if g.oneIn(12) {
		r["from"] = f.Any().String()
	}
	if g.oneIn(4) {
		r["fwmark"] = g.mark()
	}
	if g.oneIn(5) {
		r["iif"] = among(g, "lo", "eth0", "eth1", "tun9")
	}
	if g.oneIn(5) {
		r["oif"] = among(g, "lo", "eth0", "eth1", "tun9")
	}
	if g.oneIn(6) {
		r["tos"] = among[int64](g, 4, 8, 16, 24, 28, 0x20, 0xb8)
	}
	if g.oneIn(4) {
		r["ipproto"] = among[any](g, "tcp", "udp", "icmp", "ipv6-icmp", int64(47), int64(1))
	}
	if g.oneIn(5) {
		r["sport"] = among[any](g, int64(53), "1000-2000", "1-65534", int64(65534))
	}
	if g.oneIn(5) {
		r["dport"] = among[any](g, int64(443), "1-1023", "8000-8000")
	}
	if g.oneIn(6) {
		r["uidrange"] = among[any](g, int64(0), int64(1000), "1000-1999", "0-4294967294")
	}
	if g.oneIn(6) {
		r["not"] = true
	}
	if r["from"] == nil && r["to"] == nil && g.oneIn(2) {
		r["family"] = among(g, "ipv4", "ipv6", "both")
	}
	switch g.IntN(8) {
	case 0, 1:
		r["type"] = among(g, "blackhole", "unreachable", "prohibit")
	case 2, 3, 4:
		r["table"] = g.table()
	}
	if r["type"] == nil {
		g.number(r, 5, "suppress-prefixlength", 0, 1, 24, 32, 64, 128)
		g.number(r, 6, "suppress-ifgroup", 0, 1, 7, 1<<31-1)
	}
	if r["type"] != nil || r["table"] != nil || !g.oneIn(3) {
		r["priority"] = int64(among(g, 1+g.IntN(100), 500+g.IntN(100), 9990+g.IntN(30), 20000+g.IntN(100), 32765))
	}
	return r
}
