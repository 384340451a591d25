package rtnl_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/apply/rtnl"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// The seeds below testdata/fuzz are the answers of Linux 6.18 to dumps of a host with routes,
// rules and addresses of all kinds, ours and others'. They are decoded in the machine's byte
// order, so they mean something only on a little-endian one.

func nameOf(index uint32) string { return fmt.Sprintf("if%d", index) }

func indexOf(name string) (i uint32) {
	fmt.Sscanf(name, "if%d", &i)
	return i
}

// FuzzDecodeRule checks that arbitrary bytes are accepted or refused, and that what is accepted
// survives being written and read again.
func FuzzDecodeRule(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := rtnl.DecodeRule(b)
		if err != nil || r.Family != fib.Inet && r.Family != fib.Inet6 {
			return
		}
		again, err := rtnl.DecodeRule(rtnl.EncodeRule(&r.Rule))
		if err != nil {
			t.Fatalf("%+v cannot be read again: %v", r, err)
		}
		if want := expressible(r.Rule); again.Compare(&want) != 0 {
			t.Fatalf("%+v came back as\n%+v", r.Rule, again.Rule)
		}
	})
}

// expressible removes from a rule what no State has, and a request cannot express.
func expressible(r fib.Rule) fib.Rule {
	if r.SPort.Hi == 0 {
		r.SPort = fib.Range[uint16]{}
	}
	if r.DPort.Hi == 0 {
		r.DPort = fib.Range[uint16]{}
	}
	return r
}

// FuzzDecodeRoute is FuzzDecodeRule for routes.
func FuzzDecodeRoute(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := rtnl.DecodeRoute(b, nameOf)
		if err != nil || r.Family != fib.Inet && r.Family != fib.Inet6 {
			return
		}
		for i, n := range r.Nexthops {
			if n.Via.IsValid() && fib.FamilyOf(n.Via) != r.Family {
				return // RTA_VIA: a State has none
			}
			if len(r.Nexthops) == 1 {
				r.Nexthops[i].Weight = 0
			}
		}
		again, err := rtnl.DecodeRoute(rtnl.EncodeRoute(&r.Route, indexOf), nameOf)
		if err != nil {
			t.Fatalf("%+v cannot be read again: %v", r, err)
		}
		if again.Compare(&r.Route) != 0 {
			t.Fatalf("%+v came back as\n%+v", r.Route, again.Route)
		}
	})
}

// FuzzDecodeAddress wants any bytes to be taken or refused.
func FuzzDecodeAddress(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := rtnl.DecodeAddress(b, nameOf)
		if err != nil || !a.Prefix.IsValid() {
			return
		}
		again, err := rtnl.DecodeAddress(rtnl.EncodeAddress(&a.Address, indexOf), nameOf)
		if err != nil || again.Address != a.Address || !again.Ours {
			t.Fatalf("%+v came back as\n%+v, %v", a, again, err)
		}
	})
}

// FuzzDecodeLink wants any bytes to be taken or refused.
func FuzzDecodeLink(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := rtnl.DecodeLink(b)
		if err == nil && len(l.MAC) > 3*len(b) {
			t.Fatalf("%+v of %d bytes", l, len(b))
		}
	})
}

// FuzzEachMessage checks that what is received is split without reading beyond its end, whatever
// lengths it claims, and that every byte is looked at once.
func FuzzEachMessage(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		read := 0
		_ = rtnl.EachMessage(b, func(typ, flags uint16, payload []byte) {
			read += rtnl.HeaderLen + len(payload)
			if typ == unix.NLMSG_ERROR {
				_ = rtnl.ParseAnswer(flags, payload)
			}
		})
		if read > len(b) {
			t.Fatalf("%d bytes read of %d", read, len(b))
		}
	})
}

