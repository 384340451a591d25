package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
)

// hostileNames are file names, if file systems accept them, that mean something elsewhere.
var hostileNames = []string{
	"..", "-", "--root", "a b", "a;b", "%n", "$HOME", "`id`", "#a", "a\\", "\"a", "[Match]", "a\nb", "a\x1b[31mb", "a\x7fb", "a\u0085b", "a\u202eb", "a\xffb", "a\x9b2Jb", "..a", strings.Repeat("x", 240), strings.Repeat("x", 1<<20),
	"../../../etc", "a/../../b", "x\x00y",
}

const fine = "[uplink.isp1]\ninterface = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.1\"]\n"

// everything returns all that is below dir, with what is in it.
func everything(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			var data []byte
			data, err = os.ReadFile(name)
			found[name] = string(data)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// saysPlainly runs uplinkctl, and checks that its output is short and without anything that a
// terminal would obey.
func saysPlainly(t *testing.T, args ...string) int {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := uplinkctl(args, &stdout, &stderr)
	for what, text := range map[string]string{"standard output": stdout.String(), "standard error": stderr.String()} {
		if i := strings.IndexFunc(text, func(c rune) bool { return c != '\n' && c != '\t' && (!unicode.IsPrint(c) || c == '\ufffd') }); i >= 0 {
			t.Errorf("%.80q: %q on %s, in %.300q", args, text[i:min(i+4, len(text))], what, text)
		}
		if len(text) > 8<<10 {
			t.Errorf("%.80q: %d bytes on %s", args, len(text), what)
		}
	}
	if status != run.ExitOK && stderr.Len() == 0 {
		t.Errorf("%.80q: exit status %d without a word", args, status)
	}
	return status
}

// TestHostileNamesOfDropIns gives a drop-in each name. It is read, or the output says why not,
// and nothing is written outside the output directory.
func TestHostileNamesOfDropIns(t *testing.T) {
	for _, name := range hostileNames {
		dir := t.TempDir()
		put(t, filepath.Join(dir, "root/etc/uplink/uplink.toml"), fine)
		file := filepath.Join(dir, "root/etc/uplink/uplink.toml.d") + "/" + name + ".toml"
		if strings.ContainsAny(name, "/\x00") || os.MkdirAll(filepath.Dir(file), 0o755) != nil || os.WriteFile(file, []byte("[uplink.isp1]\nmetric = 5\ndefault-route = true\n"), 0o644) != nil {
			continue // no file has such a name
		}
		before := everything(t, dir)
		saysPlainly(t, "check", "--root", filepath.Join(dir, "root"))
		saysPlainly(t, "explain", "--offline", "--root", filepath.Join(dir, "root"), "192.0.2.10", "203.0.113.1")
		status := saysPlainly(t, "render", "--root", filepath.Join(dir, "root"), "--output", filepath.Join(dir, "out"), "--systemd-version", "252")
		if !isShown(name) == (status == run.ExitOK) {
			t.Errorf("%q: exit status %d", name, status)
		}
		for file, data := range everything(t, dir) {
			switch below, out := strings.CutPrefix(file, filepath.Join(dir, "out")+"/"); {
			case !out && before[file] != data:
				t.Errorf("%q: %s was written", name, file)
			case out && !strings.HasPrefix(below, "run/systemd/network") && !strings.HasPrefix(below, "run/uplink/"):
				t.Errorf("%q: %s was written", name, file)
			case out && !isShown(strings.ReplaceAll(strings.ReplaceAll(data, "\n", ""), "\t", "")):
				t.Errorf("%q: %s has %.300q", name, file, data)
			}
		}
	}
}

func isShown(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) || c == '\ufffd' })
}

// TestHostileArguments gives each name where a directory or a link is expected.
func TestHostileArguments(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, "image/etc/uplink/uplink.toml", fine)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	before := everything(t, here)
	for _, name := range hostileNames {
		for _, command := range []string{"check", "render", "explain", "export", "graph", "names"} {
			args := []string{command, "--root=" + name}
			if command == "explain" {
				args = append(args, "--offline", "192.0.2.10", "203.0.113.1")
			}
			if status := saysPlainly(t, args...); status == run.ExitOK && command != "names" {
				t.Errorf("%q: there is no spec", args)
			}
		}
		saysPlainly(t, name)
		saysPlainly(t, "check", "--", name)
		saysPlainly(t, "check", "--"+name)
		saysPlainly(t, "explain", "--offline", "--root", "image", name, name)
		saysPlainly(t, "apply", "--dry-run", "--root", "image", "--link", name)
		if after := everything(t, here); len(after) != len(before) {
			t.Fatalf("%.80q: there is now %v", name, after)
		}
		if abs, err := filepath.Abs(name); err != nil || !strings.HasPrefix(abs, here+"/") {
			continue // which is where it would be written
		}
		saysPlainly(t, "render", "--root", "image", "--systemd-version", "252", "--output", name)
		for file := range everything(t, here) {
			if _, was := before[file]; !was && !strings.HasPrefix(file, filepath.Join(here, name)+"/run/") {
				t.Errorf("%q: %s was written", name, file)
			}
		}
		if err := os.RemoveAll(name); err != nil && !strings.Contains(name, "\x00") && len(name) < 256 {
			t.Fatal(err)
		}
	}
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
