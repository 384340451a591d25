package host

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

// BequeathTaken bequeaths what networkd has taken over of the State whole, of which rest stays
// here. While networkd is configuring its links, and in a dry run, what is ours is spared and
// serves meanwhile.
func (h *Host) BequeathTaken(whole, rest fib.State, dryRun bool) error {
	h.Spared = fib.State{}
	if !units.NetworkdRuns() {
		return nil
	}
	lost, err := h.lost(rest)
	if err != nil || len(lost) == 0 {
		return err
	}
	done, err := h.isConfigured(whole, false)
	switch {
	case err != nil:
		return butAmbiguous(err)
	case !done || dryRun:
		h.Spared = whole
		return nil
	}
	_, err = h.bequeath(lost, whole, rest)
	return err
}

// WithoutTaken is WithoutManaged, and also bequeaths what networkd has taken over of what is in
// effect.
func (h *Host) WithoutTaken(whole Effective, dryRun bool) (fib.State, error) {
	rest, err := h.WithoutManaged(whole.State.Clone())
	if err != nil {
		return rest, err
	}
	was, there, err := h.Effective()
	if err != nil || !there {
		was = whole
	}
	return rest, h.BequeathTaken(was.State, rest, dryRun)
}

// ApplyBesideNetworkd applies again what networkd does not have, where routes of networkd's were
// in the way: networkd adds them before it notes that a link is its own. If they stay in the way
// for longer than that takes, it returns the same error.
func (h *Host) ApplyBesideNetworkd(ctx context.Context, whole Effective, inTheWay error) (apply.Result, error) {
	if whole.Backend == spec.Netlink || !units.NetworkdRuns() {
		return apply.Result{}, inTheWay
	}
	var result apply.Result
	err := inTheWay
	_, stopped := poll(ctx, patience, func() (bool, error) {
		rest, failed := h.WithoutTaken(whole, false)
		if failed == nil {
			failed = h.MarkApplied(rest)
		}
		if failed == nil {
			result, failed = h.Apply(ctx, rest)
		}
		err = failed
		return !isInTheWay(failed), nil
	})
	return result, cmp.Or(stopped, err)
}

// isInTheWay says whether a route of somebody else's was in the way: found when everything was
// looked at, or added by networkd since, so that adding ours failed.
func isInTheWay(err error) bool {
	return errors.Is(err, apply.ErrForeign) || errors.Is(err, syscall.EEXIST)
}

// beforeDown is how long networkd may take to configure its links before everything that is ours
// is taken away.
const beforeDown = 5 * time.Second

// bequeathAll is BequeathTaken for the moment before everything that is ours is taken away.
func (h *Host) bequeathAll(ctx context.Context) error {
	now, there, err := h.Effective()
	if err != nil || !there || !units.NetworkdRuns() {
		return nil //nolint:nilerror // an unreadable note says nothing about networkd
	}
	if now.Backend == spec.Networkd {
		now.Backend = spec.Auto // networkd has not taken over what it does not have
	}
	_, err = h.relieve(ctx, beforeDown, now)
	return butAmbiguous(err)
}

// butAmbiguous accepts that a match of what is in effect has become ambiguous: that match is not
// for a link of networkd's, and is all the more reason to take the rest away.
func butAmbiguous(err error) error {
	if ambiguous := (*apply.AmbiguousError)(nil); errors.As(err, &ambiguous) {
		return nil
	}
	return err
}

// relieve waits until networkd, which runs, has configured its links, or limit is over, if the
// kernel holds something of ours that is not for netlink: that serves until then, and is taken
// away afterwards. It returns how much of it was bequeathed.
func (h *Host) relieve(ctx context.Context, limit time.Duration, e Effective) (int, error) {
	rest, err := h.Rest(e, true)
	if err != nil {
		return 0, err
	}
	lost, err := h.lost(rest)
	if err != nil || len(lost) == 0 {
		return 0, err
	}
	start := time.Now()
	if _, err := poll(ctx, limit, func() (bool, error) {
		return h.isConfigured(e.State, time.Since(start) > patience)
	}); err != nil {
		return 0, err
	}
	if rest, err = h.Rest(e, true); err != nil {
		return 0, err
	}
	if lost, err = h.lost(rest); err != nil {
		return 0, err
	}
	return h.bequeath(lost, e.State, rest)
}

