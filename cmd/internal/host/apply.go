package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

// ApplyOptions says how a spec is applied through netlink.
type ApplyOptions struct {
	// Wait bounds how long links are waited for. Link is the only one to wait for; "" for all.
	Wait time.Duration
	Link string
	// Force applies even what belongs to links that networkd has; IfNeeded leaves that out.
	Force, IfNeeded bool
	// Stderr receives what people should know.
	Stderr io.Writer

	dry bool // only look
}

// Apply brings the spec below root about through netlink. While it waits for links it keeps
// nobody out, and then applies what counts by that time.
func Apply(ctx context.Context, root string, o ApplyOptions) error {
	h, err := Open(ctx, root, o.Wait, true)
	if err != nil {
		return err
	}
	defer h.Close()
	h.WaitFor = o.Link
	s, err := h.readSpec(o)
	if err != nil {
		return err
	}
	run.WarnOfExposure(o.Stderr, "uplinkctl", h.Root)
	// Where the disk is full, not even a link is set up.
	note, err := h.DraftInEffect(s.Effective)
	if err != nil {
		return err
	}
	note.Discard()
	// A card that is absent must not hold up the others. Where networkd runs, it may be about to
	// take a link.
	wait := h.NewLinkWait(o.Wait)
	h.Awaited = true
	if o.IfNeeded && s.Backend != spec.Networkd && o.Wait > 0 && !units.NetworkdRuns() {
		if _, err := wait.SetUp(s.State); err != nil {
			return err
		}
		if _, err := h.applySpec(ctx, s, o); err != nil {
			return err
		}
	}
	s, err = h.awaitLinks(ctx, wait, s, o)
	if err != nil {
		return err
	}
	if s.none {
		fmt.Fprintln(o.Stderr, "uplinkctl: nothing is done: all has been taken away meanwhile")
		return nil
	}
	if len(s.State.Links) == 0 {
		SayTakenAway(o.Stderr, ErrNoUplink)
	}
	result, err := h.applySpec(ctx, s, o)
	SayWaiting(o.Stderr, result.Waiting)
	return err
}

// WouldApply returns what Apply would bring about.
func (h *Host) WouldApply(o ApplyOptions) (fib.State, error) {
	o.dry = true
	s, err := h.readSpec(o)
	if err != nil {
		return fib.State{}, err
	}
	if len(s.State.Links) == 0 {
		SayTakenAway(o.Stderr, ErrNoUplink)
	}
	return h.part(s, o)
}

// toApply is what should be in effect, and the back end that the spec asks for.
type toApply struct {
	Effective
	backend spec.Backend
	none    bool // everything was taken away
}

// readSpec reads the spec, if it may be applied.
func (h *Host) readSpec(o ApplyOptions) (s toApply, err error) {
	if !o.IfNeeded && !o.dry {
		if err := h.NotTrying(); err != nil {
			return s, err
		}
	}
	s.State, s.backend, err = h.State(o.Stderr)
	if s.Backend = s.backend; o.Force {
		s.Backend = spec.Netlink // otherwise the watch leaves networkd's links to networkd
	}
	if err != nil || o.Force || o.IfNeeded {
		return s, err
	}
	managed, err := h.Managed(s.State)
	if len(managed) > 1 {
		delete(managed, "") // lo, which the spec does not name
	}
	if len(managed) > 0 {
		return s, fmt.Errorf("systemd-networkd manages %s: it has the state from the files of `uplinkctl render`; with --force it is applied all the same, and networkd may take it away again", strings.Join(slices.Sorted(maps.Values(managed)), ", "))
	}
	return s, err
}

// part returns the part of a spec that is for netlink.
func (h *Host) part(s toApply, o ApplyOptions) (fib.State, error) {
	if o.IfNeeded && s.Backend != spec.Netlink {
		return h.WithoutTaken(s.Effective, o.dry)
	}
	return s.State, nil
}

