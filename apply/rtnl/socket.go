package rtnl

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// socket is a netlink socket for requests. It is not safe for concurrent use.
type socket struct {
	fd  int
	seq uint32
	buf []byte

	// burst is how many requests may be sent before their answers are read. The kernel drops
	// answers that find no room, and the reader would wait for them for ever.
	burst int
}

const (
	// receiveBuffer has room for the answers to a burst if all are errors: about a kilobyte each,
	// with the kernel's own bookkeeping.
	receiveBuffer = 4 << 20
	forcedBurst   = 1024
	safeBurst     = 128 // what the default buffer of 208 KiB holds
)

func dial() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	s := &socket{fd: fd, buf: make([]byte, 64<<10), burst: safeBurst}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	// Each of these only makes things better where the kernel has it: messages in
	// words (4.12), no echo of the request in an answer (4.3), dumps that are filtered
	// in the kernel (4.20).
	for _, opt := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK, unix.NETLINK_GET_STRICT_CHK} {
		_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, opt, 1)
	}
	// Beyond the system's limit only with CAP_NET_ADMIN.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) == nil &&
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, receiveBuffer) == nil {
		s.burst = forcedBurst
	}
	return s, nil
}

func (s *socket) close() { unix.Close(s.fd) }

// next returns a new sequence number.
func (s *socket) next() uint32 {
	s.seq++
	return s.seq
}

func (s *socket) send(b []byte) error {
	for {
		err := unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err != unix.EINTR {
			return err
		}
	}
}

// receive reads once and calls f with each message that came from the kernel.
func (s *socket) receive(f func(message) error) error {
	for {
		n, from, err := unix.Recvfrom(s.fd, s.buf, unix.MSG_TRUNC)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n > len(s.buf):
			// Only the answer to a single get could be that long, and none is.
			return fmt.Errorf("netlink message of %d bytes: %w", n, errMalformed)
		}
		if nl, ok := from.(*unix.SockaddrNetlink); !ok || nl.Pid != 0 {
			continue // another process can send to us as well
		}
		return eachMessage(s.buf[:n], f)
	}
}

// refusal is the kernel's answer to a request that it refuses.
type refusal struct {
	errno unix.Errno
	text  string // in words, where the kernel has some
}

// Error returns the kernel's message, or else the meaning of the errno.
func (r *refusal) Error() string {
	if r.text != "" {
		return r.text
	}
	return r.errno.Error()
}

// Unwrap gives the errno, for errors.Is.
func (r *refusal) Unwrap() error { return r.errno }

// parseAnswer reads an NLMSG_ERROR: nil for an acknowledgement, else a refusal.
func parseAnswer(m message) error {
	code, err := get32(m.payload)
	if err != nil {
		return err
	}
	if code == 0 {
		return nil
	}
	r := &refusal{errno: unix.Errno(-int32(code))}
	// The answer contains the request's header, and without NETLINK_CAP_ACK all of the request.
	at := 4 + headerLen
	if m.flags&unix.NLM_F_CAPPED == 0 && len(m.payload) >= at {
		at = 4 + align(int(native.Uint32(m.payload[4:])))
	}
	if m.flags&unix.NLM_F_ACK_TLVS != 0 && at >= 0 && at <= len(m.payload) {
		for a := (attributes{rest: m.payload[at:]}); a.next(); {
			if a.typ == unix.NLMSGERR_ATTR_MSG {
				r.text = getString(a.value)
			}
		}
	}
	return r
}

// ErrDumpInterrupted is returned where the state kept changing while it was read.
var ErrDumpInterrupted = errors.New("the kernel's state kept changing while it was read: run this again")

// dumpTries bounds how often an interrupted dump is restarted. At boot one address that passes
// duplicate address detection is enough to interrupt it.
const dumpTries = 10

// dump sends a dump request and calls f with the payload of each message of the answer. Where the
// dump is interrupted, it calls reset and starts again.
func (s *socket) dump(typ uint16, body []byte, reset func(), f func(payload []byte) error) error {
	for range dumpTries {
		reset()
		interrupted, err := s.dumpOnce(typ, body, f)
		if !interrupted {
			return err
		}
	}
	return ErrDumpInterrupted
}

func (s *socket) dumpOnce(typ uint16, body []byte, f func(payload []byte) error) (interrupted bool, err error) {
	seq := s.next()
	var e encoder
	e.begin(typ, unix.NLM_F_DUMP, seq)
	e.bytes(body...)
	e.end()
	if err := s.send(e.b); err != nil {
		return false, err
	}
	var failed error
	for done := false; !done; {
		err := s.receive(func(m message) error {
			if m.seq != seq {
				return nil
			}
			interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
			switch m.typ {
			case unix.NLMSG_DONE:
				done = true
				if code, err := get32(m.payload); err == nil && int32(code) < 0 && failed == nil {
					failed = unix.Errno(-int32(code))
				}
			case unix.NLMSG_ERROR:
				done = true
				failed = parseAnswer(m)
			default:
				if failed == nil {
					failed = f(m.payload)
				}
			}
			return nil
		})
		if err != nil {
			return false, err
		}
	}
	return interrupted && failed == nil, failed
}

// push is append for dumps, whose size is not known in advance. It doubles a long list, where
// append would grow it by a quarter and copy tens of thousands of routes again and again.
func push[T any](list []T, v T) []T {
	if len(list) == cap(list) {
		list = slices.Grow(list, max(16, len(list)))
	}
	return append(list, v)
}

// join is append for lists that are long and often the only one: then it copies nothing.
func join[T any](list, more []T) []T {
	if len(list) == 0 {
		return more
	}
	return append(list, more...)
}

// get sends a request that has one answer, and calls f with its payload.
func (s *socket) get(typ uint16, body []byte, f func(payload []byte) error) error {
	seq := s.next()
	var e encoder
	e.begin(typ, 0, seq)
	e.bytes(body...)
	e.end()
	if err := s.send(e.b); err != nil {
		return err
	}
	for answered := false; !answered; {
		err := s.receive(func(m message) error {
			if m.seq != seq {
				return nil
			}
			answered = true
			if m.typ == unix.NLMSG_ERROR {
				return parseAnswer(m)
			}
			return f(m.payload)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
