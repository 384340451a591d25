package apply

import (
	"net/netip"
	"strings"
	"testing"
)

// TestInside checks that the address to ask for is in the prefix, and may belong to another host.
func TestInside(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ dst, held, want string }{
		{"192.0.2.0/24", "", "192.0.2.1"},
		{"192.0.2.0/24", "192.0.2.1", "192.0.2.2"},
		{"192.0.2.0/24", "192.0.2.1 192.0.2.2 192.0.2.4", "192.0.2.3"},
		{"192.0.2.0/24", "192.0.2.10", "192.0.2.1"},
		{"192.0.2.4/30", "192.0.2.5", "192.0.2.6"},
		{"192.0.2.4/30", "192.0.2.6", "192.0.2.5"},
		{"192.0.2.4/30", "192.0.2.5 192.0.2.6", ""},
		{"192.0.2.4/31", "192.0.2.4", "192.0.2.5"},
		{"192.0.2.4/31", "192.0.2.5", "192.0.2.4"},
		{"192.0.2.4/31", "192.0.2.4 192.0.2.5", ""},
		{"192.0.2.4/32", "", "192.0.2.4"},
		{"192.0.2.4/32", "192.0.2.4", ""},
		{"255.255.255.255/32", "255.255.255.255", ""},
		{"255.255.255.255/32", "", ""},
		{"224.0.0.0/4", "", ""},
		{"127.0.0.0/8", "127.0.0.1", ""},
		{"0.0.0.0/1", "", "0.0.0.1"},
		{"2001:db8::/64", "2001:db8::1", "2001:db8::2"},
		{"2001:db8::/127", "2001:db8::", "2001:db8::1"},
		{"::/1", "", "::2"},
		{"::1/128", "", ""},
		{"ff00::/8", "", ""},
	} {
		held := map[netip.Addr]bool{}
		for _, a := range strings.Fields(tt.held) {
			held[netip.MustParseAddr(a)] = true
		}
		got, ok := inside(netip.MustParsePrefix(tt.dst), held)
		if ok != (tt.want != "") || ok && got.String() != tt.want {
			t.Errorf("%s with %s: %s, %t, want %s", tt.dst, tt.held, got, ok, tt.want)
		}
	}
}