// applySpec makes the kernel hold a spec, as far as its links are ready, and notes that it is in
// effect.
func (h *Host) applySpec(ctx context.Context, s toApply, o ApplyOptions) (apply.Result, error) {
	note, err := h.DraftInEffect(s.Effective)
	if err != nil {
		return apply.Result{}, err
	}
	defer note.Discard()
	// For all links: one that networkd has now may come back as somebody else's.
	if err := h.MarkMatches(s.State, s.backend); err != nil {
		fmt.Fprintf(o.Stderr, "uplinkctl: links that are plugged in later are not served: %v\n", err)
	}
	state, err := h.part(s, o)
	if err != nil {
		return apply.Result{}, err
	}
	if err := h.WriteTables(state); err != nil {
		fmt.Fprintf(o.Stderr, "uplinkctl: the tables' names are not registered for ip(8): %v\n", err)
	}
	// First, so that a networkd that starts now leaves it alone.
	if err := h.MarkApplied(state); err != nil {
		return apply.Result{}, err
	}
	result, err := h.Apply(ctx, state)
	if o.IfNeeded && isInTheWay(err) {
		result, err = h.ApplyBesideNetworkd(ctx, s.Effective, err)
	}
	if err == nil {
		err = note.Commit()
	}
	return result, err
}

// awaitLinks sets up the links of a spec and waits for them, except those that networkd has or
// takes meanwhile. It releases the lock while it waits, so that others can bring about what they
// must, and go back. It returns the spec as it is afterwards. If somebody brought something about
// meanwhile, it returns that instead: the spec that is there may be one that failed in a try.
func (h *Host) awaitLinks(ctx context.Context, wait *apply.LinkWait, s toApply, o ApplyOptions) (toApply, error) {
	defer func() { h.Wait = wait.Left() }()
	said := false
	for {
		state := s.State.Clone()
		if o.IfNeeded && s.Backend != spec.Netlink {
			var err error
			if state, err = h.WithoutManaged(state); err != nil {
				return s, err
			}
		}
		undecided := o.IfNeeded && s.Backend != spec.Netlink && h.undecided && wait.Left() > 0
		if waiting, err := wait.SetUp(state); err != nil || !waiting && !undecided || s.none {
			return s, err
		}
		before, err := h.noted()
		if err != nil {
			return s, err
		}
		h.unlock()
		h.unlock = func() {}
		if err := wait.Wait(ctx, state); err != nil {
			return s, err
		}
		if undecided {
			if err := h.awaitDecision(ctx, wait.Left(), s.State); err != nil {
				return s, err
			}
		}
		if h.unlock, err = h.lock(ctx); err != nil {
			h.unlock = func() {}
			return s, err
		}
		h.LearnDead()
		after, err := h.noted()
		if err != nil {
			return s, err
		}
		again := o
		again.Stderr = io.Discard // the messages have been printed already
		now, err := h.readAgain(again, isSame(before, after))
		if wrong := (spec.Errors)(nil); errors.As(err, &wrong) {
			// The spec was broken meanwhile: cards that come late are served all the same.
			if !said {
				said = true
				run.ReportOf(o.Stderr, "uplinkctl", err, "what is applied is the spec as it was before")
			}
			continue
		}
		if s = now; err != nil {
			return s, err
		}
	}
}

// awaitDecision waits until networkd has decided which file it uses for each link that is there,
// or limit is over. Until then it is not known who adds the policy of some of them.
func (h *Host) awaitDecision(ctx context.Context, limit time.Duration, state fib.State) error {
	_, err := poll(ctx, limit, func() (bool, error) {
		_, err := h.Managed(state)
		return !h.undecided, err
	})
	return err
}

// readAgain reads the spec again, or takes what somebody has brought about meanwhile.
func (h *Host) readAgain(o ApplyOptions, same bool) (toApply, error) {
	if same {
		return h.readSpec(o)
	}
	if !o.IfNeeded {
		if err := h.NotTrying(); err != nil {
			return toApply{}, err
		}
	}
	e, there, err := h.Effective()
	return toApply{Effective: e, backend: e.Backend, none: !there}, err
}
