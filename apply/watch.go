package apply

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Watcher keeps a State in the kernel for as long as it runs. Whenever something may have changed
// it looks at everything, so it matters neither what changed nor whether the kernel reported all
// of it. Between looks it sleeps, without any timer of its own.
type Watcher struct {
	// Look brings about what is missing.
	Look func(context.Context) (Result, error)
	// Kernel and State have a value when the kernel, or what to keep there, may have changed
	// since the last look. They are closed when no more changes will be reported.
	Kernel, State <-chan struct{}
	// Log takes one line for people.
	Log func(line string)

	// Alive is called at the end of each look and, where Every is not 0, at that interval.
	Alive func()
	Every time.Duration
}

const (
	// pause is the least time between two looks: a lease that is renewed is a handful of events.
	pause = 5 * time.Millisecond
	// firstRetry and lastRetry bound how long after an error it looks again by itself.
	firstRetry = time.Second
	lastRetry  = time.Minute
	// afterUntil is how long after an expiry it looks. The kernel counts in hundredths of a
	// second, where 0 means no expiry at all.
	afterUntil = 50 * time.Millisecond
)

// ErrDeaf says that changes are not reported any longer.
var ErrDeaf = errors.New("nothing is heard of changes any more")

// Run looks until ctx is done, and then leaves the state as it is. It logs what goes wrong when
// that begins, and tries again; the only error is ErrDeaf.
func (w *Watcher) Run(ctx context.Context) error {
	var tick <-chan time.Time
	if w.Every > 0 {
		t := time.NewTicker(w.Every)
		defer t.Stop()
		tick = t.C
	}
	said := map[string]bool{}
	var retry time.Duration
	for {
		began := time.Now()
		result, err := w.Look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		w.Alive()
		// Looks take at most half of the time, however much happens.
		rest := max(pause, time.Since(began))
		next := result.Until
		if next > 0 {
			next += afterUntil
		}
		if said = w.complain(said, err, result.Refused); len(said) > 0 {
			retry = min(max(2*retry, firstRetry), lastRetry)
			if next == 0 || err != nil || retry < next {
				next = retry
			}
		} else {
			retry = 0
		}
		if err == nil {
			w.tell(result.Done)
			for _, text := range result.Struggles {
				w.Log(text)
			}
		}
		if err := w.wait(ctx, time.Now().Add(rest), next, tick); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// complain logs what is wrong and was not before, and returns everything that is.
func (w *Watcher) complain(said map[string]bool, err error, refused []error) map[string]bool {
	now := map[string]bool{}
	if err != nil {
		refused = append(refused, err)
	}
	for _, e := range refused {
		text := e.Error()
		if !said[text] && !now[text] {
			w.Log(text)
		}
		now[text] = true
	}
	return now
}

// wait returns when it is time for the next look, or ctx is done. It does not return before
// earliest, unless State has a value; where next is not 0, it waits no longer than that.
func (w *Watcher) wait(ctx context.Context, earliest time.Time, next time.Duration, tick <-chan time.Time) error {
	var timer <-chan time.Time
	if next > 0 {
		timer = time.After(max(next, time.Until(earliest)))
	}
	kernel, state := w.Kernel, w.State
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
			w.Alive()
			continue
		case <-timer:
			return nil
		case _, ok := <-state:
			if !ok {
				return ErrDeaf
			}
			return nil // somebody has asked for it
		case _, ok := <-kernel:
			if !ok {
				return ErrDeaf
			}
		}
		left := time.Until(earliest)
		if left <= 0 {
			return nil
		}
		// More may happen meanwhile: one look covers it all.
		kernel, timer = nil, time.After(left)
	}
}

// tell logs what was done.
func (w *Watcher) tell(done []Op) {
	const most = 8
	for i, o := range done {
		if i == most && len(done) > most+1 {
			w.Log(fmt.Sprintf("and %d more", len(done)-most))
			return
		}
		w.Log("ip " + o.String())
	}
}
