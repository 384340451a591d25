package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/cmd/internal/bus"
	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/units"
)

// TryOptions says how a changed spec is tried.
type TryOptions struct {
	// Timeout is how long it is in effect before it goes back by itself.
	Timeout time.Duration
	// Wait bounds how long it may take until all is in effect.
	Wait time.Duration
	// Stderr receives what people should know.
	Stderr io.Writer
}

// Trial is a spec that is in effect, but not kept yet.
type Trial struct {
	Changes      units.Changes
	Verification apply.Verification

	root   string
	stderr io.Writer
	stop   time.Time // the deadline; the dead-man keeps it by another clock
	said   *os.File  // the file for the outcome
}

// ErrNothingToTry says that the kernel holds the spec already.
var ErrNothingToTry = errors.New("there is nothing to try: the kernel holds the spec already; if anything is left, like what the next boot does, `uplinkctl reload` does it")

// Try brings the spec below root into effect as Reload does, but it goes back by itself unless it
// is kept. Before it changes anything, it writes down everything that a reload changes and arms
// the dead-man, see arm. If the spec does not come into effect, it brings everything back at
// once. Systemd is told when the spec is kept. With uplink=0 on the kernel command line the Trial
// is nil.
func Try(ctx context.Context, root string, o TryOptions) (*Trial, error) {
	if isOff(root, o.Stderr) {
		return nil, nil
	}
	h, err := Open(ctx, root, 0, true)
	if err != nil {
		return nil, err
	}
	// A holder of the lock must not wait for a terminal that may be gone.
	var said bytes.Buffer
	t, armed, err := h.try(ctx, root, o, &said)
	h.Close()
	_, _ = said.WriteTo(o.Stderr)
	if err != nil {
		if t != nil {
			t.Close()
		}
		if armed {
			sayDisarmed(h.Root, o.Stderr)
		}
		return nil, err
	}
	return t, nil
}

// try is Try under the lock. It returns true where there is a dead-man that is not needed any
// more.
func (h *Host) try(ctx context.Context, root string, o TryOptions, said io.Writer) (*Trial, bool, error) {
	if err := h.NotTrying(); err != nil {
		return nil, false, err
	}
	r := h.newReload(io.Discard, said)
	r.wait = o.Wait
	if err := r.read(); err != nil {
		return nil, false, err
	}
	if same, err := r.isInEffect(); err != nil {
		return nil, false, err
	} else if same {
		if r.none != nil {
			return nil, false, fmt.Errorf("there is nothing to try: %w", r.none)
		}
		return nil, false, ErrNothingToTry
	}
	r.announce()
	t, dir, err := r.begin(root, o)
	if err != nil {
		return nil, false, fmt.Errorf("nothing was changed: %w", err)
	}
	if err := arm(ctx, h.Root, o.Timeout); err != nil {
		return t, false, errors.Join(fmt.Errorf("nothing was changed, because nothing would go back by itself: %w", err), os.RemoveAll(dir))
	}
	if r.done, err = r.tree.Write(h.Root.String()); err == nil {
		err = r.bringAbout(ctx)
	}
	if err == nil {
		t.Changes = r.done
		t.Verification, err = r.Verify(r.state)
	}
	if err == nil {
		t.stop = time.Now().Add(o.Timeout)
		err = writeProgress(dir, o.Timeout, true)
	}
	if err == nil {
		return t, false, nil
	}
	left, back := h.goBack(said, false)
	if back != nil {
		return t, false, errors.Join(err, back, fmt.Errorf("by itself it is tried again in %d seconds", Seconds(o.Timeout)), goBackAgainIn(h.Root, o.Timeout))
	}
	text := "all is as it was before"
	if len(left) > 0 {
		text = strings.Join(left, "\n") + "\nall else is as it was before"
	}
	return t, true, errors.Join(err, errors.New(text))
}

// isInEffect says whether there is nothing to change: the files are those of the spec, and
// the kernel lacks nothing of it.
func (r *reload) isInEffect() (bool, error) {
	if !r.isRendered() {
		return false, nil
	}
	now, err := r.look()
	if err != nil || len(now.missing) > 0 {
		return false, err
	}
	return r.isApplied()
}

