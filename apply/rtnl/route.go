package rtnl

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// The routes have a codec of our own because requests are pipelined, and because
// vishvananda/netlink 1.3.1 drops the kernel's messages, and its append means different things
// for IPv4 and IPv6.

const (
	routeHeaderLen = unix.SizeofRtMsg
	nexthopLen     = unix.SizeofRtNexthop

	rtaNexthopID = 30 // RTA_NH_ID, a nexthop object

	// Of RTA_METRICS (include/uapi/linux/rtnetlink.h, RTAX_*).
	rtaxMTU      = 2
	rtaxAdvMSS   = 8
	rtaxInitCwnd = 11
	rtaxInitRwnd = 14
)

// encodeRoute writes the payload of RTM_NEWROUTE or RTM_DELROUTE. A delete must
// have the same scope, type and source to hit (fib_table_delete, net/ipv4/fib_trie.c).
func (e *encoder) encodeRoute(r *fib.Route, protocol uint8, del bool, index func(string) uint32) {
	table := uint8(0)
	if r.Table < 256 {
		table = uint8(r.Table)
	}
	flags := uint32(0)
	if len(r.Nexthops) == 1 && r.Nexthops[0].OnLink && !del {
		flags |= unix.RTNH_F_ONLINK
	}
	e.bytes(uint8(r.Family), uint8(r.Dst.Bits()), 0, 0, table, protocol, uint8(r.Scope), uint8(r.Type))
	e.u32(flags)
	if r.Dst.Bits() > 0 {
		e.attrAddr(unix.RTA_DST, r.Dst.Addr())
	}
	e.attr32(unix.RTA_TABLE, r.Table)
	if r.Metric != 0 {
		e.attr32(unix.RTA_PRIORITY, r.Metric)
	}
	if r.Src.IsValid() {
		e.attrAddr(unix.RTA_PREFSRC, r.Src)
	}
	switch {
	case len(r.Nexthops) == 1:
		n := r.Nexthops[0]
		if n.Via.IsValid() {
			e.attrAddr(unix.RTA_GATEWAY, n.Via)
		}
		e.attr32(unix.RTA_OIF, index(n.Link))
	case len(r.Nexthops) > 1 && (!del || r.Family == fib.Inet):
		// An IPv6 route is deleted as a whole when no nexthop is named.
		at := e.nest(unix.RTA_MULTIPATH)
		for _, n := range r.Nexthops {
			e.encodeNexthop(n, index)
		}
		e.unnest(at)
	}
	if !del {
		e.encodeMetrics(r)
	}
}

// encodeNexthop writes one struct rtnexthop with its gateway.
func (e *encoder) encodeNexthop(n fib.Nexthop, index func(string) uint32) {
	at := len(e.b)
	flags := uint8(0)
	if n.OnLink {
		flags |= unix.RTNH_F_ONLINK
	}
	e.bytes(0, 0, flags, uint8(max(n.Weight, 1)-1)) // rtnh_hops is the weight less one
	e.u32(index(n.Link))
	if n.Via.IsValid() {
		e.attrAddr(unix.RTA_GATEWAY, n.Via)
	}
	native.PutUint16(e.b[at:], uint16(len(e.b)-at))
}

func (e *encoder) encodeMetrics(r *fib.Route) {
	if r.MTU|r.AdvMSS|r.InitCwnd|r.InitRwnd == 0 {
		return
	}
	at := e.nest(unix.RTA_METRICS)
	for _, m := range [...]struct {
		typ   uint16
		value uint32
	}{{rtaxMTU, r.MTU}, {rtaxAdvMSS, r.AdvMSS}, {rtaxInitCwnd, r.InitCwnd}, {rtaxInitRwnd, r.InitRwnd}} {
		if m.value != 0 {
			e.attr32(m.typ, m.value)
		}
	}
	e.unnest(at)
}

