package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// sighting is a packet that came out of one of the host's cards.
type sighting struct {
	port     port
	proto    int
	src, dst netip.AddrPort
}

// capture sees everything that comes out of the host's cards, at the router's
// ends of their cables and before the router decides what to do with it. That
// tells for certain which card a packet left by, also when the router drops
// it. Counters of the links would count neighbour discovery as well.
type capture struct {
	socket *os.File
	ports  map[int]port
	done   chan struct{}

	mu   sync.Mutex
	seen []sighting
}

// startCapture opens the capture in the router.
func (l *Lab) startCapture() (*capture, error) {
	c := &capture{ports: l.ports, done: make(chan struct{})}
	err := l.Router.Do(func() error {
		// A socket bound to no link hears all of them, bridged ones too.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(networkOrder(unix.ETH_P_ALL)))
		if err != nil {
			return fmt.Errorf("packet socket: %w", err)
		}
		c.socket = os.NewFile(uintptr(fd), "packet socket")
		return nil
	})
	if err != nil {
		return nil, err
	}
	go c.run()
	return c, nil
}

// networkOrder returns the number whose bytes in memory are v's in network
// order.
func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

func (c *capture) run() {
	defer close(c.done)
	conn, err := c.socket.SyscallConn()
	if err != nil {
		return
	}
	frame := make([]byte, 256) // more than the longest headers
	for {
		var n int
		var from unix.Sockaddr
		var recvErr error
		err := conn.Read(func(fd uintptr) bool {
			n, from, recvErr = unix.Recvfrom(int(fd), frame, 0)
			return !errors.Is(recvErr, unix.EAGAIN)
		})
		if err != nil {
			return // closed
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if recvErr != nil || !ok || link.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		port, ok := c.ports[link.Ifindex]
		if !ok {
			continue
		}
		if s, ok := parseFrame(frame[:n]); ok {
			s.port = port
			c.mu.Lock()
			c.seen = append(c.seen, s)
			c.mu.Unlock()
		}
	}
}

// close ends the capture.
func (c *capture) close() {
	c.socket.Close()
	<-c.done
}

// find returns the first packet for which match is true.
func (c *capture) find(match func(sighting) bool) (sighting, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.seen, match)
	if i < 0 {
		return sighting{}, false
	}
	return c.seen[i], true
}

// wait waits for a packet for which match is true.
func (c *capture) wait(ctx context.Context, match func(sighting) bool) (sighting, bool) {
	var s sighting
	err := Poll(ctx, func() (bool, string) {
		var ok bool
		s, ok = c.find(match)
		return ok, "no packet"
	})
	return s, err == nil
}

const ethernetHeader = 14

// parseFrame reads the addresses and ports of a TCP or UDP packet. Extension
// headers of IPv6 are not expected here.
func parseFrame(frame []byte) (sighting, bool) {
	if len(frame) < ethernetHeader {
		return sighting{}, false
	}
	var s sighting
	var src, dst netip.Addr
	packet := frame[ethernetHeader:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		if len(packet) < 20 {
			return sighting{}, false
		}
		s.proto = int(packet[9])
		src, dst = netip.AddrFrom4([4]byte(packet[12:16])), netip.AddrFrom4([4]byte(packet[16:20]))
		header := int(packet[0]&0xf) * 4
		if len(packet) < header {
			return sighting{}, false
		}
		packet = packet[header:]
	case unix.ETH_P_IPV6:
		if len(packet) < 40 {
			return sighting{}, false
		}
		s.proto = int(packet[6])
		src, dst = netip.AddrFrom16([16]byte(packet[8:24])), netip.AddrFrom16([16]byte(packet[24:40]))
		packet = packet[40:]
	default:
		return sighting{}, false
	}
	if s.proto != unix.IPPROTO_TCP && s.proto != unix.IPPROTO_UDP || len(packet) < 4 {
		return sighting{}, false
	}
	s.src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(packet))
	s.dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(packet[2:]))
	return s, true
}
