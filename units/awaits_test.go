package units

import (
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// TestRulesThatAwaitALinkHoldUpNoOther checks that a link's rules that networkd would
// wait with are in the file for lo.
func TestRulesThatAwaitALinkHoldUpNoOther(t *testing.T) {
	const own, lo = "10-uplink-a.network", "10-uplink-lo.network"
	byMAC := fib.Match{MAC: "02:00:00:00:00:01"}
	tests := []struct {
		name    string
		version Version
		match   fib.Match
		change  func(*fib.Rule)
		want    string
		note    string
	}{
		{"no link is named", newest, fib.Match{Name: "eth0"}, func(*fib.Rule) {}, own, ""},
		{"what comes in by another", newest, fib.Match{Name: "eth0"}, func(r *fib.Rule) { r.IIF = "wg0" }, lo, ""},
		{"what is bound to another", newest, fib.Match{Name: "eth0"}, func(r *fib.Rule) { r.OIF = "wg0" }, lo, ""},
		{"before 257 it is added at once", Version{256, 9}, fib.Match{Name: "eth0"}, func(r *fib.Rule) { r.IIF = "wg0" }, own, ""},
		{"the first that does not", Version{257, 0}, fib.Match{Name: "eth0"}, func(r *fib.Rule) { r.IIF = "wg0" }, lo, ""},
		{"the link itself", newest, fib.Match{Name: "eth0"}, func(r *fib.Rule) { r.IIF, r.OIF = "eth0", "eth0" }, own, ""},
		{"a link whose name is not known", newest, byMAC, func(r *fib.Rule) { r.IIF = "eth0" }, lo, ""},
		{"a pattern is no name", newest, fib.Match{Name: "eth*"}, func(r *fib.Rule) { r.IIF = "eth0" }, lo, ""},
		{"lo is always there", newest, byMAC, func(r *fib.Rule) { r.IIF = "lo" }, own, ""},
		{"the link itself and another", newest, fib.Match{Name: "eth0"}, func(r *fib.Rule) { r.IIF, r.OIF = "eth0", "wg0" }, lo, ""},
		{"all but another", newest, fib.Match{Name: "eth0"}, func(r *fib.Rule) { r.IIF, r.Not = "wg0", true }, lo, "only once its iif and oif are there"},
		{"all but the link itself", newest, fib.Match{Name: "eth0"}, func(r *fib.Rule) { r.IIF, r.Not = "eth0", true }, own, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := withRule(tt.change)
			s.Links[0].Match = tt.match
			tree, notes, err := Render(s, Target{Version: tt.version, Root: rootfs.At(t.TempDir())})
			if err != nil {
				t.Fatal(err)
			}
			if tt.note == "" && len(notes) > 0 || tt.note != "" && (len(notes) != 1 || !strings.Contains(notes[0].String(), tt.note)) {
				t.Errorf("notes %v, want %q", notes, tt.note)
			}
			var in []string
			for _, f := range tree {
				if strings.Contains(string(f.Data), "\n[RoutingPolicyRule]\n") {
					in = append(in, strings.TrimPrefix(f.Path, networkDir+"/"))
				}
			}
			if len(in) != 1 || in[0] != tt.want {
				t.Errorf("the rule is in %v, want %s", in, tt.want)
			}
		})
	}
}
