package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
)

// TestAsAUserWithOneCapability lets a user with CAP_NET_ADMIN and no other capability do what the
// oneshot does, and shows that without it nobody's links can be changed.
func TestAsAUserWithOneCapability(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	c.spec(twoUplinks)
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(c.root, programs.Control)
	data, err := os.ReadFile(filepath.Join(dir, programs.Control))
	if err != nil {
		t.Fatal(err)
	}
	const user = 65533
	if err := errors.Join(
		os.Chmod(filepath.Dir(c.root), 0o755), os.WriteFile(program, data, 0o755), //nolint:gosec // for others to run
		os.MkdirAll(filepath.Join(c.root, "run/systemd/network"), 0o755), os.MkdirAll(filepath.Join(c.root, "run/uplink"), 0o755),
		os.Chown(filepath.Join(c.root, "run/uplink"), user, user),
	); err != nil {
		t.Fatal(err)
	}
	as := func(capabilities, command string) (string, error) {
		t.Helper()
		out, err := l.Host.Command(ctx, "setpriv", "--reuid=65533", "--regid=65533", "--clear-groups", "--no-new-privs",
			"--inh-caps=-all"+capabilities, "--ambient-caps=-all"+capabilities, "--bounding-set=-all"+capabilities,
			program, command, "--root", c.root).CombinedOutput()
		return string(out), err
	}
	before := dump(ctx, t, l.Host)
	if out, err := as("", "apply"); err == nil || !strings.Contains(out, "operation not permitted") {
		t.Errorf("without a capability: %v %s", err, out)
	}
	if after := dump(ctx, t, l.Host); after != before {
		t.Errorf("without a capability: %s", firstDifference(before, after))
	}
	for _, command := range []string{"apply", "diff", "verify"} {
		if out, err := as(",+net_admin", command); err != nil {
			t.Errorf("uplinkctl %s: %v %s", command, err, out)
		}
	}
	c.ok("diff") // root sees the same
	if out, err := as(",+net_admin", "down"); err != nil {
		t.Errorf("uplinkctl down: %v %s", err, out)
	}
	var exit *exec.ExitError
	if out, err := as(",+net_admin", "diff"); !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(out, "192.0.2.10") {
		t.Errorf("after down nothing is missing: %v %s", err, out)
	}
}
