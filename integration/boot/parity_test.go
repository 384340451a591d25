package boot_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/boot"
)

// TestBackEndsAreTheSameOnEachSystemd compares what networkd makes of the rendered files with what
// netlink does, with the networkd of each suite. The tests of integration do so with the installed
// one.
func TestBackEndsAreTheSameOnEachSystemd(t *testing.T) {
	require(t)
	comparison := filepath.Join(t.TempDir(), "comparison")
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", comparison, "..").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	everySuite(t, func(t *testing.T, suite boot.Suite) {
		root := prepared(t, boot.Root{Suite: suite})
		// How a changed spec comes into effect is for TestReload: 247 and 249 keep what a file that
		// is gone had asked for, and uplinkctl reload removes that.
		cmd := exec.CommandContext(t.Context(), comparison, "-networkd.root", root,
			"-test.run", "^(TestExamplesAreTheSameByEitherBackEnd|TestGeneratedSpecsAreTheSameByEitherBackEnd)$",
			"-parity.specs=40")
		cmd.Dir = ".." // as go test has it
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
