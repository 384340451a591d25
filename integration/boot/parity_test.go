package boot_test

import (
	"os/exec"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/boot"
)

// TestBackEndsAreTheSameOnEachSystemd compares what networkd makes of the rendered files with what
// netlink does, with the networkd of each suite. The tests of integration do so with the installed
// one.
func TestBackEndsAreTheSameOnEachSystemd(t *testing.T) {
	everySuite(t, func(t *testing.T, suite boot.Suite) {
		root := prepared(t, boot.Root{Suite: suite})
		tests := "TestExamplesAreTheSameByEitherBackEnd|TestGeneratedSpecsAreTheSameByEitherBackEnd"
		if suite.Systemd() >= 252 {
			// 247 and 249 keep what a file has asked for that is gone. That uplinkctl reload
			// removes it is for TestReload.
			tests += "|TestChangedSpecsAreAsOnAFreshHost"
		}
		cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "..", "-networkd.root", root,
			"-run", "^("+tests+")$", "-parity.specs=25", "-parity.transitions=5")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
