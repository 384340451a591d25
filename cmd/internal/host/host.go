// Package host is the host that uplinkctl works on: its spec, its kernel, and whoever has its
// links. Everything that the commands do beyond printing is here.
package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/rtnl"
	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

// Host is the running kernel, and the lock that keeps other runs away from it. Close it after
// use.
type Host struct {
	apply.Applier
	Root   rootfs.Root
	kernel *rtnl.Kernel
	unlock func()

	undecided bool // set by Managed: networkd has yet to decide whether it has the policy of some link
}

// Open opens the kernel, for the spec and the /run below root. wait is that of
// apply.Applier. With lock it waits until no other run is at work, or ctx is done.
func Open(ctx context.Context, root string, wait time.Duration, lock bool) (*Host, error) {
	h, err := open(ctx, root, lock)
	if err != nil {
		return nil, err
	}
	h.Wait = wait
	if err := h.openJournal(); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// openToLook is Open for a caller that changes nothing and may be any user; notes say what that
// user cannot see.
func openToLook(root string) (h *Host, notes []string, err error) {
	if h, err = open(context.Background(), root, false); err != nil {
		return nil, nil, err
	}
	h.Adopt, h.GoesOn = true, true
	switch err := h.openJournal(); {
	case errors.Is(err, fs.ErrPermission):
		notes = []string{"only root may read which addresses are ours: an extra one is not seen"}
	case err != nil:
		h.Close()
		return nil, nil, err
	}
	return h, notes, nil
}

// open is Open without knowledge of which addresses are ours.
func open(ctx context.Context, root string, lock bool) (*Host, error) {
	h := &Host{Root: rootfs.At(root), unlock: func() {}}
	var err error
	if lock {
		if h.unlock, err = h.lock(ctx); err != nil {
			return nil, err
		}
	}
	if h.kernel, err = rtnl.New(); err != nil {
		h.unlock()
		return nil, err
	}
	h.Kernel, h.Hardware = h.kernel, rtnl.Hardware{}
	h.LearnDead()
	if units.NetworkdRuns() {
		version, _ := units.DetectVersion(h.Root)
		h.AwaitsLinks, h.WholeWays = version.AwaitsLinks(), true
	}
	return h, nil
}

// LearnDead reads which uplinks are dead: Resolve must include what watch has added because of
// that, so that it stays. Where this cannot be read, watch will report it.
func (h *Host) LearnDead() {
	known, _ := h.knownHealth()
	h.Dead = dead(known)
}

// openJournal tells the Applier which addresses are ours where the kernel does not.
func (h *Host) openJournal() error {
	if rtnl.MarksAddresses() {
		return nil
	}
	path, err := h.own("addresses")
	if err != nil {
		return err
	}
	h.Journal, err = apply.OpenJournal(path)
	return err
}

// lock waits until no other run is at work or ctx is done, and keeps others out.
func (h *Host) lock(ctx context.Context) (unlock func(), err error) {
	path, err := h.own("lock")
	if err == nil {
		err = h.makeOwnDir()
	}
	if err != nil {
		return nil, err
	}
	return apply.Lock(ctx, path)
}

// own returns the path of a file of ours in /run.
func (h *Host) own(name string) (string, error) {
	dir, err := h.Root.Path(ownDir)
	return filepath.Join(dir, name), err
}

// ownDir has our files in /run.
const ownDir = "/run/uplink"

// makeOwnDir makes ownDir, readable for everybody whatever the umask: ip(8) finds the names of
// the tables in it.
func (h *Host) makeOwnDir() error {
	dir, err := h.Root.Path(ownDir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}

// Close closes the kernel and lets other runs work.
func (h *Host) Close() {
	h.kernel.Close()
	h.unlock()
}

// State reads the host's spec and compiles it, without what the kernel cannot hold.
func (h *Host) State(stderr io.Writer) (fib.State, spec.Backend, error) {
	backend, state, err := run.State(h.Root)
	if err == nil {
		state = run.Lay(h.Root, backend, state)
		h.dropMissingFamily(&state, stderr)
	}
	return state, backend, err
}

// dropMissingFamily removes from a State what the kernel cannot hold.
func (h *Host) dropMissingFamily(state *fib.State, stderr io.Writer) {
	if !h.kernel.HasInet6() && state.DropFamily(fib.Inet6) {
		fmt.Fprintln(stderr, "uplinkctl: "+run.WithoutInet6)
	}
}

// Managed returns the links of a state that networkd has, or has yet to decide about: interface
// names by Link.Name. A link of which only the policy is ours counts as networkd's if networkd
// has that policy from us.
//
// What belongs to no link counts as networkd's, under the name "", if networkd uses a file for lo
// that has it from us, whether or not networkd has links of the state.
func (h *Host) Managed(state fib.State) (map[string]string, error) {
	links, err := h.links(state)
	if err != nil {
		return nil, err
	}
	names, progress := map[string]string{}, units.LinkProgress(h.Root)
	h.undecided = false
	for _, l := range links {
		of, _ := state.Link(l.Name)
		p := progress(l.Device.Index, of)
		if p != units.NotNetworkds {
			names[l.Name] = l.Device.Name
		}
		h.undecided = h.undecided || p == units.Undecided && of.PolicyOnly && (h.WaitFor == "" || h.WaitFor == l.Device.Name)
	}
	if state.HasLinkless() {
		p := progress(units.LoopbackIndex, units.Loopback)
		if p != units.NotNetworkds {
			names[""] = units.Loopback.Name
		}
		h.undecided = h.undecided || p == units.Undecided
	}
	return names, nil
}

// progress is units.LinkProgress of the links of a state.
func (h *Host) progress(state fib.State) func(apply.ResolvedLink) units.Progress {
	progress := units.LinkProgress(h.Root)
	return func(l apply.ResolvedLink) units.Progress {
		// As the state has it: a watching Host treats all links as those of others.
		of, _ := state.Link(l.Name)
		return progress(l.Device.Index, of)
	}
}

// besideNetworkd returns the links of a state of which only the policy is ours, and which
// networkd, although it runs, does not add: by Link.Name, and by index.
func (h *Host) besideNetworkd(state fib.State) (names map[string]bool, devices map[int]bool, err error) {
	links, err := h.links(state)
	names, devices = map[string]bool{}, map[int]bool{}
	progress := h.progress(state)
	for _, l := range links {
		if of, _ := state.Link(l.Name); of.PolicyOnly && progress(l) == units.NotNetworkds {
			names[l.Name], devices[l.Device.Index] = true, true
		}
	}
	return names, devices, err
}

// links returns the links of a state that exist.
func (h *Host) links(state fib.State) ([]apply.ResolvedLink, error) {
	scope := apply.Scope{Only: apply.Links}
	if h.Watching {
		scope.Only = 0 // tells which link is meant where there are two now
	}
	have, err := h.Kernel.Observe(scope)
	if err != nil {
		return nil, err
	}
	want, err := h.Resolve(state, have)
	return want.Links, err
}

// WithoutManaged takes the links that networkd has out of a state.
func (h *Host) WithoutManaged(state fib.State) (fib.State, error) {
	managed, err := h.Managed(state)
	if err == nil {
		state.LeaveToNetworkd(func(link string) bool { return managed[link] != "" })
	}
	return state, err
}

// WriteTables registers the names of the tables for iproute2.
func (h *Host) WriteTables(state fib.State) error {
	tree, _, err := units.Render(state, tablesOnly(h.Root))
	if err != nil {
		return err
	}
	_, err = tree.Add(h.Root.String())
	return err
}

// tablesOnly is a host without networkd.
func tablesOnly(root rootfs.Root) units.Target {
	return units.Target{Root: root, Version: units.Oldest, WithoutNetworkd: true}
}
