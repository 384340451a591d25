package gen

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/uplink-generator/uplink-generator/gen/fib"

	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// manyUplinks returns a spec with n uplinks of one address each.
func manyUplinks(n int, head string) []byte {
	var b strings.Builder
	b.WriteString(head)
	for i := range n {
		fmt.Fprintf(&b, "[uplink.u%05d]\ninterface = \"eth%d\"\naddresses = [\"10.%d.%d.2/24\"]\ngateways = [\"10.%d.%d.1\"]\n", i, i, i>>8, i&255, i>>8, i&255)
	}
	return []byte(b.String())
}

// TestMoreUplinksThanPriorities checks that the last priority is shared once there
// is none left, and that every band stays below main.
func TestMoreUplinksThanPriorities(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of uplinks")
	}
	t.Parallel()
	const probe = "[uplink.u00000.probe]\ntargets = [\"192.0.2.1\"]\n"
	for head, last := range map[string]uint32{
		"": fib.PriorityMain - 1, "main-routes-first = true\n": fib.PriorityMain - 2,
		probe: fib.PriorityFailover - 1, "main-routes-first = true\n" + probe: fib.PriorityFailover - 2,
		"main-routes-first = true\n#closed\n" + probe: fib.PriorityFailover - 1,
	} {
		n := 23_000
		if strings.Contains(head, "main-routes-first") {
			n = 7_000 // half as many numbers
		}
		text := manyUplinks(n, head)
		if strings.Contains(head, "closed") {
			text = bytes.ReplaceAll(text, []byte("\naddresses"), []byte("\nfallthrough = \"prohibit\"\naddresses"))
		}
		s, err := spec.Parse("f", text)
		if err != nil {
			t.Fatal(err)
		}
		state, err := Compile(s)
		if err != nil {
			t.Fatal(err)
		}
		checkState(t, &state)
		if got := state.Rules[len(state.Rules)-1].Priority; got != last {
			t.Errorf("%sthe last rule stands at %d, want %d", head, got, last)
		}
		if got := state.Rules[0].Priority; got != fib.FirstNumber {
			t.Errorf("%sthe first rule stands at %d", head, got)
		}
	}
}

// TestCompileTwice checks that a second Compile reports the same errors, and none twice.
func TestCompileTwice(t *testing.T) {
	t.Parallel()
	s, err := spec.Parse("f", []byte("[uplink.a]\ninterface = \"eth0\"\n[[uplink.a.rule]]\npriority = 9\niif = \"x\"\ngoto = 3\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, first := Compile(s)
	_, second := Compile(s)
	if first == nil || second == nil || first.Error() != second.Error() {
		t.Errorf("%v\n%v", first, second)
	}
}

// TestHiddenRulesOfOtherLinks checks that a rule that stands for those of an uplink that
// fails closed follows no link: otherwise all would be gone with the rule's own link.
func TestHiddenRulesOfOtherLinks(t *testing.T) {
	t.Parallel()
	archive, err := txtar.ParseFile("testdata/rule-hidden-of-another-link.txtar")
	if err != nil {
		t.Fatal(err)
	}
	s, err := spec.Parse("uplink.toml", archive.Files[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	state, err := Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range state.Rules {
		if want := map[bool]string{true: "isp"}[r.Priority == 10000]; r.Link != want {
			t.Errorf("priority %d follows %q, want %q", r.Priority, r.Link, want)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	data := manyUplinks(1000, "")
	for b.Loop() {
		s, err := spec.Parse("f", data)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Compile(s); err != nil {
			b.Fatal(err)
		}
	}
}
