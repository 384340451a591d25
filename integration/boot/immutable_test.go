package boot_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/boot"
)

// An image has its spec below /usr, the same wherever it boots. Each layer over it corrects it,
// so that a missing layer shows.
const (
	imageSpec = `[uplink.isp1]
interface     = "eth0"
addresses     = ["192.0.2.10/24"]
gateways      = ["192.0.2.1"]
default-route = true
metric        = 100

[uplink.rt2]
interface = "eth1"
table     = 77
addresses = ["198.51.100.97/24"]
gateways  = ["198.51.100.1"]
`
	// The number of the table is right; the address is once more that of another machine.
	imageOverride = "[uplink.rt2]\ntable = 1\naddresses = [\"198.51.100.98/24\"]\n"

	// machineSpec is what only the machine itself can know.
	machineSpec = "[uplink.rt2]\naddresses = [\"198.51.100.10/24\"]\n"
)

// imageFiles are those of an image with drop-ins, which are baked in as well.
func imageFiles(dropIns ...string) map[string]boot.File {
	files := map[string]boot.File{"/usr/lib/uplink/uplink.toml": boot.Text(imageSpec)}
	for i, data := range dropIns {
		files["/etc/uplink/uplink.toml.d/"+string(rune('a'+i))+".toml"] = boot.Text(data)
	}
	return files
}

// image is a machine that can write to /run and to an empty /var only.
func image(t *testing.T, suite boot.Suite, files map[string]boot.File) boot.Config {
	return boot.Config{
		Root: boot.Root{Suite: suite}, Product: installed(t), Enable: []string{networkd}, Files: files,
		ReadOnly: true, Tmpfs: []string{"/var"},
	}
}

// TestReadOnlyImage boots an image whose spec is baked in, and checks that the files for networkd
// are those that a build of the image would have rendered.
func TestReadOnlyImage(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite boot.Suite) {
		c := image(t, suite, imageFiles(imageOverride, machineSpec))
		h := booted(t, c, "running")
		h.rightImage()

		t.Run("initrd", func(t *testing.T) { h.on(t).generateInInitrd() })

		tree := unpacked(t, c)
		version := strings.Fields(h.must("systemctl", "--version"))[1]
		for name, args := range map[string][]string{
			"the version given":    {"--systemd-version", version},
			"the version detected": nil,
		} {
			out := t.TempDir()
			cmd := exec.CommandContext(h.ctx, filepath.Join(tree, "usr/bin/uplinkctl"),
				append([]string{"render", "--root", tree, "--output", out}, args...)...)
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", name, err, text)
				continue
			}
			if built, booted := readTree(t, out), h.rendering(); built != booted {
				t.Errorf("%s: built were\n%s\nand at boot\n%s", name, built, booted)
			}
		}
	})
}

// TestReadOnlyImageWithCredential passes an image what differs between machines.
func TestReadOnlyImageWithCredential(t *testing.T) {
	t.Parallel()
	for name, units := range map[string][]string{"networkd": {networkd}, "netlink": nil} {
		t.Run(name, func(t *testing.T) {
			eachSuite(t, func(t *testing.T, suite boot.Suite) {
				c := image(t, suite, imageFiles(imageOverride))
				c.Credentials = map[string]string{"uplink.toml": machineSpec}
				c.Enable = units
				h := booted(t, c, "running")
				h.rightImage()
				if ours := strings.Contains(h.network(), "proto 118"); ours == (units != nil) {
					t.Errorf("through netlink: %t", ours)
				}
			})
		})
	}
}

// generateInInitrd runs the generator as in an initial RAM disk that has it and a spec: the spec
// is not about the network there, and everything runs again on the host.
func (h *host) generateInInitrd() {
	h.t.Helper()
	const dir = "/run/in-initrd"
	const script = `mkdir "$1" && SYSTEMD_IN_INITRD=1 SYSTEMD_SCOPE=system /lib/systemd/system-generators/uplink-generator "$1" "$1" "$1" && find "$1" -mindepth 1`
	if out := h.must("sh", "-c", script, "sh", dir); out != "" {
		h.t.Errorf("it wrote\n%s", out)
	}
}

// rightImage checks that an image that cannot be written to has booted correctly.
func (h *host) rightImage() {
	h.t.Helper()
	if out, err := h.Run(h.ctx, "touch", "/etc/probe"); err == nil {
		h.t.Fatalf("/etc can be written: %s", out)
	}
	h.settled()
	h.works()
	h.clean()
	if routes := h.must("ip", "route", "show", "table", "rt2"); !strings.Contains(routes, "default via 198.51.100.1 dev eth1") {
		h.t.Errorf("table rt2:\n%s", routes)
	}
}

// The directories in which the rendered files are.
var renderedDirs = []string{"run/systemd/network", "run/systemd/networkd.conf.d"}

// rendering returns the files that were rendered at boot, as readTree does.
func (h *host) rendering() string {
	h.t.Helper()
	const script = `for d in "$@"; do find "/$d" -type f 2>/dev/null; done | sort | while read -r f; do echo "${f#/}"; cat "$f"; done`
	return h.must("sh", append([]string{"-c", script, "sh"}, renderedDirs...)...)
}

// readTree returns the files of those directories below a root with their names.
func readTree(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range renderedDirs {
		err := fs.WalkDir(os.DirFS(root), dir, func(name string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && name == dir {
				return nil // systemd 247 needs no settings of networkd's own
			}
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(filepath.Join(root, name))
			b.WriteString(name + "\n" + string(data))
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	return b.String()
}

// unpacked lays the files of a machine's image out in a directory, as a build does.
func unpacked(t *testing.T, c boot.Config) string {
	t.Helper()
	lower, err := boot.Prepare(t.Context(), c.Root)
	if err != nil {
		t.Fatal(err)
	}
	product, err := c.Product.Tree(lower)
	if err != nil {
		t.Fatal(err)
	}
	tree := t.TempDir()
	for _, from := range []string{lower, product} {
		// --keep-directory-symlink: /lib is a link where /usr is merged.
		cmd := exec.CommandContext(t.Context(), "sh", "-c", `tar -C "$1" -c . | tar -C "$2" -xp --keep-directory-symlink`, "sh", from, tree)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("copy %s: %v: %s", from, err, out)
		}
	}
	for name, f := range c.Files {
		name = filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(f.Data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}
