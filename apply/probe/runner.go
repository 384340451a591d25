package probe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Path is how a probe leaves now.
type Path struct {
	Device string
	Source netip.Addr
	None   string // why there is none, as in "eth0 has no carrier"; "" where there is one
	// Grace is how long a missing path does not count, because one may be about to come.
	Grace time.Duration
}

// Task is a probe and its path.
type Task struct {
	fib.Probe
	Path
}

// Runner makes the rounds of a set of probes, each in a goroutine of its own that sleeps
// between them. Stop it after use.
type Runner struct {
	// Changed is called, from any goroutine, after a round or the end of a Grace has changed a
	// verdict.
	Changed func()
	// Log takes one line for people about each change.
	Log func(line string)
	// Known are the verdicts of an earlier run, to start from.
	Known map[fib.Verdict]Judgement

	ask func(context.Context, fib.Probe, Path) (silent []netip.Addr, why error) // round, except in tests

	mu      sync.Mutex
	running map[fib.Verdict]*prober
	done    sync.WaitGroup
}

// prober makes the rounds of one probe.
type prober struct {
	probe fib.Probe
	stop  context.CancelFunc
	wake  chan struct{} // there is a path again

	// Runner.mu guards these.
	path  Path
	judge judge
	since time.Time   // when the path was lost
	grace *time.Timer // until that counts; nil while there is a path, or no Grace
}

// forget ends the wait for a path.
func (p *prober) forget() {
	if p.grace != nil {
		p.grace.Stop()
		p.grace = nil
	}
}

// end ends the prober and its wait.
func (p *prober) end() {
	p.forget()
	p.stop()
}

// Set makes these, and no others, the probes that run. A probe that runs already goes on with its
// path, even a new one; one whose questions have changed starts again from the old verdict.
func (r *Runner) Set(tasks []Task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	gone := r.running
	r.running = make(map[fib.Verdict]*prober, len(tasks))
	for _, t := range tasks {
		p, known := gone[t.Verdict], r.Known[t.Verdict]
		switch {
		case p == nil:
			p = r.start(t, known)
		case !p.probe.Equal(t.Probe):
			p.end()
			p = r.start(t, p.judge.Judgement)
		}
		delete(gone, t.Verdict)
		delete(r.Known, t.Verdict)
		r.running[t.Verdict] = p
		was := p.path
		p.path = t.Path
		switch {
		case t.None == "":
			p.forget()
			select {
			case p.wake <- struct{}{}:
			default:
			}
		case t.Grace == 0:
			p.forget()
			if p.judge.lose(time.Now(), t.None) {
				r.tell(p)
			}
		case p.grace == nil:
			p.since, p.grace = time.Now(), time.AfterFunc(t.Grace, func() { r.late(p) })
		case was != t.Path:
			p.grace.Reset(time.Until(p.since.Add(t.Grace)))
		}
	}
	for _, p := range gone {
		p.end()
	}
}

// late judges when there has been no path for too long.
func (r *Runner) late(p *prober) {
	r.mu.Lock()
	// There may be a path since the timer fired, or a longer Grace.
	changed := p.grace != nil && time.Since(p.since) >= p.path.Grace && p.judge.lose(time.Now(), p.path.None)
	if changed {
		r.tell(p)
	}
	r.mu.Unlock()
	if changed {
		r.Changed()
	}
}

// Stop ends all probes. Their verdicts stay.
func (r *Runner) Stop() {
	r.mu.Lock()
	for _, p := range r.running {
		p.end()
	}
	r.mu.Unlock()
	r.done.Wait()
}

// Judgements returns the current verdict on each uplink.
func (r *Runner) Judgements() map[fib.Verdict]Judgement {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[fib.Verdict]Judgement, len(r.running))
	for v, p := range r.running {
		all[v] = p.judge.Judgement
	}
	return all
}

// tell logs a change.
func (r *Runner) tell(p *prober) {
	what := "alive"
	if p.judge.Dead {
		what = "dead"
	}
	r.Log(fmt.Sprintf("%s: %s (%s): %s", p.probe.Uplink, what, p.probe.Family, p.judge.Why))
}

// start begins to probe.
func (r *Runner) start(t Task, known Judgement) *prober {
	ctx, stop := context.WithCancel(context.Background())
	p := &prober{probe: t.Probe, stop: stop, wake: make(chan struct{}, 1), path: t.Path}
	p.judge = judge{Judgement: known, down: t.Down, up: t.Up}
	r.done.Go(func() { r.run(ctx, p) })
	return p
}

// run makes a round every interval. Where there is no path it sleeps until there is one.
func (r *Runner) run(ctx context.Context, p *prober) {
	// The probes of a host, or of many hosts that boot at once, must not all ask at the same
	// time.
	timer := time.NewTimer(rand.N(min(p.probe.Interval, maxJitter)))
	defer timer.Stop()
	ask, idle, refused := r.ask, false, false
	if ask == nil {
		ask = round
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
			if !idle {
				continue
			}
			idle = false
		case <-timer.C:
		}
		r.mu.Lock()
		path := p.path
		r.mu.Unlock()
		if path.None != "" {
			idle = true
			continue
		}
		timer.Reset(p.probe.Interval)
		silent, why := ask(ctx, p.probe, path)
		if ctx.Err() != nil {
			return
		}
		before := refused
		if refused = isRefusal(why); refused && !before {
			timer.Reset(refusedAgain)
			continue
		}
		r.note(p, path, silent, why)
	}
}

// refusedAgain is how soon a probe asks again after the kernel refused to send at all, before
// that counts: while an address is replaced its routes are missing for a moment.
const refusedAgain = time.Second

// isRefusal says whether the kernel had no route, or the address was gone: the targets were never
// asked.
func isRefusal(why error) bool {
	return errors.Is(why, unix.ENETUNREACH) || errors.Is(why, unix.EADDRNOTAVAIL)
}

// maxJitter bounds how long the first round may be put off.
const maxJitter = 5 * time.Second

// note judges after a round.
func (r *Runner) note(p *prober, path Path, silent []netip.Addr, why error) {
	r.mu.Lock()
	var changed bool
	switch {
	case p.path != path:
		// The round went by an old path, and says nothing about the new one.
	case len(p.probe.Targets)-len(silent) >= int(p.probe.Reliability):
		changed = p.judge.good(time.Now(), func(times uint32) string { return said("answered", answered(p.probe.Targets, silent), times, nil) })
	default:
		changed = p.judge.bad(time.Now(), func(times uint32) string { return said("not answered", silent, times, why) })
	}
	if changed {
		r.tell(p)
	}
	r.mu.Unlock()
	if changed {
		r.Changed()
	}
}

func answered(all, silent []netip.Addr) (list []netip.Addr) {
	for _, a := range all {
		if !slices.Contains(silent, a) {
			list = append(list, a)
		}
	}
	return list
}

// said describes the outcome of rounds: "198.51.100.1 and 203.0.113.1 have not answered 3 times".
func said(what string, who []netip.Addr, times uint32, why error) string {
	names := make([]string, len(who))
	for i, a := range who {
		names[i] = a.String()
	}
	have, often := "has", fmt.Sprintf("%d times", times)
	if len(who) > 1 {
		have = "have"
	}
	if times == 1 {
		often = "once"
	}
	text := fmt.Sprintf("%s %s %s %s", strings.Join(names, " and "), have, what, often)
	if why != nil {
		text += " (" + why.Error() + ")"
	}
	return text
}
