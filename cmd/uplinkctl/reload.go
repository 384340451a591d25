package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/cmd/internal/bus"
	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

const reloadUsage = `Usage: uplinkctl reload [--root DIR] [--wait SECONDS] [--if-changed]

Bring a changed spec into effect, now and for the boots to come: check it, give the
links that systemd-networkd has to it and the others to netlink, wait until the kernel
holds all of it, and verify. What has not changed is not touched. Where anything goes
wrong, networkd has its old files back, and what networkd does not have is as it was.
Without a spec, all that an earlier one brought about is taken away.

Options:
  --root DIR        the host's root directory: where the spec and /run are (default /)
  --wait SECONDS    how long it may take until all is in effect (default 15); links
                    without carrier, or that are not there, are not waited for
  --if-changed      do nothing where the boot has brought about this very spec; what
                    uplink-reload.service uses

Exit status: 0 in effect, 1 an error or not in effect, 2 wrong usage.

Examples:
  uplinkctl reload
  uplinkctl reload --wait 60
`

// reload is one run of the command.
type reload struct {
	*host
	stdout, stderr io.Writer
	wait           time.Duration

	backend  spec.Backend
	state    fib.State // as far as this kernel goes; empty without a spec
	gone     bool      // there is no spec
	networkd bool      // runs here

	tree, old units.Tree     // what is rendered, and what was
	oldHas    units.Contents // of old
	done      units.Changes
	changed   bool // of these, some that networkd reads again

	before     apply.Snapshot
	throughNet int // how many changes were made through netlink
}

func reloadCommand() *command {
	var root string
	var wait uint
	var ifChanged bool
	return &command{
		name: "reload", usage: reloadUsage,
		flags: func(f *flag.FlagSet) {
			f.StringVar(&root, "root", "", "")
			f.UintVar(&wait, "wait", 15, "")
			f.BoolVar(&ifChanged, "if-changed", false, "")
		},
		run: noArguments(reloadUsage, func(stdout, stderr io.Writer) error {
			// A carrier is not waited for, so that a card without a cable costs nothing.
			h, err := openHost(root, 0, true)
			if err != nil {
				return err
			}
			r := &reload{host: h, stdout: stdout, stderr: stderr, wait: time.Duration(wait) * time.Second}
			ctx, stop := interruptible()
			defer stop()
			busy, err := r.run(ctx, ifChanged)
			// What systemd starts now needs the lock.
			h.close()
			if err == nil && busy {
				if err := r.tellSystemd(ctx); err != nil {
					run.Report(stderr, "uplinkctl: the spec is in effect, but", err)
				}
			}
			return err
		}),
	}
}

// run brings the spec into effect. It returns false where it was not to do anything.
func (r *reload) run(ctx context.Context, ifChanged bool) (bool, error) {
	if gen.ReadCommandLine(r.root).Off {
		fmt.Fprintln(r.stderr, "uplinkctl: the kernel command line says uplink=0: nothing is done")
		return false, nil
	}
	if err := r.read(); err != nil {
		return false, err
	}
	if ifChanged {
		if same, err := r.isInPlace(); same || err != nil {
			return false, err
		}
	}
	if r.gone {
		fmt.Fprintf(r.stderr, "uplinkctl: %v: all that is there of an earlier one is taken away\n", spec.ErrNone)
	}
	var err error
	r.done, err = r.tree.Write(r.root.String())
	for _, f := range r.done.Written {
		fmt.Fprintf(r.stdout, "written %s\n", f)
	}
	for _, f := range r.done.Removed {
		fmt.Fprintf(r.stdout, "removed %s\n", f)
	}
	if err == nil {
		err = r.bringAbout(ctx)
	}
	var absent *notRunningError
	switch {
	case err == nil:
		return true, nil
	case errors.As(err, &absent):
		return false, err
	}
	return false, r.restore(err)
}

// notRunningError says that a spec is for networkd alone, and that it is not there.
type notRunningError struct{}

func (*notRunningError) Error() string {
	return "the files are in place, but not in effect: systemd-networkd does not run, and the spec says backend = \"networkd\"; start it with `systemctl start systemd-networkd`"
}

// read reads the spec, and how all is before it is changed.
func (r *reload) read() (err error) {
	r.networkd = units.NetworkdRuns()
	r.backend, r.state, err = run.State(r.root)
	if r.gone = errors.Is(err, spec.ErrNone); err != nil && !r.gone {
		return err
	}
	if !r.gone {
		if r.tree, err = r.render(); err != nil {
			return err
		}
	}
	r.dropMissingFamily(&r.state, r.stderr)
	if r.old, err = units.Rendered(r.root.String()); err != nil {
		return err
	}
	r.oldHas = r.old.Contents()
	if r.before, err = r.kernel.Observe(apply.Scope{Foreign: true}); err != nil {
		return err
	}
	// A match that fits two links is an error of the spec that only the host can tell.
	_, err = apply.Resolve(r.state, r.before, r.Hardware)
	return err
}

