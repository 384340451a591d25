package rtnl_test

import (
	"context"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// compile returns the State of a spec.
func compile(t *testing.T, text string) fib.State {
	t.Helper()
	s, err := spec.Parse("uplink.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	state, err := gen.Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// applied brings a spec about in a namespace.
func applied(t *testing.T, ns *kerneltest.Namespace, text string) (apply.Applier, fib.State) {
	t.Helper()
	state := compile(t, text)
	a := apply.Applier{Kernel: ns.Kernel(), Hardware: ns.Hardware()}
	if _, err := a.Apply(context.Background(), state); err != nil {
		t.Fatal(err)
	}
	return a, state
}

// hazards returns those that verify finds and that have a text.
func hazards(t *testing.T, a *apply.Applier, state fib.State, text string) (found []string) {
	t.Helper()
	v, err := a.Verify(state)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range v.Hazards {
		if strings.Contains(h.Text, text) {
			found = append(found, h.Text)
		}
	}
	return found
}
