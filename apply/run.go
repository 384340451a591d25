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
	// WaitFor is the only interface that is waited for; "" for all.
	WaitFor string
	// Awaited says that links have been waited for already, see LinkWait.
	Awaited bool

	// Adopt makes Plan compare with what systemd-networkd holds as if it were ours.
	// It is for looking only.
	Adopt bool
	// AwaitsLinks makes Adopt not report a rule as missing while its iif or oif does not exist:
	// networkd adds it when it does (since 257).
	AwaitsLinks bool
	// WholeWays makes Adopt not report an IPv4 multipath route as missing while one of its links
	// is not ready: networkd adds it when all are (252, 257, 262), and nothing in its place
	// before. We do.
	WholeWays bool

	// Watching is for a State that is in effect already and must stay so: links are left as they
	// are, and nothing is waited for. What needs an address that has not passed duplicate address
	// detection is added once it has.
	Watching bool

	// GoesOn is for callers that only look: a match that fits two links ends up in the Ambiguous
	// of what Resolve returns, and hides nothing about other links.
	GoesOn bool

	// Dead are the uplinks that probes have found dead: what would leave by them through table
	// main goes by another uplink. Those that the State does not probe are ignored.
	Dead map[fib.Verdict]bool

	// Spared is what somebody else is taking over at this moment: nothing of it is added, and
	// what is ours of it stays.
	Spared fib.State

	// Journal keeps which addresses are ours where the kernel cannot (before 5.18).
	Journal *Journal

	putOff  map[string]error // links of which nothing is added now, see Keep
	refused map[string]error // links of which something was refused last time
	past    past             // of Keep
}

// Result is what Apply did.
type Result struct {
	Done    []Op          // the operations that were carried out
	Waiting []Waiting     // links that were not ready; their part is not done
	Until   time.Duration // after which something learned expires, which is not reported; 0 for never
	Refused []error       // while watching: what is wrong with links whose part is not done

	Struggles []string // while watching: what is left alone from now on, and why, for people
}

// settleTime is the least time that duplicate address detection gets: it takes a second, and up
// to one more to begin (RFC 4862, section 5.4.2).
const settleTime = 5 * time.Second

// Plan says what Apply would do, and does nothing.
func (a *Applier) Plan(s fib.State) (Plan, Result, error) {
	plan, _, want, err := a.plan(s)
	return plan, Result{Waiting: want.Later.Links}, err
}

// plan observes and compares. It looks at the routes of others only where there is something to
// add: they matter for nothing else, and there may be many.
func (a *Applier) plan(s fib.State) (Plan, Snapshot, Resolved, error) {
	scope := a.scope(s)
	scope.Foreign = a.Adopt
	have, err := a.observe(scope)
	if err != nil {
		return Plan{}, have, Resolved{}, err
	}
	if a.Watching {
		a.past.see(have.Links)
	}
	want, err := a.Resolve(s, have)
	if err != nil {
		return Plan{}, have, Resolved{}, err
	}
	if a.Adopt {
		adopt(want, &have)
	}
	plan, conflicts := NewPlan(want, have)
	if conflicts != nil {
		return plan, have, want, conflicts
	}
	a.keepSecondaries(&plan, have)
	for _, f := range fib.Families {
		if !addsRoutes(plan, f) {
			continue
		}
		all, err := a.Kernel.Observe(Scope{Foreign: true, Only: Routes, Family: f})
		if err != nil {
			return Plan{}, have, Resolved{}, err
		}
		conflicts = errors.Join(conflicts, plan.Conflicts(all.Routes))
	}
	return plan, have, want, conflicts
}

// scope asks for those routes of others that what is wanted depends on.
func (a *Applier) scope(s fib.State) Scope {
	failsOver := s.Failover.Table != 0 && len(a.dead(s)) > 0
	return Scope{Learned: s.Learns() || failsOver, Defaults: failsOver}
}

// dead returns those uplinks of Dead that the State probes: an uplink whose probe was taken out
// of the spec counts as alive, whatever was found before.
func (a *Applier) dead(s fib.State) map[fib.Verdict]bool {
	dead := map[fib.Verdict]bool{}
	for i := range s.Probes {
		if v := s.Probes[i].Verdict; a.Dead[v] {
			dead[v] = true
		}
	}
	return dead
}

