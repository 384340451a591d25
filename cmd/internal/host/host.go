// Package host is the host that uplinkctl works on: its spec, its kernel, and whoever
// has its links. What the commands do beyond showing something is here.
package host

import (
	"context"
	"fmt"
	"io"
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

// Host is the running kernel, and the lock that keeps other runs away from it. Close it
// after use.
type Host struct {
	apply.Applier
	Root   rootfs.Root
	kernel *rtnl.Kernel
	unlock func()
}

// Open opens the kernel, for the spec and the /run below root. wait is that of
// apply.Applier. With lock it waits until no other run is at work.
func Open(root string, wait time.Duration, lock bool) (*Host, error) {
	h := &Host{Root: rootfs.At(root), unlock: func() {}}
	runDir, err := h.Root.Path("/run/uplink")
	if err != nil {
		return nil, err
	}
	if lock {
		if h.unlock, err = apply.Lock(filepath.Join(runDir, "lock")); err != nil {
			return nil, err
		}
	}
	if h.kernel, err = rtnl.New(); err != nil {
		return nil, err
	}
	h.Applier = apply.Applier{Kernel: h.kernel, Hardware: rtnl.Hardware{}, Wait: wait}
	if !rtnl.MarksAddresses() {
		if h.Journal, err = apply.OpenJournal(filepath.Join(runDir, "addresses")); err != nil {
			return nil, err
		}
	}
	return h, nil
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
		h.dropMissingFamily(&state, stderr)
	}
	return state, backend, err
}

// dropMissingFamily takes out of a State what the kernel cannot hold.
func (h *Host) dropMissingFamily(state *fib.State, stderr io.Writer) {
	if !h.kernel.HasInet6() && state.DropFamily(fib.Inet6) {
		fmt.Fprintln(stderr, "uplinkctl: "+run.WithoutInet6)
	}
}

// Managed returns the links of a state that networkd has: interface names by
// Link.Name.
func (h *Host) Managed(state fib.State) (map[string]string, error) {
	have, err := h.kernel.Observe(apply.Scope{})
	if err != nil {
		return nil, err
	}
	want, err := apply.Resolve(state, have, h.Hardware)
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, l := range want.Links {
		if units.ManagedByNetworkd(h.Root, l.Device.Index) {
			names[l.Name] = l.Device.Name
		}
	}
	return names, nil
}

// WithoutManaged takes the links that networkd has out of a state. Links that are
// not ready are waited for first: networkd may be about to take them. What is left of
// the time is what Wait is afterwards.
func (h *Host) WithoutManaged(ctx context.Context, state fib.State) (fib.State, error) {
	deadline := time.Now().Add(h.Wait)
	defer func() { h.Wait = max(0, time.Until(deadline)) }()
	for range 2 {
		managed, err := h.Managed(state)
		if err != nil {
			return state, err
		}
		state.DropLinks(func(link string) bool { return managed[link] != "" })
		if err := h.WaitForLinks(ctx, state, max(0, time.Until(deadline))); err != nil {
			return state, err
		}
	}
	return state, nil
}

// ApplyReady applies what needs no waiting, where there is no networkd that could be
// about to take a link: a card that is absent must not hold up the others.
func (h *Host) ApplyReady(ctx context.Context, state fib.State) error {
	if h.Wait == 0 || units.NetworkdRuns() {
		return nil
	}
	wait := h.Wait
	h.Wait = 0
	_, err := h.Apply(ctx, state)
	h.Wait = wait
	return err
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
