package units_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const examples = "../integration/examples"

// goldenVersions are a systemd without most of the newer keys, one between, and one
// that has nearly all of them.
var goldenVersions = []string{"247", "252", "257"}

// renderExample renders an example. What is said of it, notes and a refusal, comes
// first, as the archive's comment.
func renderExample(t *testing.T, name, version string) *txtar.Archive {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join(examples, name, "root"))
	if err != nil {
		t.Fatal(err)
	}
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
