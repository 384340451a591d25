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

// TestSecurityNamesTheFuzzTargets checks a list, of what is parsed and which parts of it are
// fuzzed, that nobody would remember when adding a parser.
func TestSecurityNamesTheFuzzTargets(t *testing.T) {
	text, err := os.ReadFile("../../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	said := regexp.MustCompile("`(Fuzz\\w+)`").FindAllStringSubmatch(string(text), -1)
	declared := regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	var there []string
	err = filepath.WalkDir("../..", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (e.Name() == "bin" || e.Name() == ".git"):
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		code, err := os.ReadFile(path)
		for _, m := range declared.FindAllStringSubmatch(string(code), -1) {
			there = append(there, m[1])
		}
		return err
	})
	if err != nil || len(there) < 15 {
		t.Fatalf("%d fuzz targets: %v", len(there), err)
	}
	for _, m := range said {
		if !slices.Contains(there, m[1]) {
			t.Errorf("SECURITY.md names %s, which there is not", m[1])
		}
	}
	for _, f := range there {
		if !slices.ContainsFunc(said, func(m []string) bool { return m[1] == f }) {
			t.Errorf("SECURITY.md does not name %s: what does it parse, and from whom?", f)
		}
	}
}
