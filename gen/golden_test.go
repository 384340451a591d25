package gen

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

var update = flag.Bool("update", false, "rewrite what testdata/*.txtar expect")

// TestGolden loads the files of each testdata/*.txtar, where `uplink.toml` is short for
// etc/uplink/uplink.toml. It compares the state that they compile to with the section
// `state`, or their errors with the section `errors`.
func TestGolden(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(a.Comment) == 0 {
				t.Error("the case does not say what it shows")
			}
			expected := func(f txtar.File) bool { return f.Name == "state" || f.Name == "errors" }
			var want string
			if i := slices.IndexFunc(a.Files, expected); i >= 0 {
				want = "-- " + a.Files[i].Name + " --\n" + string(a.Files[i].Data)
			}
			a.Files = slices.DeleteFunc(a.Files, expected)
			section, data := compileFiles(t, a.Files)
			if got := "-- " + section + " --\n" + data; got != want && !*update {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			if *update {
				a.Files = append(a.Files, txtar.File{Name: section, Data: []byte(data)})
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// compileFiles returns the name of the section that files lead to, and its content.
func compileFiles(t *testing.T, files []txtar.File) (section, data string) {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		name := f.Name
		if name == "uplink.toml" {
			name = "etc/uplink/uplink.toml"
		}
		writeFile(t, filepath.Join(dir, name), string(f.Data))
	}
	s, err := spec.Load(rootfs.At(dir))
	if err == nil {
		state, compileErr := Compile(s)
		if err = compileErr; err == nil {
			return "state", state.Text()
		}
	}
	var list spec.Errors
	if !errors.As(err, &list) {
		t.Fatal(err)
	}
	return "errors", list.Detail() + "\n"
}

// writeFile writes a file and the folders above it.
func writeFile(t *testing.T, name, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}
