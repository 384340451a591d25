package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/uplink-generator/uplink-generator/apply/probe"
	"github.com/uplink-generator/uplink-generator/cmd/internal/bus"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// targets keeps one of two systemd units active for each probed uplink, so that other units can
// follow it: uplink@NAME-up.target or uplink@NAME-down.target. It works beside the watcher, which
// must not wait for systemd.
type targets struct {
	log func(string)

	mu   sync.Mutex
	want map[string]string // by uplink: "up", "down", or "" for neither
	more chan struct{}
}

// againTime is the time after which a failed switch is tried again.
const againTime = 10 * time.Second

// follow works until ctx is done.
func (t *targets) follow(ctx context.Context) {
	have, said := map[string]string{}, ""
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.more:
		case <-again:
		}
		t.mu.Lock()
		want := maps.Clone(t.want)
		t.mu.Unlock()
		err := change(ctx, have, want)
		if again = nil; err == nil {
			said = ""
			continue
		}
		again = time.After(againTime)
		if text := err.Error(); text != said && ctx.Err() == nil {
			said = text
			t.log(text)
		}
	}
}

// change starts and stops what differs, and records in have what it has done.
func change(ctx context.Context, have, want map[string]string) error {
	if maps.Equal(have, want) {
		return nil
	}
	conn, err := bus.DialSystemd(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return changeEach(have, want, func(unit string, start bool) error {
		ctx, cancel := context.WithTimeout(ctx, jobTime)
		defer cancel()
		if start {
			return conn.Start(ctx, unit)
		}
		return conn.Stop(ctx, unit)
	})
}

// changeEach is change with a function that starts or stops a unit.
func changeEach(have, want map[string]string, tell func(unit string, start bool) error) error {
	var errs []error
	for _, uplink := range slices.Sorted(maps.Keys(want)) {
		now := want[uplink]
		if was, told := have[uplink]; told && was == now {
			continue
		}
		var err error
		// This also stops what is active from an earlier run of ours.
		for _, other := range []string{"up", "down"} {
			if other != now {
				err = errors.Join(err, tell(targetOf(uplink, other), false))
			}
		}
		if now != "" {
			err = errors.Join(err, tell(targetOf(uplink, now), true))
		}
		if err == nil {
			have[uplink] = now
		} else {
			delete(have, uplink)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// targetOf needs no escaping: all characters of an uplink's name are valid in a unit's.
func targetOf(uplink, state string) string { return fmt.Sprintf("uplink@%s-%s.target", uplink, state) }

// tell passes on what the probes have found. An uplink is down when it is dead in each family
// that has a verdict.
func (t *targets) tell(all map[fib.Verdict]probe.Judgement) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for uplink := range t.want {
		t.want[uplink] = ""
	}
	for v, j := range all {
		switch {
		case !j.Dead && j.Judged:
			t.want[v.Uplink] = "up"
		case j.Dead && t.want[v.Uplink] == "":
			t.want[v.Uplink] = "down"
		}
	}
	select {
	case t.more <- struct{}{}:
	default:
	}
}

// followTargets starts to follow, if systemd runs and is the one of this root.
func (h *Host) followTargets(ctx context.Context, log func(string)) *targets {
	t := &targets{log: log, want: map[string]string{}, more: make(chan struct{}, 1)}
	if h.Root.IsHost() && h.Root.Exists("/run/systemd/system") {
		go t.follow(ctx)
	}
	return t
}
