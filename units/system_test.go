package units_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var placeholder = regexp.MustCompile(`@[a-z]+@`)

// The unit files that a package installs, with its directories filled in.
func TestSystemdTakesTheUnitFilesWithoutAWord(t *testing.T) {
	files, err := filepath.Glob("system/*.in")
	if err != nil || len(files) == 0 {
		t.Fatalf("no unit files: %v", err)
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("NOT TESTED: there is no systemd-analyze")
	}
	// The programs need only be there.
	dir := t.TempDir()
	for _, name := range []string{"uplink-generator", "uplinkctl"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var paths []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(f), ".in")
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, placeholder.ReplaceAll(text, []byte(dir)), 0o644); err != nil {
			t.Fatal(err)
		}
		// A template is looked at as an instance of it.
		if strings.Contains(name, "@.") {
			path = strings.Replace(path, "@.", "@eth0.", 1)
		}
		paths = append(paths, path)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			cmd := exec.Command(analyze, "verify", "--man=no", path)
			cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
			out, err := cmd.CombinedOutput()
			if err != nil || len(bytes.TrimSpace(out)) != 0 {
				t.Errorf("%v:\n%s", err, out)
			}
		})
	}
}
