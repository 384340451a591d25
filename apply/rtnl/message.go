package rtnl

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Netlink's own layout is in include/uapi/linux/netlink.h, that of the payloads in
// rtnetlink.h, fib_rules.h and if_addr.h beside it. All numbers are in the
// machine's byte order, and headers and attributes are aligned to four bytes.

var native = binary.NativeEndian

const (
	headerLen = unix.SizeofNlMsghdr
	attrLen   = unix.SizeofRtAttr
)

func align(n int) int { return (n + 3) &^ 3 }

// encoder builds messages one after the other in one buffer.
type encoder struct {
	b     []byte
	start int // of the message that is being built
}

// begin starts a message; its payload follows, then end.
func (e *encoder) begin(typ uint16, flags uint16, seq uint32) {
	e.start = len(e.b)
	e.b = append(e.b, make([]byte, headerLen)...)
	h := e.b[e.start:]
	native.PutUint16(h[4:], typ)
	native.PutUint16(h[6:], flags|unix.NLM_F_REQUEST)
	native.PutUint32(h[8:], seq)
}

// end writes the message's length into its header.
func (e *encoder) end() { native.PutUint32(e.b[e.start:], uint32(len(e.b)-e.start)) }

func (e *encoder) bytes(b ...byte) { e.b = append(e.b, b...) }
func (e *encoder) u32(v uint32)    { e.b = native.AppendUint32(e.b, v) }

// attr adds an attribute.
func (e *encoder) attr(typ uint16, value []byte) {
	e.b = native.AppendUint16(e.b, uint16(attrLen+len(value)))
	e.b = native.AppendUint16(e.b, typ)
	e.b = append(e.b, value...)
	for len(e.b)&3 != 0 {
		e.b = append(e.b, 0)
	}
}

// attrAddr adds an address.
func (e *encoder) attrAddr(typ uint16, a netip.Addr) {
	if a.Is4() {
		b := a.As4()
		e.attr(typ, b[:])
	} else {
		b := a.As16()
		e.attr(typ, b[:])
	}
}

func (e *encoder) attr8(typ uint16, v uint8) { e.attr(typ, []byte{v}) }

func (e *encoder) attr32(typ uint16, v uint32) {
	e.b = native.AppendUint16(e.b, attrLen+4)
	e.b = native.AppendUint16(e.b, typ)
	e.u32(v)
}

// attrString adds a string with the zero byte that the kernel wants at its end.
func (e *encoder) attrString(typ uint16, s string) { e.attr(typ, append([]byte(s), 0)) }

// nest starts an attribute that holds others; unnest ends it.
func (e *encoder) nest(typ uint16) (at int) {
	at = len(e.b)
	e.b = native.AppendUint16(e.b, 0)
	e.b = native.AppendUint16(e.b, typ)
	return at
}

func (e *encoder) unnest(at int) { native.PutUint16(e.b[at:], uint16(len(e.b)-at)) }

// errMalformed is returned for what no kernel sends.
var errMalformed = errors.New("malformed netlink message")

// message is one received message.
type message struct {
	typ, flags uint16
	seq        uint32
	pid        uint32 // of a notification: the port of the socket that asked for the change
	payload    []byte
}

// eachMessage calls f with every message in b.
func eachMessage(b []byte, f func(message) error) error {
	for len(b) > 0 {
		if len(b) < headerLen {
			return errMalformed
		}
		n := int(native.Uint32(b))
		if n < headerLen || n > len(b) {
			return errMalformed
		}
		m := message{native.Uint16(b[4:]), native.Uint16(b[6:]), native.Uint32(b[8:]), native.Uint32(b[12:]), b[headerLen:n]}
		if err := f(m); err != nil {
			return err
		}
		b = b[min(align(n), len(b)):]
	}
	return nil
}

// attributes walks the attributes in b: for a := attributes(b); a.next(); { … }.
// After the loop, err says whether b was malformed.
type attributes struct {
	rest  []byte
	typ   uint16
	value []byte
	err   error
}

func (a *attributes) next() bool {
	if len(a.rest) < attrLen || a.err != nil {
		return false
	}
	n := int(native.Uint16(a.rest))
	if n < attrLen || n > len(a.rest) {
		a.err = errMalformed
		return false
	}
	// The two upper bits are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
	a.typ, a.value = native.Uint16(a.rest[2:])&0x3fff, a.rest[attrLen:n]
	a.rest = a.rest[min(align(n), len(a.rest)):]
	return true
}

func get8(b []byte) (uint8, error) {
	if len(b) < 1 {
		return 0, errMalformed
	}
	return b[0], nil
}

func get16(b []byte) (uint16, error) {
	if len(b) < 2 {
		return 0, errMalformed
	}
	return native.Uint16(b), nil
}

func get32(b []byte) (uint32, error) {
	if len(b) < 4 {
		return 0, errMalformed
	}
	return native.Uint32(b), nil
}

func getString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
