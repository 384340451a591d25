package integration

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// vpnPort is where the probes of the test below are sent to.
const vpnPort = 6666

// TestTunnelFailsClosed keeps sending what belongs into the tunnel while the tunnel's link goes
// down, loses its carrier, is deleted and comes back: not one of these packets may leave by the
// other card.
//
// It starts once networkd is done. While networkd starts it brings all links up in parallel, and
// eth0 may have its routes some milliseconds before lo has the rules.
func TestTunnelFailsClosed(t *testing.T) {
	for name, first := range map[string]string{"as in the example": "", "with main's routes first": "main-routes-first = true\n"} {
		t.Run(name, func(t *testing.T) { tunnelFailsClosed(t, first) })
	}
}

func tunnelFailsClosed(t *testing.T, first string) {
	t.Parallel()
	require(t, lab.NeedNetworkd)
	e := find(t, "vpn-fail-closed")
	ctx, h := boot(t, e)
	h.root = edited(t, h.root, "[uplink.isp]", first+"[uplink.isp]")
	h.compile(t)
	eth0, err := watch(h.Router, "p1")
	if err != nil {
		t.Fatal(err)
	}
	defer eth0.close()

	h.startNetworkd(ctx, t, h.tree(ctx, t))
	h.quiet(t)
	mark, tunnel := uint32(0x66), netip.MustParseAddr("10.66.0.2")
	stop := h.sendAll(ctx, t, mark, tunnel)
	defer stop()
	leavesBy := func(flow lab.Flow, card string) {
		t.Helper()
		d, err := h.LeavesBy(ctx, answerTime, flow)
		switch {
		case err != nil:
			t.Fatal(err)
		case card == "" && (d.Card != "" || d.Err == nil):
			t.Errorf("%+v: %s; want it refused", flow, d)
		case card != "" && (d.Card != card || !d.Arrived):
			t.Errorf("%+v: %s; want it to arrive by %s", flow, d, card)
		}
	}
	client6 := h.ClientAddr(true)
	own4, own6 := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8:1::10")
	// sealed fails the test if something has left by eth0 since the last time.
	leaked := int64(0)
	sealed := func(after string) {
		t.Helper()
		if n := eth0.seen.Load(); n > leaked {
			t.Errorf("%d packets for the tunnel left by eth0 after %s: %s", n-leaked, after, eth0.last.Load())
			leaked = n
		}
	}
	up := func() {
		t.Helper()
		leavesBy(lab.Flow{Mark: mark}, "wg0")
		leavesBy(lab.Flow{Source: netip.AddrPortFrom(tunnel, 0)}, "wg0")
	}
	down := func() {
		t.Helper()
		leavesBy(lab.Flow{Mark: mark}, "")
		// A mark also counts for a program that has chosen the other card's address.
		leavesBy(lab.Flow{Mark: mark, Source: netip.AddrPortFrom(own4, 0)}, "")
		leavesBy(lab.Flow{Source: netip.AddrPortFrom(tunnel, 0)}, "")
	}
	always := func() {
		t.Helper()
		leavesBy(lab.Flow{}, "eth0")
		leavesBy(lab.Flow{Destination: client6}, "eth0")
		// The tunnel has no IPv6. If a lookup without a source ends in an error, the kernel
		// chooses one and asks again (ip6_dst_lookup_tail in net/ipv6/ip6_output.c): then rules
		// for that address count.
		leavesBy(lab.Flow{Mark: mark, Destination: client6}, "")
		leavesBy(lab.Flow{Mark: mark, Source: netip.AddrPortFrom(own6, 0)}, "")
	}
	up()
	always()
	sealed("the start")

	ip(ctx, t, h.Host, "link set wg0 down")
	h.addressGone(ctx, t, tunnel)
	down()
	always()
	sealed("wg0 was set down")
	ip(ctx, t, h.Host, "link set wg0 up")
	h.converged(ctx, t)
	up()
	sealed("wg0 was set up")

	ip(ctx, t, h.Router, "link set p2 down") // the tunnel's other end
	h.addressGone(ctx, t, tunnel)
	down()
	always()
	sealed("wg0 had lost its carrier")
	ip(ctx, t, h.Router, "link set p2 up")
	h.converged(ctx, t)
	up()
	sealed("wg0 had its carrier again")

	number := h.number(t, "p2")
	ip(ctx, t, h.Host, "link delete wg0")
	down()
	always()
	sealed("wg0 was deleted")
	ip(ctx, t, h.Router,
		// The same number, by which the lab recognizes it.
		fmt.Sprintf("link add name p2 index %d type veth peer name wg0 netns %s", number, h.Host.Name()),
		"address add 10.66.0.1/24 dev p2")
	// Before the first ARP request, which is repeated only after a second.
	for key, value := range e.sysctls {
		if err := h.Router.Sysctl(key, value); err != nil {
			t.Fatal(err)
		}
	}
	ip(ctx, t, h.Router, "link set p2 up")
	h.converged(ctx, t)
	up()
	always()
	stop()
	sealed("there was a new wg0")
	h.quiet(t)
}

