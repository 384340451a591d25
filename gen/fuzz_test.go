package gen

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// FuzzCompile holds what both back ends rely on: that a State is the same each
// time, sorted, without two routes that the kernel would take for one, and within
// the kernel's ranges.
func FuzzCompile(f *testing.F) {
	files, _ := filepath.Glob("../integration/examples/*/root/etc/uplink/uplink.toml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	cases, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range cases {
		a, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if len(a.Files) == 2 && a.Files[1].Name == "state" {
			f.Add(a.Files[0].Data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := spec.Parse("f", data)
		if err != nil {
			return
		}
		state, err := Compile(s)
		if err != nil {
			if s.Err() == nil {
				t.Errorf("%v is not the spec's error", err)
			}
			return
		}
		checkState(t, &state)
		s2, err := spec.Parse("f", data)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Compile(s2); err != nil || !reflect.DeepEqual(state, again) {
			t.Errorf("another time: %v\n%s\n%s", err, state.Text(), again.Text())
		}
	})
}

func checkState(t *testing.T, s *fib.State) {
	t.Helper()
	sorted := s.Clone()
	sorted.Tables, sorted.Addresses = slices.Clone(s.Tables), slices.Clone(s.Addresses)
	sorted.Sort()
	if !reflect.DeepEqual(*s, sorted) {
		t.Errorf("not sorted:\n%s", s.Text())
	}
	link := func(name, where string) {
		if _, ok := s.Link(name); !ok && name != "" {
			t.Errorf("%s: no link %q", where, name)
		}
	}
	x := s.Syntax()
	keys := map[fib.RouteKey]bool{}
	ids := map[uint32]bool{}
	for _, table := range s.Tables {
		if table.ID == 0 || table.ID >= fib.TableDefault && table.ID <= fib.TableLocal || ids[table.ID] {
			t.Errorf("table %d %s", table.ID, table.Name)
		}
		ids[table.ID] = true
	}
	for _, a := range s.Addresses {
		link(a.Link, x.Address("add", a))
	}
	for _, r := range s.Routes {
		line := x.Route("add", r)
		link(r.Link, line)
		for _, hop := range r.Nexthops {
			link(hop.Link, line)
			if hop.Link == "" || hop.Via.IsValid() && fib.FamilyOf(hop.Via) != r.Family || hop.OnLink && !hop.Via.IsValid() {
				t.Errorf("nexthop of %s", line)
			}
			if (hop.Weight == 0) != (len(r.Nexthops) == 1) || hop.Weight > 256 {
				t.Errorf("weight of %s", line)
			}
		}
		switch {
		case keys[r.Key()]:
			t.Errorf("twice: %s", line)
		case r.Family == fib.Inet6 && (r.Metric == 0 || r.Scope != 0):
			t.Errorf("metric or scope: %s", line)
		case r.Table == 0 || r.Table == fib.TableLocal:
			t.Errorf("table: %s", line)
		case r.Dst != r.Dst.Masked() || fib.FamilyOf(r.Dst.Addr()) != r.Family || r.Src.IsValid() && fib.FamilyOf(r.Src) != r.Family:
			t.Errorf("prefix: %s", line)
		case r.Type.HasDevice() != (len(r.Nexthops) > 0) || r.Type.HasDevice() && r.Link != r.Nexthops[0].Link:
			t.Errorf("nexthops: %s", line)
		}
		keys[r.Key()] = true
	}
	for i, r := range s.Rules {
		line := x.Rule("add", r)
		link(r.Link, line)
		for _, p := range []struct {
			bits int
			ok   bool
		}{{r.From.Bits(), fib.FamilyOf(r.From.Addr()) == r.Family}, {r.To.Bits(), fib.FamilyOf(r.To.Addr()) == r.Family}} {
			if p.bits > 0 && !p.ok {
				t.Errorf("family: %s", line)
			}
		}
		switch {
		case r.Priority < 1 || r.Priority >= fib.PriorityMain:
			t.Errorf("priority: %s", line)
		case (r.Action == fib.Lookup && !r.L3MDev) != (r.Table != 0) || r.Table == fib.TableLocal:
			t.Errorf("table: %s", line)
		case (r.Action == fib.Goto) != (r.Goto > r.Priority):
			t.Errorf("goto: %s", line)
		case r.Mark&^r.Mask != 0:
			t.Errorf("mark: %s", line)
		case i > 0 && r.Compare(&s.Rules[i-1]) == 0:
			t.Errorf("twice: %s", line)
		}
	}
	text := s.Text()
	if text != "" && !strings.HasSuffix(text, "\n") || strings.Contains(text, "\n\n") {
		t.Errorf("empty line:\n%s", text)
	}
	for line := range strings.Lines(text) {
		word, _, _ := strings.Cut(strings.TrimPrefix(line, "-6 "), " ")
		if !slices.Contains([]string{"#", "link", "address", "route", "rule"}, word) || strings.Contains(line, "  ") {
			t.Errorf("no line of ip(8): %q", line)
		}
	}
}

// TestExamples compiles every example.
func TestExamples(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob("../integration/examples/*/root/etc/uplink/uplink.toml")
	for _, file := range files {
		s, err := spec.LoadFiles(rootfsHost, file)
		if err != nil {
			t.Fatal(err)
		}
		state, err := Compile(s)
		if err != nil {
			t.Fatal(err)
		}
		checkState(t, &state)
	}
}

// FuzzCommandLine checks that any command line is understood, or reported in one short
// line that a terminal shows as it is.
func FuzzCommandLine(f *testing.F) {
	for _, s := range []string{"", "quiet uplink=0", "uplink.backend=networkd uplink_backend=x", "/sbin/init\x00uplink=\"a\x1b\"\x00", "uplink=\"", "uplink.backend=\xff\u202e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c := parseCommandLine(s)
		if _, ok := spec.ParseBackend(string(c.Backend)); c.Backend != "" && !ok {
			t.Errorf("back end %q", c.Backend)
		}
		if len(c.Bad) > 300 || strings.ContainsFunc(c.Bad, func(c rune) bool { return !unicode.IsPrint(c) }) {
			t.Errorf("it is said that %q is bad", c.Bad)
		}
	})
}
