package gen

import (
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// firstAuto is where automatic numbers of tables and priorities begin: above what
// people number by hand, and away from what container networks and VPNs take.
const firstAuto = 10000

// The bands of main-routes-first. Each uplink's rules stand at its priority, with
// the defaults of its table suppressed; then comes one rule for main with its
// defaults suppressed; then the uplink's rules again, in full; and at the very
// end those that fail closed.
const (
	priorityMainSpecific = spec.MaxPriorityMainRoutesFirst + 1
	fullLookupOffset     = spec.MaxPriorityMainRoutesFirst + 2
	priorityLastResort   = fib.PriorityMain - 1
)

// tables gives each uplink its table's number: the given one, or the lowest free
// number from firstAuto up, in order of the names.
func tables(s *spec.Spec) map[string]uint32 {
	used := map[uint32]bool{fib.TableDefault: true, fib.TableMain: true, fib.TableLocal: true}
	for _, u := range s.Uplinks {
		used[u.Table] = true
		for _, r := range u.Routes {
			used[r.Table.ID] = true
		}
		for _, r := range u.Rules {
			used[r.Table.ID] = true
		}
	}
	ids := make(map[string]uint32, len(s.Uplinks))
	next := uint32(firstAuto)
	for _, u := range s.Uplinks {
		if u.Table == 0 {
			for used[next] {
				next++
			}
			u.Table = next
			next++
		}
		ids[u.Name] = u.Table
	}
	return ids
}

// priorities gives each uplink the priority of its rules: the given one, or the
// lowest free number from firstAuto up, in order of the names. Once they have run
// out the last one is shared, which disjoint selectors allow.
func priorities(s *spec.Spec) map[string]uint32 {
	last := uint32(fib.PriorityMain - 1)
	if s.MainRoutesFirst {
		last = spec.MaxPriorityMainRoutesFirst
	}
	used := map[uint32]bool{}
	for _, u := range s.Uplinks {
		used[u.Priority] = true
		for _, r := range u.Rules {
			used[r.Priority] = true
		}
	}
	numbers := make(map[string]uint32, len(s.Uplinks))
	next := uint32(firstAuto)
	for _, u := range s.Uplinks {
		if u.Priority == 0 {
			for used[next] && next < last {
				next++
			}
			u.Priority = next
			next = min(next+1, last)
		}
		numbers[u.Name] = u.Priority
	}
	return numbers
}
