package integration

import (
	"testing"

	"github.com/uplink-generator/uplink-generator/units"
)

// The parts of the reference example that a networkd may not know, or that a lab cannot have.
// Everything else is tested with the installed one.
var referenceParts = []struct {
	since units.Version // zero: no lab has it
	why   string        // it cannot be had
	text  string        // what goes
	stays string        // in its place
}{
	{units.Version{Major: 257}, "GoTo=", `
[[uplink.alpha.rule]]
priority = 902
from     = "192.0.2.128/25"
goto     = 1000
`, ""},
	{units.Version{Major: 256}, "L3MasterDevice=", `
[[uplink.alpha.rule]]
priority = 903
family   = "both"
iif      = "lo"
l3mdev   = true
`, ""},
	{units.Version{Major: 250}, "SuppressInterfaceGroup=", "suppress-ifgroup      = 7\n", ""},
	{units.Version{Major: 248}, "TCPAdvertisedMaximumSegmentSize=", "advmss   = 1360\n", ""},
	{units.Version{Major: 248}, "Type= of a rule", `
[[uplink.alpha.rule]]
priority = 901
from     = "192.0.2.64/26"
type     = "prohibit"
`, ""},
	{units.Version{}, "a path comes from udev", `path      = "*"
`, ""},
	{units.Version{}, "MultiPathRoute= has no onlink", `via = "198.51.100.3", onlink = true`, `via = "198.51.100.3"`},
}

// installedSubset returns a root with the reference spec as far as the installed
// networkd and the lab go.
func installedSubset(t *testing.T, root string) string {
	t.Helper()
	installed := installedVersion(t)
	for _, p := range referenceParts {
		if p.since == (units.Version{}) || installed.Before(p.since) {
			root = edited(t, root, p.text, p.stays)
		}
	}
	return root
}