// FuzzParseAnswer checks that any answer is an acknowledgement or an error with a text.
func FuzzParseAnswer(f *testing.F) {
	header := make([]byte, rtnl.HeaderLen)
	f.Add(uint16(0), append(make([]byte, 4), header...))
	f.Add(uint16(unix.NLM_F_CAPPED|unix.NLM_F_ACK_TLVS), append(append([]byte{0xea, 0xff, 0xff, 0xff}, header...), rtnl.EncodeText(unix.NLMSGERR_ATTR_MSG, "Nexthop has invalid gateway")...))
	f.Add(uint16(unix.NLM_F_ACK_TLVS), append([]byte{0xea, 0xff, 0xff, 0xff, 20, 0, 0, 0}, make([]byte, 40)...))
	f.Fuzz(func(t *testing.T, flags uint16, b []byte) {
		err := rtnl.ParseAnswer(flags, b)
		if acknowledged := len(b) >= 4 && binary.NativeEndian.Uint32(b) == 0; acknowledged != (err == nil) {
			t.Fatalf("%v for % x", err, b)
		}
		if err != nil && err.Error() == "" {
			t.Fatalf("an error without words for % x", b)
		}
	})
}

// FuzzRoundTrip writes random rules and routes and reads them back.
func FuzzRoundTrip(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := kerneltest.NewRandom(seed, "if2", "if3", "if4")
		rule := r.Rule()
		if again, err := rtnl.DecodeRule(rtnl.EncodeRule(&rule)); err != nil || again.Rule != rule || !again.Ours() {
			t.Errorf("%+v came back as\n%+v, %v", rule, again, err)
		}
		route := r.Route()
		route.Link = ""
		if again, err := rtnl.DecodeRoute(rtnl.EncodeRoute(&route, indexOf), nameOf); err != nil || fmt.Sprintf("%+v", again.Route) != fmt.Sprintf("%+v", route) || !again.Ours() {
			t.Errorf("%+v came back as\n%+v, %v", route, again, err)
		}
	})
}

// TestParseAnswer reads answers with and without the request that they are for.
func TestParseAnswer(t *testing.T) {
	text := func(s string) []byte {
		return rtnl.EncodeText(unix.NLMSGERR_ATTR_MSG, s)
	}
	header := func(length int) []byte {
		return binary.NativeEndian.AppendUint32(nil, uint32(length))
	}
	answer := func(errno int32, parts ...[]byte) []byte {
		return append(binary.NativeEndian.AppendUint32(nil, uint32(-errno)), bytes.Join(parts, nil)...)
	}
	rest := make([]byte, rtnl.HeaderLen-4)
	request := make([]byte, 40)
	for _, c := range []struct {
		name    string
		flags   uint16
		payload []byte
		want    string
	}{
		{"an acknowledgement", 0, answer(0, header(rtnl.HeaderLen), rest), ""},
		{"a bare errno", 0, answer(17, header(rtnl.HeaderLen), rest), "file exists"},
		{"words behind the header alone", unix.NLM_F_CAPPED | unix.NLM_F_ACK_TLVS, answer(22, header(rtnl.HeaderLen+40), rest, text("no way")), "no way"},
		{"words behind the whole request", unix.NLM_F_ACK_TLVS, answer(22, header(rtnl.HeaderLen+40), rest, request, text("no way")), "no way"},
		{"a request that is longer than the answer", unix.NLM_F_ACK_TLVS, answer(22, header(1<<31-1), rest), "invalid argument"},
		{"nothing", 0, nil, rtnl.ErrMalformed.Error()},
	} {
		err := rtnl.ParseAnswer(c.flags, c.payload)
		if got := fmt.Sprint(err); got != c.want && (err != nil || c.want != "") {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestBroadcast wants the last address of a subnet.
func TestBroadcast(t *testing.T) {
	for prefix, want := range map[string]string{"192.0.2.10/24": "192.0.2.255", "10.0.0.1/8": "10.255.255.255", "100.64.0.1/30": "100.64.0.3", "0.0.0.1/0": "255.255.255.255"} {
		if got := fib.BroadcastOf(netip.MustParsePrefix(prefix)); got.String() != want {
			t.Errorf("%s: %s, want %s", prefix, got, want)
		}
	}
}
