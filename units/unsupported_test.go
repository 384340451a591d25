package units

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// TestRefusalsAreGroupedByKey wants a line for each key with its places, each place once,
// and the remedy once.
func TestRefusalsAreGroupedByKey(t *testing.T) {
	state := fib.State{}
	rule := func(line int, r fib.Rule) {
		link := fmt.Sprint("card", line)
		r.Origin, r.Link, r.Family = fib.Origin{File: "/etc/uplink/uplink.toml", Line: line}, link, fib.Inet
		r.Priority = uint32(100 + len(state.Rules))
		state.Rules = append(state.Rules, r)
	}
	const uplinks = 11
	for line := 1; line <= uplinks; line++ {
		o := fib.Origin{File: "/etc/uplink/uplink.toml", Line: line}
		name := fmt.Sprint("card", line)
		state.Links = append(state.Links, fib.Link{Name: name, Match: fib.Match{Name: name}, Uplinks: []fib.Named{{Name: name, Origin: o}}})
		rule(line, fib.Rule{Action: fib.Goto, Goto: 900})
		rule(line, fib.Rule{Action: fib.Goto, Goto: 901})
		if line < 3 {
			rule(line, fib.Rule{L3MDev: true})
		}
	}
	_, _, err := Render(state, Target{Version: Version{252, 0}, Root: rootfs.At(t.TempDir())})
	at := func(lines int) string {
		var list []string
		for line := 1; line <= lines; line++ {
			list = append(list, fmt.Sprint("/etc/uplink/uplink.toml:", line))
		}
		return strings.Join(list, ", ")
	}
	want := at(8) + ", and 3 more: GoTo= needs systemd 257\n" +
		at(2) + ": L3MasterDevice= needs systemd 256\n" +
		"systemd 252, which this is rendered for, would ignore them and apply the rest; leave them out of the spec, or take backend = \"netlink\""
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant\n%s", err, want)
	}
	var one *UnsupportedError
	if !errors.As(err, &one) {
		t.Errorf("%T is no UnsupportedError", err)
	}
}
