package probe

import (
	"bytes"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// TestEcho has a request as it stands on the wire, and what answers it and what does not.
func TestEcho(t *testing.T) {
	request := echoRequest(fib.Inet, 0x1234, 0x0001)
	want := append([]byte{8, 0, 0, 0, 0x12, 0x34, 0, 1}, echoData...)
	copy(want[2:4], request[2:4])
	// RFC 1071: the sum over all, the checksum among it, is 0xffff.
	if !bytes.Equal(request, want) || checksum(request) != 0 || request[2] == 0 && request[3] == 0 {
		t.Errorf("% x", request)
	}
	if six := echoRequest(fib.Inet6, 0x1234, 1); six[0] != 128 || six[2] != 0 || six[3] != 0 {
		t.Errorf("% x", six)
	}
	reply := bytes.Clone(request)
	reply[0] = 0
	for _, tt := range []struct {
		what string
		b    []byte
		want bool
	}{
		{"the reply", reply, true},
		{"the request itself, which a raw socket may see", request, false},
		{"nothing", nil, false},
		{"a part of it", reply[:7], false},
		{"without the data", reply[:8], true},
		{"another's number", append([]byte{0, 0, 0, 0, 0x12, 0x35, 0, 1}, echoData...), false},
		{"an earlier one's", append([]byte{0, 0, 0, 0, 0x12, 0x34, 0, 0}, echoData...), false},
		{"a refusal that has it inside", append([]byte{3, 1, 0, 0, 0, 0, 0, 0}, reply...), false},
	} {
		if isEchoReply(fib.Inet, tt.b, 0x1234, 1) != tt.want {
			t.Errorf("%s: % x", tt.what, tt.b)
		}
	}
}

// FuzzEchoReply wants any bytes to be no answer, but those of one.
func FuzzEchoReply(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 1, 0, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		if isEchoReply(fib.Inet, b, 1, 2) && (len(b) < 8 || b[0] != 0 || b[1] != 0) {
			t.Errorf("% x", b)
		}
	})
}
