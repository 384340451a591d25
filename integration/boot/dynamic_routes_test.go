package boot_test

import (
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/boot"
)

// viaLearned are routes by gateways that no address in the spec reaches.
const viaLearned = `
[[uplink.rt2.route]]
to  = "10.9.0.0/16"
via = "198.51.100.1"

[[uplink.rt2.route]]
to  = "2001:db8:99::/48"
via = "2001:db8:2::1"

[[uplink.rt2.route]]
to  = "2001:db8:98::/48"
via = "fe80::1"
`

// TestDynamicRoutes has routes by gateways that can be reached only once an address is learned.
// networkd waits for it, except 247, which gives the link up ("Could not set route: No route to
// host"), and 252 with IPv6, which does so every other time that it configures the link again:
// there it accepts onlink.
func TestDynamicRoutes(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite boot.Suite) {
		spec, refused := learnBothSpec+viaLearned, []string{}
		for via, since := range map[string]int{"198.51.100.1": 249, "2001:db8:2::1": 257} {
			if suite.Systemd() < since {
				refused = append(refused, via)
				spec = strings.Replace(spec, "via = \""+via+"\"\n", "via = \""+via+"\"\nonlink = true\n", 1)
			}
		}
		h, cards := learnsBoth(t, suite, spec)
		routes := h.must("sh", "-c", "ip -4 route show table 1 proto static; ip -6 route show table 1 proto static")
		if strings.Count(routes, " via ") != 3 || strings.Count(routes, "onlink") != len(refused) {
			t.Errorf("want 3 routes, %d of them onlink:\n%s", len(refused), routes)
		}
		// Nothing is in the way of what there is already.
		h.changeTo(strings.Replace(spec, "10.9.0.0/16", "10.10.0.0/16", 1))
		h.learned(cards)
		for range 2 {
			h.must("networkctl", "reconfigure", "eth1")
			time.Sleep(begun)
			h.learned(cards)
		}
		if len(refused) == 0 {
			return
		}
		before := h.state()
		h.must("sh", "-c", `printf %s "$1" > `+specFile, "sh", learnBothSpec+viaLearned)
		out, err := h.Command(h.ctx, "uplinkctl", "reload").CombinedOutput()
		if err == nil || strings.Count(string(out), " does not always wait ") != len(refused) {
			t.Errorf("want %v refused: %v\n%s", refused, err, out)
		}
		h.becomes(before)
	})
}
