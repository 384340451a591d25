package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// prebuilt is the least time for a program that reads every answer: messages made beforehand,
// sent many at a time in the order that is cheapest for the kernel. It encodes only what the
// benchmark's State has.
type prebuilt struct{ messages [][]byte }

// prebuild makes the messages that add a State's routes and rules, with a codec that is not ours.
func prebuild(s fib.State, index func(link string) uint32) prebuilt {
	var p prebuilt
	for _, r := range s.Routes {
		req := nl.NewNetlinkRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
		msg := nl.NewRtMsg()
		msg.Family, msg.Protocol, msg.Scope, msg.Type = uint8(r.Family), fib.Protocol, uint8(r.Scope), uint8(r.Type)
		msg.Dst_len, msg.Table = uint8(r.Dst.Bits()), unix.RT_TABLE_UNSPEC
		req.AddData(msg)
		if r.Dst.Bits() > 0 {
			req.AddData(nl.NewRtAttr(unix.RTA_DST, r.Dst.Addr().AsSlice()))
		}
		req.AddData(nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(r.Table)))
		if r.Src.IsValid() {
			req.AddData(nl.NewRtAttr(unix.RTA_PREFSRC, r.Src.AsSlice()))
		}
		if via := r.Nexthops[0].Via; via.IsValid() {
			req.AddData(nl.NewRtAttr(unix.RTA_GATEWAY, via.AsSlice()))
		}
		req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(index(r.Nexthops[0].Link))))
		p.messages = append(p.messages, req.Serialize())
	}
	rules := slices.Clone(s.Rules)
	slices.Reverse(rules)
	for _, r := range rules {
		req := nl.NewNetlinkRequest(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_ACK)
		msg := nl.NewRtMsg()
		msg.Family, msg.Type = uint8(r.Family), nl.FR_ACT_TO_TBL
		msg.Protocol, msg.Scope, msg.Table = 0, 0, 0 // reserved in a rule
		msg.Src_len, msg.Dst_len = uint8(max(r.From.Bits(), 0)), uint8(max(r.To.Bits(), 0))
		req.AddData(msg)
		if r.From.IsValid() {
			req.AddData(nl.NewRtAttr(nl.FRA_SRC, r.From.Addr().AsSlice()))
		}
		if r.To.IsValid() {
			req.AddData(nl.NewRtAttr(nl.FRA_DST, r.To.Addr().AsSlice()))
		}
		req.AddData(nl.NewRtAttr(nl.FRA_PRIORITY, nl.Uint32Attr(r.Priority)))
		req.AddData(nl.NewRtAttr(nl.FRA_TABLE, nl.Uint32Attr(r.Table)))
		req.AddData(nl.NewRtAttr(nl.FRA_PROTOCOL, []byte{fib.Protocol}))
		p.messages = append(p.messages, req.Serialize())
	}
	return p
}

// run sends the messages and reads every answer.
func (p prebuilt) run() (time.Duration, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20); err != nil {
		return 0, err
	}
	const burst = 1024
	answer := make([]byte, 64<<10)
	start := time.Now()
	for messages := range slices.Chunk(p.messages, burst) {
		if err := unix.Sendto(fd, slices.Concat(messages...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return 0, err
		}
		for range messages {
			n, _, err := unix.Recvfrom(fd, answer, 0)
			if err != nil {
				return 0, err
			}
			if n < 20 || nl.NativeEndian().Uint32(answer[16:]) != 0 {
				return 0, fmt.Errorf("the kernel refused a prebuilt message: errno %d", -int32(nl.NativeEndian().Uint32(answer[16:])))
			}
		}
	}
	return time.Since(start), nil
}
