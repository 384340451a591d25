package apply

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// carrierTime is the least time that a link which was down gets to find its carrier.
const carrierTime = 3 * time.Second

// mayWait says whether there is a link to set up, or one to wait for.
func (a *Applier) mayWait(want Resolved) bool {
	return !a.Awaited && (a.Wait > 0 && slices.ContainsFunc(want.Later.Links, a.waitsFor) ||
		slices.ContainsFunc(want.Links, func(l ResolvedLink) bool { return !l.PolicyOnly && !l.Device.Up }))
}

func (a *Applier) waitsFor(w Waiting) bool {
	return w.waits() && (a.WaitFor == "" || a.WaitFor == w.Device)
}

// LinkWait is one wait for links, with a limit. Setting a link up changes the kernel; waiting
// alone need not keep others from changing it.
type LinkWait struct {
	applier *Applier
	start   time.Time
	wait    time.Duration
	tried   map[string]bool // links that were set up
}

// NewLinkWait begins to wait.
func (a *Applier) NewLinkWait(wait time.Duration) *LinkWait {
	return &LinkWait{applier: a, start: time.Now(), wait: wait, tried: map[string]bool{}}
}

// Left is how much of it is left.
func (w *LinkWait) Left() time.Duration { return max(0, w.wait-time.Since(w.start)) }

// look returns the links of a State that must be set up, and whether there is one to wait for.
func (w *LinkWait) look(s fib.State) (down []Op, waiting bool, err error) {
	have, err := w.applier.Kernel.Observe(Scope{})
	if err != nil {
		return nil, false, err
	}
	want, err := Resolve(s, have, w.applier.Hardware)
	if err != nil {
		return nil, false, err
	}
	since := time.Since(w.start)
	for _, l := range want.Later.Links {
		waiting = waiting || w.applier.waitsFor(l) && (since < w.wait || w.tried[l.Device] && since < carrierTime)
	}
	for _, l := range want.Links {
		if !l.PolicyOnly && !l.Device.Up && !w.tried[l.Device.Name] {
			down = append(down, Op{Verb: LinkUp, Link: l.Device.Name})
		}
	}
	return down, waiting, nil
}

// SetUp sets links up, each once, and says whether there is one to wait for.
func (w *LinkWait) SetUp(s fib.State) (waiting bool, err error) {
	down, waiting, err := w.look(s)
	if err != nil {
		return false, err
	}
	for _, o := range down {
		w.tried[o.Link], waiting = true, true
		if err := errors.Join(w.applier.Kernel.Execute([]Op{o})...); err != nil {
			return false, err
		}
	}
	return waiting, nil
}

// Wait changes nothing. It returns when there is something for SetUp to do, or nothing to wait
// for.
func (w *LinkWait) Wait(ctx context.Context, s fib.State) error {
	for {
		select {
		case <-ctx.Done():
			return interrupted(ctx)
		case <-time.After(20 * time.Millisecond):
		}
		if down, waiting, err := w.look(s); err != nil || len(down) > 0 || !waiting {
			return err
		}
	}
}

// WaitForLinks sets links up and waits until all are ready, or wait is over. It is no error if
// some are not ready by then.
func (a *Applier) WaitForLinks(ctx context.Context, s fib.State, wait time.Duration) error {
	w := a.NewLinkWait(wait)
	for {
		if waiting, err := w.SetUp(s); err != nil || !waiting {
			return err
		}
		if err := w.Wait(ctx, s); err != nil {
			return err
		}
	}
}
