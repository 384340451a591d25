// Command bench measures the programs beside those that do the same work on other
// hosts: whole processes, interleaved, medians, on a tmpfs. Only the ratios say
// something; the times are this machine's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
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
	runs := flag.Int("runs", 31, "runs of each program")
	dir := flag.String("dir", "/dev/shm", "a directory on a tmpfs")
	most := flag.Int("most", 10000, "the largest number of uplinks")
	check := flag.Bool("check", false, "exit with 1 where a target is missed")
	flag.Parse()
	debug.SetGCPercent(400) // as in the programs
	// Whoever stops it, or reads only its beginning, must not be left with what it made.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	missed, err := bench(ctx, *dir, *runs, *most)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if missed && *check {
		os.Exit(1)
	}
}

func bench(ctx context.Context, on string, runs, most int) (missed bool, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(on, &fs); err != nil {
		return false, fmt.Errorf("%s: %w", on, err)
	}
	if fs.Type != unix.TMPFS_MAGIC {
		return false, fmt.Errorf("%s is not on a tmpfs: it would measure the disk", on)
	}
	dir, err := os.MkdirTemp(on, "uplink-bench-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bencher{dir: dir, bin: filepath.Join(dir, "bin"), runs: runs, out: os.Stdout}
	if err := b.build(ctx); err != nil {
		return false, err
	}
	if err := b.startUp(ctx); err != nil {
		return false, err
	}
	if err := b.growth(ctx, most); err != nil {
		return false, err
	}
	if err := b.kernel(ctx, most); err != nil {
		return false, err
	}
	return b.missed, nil
}

// build builds our programs, and the two that measuring needs.
func (b *bencher) build(ctx context.Context) error {
	if err := programs.Build(ctx, b.bin); err != nil {
		return err
	}
	const here = "github.com/uplink-generator/uplink-generator/integration/bench"
	return programs.Packages(ctx, b.bin, here+"/empty", here+"/peak")
}

// peers are other people's programs, where distributions install them.
var (
	networkGenerator = []string{"/usr/lib/systemd/systemd-network-generator", "/lib/systemd/systemd-network-generator"}
	netplanGenerate  = []string{"/usr/libexec/netplan/generate", "/usr/lib/netplan/generate", "/lib/netplan/generate"}
)

// installed returns the first of several places where a program is, or "".
func installed(places []string) string {
	for _, p := range places {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return ""
}
