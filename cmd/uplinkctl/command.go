package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/blocks"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// command is one of uplinkctl's commands. Its flags are added to the set before it runs; run gets
// the remaining arguments, and returns an exit code.
type command struct {
	name, usage string
	files       bool // the remaining arguments are FILEs
	flags       func(*flag.FlagSet)
	run         func(args []string, stdout, stderr io.Writer) int
}

// rootOption adds --root. It refuses what is no directory before anything else is looked at:
// there would be no spec below it, and reload would take away what is in effect.
func rootOption(f *flag.FlagSet, to *string) {
	f.Func("root", "", func(dir string) error {
		*to = dir
		return run.CheckRoot(dir)
	})
}

// seconds adds an option that takes a number of seconds; *to is the default.
func seconds(f *flag.FlagSet, to *time.Duration, name string) {
	f.Func(name, "", func(s string) error {
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil {
			return errors.New("a number of seconds, 2147483647 at most")
		}
		*to = time.Duration(n) * time.Second
		return nil
	})
}

// wrongUsage reports what is wrong with the arguments of a command, and how to call it.
func wrongUsage(stderr io.Writer, usage string, what any) int {
	synopsis, _, _ := strings.Cut(usage, "\n\n")
	name := strings.Fields(synopsis)[2] // "Usage: uplinkctl NAME"
	fmt.Fprintf(stderr, "uplinkctl %s: %v\n%s\n`uplinkctl help %s` says more\n", name, what, synopsis, name)
	return run.ExitUsage
}

// lateOption returns the first option after a FILE. After "--" there are none.
func lateOption(args, files []string) string {
	if n := len(args) - len(files); n > 0 && args[n-1] == "--" {
		return ""
	}
	for _, f := range files {
		if len(f) > 1 && f[0] == '-' {
			return f
		}
	}
	return ""
}

// ofOptions turns an error of package flag into one about options as people write them, with the
// one that may be meant.
func ofOptions(f *flag.FlagSet, err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	text := strings.TrimSuffix(err.Error(), ": parse error")
	if name, unknown := strings.CutPrefix(text, "flag provided but not defined: -"); unknown {
		var known []string
		f.VisitAll(func(o *flag.Flag) { known = append(known, "--"+o.Name) })
		return errors.New(maybe("there is no option --"+name, spec.DidYouMean("--"+name, known)))
	}
	if name, bare := strings.CutPrefix(text, "flag needs an argument: -"); bare {
		return fmt.Errorf("--%s needs a value", name)
	}
	return errors.New(strings.NewReplacer(" for flag -", " for --", " for -", " for --").Replace(text))
}

// maybe appends a suggestion, if there is one, to what is wrong.
func maybe(wrong, suggestion string) string {
	if suggestion == "" {
		return wrong
	}
	return wrong + ": " + suggestion
}

// interruptible returns a context that ends on SIGINT and SIGTERM: what was done until then is
// undone.
func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// errDiffers makes diff's exit status 1 without a message.
var errDiffers = errors.New("the kernel differs from the spec")

// errSaid makes the exit status 1 where the error was reported already.
var errSaid = fmt.Errorf("the spec has errors: %w", errDiffers)

// noArguments makes the run function of a command that takes only options, and reports its error
// for people.
func noArguments(usage string, f func(stdout, stderr io.Writer) error) func([]string, io.Writer, io.Writer) int {
	return withoutArguments(usage, "nothing was changed", f)
}

// onlyLooks is noArguments for a command that never changes anything.
func onlyLooks(usage string, f func(stdout, stderr io.Writer) error) func([]string, io.Writer, io.Writer) int {
	return withoutArguments(usage, "", f)
}

func withoutArguments(usage, then string, f func(stdout, stderr io.Writer) error) func([]string, io.Writer, io.Writer) int {
	return func(args []string, stdout, stderr io.Writer) int {
		if len(args) > 0 {
			return wrongUsage(stderr, usage, fmt.Sprintf("unexpected %q", args[0]))
		}
		switch err := f(stdout, stderr); {
		case err == nil:
			return run.ExitOK
		case errors.Is(err, errDiffers):
		default:
			run.ReportOf(stderr, "uplinkctl", err, then)
		}
		return run.ExitFail
	}
}

// printState is a command that reads a spec, as check does, and prints something from it.
func printState(usage, root string, files []string, stderr io.Writer, f func(*spec.Spec, *fib.State) error) int {
	if root != "" && len(files) > 0 {
		return wrongUsage(stderr, usage, "--root says where to look, and FILE what to read: give one of them")
	}
	s, state, err := run.Check(root, files...)
	if err == nil {
		err = f(s, &state)
	}
	if err != nil {
		run.ReportOf(stderr, "uplinkctl", err, "")
		return run.ExitFail
	}
	return run.ExitOK
}

// laidOut returns a State as the kernel would hold it: many rules in blocks, if the back end can
// add those. FILEs belong to no host, and get what export writes.
func laidOut(root string, files []string, s *spec.Spec, state fib.State) fib.State {
	if len(files) > 0 {
		state, _ = blocks.Lay(state, blocks.Threshold)
		return state
	}
	at := rootfs.At(root)
	backend := cmp.Or(gen.ReadCommandLine(at).Backend, s.Backend)
	if backend == spec.Auto && !at.IsHost() {
		backend = spec.Networkd // that networkd does not run here says nothing about an image
	}
	return run.Lay(at, backend, state)
}
