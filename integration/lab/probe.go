package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Answer says whether the client was answered by one of the host's addresses.
type Answer struct {
	// Addr is the address that was asked.
	Addr netip.Addr
	// Answered is true if the client got its own words back in time.
	Answered bool
	// Card is the card that the host's answer left by, "" if it sent none.
	// There can be one without the client having been answered: that is how
	// the wrong card shows.
	Card string
	// Err says why the client was not answered.
	Err error
	// Took is the time until the answer, or until the client gave up.
	Took time.Duration
}

// String returns the answer as a sentence.
func (a Answer) String() string {
	leaving := "no answer left the host"
	if a.Card != "" {
		leaving = "the answer left by " + a.Card
	}
	if a.Answered {
		return fmt.Sprintf("%s: answered, %s", a.Addr, leaving)
	}
	return fmt.Sprintf("%s: not answered, %s: %v", a.Addr, leaving, a.Err)
}

// TCPEcho connects from the client to each of the host's addresses, where a
// server listens on the wildcard address, and waits for an echo until timeout.
// The answers are in the order of the addresses. An error is that the lab
// could not ask, not that it was not answered.
func (l *Lab) TCPEcho(ctx context.Context, timeout time.Duration, addrs ...netip.Addr) ([]Answer, error) {
	return l.echo(ctx, unix.IPPROTO_TCP, timeout, addrs)
}

// UDPEcho is TCPEcho with datagrams. They are sent once, not again.
func (l *Lab) UDPEcho(ctx context.Context, timeout time.Duration, addrs ...netip.Addr) ([]Answer, error) {
	return l.echo(ctx, unix.IPPROTO_UDP, timeout, addrs)
}

// parallel is how many addresses are asked at a time.
const parallel = 32

func (l *Lab) echo(ctx context.Context, proto int, timeout time.Duration, addrs []netip.Addr) ([]Answer, error) {
	if err := l.settle(ctx); err != nil {
		return nil, err
	}
	server, err := l.Host.startEcho()
	if err != nil {
		return nil, err
	}
	defer server.close()
	capture, err := l.startCapture()
	if err != nil {
		return nil, err
	}
	defer capture.close()

	network, port := "tcp", server.tcpPort()
	if proto == unix.IPPROTO_UDP {
		network, port = "udp", server.udpPort()
	}
	answers := make([]Answer, len(addrs))
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for i, addr := range addrs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			a := Answer{Addr: addr}
			start := time.Now()
			a.Err = l.ask(ctx, network, netip.AddrPortFrom(addr, port))
			a.Took = time.Since(start)
			a.Answered = a.Err == nil
			answers[i] = a
		})
	}
	wg.Wait()
	for i := range answers {
		from := netip.AddrPortFrom(addrs[i], port)
		match := func(s sighting) bool { return s.proto == proto && s.src == from }
		s, ok := capture.find(match)
		if !ok && answers[i].Answered {
			// The client was faster than the reader of the capture.
			short, cancel := context.WithTimeout(ctx, time.Second)
			s, _ = capture.wait(short, match)
			cancel()
		}
		answers[i].Card = s.port.card
	}
	return answers, ctx.Err()
}

// ask sends a token to an address from the client and waits for it to return.
func (l *Lab) ask(ctx context.Context, network string, to netip.AddrPort) error {
	var conn net.Conn
	err := l.Client.Do(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, to.String())
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	token := []byte(rand.Text())
	if _, err := conn.Write(token); err != nil {
		return err
	}
	back := make([]byte, len(token))
	if _, err := io.ReadFull(conn, back); err != nil {
		return err
	}
	if !bytes.Equal(token, back) {
		return fmt.Errorf("got %q back for %q", back, token)
	}
	return nil
}

// Flow describes the packets of [Lab.LeavesBy]. The zero value of a member
// leaves it to the kernel.
type Flow struct {
	// Source is the address that the host sends from.
	Source netip.AddrPort
	// Destination is where it sends to: by default the client's address of
	// Source's family, IPv4 if there is no Source.
	Destination netip.Addr
	// Mark is the packets' firewall mark.
	Mark uint32
	// TOS is the type of service, or the traffic class in IPv6.
	TOS uint8
	// UID is the user that sends.
	UID int
}

