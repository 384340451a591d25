package main

import (
	"flag"
	"io"
	"time"

	"github.com/uplink-generator/uplink-generator/cmd/internal/host"
)

const reloadUsage = `Usage: uplinkctl reload [--root DIR] [--wait SECONDS] [--if-changed]

Bring a changed spec into effect, now and for later boots: check it, write the
files of the links that systemd-networkd has, apply the rest through netlink,
wait until the kernel holds all of it, and verify. What has not changed is not
touched. If anything goes wrong, networkd gets its old files back. What the
kernel refuses through netlink is undone; what only verify finds wrong stays.
Without a spec, everything that an earlier one added is removed.

Options:
  --root DIR        the host's root directory: where the spec and /run are
                    (default /)
  --wait SECONDS    how long it may take until all is in effect (default 15);
                    it does not wait for links that are absent or have no
                    carrier
  --if-changed      do nothing if this spec is in effect since the boot; for
                    uplink-reload.service

Exit status: 0 in effect, 1 an error or not in effect, 2 wrong usage.

Examples:
  uplinkctl reload
  uplinkctl reload --wait 60
`

func reloadCommand() *command {
	var root string
	o := host.ReloadOptions{Wait: 15 * time.Second}
	return &command{
		name: "reload", usage: reloadUsage,
		flags: func(f *flag.FlagSet) {
			rootOption(f, &root)
			seconds(f, &o.Wait, "wait")
			f.BoolVar(&o.IfChanged, "if-changed", false, "")
		},
		run: noArguments(reloadUsage, func(stdout, stderr io.Writer) error {
			o.Stdout, o.Stderr = stdout, stderr
			ctx, stop := interruptible()
			defer stop()
			err := host.Reload(ctx, root, o)
			printWrongWays(stderr, err)
			return err
		}),
	}
}
