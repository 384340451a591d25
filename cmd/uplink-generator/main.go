// Command uplink-generator is the systemd generator. It also renders, when the service that it
// hooks in calls it.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

const usage = `Usage:
  uplink-generator [--root DIR] NORMAL [EARLY LATE]
        as systemd calls it: hook the back ends in, below the directory NORMAL
  uplink-generator [--root DIR] --render
        write the files for systemd-networkd; what uplink-networkd.service calls

Options:
  --root DIR   the host's root directory (default /)
  --version    print the version

Exit status: 0 done or nothing to do, 1 the spec or the installation has errors,
2 wrong usage.
See uplink-generator(8), and uplinkctl(8) for the commands for people.
`

// deadline ends the generator whatever happens: systemd waits for all generators, and since 254
// PID 1 gives up if one of them hangs.
const deadline = 5 * time.Second

func main() {
	// The process is short-lived: with few collections it ends sooner, as long as the spec has a
	// size that people write.
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(64 << 20)
	if err := run.CheckDescriptors(); err != nil {
		run.Report(os.Stderr, "uplink-generator", err)
		os.Exit(run.ExitFail)
	}
	os.Exit(generator(os.Args[1:], os.Stdout, os.Stderr))
}

func generator(args []string, stdout, stderr io.Writer) int {
	a, err := parseArguments(args)
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "uplink-generator: %v\n%s", err, usage)
		return run.ExitUsage
	case a.help:
		fmt.Fprint(stdout, usage)
		return run.ExitOK
	case a.version:
		fmt.Fprintln(stdout, run.Version("uplink-generator"))
		return run.ExitOK
	case a.render:
		return renderFiles(a.root, stderr)
	}

	log := logger(a.root, stderr)
	time.AfterFunc(deadline, func() {
		// Even if stderr is what it hangs on.
		time.AfterFunc(100*time.Millisecond, func() { os.Exit(run.ExitFail) })
		log(gen.LogErr, fmt.Sprintf("not done after %v: giving up, so that the boot goes on", deadline))
		os.Exit(run.ExitFail)
	})
	g := gen.Generator{Root: rootfs.At(a.root), Log: log}
	if err := g.Run(a.dirs[0]); err != nil {
		return run.ExitFail
	}
	return run.ExitOK
}

// logger returns where a generator's messages go. At boot there is only the kernel log: the
// journal does not run yet, and stderr is /dev/null.
func logger(root string, stderr io.Writer) func(int, string) {
	kmsg := io.Discard
	if rootfs.At(root).IsHost() {
		// In some containers it cannot be opened: a lost message is no failure.
		if f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0); err == nil {
			kmsg = f
		}
	}
	return func(priority int, line string) {
		// One write is one record, and a record is one line.
		line = strings.ReplaceAll(line, "\n", " ")
		_, _ = io.WriteString(kmsg, record(priority, line))
		_, _ = fmt.Fprintf(stderr, "uplink-generator: %s\n", line)
	}
}

// record is a line for the kernel log, which refuses one of more than 1024 bytes (devkmsg_write
// in kernel/printk/printk.c; older kernels, of more than 976).
func record(priority int, line string) string {
	const most = 900 // bytes
	if end := most; len(line) > most {
		for end > 0 && !utf8.RuneStart(line[end]) {
			end--
		}
		line = line[:end]
	}
	return fmt.Sprintf("<%d>uplink-generator[%d]: %s\n", priority, os.Getpid(), line)
}

// renderFiles writes the files for networkd into the host's /run. If the spec is wrong, the files
// of the last good one stay.
func renderFiles(root string, stderr io.Writer) int {
	tree, notes, err := run.Rendering{Root: root}.Render()
	if err != nil && !errors.Is(err, spec.ErrNone) {
		run.Report(stderr, "uplink-generator", err)
		return run.ExitFail
	}
	for _, n := range notes {
		fmt.Fprintln(stderr, n)
	}
	run.WarnOfExposure(stderr, "uplink-generator", rootfs.At(root))
	if _, err := tree.Write(root); err != nil {
		run.Report(stderr, "uplink-generator", err)
		return run.ExitFail
	}
	return run.ExitOK
}
