package rtnl

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Monitor listens for changes to links, addresses, routes and rules. It reports only that
// something changed; Observe reads what. The kernel does not report every removal (not the IPv4
// routes of a link that is set down or loses its last address), and reports may be lost when
// there are too many.
type Monitor struct {
	// Changed gets a value when something may have changed since the last one was taken.
	Changed <-chan struct{}

	err     error
	file    *os.File
	own     uint32 // the port of the socket whose changes are not reported
	changed chan struct{}
	links   map[uint32]linkState // by index
}

// linkState is the part of a link's messages that matters here.
type linkState struct {
	flags uint32
	name  string
}

// groups are the multicast groups that are heard (RTNLGRP_* in
// include/uapi/linux/rtnetlink.h).
var groups = []int{
	unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
	unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
}

// Monitor starts listening for changes in the kernel's network namespace, except those that k
// itself makes. Close it after use.
func (k *Kernel) Monitor() (*Monitor, error) {
	own, err := unix.Getsockname(k.socket.fd)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, g := range groups {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g)
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	changed := make(chan struct{}, 1)
	m := &Monitor{Changed: changed, changed: changed, file: os.NewFile(uintptr(fd), "rtnetlink"), links: map[uint32]linkState{}}
	if nl, ok := own.(*unix.SockaddrNetlink); ok {
		m.own = nl.Pid
	}
	go m.listen()
	return m, nil
}

// Close ends the monitor. Changed is closed then.
func (m *Monitor) Close() { m.file.Close() }

// Err says why Changed was closed, once it is.
func (m *Monitor) Err() error { return m.err }

// listen reads until the socket is closed.
func (m *Monitor) listen() {
	defer close(m.changed)
	buf := make([]byte, 32<<10)
	for {
		n, err := m.file.Read(buf)
		switch {
		case errors.Is(err, unix.ENOBUFS): // some were lost
			m.tell()
		case errors.Is(err, unix.EINTR):
		case err != nil:
			m.err = err
			return
		default:
			relevant := false
			bad := eachMessage(buf[:n], func(msg message) error {
				relevant = m.isRelevant(msg) || relevant
				return nil
			})
			if relevant || bad != nil {
				m.tell()
			}
		}
	}
}

// tell leaves word of a change, unless word is waiting already.
func (m *Monitor) tell() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// isRelevant says whether a message can mean that there is something to do. A router with a full
// table reports thousands of routes a minute.
func (m *Monitor) isRelevant(msg message) bool {
	if msg.pid == m.own {
		return false
	}
	b := msg.payload
	switch msg.typ {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return m.linkChanges(msg)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if len(b) < routeHeaderLen {
			return true
		}
		length, table, protocol := b[1], b[4], b[5]
		return table != unix.RT_TABLE_LOCAL && (protocol == fib.Protocol || slices.Contains(apply.LearnedFrom, protocol)) ||
			table == unix.RT_TABLE_MAIN && length == 0 // main may use it, whoever owns it
	}
	return true
}

// linkChanges says whether a link has come, gone, got another name or changed its state. Drivers
// report on a link for many other reasons.
func (m *Monitor) linkChanges(msg message) bool {
	if len(msg.payload) < unix.SizeofIfInfomsg {
		return true
	}
	index := native.Uint32(msg.payload[4:])
	if msg.typ == unix.RTM_DELLINK {
		delete(m.links, index)
		return true
	}
	now := linkState{flags: native.Uint32(msg.payload[8:]) & (unix.IFF_UP | unix.IFF_LOWER_UP)}
	for a := (attributes{rest: msg.payload[unix.SizeofIfInfomsg:]}); a.next(); {
		if a.typ == unix.IFLA_IFNAME {
			now.name = getString(a.value)
		}
	}
	was, known := m.links[index]
	m.links[index] = now
	return !known || was != now
}
