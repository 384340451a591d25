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

	// Adopt makes Plan compare with what systemd-networkd holds as if it were ours.
	// It is for looking only.
	Adopt bool

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
	plan, _, want, err := a.plan(s)
	return plan, Result{Waiting: want.Later.Links}, err
}

// plan observes and compares. The routes of others are only looked at where there
// is something to add: they matter for nothing else, and there may be many.
func (a *Applier) plan(s fib.State) (Plan, Snapshot, Resolved, error) {
	have, err := a.observe(Scope{Foreign: a.Adopt})
	if err != nil {
		return Plan{}, have, Resolved{}, err
	}
	want, err := Resolve(s, have, a.Hardware)
	if err != nil {
		return Plan{}, have, Resolved{}, err
	}
	if a.Adopt {
		adopt(want, &have)
	}
	plan, err := NewPlan(want, have)
	if err != nil || !addsRoutes(plan) {
		return plan, have, want, err
	}
	all, err := a.Kernel.Observe(Scope{Foreign: true, RoutesOnly: true})
	if err != nil {
		return Plan{}, have, Resolved{}, err
	}
	return plan, have, want, plan.Conflicts(all.Routes)
}

// adopt gives us what networkd holds in the place of something wanted: its routes
// and rules bear "static", and its rules nothing before systemd 248.
func adopt(want Resolved, have *Snapshot) {
	const unspec, static = 0, 4 // RTPROT_UNSPEC, RTPROT_STATIC
	keys := make(map[fib.RouteKey]bool, len(want.Routes))
	for _, r := range want.Routes {
		keys[r.Key()] = true
	}
	for i := range have.Routes {
		if r := &have.Routes[i]; r.Protocol == static && keys[r.Key()] {
			r.Protocol = fib.Protocol
		}
	}
	rules := make(map[fib.Rule]bool, len(want.Rules))
	for _, r := range want.Rules {
		rules[r.Key()] = true
	}
	for i := range have.Rules {
		if r := &have.Rules[i]; (r.Protocol == static || r.Protocol == unspec) && rules[r.Key()] {
			r.Protocol = fib.Protocol
		}
	}
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
	plan, have, want, err := a.plan(s)
	if wait := a.linkTime(want); err == nil && wait > 0 {
		if err = a.WaitForLinks(ctx, s, wait); err == nil {
			plan, have, want, err = a.plan(s)
		}
	}
	result := Result{Waiting: want.Later.Links}
	if err != nil || plan.Len() == 0 {
		return result, err
	}
	if result.Done, err = a.execute(ctx, plan, have); err != nil {
		return result, err
	}
	return result, a.confirm(s)
}

// carrierTime is the least that a link which was down has to find its carrier.
const carrierTime = 3 * time.Second

// linkTime is how long links are waited for.
func (a *Applier) linkTime(want Resolved) time.Duration {
	for _, l := range want.Links {
		if !l.PolicyOnly && !l.Device.Up {
			return max(a.Wait, carrierTime)
		}
	}
	if len(want.Later.Links) > 0 {
		return a.Wait
	}
	return 0
}

// WaitForLinks sets links up and waits until all are ready, or wait is over: that
// some are not ready then is no error.
func (a *Applier) WaitForLinks(ctx context.Context, s fib.State, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
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
	done, err := a.execute(ctx, plan, have)
	return Result{Done: done}, err
}

// execute carries a plan out, stage by stage, or undoes what it did.
func (a *Applier) execute(ctx context.Context, plan Plan, have Snapshot) (done []Op, err error) {
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
			return nil, errors.Join(err, a.undo(plan, have))
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
		case err == nil && !isGone(ops[i], answer):
			err = answer
		}
	}
	return carried, err
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

// confirm reads the state back. A link that is no longer ready by now is no drift.
func (a *Applier) confirm(s fib.State) error {
	have, err := a.observe(Scope{})
	if err != nil {
		return err
	}
	want, err := Resolve(s, have, a.Hardware)
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
