package apply

import (
	"net/netip"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// TestInside wants what is asked for to be in the subnet, and neither its own address nor
// the host's.
func TestInside(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ dst, src, want string }{
		{"192.0.2.0/24", "", "192.0.2.1"},
		{"192.0.2.0/24", "192.0.2.1", "192.0.2.2"},
		{"192.0.2.0/24", "192.0.2.10", "192.0.2.1"},
		{"192.0.2.4/30", "192.0.2.5", "192.0.2.6"},
		{"192.0.2.4/30", "192.0.2.6", "192.0.2.5"},
		{"192.0.2.4/31", "192.0.2.4", "192.0.2.5"},
		{"192.0.2.4/31", "192.0.2.5", "192.0.2.4"},
		{"192.0.2.4/32", "", "192.0.2.4"},
		{"2001:db8::/64", "2001:db8::1", "2001:db8::2"},
		{"2001:db8::/127", "2001:db8::", "2001:db8::1"},
	} {
		r := fib.Route{Dst: netip.MustParsePrefix(tt.dst)}
		if tt.src != "" {
			r.Src = netip.MustParseAddr(tt.src)
		}
		if got := inside(r); got.String() != tt.want {
			t.Errorf("%s from %s: %s, want %s", tt.dst, tt.src, got, tt.want)
		}
	}
}
