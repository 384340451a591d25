package rtnl_test

import (
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
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
