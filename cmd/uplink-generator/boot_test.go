package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/gen/need"
)

// build builds a program as it is shipped.
func build(t *testing.T, dir string) string {
	t.Helper()
	program := filepath.Join(dir, "uplink-generator")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", program, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	return program
}

// sandbox runs a command where every mount is read-only except the directory $1. It says so if
// that did not work, so that the test cannot pass without it.
const sandbox = `
set -e
writable=$1; shift
mount --make-rprivate /
mount --bind "$writable" "$writable"
while read -r _ _ _ _ point _; do
	[ "$point" = "$writable" ] || mount -o remount,bind,ro "$point" 2>/dev/null || :
done < /proc/self/mountinfo
for dir in / /tmp /run /etc /var /dev/shm "$writable/.."; do
	if [ -d "$dir" ] && (: > "$dir/uplink-sandbox-probe") 2>/dev/null; then
		rm -f "$dir/uplink-sandbox-probe"
		echo "sandbox: $dir can be written" >&2
		exit 99
	fi
done
: > "$writable/probe"; rm "$writable/probe"
exec "$@"
`

func TestTheGeneratorWritesNowhereButIntoItsFirstDirectory(t *testing.T) {
	need.Root(t)
	if out, err := exec.Command("unshare", "-m", "true").CombinedOutput(); err != nil {
		need.Nil(t, fmt.Errorf("a mount namespace: %w: %s", err, out))
	}
	dir := t.TempDir()
	program := build(t, dir)
	const spec = "[uplink.isp1]\ninterface = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.1\"]\n"
	root := filepath.Join(dir, "root")
	for name, text := range map[string]string{
		"good/etc/uplink/uplink.toml": spec, "bad/etc/uplink/uplink.toml": spec + "x = 1\n", "none/etc/passwd": "",
	} {
		host, _, _ := strings.Cut(name, "/")
		for _, file := range []string{name, host + "/usr/lib/systemd/system/uplink-networkd.service", host + "/usr/lib/systemd/system/uplink-apply.service", host + "/usr/lib/systemd/system/uplink-apply@.service", host + "/usr/lib/systemd/system/uplink-reload.service"} {
			path := filepath.Join(root, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	early, late := filepath.Join(dir, "early"), filepath.Join(dir, "late")
	for _, d := range []string{early, late} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name   string
		root   string
		status int
		links  int
	}{
		{"a spec", "good", 0, 4},
		{"a spec with errors", "bad", 1, 3},
		{"no spec", "none", 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			normal := filepath.Join(dir, "normal-"+tt.root)
			if err := os.Mkdir(normal, 0o755); err != nil {
				t.Fatal(err)
			}
			before, err := treeOf(root)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("unshare", "-m", "sh", "-c", sandbox, "sh", normal, program, "--root", filepath.Join(root, tt.root), normal, early, late)
			// Systemd passes little, and no directory for temporary files.
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "SYSTEMD_SCOPE=system"}
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			_ = cmd.Run()
			if got := cmd.ProcessState.ExitCode(); got != tt.status {
				t.Fatalf("exit status %d, want %d:\n%s", got, tt.status, &stderr)
			}
			if tt.status == 0 && stderr.Len() > 0 {
				t.Errorf("it said:\n%s", &stderr)
			}
			links, err := treeOf(normal)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(links, " -> /usr/lib/systemd/system/uplink-") != tt.links || strings.Count(links, "\n") != tt.links {
				t.Errorf("want %d links:\n%s", tt.links, links)
			}
			if after, err := treeOf(root); err != nil || after != before {
				t.Errorf("the root was changed: %v\n%s", err, after)
			}
			for _, d := range []string{early, late} {
				if list, err := treeOf(d); err != nil || list != "" {
					t.Errorf("%s: %v\n%s", d, err, list)
				}
			}
		})
	}
}

// TestTheGeneratorEndsItself gives it a standard error that is full and that nobody reads.
func TestTheGeneratorEndsItself(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := build(t, dir)
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(filepath.Join(root, "etc/uplink"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/uplink/uplink.toml"), []byte("x = 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := w.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = w.Write(make([]byte, 512))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "--root", root, t.TempDir())
	cmd.Stderr = w
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("it ended with %v, want exit status 1", err)
	}
}
