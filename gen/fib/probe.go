package fib

import (
	"net/netip"
	"slices"
	"time"
)

// PriorityFailover is the first of the two priorities at which rules lead to the
// Failover's table: behind the rules of all uplinks, before main.
const PriorityFailover = PriorityMain - 2

// Verdict is about one uplink in one family: each family is judged by itself.
type Verdict struct {
	Uplink string
	Family Family
}

// Probe says how to find out whether an uplink works in one family.
type Probe struct {
	Verdict
	Link              string       // Link.Name
	Targets           []netip.Addr // all of the family
	Sources           []netip.Addr // the uplink's addresses of the family; none where they are learned
	Mark              uint32       // the uplink's fwmark; 0 for none
	Port              uint16       // of a TCP connect; 0 for an ICMP echo
	Interval, Timeout time.Duration
	Down, Up          uint32 // failed rounds in a row until it is dead, good ones until it is alive
	Reliability       uint32 // targets that must answer in a good round
	Origin            Origin
}

// Equal says whether two probes ask in the same way, and so find the same.
func (p Probe) Equal(o Probe) bool {
	return p.Verdict == o.Verdict && p.Link == o.Link && p.Mark == o.Mark && p.Port == o.Port && p.Interval == o.Interval && p.Timeout == o.Timeout &&
		p.Down == o.Down && p.Up == o.Up && p.Reliability == o.Reliability && slices.Equal(p.Targets, o.Targets) && slices.Equal(p.Sources, o.Sources)
}

// Failover is where traffic that would leave through table main goes while the uplink that
// main uses is dead. The zero value is for a State without probes.
type Failover struct {
	Table  uint32
	Ways   []MainWay // by uplink, then by family
	Origin Origin
}

// MainWay is an uplink's default route in table main.
type MainWay struct {
	Verdict
	Link   string // Link.Name
	Table  uint32 // the uplink's own, which has the gateway
	Metric uint32 // in main, for the kernel; 0 for IPv4 where none is given
	Weight uint16 // its share of a multipath route, whose ways come first; 0 for a route by itself
}

// NeedsWatch says whether the State must be watched while it is in effect, because it
// depends on what happens on the network.
func (s *State) NeedsWatch() bool { return s.Learns() || len(s.Probes) > 0 }

// usedLinks returns the links that are needed to probe, or to fail over to.
func (s *State) usedLinks() map[string]bool {
	used := make(map[string]bool, len(s.Failover.Ways))
	for i := range s.Probes {
		used[s.Probes[i].Link] = true
	}
	for i := range s.Failover.Ways {
		used[s.Failover.Ways[i].Link] = true
	}
	return used
}
