package probe

import (
	"encoding/binary"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// echo numbers of RFC 792 and RFC 4443.
var (
	echoRequestType = map[fib.Family]byte{fib.Inet: 8, fib.Inet6: 128}
	echoReplyType   = map[fib.Family]byte{fib.Inet: 0, fib.Inet6: 129}
)

// echoData comes back as it was sent.
var echoData = []byte("uplink-generator")

// echoRequest returns an ICMP echo request. It computes the checksum for IPv4 only: that of
// ICMPv6 covers the addresses, and the kernel adds it on a raw socket (RFC 3542, section 3.1).
func echoRequest(f fib.Family, id, seq uint16) []byte {
	b := append([]byte{echoRequestType[f], 0, 0, 0, byte(id >> 8), byte(id), byte(seq >> 8), byte(seq)}, echoData...)
	if f == fib.Inet {
		binary.BigEndian.PutUint16(b[2:], checksum(b))
	}
	return b
}

// isEchoReply says whether an ICMP message answers that request. It does not compare the data:
// some hosts return less of it.
func isEchoReply(f fib.Family, b []byte, id, seq uint16) bool {
	return len(b) >= 8 && b[0] == echoReplyType[f] && b[1] == 0 &&
		binary.BigEndian.Uint16(b[4:]) == id && binary.BigEndian.Uint16(b[6:]) == seq
}

// checksum is that of RFC 1071, of an even number of bytes.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
