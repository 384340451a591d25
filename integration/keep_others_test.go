package integration

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestReloadAndWhatOthersHaveOnTheLink changes the uplink of a link on which somebody else has an
// address and a route, as keepalived and a routing daemon do. networkd removes them, unless
// KeepConfiguration= says otherwise: uplink.toml(5), NETWORKD.
func TestReloadAndWhatOthersHaveOnTheLink(t *testing.T) {
	const (
		own    = "[Match]\nName=eth1\n\n[Network]\nAddress=198.51.100.10/24\nAddress=198.51.100.20/24\nAddress=2001:db8:2::10/64\n"
		policy = "manage = \"policy\"\n"
	)
	keep := func(what string) map[string]string {
		return map[string]string{"/etc/systemd/network/10-uplink-rt2.network.d/keep.conf": "[Network]\nKeepConfiguration=" + what + "\n"}
	}
	for _, c := range []struct {
		name, more        string
		files             map[string]string
		addresses, routes bool // are kept
	}{
		{"nothing is said", "", nil, false, false},
		{"static", "", keep("static"), true, false},
		{"yes", "", keep("yes"), true, true},
		{"policy", policy, map[string]string{"/etc/systemd/network/05-eth1.network": own}, false, false},
		{"policy and yes", policy, map[string]string{"/etc/systemd/network/05-eth1.network": own + "KeepConfiguration=yes\n"}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := bootNetworkd(t, c.files, provider1, provider2)
			bring := func(spec string) {
				t.Helper()
				h.spec(spec + c.more)
				// With `policy` the address may be away for a moment while networkd configures:
				// this may be an error, and then the old files are back.
				eventually(h.ctx, t, func() (string, error) {
					for _, command := range []string{"reload", "verify"} {
						if a := h.run(command); a.code != 0 || strings.Contains(a.stdout, "waits") {
							return a.stdout + a.stderr, nil
						}
					}
					return "", nil
				})
			}
			if c.more == policy {
				if err := h.Host.WaitAddresses(h.ctx, netip.MustParseAddr("198.51.100.20"), netip.MustParseAddr("2001:db8:2::10")); err != nil {
					t.Fatal(err)
				}
			}
			bring(twoUplinks)
			ip(h.ctx, t, h.Host,
				"address add 198.51.100.100/32 dev eth1",
				"address add 2001:db8:2::100/128 dev eth1 nodad",
				"route add 203.0.113.128/25 via 198.51.100.1 dev eth1 proto bird",
				"-6 route add 2001:db8:77::/48 via 2001:db8:2::1 dev eth1 proto bird")
			// networkd would not remove what it has not seen yet.
			eventually(h.ctx, t, func() (string, error) {
				for _, what := range []string{"198.51.100.100/32", "2001:db8:2::100/128", "203.0.113.128/25", "2001:db8:77::/48"} {
					if !strings.Contains(h.networkd.Log(), what) {
						return what + " is not in its log", nil
					}
				}
				return "", nil
			})
			bring(changedUplink)
			want := map[string]bool{
				"inet 198.51.100.100/32": c.addresses,
				"203.0.113.128/25 via":   c.routes, "2001:db8:77::/48 via": c.routes,
				// What the uplink itself no longer has.
				"inet 198.51.100.10/24": c.more == policy, "table 1 ": false, "lookup 1 ": false,
			}
			if c.addresses { // networkd may learn of a new IPv6 address too late to remove it
				want["inet6 2001:db8:2::100/128"] = true
			}
			soon, cancel := context.WithTimeout(h.ctx, 10*time.Second)
			defer cancel()
			eventually(soon, t, func() (string, error) {
				var now, wrong strings.Builder
				for _, show := range []string{"address show dev eth1", "route show table all", "-6 route show table all", "rule"} {
					out, err := h.Host.Run(h.ctx, "ip", strings.Fields(show)...)
					if err != nil {
						return "", err
					}
					now.WriteString(out)
				}
				for what, want := range want {
					if has := strings.Contains(now.String(), what); has != want {
						fmt.Fprintf(&wrong, "%s is there: %t, want %t\n", what, has, want)
					}
				}
				if wrong.Len() > 0 {
					return wrong.String() + now.String(), nil
				}
				return "", nil
			})
		})
	}
}
