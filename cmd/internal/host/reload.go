package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/cmd/internal/bus"
	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

// ReloadOptions says how a changed spec is brought into effect.
type ReloadOptions struct {
	// Wait bounds how long it may take until all is in effect.
	Wait time.Duration
	// IfChanged does nothing where the boot has brought about this very spec.
	IfChanged bool
	// Stdout is told which files are written and removed, Stderr what people should know.
	Stdout, Stderr io.Writer
}

// WrongWayError says that the kernel does not send packets as the spec says, though it
// holds all of it.
type WrongWayError struct{ apply.Verification }

// Error says so.
func (e *WrongWayError) Error() string { return apply.ErrWrongWay.Error() }

// Unwrap returns apply.ErrWrongWay.
func (e *WrongWayError) Unwrap() error { return apply.ErrWrongWay }

// Reload brings the spec below root into effect, whoever has the links: it renders,
// tells networkd, applies through netlink what networkd does not have, waits until the
// kernel holds all of it, and verifies. Where anything fails, networkd has its old files
// back. Then systemd is told; that it does not take that is no error.
func Reload(ctx context.Context, root string, o ReloadOptions) error {
	if gen.ReadCommandLine(rootfs.At(root)).Off {
		fmt.Fprintln(o.Stderr, "uplinkctl: the kernel command line says uplink=0: nothing is done")
		return nil
	}
	// A carrier is not waited for, so that a card without a cable costs nothing.
	h, err := Open(root, 0, true)
	if err != nil {
		return err
	}
	r := &reload{Host: h, stdout: o.Stdout, stderr: o.Stderr, wait: o.Wait}
	busy, err := r.run(ctx, o.IfChanged)
	// What systemd starts now needs the lock.
	h.Close()
	if err == nil && busy {
		if err := r.tellSystemd(ctx); err != nil {
			run.Report(o.Stderr, "uplinkctl: the spec is in effect, but", err)
		}
	}
	return err
}

// reload is one run of Reload.
type reload struct {
	*Host
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

// run brings the spec into effect. It returns false where it was not to do anything.
func (r *reload) run(ctx context.Context, ifChanged bool) (bool, error) {
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
	r.done, err = r.tree.Write(r.Root.String())
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
	r.backend, r.state, err = run.State(r.Root)
	if r.gone = errors.Is(err, spec.ErrNone); err != nil && !r.gone {
		return err
	}
	r.dropMissingFamily(&r.state, r.stderr)
	if !r.gone {
		if r.tree, err = r.render(); err != nil {
			return err
		}
	}
	if r.old, err = units.Rendered(r.Root.String()); err != nil {
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

// render returns the files that the boot makes of the spec: those for networkd, or where
// that does not run the names of the tables.
func (r *reload) render() (units.Tree, error) {
	if !r.networkd && r.backend != spec.Networkd {
		tree, _, err := units.Render(r.state, tablesOnly(r.Root))
		return tree, err
	}
	tree, notes, err := run.Rendering{Root: r.Root.String()}.Files(r.backend, r.state)
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
			if err := bus.ReloadNetworkd(ctx, r.Root); err != nil {
				return err
			}
			if err := r.handOver(ctx); err != nil {
				return err
			}
		}
	}
	if err := r.MarkMatches(r.state, r.backend); err != nil {
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
	if err := r.MarkApplied(rest); err != nil {
		return err
	}
	v, err := r.Verify(r.state)
	if err == nil && !v.OK() {
		err = &WrongWayError{v}
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
	managed, err := r.Managed(r.state)
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
	done, err := r.old.Write(r.Root.String())
	if err != nil {
		return errors.Join(cause, fmt.Errorf("the old files could not be put back: %w", err))
	}
	if r.networkd && slices.ContainsFunc(slices.Concat(done.Written, done.Removed), units.AffectsNetworkd) {
		ctx, cancel := context.WithTimeout(context.Background(), restoreTime)
		defer cancel()
		if err := bus.ReloadNetworkd(ctx, r.Root); err != nil {
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
