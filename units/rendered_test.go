package units_test

import (
	"path/filepath"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

// TestContentsHasWhatWasRendered finds all that the examples ask for in the files that are
// rendered from them, and nothing else.
func TestContentsHasWhatWasRendered(t *testing.T) {
	found := 0
	for _, name := range exampleNames(t) {
		root := rootfs.At(filepath.Join(examples, name, "root"))
		s, err := spec.Load(root)
		if err != nil {
			t.Fatal(err)
		}
		state, err := gen.Compile(s)
		if err != nil {
			t.Fatal(err)
		}
		tree, _, err := units.Render(state, units.Target{Version: units.Version{Major: 262}, Root: root})
		if err != nil {
			t.Fatal(err)
		}
		c := tree.Contents()
		if c.Empty() || !(units.Tree{}).Contents().Empty() {
			t.Errorf("%s: %v", name, c)
		}
		expect := func(what any, file string, ok, want bool) {
			t.Helper()
			if found++; ok != want || ok != (file != "") {
				t.Errorf("%s: %+v: found %t in %q", name, what, ok, file)
			}
		}
		for _, r := range state.Rules {
			file, ok := c.Rule(r.Key())
			expect(r, file, ok, true)
			r.Priority += 1 << 20
			file, ok = c.Rule(r)
			expect(r, file, ok, false)
		}
		for _, r := range state.Routes {
			if len(r.Nexthops) > 1 {
				continue // each link's file has its own part, or one needs the link's name
			}
			file, ok := c.Route(r)
			expect(r, file, ok, true)
			r.Table += 1 << 20
			file, ok = c.Route(r)
			expect(r, file, ok, false)
		}
		for _, a := range state.Addresses {
			file, ok := c.Address(a)
			expect(a, file, ok, true)
		}
	}
	if found < 50 {
		t.Errorf("looked for %d", found)
	}
}
