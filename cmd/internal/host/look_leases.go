package host

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// moment is now, by both clocks.
type moment struct {
	wall   time.Time
	uptime time.Duration // by which the kernel dates addresses
}

func clock() moment {
	var t unix.Timespec
	// It accepts any clock that the kernel has.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return moment{time.Now(), time.Duration(t.Nano())}
}

// lease returns what the kernel says about a learned address. The kernel does not keep who added
// it: of the addresses that expire, a DHCP server's IPv6 address has no subnet.
func (m moment) lease(a apply.Address) *Lease {
	l := &Lease{From: "another program", Since: m.wall.Add(a.Since - m.uptime)}
	if a.Valid == 0 {
		return l
	}
	l.Until = m.wall.Add(a.Valid)
	switch {
	case a.Family() == fib.Inet:
		l.From = "DHCP"
	case a.Prefix.IsSingleIP():
		l.From = "DHCPv6"
	default:
		l.From = "router advertisement"
	}
	return l
}

// gatewayLeases returns what is known of the gateways that somebody has learned, by the
// link that they are on.
func (l *looker) gatewayLeases() map[fib.Nexthop]*Lease {
	now, leases := clock(), map[fib.Nexthop]*Lease{}
	names := map[uint8]string{apply.ProtocolDHCP: "DHCP", apply.ProtocolRA: "router advertisement", apply.ProtocolBoot: "DHCP"}
	for _, r := range l.have.Routes {
		from, learned := names[r.Protocol]
		if !learned || !r.IsDefault() {
			continue
		}
		lease := &Lease{From: from}
		if r.Expires > 0 {
			lease.Until = now.wall.Add(r.Expires)
		}
		for _, n := range r.Nexthops {
			leases[fib.Nexthop{Link: n.Link, Via: n.Via}] = lease
		}
	}
	return leases
}
