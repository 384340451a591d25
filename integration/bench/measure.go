package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// contestant is a program that is measured, as a whole process.
type contestant struct {
	name string
	argv []string
	// output is removed before each run, so that each does all the work there is.
	output []string
	// files is how many files a run writes at least: who does nothing is fast.
	files int
}

// result is what was measured of a contestant.
type result struct {
	contestant
	times  []time.Duration
	memory []int64 // KiB
	bytes  int64   // of the binary
}

// wall is the median of the times in milliseconds.
func (r *result) wall() float64 { return float64(median(r.times)) / float64(time.Millisecond) }

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

// measure runs all contestants in turn, again and again, so that what slows the
// machine down for a while slows all of them down. The order changes from round to
// round, for each finds the caches as the one before it has left them.
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
	// The first round only warms up, and sees to it that all do their work.
	for round := range runs + 1 {
		for i := range results {
			r := results[(i+round)%len(results)]
			took, err := r.run(ctx)
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
	for range memoryRuns {
		for _, r := range results {
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

func (c contestant) run(ctx context.Context) (time.Duration, error) {
	if err := c.clean(); err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	start := time.Now()
	err := cmd.Run()
	took := time.Since(start)
	if err != nil {
		out, _ := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...).CombinedOutput()
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
	cmd := exec.CommandContext(ctx, peak, r.argv...)
	cmd.Stderr = &stderr // the program's own output goes there too
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%w: %s", err, stderr.Bytes())
	}
	kib, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	r.memory = append(r.memory, kib)
	return err
}
