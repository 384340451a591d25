package units_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const examples = "../integration/examples"

// goldenVersions are a systemd without most of the newer keys, one between, and one
// that has nearly all of them.
var goldenVersions = []string{"247", "252", "257"}

// renderExample renders an example. Its notes and a refusal come first, as the
// archive's comment.
func renderExample(t *testing.T, name, version string) *txtar.Archive {
	t.Helper()
	return renderBelow(t, filepath.Join(examples, name, "root"), version)
}

func renderBelow(t *testing.T, dir, version string) *txtar.Archive {
	t.Helper()
	root := rootfs.At(dir)
	s, err := spec.Load(root)
	if err != nil {
		t.Fatal(err)
	}
	state, err := gen.Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	v, err := units.ParseVersion(version)
	if err != nil {
		t.Fatal(err)
	}
	tree, notes, err := units.Render(state, units.Target{Version: v, Root: root})
	var archive txtar.Archive
	if err != nil {
		archive.Comment = []byte("refused:\n" + err.Error() + "\n")
		if len(tree) > 0 {
			t.Errorf("%d files beside the refusal", len(tree))
		}
		return &archive
	}
	for _, n := range notes {
		archive.Comment = append(archive.Comment, "note: "+n.String()+"\n"...)
	}
	for _, f := range tree {
		archive.Files = append(archive.Files, txtar.File{Name: f.Path, Data: f.Data})
	}
	return &archive
}

func exampleNames(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(examples, "*", "root"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no examples in %s: %v", examples, err)
	}
	names := make([]string, len(dirs))
	for i, d := range dirs {
		names[i] = filepath.Base(filepath.Dir(d))
	}
	return names
}

func TestExamplesRenderAsTheirGoldenTrees(t *testing.T) {
	wanted := map[string]bool{}
	for _, name := range exampleNames(t) {
		for _, version := range goldenVersions {
			golden := filepath.Join("testdata", "golden", name+"-"+version+".txtar")
			wanted[golden] = true
			t.Run(name+"-"+version, func(t *testing.T) {
				got := txtar.Format(renderExample(t, name, version))
				if *update {
					if err := os.WriteFile(golden, got, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if errors.Is(err, os.ErrNotExist) {
					t.Fatalf("%s is not there: look at the example, then run go test ./units -update", golden)
				}
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%s differs (go test ./units -update rewrites it):\n%s", golden, firstDifference(got, want))
				}
			})
		}
	}
	have, err := filepath.Glob("testdata/golden/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, golden := range have {
		if !wanted[golden] {
			t.Errorf("%s belongs to no example", golden)
		}
	}
}

func TestTheSameStateGivesTheSameBytes(t *testing.T) {
	for _, name := range exampleNames(t) {
		first := txtar.Format(renderExample(t, name, "257"))
		for range 5 {
			if again := txtar.Format(renderExample(t, name, "257")); !bytes.Equal(first, again) {
				t.Errorf("%s:\n%s", name, firstDifference(again, first))
			}
		}
	}
}

// TestACommentInTheSpecChangesNoFile: networkd reconfigures each link whose file is new.
func TestACommentInTheSpecChangesNoFile(t *testing.T) {
	for _, name := range exampleNames(t) {
		before := renderExample(t, name, "257").Files
		dir := filepath.Join(t.TempDir(), name, "root")
		if err := os.CopyFS(dir, os.DirFS(filepath.Join(examples, name, "root"))); err != nil {
			t.Fatal(err)
		}
		changed := 0
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".toml" {
				return err
			}
			changed++
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, append([]byte("# The ticket is 4711.\n"), text...), 0o644)
		})
		if err != nil || changed == 0 {
			t.Fatalf("%s: %d files changed: %v", name, changed, err)
		}
		got := renderBelow(t, dir, "257").Files
		if got, want := txtar.Format(&txtar.Archive{Files: got}), txtar.Format(&txtar.Archive{Files: before}); !bytes.Equal(got, want) {
			t.Errorf("%s:\n%s", name, firstDifference(got, want))
		}
	}
}

// TestTheHeadIsShort checks that a file's header names its sources in a few words,
// however many there are.
func TestTheHeadIsShort(t *testing.T) {
	state := fib.State{Links: []fib.Link{{Name: "u0", Match: fib.Match{Name: "eth0"}}}}
	for i := range 1000 {
		o := fib.Origin{File: fmt.Sprintf("/etc/uplink/uplink.toml.d/%04d.toml", i), Line: i + 1}
		state.Links[0].Uplinks = append(state.Links[0].Uplinks, fib.Named{Name: fmt.Sprintf("u%d", i), Origin: o})
		state.Rules = append(state.Rules, fib.Rule{Family: fib.Inet, Priority: uint32(i), Action: fib.Unreachable, Origin: o})
	}
	tree, _, err := units.Render(state, units.Target{Version: units.Version{Major: 257}, Root: rootfs.At(t.TempDir())})
	if err != nil || len(tree) != 3 {
		t.Fatalf("%d files: %v", len(tree), err)
	}
	for _, f := range tree {
		head, _, _ := strings.Cut(string(f.Data), "\n")
		if !strings.HasSuffix(head, ", and 992 more") || strings.Count(head, "0007.toml") != 1 {
			t.Errorf("%s: %q", f.Path, head)
		}
	}
}

// firstDifference shows the first line that differs, with those before it.
func firstDifference(got, want []byte) string {
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := 0; ; i++ {
		gone, extra := i >= len(g), i >= len(w)
		if !gone && !extra && g[i] == w[i] {
			continue
		}
		line := func(lines []string, end bool) string {
			if end {
				return "(the end)"
			}
			return lines[i]
		}
		return strings.Join(w[max(0, i-4):min(i, len(w))], "\n") + "\n got: " + line(g, gone) + "\nwant: " + line(w, extra)
	}
}
