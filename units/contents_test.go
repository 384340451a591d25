package units_test

import (
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

// TestContentsHasWhatWasRendered checks that Contents finds all that the examples ask
// for in the files rendered from them, and nothing else.
func TestContentsHasWhatWasRendered(t *testing.T) {
	found, sourceless, multipath := 0, 0, map[fib.Family]bool{}
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
			// As the kernel has it, with the names of interfaces.
			r.Nexthops = slices.Clone(r.Nexthops)
			for i, n := range r.Nexthops {
				l, _ := state.Link(n.Link)
				if dev, ok := l.Match.Device(); ok {
					r.Nexthops[i].Link = dev
				}
			}
			multipath[r.Family] = multipath[r.Family] || len(r.Nexthops) > 1
			file, ok := c.Route(r)
			expect(r, file, ok, true)
			if r.Src.IsValid() {
				had := r
				had.Src = netip.Addr{}
				file, ok = c.Route(had)
				expect(had, file, ok, r.Family == fib.Inet6)
				sourceless++
			}
			r.Table += 1 << 20
			file, ok = c.Route(r)
			expect(r, file, ok, false)
		}
		for _, a := range state.Addresses {
			file, ok := c.Address(a)
			expect(a, file, ok, true)
		}
	}
	if !multipath[fib.Inet] || !multipath[fib.Inet6] {
		t.Errorf("no multipath route of each family: %v", multipath)
	}
	if found < 50 || sourceless == 0 {
		t.Errorf("looked for %d, of which %d had a source", found, sourceless)
	}
}

// TestContentsHasTheTablesOfWhatIsLearned asks for the table of an uplink that learns, and not for
// one of an uplink that does not.
func TestContentsHasTheTablesOfWhatIsLearned(t *testing.T) {
	state := fib.State{Links: []fib.Link{{
		Name: "rt2", Match: fib.Match{Name: "eth1"}, Uplinks: []fib.Named{{Name: "rt2"}}, Learn: fib.Learn{DHCP4: true, RA: true, Table: 4294967295},
	}}}
	tree, _, err := units.Render(state, units.Target{Version: units.Version{Major: 262}, Root: rootfs.At(t.TempDir())})
	if err != nil {
		t.Fatal(err)
	}
	c := tree.Contents()
	if file, ok := c.Learned(4294967295); !ok || file != "/run/systemd/network/10-uplink-rt2.network" {
		t.Errorf("%q, %t", file, ok)
	}
	if file, ok := c.Learned(1); ok {
		t.Errorf("table 1 is in %s", file)
	}
}
