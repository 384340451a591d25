package rtnl_test

import (
	"slices"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// TestKernel holds the running kernel to the contract that the fake keeps.
func TestKernel(t *testing.T) {
	kerneltest.Run(t, func(t *testing.T) apply.Kernel {
		n := kerneltest.NewNamespace(t)
		n.Card(kerneltest.Links...)
		k := n.Kernel()
		if _, err := k.Observe(apply.Scope{}); err != nil {
			t.Fatal(err)
		}
		return k
	})
}

// TestRulesKeepTheirBits removes rules of others as they are read: the kernel keeps the bits
// beyond a prefix's length, and finds a rule by them.
func TestRulesKeepTheirBits(t *testing.T) {
	t.Parallel()
	n := kerneltest.NewNamespace(t)
	n.IP("rule add priority 5 from 192.0.2.10/25 lookup 7 protocol 4", "-6 rule add priority 5 to 2001:db8::1/64 lookup 7 protocol 4")
	k := n.Kernel()
	others := func() (list []apply.Rule) {
		t.Helper()
		have, err := k.Observe(apply.Scope{Foreign: true})
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(have.Rules, func(r apply.Rule) bool { return r.Priority != 5 })
	}
	var ops []apply.Op
	for _, r := range others() {
		ops = append(ops, apply.Op{Verb: apply.RuleDel, Rule: &r.Rule, Owner: fib.Some(r.Protocol)})
	}
	for i, err := range k.Execute(ops) {
		if err != nil {
			t.Errorf("%s: %v", ops[i], err)
		}
	}
	if left := others(); len(ops) != 2 || len(left) != 0 {
		t.Errorf("of %d rules there are still %+v", len(ops), left)
	}
}
