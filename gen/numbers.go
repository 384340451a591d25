package gen

import (
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// The bands of main-routes-first. Each uplink's rules stand at its priority, with
// the defaults of its table suppressed; then comes one rule for main with its
// defaults suppressed; then, fib.FullLookupOffset higher, the uplink's rules again,
// in full, followed by the rules that refuse where the uplink fails closed.
const priorityMainSpecific = spec.MaxPriorityMainRoutesFirst + 1

// tables gives each uplink its table's number: the given one, or the lowest free
// number from fib.FirstNumber up, in order of the names. The table to fail over to
// gets the next free one.
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
	next := uint32(fib.FirstNumber)
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
	for used[next] {
		next++
	}
	if s.HasProbes() {
		ids[spec.FailoverTable] = next
	}
	return ids
}

// priorities gives each uplink the priority of its rules: the given one, or the
// lowest free number from fib.FirstNumber up, in order of the names. Once the
// numbers have run out, uplinks share the last one, which disjoint selectors allow.
//
// Uplinks that fail closed come before the others: a packet may have the mark of one
// and the address of another uplink, and must not slip out by the other. The kernel
// itself makes such packets: where an IPv6 lookup without a source ends in
// "unreachable", it picks a source and asks again (ip6_dst_lookup_tail). With
// main-routes-first each uplink that fails closed takes two numbers, see failClosed.
func priorities(s *spec.Spec) map[string]uint32 {
	end := uint32(fib.PriorityMain)
	if s.HasProbes() {
		end = fib.PriorityFailover
	}
	last := end - 1
	if s.MainRoutesFirst {
		// The rules stand again in the upper band, and those that refuse right behind.
		last = end - fib.FullLookupOffset - 2
	}
	numbers := func(u *spec.Uplink) uint32 {
		if s.MainRoutesFirst && u.Fallthrough != 0 {
			return 2
		}
		return 1
	}
	used := map[uint32]bool{}
	for i := range s.Uplinks {
		u := &s.Uplinks[i]
		for n := range numbers(u) {
			used[u.Priority+n] = true
		}
		for _, r := range u.Rules {
			used[r.Priority] = true
		}
	}
	given := make(map[string]uint32, len(s.Uplinks))
	next := uint32(fib.FirstNumber)
	for _, closed := range []bool{true, false} {
		for i := range s.Uplinks {
			u := &s.Uplinks[i]
			switch {
			case (u.Fallthrough != 0) != closed:
				continue
			case u.Priority != 0:
				given[u.Name] = u.Priority
				continue
			}
			n := numbers(u)
			for next < last && (used[next] || n == 2 && used[next+1]) {
				next++
			}
			given[u.Name] = next
			next = min(next+n, last)
		}
	}
	return given
}
