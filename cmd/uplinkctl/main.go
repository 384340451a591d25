// Command uplinkctl is what people, and the units at boot, run.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

const usage = `Usage: uplinkctl COMMAND [OPTIONS]

Commands:
  status          show the uplinks and the host's rules; also without a command
  check [FILE…]   report every error in the spec, and what is hardly meant
  render          show or write the files for systemd-networkd
  reload          bring a changed spec into effect, with either back end
  try             the same for a time: it goes back unless you keep it
  apply           apply the spec through netlink
  diff            show what differs between the spec and the kernel
  down            remove what apply added
  watch           keep routes and rules right as links and addresses change
  verify          ask the kernel which way packets would leave
  explain SRC DST show the way of one packet, rule by rule
  export [FILE…]  print the state for other tools: ip(8), or JSON
  import [FILE…]  write a spec from the kernel, ifupdown, netplan, …
  graph [FILE…]   draw the state, for Graphviz
  names [FILE…]   print the names of the uplinks
  schema          print a JSON Schema of the spec, for editors

  help COMMAND    the options of a command, with examples
  --version       print the version

Exit status: 0 fine, 1 something is wrong, 2 wrong usage.
See uplinkctl(8).
`

func commands() []*command {
	return []*command{statusCommand(), checkCommand(), renderCommand(), reloadCommand(), tryCommand(), applyCommand(), watchCommand(), diffCommand(), downCommand(), verifyCommand(), explainCommand(), exportCommand(), importCommand(), graphCommand(), namesCommand(), schemaCommand()}
}

func main() {
	// The process is short-lived: with few collections it ends sooner, as long as the spec has a
	// size that people write.
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(96 << 20)
	if err := run.CheckDescriptors(); err != nil {
		run.Report(os.Stderr, "uplinkctl", err)
		os.Exit(run.ExitFail)
	}
	stdout := standardOutput{file: os.Stdout}
	status := uplinkctl(os.Args[1:], &stdout, os.Stderr)
	if stdout.err != nil && status == run.ExitOK {
		run.Report(os.Stderr, "uplinkctl", stdout.err)
		status = run.ExitFail
	}
	os.Exit(status)
}

// standardOutput keeps the first error of writing to it: what scripts read must not be cut off
// with exit status 0.
type standardOutput struct {
	file *os.File
	err  error
}

// Write writes, and keeps the error.
func (o *standardOutput) Write(p []byte) (int, error) {
	n, err := o.file.Write(p)
	o.err = cmp.Or(o.err, err)
	return n, err
}

// Fd lets callers ask whether it is a terminal.
func (o *standardOutput) Fd() uintptr { return o.file.Fd() }

func uplinkctl(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		args = []string{"status"}
	}
	if err := run.CheckArguments(args); err != nil {
		fmt.Fprintf(stderr, "uplinkctl: %v\n", err)
		return run.ExitUsage
	}
	name, args := args[0], args[1:]
	switch name {
	case "--version", "version":
		fmt.Fprintln(stdout, run.Version("uplinkctl"))
		return run.ExitOK
	case "-h", "-help", "--help", "help":
		if len(args) == 0 || args[0] == "help" {
			fmt.Fprint(stdout, usage)
			return run.ExitOK
		}
		name, args = args[0], []string{"--help"}
	}
	for _, c := range commands() {
		if c.name != name {
			continue
		}
		flags := flag.NewFlagSet(name, flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		c.flags(flags)
		switch err := flags.Parse(args); {
		case errors.Is(err, flag.ErrHelp):
			fmt.Fprint(stdout, c.usage)
			return run.ExitOK
		case err != nil:
			return wrongUsage(stderr, c.usage, ofOptions(flags, err))
		}
		if option := lateOption(args, flags.Args()); c.files && option != "" {
			return wrongUsage(stderr, c.usage, fmt.Sprintf("options come before FILEs: %s stands behind %s (a FILE of that name is ./%[1]s)", option, flags.Arg(0)))
		}
		return c.run(flags.Args(), stdout, stderr)
	}
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	fmt.Fprintf(stderr, "uplinkctl: %s (`uplinkctl help` lists the commands)\n", maybe(fmt.Sprintf("there is no command %q", name), spec.DidYouMean(name, names)))
	return run.ExitUsage
}