// lost returns the removals of everything that is ours and not in rest.
func (h *Host) lost(rest fib.State) ([]apply.Op, error) {
	plan, _, err := h.Plan(rest)
	if err != nil && !errors.Is(err, apply.ErrForeign) {
		return nil, err
	}
	return slices.DeleteFunc(plan.Ops(), func(o apply.Op) bool {
		return o.Verb != apply.RuleDel && o.Verb != apply.RouteDel && o.Verb != apply.AddressDel
	}), nil
}

// isConfigured says whether networkd is done with its links, as far as a State has them, and with
// lo. networkd may never finish lo, whose file has the rules that wait for other links, so lo
// does not count once it is late.
func (h *Host) isConfigured(state fib.State, late bool) (bool, error) {
	links, err := h.links(state)
	if err != nil {
		return false, err
	}
	of, ours := make(map[int]bool, len(links)), h.progress(state)
	for _, l := range links {
		of[l.Device.Index] = ours(l) != units.NotNetworkds
	}
	have, err := h.Kernel.Observe(apply.Scope{Only: apply.Links})
	progress := units.LinkProgress(h.Root)
	return !slices.ContainsFunc(have.Links, func(l apply.Link) bool {
		return l.Carrier && progress(l.Index, fib.Link{}).Busy() && (of[l.Index] || l.Loopback && !late)
	}), err
}

// bequeath gives networkd what it takes for its own although it is ours, so that this is not lost
// with the rest, and returns how much it was: IPv6 routes, because the kernel refuses a second
// one with the same ways; addresses, because only the journal knows whose they are; and, before
// 248, rules, because networkd does not add one that is there.
func (h *Host) bequeath(lost []apply.Op, whole, rest fib.State) (int, error) {
	have, err := h.Kernel.Observe(apply.Scope{Foreign: true})
	if err != nil {
		return 0, err
	}
	routes, rules := map[fib.RouteKey]bool{}, map[fib.Rule]bool{}
	for _, w := range whole.Routes {
		routes[w.Key()] = w.Family == fib.Inet6
	}
	if v, known := units.DetectVersion(h.Root); known && v.Before(units.Version{Major: 248}) {
		for _, w := range whole.Rules {
			rules[w.Key()] = true
		}
	}
	for _, w := range rest.Routes {
		delete(routes, w.Key())
	}
	for _, w := range rest.Rules {
		delete(rules, w.Key())
	}
	// Nor anything that networkd has as its own.
	for _, o := range have.Routes {
		if !o.Ours() {
			delete(routes, o.Key())
		}
	}
	for _, o := range have.Rules {
		if !o.Ours() {
			delete(rules, o.Key())
		}
	}
	// A match that has become ambiguous is not for a link of networkd's.
	want, _ := apply.Resolve(whole, have, h.Hardware)
	on := addressesOn(want)
	var ops []apply.Op
	var addresses []fib.Address
	for _, o := range lost {
		switch {
		case o.Verb == apply.RouteDel && routes[o.Route.Key()]:
			ops = append(ops, apply.Op{Verb: apply.RouteReplace, Route: o.Route, Before: o.Route, Owner: fib.Some[uint8](apply.ProtocolStatic)})
		case o.Verb == apply.RuleDel && rules[o.Rule.Key()]:
			ops = append(ops, apply.Op{Verb: apply.RuleAdd, Rule: o.Rule, Owner: fib.Some[uint8](apply.ProtocolUnspec)})
		case o.Verb == apply.AddressDel && on[onLink{o.Address.Link, o.Address.Prefix}]:
			addresses = append(addresses, *o.Address)
		}
	}
	if h.Journal != nil && len(addresses) > 0 {
		if err := h.Journal.Forget(addresses); err != nil {
			return 0, err
		}
	}
	return len(ops), errors.Join(h.Kernel.Execute(ops)...)
}
