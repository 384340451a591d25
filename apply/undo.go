package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// undo brings back what was ours before a plan was begun. It plans anew, from what
// there is now: of an operation whose answer was lost nobody knows whether it was
// carried out, and one operation can undo another (an address takes others along), which
// is why it looks again at the end. It goes on after an error.
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
		back.Make = append(back.Make, Stage{}) // rules are put in order before anything goes
		for i, stage := range slices.Concat(back.Make, back.Break) {
			if i == len(back.Make)-1 {
				stage.Ops, err = a.reorder(have.Rules)
				failed(err)
			}
			if len(stage.Ops) == 0 {
				continue
			}
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
	for _, o := range done.Ops() {
		if o.Verb == LinkPromote && !o.Promote {
			_, err := a.stage([]Op{o})
			failed(err)
		}
	}
	return errors.Join(errs...)
}

// before is what was ours in a snapshot, on the links that are still there by the
// names that they have now, and the settings that a plan changed.
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
	for _, h := range have.Addresses {
		l, ok := links[h.Link]
		if !h.Ours || !ok {
			continue
		}
		h.Link = l.Name
		if h.Family() == fib.Inet6 { // shown from the newest to the oldest
			was.Addresses = slices.Insert(was.Addresses, 0, h.Address)
		} else {
			was.Addresses = append(was.Addresses, h.Address)
		}
	}
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

// reorder returns the operations that put our rules of one priority in the order that
// they had. The kernel puts a rule behind all others of its priority, so those that
// have to stand behind it are added once more, and then the first of each two is
// deleted. Rules that were not there before do not count.
func (a *Applier) reorder(had []Rule) ([]Op, error) {
	now, err := a.Kernel.Observe(Scope{})
	if err != nil {
		return nil, err
	}
	type place struct {
		family   fib.Family
		priority uint32
	}
	was, is := map[place][]*fib.Rule{}, map[place][]*fib.Rule{}
	for i := range had {
		if r := &had[i]; r.Ours() {
			at := place{r.Family, r.Priority}
			was[at] = append(was[at], &r.Rule)
		}
	}
	for i := range now.Rules {
		r := &now.Rules[i]
		at := place{r.Family, r.Priority}
		if r.Ours() && slices.ContainsFunc(was[at], func(w *fib.Rule) bool { return compareRules(w, &r.Rule) == 0 }) {
			is[at] = append(is[at], &r.Rule)
		}
	}
	var add, del []Op
	for at, rules := range was {
		same := 0
		for same < len(rules) && same < len(is[at]) && compareRules(rules[same], is[at][same]) == 0 {
			same++
		}
		for _, r := range rules[same:] {
			add = append(add, Op{Verb: RuleAdd, Rule: r})
		}
		for _, r := range is[at][same:] {
			del = append(del, Op{Verb: RuleDel, Rule: r})
		}
	}
	return append(add, del...), nil
}
