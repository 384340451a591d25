package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"

	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/units"
)

const renderUsage = `Usage: uplinkctl render [--root DIR] [--output DIR] [--systemd-version N]

Show or write the files for systemd-networkd. It needs no root, and can render
the files of an image on another machine.

Options:
  --root DIR            the host's root directory: where the spec is, and the
                        .network files of others (default /)
  --output DIR          write the files below DIR, as
                        DIR/run/systemd/network/…, and remove those of an
                        earlier run that the spec no longer gives
  --systemd-version N   the version of the host's systemd, like 257 or 257.13
                        (default: the one installed below --root)

Exit status: 0 done, 1 the spec or the host has errors, 2 wrong usage.

Examples:
  uplinkctl render
  uplinkctl render --root /srv/image --output /srv/image --systemd-version 257
  uplinkctl render --output /       # what the service does at boot
`

func renderCommand() *command {
	var r run.Rendering
	var output string
	return &command{
		name: "render", usage: renderUsage,
		flags: func(f *flag.FlagSet) {
			rootOption(f, &r.Root)
			f.StringVar(&output, "output", "", "")
			f.Func("systemd-version", "", func(s string) error {
				r.Version = s
				_, err := units.ParseVersion(s)
				return err
			})
		},
		run: func(args []string, stdout, stderr io.Writer) int {
			if len(args) > 0 {
				return wrongUsage(stderr, renderUsage, fmt.Sprintf("unexpected %q", args[0]))
			}
			tree, notes, err := r.Render()
			if err != nil {
				then := ""
				if output != "" {
					then = "nothing was changed"
				}
				run.ReportOf(stderr, "uplinkctl", err, then)
				return run.ExitFail
			}
			for _, n := range notes {
				fmt.Fprintf(stderr, "%s\n", n)
			}
			out := bufio.NewWriter(stdout) // there may be thousands; stdout keeps the error
			defer out.Flush()
			if output == "" {
				for i, f := range tree {
					if i > 0 {
						fmt.Fprintln(out)
					}
					fmt.Fprintf(out, "==> %s <==\n%s", f.Path, f.Data)
				}
				return run.ExitOK
			}
			run.WarnOfExposure(stderr, "uplinkctl", rootfs.At(r.Root))
			done, err := tree.Write(output)
			for _, f := range done.Written {
				fmt.Fprintf(out, "written %s\n", f)
			}
			for _, f := range done.Removed {
				fmt.Fprintf(out, "removed %s\n", f)
			}
			switch {
			case err == nil:
				return run.ExitOK
			case rootfs.At(output).IsHost():
				run.Report(stderr, "uplinkctl", err)
			default: // root privileges would not help: the directory is the user's own, or the wrong one
				fmt.Fprintf(stderr, "uplinkctl: %v\n", err)
			}
			return run.ExitFail
		},
	}
}
