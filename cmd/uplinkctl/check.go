package main

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

const checkUsage = `Usage: uplinkctl check [--state] [--root DIR | FILE…]

Read the spec, and report everything that is wrong with it, each thing with its
file, line and column. It needs neither root nor a kernel. With FILEs those are
read and nothing else, each overriding the ones before it.

Options:
  --root DIR   the host's root directory (default /)
  --state      print the state that the kernel would hold, as lines of ip(8)

Exit status: 0 nothing is wrong, 1 the spec has errors or there is none, 2 wrong usage.

Examples:
  uplinkctl check
  uplinkctl check --root /srv/image
  uplinkctl check my-uplink.toml
`

func checkCommand() *command {
	var root string
	var state bool
	return &command{
		name: "check", usage: checkUsage,
		flags: func(f *flag.FlagSet) {
			f.StringVar(&root, "root", "", "")
			f.BoolVar(&state, "state", false, "")
		},
		run: func(files []string, stdout, stderr io.Writer) int {
			if root != "" && len(files) > 0 {
				fmt.Fprintf(stderr, "uplinkctl check: --root says where to look, and FILE what to read: give one of them\n%s", checkUsage)
				return run.ExitUsage
			}
			s, st, err := run.Check(root, files...)
			if errors.Is(err, spec.ErrNone) {
				fmt.Fprintf(stderr, "uplinkctl: %v\n", err)
				return run.ExitFail
			}
			if err != nil {
				run.Report(stderr, "uplinkctl", err)
				return run.ExitFail
			}
			if state {
				fmt.Fprint(stdout, st.Text())
				return run.ExitOK
			}
			for _, f := range s.Files {
				fmt.Fprintf(stdout, "%s: fine\n", f)
			}
			return run.ExitOK
		},
	}
}
