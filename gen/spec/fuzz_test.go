package spec

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/rogpeppe/go-internal/txtar"
)

// addSeeds adds every spec of the examples and of the golden tests, and text that
// is hard to scan.
func addSeeds(f *testing.F) {
	f.Helper()
	files, _ := filepath.Glob("../../integration/examples/*/root/etc/uplink/uplink.toml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	cases, _ := filepath.Glob("../testdata/*.txtar")
	for _, file := range cases {
		a, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, section := range a.Files {
			if strings.HasSuffix(section.Name, ".toml") {
				f.Add(section.Data)
			}
		}
	}
	for _, s := range []string{
		"", "\ufeff", "a", "=", "[", "[[a]]\n[[a.b]]\n[a.b.c]\n[[a]]\n[[a.b]]\n", "a.\"b\\u00e9\\xe9\\e\".'c' = 1",
		"a = '''\n''x'''''\nb = \"\"\"\"\"\\\"\"\"\"\"\"\nc = \"\\\\\"", "a = [\n# ]\n1, [2, {x.y = 3, z = [{}]}], ]\r\nb = {\n c = 1, # }\n}",
		"\"#0\" = 1\n\"\\u0000\" = {\"\" = 1}\n'' = 1", "a = 1979-05-27 07:32:00Z # x\nb = inf\n", "[ a . b ]\n c . d = 1", "a=\"\\\n\"",
		"[a]\nb=1\n[a.c]\n[d.e]\n[d]\n", "\xff\xfea=1", "[multipath.uplinks]\n\"a\\nb\" = \"x\"",
	} {
		f.Add([]byte(s))
	}
}

// FuzzParse checks that any file gives a Spec or errors, and that each error can be shown.
func FuzzParse(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("f", data)
		if (s == nil) == (err == nil) {
			t.Fatal(s, err)
		}
		if err == nil {
			return
		}
		var list Errors
		if !errors.As(err, &list) || len(list) == 0 {
			t.Fatalf("%T", err)
		}
		checkPrintable(t, list)
		lines := 1 + strings.Count(string(data), "\n")
		for i, e := range list {
			if e.File != "f" || e.Line < 0 || e.Line > lines || (e.Line == 0) != (e.Col == 0) || e.Col < 0 || e.Msg == "" || strings.Contains(e.Error(), "\n") {
				t.Errorf("%+v", e)
			}
			if i > 0 && (e.Line < list[i-1].Line || e.Line == list[i-1].Line && e.Col < list[i-1].Col) {
				t.Errorf("%s comes after %s", e, list[i-1])
			}
		}
		if _, again := Parse("f", data); again.Error() != err.Error() {
			t.Errorf("another time:\n%v\n%v", err, again)
		}
	})
}

// FuzzPosition compares the scanner with the TOML library. In text that the library
// accepts, each key of its tree has a place, and that key stands there. Where the
// scanner stops early, the library does not come much further: that is what keeps deep
// nesting from the library.
func FuzzPosition(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &source{name: "f", data: data}
		tree, err := s.parse()
		if err != nil {
			if err.src == nil || strings.Contains(err.Msg, "nested too deeply") {
				return
			}
			walk := scanner{data: s.data, arrays: map[string]int{}, visit: func([]string, place) {}, deep: -1}
			walk.document()
			if walk.i < len(s.data) && err.at.start > walk.i+256 && strings.Count(string(s.data[walk.i:err.at.start]), "[") > 2*maxDepth {
				t.Errorf("the scanner stops at byte %d, the library at %d: %v", walk.i, err.at.start, err)
			}
			return
		}
		s.place([]string{"x"})
		checkPlaces(t, s, nil, tree)
	})
}

// checkPlaces checks every path below path, which has value v.
func checkPlaces(t *testing.T, s *source, path []string, v any) {
	t.Helper()
	if len(path) > 0 {
		p, exact := s.place(path)
		if !exact {
			t.Fatalf("%q has no place", path)
		}
		if p.key.start < 0 || p.key.end > len(s.data) || p.key.start > p.key.end || p.value.start > p.value.end || p.value.end > len(s.data) {
			t.Fatalf("%q is at %v", path, p)
		}
		if last := path[len(path)-1]; !strings.HasPrefix(last, elementMark) {
			text := s.text[p.key.start:p.key.end]
			if chain := keysOf(t, text); !slices.Contains(chain, last) {
				t.Fatalf("%q is said to be at %q", path, text)
			}
		}
		switch v.(type) {
		case map[string]any, []map[string]any, []any:
		default:
			tree, text := map[string]any{}, s.text[p.value.start:p.value.end]
			if _, err := toml.Decode("x = "+text, &tree); err != nil || fmt.Sprint(tree["x"]) != fmt.Sprint(v) {
				t.Fatalf("%q is %v, and said to be at %q: %v", path, v, text, err)
			}
		}
	}
	at := func(key string) []string { return append(path[:len(path):len(path)], key) }
	switch v := v.(type) {
	case map[string]any:
		for key, v := range v {
			checkPlaces(t, s, at(key), v)
		}
	case []map[string]any:
		for i, v := range v {
			checkPlaces(t, s, at(element(i)), v)
		}
	case []any:
		for i, v := range v {
			checkPlaces(t, s, at(element(i)), v)
		}
	}
}

// keysOf reads a dotted key with the library.
func keysOf(t *testing.T, text string) (keys []string) {
	t.Helper()
	var v any
	tree := map[string]any{}
	if _, err := toml.Decode(text+" = 1", &tree); err != nil {
		t.Fatalf("%q is no key: %v", text, err)
	}
	for v = tree; ; {
		m, ok := v.(map[string]any)
		if !ok {
			return keys
		}
		for key, next := range m {
			keys = append(keys, key)
			v = next
		}
	}
}

// FuzzMerge lets one file override another. Each error must be one of either file, and
// a file that overrides itself must change nothing.
func FuzzMerge(f *testing.F) {
	for _, over := range []string{"", "[uplink.isp1]\nmetric = 5\n", "uplink = 1", "[uplink.isp1]\nroute = []\n", "[[uplink.isp1.route]]\nto = \"default\"\n", "[multipath.uplinks]\na.b = 1\n", "[uplink.isp1.addresses]\nx = 1"} {
		f.Add([]byte("[uplink.isp1]\ninterface = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.1\"]\n"), []byte(over))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		read := func(files ...[]byte) (*Spec, error) {
			d := &document{over: map[string]*source{}}
			for i, data := range files {
				d.add(&source{name: fmt.Sprint("f", i), data: data})
			}
			return d.spec()
		}
		s, err := read(first, second)
		if (s == nil) == (err == nil) {
			t.Fatal(s, err)
		}
		var list Errors
		if err != nil && (!errors.As(err, &list) || len(list) == 0) {
			t.Fatalf("%T %v", err, err)
		}
		checkPrintable(t, list)
		for _, e := range list {
			if e.File != "f0" && e.File != "f1" {
				t.Errorf("%v is in no file", e)
			}
		}
		alone, err := read(first)
		twice, err2 := read(first, first)
		if (err == nil) != (err2 == nil) {
			t.Fatalf("alone: %v\ntwice: %v", err, err2)
		}
		if err == nil && len(alone.Uplinks) != len(twice.Uplinks) {
			t.Errorf("%d uplinks, and twice the same file: %d", len(alone.Uplinks), len(twice.Uplinks))
		}
	})
}
