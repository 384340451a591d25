package spec

import (
	"fmt"
	"net/netip"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// FailoverTable is the name of the table that traffic uses while the uplink that it
// would leave by is dead.
const FailoverTable = "failover"

// probe checks what no single value of a probe can show.
func (v uplinkChecker) probe() {
	p := v.Probe
	var count [2]uint32 // targets by family
	families, seen := v.Families(), make(map[netip.Addr]bool, len(p.Targets))
	for i, a := range p.Targets {
		key := []string{"probe", "targets", element(i)}
		f := fib.FamilyOf(a)
		count[bool2int(a.Is6())]++
		switch {
		case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || isBroadcast(a):
			v.failValue("", a.String()+" answers nobody", key...)
		case seen[a]:
			v.failValue("", a.String()+" is given twice", key...)
		case v.spec.own[a]:
			v.failValue("give one beyond the provider's gateway", a.String()+" is the host's own address: it says nothing of the uplink", key...)
		case families != Families{} && !families.Has(f):
			v.failValue("", fmt.Sprintf("the uplink has nothing of %s to reach %s by", f, a), key...)
		}
		seen[a] = true
	}
	for i, n := range count {
		if n > 0 && n < p.Reliability {
			v.failValue("", fmt.Sprintf("`reliability` asks for %d answers of %d %s targets", p.Reliability, n, fib.Families[i]), "probe", "reliability")
			break
		}
	}
	if p.Timeout > p.Interval {
		v.failValue("", fmt.Sprintf("a round would last longer (%d s) than it takes to the next (%d s)", p.Timeout, p.Interval), "probe", "timeout")
	}
}
