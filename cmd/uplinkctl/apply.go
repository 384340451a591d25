package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/cmd/internal/host"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

const applyUsage = `Usage: uplinkctl apply [--root DIR] [--wait SECONDS] [--link LINK] [--dry-run]
                       [--force] [--if-needed]

Apply the spec to the kernel, through netlink. It changes only what differs,
adds before it removes, and if the kernel refuses anything it undoes everything.
It runs at boot on hosts without systemd-networkd, and may be run at any time.
It needs CAP_NET_ADMIN.

Options:
  --root DIR        the host's root directory: where the spec and /run are
                    (default /)
  --wait SECONDS    how long to wait for links that are absent or have no
                    carrier (default 0); the others are applied without them
  --link LINK       wait only for this link, given by name or path in /sys
  --dry-run         print what it would do, in the syntax of ip(8), and change
                    nothing
  --force           apply even links that systemd-networkd manages
  --if-needed       leave out the links that systemd-networkd manages, unless
                    the spec says backend = "netlink"; for the units at boot

Exit status: 0 done, or nothing to do; 1 an error, and no address, route or
rule was changed; 2 wrong usage.

Examples:
  uplinkctl apply
  uplinkctl apply --dry-run
  uplinkctl apply --wait 10
`

const diffUsage = `Usage: uplinkctl diff [--root DIR]

Show what differs between the spec and the kernel, as the operations that apply
would carry out, in the syntax of ip(8). Lines that begin with "-6 " are for
"ip -6 -batch" without it, the others for "ip -batch".

Options:
  --root DIR   the host's root directory (default /)

Exit status: 0 nothing differs, 1 something does or an error, 2 wrong usage.

Examples:
  uplinkctl diff
`

const downUsage = `Usage: uplinkctl down [--root DIR] [--dry-run] [--if-needed]

Remove all routes, rules and addresses that uplinkctl apply added, and nothing
that others added. Links stay up.

Options:
  --root DIR    the host's root directory: where /run is (default /)
  --dry-run     print what it would do, and change nothing
  --if-needed   do nothing if systemd-networkd alone has what is in effect; for
                uplink-apply.service when it stops

Exit status: 0 done, or nothing to do; 1 an error, and nothing was changed; 2
wrong usage.

Examples:
  uplinkctl down
`

func applyCommand() *command {
	var root, link string
	var wait time.Duration
	var dryRun, force, ifNeeded bool
	return &command{
		name: "apply", usage: applyUsage,
		flags: func(f *flag.FlagSet) {
			rootOption(f, &root)
			seconds(f, &wait, "wait")
			f.StringVar(&link, "link", "", "")
			f.BoolVar(&dryRun, "dry-run", false, "")
			f.BoolVar(&force, "force", false, "")
			f.BoolVar(&ifNeeded, "if-needed", false, "")
		},
		run: noArguments(applyUsage, func(stdout, stderr io.Writer) error {
			o := host.ApplyOptions{Wait: wait, Force: force, IfNeeded: ifNeeded, Stderr: stderr}
			if link != "" {
				o.Link = path.Base(link)
			}
			if !dryRun {
				ctx, stop := interruptible()
				defer stop()
				return host.Apply(ctx, root, o)
			}
			h, err := host.Open(context.Background(), root, 0, false)
			if err != nil {
				return err
			}
			defer h.Close()
			state, err := h.WouldApply(o)
			if err == nil {
				_, err = printPlan(&h.Applier, state, stdout, stderr)
			}
			return err
		}),
	}
}

// printPlan prints the operations that apply would carry out, and says how many
// there are.
func printPlan(a *apply.Applier, state fib.State, stdout, stderr io.Writer) (n int, err error) {
	plan, result, err := a.Plan(state)
	if err != nil {
		return 0, err
	}
	host.SayWaiting(stderr, result.Waiting)
	for _, o := range plan.Ops() {
		fmt.Fprintln(stdout, o.Batch())
	}
	return plan.Len(), nil
}

func diffCommand() *command {
	var root string
	return &command{
		name: "diff", usage: diffUsage,
		flags: func(f *flag.FlagSet) { rootOption(f, &root) },
		run: onlyLooks(diffUsage, func(stdout, stderr io.Writer) error {
			h, err := host.Open(context.Background(), root, 0, false)
			if err != nil {
				return err
			}
			defer h.Close()
			state, _, err := h.State(stderr)
			if err != nil {
				return err
			}
			managed, err := h.Managed(state)
			if err != nil {
				return err
			}
			h.Adopt = len(managed) > 0
			n, err := printPlan(&h.Applier, state, stdout, stderr)
			if err == nil && n > 0 {
				return errDiffers
			}
			return err
		}),
	}
}

func downCommand() *command {
	var root string
	var dryRun, ifNeeded bool
	return &command{
		name: "down", usage: downUsage,
		flags: func(f *flag.FlagSet) {
			rootOption(f, &root)
			f.BoolVar(&dryRun, "dry-run", false, "")
			f.BoolVar(&ifNeeded, "if-needed", false, "")
		},
		run: noArguments(downUsage, func(stdout, stderr io.Writer) error {
			h, err := host.Open(context.Background(), root, 0, !dryRun)
			if err != nil {
				return err
			}
			defer h.Close()
			if ifNeeded {
				// An unreadable note says nothing about networkd.
				if now, there, err := h.Effective(); err == nil && there && now.Backend == spec.Networkd {
					return nil
				}
			}
			if dryRun {
				_, err := printPlan(&h.Applier, fib.State{}, stdout, stderr)
				return err
			}
			if err := h.NotTrying(); err != nil {
				return err
			}
			ctx, stop := interruptible()
			defer stop()
			return h.TakeDown(ctx)
		}),
	}
}
