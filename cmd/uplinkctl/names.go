package main

import (
	"flag"
	"fmt"
	"io"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

const namesUsage = `Usage: uplinkctl names [--root DIR | FILE…]

Print the names of the spec's uplinks, sorted, one a line, for loops in scripts
and for shell completion. With FILEs it reads only those. If the spec has
errors, it still prints the names that can be read.

Options:
  --root DIR   the host's root directory (default /)

Exit status: 0 done, 1 the spec has errors or there is none, 2 wrong usage.

Examples:
  uplinkctl names
`

func namesCommand() *command {
	var root string
	return &command{
		name: "names", usage: namesUsage, files: true,
		flags: func(f *flag.FlagSet) { rootOption(f, &root) },
		run: func(files []string, stdout, stderr io.Writer) int {
			if root == "" || len(files) == 0 {
				for _, name := range spec.Names(rootfs.At(root), files...) {
					fmt.Fprintln(stdout, name)
				}
			}
			return printState(namesUsage, root, files, stderr, func(*spec.Spec, *fib.State) error { return nil })
		},
	}
}
