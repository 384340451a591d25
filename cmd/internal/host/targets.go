package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/uplink-generator/uplink-generator/apply/probe"
	"github.com/uplink-generator/uplink-generator/cmd/internal/bus"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// targets has one of two units of systemd active for each uplink that is probed, so that
// other units can follow: uplink@NAME-up.target or uplink@NAME-down.target. It works
// beside the watcher, which must not wait for systemd.
type targets struct {
	log func(string)

	mu   sync.Mutex
	want map[string]string // by uplink: "up", "down", or "" for neither
	more chan struct{}
}

// follow works until ctx is done.
func (t *targets) follow(ctx context.Context) {
	have := map[string]string{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.more:
		}
		t.mu.Lock()
		want := maps.Clone(t.want)
		t.mu.Unlock()
		if err := change(ctx, have, want); err != nil {
			t.log(err.Error())
		}
	}
}

// change starts and stops what differs, and notes in have what is done.
func change(ctx context.Context, have, want map[string]string) error {
	if maps.Equal(have, want) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, jobTime)
	defer cancel()
	conn, err := bus.DialSystemd(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var errs []error
	for _, uplink := range slices.Sorted(maps.Keys(want)) {
		now := want[uplink]
		if was, told := have[uplink]; told && was == now {
			continue
		}
		have[uplink] = now
		// What is active from an earlier run of ours stops too.
		for _, other := range []string{"up", "down"} {
			if other != now {
				errs = append(errs, conn.Stop(ctx, targetOf(uplink, other)))
			}
		}
		if now != "" {
			errs = append(errs, conn.Start(ctx, targetOf(uplink, now)))
		}
	}
	return errors.Join(errs...)
}

// targetOf needs no escaping: what an uplink's name may have, a unit's may as well.
func targetOf(uplink, state string) string { return fmt.Sprintf("uplink@%s-%s.target", uplink, state) }

// tell says what has been found. An uplink is down when it is dead in each family that is
// judged.
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

// followTargets begins to follow, where systemd runs.
func (h *Host) followTargets(ctx context.Context, log func(string)) *targets {
	t := &targets{log: log, want: map[string]string{}, more: make(chan struct{}, 1)}
	if h.Root.Exists("/run/systemd/system") {
		go t.follow(ctx)
	}
	return t
}