// begin writes down the state of everything.
func (r *reload) begin(root string, o TryOptions) (*Trial, string, error) {
	was, err := r.record()
	if err != nil {
		return nil, "", err
	}
	paths := map[string]string{}
	for _, dir := range []string{tryNewDir, tryKeptDir, tryDir} {
		if paths[dir], err = r.Root.Path(dir); err != nil {
			return nil, "", err
		}
	}
	// Left over from a run that was killed.
	fresh, dir := paths[tryNewDir], paths[tryDir]
	if err := errors.Join(os.RemoveAll(fresh), os.RemoveAll(paths[tryKeptDir]), os.Mkdir(fresh, 0o700)); err != nil {
		return nil, "", err
	}
	if err := writeJSON(filepath.Join(fresh, recordFile), was); err != nil {
		return nil, "", err
	}
	// Twice the wait, for the links and for everything, and the time that networkd needs to
	// answer, and to take links over or bring them back: no run that makes progress takes longer.
	if err := writeProgress(fresh, o.Timeout+2*o.Wait+bus.CallTime+handOverTime+restoreTime, false); err != nil {
		return nil, "", err
	}
	t := &Trial{root: root, stderr: o.Stderr}
	if t.said, err = os.OpenFile(filepath.Join(fresh, outcomeFile), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, "", err
	}
	if err := os.Rename(fresh, dir); err != nil {
		t.Close()
		return nil, "", err
	}
	return t, dir, nil
}

func writeProgress(dir string, left time.Duration, inEffect bool) error {
	pid := os.Getpid()
	return writeJSON(filepath.Join(dir, progressFile), progress{
		Version: recordVersion, PID: pid, Started: startTime(pid), Deadline: monotonic() + int64(left), InEffect: inEffect,
	})
}

// Close forgets a Trial, but does not end it.
func (t *Trial) Close() { t.said.Close() }

// Left is the time until the spec goes back.
func (t *Trial) Left() time.Duration { return time.Until(t.stop) }

// outcome is how a try has ended.
type outcome string

const (
	outcomeKept   outcome = "kept"
	outcomeBack   outcome = "back"
	outcomeFailed outcome = "failed" // to go back
)

// decide tells those who wait for the try in a directory what has become of it.
func decide(dir string, o outcome, text string) error {
	return os.WriteFile(filepath.Join(dir, outcomeFile), []byte(string(o)+"\n"+text), 0o600)
}

// Decided says whether somebody has decided the try. The error says that it has gone back, or has
// failed to.
func (t *Trial) Decided() (bool, error) {
	data := make([]byte, 1<<16)
	n, err := t.said.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	word, text, _ := strings.Cut(string(data[:n]), "\n")
	switch outcome(word) {
	case outcomeKept:
		return true, nil
	case outcomeBack, outcomeFailed:
		return true, errors.New(text)
	}
	return false, nil
}

// Keep ends the try: its spec stays in effect. It is an error if the try has gone back already.
func (t *Trial) Keep(ctx context.Context) error {
	return t.orDecided(ConfirmTry(ctx, t.root, t.stderr))
}

// Back ends the try: everything is as it was before, which the error says.
func (t *Trial) Back() error {
	text, err := cancelTry(t.root, t.stderr, func() bool { done, _ := t.Decided(); return done })
	if err == nil {
		return errors.New(text)
	}
	return t.orDecided(err)
}

// orDecided returns an error or, if that says that no try is pending any more, what has become of
// this one.
func (t *Trial) orDecided(err error) error {
	if errors.Is(err, errNoTry) {
		if done, err := t.Decided(); done {
			return err
		}
	}
	return err
}

// ConfirmTry keeps the try below root, and tells systemd.
func ConfirmTry(ctx context.Context, root string, stderr io.Writer) error {
	h, err := Open(ctx, root, 0, true)
	if err != nil {
		return err
	}
	was, err := h.keep()
	h.Close()
	if err != nil {
		return err
	}
	sayDisarmed(h.Root, stderr)
	r := h.newReload(io.Discard, stderr)
	r.backend, r.gone, r.networkd = was.Backend, was.Gone, units.NetworkdRuns()
	if now, _, err := h.Effective(); err == nil {
		r.state = now.State
	}
	if err := r.tellSystemd(ctx); err != nil {
		run.Report(stderr, "uplinkctl", fmt.Errorf("it is kept, but: %w", err))
	}
	return nil
}

// keep decides that the try is kept.
func (h *Host) keep() (was record, err error) {
	at, p, err := readTry(h.Root)
	switch {
	case err != nil:
		return was, err
	case at == noTry:
		return was, errNoTry
	case at == goingBack:
		return was, errors.New("it is too late: going back has begun, and has failed: `uplinkctl try --cancel` tries again")
	case !p.InEffect:
		return was, errors.New("there is nothing to keep: what was tried has not come into effect; `uplinkctl try --cancel` goes back now")
	}
	dir, err := h.Root.Path(tryDir)
	if err != nil {
		return was, err
	}
	kept, err := h.Root.Path(tryKeptDir)
	if err != nil {
		return was, err
	}
	if err := readJSON(filepath.Join(dir, recordFile), &was); err != nil {
		return was, err
	}
	if err := os.Rename(dir, kept); err != nil {
		return was, err
	}
	return was, errors.Join(decide(kept, outcomeKept, ""), os.RemoveAll(kept))
}
