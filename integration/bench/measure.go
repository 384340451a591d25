package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// contestant is a program that is measured, as a whole process.
type contestant struct {
	name string
	argv []string
	env  []string // in addition to ours
	root string   // its root directory, as at boot; "" for the machine's
	// output is removed before each run, so that each does all the work there is.
	output []string
	// files is how many files a run must write at least: a program that does nothing is fast.
	files int
}

// result is what was measured of a contestant.
type result struct {
	contestant
	times  []time.Duration
	memory []int64 // KiB
	bytes  int64   // of the binary
	left   bool    // it was left out as too slow
}

var errTooSlow = fmt.Errorf("it takes more than %v", tooSlow)

// fastest is the time in milliseconds of the run that was disturbed least.
func (r *result) fastest() float64 { return float64(slices.Min(r.times)) / float64(time.Millisecond) }

// wall is the median of the times in milliseconds.
func (r *result) wall() float64 { return float64(median(r.times)) / float64(time.Millisecond) }

// total is the sum of the times.
func (r *result) total() (sum time.Duration) {
	for _, t := range r.times {
		sum += t
	}
	return sum
}

// peak is the median of the peak memory in KiB.
func (r *result) peak() int64 { return median(r.memory) }

func median[T int64 | time.Duration | float64](list []T) T {
	if len(list) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(list))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// memoryRuns is how often memory is measured: it varies little.
const memoryRuns = 5

// A slow program takes part in the first rounds only: as many as fit into slowTime, but at least
// fewest.
const (
	slowTime = 8 * time.Second
	fewest   = 3
	// tooSlow is the longest that one run may take. A program that takes longer is left out:
	// cloud-init's time grows with the square of the number of uplinks.
	tooSlow = 20 * time.Second
)

// measure runs all contestants in turn, again and again, so that what slows the machine down for
// a while slows all of them down. The order changes from round to round, because each finds the
// caches as the one before it has left them.
func measure(ctx context.Context, list []contestant, runs int, peak string) ([]*result, error) {
	var results []*result
	for _, c := range list {
		r := &result{contestant: c}
		info, err := os.Stat(c.argv[0])
		if err != nil {
			return nil, err
		}
		r.bytes = info.Size()
		results = append(results, r)
	}
	// The first round only warms up, and checks that all do their work.
	for round := range runs + 1 {
		results = slices.DeleteFunc(results, func(r *result) bool { return r.left })
		for i := range results {
			r := results[(i+round)%len(results)]
			if r.total() > slowTime && len(r.times) >= fewest {
				continue
			}
			took, err := r.run(ctx)
			if r.left = errors.Is(err, errTooSlow); r.left {
				continue
			}
			if err == nil && round == 0 {
				err = r.check()
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.name, err)
			}
			if round > 0 {
				r.times = append(r.times, took)
			}
		}
	}
	for i := range memoryRuns {
		for _, r := range results {
			if i > 0 && r.wall() > 500 {
				continue
			}
			if err := r.measureMemory(ctx, peak); err != nil {
				return nil, fmt.Errorf("%s: %w", r.name, err)
			}
		}
	}
	return results, nil
}

// clean removes what the last run has written.
func (c contestant) clean() error {
	for _, dir := range c.output {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func (c contestant) command(ctx context.Context, before ...string) *exec.Cmd {
	argv := append(before, c.argv...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), c.env...)
	if c.root != "" {
		cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Chroot: c.root}
	}
	return cmd
}

func (c contestant) run(ctx context.Context) (time.Duration, error) {
	if err := c.clean(); err != nil {
		return 0, err
	}
	limited, cancel := context.WithTimeout(ctx, tooSlow)
	defer cancel()
	cmd := c.command(limited)
	start := time.Now()
	err := cmd.Run()
	took := time.Since(start)
	if limited.Err() != nil && ctx.Err() == nil {
		return 0, errTooSlow
	}
	if err != nil {
		out, _ := c.command(ctx).CombinedOutput()
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	return took, nil
}

// check fails where the last run has not written as many files as it must.
func (c contestant) check() error {
	found := 0
	for _, dir := range c.output {
		err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				found++
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if found < c.files {
		return fmt.Errorf("%d files written, not %d: it does not do what it is measured for", found, c.files)
	}
	return nil
}

func (r *result) measureMemory(ctx context.Context, peak string) error {
	if err := r.clean(); err != nil {
		return err
	}
	var stderr bytes.Buffer
	cmd := r.command(ctx, peak)
	cmd.Stderr = &stderr // the program's own output goes there too
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%w: %s", err, stderr.Bytes())
	}
	kib, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	r.memory = append(r.memory, kib)
	return err
}
