package host

import (
	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// noteOld notes where the addresses in effect are, which routes are in effect, and into which
// tables links learn.
func (r *reload) noteOld() error {
	was, there, err := r.Effective()
	if err != nil || !there {
		return nil //nolint:nilerror // it is written anew
	}
	have, err := r.Kernel.Observe(apply.Scope{Only: apply.Links | apply.Addresses})
	if err != nil {
		return err
	}
	// A match that has become ambiguous matters only to the old spec.
	want, _ := apply.Resolve(was.State, have, r.Hardware)
	r.oldOn, r.oldRoutes = addressesOn(want), map[fib.RouteKey]bool{}
	for _, o := range was.State.Routes {
		r.oldRoutes[o.Key()] = true
	}
	r.oldInto = learnsInto(want)
	return nil
}

// learnsInto returns by interface the tables that links learn into.
func learnsInto(want apply.Resolved) map[string]uint32 {
	into := map[string]uint32{}
	for _, l := range want.Links {
		if l.Learn.Any() {
			into[l.Device.Name] = l.Learn.Table
		}
	}
	return into
}

// leftLearned finds the routes that networkd has learned into a table for a link that no longer
// learns into it. If networkd has been restarted since, and leaves alone what others have made, it
// takes them for others' and lets them expire, which may take days. If another uplink has the table
// now, the kernel joins both uplinks' routes into one with two ways.
func (r *reload) leftLearned(want apply.Resolved, have apply.Snapshot) (left []leftover) {
	into := learnsInto(want)
	for _, h := range have.Routes {
		if h.Protocol != apply.ProtocolRA && h.Protocol != apply.ProtocolDHCP {
			continue
		}
		file, ok := r.oldHas.Learned(h.Table)
		if !ok {
			continue
		}
		for _, way := range ways(h.Route) {
			if len(way.Nexthops) == 1 && r.oldInto[way.Nexthops[0].Link] == h.Table && into[way.Nexthops[0].Link] != h.Table {
				left = append(left, leftover{cure: apply.Op{Verb: apply.RouteDel, Route: &way, Owner: fib.Some(h.Protocol)}, file: file})
			}
		}
	}
	return left
}