// addressGone waits until networkd has taken an address away.
func (h *host) addressGone(ctx context.Context, t *testing.T, a netip.Addr) {
	t.Helper()
	eventually(ctx, t, func() (string, error) {
		list, err := h.Host.Addresses(ctx)
		for _, have := range list {
			if have.Prefix.Addr() == a {
				return "still there: " + have.String(), err
			}
		}
		return "", err
	})
}

// number returns the number of one of the router's links.
func (h *host) number(t *testing.T, link string) (number int) {
	t.Helper()
	err := h.Router.Do(func() error {
		i, err := net.InterfaceByName(link)
		if err == nil {
			number = i.Index
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return number
}

// sendAll sends packets of three kinds without a pause, until stop is called: with the
// mark in IPv4, with it in IPv6, and from the tunnel's address.
func (h *host) sendAll(ctx context.Context, t *testing.T, mark uint32, source netip.Addr) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var sent atomic.Int64
	send := func(family, option, value int, to unix.Sockaddr, bind unix.Sockaddr) {
		wg.Go(func() {
			err := h.Host.Do(func() error {
				fd := -1
				defer func() { unix.Close(fd) }()
				for ctx.Err() == nil {
					time.Sleep(200 * time.Microsecond)
					if fd < 0 {
						var err error
						if fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
							return err
						}
						if value != 0 {
							if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, value); err != nil {
								return err
							}
						}
						if bind != nil && unix.Bind(fd, bind) != nil {
							unix.Close(fd) // the address is not there yet
							fd = -1
							continue
						}
					}
					if unix.Sendto(fd, []byte("for the tunnel"), 0, to) == nil {
						sent.Add(1)
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	// Each has its own, for package unix writes into them.
	to4 := func() unix.Sockaddr {
		return &unix.SockaddrInet4{Port: vpnPort, Addr: h.ClientAddr(false).As4()}
	}
	to6 := &unix.SockaddrInet6{Port: vpnPort, Addr: h.ClientAddr(true).As16()}
	send(unix.AF_INET, unix.SO_MARK, int(mark), to4(), nil)
	send(unix.AF_INET6, unix.SO_MARK, int(mark), to6, nil)
	send(unix.AF_INET, 0, 0, to4(), &unix.SockaddrInet4{Addr: source.As4()})
	return sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		if sent.Load() == 0 {
			t.Error("nothing was ever sent: the test shows nothing")
		}
	})
}

// watcher counts the packets to vpnPort that come in on a link.
type watcher struct {
	seen   atomic.Int64
	last   atomic.Value // the last packet in words
	socket *os.File
	done   chan struct{}
}

// watch starts a watcher.
func watch(n *lab.Namespace, link string) (*watcher, error) {
	w := &watcher{done: make(chan struct{})}
	err := n.Do(func() error {
		i, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		w.socket = os.NewFile(uintptr(fd), "packets of "+link)
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index})
	})
	if err != nil {
		return nil, errors.Join(err, w.socket.Close())
	}
	go w.run()
	return w, nil
}

func (w *watcher) run() {
	defer close(w.done)
	packet := make([]byte, 128)
	for {
		n, err := w.socket.Read(packet)
		if errors.Is(err, syscall.ENETDOWN) {
			continue
		}
		if err != nil {
			return // closed
		}
		if isProbe(packet[:n]) {
			w.last.Store(source(packet))
			w.seen.Add(1)
		}
	}
}

func (w *watcher) close() {
	w.socket.Close()
	<-w.done
}

// isProbe says whether a packet is UDP to vpnPort.
func isProbe(p []byte) bool {
	header := 40
	switch {
	case len(p) < 40:
		return false
	case p[0]>>4 == 4 && p[9] == unix.IPPROTO_UDP:
		header = int(p[0]&0xf) * 4
	case p[0]>>4 == 6 && p[6] == unix.IPPROTO_UDP:
	default:
		return false
	}
	return len(p) >= header+4 && binary.BigEndian.Uint16(p[header+2:]) == vpnPort
}

// source says where an IP packet comes from.
func source(p []byte) string {
	if p[0]>>4 == 4 {
		return "from " + netip.AddrFrom4([4]byte(p[12:16])).String()
	}
	return "from " + netip.AddrFrom16([16]byte(p[8:24])).String()
}
