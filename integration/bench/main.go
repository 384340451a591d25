// Command bench measures the programs beside those that do the same work on other hosts: whole
// processes, interleaved, medians, on a tmpfs. Only the ratios mean something; the times depend
// on this machine.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
)

// The targets.
const (
	maxOfNetworkGenerator = 0.60
	maxOfNetplan          = 0.35
	maxPeakKiB            = 5 << 10
	maxBinaryBytes        = 3 << 20
	maxGrowth             = 1.3 // of the time an uplink takes, from 100 to 10,000 of them
)

func main() {
	b := &bencher{out: os.Stdout}
	flag.IntVar(&b.runs, "runs", 21, "runs of each program")
	dir := flag.String("dir", "/dev/shm", "a directory on a tmpfs")
	most := flag.Int("most", 10000, "the largest number of uplinks")
	only := flag.String("only", "", "measure this part alone: start-up, growth, kernel, lookup or watch")
	flag.BoolVar(&b.full, "full", false, "measure what takes many minutes too")
	flag.StringVar(&b.unpacked, "cloud-init", "", "the directory into which Debian's package cloud-init is unpacked, where it is not installed")
	results := flag.String("results", "", "the directory into which the tables and the plot are written")
	record := flag.String("budget", "", "measure nothing but what this record has, and fail where it has grown by more than a tenth")
	update := flag.Bool("update", false, "write the record instead")
	check := flag.Bool("check", false, "exit with 1 where a target is missed")
	flag.Parse()
	debug.SetGCPercent(400) // as in the programs
	// A user who stops it, or reads only its beginning, must not be left with what it made.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := b.inDirectory(ctx, *dir, func() error {
		if *record != "" {
			return b.checkBudget(ctx, *record, *update)
		}
		return b.bench(ctx, *most, *only, *results)
	})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if b.missed && *check {
		os.Exit(1)
	}
}

// inDirectory builds the programs and calls f, in a directory on a tmpfs that is removed
// afterwards.
func (b *bencher) inDirectory(ctx context.Context, on string, f func() error) (err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(on, &fs); err != nil {
		return fmt.Errorf("%s: %w", on, err)
	}
	if fs.Type != unix.TMPFS_MAGIC {
		return fmt.Errorf("%s is not on a tmpfs: it would measure the disk", on)
	}
	if b.dir, err = os.MkdirTemp(on, "uplink-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	b.bin = filepath.Join(b.dir, "bin")
	if err := b.build(ctx); err != nil {
		return err
	}
	return f()
}

// bench measures one part, or all, and writes down the results.
func (b *bencher) bench(ctx context.Context, most int, only, results string) error {
	var text bytes.Buffer
	b.out = io.MultiWriter(os.Stdout, &text)
	fmt.Fprintf(b.out, "# Measured\n\nBy `make bench`, on %s. The times are one machine's; the ratios, pair by pair within a round, hold.\n\n", b.machine(ctx))
	parts := []struct {
		name    string
		measure func(context.Context, int) error
	}{{"start-up", b.startUp}, {"growth", b.growth}, {"kernel", b.kernel}, {"lookup", b.lookup}, {"watch", b.watch}}
	found := false
	for _, p := range parts {
		if only != "" && only != p.name {
			continue
		}
		found = true
		if err := p.measure(ctx, most); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	switch {
	case !found:
		return fmt.Errorf("there is no part %q", only)
	case results == "":
		return nil
	}
	if err := os.MkdirAll(results, 0o755); err != nil {
		return err
	}
	if len(b.plots) > 0 {
		if err := os.WriteFile(filepath.Join(results, "growth.svg"), drawing(b.plots), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(results, "README.md"), append(bytes.TrimRight(text.Bytes(), "\n"), '\n'), 0o644)
}

// build builds our programs, and the two that measuring needs.
func (b *bencher) build(ctx context.Context) error {
	if err := programs.Build(ctx, b.bin); err != nil {
		return err
	}
	const here = "github.com/uplink-generator/uplink-generator/integration/bench"
	return programs.Packages(ctx, b.bin, here+"/empty", here+"/peak")
}