// decodeRoute reads the payload of an RTM_NEWROUTE. name gives the interface name
// for an index.
func decodeRoute(b []byte, name func(uint32) string) (apply.Route, error) {
	var r apply.Route
	if len(b) < routeHeaderLen {
		return r, errMalformed
	}
	r.Family = fib.Family(b[0])
	bits := int(b[1])
	r.Table = uint32(b[4])
	r.Protocol = b[5]
	r.Scope = fib.Scope(b[6])
	r.Type = fib.RouteType(b[7])
	flags := native.Uint32(b[8:])
	if b[3] != 0 {
		note(&r.Unread, "tos")
	}
	if r.Family != fib.Inet && r.Family != fib.Inet6 {
		return r, nil // multicast routing and the like
	}
	r.Dst = r.Family.Any()
	if r.Family == fib.Inet6 {
		r.Scope = fib.ScopeUniverse // means nothing there
	}
	var hop fib.Nexthop
	hasHop := false
	var err error
	a := attributes{rest: b[routeHeaderLen:]}
	for err == nil && a.next() {
		v := a.value
		switch a.typ {
		case unix.RTA_DST:
			r.Dst, err = getPrefix(r.Family, v, bits)
		case unix.RTA_TABLE:
			r.Table, err = get32(v)
		case unix.RTA_PRIORITY:
			r.Metric, err = get32(v)
		case unix.RTA_PREFSRC:
			r.Src, err = getAddr(r.Family, v)
		case unix.RTA_GATEWAY:
			hop.Via, err = getAddr(r.Family, v)
		case unix.RTA_VIA:
			hop.Via, err = getVia(v)
		case unix.RTA_OIF:
			var i uint32
			i, err = get32(v)
			hop.Link, hasHop = name(i), true
		case unix.RTA_MULTIPATH:
			r.Nexthops, err = decodeNexthops(r.Family, v, name)
		case unix.RTA_METRICS:
			err = decodeMetrics(&r, v)
		case unix.RTA_PREF:
			var pref uint8
			pref, err = get8(v)
			r.Pref = map[uint8]int8{prefHigh: 1, prefLow: -1}[pref]
		case unix.RTA_CACHEINFO:
			r.Expires, err = getExpires(v)
		case unix.RTA_SRC:
			note(&r.Unread, "from")
		case unix.RTA_FLOW:
			note(&r.Unread, "realms")
		case unix.RTA_ENCAP_TYPE:
			note(&r.Unread, "encap")
		case rtaNexthopID:
			note(&r.Unread, "nhid")
		case unix.RTA_ENCAP, unix.RTA_EXPIRES, unix.RTA_PAD:
		default:
			note(&r.Unread, "attribute "+strconv.Itoa(int(a.typ)))
		}
	}
	if err := cmp.Or(err, a.err); err != nil {
		return r, err
	}
	switch {
	case !r.Type.HasDevice():
		r.Nexthops = nil // IPv6 shows lo
	case r.Nexthops == nil && hasHop:
		hop.OnLink = flags&unix.RTNH_F_ONLINK != 0
		r.Nexthops = []fib.Nexthop{hop}
	}
	return r, nil
}

// metricNames are the names in ip-route(8) of those of RTA_METRICS that a fib.Route lacks.
var metricNames = map[uint16]string{
	1: "lock", 3: "window", 4: "rtt", 5: "rttvar", 6: "ssthresh", 7: "cwnd", 9: "reordering", 10: "hoplimit",
	12: "features", 13: "rto_min", 15: "quickack", 16: "congctl", 17: "fastopen_no_cookie",
}

// note adds a word to a list.
func note(list *string, word string) {
	if *list != "" {
		*list += ", "
	}
	*list += word
}

// An IPv6 router's preference, as advertised (include/uapi/linux/icmpv6.h).
const (
	prefHigh = 1
	prefLow  = 3
)

// getExpires reads rta_expires of struct rta_cacheinfo (include/uapi/linux/rtnetlink.h), in
// clock ticks of USER_HZ, which is 100 everywhere Go runs.
func getExpires(v []byte) (time.Duration, error) {
	const expires, tick = 8, 10 * time.Millisecond
	if len(v) < expires+4 {
		return 0, errMalformed
	}
	return time.Duration(int32(native.Uint32(v[expires:]))) * tick, nil
}

func getVia(v []byte) (netip.Addr, error) {
	family, err := get16(v)
	if err != nil {
		return netip.Addr{}, err
	}
	return getAddr(fib.Family(family), v[2:])
}

