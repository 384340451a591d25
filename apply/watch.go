package apply

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"time"
)

// Watcher keeps a State in the kernel for as long as it runs. It looks at all of it
// whenever something may have changed, so it does not matter what it was, nor whether the
// kernel has told all of it. Between looks it sleeps, without any timer of its own.
type Watcher struct {
	// Look brings about what is missing.
	Look func(context.Context) (Result, error)
	// Kernel and State have a value when the kernel, or what is to be kept there, may have
	// changed since the last look. They are closed when nothing more is told.
	Kernel, State <-chan struct{}
	// Log takes one line for people.
	Log func(line string)

	// Alive is called at the end of each look and, where Every is not 0, that often.
	Alive func()
	Every time.Duration

	past past
}

const (
	// pause is the least between two looks: a lease that is renewed is a handful of events.
	pause = 5 * time.Millisecond
	// firstRetry and lastRetry bound how long after an error it looks again by itself.
	firstRetry = time.Second
	lastRetry  = time.Minute
	// afterUntil is how long after something is over it looks. The kernel counts in
	// hundredths of a second, and 0 of them are no end at all.
	afterUntil = 50 * time.Millisecond
)

// ErrDeaf says that nobody tells of changes any more.
var ErrDeaf = errors.New("nothing is heard of changes any more")

// Run looks until ctx is done, and leaves the state as it is then. What goes wrong is
// logged when it begins, and tried again; the only error is ErrDeaf.
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
		// Never more than half of the time, however much happens.
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
			rest = max(rest, w.past.add(time.Now(), result.Done, w.Log))
		}
		if err := w.wait(ctx, time.Now().Add(rest), next, tick); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// complain logs what is wrong and was not before, and returns all that is.
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

// wait returns when it is time for the next look, or ctx is done. Unless State says so the
// look is not before earliest; with next it is that much later at the latest.
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
		// More may come meanwhile: one look serves it all.
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

// past remembers what the watcher has brought about, to tell when somebody else takes it
// away again and again: then it does not join the struggle.
type past struct {
	seed maphash.Seed
	held map[uint64]*recent // what was added and not taken away since; nil while it has not come back
}

type recent struct {
	times []time.Time // when it came back
	said  bool
}

const (
	struggleTime  = 10 * time.Second
	struggleTimes = 8
	struggleRest  = 5 * time.Second
)

// add notes operations, and returns for how long nothing is to be done.
func (p *past) add(now time.Time, done []Op, log func(string)) (rest time.Duration) {
	if p.held == nil {
		p.seed, p.held = maphash.MakeSeed(), map[uint64]*recent{}
	}
	for _, o := range done {
		added, isDel := map[Verb]Verb{RuleDel: RuleAdd, RouteDel: RouteAdd, AddressDel: AddressAdd}[o.Verb]
		if isDel {
			o.Verb = added
			delete(p.held, maphash.String(p.seed, o.String()))
			continue
		}
		if o.Verb != RuleAdd && o.Verb != RouteAdd && o.Verb != AddressAdd {
			continue
		}
		text := o.String()
		key := maphash.String(p.seed, text)
		r, again := p.held[key]
		if !again {
			p.held[key] = nil
			continue
		}
		if r == nil {
			r = &recent{}
			p.held[key] = r
		}
		if r.times = append(r.times, now); len(r.times) > struggleTimes {
			r.times = r.times[1:]
		}
		if len(r.times) < struggleTimes || now.Sub(r.times[0]) > struggleTime {
			r.said = r.said && now.Sub(r.times[0]) <= 10*struggleTime
			continue
		}
		rest = struggleRest
		if !r.said {
			r.said = true
			log(fmt.Sprintf("something else keeps taking away: ip %s; it comes back at most every %v", text, struggleRest))
		}
	}
	return rest
}
