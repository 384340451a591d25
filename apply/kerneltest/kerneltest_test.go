package kerneltest_test

import (
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
)

// TestFake holds the fake to the contract that the real kernel keeps, see apply/rtnl.
func TestFake(t *testing.T) {
	kerneltest.Run(t, func(*testing.T) apply.Kernel { return kerneltest.NewFake(kerneltest.Links...) })
}