// Departure says which way a packet went.
type Departure struct {
	// Card is the host's card that the packet left by, "" if it left by none.
	Card string
	// Provider is the number, from 1, of the provider that got it.
	Provider int
	// Source is the source of the packet as it left the host.
	Source netip.Addr
	// Arrived is true if the client got the packet: the provider let it pass.
	Arrived bool
	// Seen is the source as the client saw it, if it arrived.
	Seen netip.AddrPort
	// Err is why the host could not send: no route, for example.
	Err error
}

// String returns the departure as a sentence.
func (d Departure) String() string {
	switch {
	case d.Err != nil:
		return fmt.Sprintf("not sent: %v", d.Err)
	case d.Card == "":
		return "left by no card"
	case !d.Arrived:
		return fmt.Sprintf("left by %s from %s, dropped by provider %d", d.Card, d.Source, d.Provider)
	}
	return fmt.Sprintf("left by %s from %s, arrived", d.Card, d.Source)
}

// LeavesBy sends one UDP packet from the host to the client and says which
// card it left by and whether it arrived before timeout. An error is that the
// lab could not try; that the host had no way to send is in the Departure.
func (l *Lab) LeavesBy(ctx context.Context, timeout time.Duration, flow Flow) (Departure, error) {
	if !flow.Destination.IsValid() {
		flow.Destination = l.ClientAddr(flow.Source.Addr().Is6())
	}
	if err := l.settle(ctx); err != nil {
		return Departure{}, err
	}
	var receiver *net.UDPConn
	err := l.Client.Do(func() (err error) {
		receiver, err = net.ListenUDP("udp", nil)
		return err
	})
	if err != nil {
		return Departure{}, fmt.Errorf("receiver: %w", err)
	}
	defer receiver.Close()
	capture, err := l.startCapture()
	if err != nil {
		return Departure{}, err
	}
	defer capture.close()

	token := []byte(rand.Text())
	to := netip.AddrPortFrom(flow.Destination, uint16(receiver.LocalAddr().(*net.UDPAddr).Port))
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var d Departure
	if d.Err = l.send(flow, to, token); d.Err != nil {
		return d, nil
	}
	s, ok := capture.wait(ctx, func(s sighting) bool { return s.proto == unix.IPPROTO_UDP && s.dst == to })
	if !ok {
		return d, nil
	}
	d.Card, d.Provider, d.Source = s.port.card, s.port.provider, s.src.Addr()
	d.Seen, d.Arrived, err = receive(ctx, receiver, token)
	return d, err
}

// send sends the token from the host.
func (l *Lab) send(flow Flow, to netip.AddrPort, token []byte) error {
	return l.Host.Do(func() error {
		dialer := net.Dialer{Control: flow.control}
		if flow.Source.IsValid() {
			dialer.LocalAddr = net.UDPAddrFromAddrPort(flow.Source)
		}
		conn, err := dialer.Dial("udp", to.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write(token)
		return err
	})
}

// control sets what a flow asks for on its socket.
func (f Flow) control(network, _ string, raw syscall.RawConn) error {
	var sockErr error
	err := raw.Control(func(fd uintptr) {
		if f.Mark != 0 {
			sockErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(f.Mark))
		}
		if f.TOS != 0 && sockErr == nil {
			level, option := unix.IPPROTO_IP, unix.IP_TOS
			if network == "udp6" {
				level, option = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
			}
			sockErr = unix.SetsockoptInt(int(fd), level, option, int(f.TOS))
		}
		if f.UID != 0 && sockErr == nil {
			// The kernel takes a packet's user from its socket.
			sockErr = unix.Fchown(int(fd), f.UID, -1)
		}
	})
	return errors.Join(err, sockErr)
}

// receive waits for the token and says where it came from.
func receive(ctx context.Context, c *net.UDPConn, token []byte) (netip.AddrPort, bool, error) {
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetReadDeadline(deadline); err != nil {
			return netip.AddrPort{}, false, err
		}
	}
	data := make([]byte, 2048)
	for {
		n, from, err := c.ReadFromUDPAddrPort(data)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return netip.AddrPort{}, false, nil
		}
		if err != nil {
			return netip.AddrPort{}, false, err
		}
		if bytes.Equal(data[:n], token) {
			return netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), true, nil
		}
	}
}
