package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// inEffectFile has what apply or reload brought about last. Whoever keeps that in effect reads it
// instead of the spec, which may be half changed and takes effect only with the next reload.
// After down there is none.
const inEffectFile = "/run/uplink/in-effect.json"

// Effective is a spec that has been brought into effect.
type Effective struct {
	Backend spec.Backend
	State   fib.State // complete, whoever has the links
}

// MarkInEffect notes what has been brought about.
func (h *Host) MarkInEffect(e Effective) error {
	d, err := h.DraftInEffect(e)
	if err != nil {
		return err
	}
	return d.Commit()
}

// Draft is a note of what is in effect that is written, but not in its place.
type Draft struct{ temp, name string } // "" where the note is in place already

// DraftInEffect writes down what is about to be brought about, so that a full disk is noticed
// before the kernel is changed. Discard the draft unless Commit is called.
func (h *Host) DraftInEffect(e Effective) (Draft, error) {
	name, err := h.Root.Path(inEffectFile)
	if err != nil {
		return Draft{}, err
	}
	data, err := json.Marshal(e)
	if err != nil {
		return Draft{}, err
	}
	if old, err := os.ReadFile(name); err == nil && string(old) == string(data) {
		// One of a run that was killed would stay until there is another note.
		_ = os.Remove(name + asideSuffix)
		return Draft{}, nil
	}
	temp, err := writeAside(name, data, 0o644)
	return Draft{temp, name}, err
}

// Commit puts the note in its place.
func (d Draft) Commit() error {
	if d.temp == "" {
		return nil
	}
	return os.Rename(d.temp, d.name)
}

// Discard keeps the note that was there before. After Commit it does nothing.
func (d Draft) Discard() {
	if d.temp != "" {
		_ = os.Remove(d.temp)
	}
}

// TakeDown takes away what is ours, and notes that nothing is in effect any more. Whoever keeps
// it in effect waits for the lock meanwhile. Where the kernel refuses, everything stays in
// effect.
func (h *Host) TakeDown(ctx context.Context) error {
	if err := h.bequeathAll(ctx); err != nil {
		return err
	}
	if _, err := h.Down(ctx); err != nil {
		return err
	}
	return errors.Join(h.MarkDown(), h.MarkApplied(fib.State{}))
}

// MarkDown notes that nothing is in effect any more.
func (h *Host) MarkDown() error {
	name, err := h.Root.Path(inEffectFile)
	if err != nil {
		return err
	}
	return errors.Join(removeFile(name), h.forgetHealth())
}

// Effective returns what is in effect; false where nothing is.
func (h *Host) Effective() (e Effective, ok bool, err error) {
	name, err := h.Root.Path(inEffectFile)
	if err != nil {
		return e, false, err
	}
	data, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return e, false, nil
	}
	if err != nil {
		return e, false, err // the error names the file
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return e, false, fmt.Errorf("%s: %w: `uplinkctl reload` writes it anew", name, err)
	}
	return e, true, nil
}

// noted identifies the note of what is in effect; nil where there is none.
func (h *Host) noted() (os.FileInfo, error) {
	name, err := h.Root.Path(inEffectFile)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // there is none
	}
	return info, err
}

// isSame says whether two notes are the same one.
func isSame(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime())
}

// Rest returns what must be brought about through netlink: everything that networkd, if it runs,
// does not or shall not have.
func (h *Host) Rest(e Effective, networkd bool) (fib.State, error) {
	has := func(string) bool { return true }
	switch {
	case len(e.State.Links) == 0:
		return fib.State{}, nil
	case e.Backend == spec.Networkd:
	case !networkd || e.Backend == spec.Netlink:
		return e.State, nil
	default:
		managed, err := h.Managed(e.State)
		if err != nil {
			return fib.State{}, err
		}
		has = func(link string) bool { return managed[link] != "" }
	}
	state := e.State.Clone()
	state.LeaveToNetworkd(has)
	return state, nil
}
