package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
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
	// IfChanged makes it do nothing where the boot has brought about this very spec.
	IfChanged bool
	// Stdout receives which files are written and removed, Stderr what people should know.
	Stdout, Stderr io.Writer
}

// WrongWayError says that the kernel holds the whole spec, but does not send packets as it says,
// or that another host has an address.
type WrongWayError struct{ apply.Verification }

// Error returns the text of what Unwrap returns.
func (e *WrongWayError) Error() string { return e.Err().Error() }

// Unwrap returns what apply.Verification.Err does.
func (e *WrongWayError) Unwrap() error { return e.Err() }

// Reload brings the spec below root into effect, whoever has the links: it renders, tells
// networkd, applies through netlink what networkd does not have, waits until the kernel holds
// everything, and verifies. Where any of this fails, networkd gets its old files back. At last it
// tells systemd; a failure of that is no error.
func Reload(ctx context.Context, root string, o ReloadOptions) error {
	if isOff(root, o.Stderr) {
		return nil
	}
	// It does not wait for a carrier, so that a card without a cable costs nothing.
	h, err := Open(ctx, root, 0, true)
	if err != nil {
		return err
	}
	if err := h.NotTrying(); err != nil {
		h.Close()
		if o.IfChanged && errors.As(err, new(*PendingError)) {
			fmt.Fprintf(o.Stderr, "uplinkctl: nothing is done: %v\n", err)
			return nil
		}
		return err
	}
	r := h.newReload(o.Stdout, o.Stderr)
	r.wait = o.Wait
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
	hooked         func() (bool, error) // isHooked, which runs the generator only once

	backend  spec.Backend
	state    fib.State // as far as this kernel goes; empty without a spec
	gone     bool      // there is no spec
	none     error     // why there is no uplink, if that is so
	networkd bool      // runs here

	tree, old units.Tree            // what is rendered, and what was
	oldHas    units.Contents        // of old
	oldOn     map[onLink]bool       // the addresses of the spec that was in effect,
	oldRoutes map[fib.RouteKey]bool // and its routes
	oldInto   map[string]uint32     // and into which table a link learned
	marks     map[string][]byte     // that existed
	done      units.Changes
	changed   bool // whether networkd reads some of done again
	told      bool // networkd has read them

	before     apply.Snapshot
	throughNet int // how many changes were made through netlink
}

// newReload is a run that has not started.
func (h *Host) newReload(stdout, stderr io.Writer) *reload {
	r := &reload{Host: h, stdout: stdout, stderr: stderr}
	r.hooked = sync.OnceValues(r.isHooked)
	return r
}

// isOff says whether the kernel command line switches everything off, and tells people if so.
func isOff(root string, stderr io.Writer) bool {
	off := gen.ReadCommandLine(rootfs.At(root)).Off
	if off {
		fmt.Fprintln(stderr, "uplinkctl: the kernel command line says uplink=0: nothing is done")
	}
	return off
}

// ErrNoUplink says that there is a spec, but that it asks for nothing.
var ErrNoUplink = errors.New("the spec has no uplink")

// SayTakenAway tells people what happens to what is in effect, and why.
func SayTakenAway(w io.Writer, why error) {
	fmt.Fprintf(w, "uplinkctl: %v: all that is there of an earlier one is taken away\n", why)
}

// announce tells people of the spec that will be brought into effect.
func (r *reload) announce() {
	if r.none != nil {
		SayTakenAway(r.stderr, r.none)
	}
	run.WarnOfExposure(r.stderr, "uplinkctl", r.Root)
}