func decodeNexthops(f fib.Family, b []byte, name func(uint32) string) (hops []fib.Nexthop, err error) {
	for len(b) > 0 {
		if len(b) < nexthopLen {
			return nil, errMalformed
		}
		n := int(native.Uint16(b))
		if n < nexthopLen || n > len(b) {
			return nil, errMalformed
		}
		hop := fib.Nexthop{
			Link:   name(native.Uint32(b[4:])),
			OnLink: b[2]&unix.RTNH_F_ONLINK != 0,
			Weight: uint16(b[3]) + 1,
		}
		a := attributes{rest: b[nexthopLen:n]}
		for err == nil && a.next() {
			switch a.typ {
			case unix.RTA_GATEWAY:
				hop.Via, err = getAddr(f, a.value)
			case unix.RTA_VIA:
				hop.Via, err = getVia(a.value)
			}
		}
		if err = cmp.Or(err, a.err); err != nil {
			return nil, err
		}
		hops = append(hops, hop)
		b = b[min(align(n), len(b)):]
	}
	return hops, nil
}

func decodeMetrics(r *apply.Route, b []byte) error {
	var err error
	a := attributes{rest: b}
	for err == nil && a.next() {
		switch a.typ {
		case rtaxMTU:
			r.MTU, err = get32(a.value)
		case rtaxAdvMSS:
			r.AdvMSS, err = get32(a.value)
		case rtaxInitCwnd:
			r.InitCwnd, err = get32(a.value)
		case rtaxInitRwnd:
			r.InitRwnd, err = get32(a.value)
		default:
			if name, known := metricNames[a.typ]; known {
				note(&r.Unread, name)
			} else {
				note(&r.Unread, "metric "+strconv.Itoa(int(a.typ)))
			}
		}
	}
	return cmp.Or(err, a.err)
}

// routes reads the routes of a family: ours, filtered in the kernel, or all. A kernel before 4.20
// does not filter; what was not asked for is then dropped here.
func (k *Kernel) routes(f fib.Family, scope apply.Scope) (all []apply.Route, err error) {
	header := make([]byte, routeHeaderLen)
	header[0] = uint8(f)
	read := func(header []byte, want func(b []byte) bool) error {
		routes, err := k.dumpRoutes(header, want)
		all = join(all, routes)
		return err
	}
	if scope.Foreign {
		// The kernel could leave types out, but not a table. A local or broadcast route may be
		// wanted in any table but local, though, and dropping that table by its routes' headers
		// takes less time than a dump for each type: with 10,000 addresses, and 20,000 routes in
		// table local, a tenth less for IPv4 and two thirds less for IPv6.
		err = read(header, func(b []byte) bool { return scope.Local || notLocal(b) })
		return all, err
	}
	protocols := []uint8{fib.Protocol}
	if scope.Learned {
		protocols = append(protocols, apply.LearnedFrom...)
	}
	for _, header[5] = range protocols {
		if err := read(header, notLocal); err != nil {
			return nil, err
		}
	}
	if !scope.Defaults {
		return all, nil
	}
	// The kernel filters by table, not by destination: most of a router's full table is dropped
	// unread.
	header[4], header[5] = unix.RT_TABLE_MAIN, 0
	err = read(header, func(b []byte) bool {
		return b[4] == unix.RT_TABLE_MAIN && b[1] == 0 && !slices.Contains(protocols, b[5])
	})
	if errors.Is(err, unix.ENOENT) {
		err = nil // there is no main before its first route (fib_new_table, net/ipv4/fib_frontend.c)
	}
	return all, err
}

// notLocal is for all tables but local.
func notLocal(b []byte) bool { return b[4] != unix.RT_TABLE_LOCAL }

// dumpRoutes reads the routes that match a request's header, and of these the ones whose own
// header is wanted.
func (k *Kernel) dumpRoutes(header []byte, want func(b []byte) bool) (routes []apply.Route, err error) {
	err = k.socket.dump(unix.RTM_GETROUTE, header, func() { routes = routes[:0] }, func(b []byte) error {
		const rtmCloned = 0x200 // RTM_F_CLONED: a cached entry, no route
		if len(b) < routeHeaderLen {
			return errMalformed
		}
		if header[5] != 0 && b[5] != header[5] || native.Uint32(b[8:])&rtmCloned != 0 || !want(b) {
			return nil
		}
		r, err := decodeRoute(b, k.name)
		if err == nil && uint8(r.Family) == header[0] {
			routes = push(routes, r)
		}
		return err
	})
	return routes, err
}
