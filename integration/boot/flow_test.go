package boot_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// flow is a stream of numbered packets from one of the host's addresses to the client, by a
// socket that has a source and nothing else, as a server's.
type flow struct {
	sender   net.PacketConn
	receiver *net.UDPConn
	to       net.Addr
	sent     int
	refused  int   // of sent: the kernel had no way
	err      error // of the first of these
	received atomic.Int64
	stop     chan struct{}
	stopped  chan struct{}
}

// flows starts a flow from each of the host's addresses that is given.
func (h *host) flows(sources ...netip.Addr) (all []*flow) {
	h.t.Helper()
	for _, source := range sources {
		f, err := h.newFlow(source)
		if err != nil {
			h.t.Fatal(err)
		}
		h.t.Cleanup(func() { f.sender.Close(); f.receiver.Close() })
		go f.receive()
		go f.send()
		all = append(all, f)
	}
	return all
}

func (h *host) newFlow(from netip.Addr) (*flow, error) {
	f := &flow{stop: make(chan struct{}), stopped: make(chan struct{})}
	err := h.lab.Client.Do(func() (err error) {
		f.receiver, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.lab.ClientAddr(from.Is6()), 0)))
		return err
	})
	if err != nil {
		return nil, err
	}
	f.to = f.receiver.LocalAddr()
	raw, err := f.receiver.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.receiver.Close())
	}
	// A receiver that is late to read loses nothing.
	const room = 64 << 20
	err = errors.Join(raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) }), err)
	if err == nil {
		err = h.lab.Host.Do(func() (err error) {
			f.sender, err = net.ListenPacket("udp", netip.AddrPortFrom(from, 0).String())
			return err
		})
	}
	if err != nil {
		return nil, errors.Join(err, f.receiver.Close())
	}
	return f, nil
}

// flowInterval is the time between two packets: short enough to see a loss between two changes of
// the kernel's state, and the machine has a core for itself.
const flowInterval = 500 * time.Microsecond

// send sends until it is told to stop.
func (f *flow) send() {
	defer close(f.stopped)
	tick := time.NewTicker(flowInterval)
	defer tick.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-tick.C:
		}
		f.sent++
		if _, err := f.sender.WriteTo([]byte("a packet"), f.to); err != nil {
			f.refused++
			if f.err == nil {
				f.err = err
			}
		}
	}
}

func (f *flow) receive() {
	b := make([]byte, 100)
	for {
		if _, _, err := f.receiver.ReadFrom(b); err != nil {
			return
		}
		f.received.Add(1)
	}
}

// end ends the flow and returns how many packets were sent, and how many of them did not arrive.
func (f *flow) end() (sent, lost int) {
	close(f.stop)
	<-f.stopped
	const wait, step = 200, 10 * time.Millisecond
	for range wait {
		if int(f.received.Load()) == f.sent-f.refused {
			break
		}
		time.Sleep(step)
	}
	return f.sent, f.sent - int(f.received.Load())
}

// unbroken ends flows, none of which may have lost anything.
func (h *host) unbroken(what string, flows []*flow) {
	h.t.Helper()
	const fewest = 50
	for _, f := range flows {
		sent, lost := f.end()
		if lost > 0 || sent < fewest {
			h.t.Error(f.report(what, sent, lost))
			continue
		}
		h.t.Log(f.report(what, sent, lost))
	}
}

// measured ends flows and reports what they have lost.
func (h *host) measured(what string, flows []*flow) {
	h.t.Helper()
	for _, f := range flows {
		sent, lost := f.end()
		h.t.Log(f.report(what, sent, lost))
	}
}

func (f *flow) report(what string, sent, lost int) string {
	return fmt.Sprintf("%s: from %v %d packets were sent, and %d lost; %d had no way: %v", what, f.sender.LocalAddr(), sent, lost, f.refused, f.err)
}
