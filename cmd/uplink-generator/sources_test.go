package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// sources returns the Go files of the repository, by their paths in it.
func sources(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir("../..", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (e.Name() == ".git" || e.Name() == "bin" || e.Name() == "dist"):
			return fs.SkipDir
		case !e.Type().IsRegular() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		text, err := os.ReadFile(path)
		files[filepath.ToSlash(strings.TrimPrefix(path, "../../"))] = string(text)
		return err
	})
	if err != nil || len(files) < 300 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	return files
}

// TestWhatCannotRunIsLoud checks that tests skip by package need, which fails them in CI. The
// exceptions do not skip because something is missing: go test -short, and what a systemd of a
// matrix does not have.
func TestWhatCannotRunIsLoud(t *testing.T) {
	allowed := []string{
		"gen/need/need.go", "gen/need/need_test.go", "gen/compile_test.go", "integration/faults_test.go",
		"integration/boot/sysext_test.go", "integration/boot/dynamic_change_test.go",
	}
	skips := regexp.MustCompile(`\.Skip(f|Now)?\(`)
	for name, text := range sources(t) {
		if skips.MatchString(text) && !slices.Contains(allowed, name) && name != "cmd/uplink-generator/sources_test.go" {
			t.Errorf("%s skips by itself: gen/need is for that", name)
		}
	}
}

// TestNoFileIsTooLong: what does not fit into 500 lines is about more than one thing.
func TestNoFileIsTooLong(t *testing.T) {
	for name, text := range sources(t) {
		if n := strings.Count(text, "\n"); n > 500 {
			t.Errorf("%s has %d lines", name, n)
		}
	}
}