// run brings the spec into effect. It returns false where there was nothing to do.
func (r *reload) run(ctx context.Context, ifChanged bool) (bool, error) {
	if err := r.read(); err != nil {
		return false, err
	}
	if ifChanged {
		if same, err := r.isInPlace(); same || err != nil {
			return false, err
		}
	}
	r.announce()
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

// notRunningError says that a spec is for networkd alone, which does not run.
type notRunningError struct{}

// Error says what to do.
func (*notRunningError) Error() string {
	return "the files are in place, but not in effect: systemd-networkd does not run, and the spec says backend = \"networkd\"; start it with `systemctl start systemd-networkd`"
}

// read reads the spec, and the state of everything before the change.
func (r *reload) read() (err error) {
	r.networkd = units.NetworkdRuns()
	r.state, r.backend, err = r.State(r.stderr)
	if r.gone = errors.Is(err, spec.ErrNone); err != nil && !r.gone {
		return err
	}
	if r.gone {
		r.none = err
	} else if len(r.state.Links) == 0 {
		r.none = ErrNoUplink
	}
	if !r.gone {
		if r.tree, err = r.render(); err != nil {
			return err
		}
	}
	if r.old, err = units.Rendered(r.Root.String()); err != nil {
		return err
	}
	r.oldHas = r.old.Contents()
	if err = r.noteOld(); err != nil {
		return err
	}
	if r.marks, err = r.readMarks(); err != nil {
		return err
	}
	if r.before, err = r.Kernel.Observe(apply.Scope{Foreign: true}); err != nil {
		return err
	}
	// That a match fits two links is an error of the spec that only the host can reveal.
	_, err = apply.Resolve(r.state, r.before, r.Hardware)
	return err
}

// render returns the files that a boot makes of the spec: those for networkd or, where that does
// not run, the names of the tables.
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

// isInPlace says whether the boot has brought about this very spec: the files are there, the
// generator has hooked in what the spec asks for, and nothing is left for netlink. It ignores
// what networkd has made of its files, because networkd may still be at work.
func (r *reload) isInPlace() (bool, error) {
	if !r.isRendered() {
		return false, nil
	}
	if hooked, err := r.hooked(); !hooked {
		return false, err
	}
	if done, err := r.isApplied(); !done {
		return false, err
	}
	return true, r.markInEffect()
}

// isRendered says whether exactly the files that the spec asks for are there.
func (r *reload) isRendered() bool {
	return slices.EqualFunc(r.tree, r.old, func(a, b units.File) bool { return a.Path == b.Path && string(a.Data) == string(b.Data) })
}

// isApplied says whether nothing is left for netlink. What is in the way is reported by whoever
// applies it.
func (r *reload) isApplied() (bool, error) {
	rest, err := r.throughNetlink()
	if err != nil {
		return false, err
	}
	plan, _, err := r.Plan(rest)
	return err == nil && plan.Len() == 0, nil
}

// bringAbout makes the kernel hold what has been written.
func (r *reload) bringAbout(ctx context.Context) error {
	if !r.networkd && r.backend == spec.Networkd && !r.gone {
		return &notRunningError{}
	}
	if r.networkd {
		// With a watch this is not needed: it adds again what networkd takes away.
		if r.tree.KeepsForeign(r.done) && !r.state.NeedsWatch() {
			fmt.Fprintln(r.stderr, "uplinkctl: systemd-networkd reads its own settings when it starts: until `systemctl restart systemd-networkd` it may take away what is applied through netlink, whenever it configures a link")
		}
		r.changed = r.done.AffectNetworkd()
		tell := r.changed
		if !tell && r.backend != spec.Netlink && !r.gone {
			// Others may have written the files without telling networkd.
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
			r.told = true
			if err := r.handOver(ctx); err != nil {
				return err
			}
		}
	}
	if r.networkd && r.backend != spec.Netlink {
		n, err := r.relieve(ctx, r.wait, Effective{r.backend, r.state})
		if r.throughNet += n; err != nil {
			return err
		}
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	if r.changed && r.backend != spec.Netlink {
		if err := r.relearn(ctx); err != nil {
			return err
		}
	}
	rest, err := r.throughNetlink()
	if err != nil {
		return err
	}
	// A failure before this point leaves the marks of what was in effect.
	if err := errors.Join(r.MarkMatches(r.state, r.backend), r.MarkApplied(rest)); err != nil {
		return err
	}
	if err := r.markInEffect(); err != nil {
		return err
	}
	return errors.Join(r.sayLost(), r.verify(ctx))
}

// verify asks the kernel whether packets go as the spec says. Addresses that are learned may come
// at this moment. Then a networkd that was not told yet to leave the rules of others alone
// removes them with each link that it configures, so verify applies the rest again.
func (r *reload) verify(ctx context.Context) error {
	var v apply.Verification
	var refused error
	_, err := poll(ctx, r.wait, func() (_ bool, err error) {
		v, err = r.Verify(r.state)
		// What others have to bring is waited for, and has been reported.
		v.Missing = slices.DeleteFunc(v.Missing, func(m apply.Missing) bool { return m.Others })
		if err != nil || v.OK() || !r.state.Learns() {
			return true, err
		}
		if refused = r.applyRest(ctx); r.mayPass(refused) {
			return false, nil
		}
		return false, refused
	})
	switch {
	case err != nil || v.OK():
		return err
	case refused != nil:
		return refused
	}
	return &WrongWayError{v}
}

// markInEffect notes what is in effect now, or that there is nothing.
func (r *reload) markInEffect() error {
	if r.gone {
		return r.MarkDown()
	}
	return r.MarkInEffect(Effective{r.backend, r.state})
}

// throughNetlink returns what networkd does not have.
func (r *reload) throughNetlink() (fib.State, error) {
	return r.Rest(Effective{r.backend, r.state}, r.networkd)
}

// restoreTime is how long networkd gets to bring the old state back.
const restoreTime = 5 * time.Second

// restore puts the old files back, makes networkd read them, and reports that along with the
// cause. It does the same where the run was interrupted.
func (r *reload) restore(cause error) error {
	if len(r.done.Written)+len(r.done.Removed) == 0 {
		return cause
	}
	done, err := r.old.Write(r.Root.String())
	if err != nil {
		return errors.Join(cause, fmt.Errorf("the old files could not be put back: %w", err))
	}
	if r.networkd && done.AffectNetworkd() {
		ctx, cancel := context.WithTimeout(context.Background(), restoreTime)
		defer cancel()
		if err := bus.ReloadNetworkd(ctx, r.Root); err != nil {
			return errors.Join(cause, fmt.Errorf("the old files are back in place, but not in effect: %w", err))
		}
		// The old spec is in effect again. The watch brings back its part for netlink.
		if r.throughNet > 0 && r.Root.Exists(run.AppliedFile) {
			r.marks[run.AppliedFile] = nil
		}
		if err := r.putMarks(r.marks); err != nil {
			cause = errors.Join(cause, err)
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
