package rtnl_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/apply/rtnl"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/need"
)

// TestKernelWithoutPolicyRouting has the errnos of a kernel without rules: one where other
// protocols use the code for them (EAFNOSUPPORT, fib_nl_dumprule in net/core/fib_rules.c), and
// one without that code (EOPNOTSUPP, rtnetlink_rcv_msg).
func TestKernelWithoutPolicyRouting(t *testing.T) {
	k := kerneltest.NewNamespace(t).Kernel()
	for _, errno := range []error{unix.EAFNOSUPPORT, unix.EOPNOTSUPP} {
		for _, f := range fib.Families {
			if err := k.WithoutRules(f, errno); !errors.Is(err, rtnl.ErrNoRules) || !errors.Is(err, errno) {
				t.Errorf("%s: %v", f, err)
			}
		}
	}
	// Here there are rules.
	if !k.HasInet6() {
		need.Nil(t, errors.New("this kernel has no IPv6"))
	}
	if s, err := k.Observe(apply.Scope{Only: apply.Rules}); err != nil || len(s.Rules) < 5 {
		t.Error(s.Rules, err)
	}
}
