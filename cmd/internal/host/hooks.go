package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/uplink-generator/uplink-generator/cmd/internal/bus"
	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// generated is where systemd keeps the links of its generators.
const generated = "/run/systemd/generator"

// isHooked says whether the generator would hook in exactly what it has hooked in. It runs the
// generator itself, so no record of that can be wrong.
func (r *reload) isHooked() (bool, error) {
	if !r.Root.Exists("/run/systemd/system") {
		return true, nil // no systemd
	}
	dir, err := r.Root.Path(ownDir)
	if err != nil {
		return false, err
	}
	// The lock is in that directory, so the directory exists.
	dir, err = os.MkdirTemp(dir, "hooks-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	g := gen.Generator{Root: r.Root, Log: func(_ int, line string) { fmt.Fprintf(r.stderr, "uplinkctl: %s\n", line) }}
	if err := g.Run(dir); err != nil {
		return false, errors.New("the uplinks are not hooked into the boot: is all of the package installed?")
	}
	have, err := r.Root.Path(generated)
	return err == nil && maps.Equal(hooks(dir), hooks(have)), err
}

// hooks returns the generator's links below a directory, and their targets.
func hooks(dir string) map[string]string {
	links := map[string]string{}
	found, _ := filepath.Glob(filepath.Join(dir, "*.wants", "uplink-*.service")) // the pattern is valid
	for _, f := range found {
		name, _ := filepath.Rel(dir, f)
		links[name], _ = os.Readlink(f)
	}
	return links
}

// jobTime bounds the wait for one unit. The unit finds nothing to do; one that depends on the
// calling unit would never finish.
const jobTime = 5 * time.Second

// The units that the generator hooks in.
const (
	renderUnit = "uplink-networkd.service"
	applyUnit  = "uplink-apply.service"
	watchUnit  = "uplink-watch.service"
)

// unitState is a unit, and whether it should be active.
type unitState struct {
	unit   string
	active bool
}

// unitStates says which of the units should be active with the spec in effect, in the order in
// which they start at boot. The one that renders runs before networkd starts, so it must not be
// active where networkd does not run.
func (r *reload) unitStates() []unitState {
	return []unitState{
		{renderUnit, !r.gone && r.networkd},
		{applyUnit, !r.gone && r.backend != spec.Networkd},
		{watchUnit, r.state.NeedsWatch()},
	}
}

// tellSystemd tells systemd what is in effect: the generator's links, and which of the units are
// active. Then stopping a unit takes away what is there, and `systemctl --failed` is right.
func (r *reload) tellSystemd(ctx context.Context) error {
	if !r.Root.IsHost() || !r.Root.Exists("/run/systemd/system") {
		return nil
	}
	hooked, err := r.hooked()
	if err != nil {
		return err
	}
	systemd, err := bus.DialSystemd(ctx)
	if err != nil {
		return err
	}
	defer systemd.Close()
	if !hooked {
		if err := systemd.Reload(ctx); err != nil {
			return err
		}
	}
	var errs []error
	for _, u := range r.unitStates() {
		errs = append(errs, u.tell(ctx, systemd))
	}
	return errors.Join(errs...)
}

// tell starts or stops the unit, if its state is not the wanted one.
func (u unitState) tell(ctx context.Context, systemd *bus.Systemd) error {
	ctx, cancel := context.WithTimeout(ctx, jobTime)
	defer cancel()
	state, err := systemd.State(ctx, u.unit)
	running := state == "active" || state == "activating" || state == "reloading"
	switch {
	case err != nil:
	case u.active && !running:
		err = systemd.Start(ctx, u.unit)
	case !u.active && running:
		err = systemd.Stop(ctx, u.unit)
	case !u.active && state == "failed":
		err = systemd.ResetFailed(ctx, u.unit)
	}
	return err
}

// MarkApplied notes whether the oneshot has brought anything about, for the files that are
// rendered when networkd is started later (run.AppliedFile).
func (h *Host) MarkApplied(state fib.State) error {
	name, err := h.Root.Path(run.AppliedFile)
	switch {
	case err != nil:
		return err
	case slices.ContainsFunc(state.Links, func(l fib.Link) bool { return !l.Networkd }):
		return writeFile(name, nil, 0o644)
	}
	return removeFile(name)
}

// matchFile exists as long as the spec has a link that no device unit of its own can serve.
// 90-uplink.rules looks for it.
const matchFile = "/run/uplink/match"

// MarkMatches makes or removes matchFile.
func (h *Host) MarkMatches(state fib.State, backend spec.Backend) error {
	name, err := h.Root.Path(matchFile)
	if err != nil {
		return err
	}
	if backend != spec.Networkd {
		for _, l := range state.Links {
			const longest = 15 // IFNAMSIZ - 1; an alternative name may be longer, and has no device unit
			if dev, literal := l.Match.Device(); !literal || len(dev) > longest {
				return writeFile(name, nil, 0o644)
			}
		}
	}
	return removeFile(name)
}
