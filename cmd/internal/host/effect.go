package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"syscall"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/cmd/internal/bus"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

const (
	// handOverTime is how long networkd gets to take the links that it is given, or to let go of
	// them. It answers a reload before that.
	handOverTime = 2 * time.Second

	// patience is how long nothing must change before networkd is asked a second time. Duplicate
	// address detection takes up to 2 seconds.
	patience = 3 * time.Second

	// leftTime is the same where only something old is left, so that no address is waited for.
	leftTime = time.Second

	// stillTime is how long all must have been as it is to be where networkd has been told: it
	// answers before it begins, may take away and bring again what stays the same, and takes
	// rules of others away while it is at work.
	stillTime = 250 * time.Millisecond

	// linkTime is how long a link that was down may take to find its carrier.
	linkTime = 3 * time.Second
)

// poll calls cond at growing intervals until it returns true or an error, ctx is done,
// or limit is over.
func poll(ctx context.Context, limit time.Duration, cond func() (bool, error)) (bool, error) {
	end := time.Now().Add(limit)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		done, err := cond()
		if done || err != nil || time.Now().After(end) {
			return done, err
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("interrupted: %w", context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// handOver waits until networkd has taken the links that the files give it or, where they are
// taken from it, until its rules are gone. Some links it never takes, because somebody else's
// file says so: these are for netlink.
func (r *reload) handOver(ctx context.Context) error {
	if r.gone || r.backend == spec.Netlink {
		var left []leftover
		_, err := poll(ctx, handOverTime, func() (_ bool, err error) {
			left, err = r.leftovers(fib.State{}, nil)
			return len(left) == 0, err
		})
		if err != nil {
			return err
		}
		return r.takeAway(left)
	}
	_, err := poll(ctx, handOverTime, func() (bool, error) {
		links, err := r.links(r.state)
		progress := r.progress(r.state)
		return !slices.ContainsFunc(links, func(l apply.ResolvedLink) bool {
			return !l.PolicyOnly && progress(l) == units.NotNetworkds
		}), err
	})
	return err
}

// effect is how far the kernel is from the State.
type effect struct {
	missing []string        // in the words of ip(8)
	devices map[string]bool // that lack something
	left    []leftover
	waiting []apply.Waiting
}

// leftover is something of the old rendering that is still there.
type leftover struct {
	cure     apply.Op // takes it away, or replaces it with what is asked for
	file     string
	inTheWay bool // of something that the State asks for
}

// look compares the kernel with the State, whoever has brought that about.
func (r *reload) look() (effect, error) {
	e := effect{devices: map[string]bool{}}
	a := r.Applier
	a.Adopt = true
	plan, result, err := a.Plan(r.state)
	if errors.Is(err, apply.ErrForeign) {
		// It may be something that networkd is about to take away; if not, it is reported in the
		// end.
		e.missing = append(e.missing, err.Error())
	} else if err != nil {
		return e, err
	}
	e.waiting = result.Waiting
	for _, o := range plan.Ops() {
		e.missing = append(e.missing, "ip "+o.String())
		e.devices[deviceOf(o)] = true
		// See units: such a rule stands in the file for lo.
		if r.AwaitsLinks && o.Rule != nil && o.Rule.IIF+o.Rule.OIF != "" {
			e.devices["lo"] = true
		}
	}
	if !r.mayLeave() {
		return e, nil
	}
	beside, _, err := r.besideNetworkd(r.state)
	if err != nil {
		return e, err
	}
	e.left, err = r.leftovers(r.state, beside)
	for _, l := range e.left {
		if l.inTheWay {
			e.devices[deviceOf(l.cure)] = true
		}
	}
	return e, err
}

// deviceOf returns the interface whose file contains the object of an operation.
func deviceOf(o apply.Op) string {
	switch {
	case o.Address != nil:
		return o.Address.Link
	case o.Route != nil && o.Route.Link != "":
		return o.Route.Link
	case o.Rule != nil && o.Rule.Link != "":
		return o.Rule.Link
	case o.Link != "":
		return o.Link
	}
	return "lo"
}

// mayLeave says whether networkd was told about files that differ from the old ones.
func (r *reload) mayLeave() bool { return r.networkd && r.changed && !r.oldHas.Empty() }

// leftovers finds things that the old rendering asked for, that the kernel holds as networkd's, and
// that the State does not ask for, or not from networkd, which must let go of the links in beside.
func (r *reload) leftovers(state fib.State, beside map[string]bool) (left []leftover, err error) {
	if !r.mayLeave() {
		return nil, nil
	}
	have, err := r.Kernel.Observe(apply.Scope{Foreign: true})
	if err != nil {
		return nil, err
	}
	want, err := apply.Resolve(state, have, r.Hardware)
	if err != nil {
		return nil, err
	}
	wanted := addressesOn(want)
	rules, routes, addresses := map[fib.Rule]bool{}, map[fib.RouteKey]bool{}, map[netip.Prefix]bool{}
	for _, w := range state.Rules {
		rules[w.Key()] = !beside[w.Link]
	}
	theirs := map[fib.RouteKey]bool{}
	for _, w := range state.Routes {
		routes[w.Key()] = true
		theirs[w.Key()] = theirs[w.Key()] || !beside[w.Link]
	}
	asked := map[fib.RouteKey][]fib.Route{}
	for _, w := range slices.Concat(want.Routes, want.Later.Routes) {
		asked[w.Key()] = append(asked[w.Key()], ways(w)...)
	}
	for _, w := range state.Addresses {
		addresses[w.Prefix] = true
	}
	for _, h := range have.Rules {
		if h.MayBeNetworkds() && !rules[h.Key()] {
			if file, ok := r.oldHas.Rule(h.Rule); ok {
				left = append(left, leftover{cure: apply.Op{Verb: apply.RuleDel, Rule: &h.Rule, Owner: fib.Some(h.Protocol)}, file: file})
			}
		}
	}
	for _, h := range have.Routes {
		if !h.MayBeNetworkds() {
			continue
		}
		old, inTheWay := []fib.Route{h.Route}, routes[h.Key()]
		if want := asked[h.Key()]; theirs[h.Key()] && len(want) == 1 && seemsSame(&h.Route, &want[0]) {
			if file, ok := r.oldHas.Route(h.Route); ok || r.oldRoutes[h.Key()] {
				left = append(left, leftover{apply.Op{Verb: apply.RouteReplace, Route: &want[0], Owner: fib.Some(h.Protocol)}, file, inTheWay})
				continue
			}
		}
		if theirs[h.Key()] {
			// Since 257 networkd keeps an IPv6 route that was bequeathed to it, whatever its file
			// says now.
			old = slices.DeleteFunc(ways(h.Route), func(o fib.Route) bool {
				return o.Family != fib.Inet6 || slices.ContainsFunc(asked[h.Key()], func(w fib.Route) bool { return w.Same(&o) })
			})
		}
		for _, o := range old {
			if file, ok := r.oldHas.Route(o); ok {
				left = append(left, leftover{apply.Op{Verb: apply.RouteDel, Route: &o, Owner: fib.Some(h.Protocol)}, file, inTheWay})
			}
		}
	}
	left = append(left, r.leftLearned(want, have)...)
	for _, h := range have.Addresses {
		// An address that belongs on another link now is left over here if the old spec had it
		// here. If several links have the address, the others may be somebody else's.
		here := onLink{h.Link, h.Prefix}
		if !addresses[h.Prefix] || r.oldOn[here] && !wanted[here] {
			if file, ok := r.oldHas.Address(h.Address); ok {
				left = append(left, leftover{cure: apply.Op{Verb: apply.AddressDel, Address: &h.Address}, file: file})
			}
		}
	}
	return left, nil
}

// seemsSame says whether networkd before 257 takes two different routes for the same: they differ
// only in their metrics (MTUBytes=) or GatewayOnLink=. It then keeps the first.
func seemsSame(have, want *fib.Route) bool {
	if len(have.Nexthops) > 1 || have.Same(want) {
		return false
	}
	seems := *want
	seems.MTU, seems.AdvMSS, seems.InitCwnd, seems.InitRwnd = have.MTU, have.AdvMSS, have.InitCwnd, have.InitRwnd
	if seems.Nexthops = slices.Clone(want.Nexthops); len(have.Nexthops) > 0 && len(seems.Nexthops) > 0 {
		seems.Nexthops[0].OnLink = have.Nexthops[0].OnLink
	}
	return seems.Same(have)
}

// onLink is an address on an interface.
type onLink struct {
	device string
	prefix netip.Prefix
}

// addressesOn returns where a State's addresses belong.
func addressesOn(want apply.Resolved) map[onLink]bool {
	on := map[onLink]bool{}
	for _, a := range slices.Concat(want.Addresses, want.Later.Addresses) {
		on[onLink{a.Link, a.Prefix}] = true
	}
	return on
}

// ways splits a route into one for each of its ways.
func ways(r fib.Route) (list []fib.Route) {
	if len(r.Nexthops) < 2 {
		return []fib.Route{r}
	}
	for _, n := range r.Nexthops {
		r.Nexthops, r.Link = []fib.Nexthop{n}, n.Link
		list = append(list, r)
	}
	return list
}

// takeAway removes what networkd has left behind. Files of ours that are gone brought it about,
// so it is nobody else's. 247 keeps the rules of a changed file, and 247 and 249 everything of a
// removed file, for ever.
func (r *reload) takeAway(left []leftover) error {
	var ops []apply.Op
	for _, l := range left {
		ops = append(ops, l.cure)
	}
	for i, err := range r.Kernel.Execute(ops) {
		// One removal may have taken the next thing along.
		if err != nil && !errors.Is(err, syscall.ESRCH) && !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			return fmt.Errorf("systemd-networkd has left something of %s behind: %w", path.Base(left[i].file), err)
		}
	}
	r.throughNet += len(ops)
	return nil
}

// leaves says whether something of the old rendering is in the way, which networkd is about to
// let go of.
func (e effect) leaves() bool {
	return slices.ContainsFunc(e.left, func(l leftover) bool { return l.inTheWay })
}

// replacements returns the leftovers that are replaced in place, so that nobody lacks a route
// meanwhile.
func (e effect) replacements() (list []leftover) {
	for _, l := range e.left {
		if l.cure.Verb == apply.RouteReplace {
			list = append(list, l)
		}
	}
	return list
}

// settle waits until the kernel holds the State, and brings about through netlink what networkd
// does not have. If networkd does not get there by itself, settle makes it configure the links
// concerned once more.
func (r *reload) settle(ctx context.Context) error {
	start := time.Now()
	var now effect
	var moved time.Time
	was, again, looked := -1, false, false
	var refused error
	inEffect, err := poll(ctx, r.wait, func() (bool, error) {
		refused = r.applyRest(ctx)
		var err error
		if now, err = r.look(); err != nil {
			return false, err
		}
		inTheWay := errors.Is(refused, apply.ErrForeign)
		if refused != nil && !r.mayPass(refused) && (!inTheWay || !now.leaves()) {
			if !inTheWay || looked || !r.networkd {
				return false, refused
			}
			// networkd may have let go of it between the two looks; then the next run finds
			// nothing.
			looked = true
			return false, nil
		}
		looked = false
		if n := len(now.missing) + len(now.left); n != was {
			was, moved = n, time.Now()
		}
		still, limit := time.Since(moved), min(patience, r.wait/2)
		replaces := now.replacements()
		if len(now.missing) == 0 || len(replaces) > 0 {
			limit = min(leftTime, limit)
		}
		switch {
		case was == 0 && r.told && still <= stillTime:
			return false, nil // it may not have begun
		case was == 0:
			return refused == nil && !r.returns(now.waiting) && (time.Since(start) > linkTime || !r.wakes(now.waiting)), nil
		case still <= limit || !r.networkd:
			return false, nil
		case len(now.missing) == 0:
			return false, r.takeAway(now.left)
		case len(replaces) > 0:
			return false, r.takeAway(replaces)
		case !again:
			again, moved = true, time.Now()
			if err := r.takeAway(slices.DeleteFunc(slices.Clone(now.left), func(l leftover) bool { return !l.inTheWay })); err != nil {
				return false, err
			}
			return false, r.reconfigure(ctx, now)
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	if !inEffect && refused != nil {
		return refused
	}
	if !inEffect && len(now.missing) > 0 {
		return fmt.Errorf("after %v the kernel lacks %d of the changes (the first: %s): see `journalctl -u systemd-networkd`", r.wait, len(now.missing), now.missing[0])
	}
	if !inEffect && len(now.left) > 0 {
		return fmt.Errorf("after %v systemd-networkd still holds what it was told to let go of (the first: ip %s, of %s): see `journalctl -u systemd-networkd`", r.wait, now.left[0].cure, path.Base(now.left[0].file))
	}
	SayWaiting(r.stderr, now.waiting)
	return nil
}

// returns says whether a link lacks an address of others that it had before: networkd, which was
// told about changed files, is about to add it again.
func (r *reload) returns(waiting []apply.Waiting) bool {
	return r.changed && slices.ContainsFunc(waiting, func(w apply.Waiting) bool {
		return slices.ContainsFunc(r.before.Addresses, func(a apply.Address) bool { return a.Link == w.Device && a.Prefix.Addr() == w.Lacks })
	})
}

// wakes says whether a link without carrier was down before: it may be about to get one.
func (r *reload) wakes(waiting []apply.Waiting) bool {
	return slices.ContainsFunc(waiting, func(w apply.Waiting) bool {
		return !w.Inet6 && slices.ContainsFunc(r.before.Links, func(l apply.Link) bool { return l.Name == w.Device && !l.Up })
	})
}

// applyRest brings about what networkd does not have. networkd removes the rules of others while
// it configures its links, so this is called until nothing is missing.
func (r *reload) applyRest(ctx context.Context) error {
	rest, err := r.throughNetlink()
	if err != nil {
		return err
	}
	result, err := r.Apply(ctx, rest)
	r.throughNet += len(result.Done)
	var drift *apply.DriftError
	if r.networkd && errors.As(err, &drift) {
		return nil
	}
	return err
}

// mayPass says whether the kernel may have refused something only because networkd is just
// replacing an address: a source is missing, or a gateway cannot be reached without it. What is
// learned follows from the addresses that are there.
func (r *reload) mayPass(err error) bool {
	var refused *apply.OpError
	if !r.networkd || !r.state.Learns() || !errors.As(err, &refused) {
		return false
	}
	return errors.Is(refused, syscall.EINVAL) || errors.Is(refused, syscall.ENETUNREACH) || errors.Is(refused, syscall.EHOSTUNREACH)
}

// reconfigure makes networkd configure again those of its links that lack something.
func (r *reload) reconfigure(ctx context.Context, now effect) error {
	have, err := r.Kernel.Observe(apply.Scope{Only: apply.Links})
	if err != nil {
		return err
	}
	_, beside, err := r.besideNetworkd(r.state)
	if err != nil {
		return err
	}
	progress := units.LinkProgress(r.Root)
	for _, l := range have.Links {
		if !now.devices[l.Name] || beside[l.Index] || progress(l.Index, fib.Link{}) == units.NotNetworkds {
			continue
		}
		if err := bus.ReconfigureLink(ctx, r.Root, l.Index); err != nil {
			return fmt.Errorf("%s: %w", l.Name, err)
		}
	}
	return nil
}

// isAsBefore waits until the kernel holds what it held before the run.
func (r *reload) isAsBefore(ctx context.Context) bool {
	want := contents(r.before)
	same, err := poll(ctx, restoreTime, func() (bool, error) {
		have, err := r.Kernel.Observe(apply.Scope{Foreign: true})
		return maps.Equal(contents(have), want), err
	})
	return same && err == nil
}

// contents counts what a snapshot has, except for what comes and goes with the rest.
func contents(s apply.Snapshot) map[string]int {
	count := map[string]int{}
	for i := range s.Addresses {
		count[addressKey(&s.Addresses[i])]++
	}
	for _, r := range s.Rules {
		count[fmt.Sprint(r.Key(), r.Protocol)]++
	}
	for i := range s.Routes {
		count[routeKey(&s.Routes[i])]++
	}
	delete(count, "")
	return count
}

// addressKey identifies an address in contents; "" for link-local ones, which appear when a link
// is set up.
func addressKey(a *apply.Address) string {
	if a.Prefix.Addr().IsLinkLocalUnicast() && !a.Ours {
		return ""
	}
	return a.Link + " " + a.Prefix.String()
}

// routeKey identifies a route in contents; "" for the kernel's own.
func routeKey(r *apply.Route) string {
	if r.Protocol == apply.ProtocolKernel {
		return ""
	}
	return fmt.Sprint(r.Route, r.Protocol)
}
