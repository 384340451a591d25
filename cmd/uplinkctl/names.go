package main

import (
	"flag"
	"fmt"
	"io"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

const namesUsage = `Usage: uplinkctl names [--root DIR | FILE…]

Print the names of the spec's uplinks, one a line and in their order, for loops in
scripts and for the shells' completion. With FILEs those are read and nothing else.

Options:
  --root DIR   the host's root directory (default /)

Exit status: 0 done, 1 the spec has errors or there is none, 2 wrong usage.

Examples:
  uplinkctl names
`

func namesCommand() *command {
	var root string
	return &command{
		name: "names", usage: namesUsage,
		flags: func(f *flag.FlagSet) { f.StringVar(&root, "root", "", "") },
		run: func(files []string, stdout, stderr io.Writer) int {
			return printState("names", namesUsage, root, files, stderr, func(s *spec.Spec, _ *fib.State) error {
				for i := range s.Uplinks {
					if _, err := fmt.Fprintln(stdout, s.Uplinks[i].Name); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}