// Resolve is the function Resolve, plus what leads around dead uplinks. While a State is watched
// it leaves out what cannot be done now, and a match that fits two links holds up no other.
func (a *Applier) Resolve(s fib.State, have Snapshot) (Resolved, error) {
	if a.Watching {
		s.Links = slices.Clone(s.Links)
		for i := range s.Links {
			s.Links[i].PolicyOnly = true
		}
	}
	want := resolve(s, have, a.Hardware)
	if len(want.Ambiguous) > 0 && !a.Watching && !a.GoesOn {
		return Resolved{}, want.Ambiguous[0]
	}
	if a.Watching {
		want.postponeSources(have)
		want.postpone(a.putOff)
		want.leaveAlone(&a.past)
	}
	if a.Adopt && a.AwaitsLinks {
		want.awaitLinks(have)
	}
	if a.Adopt && a.WholeWays {
		want.awaitWays(s, have)
	}
	if len(a.Spared.Links) > 0 {
		want.spare(resolve(a.Spared, have, a.Hardware))
	}
	want.failOver(s.Failover, have, a.dead(s))
	return want, nil
}

// adopt treats as ours what networkd holds in the place of something wanted.
func adopt(want Resolved, have *Snapshot) {
	keys := make(map[fib.RouteKey]bool, len(want.Routes))
	for _, r := range want.Routes {
		keys[r.Key()] = true
	}
	for i := range have.Routes {
		if r := &have.Routes[i]; r.MayBeNetworkds() && keys[r.Key()] {
			r.Protocol = fib.Protocol
		}
	}
	rules := make(map[fib.Rule]bool, len(want.Rules))
	for _, r := range want.Rules {
		rules[r.Key()] = true
	}
	for i := range have.Rules {
		if r := &have.Rules[i]; r.MayBeNetworkds() && rules[r.Key()] {
			r.Protocol = fib.Protocol
		}
	}
}

// keepSecondaries puts a stage before and one after the removal of addresses where that would
// take others along: with the first IPv4 address of a subnet the kernel deletes all its others,
// except on links with promote_secondaries, which systemd sets on most hosts (__inet_del_ifa,
// net/ipv4/devinet.c).
func (a *Applier) keepSecondaries(plan *Plan, have Snapshot) {
	if len(plan.Break) == 0 {
		return
	}
	last := plan.Break[len(plan.Break)-1]
	type subnet struct {
		link   string
		prefix netip.Prefix
	}
	in := func(h *fib.Address) subnet { return subnet{h.Link, h.Prefix.Masked()} }
	gone, kept := map[fib.Address]bool{}, map[subnet]bool{}
	for _, o := range last.Ops {
		if o.Verb == AddressDel && o.Address.Family() == fib.Inet {
			gone[*o.Address] = true
		}
	}
	if len(gone) == 0 {
		return
	}
	for i := range have.Addresses {
		if h := &have.Addresses[i].Address; !gone[*h] {
			kept[in(h)] = true
		}
	}
	for _, s := range plan.Make {
		for _, o := range s.Ops {
			if o.Verb == AddressAdd {
				kept[in(o.Address)] = true
			}
		}
	}
	seen := map[string]bool{}
	var on, off []Op
	for _, o := range last.Ops {
		if link := o.Address.Link; gone[*o.Address] && kept[in(o.Address)] && !seen[link] {
			seen[link] = true
			if linkSetting(a.Hardware, link, "promote_secondaries") == "0" {
				on, off = append(on, Op{Verb: LinkPromote, Link: link, Promote: true}), append(off, Op{Verb: LinkPromote, Link: link})
			}
		}
	}
	if len(on) > 0 {
		plan.Break = slices.Insert(plan.Break, len(plan.Break)-1, Stage{Ops: on})
		plan.Break = append(plan.Break, Stage{Ops: off})
	}
}

// observe reads the kernel's state, including the addresses that only the journal knows to be
// ours.
func (a *Applier) observe(scope Scope) (Snapshot, error) {
	have, err := a.Kernel.Observe(scope)
	// A snapshot without addresses must not make the journal forget them.
	if err == nil && a.Journal != nil && scope.Has(Addresses) {
		err = a.Journal.mark(&have)
	}
	return have, err
}

func addsRoutes(p Plan, f fib.Family) bool {
	return p.has(func(o Op) bool { return (o.Verb == RouteAdd || o.Verb == RouteReplace) && o.Route.Family == f })
}

// Apply makes the kernel hold the State, or leaves it as it was: where an operation is refused
// all before it are undone, and the error is an OpError. It waits for links that are not ready,
// and when the time is over does the others without them. At the end it reads the state back;
// what is missing then is a DriftError.
func (a *Applier) Apply(ctx context.Context, s fib.State) (Result, error) {
	plan, have, want, err := a.plan(s)
	if err == nil && a.mayWait(want) {
		if err = a.WaitForLinks(ctx, s, a.Wait); err == nil {
			plan, have, want, err = a.plan(s)
		}
	}
	if err == nil && a.Journal != nil {
		err = a.Journal.save()
	}
	result := Result{Waiting: want.Later.Links, Until: want.Until, Refused: want.Ambiguous}
	if err != nil || plan.Len() == 0 {
		return result, err
	}
	// Some removals take away more than they name. With the last IPv4 address of a link the
	// kernel drops all IPv4 routes by it (fib_inetaddr_event in net/ipv4/fib_frontend.c). Where a
	// request leaves a rule's selector open, it removes the first rule that matches the rest,
	// even a wanted one (fib_nl_delrule in net/core/fib_rules.c). A second round brings back what
	// was lost.
	var before []func() error
	for round := 1; ; round++ {
		done, err := a.execute(ctx, plan, have)
		if err != nil {
			result.Done = nil
			for _, undo := range slices.Backward(before) {
				err = errors.Join(err, undo())
			}
			return result, err
		}
		result.Done = append(result.Done, done...)
		var drift *DriftError
		if err = a.confirm(s, plan, want, have); round == rounds || !errors.As(err, &drift) {
			return result, err
		}
		p, h := plan, have
		before = append(before, func() error { return a.undo(p, h) })
		if plan, have, want, err = a.plan(s); err != nil {
			return result, err
		}
	}
}

