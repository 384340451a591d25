package host

import (
	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// noteOld notes where the addresses are that are in effect, what routes there are, and into
// which tables links learn.
func (r *reload) noteOld() error {
	was, there, err := r.Effective()
	if err != nil || !there {
		return nil //nolint:nilerror // it is written anew
	}
	have, err := r.Kernel.Observe(apply.Scope{Only: apply.Links | apply.Addresses})
	if err != nil {
		return err
	}
	// A match that has become ambiguous is of the old spec alone.
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

// leftLearned is leftovers of what networkd has learned into a table for a link that does not
// learn into it any more. A networkd that has been restarted since, and that leaves alone what
// others have made, takes these for others' and lets them run out, which may take days; where
// another uplink has the table now, the kernel makes one route with two ways of both.
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
