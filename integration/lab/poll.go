package lab

import (
	"context"
	"fmt"
	"time"
)

const (
	// pollInterval is short beside what is waited for, which is tens of
	// milliseconds at least, and long beside the cost of asking.
	pollInterval = 10 * time.Millisecond

	// pollLimit ends a wait whose context has no deadline: nothing in a lab
	// takes that long, so it is stuck.
	pollLimit = 30 * time.Second
)

// Poll calls cond until it returns true. The string that cond returns beside
// false says what is still missing; when ctx ends, or after 30 seconds where
// ctx has no deadline, the last such string is in the error.
func Poll(ctx context.Context, cond func() (bool, string)) error {
	start := time.Now()
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, pollLimit)
		defer cancel()
	}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		done, missing := cond()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("gave up after %s: %s: %w", time.Since(start).Round(time.Millisecond), missing, ctx.Err())
		case <-tick.C:
		}
	}
}
