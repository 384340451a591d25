package rtnl_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply/rtnl"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// onTheWire is what is sent, one attribute a line, on a machine of each byte order: what the
// kernel takes as a number is reversed, everything else (addresses, names, single bytes) is the
// same. TestKernel proves against the kernel that the little-endian half is right.
var onTheWire = []struct {
	name        string
	encode      func() []byte
	decode      func([]byte) string
	little, big string
}{
	{
		name:   "a rule",
		encode: func() []byte { return rtnl.EncodeRule(&everyRule) },
		decode: func(b []byte) string { r, err := rtnl.DecodeRule(b); return fmt.Sprintf("%+v %v", r.Rule, err) },
		little: `02 20 18 10 00 00 00 01 02000000
			0500 1500 76000000
			0800 0600 04030201
			0800 0200 c0000200
			0800 0100 cb00710a
			0800 0f00 44332211
			0800 0a00 78563412
			0800 1000 fffffff0
			0900 0300 6574683100000000
			0500 1600 06000000
			0800 1700 2301 6745
			0800 1800 bb01 bc01
			0c00 1400 e8030000 d0070000
			0800 0e00 08000000
			0800 0d00 02010000`,
		big: `02 20 18 10 00 00 00 01 00000002
			0005 0015 76000000
			0008 0006 01020304
			0008 0002 c0000200
			0008 0001 cb00710a
			0008 000f 11223344
			0008 000a 12345678
			0008 0010 f0ffffff
			0009 0003 6574683100000000
			0005 0016 06000000
			0008 0017 0123 4567
			0008 0018 01bb 01bc
			000c 0014 000003e8 000007d0
			0008 000e 00000008
			0008 000d 00000102`,
	},
	{
		name:   "a route of two ways",
		encode: func() []byte { return rtnl.EncodeRoute(&everyRoute, indexOf) },
		decode: func(b []byte) string {
			r, err := rtnl.DecodeRoute(b, nameOf)
			return fmt.Sprintf("%+v %v", r.Route, err)
		},
		little: `02 18 00 00 00 76 00 01 00000000
			0800 0100 cb007100
			0800 0f00 44332211
			0800 0600 04030201
			0800 0700 c000020a
			2400 0900
				1000 04 01 03020100 0800 0500 c0000201
				1000 00 00 04000000 0800 0500 c6336401
			1400 0800
				0800 0200 dc050000
				0800 0b00 0a000000`,
		big: `02 18 00 00 00 76 00 01 00000000
			0008 0001 cb007100
			0008 000f 11223344
			0008 0006 01020304
			0008 0007 c000020a
			0024 0009
				0010 04 01 00010203 0008 0005 c0000201
				0010 00 00 00000004 0008 0005 c6336401
			0014 0008
				0008 0002 000005dc
				0008 000b 0000000a`,
	},
	{
		name:   "an address",
		encode: func() []byte { return rtnl.EncodeAddress(&everyAddress, indexOf) },
		decode: func(b []byte) string {
			a, err := rtnl.DecodeAddress(b, nameOf)
			return fmt.Sprintf("%+v %v", a.Address, err)
		},
		little: `02 18 80 00 03020100
			0800 0200 c000020a
			0800 0100 c000020a
			0800 0400 c00002ff
			0500 0b00 76000000`,
		big: `02 18 80 00 00010203
			0008 0002 c000020a
			0008 0001 c000020a
			0008 0004 c00002ff
			0005 000b 76000000`,
	},
}

var (
	everyRule = fib.Rule{
		Family: fib.Inet, Priority: 0x01020304, Action: fib.Lookup, Table: 0x11223344, Not: true, TOS: 0x10,
		From: netip.MustParsePrefix("192.0.2.0/24"), To: netip.MustParsePrefix("203.0.113.10/32"),
		Mark: 0x12345678, Mask: 0xf0ffffff, IIF: "eth1", IPProto: 6,
		SPort: fib.Range[uint16]{Lo: 0x0123, Hi: 0x4567}, DPort: fib.Range[uint16]{Lo: 443, Hi: 444},
		UIDRange:             fib.Some(fib.Range[uint32]{Lo: 1000, Hi: 2000}),
		SuppressPrefixLength: fib.Some[uint32](8), SuppressIfGroup: fib.Some[uint32](0x102),
	}
	everyRoute = fib.Route{
		Family: fib.Inet, Type: fib.Unicast, Dst: netip.MustParsePrefix("203.0.113.0/24"), Table: 0x11223344, Metric: 0x01020304,
		Src: netip.MustParseAddr("192.0.2.10"), MTU: 1500, InitCwnd: 10,
		Nexthops: []fib.Nexthop{
			{Via: netip.MustParseAddr("192.0.2.1"), Link: nameOf(0x010203), OnLink: true, Weight: 2},
			{Via: netip.MustParseAddr("198.51.100.1"), Link: nameOf(4), Weight: 1},
		},
	}
	everyAddress = fib.Address{Link: nameOf(0x010203), Prefix: netip.MustParsePrefix("192.0.2.10/24")}
)

// TestByteOrder checks that each number is sent and read in the machine's own byte order, which a
// round trip alone would not show.
func TestByteOrder(t *testing.T) {
	big := binary.NativeEndian.Uint16([]byte{1, 2}) == 0x102
	for _, c := range onTheWire {
		text := c.little
		if big {
			text = c.big
		}
		want, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
		if err != nil {
			t.Fatal(err)
		}
		got := c.encode()
		if string(got) != string(want) {
			t.Errorf("%s (big-endian: %t) is\n%x\nwant\n%x", c.name, big, got, want)
		}
		if again := c.decode(want); again != c.decode(got) || !strings.HasSuffix(again, " <nil>") {
			t.Errorf("%s (big-endian: %t) is read as\n%s\nwant\n%s", c.name, big, again, c.decode(got))
		}
	}
	header := "14000000 1000 0500 78563412 00000000 aabbccdd"
	if big {
		header = "00000014 0010 0005 12345678 00000000 aabbccdd"
	}
	message, err := hex.DecodeString(strings.ReplaceAll(header, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	read := ""
	err = rtnl.EachMessage(message, func(typ, flags uint16, payload []byte) {
		read += fmt.Sprintf("%d %d %x", typ, flags, payload)
	})
	if want := "16 5 aabbccdd"; err != nil || read != want {
		t.Errorf("a message (big-endian: %t) is read as %q %v, want %q", big, read, err, want)
	}
}
