package rtnl_test

import (
	"fmt"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
)

// TestAnOldAddressHoldsUpNoGateway changes from one address and gateway to others that the kernel
// refuses as long as the old address is there; and back.
func TestAnOldAddressHoldsUpNoGateway(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string][2]struct{ addresses, gateway string }{
		"its broadcast address": {{`"192.0.2.1/25"`, "192.0.2.2"}, {`"192.0.2.1/24"`, "192.0.2.127"}},
		"of two":                {{`"198.51.100.10/30"`, "198.51.100.9"}, {`"198.51.100.10/31"`, "198.51.100.11"}},
		"of several":            {{`"192.0.2.1/25", "192.0.2.5/25"`, "192.0.2.2"}, {`"192.0.2.5/25", "192.0.2.1/24"`, "192.0.2.128"}},
		"itself":                {{`"192.0.2.1/24"`, "192.0.2.2"}, {`"192.0.2.2/24"`, "192.0.2.1"}},
		"itself, IPv6":          {{`"2001:db8:1::1/64"`, "2001:db8:1::2"}, {`"2001:db8:1::2/64"`, "2001:db8:1::1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := kerneltest.NewNamespace(t)
			ns.Card("e0")
			for _, step := range []int{0, 1, 0} {
				text := fmt.Sprintf("[uplink.a]\ninterface = \"e0\"\naddresses = [%s]\ngateways = [%q]\ndefault-route = true\n", tt[step].addresses, tt[step].gateway)
				a, state := applied(t, ns, text)
				if plan, _, err := a.Plan(state); err != nil || plan.Len() > 0 {
					t.Errorf("left to do: %v, %v", plan.Ops(), err)
				}
				if v, err := a.Verify(state); err != nil || !v.OK() || len(v.Checks) == 0 {
					t.Errorf("verify: %v, %v", v.Checks, err)
				}
			}
		})
	}
}
