package rtnl

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// What the tests reach into.
var (
	DecodeRule    = decodeRule
	DecodeRoute   = decodeRoute
	DecodeAddress = decodeAddress
	DecodeLink    = decodeLink
	ErrMalformed  = errMalformed
)

// HeaderLen is the length of a message's header.
const HeaderLen = headerLen

// EncodeRule returns the payload of a request.
func EncodeRule(r *fib.Rule) []byte {
	var e encoder
	e.encodeRule(r, fib.Protocol)
	return e.b
}

// EncodeRoute returns the payload of a request.
func EncodeRoute(r *fib.Route, index func(string) uint32) []byte {
	var e encoder
	e.encodeRoute(r, fib.Protocol, false, index)
	return e.b
}

// EncodeAddress returns the payload of a request.
func EncodeAddress(a *fib.Address, index func(string) uint32) []byte {
	var e encoder
	e.encodeAddress(a, false, index)
	return e.b
}

// EncodeText returns an attribute with a string.
func EncodeText(typ uint16, s string) []byte {
	var e encoder
	e.attrString(typ, s)
	return e.b
}

// ParseAnswer reads an NLMSG_ERROR.
func ParseAnswer(flags uint16, payload []byte) error {
	return parseAnswer(message{flags: flags, payload: payload})
}

// EachMessage calls f with type, flags and payload of every message in b.
func EachMessage(b []byte, f func(typ, flags uint16, payload []byte)) error {
	return eachMessage(b, func(m message) error {
		f(m.typ, m.flags, m.payload)
		return nil
	})
}

// Dump returns the payloads of the answer to a dump request.
func (k *Kernel) Dump(typ uint16, body []byte) (payloads [][]byte, err error) {
	err = k.socket.dump(typ, body, func() { payloads = nil }, func(b []byte) error {
		payloads = append(payloads, append([]byte(nil), b...))
		return nil
	})
	return payloads, err
}

// SetBuffer sets the size of the socket's buffer, in bytes; the kernel has a least one.
func (m *Monitor) SetBuffer(size int) error {
	raw, err := m.file.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size) })
	return errors.Join(err, set)
}

// WithoutRules is what is said of a family whose rules cannot be read.
func (k *Kernel) WithoutRules(f fib.Family, err error) error { return k.withoutRules(f, err) }
