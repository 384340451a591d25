package rtnl

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// RouteGet implements apply.Kernel: the kernel's own route lookup (RTM_GETROUTE).
func (k *Kernel) RouteGet(p apply.Packet) (apply.Way, error) {
	var e encoder
	f := fib.FamilyOf(p.To)
	bits := func(set bool) uint8 {
		if set {
			return uint8(f.Bits())
		}
		return 0
	}
	e.bytes(uint8(f), bits(true), bits(p.From.IsValid()), p.TOS, 0, 0, 0, 0)
	if f == fib.Inet {
		e.u32(unix.RTM_F_LOOKUP_TABLE)
	} else {
		e.u32(0) // the table is always in the answer, and a strict kernel refuses the flag
	}
	e.attrAddr(unix.RTA_DST, p.To)
	if p.From.IsValid() {
		e.attrAddr(unix.RTA_SRC, p.From)
	}
	if p.Mark != 0 {
		e.attr32(unix.RTA_MARK, p.Mark)
	}
	if p.IIF != "" {
		e.attr32(unix.RTA_IIF, k.index(p.IIF))
	}
	if p.OIF != "" {
		e.attr32(unix.RTA_OIF, k.index(p.OIF))
	}
	if p.UID.Set {
		e.attr32(unix.RTA_UID, p.UID.Value)
	}
	if p.IPProto != 0 {
		e.attr8(unix.RTA_IP_PROTO, p.IPProto)
	}
	// Ports are in network byte order.
	if p.SPort != 0 {
		e.attr(unix.RTA_SPORT, []byte{byte(p.SPort >> 8), byte(p.SPort)})
	}
	if p.DPort != 0 {
		e.attr(unix.RTA_DPORT, []byte{byte(p.DPort >> 8), byte(p.DPort)})
	}
	var way apply.Way
	err := k.socket.get(unix.RTM_GETROUTE, e.b, func(b []byte) error {
		r, err := decodeRoute(b, k.name)
		if err != nil {
			return err
		}
		way = apply.Way{Type: r.Type, Table: r.Table, Src: r.Src}
		if len(r.Nexthops) > 0 {
			way.Device, way.Via = r.Nexthops[0].Link, r.Nexthops[0].Via
		}
		return nil
	})
	if t, ok := refusedType(err); ok {
		return apply.Way{Type: t}, nil
	}
	return way, err
}

// refusedType is the type of the route or rule that refuses a packet: the kernel returns its
// errno instead of the route (fib_props in net/ipv4/fib_semantics.c).
func refusedType(err error) (fib.RouteType, bool) {
	switch {
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH):
		return fib.RouteUnreachable, true
	case errors.Is(err, unix.EACCES):
		return fib.RouteProhibit, true
	case errors.Is(err, unix.EINVAL):
		// Where the kernel adds a message, it did not understand the question.
		var r *refusal
		return fib.RouteBlackhole, errors.As(err, &r) && r.text == ""
	}
	return 0, false
}