// render returns the files that the boot makes of the spec, in all families, whatever this
// kernel has: those for networkd, or where that does not run the names of the tables.
func (r *reload) render() (units.Tree, error) {
	if !r.networkd && r.backend != spec.Networkd {
		tree, _, err := units.Render(r.state, tablesOnly(r.root))
		return tree, err
	}
	tree, notes, err := run.Rendering{Root: r.root.String()}.Files(r.backend, r.state)
	for _, n := range notes {
		fmt.Fprintln(r.stderr, n)
	}
	return tree, err
}

// isInPlace says whether the boot has brought about this very spec: the files are there,
// the generator has hooked in what it asks for, and there is nothing left for netlink.
// What networkd makes of its files is not looked at: it may still be at work.
func (r *reload) isInPlace() (bool, error) {
	if !slices.EqualFunc(r.tree, r.old, func(a, b units.File) bool { return a.Path == b.Path && string(a.Data) == string(b.Data) }) {
		return false, nil
	}
	if hooked, err := r.isHooked(); !hooked {
		return false, err
	}
	ours, err := r.throughNetlink()
	if err != nil {
		return false, err
	}
	plan, _, err := r.Plan(ours)
	return err == nil && plan.Len() == 0, nil
}

// bringAbout has the kernel hold what has been written.
func (r *reload) bringAbout(ctx context.Context) error {
	if !r.networkd && r.backend == spec.Networkd && !r.gone {
		return &notRunningError{}
	}
	if r.networkd {
		if r.tree.KeepsForeign(r.done) {
			fmt.Fprintln(r.stderr, "uplinkctl: systemd-networkd reads its own settings when it starts: until `systemctl restart systemd-networkd` it may take away what is applied through netlink, whenever it configures a link")
		}
		r.changed = slices.ContainsFunc(slices.Concat(r.done.Written, r.done.Removed), units.AffectsNetworkd)
		tell := r.changed
		if !tell && r.backend != spec.Netlink && !r.gone {
			// The files may have been written by others, who have not told networkd.
			now, err := r.look()
			if err != nil {
				return err
			}
			tell = len(now.missing) > 0
		}
		if tell {
			if err := bus.ReloadNetworkd(ctx, r.root); err != nil {
				return err
			}
			if err := r.handOver(ctx); err != nil {
				return err
			}
		}
	}
	if err := markMatches(r.root, r.state, r.backend); err != nil {
		return err
	}
	if r.networkd && r.backend != spec.Netlink {
		if err := r.relieve(ctx); err != nil {
			return err
		}
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	rest, err := r.throughNetlink()
	if err != nil {
		return err
	}
	if err := markApplied(r.root, rest); err != nil {
		return err
	}
	v, err := r.Verify(r.state)
	if err == nil && !v.OK() {
		v.Checks = slices.DeleteFunc(v.Checks, apply.Check.OK)
		v.Waiting = nil // said already
		printVerification(r.stderr, v)
		err = apply.ErrWrongWay
	}
	return err
}

// throughNetlink returns what networkd has not: nothing where it has all, or shall.
func (r *reload) throughNetlink() (fib.State, error) {
	switch {
	case r.gone || r.backend == spec.Networkd:
		return fib.State{}, nil
	case !r.networkd || r.backend == spec.Netlink:
		return r.state, nil
	}
	managed, err := r.managed(r.state)
	if err != nil {
		return fib.State{}, err
	}
	state := clone(r.state)
	state.DropLinks(func(link string) bool { return managed[link] != "" })
	return state, nil
}

// clone copies a State as deep as DropLinks reaches.
func clone(s fib.State) fib.State {
	s.Links, s.Addresses, s.Routes, s.Rules = slices.Clone(s.Links), slices.Clone(s.Addresses), slices.Clone(s.Routes), slices.Clone(s.Rules)
	for i := range s.Routes {
		s.Routes[i].Nexthops = slices.Clone(s.Routes[i].Nexthops)
	}
	return s
}

// restoreTime is how long networkd has to bring the old state back.
const restoreTime = 5 * time.Second

// restore puts the old files back, has networkd read them, and says so beside what was
// wrong. It does so as well where the run was interrupted.
func (r *reload) restore(cause error) error {
	if len(r.done.Written)+len(r.done.Removed) == 0 {
		return cause
	}
	done, err := r.old.Write(r.root.String())
	if err != nil {
		return errors.Join(cause, fmt.Errorf("the old files could not be put back: %w", err))
	}
	if r.networkd && slices.ContainsFunc(slices.Concat(done.Written, done.Removed), units.AffectsNetworkd) {
		ctx, cancel := context.WithTimeout(context.Background(), restoreTime)
		defer cancel()
		if err := bus.ReloadNetworkd(ctx, r.root); err != nil {
			return errors.Join(cause, fmt.Errorf("the old files are back in place, but not in effect: %w", err))
		}
		if !r.isAsBefore(ctx) {
			return errors.Join(cause, errors.New("the old files are back in place, and networkd has read them, but the kernel is not as it was before: see `networkctl` and `journalctl -u systemd-networkd`"))
		}
	}
	if r.throughNet > 0 {
		return errors.Join(cause, fmt.Errorf("the old files are back in place; %d changes through netlink stay", r.throughNet))
	}
	return errors.Join(cause, errors.New("the old rendering is back in place"))
}
