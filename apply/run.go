package apply

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Applier brings States about in one kernel.
type Applier struct {
	Kernel   Kernel
	Hardware Hardware

	// Wait bounds how long links that are absent or without carrier are waited for,
	// and how long IPv6 addresses may take to pass duplicate address detection.
	Wait time.Duration

	// Journal keeps which addresses are ours where the kernel cannot (before 5.18).
	Journal *Journal
}

// Result is what Apply did.
type Result struct {
	Done    []Op      // the operations that were carried out
	Waiting []Waiting // links that were not ready; their part is not done
}

// settleTime is the least that duplicate address detection is waited for: it takes
// a second, and up to one more to begin (RFC 4862, section 5.4.2).
const settleTime = 5 * time.Second

// Plan says what Apply would do, and does nothing.
func (a *Applier) Plan(s fib.State) (Plan, Result, error) {
	plan, want, err := a.plan(s)
	return plan, Result{Waiting: want.Later.Links}, err
}

// plan observes and compares. The routes of others are only looked at where there
// is something to add: they matter for nothing else, and there may be many.
func (a *Applier) plan(s fib.State) (Plan, Resolved, error) {
	have, err := a.observe(Scope{})
	if err != nil {
		return Plan{}, Resolved{}, err
	}
	want, err := Resolve(s, have, a.Hardware)
	if err != nil {
		return Plan{}, Resolved{}, err
	}
	plan, err := NewPlan(want, have)
	if err != nil || !addsRoutes(plan) {
		return plan, want, err
	}
	all, err := a.Kernel.Observe(Scope{Foreign: true, RoutesOnly: true})
	if err != nil {
		return Plan{}, Resolved{}, err
	}
	return plan, want, plan.Conflicts(all.Routes)
}

// observe reads the kernel's state, and which addresses are ours where only the
// journal knows.
func (a *Applier) observe(scope Scope) (Snapshot, error) {
	have, err := a.Kernel.Observe(scope)
	if err == nil && a.Journal != nil {
		a.Journal.mark(&have)
	}
	return have, err
}

func addsRoutes(p Plan) bool {
	return slices.ContainsFunc(p.Make, func(s Stage) bool {
		return slices.ContainsFunc(s.Ops, func(o Op) bool { return o.Verb == RouteAdd })
	})
}

// Apply makes the kernel hold the State, or leaves it as it was: where an operation
// is refused all before it are undone, and the error is an OpError. A link that is
// not ready is waited for, and when the time is over the others are done without.
// At the end the state is read back; what is missing then is a DriftError.
func (a *Applier) Apply(ctx context.Context, s fib.State) (Result, error) {
	if err := a.waitForLinks(ctx, s); err != nil {
		return Result{}, err
	}
	plan, want, err := a.plan(s)
	result := Result{Waiting: want.Later.Links}
	if err != nil {
		return result, err
	}
	if plan.Len() == 0 {
		return result, nil
	}
	if result.Done, err = a.execute(ctx, plan); err != nil {
		return result, err
	}
	return result, a.confirm(want)
}

