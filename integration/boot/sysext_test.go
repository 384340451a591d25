package boot_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/boot"
)

// sysextService merges extensions, and must be enabled.
const sysextService = "systemd-sysext.service"

// reloadAfterMerge is what a systemd before 255 lacks: it does not look for new units
// after it has merged extensions (EXTENSION_RELOAD_MANAGER=).
var reloadAfterMerge = map[string]boot.File{
	"/etc/systemd/system/" + sysextService + ".d/reload.conf": boot.Text("[Service]\nExecStartPost=systemctl daemon-reload\n"),
}

// TestSystemExtension has the product in a system extension, which is merged only after the
// generators have run and the jobs of the boot are queued: the spec must still be in effect after
// that boot.
func TestSystemExtension(t *testing.T) {
	t.Parallel()
	require(t)
	tree := t.TempDir()
	extension := filepath.Join(tree, "var/lib/extensions/uplink-generator")
	if out, err := exec.CommandContext(t.Context(), "make", "-C", "../..", "sysext", "SYSEXT="+extension).CombinedOutput(); err != nil {
		t.Fatalf("make sysext: %v\n%s", err, out)
	}
	// Only the directory is for a container, which has no loop devices.
	if err := os.RemoveAll(extension + ".raw"); err != nil {
		t.Fatal(err)
	}
	onlyUsr(t, extension)
	if err := os.CopyFS(tree, recipe); err != nil {
		t.Fatal(err)
	}
	for name, units := range map[string][]string{"networkd": {sysextService, networkd}, "netlink": {sysextService}} {
		t.Run(name, func(t *testing.T) {
			eachSuite(t, func(t *testing.T, suite boot.Suite) {
				c := boot.Config{Root: boot.Root{Suite: suite}, Tree: os.DirFS(tree), Enable: units}
				switch v := suite.Systemd(); {
				case v < 248:
					t.Skip("systemd 247 has no extensions")
				case v < 255:
					c.Files = reloadAfterMerge
				}
				h := booted(t, c, "running")
				h.settled()
				h.works()
				h.clean()
				if ours := strings.Contains(h.network(), "proto 118"); ours == (len(units) > 1) {
					t.Errorf("through netlink: %t", ours)
				}
				if found := h.find("/run/systemd/generator"); !strings.Contains(found, "/uplink-networkd.service\n") || !strings.Contains(found, "/uplink-apply.service\n") {
					t.Errorf("the generator has not run after the merge:\n%s", found)
				}
				if n := strings.Count(h.journal("--unit=uplink-reload.service"), "Starting "); n < 1 || n > 2 {
					t.Errorf("uplink-reload.service was started %d times", n)
				}
			})
		})
	}
}

// onlyUsr checks that an extension has nothing outside /usr, which would be ignored.
func onlyUsr(t *testing.T, extension string) {
	t.Helper()
	entries, err := os.ReadDir(extension)
	if err != nil || len(entries) != 1 || entries[0].Name() != "usr" {
		t.Errorf("the extension has %v %v", entries, err)
	}
}
