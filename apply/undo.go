package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// undo brings back what was ours before a plan was begun. It plans anew, from what is there now:
// where an answer was lost nobody knows whether the operation was carried out, and one operation
// can undo another (an address takes others along), which is why it looks again at the end. It
// goes on after an error.
func (a *Applier) undo(done Plan, have Snapshot) error {
	var errs []error
	failed := func(err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("while undoing what was done: %w", err))
		}
	}
	for round := 1; ; round++ {
		now, err := a.observe(Scope{})
		if err != nil {
			failed(err)
			break
		}
		back, err := NewPlan(before(done, have, now), now)
		failed(err)
		if round > rounds || round > 1 && back.Len() == 0 {
			break
		}
		a.keepSecondaries(&back, now)
		for _, stage := range slices.Concat(back.Make, back.Break) {
			failed(a.settle(context.Background(), stage.Settle))
			if a.Journal != nil {
				failed(a.Journal.before(stage.Ops))
			}
			_, err := a.stage(stage.Ops)
			failed(err)
		}
		if a.Journal != nil {
			failed(a.Journal.after(back))
		}
	}
	ops, err := a.reorder(have.Rules)
	failed(err)
	if len(ops) > 0 {
		_, err := a.stage(ops)
		failed(err)
	}
	for _, o := range done.Ops() {
		if o.Verb == LinkPromote && !o.Promote {
			_, err := a.stage([]Op{o})
			failed(err)
		}
	}
	return errors.Join(errs...)
}

// before is what was ours in a snapshot, on the links that are still there and under their
// present names, and the settings that a plan changed.
func before(done Plan, have, now Snapshot) Resolved {
	byIndex := make(map[int]Link, len(now.Links))
	for _, l := range now.Links {
		byIndex[l.Index] = l
	}
	links := make(map[string]Link, len(have.Links))
	for _, l := range have.Links {
		if n, ok := byIndex[l.Index]; ok {
			links[l.Name] = n
		}
	}
	var was Resolved
	for _, o := range done.Ops() {
		if l, ok := links[o.Link]; ok && o.Verb == LinkMTU {
			was.Links = append(was.Links, ResolvedLink{fib.Link{MTU: o.BeforeMTU}, l})
		}
	}
	var inet6 []fib.Address
	for _, h := range have.Addresses {
		l, ok := links[h.Link]
		if !h.Ours || !ok {
			continue
		}
		if h.Link = l.Name; h.Family() == fib.Inet6 {
			inet6 = append(inet6, h.Address)
		} else {
			was.Addresses = append(was.Addresses, h.Address)
		}
	}
	slices.Reverse(inet6) // shown from the newest to the oldest
	was.Addresses = append(inet6, was.Addresses...)
routes:
	for _, h := range have.Routes {
		if !h.Ours() {
			continue
		}
		h.Nexthops = slices.Clone(h.Nexthops)
		for i, n := range h.Nexthops {
			l, ok := links[n.Link]
			if !ok {
				continue routes
			}
			h.Nexthops[i].Link = l.Name
		}
		was.Routes = append(was.Routes, h.Route)
	}
	for _, h := range have.Rules {
		if h.Ours() {
			was.Rules = append(was.Rules, h.Rule)
		}
	}
	return was
}

// reorder returns the operations that put our rules of one priority back in their old order, once
// nothing else of ours is there. The kernel puts a rule behind all others of its priority, so all
// from the first misplaced one on are added once more, and then the first of each two is deleted.
func (a *Applier) reorder(had []Rule) ([]Op, error) {
	now, err := a.Kernel.Observe(Scope{})
	if err != nil {
		return nil, err
	}
	type place struct {
		family   fib.Family
		priority uint32
	}
	ours := func(rules []Rule) map[place][]*fib.Rule {
		groups := map[place][]*fib.Rule{}
		for i := range rules {
			if r := &rules[i]; r.Ours() {
				at := place{r.Family, r.Priority}
				groups[at] = append(groups[at], &r.Rule)
			}
		}
		return groups
	}
	was, is := ours(had), ours(now.Rules)
	var add, del []Op
	for at, rules := range was {
		have := is[at]
		same := 0
		for same < len(rules) && same < len(have) && rules[same].Compare(have[same]) == 0 {
			same++
		}
		if same == len(rules) && same == len(have) {
			continue
		}
		// A request to delete must not match a rule before the one it is for, see
		// planner.rulesGo.
		for i := same - 1; i >= 0; i-- {
			if slices.ContainsFunc(have[same:], func(r *fib.Rule) bool { return hits(r, have[i]) }) {
				same = i
			}
		}
		for _, r := range rules[same:] {
			add = append(add, Op{Verb: RuleAdd, Rule: r})
		}
		for _, r := range have[same:] {
			del = append(del, Op{Verb: RuleDel, Rule: r})
		}
	}
	return append(add, del...), nil
}