// waitForLinks sets links up and waits until all are ready, or the time is over.
func (a *Applier) waitForLinks(ctx context.Context, s fib.State) error {
	if a.Wait <= 0 || len(s.Links) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.Wait)
	defer cancel()
	tried := map[string]bool{}
	for {
		have, err := a.Kernel.Observe(Scope{})
		if err != nil {
			return err
		}
		want, err := Resolve(s, have, a.Hardware)
		if err != nil {
			return err
		}
		waiting := len(want.Later.Links) > 0
		for _, l := range want.Links {
			if !l.PolicyOnly && !l.Device.Up && !tried[l.Device.Name] {
				tried[l.Device.Name], waiting = true, true
				op := Op{Verb: LinkUp, Link: l.Device.Name}
				if err := errors.Join(a.Kernel.Execute([]Op{op})...); err != nil {
					return err
				}
			}
		}
		if !waiting {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctxParent(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ctxParent keeps our own deadline from being an error: only the caller's counts.
func ctxParent(ctx context.Context) context.Context {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return context.Background()
	}
	return ctx
}

// Down takes away all that is ours. Links stay up.
func (a *Applier) Down(ctx context.Context) (Result, error) {
	have, err := a.observe(Scope{})
	if err != nil {
		return Result{}, err
	}
	plan, err := NewPlan(Resolved{}, have)
	if err != nil {
		return Result{}, err
	}
	done, err := a.execute(ctx, plan)
	return Result{Done: done}, err
}

// execute carries a plan out, stage by stage, or undoes what it did.
func (a *Applier) execute(ctx context.Context, plan Plan) (done []Op, err error) {
	for _, stage := range slices.Concat(plan.Make, plan.Break) {
		if err = ctx.Err(); err == nil {
			err = a.settle(ctx, stage.Settle)
		}
		if err == nil && a.Journal != nil {
			err = a.Journal.before(stage.Ops)
		}
		if err == nil {
			var carried []Op
			carried, err = a.stage(stage.Ops)
			done = append(done, carried...)
		}
		if err != nil {
			return nil, errors.Join(err, a.undo(done))
		}
	}
	if a.Journal != nil {
		err = a.Journal.after(plan)
	}
	return done, err
}

// stage sends operations, and returns those that were carried out and the first
// error. That something to be removed is gone already is none.
func (a *Applier) stage(ops []Op) (carried []Op, err error) {
	for i, answer := range a.Kernel.Execute(ops) {
		switch {
		case answer == nil:
			carried = append(carried, ops[i])
		case isGone(ops[i], answer):
		default:
			if errors.Is(answer, ErrUnanswered) {
				carried = append(carried, ops[i]) // perhaps: undoing it then is harmless
			}
			if err == nil {
				err = answer
			}
		}
	}
	return carried, err
}

// undo takes operations back, the last one first. It goes on after an error.
func (a *Applier) undo(done []Op) error {
	var back []Op
	for _, o := range slices.Backward(done) {
		if i, ok := o.Inverse(); ok {
			back = append(back, i)
		}
	}
	var errs []error
	// What depends on each other's answers is kept apart by kind.
	for len(back) > 0 {
		n := 1
		for n < len(back) && back[n].Verb == back[0].Verb {
			n++
		}
		if _, err := a.stage(back[:n]); err != nil {
			errs = append(errs, fmt.Errorf("while undoing what was done: %w", err))
		}
		back = back[n:]
	}
	return errors.Join(errs...)
}

// settle waits until the addresses have passed duplicate address detection.
func (a *Applier) settle(ctx context.Context, addrs []netip.Addr) error {
	if len(addrs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, max(a.Wait, settleTime))
	defer cancel()
	for {
		have, err := a.Kernel.Observe(Scope{})
		if err != nil {
			return err
		}
		var left []netip.Addr
		for _, h := range have.Addresses {
			if h.Tentative && slices.Contains(addrs, h.Prefix.Addr()) {
				left = append(left, h.Prefix.Addr())
			}
		}
		if len(left) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%v: duplicate address detection has not ended: another host may have this address, or the link carries nothing", left[0])
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// DriftError says that the kernel does not hold what was just brought about:
// somebody else changes it.
type DriftError struct{ Missing []Op }

// Error names the first thing that is missing.
func (e *DriftError) Error() string {
	return fmt.Sprintf("read back, the kernel lacks %d of the changes (the first: ip %s): something else changes routes or rules", len(e.Missing), e.Missing[0])
}

// confirm reads the state back.
func (a *Applier) confirm(want Resolved) error {
	have, err := a.observe(Scope{})
	if err != nil {
		return err
	}
	plan, err := NewPlan(want, have)
	if err != nil {
		return err
	}
	if ops := plan.Ops(); len(ops) > 0 {
		return &DriftError{ops}
	}
	return nil
}
