package probe

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// round asks all targets at once. When enough of them have answered, or the time is over, it
// returns those that have not, and why, if it knows a reason beyond silence.
func round(ctx context.Context, p fib.Probe, path Path) (silent []netip.Addr, why error) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	targets := make([]netip.Addr, len(p.Targets))
	for i, a := range p.Targets {
		if targets[i] = a; a.IsLinkLocalUnicast() && a.Is6() {
			targets[i] = a.WithZone(path.Device)
		}
	}
	if p.Port != 0 {
		silent, why = connect(ctx, p, path, targets)
	} else {
		silent, why = echo(ctx, p, path, targets)
	}
	for i := range silent {
		silent[i] = silent[i].WithZone("")
	}
	return silent, why
}

// bound makes a socket leave by the uplink: it binds it to the link, so that no route by another
// matches, and gives it the uplink's mark. The caller binds it to the source that the uplink's
// rules select; without one it would need a route in main.
func bound(p fib.Probe, path Path) func(network, address string, raw syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		var err error
		if control := raw.Control(func(fd uintptr) {
			err = unix.BindToDevice(int(fd), path.Device)
			if err == nil && p.Mark != 0 {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(p.Mark))
			}
		}); control != nil {
			return control
		}
		return os.NewSyscallError("setsockopt", err)
	}
}

// connect opens a TCP connection to each target, and closes it. A refused connection counts as
// none: whoever refuses may stand in front of a provider that does not work.
func connect(ctx context.Context, p fib.Probe, path Path, targets []netip.Addr) (silent []netip.Addr, why error) {
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(path.Source, 0)), Control: bound(p, path)}
	dialer.SetMultipathTCP(false)
	errs := make([]error, len(targets))
	answers := make(chan struct{}, len(targets))
	var all sync.WaitGroup
	for i, to := range targets {
		all.Go(func() {
			conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(to, p.Port).String())
			if errs[i] = err; err == nil {
				conn.Close()
				answers <- struct{}{}
			}
		})
	}
	go func() { all.Wait(); close(answers) }()
	for n := uint32(0); n < p.Reliability; n++ {
		if _, ok := <-answers; !ok {
			break
		}
	}
	enough()
	all.Wait()
	for i, err := range errs {
		if err != nil {
			silent, why = append(silent, targets[i]), notSilence(err)
		}
	}
	return silent, why
}

// notSilence returns the kernel's own error, and nil where the only problem is that nobody
// answered in time.
func notSilence(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) && errno != unix.ETIMEDOUT && errno != unix.EAGAIN {
		return errno
	}
	return nil
}

// echo sends an ICMP echo to each target. A raw socket sees the answers to all programs on the
// host, so the number tells which are ours.
func echo(ctx context.Context, p fib.Probe, path Path, targets []netip.Addr) (silent []netip.Addr, why error) {
	network := "ip4:1"
	if p.Family == fib.Inet6 {
		network = "ip6:58"
	}
	conn, err := (&net.ListenConfig{Control: bound(p, path)}).ListenPacket(ctx, network, path.Source.String())
	if err != nil {
		return targets, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	id, seq := uint16(rand.IntN(1<<16)), uint16(rand.IntN(1<<16))
	packet := echoRequest(p.Family, id, seq)
	silent = slices.Clone(targets)
	for _, to := range targets {
		if _, err := conn.WriteTo(packet, &net.IPAddr{IP: to.AsSlice(), Zone: to.Zone()}); err != nil {
			why = notSilence(err)
		}
	}
	buf := make([]byte, 1500)
	for len(targets)-len(silent) < int(p.Reliability) {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return silent, why
		}
		addr, isIP := from.(*net.IPAddr)
		if !isIP || !isEchoReply(p.Family, buf[:n], id, seq) {
			continue
		}
		silent = slices.DeleteFunc(silent, func(a netip.Addr) bool { return addr.IP.Equal(a.AsSlice()) })
	}
	return silent, nil
}
