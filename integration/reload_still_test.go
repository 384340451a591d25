package integration

import (
	"strings"
	"testing"
	"time"
)

// TestReloadReturnsOnceNetworkdIsAtRest gives uplinks other names, which changes nothing that
// the kernel holds: all of it is there from the start, and goes and comes only when networkd,
// which answers before it begins, configures the link again. The command is not to look at it
// in between, nor to be over before.
func TestReloadReturnsOnceNetworkdIsAtRest(t *testing.T) {
	t.Parallel()
	h := bootNetworkd(t, map[string]string{hostSpec: twoUplinks}, provider1, provider2)
	h.reload()
	events := background(t, h.Host.Command(h.ctx, "ip", "-o", "monitor", "address", "rule"))
	for _, name := range []string{"rt3", "rt4", "rt5", "rt6", "rt2"} {
		h.spec(strings.Replace(twoUplinks, "rt2", name, 1))
		h.reload()
		before := events.String()
		time.Sleep(500 * time.Millisecond)
		if late := strings.TrimPrefix(events.String(), before); strings.Contains(late, "198.51.100.10") {
			t.Errorf("%s: after the reload networkd changes\n%s", name, late)
		}
	}
	h.holds(twoUplinks)
}