// rounds is how often Apply tries before it blames somebody else for what is missing.
const rounds = 3

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
	a.keepSecondaries(&plan, have)
	done, err := a.execute(ctx, plan, have)
	return Result{Done: done}, err
}

// execute carries a plan out stage by stage, or undoes what it did.
func (a *Applier) execute(ctx context.Context, plan Plan, have Snapshot) (done []Op, err error) {
	done = make([]Op, 0, plan.Len())
	for _, stage := range slices.Concat(plan.Make, plan.Break) {
		if ctx.Err() != nil {
			err = interrupted(ctx)
		} else {
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
		if err := a.Journal.after(plan); err != nil {
			return nil, errors.Join(err, a.undo(plan, have))
		}
	}
	return done, nil
}

func interrupted(ctx context.Context) error { return fmt.Errorf("interrupted: %w", context.Cause(ctx)) }

// stage sends operations, and returns those that were carried out and the error, see answer. A
// removal of what is gone already is no error.
func (a *Applier) stage(ops []Op) (carried []Op, err error) {
	carried = make([]Op, 0, len(ops))
	for i, answer := range a.Kernel.Execute(ops) {
		switch {
		case answer == nil:
			carried = append(carried, ops[i])
		case !isGone(ops[i], answer):
			err = a.answer(err, answer)
		}
	}
	return carried, err
}

// settle waits until the addresses have passed duplicate address detection.
func (a *Applier) settle(ctx context.Context, addrs []netip.Addr) error {
	if len(addrs) == 0 {
		return nil
	}
	awaited := make(map[netip.Addr]bool, len(addrs))
	for _, addr := range addrs {
		awaited[addr] = true
	}
	limit, cancel := context.WithTimeout(ctx, max(a.Wait, settleTime))
	defer cancel()
	for {
		// Without the links, so that the names in the plan keep their meaning.
		have, err := a.Kernel.Observe(Scope{Only: Addresses})
		if err != nil {
			return err
		}
		var left []Address
		for _, h := range have.Addresses {
			if h.Tentative && awaited[h.Prefix.Addr()] {
				left = append(left, h)
			}
		}
		if len(left) == 0 {
			return nil
		}
		for _, h := range left {
			if h.Duplicate {
				return fmt.Errorf("%v on %s: another host has this address (duplicate address detection has failed)", h.Prefix.Addr(), h.Link)
			}
		}
		select {
		case <-limit.Done():
			if ctx.Err() != nil {
				return interrupted(ctx)
			}
			return fmt.Errorf("%v on %s: duplicate address detection has not ended: the link carries nothing", left[0].Prefix.Addr(), left[0].Link)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// DriftError says that the kernel does not hold what was just brought about:
// somebody else changes it.
type DriftError struct{ Missing []Op }

// Error names the first thing that is missing.
func (e *DriftError) Error() string {
	return fmt.Sprintf("read back, the kernel lacks %d of the changes (the first: ip %s): something else changes routes or rules: `ip monitor route rule` shows what it does", len(e.Missing), e.Missing[0])
}

// confirm reads the state back: first only what the plan changed and, where that is not as
// wanted, all of it. A link that is no longer ready by then is no drift.
func (a *Applier) confirm(s fib.State, done Plan, want Resolved, have Snapshot) error {
	scope := Scope{Only: Rules | Routes}
	if done.has(func(o Op) bool { return o.Address != nil }) {
		scope.Only |= Addresses
	}
	now, err := a.observe(scope)
	if err != nil {
		return err
	}
	if !scope.Has(Addresses) {
		now.Addresses = have.Addresses
	}
	if plan, err := NewPlan(want, now); err == nil && plan.Len() == 0 {
		return nil
	}
	return a.confirmAll(s)
}

func (a *Applier) confirmAll(s fib.State) error {
	have, err := a.observe(a.scope(s))
	if err != nil {
		return err
	}
	want, err := a.Resolve(s, have)
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
