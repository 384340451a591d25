package main

import (
	"flag"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/uplink-generator/uplink-generator/cmd/internal/host"
)

const watchUsage = `Usage: uplinkctl watch [--root DIR]

Keep what reload or apply has brought into effect, until interrupted: add rules
for addresses that DHCP or router advertisements bring, copy the gateway learned
with them into the uplink's table, add again what something else removes, and
lead around an uplink that its probe finds dead. When it ends it leaves
everything as it is. uplink-watch.service runs it if the spec has an uplink with
dhcp, accept-ra or a probe. It needs CAP_NET_ADMIN, and CAP_NET_RAW for probes.

Options:
  --root DIR   the host's root directory: where /run is (default /)

Exit status: 0 interrupted, 1 an error, 2 wrong usage.

Examples:
  systemctl status uplink-watch
  journalctl -u uplink-watch
`

func watchCommand() *command {
	var root string
	return &command{
		name: "watch", usage: watchUsage,
		flags: func(f *flag.FlagSet) { rootOption(f, &root) },
		run: noArguments(watchUsage, func(_, stderr io.Writer) error {
			ctx, stop := interruptible()
			defer stop()
			// Keeps memory small: it sleeps most of the time.
			debug.SetGCPercent(50)
			runtime.GOMAXPROCS(1)
			every, err := daemon.SdWatchdogEnabled(false)
			if err != nil {
				return fmt.Errorf("the watchdog: %w", err)
			}
			alive := daemon.SdNotifyReady + "\n" + daemon.SdNotifyWatchdog
			return host.Watch(ctx, root, host.WatchOptions{
				Log: func(line string) { fmt.Fprintln(stderr, "uplinkctl: "+line) },
				Alive: func() {
					// It is no failure if nobody listens: systemd does not start most runs by
					// hand.
					_, _ = daemon.SdNotify(false, alive)
					alive = daemon.SdNotifyWatchdog
				},
				Every: every / 2,
			})
		}),
	}
}
