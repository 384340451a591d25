package apply_test

import (
	"encoding/json"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
)

// TestRestore goes from one state to another and back, with what there was written down
// in between.
func TestRestore(t *testing.T) {
	for _, c := range []struct{ name, before, after string }{
		{"FromNothing", "", full},
		{"ToNothing", full, ""},
		{"Change", full, changed},
		{"ChangeBack", changed, full},
		{"Recipe", recipe, dualStack},
		{"PrefixLength", sourced, resized(sourced)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := kerneltest.NewNamespace(t)
			n.Card(kerneltest.Links...)
			a := &apply.Applier{Kernel: n.Kernel(), Hardware: noHardware{}}
			bring(t, a, c.before)
			n.Settle()
			before := n.Dump()
			held, err := a.Held(apply.Scope{})
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(held)
			if err != nil {
				t.Fatal(err)
			}
			if bring(t, a, c.after); n.Dump() == before {
				t.Fatal("nothing has changed")
			}
			held = apply.Snapshot{}
			if err := json.Unmarshal(text, &held); err != nil {
				t.Fatal(err)
			}
			if err := a.Restore(held); err != nil {
				t.Fatal(err)
			}
			n.Settle()
			// New addresses come behind or before all others.
			if d := kerneltest.Diff(sorted(before), sorted(n.Dump())); d != "" {
				t.Error(d)
			}
			sent := n.Dump()
			if err := a.Restore(held); err != nil || n.Dump() != sent {
				t.Errorf("a second time: %v", err)
			}
		})
	}
}

// TestRestoreOnACardThatWasPulled has a card come back with another index, and another
// one not at all.
func TestRestoreOnACardThatWasPulled(t *testing.T) {
	k := kerneltest.NewFake(kerneltest.Links...)
	a := &apply.Applier{Kernel: k, Hardware: noHardware{}}
	bring(t, a, full)
	held, err := a.Held(apply.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	bring(t, a, "")
	for i := range k.Links {
		switch l := &k.Links[i]; l.Name {
		case "card0":
			l.Index += 100
		case "card1":
			l.Index += 100
			l.MAC = "02:00:00:00:00:99" // somebody else's by that name
		default:
		}
	}
	if err := a.Restore(held); err != nil {
		t.Fatal(err)
	}
	on := map[string]int{}
	for _, h := range k.Addresses {
		on[h.Link]++
	}
	if on["card0"] != 4 || on["card1"] != 0 || on["card2"] != 2 {
		t.Errorf("addresses by link: %v", on)
	}
}
