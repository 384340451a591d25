package boot_test

import (
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/boot"
)

// TestHandOverThenChange has networkd take over from the oneshot, and then changes an IPv6
// address, and the back end. Since 257 networkd does not consider the IPv6 routes that were left
// to it as its own: they stay when their address goes, without a source.
func TestHandOverThenChange(t *testing.T) {
	changed := strings.Replace(dualRecipe, "2001:db8:2::10", "2001:db8:2::20", 1)
	eachSuite(t, func(t *testing.T, suite boot.Suite) {
		h := booted(t, boot.Config{
			Root: boot.Root{Suite: suite}, Product: installed(t), Tree: recipe, Files: map[string]boot.File{specFile: boot.Text(dualRecipe)},
		}, "running")
		h.servedByNetlink()
		h.must("systemctl", "start", networkd)
		h.takenOver()
		h.settled()
		for _, spec := range []string{changed, "backend = \"netlink\"\n" + changed, changed, "backend = \"netlink\"\n" + dualRecipe, dualRecipe} {
			h.changeTo(spec)
			h.settled()
			h.must("uplinkctl", "diff")
			h.must("uplinkctl", "verify")
			h.clean()
			if out := h.network(); strings.Contains(out, "proto 118") != strings.Contains(spec, "netlink") {
				t.Errorf("%s:\n%s", spec, out)
			}
			if again := h.must("sh", "-c", "uplinkctl reload 2>&1"); again != "" {
				t.Errorf("a second reload did\n%s", again)
			}
		}
		h.works()
	})
}
