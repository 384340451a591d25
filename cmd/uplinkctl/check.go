package main

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen/check"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

const checkUsage = `Usage: uplinkctl check [--strict] [--format F] [--state] [--root DIR | FILE…]

Read the spec and report every error, with its file, line and column, and warn
of what is valid but probably not meant, like a source that leaves by another
uplink. It needs neither root nor a kernel. With FILEs it reads only those, each
overriding the ones before it.

Options:
  --root DIR   the host's root directory (default /)
  --state      print the state that the kernel would hold, as lines of ip(8)
  --strict     count warnings as errors
  --format F   text (default), json, or sarif (2.1.0)

Exit status: 0 no errors, 1 the spec has errors or there is none, or with
--strict there are warnings; 2 wrong usage.

Examples:
  uplinkctl check
  uplinkctl check --root /srv/image
  uplinkctl check --strict --format sarif my-uplink.toml
`

// findings is what check found.
type findings struct {
	files    []string // what was read; nil if something is wrong with it
	errors   spec.Errors
	warnings []check.Warning
}

func checkCommand() *command {
	var root string
	var state, strict bool
	format := "text"
	return &command{
		name: "check", usage: checkUsage, files: true,
		flags: func(f *flag.FlagSet) {
			rootOption(f, &root)
			f.BoolVar(&state, "state", false, "")
			f.BoolVar(&strict, "strict", false, "")
			f.Func("format", "", func(s string) error {
				if s != "text" && s != "json" && s != "sarif" {
					return errors.New("there are text, json and sarif")
				}
				format = s
				return nil
			})
		},
		run: func(files []string, stdout, stderr io.Writer) int {
			wrong := ""
			switch {
			case root != "" && len(files) > 0:
				wrong = "--root says where to look, and FILE what to read: give one of them"
			case state && format != "text":
				wrong = "--state is text"
			}
			if wrong != "" {
				return wrongUsage(stderr, checkUsage, wrong)
			}
			var found findings
			s, st, err := run.Check(root, files...)
			if errors.Is(err, spec.ErrNone) && format != "text" {
				// A finding needs a file: this is where the spec would be.
				err = spec.Errors{{File: "/etc/uplink/uplink.toml", Msg: err.Error()}}
			}
			switch {
			case err != nil && (format == "text" || !errors.As(err, &found.errors)):
				run.ReportOf(stderr, "uplinkctl", err, "")
				return run.ExitFail
			case err == nil:
				found.files, found.warnings = s.Files, check.Run(s, st)
				if version, known := units.DetectVersion(rootfs.At(root)); known && !version.HasGoto() && s.Backend != spec.Netlink {
					if w, many := check.Flat(s, st, version.String()); many {
						found.warnings = append(found.warnings, w)
					}
				}
				if len(files) == 0 {
					// Files that are named on the command line are in effect nowhere.
					found.warnings = append(check.Files(rootfs.At(root)), found.warnings...)
				}
			}
			switch format {
			case "json":
				err = found.json(stdout, strict)
			case "sarif":
				err = found.sarif(stdout)
			default:
				if err = nil; state {
					laid := laidOut(root, files, s, st)
					fmt.Fprint(stdout, laid.Text())
				}
				found.text(stdout, stderr, state)
			}
			if err != nil {
				run.ReportOf(stderr, "uplinkctl", err, "")
				return run.ExitFail
			}
			if !found.ok(strict) {
				return run.ExitFail
			}
			return run.ExitOK
		},
	}
}

func (f *findings) ok(strict bool) bool {
	return len(f.errors) == 0 && (len(f.warnings) == 0 || !strict)
}

// text writes the warnings for people, and names the files that have none.
func (f *findings) text(stdout, stderr io.Writer, quiet bool) {
	warned := map[string]bool{}
	s := newScreen(stderr)
	for _, w := range f.warnings {
		warned[w.Origin.File] = true
		s.items("", plain, words(w.String())...)
		s.items("   help: ", plain, words(w.Help)...)
		fmt.Fprintln(s)
	}
	_ = s.Flush()
	for _, file := range f.files {
		if !quiet && !warned[file] {
			fmt.Fprintf(stdout, "%s: fine\n", file)
		}
	}
	switch n := len(f.warnings); n {
	case 0:
	case 1:
		fmt.Fprintln(stderr, "uplinkctl: 1 warning")
	default:
		fmt.Fprintf(stderr, "uplinkctl: %d warnings\n", n)
	}
}
