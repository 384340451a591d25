package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/cmd/internal/bus"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

const (
	// backTime bounds how long networkd may take in one attempt to go back.
	backTime = 15 * time.Second

	// backAttempts is how often going back is tried, and backPause the time before the second
	// attempt; it doubles before each further one.
	backAttempts = 3
	backPause    = 2 * time.Second

	// untoldTime is how long the kernel may take if networkd could not be told.
	untoldTime = handOverTime + time.Second
)

// What is said about a try that has ended.
const (
	Kept     = "kept"
	WentBack = "all is " + asBefore

	asBefore = "as it was before; the spec still says the new: change it before the next reboot or reload"
)

// wentBack says that a try has gone back, except for what is left out.
func wentBack(left []string) string {
	if len(left) == 0 {
		return WentBack
	}
	return strings.Join(left, "\n") + "\nall else is " + asBefore
}

// goBack brings back what the record says, under the lock. It returns what it leaves out because
// the kernel cannot hold it any more. From here on the try cannot be kept. If it fails, the
// record stays for the next who goes back; but with last it is removed, or nothing could be
// brought about before a reboot.
func (h *Host) goBack(stderr io.Writer, last bool) (left []string, err error) {
	back, err := h.Root.Path(tryBackDir)
	if err != nil {
		return nil, err
	}
	if path, err := h.Root.Path(tryDir); err != nil {
		return nil, err
	} else if err := os.Rename(path, back); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	left, err = h.bringBack(back, stderr)
	if err == nil {
		return left, errors.Join(decide(back, outcomeBack, wentBack(left)), os.RemoveAll(back))
	}
	err = fmt.Errorf("not all is as it was before: %w", err)
	if last {
		err = fmt.Errorf("%w\nthat is given up: change the spec to what is wanted, and `uplinkctl reload` brings it about", err)
		return nil, errors.Join(err, decide(back, outcomeFailed, err.Error()), os.RemoveAll(back))
	}
	err = fmt.Errorf("%w\n`uplinkctl try --cancel` tries again", err)
	return nil, errors.Join(err, decide(back, outcomeFailed, err.Error()))
}

// bringBack is goBack for the record in a directory.
func (h *Host) bringBack(back string, stderr io.Writer) ([]string, error) {
	w := wayBack{reload: h.newReload(io.Discard, stderr)}
	w.wait, w.backend = backTime, spec.Networkd
	if err := readJSON(filepath.Join(back, recordFile), &w.was); err != nil {
		return nil, err
	}
	if err := checkVersion(back, w.was.Version); err != nil {
		return nil, err
	}
	// The note is still the try's.
	if err := w.noteOld(); err != nil {
		return nil, err
	}
	for pause := backPause; ; pause *= 2 {
		w.attempts++
		err := w.attempt()
		// The rest may be refused because of something that networkd has yet to bring.
		if w.attempts == backAttempts || err == nil && (len(w.refused) == 0 || !w.told) {
			return notBack(slices.Concat(w.left, w.refused)), err
		}
		time.Sleep(pause)
	}
}

// wayBack is one attempt to go back, with its repetitions.
type wayBack struct {
	*reload
	was      record
	attempts int

	target  apply.Snapshot // what of ours can be there now
	left    []leftOut      // what of ours cannot
	refused []leftOut      // what of target the kernel refuses
}

// attempt does everything that there is to do, even if parts of it are refused.
func (w *wayBack) attempt() error {
	// In case an answer never comes. The waits themselves take less: for the links, and for all.
	ctx, cancel := context.WithTimeout(context.Background(), 3*backTime)
	defer cancel()
	w.networkd = units.NetworkdRuns()
	done, err := w.was.Files.Write(w.Root.String())
	errs, limit := []error{err, w.putMarks(w.was.Marks)}, backTime
	if w.networkd {
		tell := w.attempts > 1 || done.AffectNetworkd()
		if !tell {
			missing, extra, err := w.differences()
			errs = append(errs, err)
			tell = slices.ContainsFunc(slices.Concat(missing, extra), func(l line) bool { return l.theirs })
		}
		if tell {
			if err := w.tellNetworkd(ctx); err != nil {
				errs, limit = append(errs, err), untoldTime
			}
		}
	}
	return errors.Join(append(errs, w.settle(ctx, limit))...)
}

// tellNetworkd makes networkd read the old files. What networkd had before the try, and the try
// brought about through netlink, is handed over as in Reload.
func (w *wayBack) tellNetworkd(ctx context.Context) error {
	if err := bus.ReloadNetworkd(ctx, w.Root); err != nil {
		return err
	}
	w.told = true
	w.changed = true
	w.oldHas = w.was.asks().triedAlone
	w.state = networkdPart(w.was.Held)
	if len(w.state.Links) == 0 {
		return nil
	}
	if err := w.handOver(ctx); err != nil {
		return err
	}
	n, err := w.relieve(ctx, w.wait, Effective{w.backend, w.state})
	w.throughNet += n
	return err
}

// networkdPart returns the part of a record's snapshot that is not ours, as a State in which each
// link is one uplink.
func networkdPart(held apply.Snapshot) (s fib.State) {
	used := map[string]bool{}
	for _, a := range held.Addresses {
		if !a.Ours {
			s.Addresses = append(s.Addresses, a.Address)
			used[a.Link] = true
		}
	}
	for _, r := range held.Routes {
		if !r.Ours() {
			s.Routes = append(s.Routes, r.Route)
			for _, n := range r.Nexthops {
				used[n.Link] = true
			}
		}
	}
	for _, r := range held.Rules {
		if !r.Ours() {
			s.Rules = append(s.Rules, r.Rule)
		}
	}
	for _, l := range held.Links {
		if used[l.Name] && !l.Loopback {
			s.Links = append(s.Links, fib.Link{Name: l.Name, Uplinks: []fib.Named{{Name: l.Name}}, Match: fib.Match{Name: l.Name}})
		}
	}
	return s
}

// settle brings back what is ours, and waits until networkd has done its part, but no longer than
// limit. It first waits for what networkd had before the try, because what the try has in its
// place serves meanwhile.
func (w *wayBack) settle(ctx context.Context, limit time.Duration) error {
	start, moved := time.Now(), time.Now()
	was, again := -1, false
	theirs := func(l line) bool { return l.theirs }
	var missing, extra []line
	var restored error
	var same time.Time // since when nothing differs
	_, err := poll(ctx, limit, func() (bool, error) {
		var err error
		if missing, extra, err = w.differences(); err != nil {
			return false, err
		}
		n := len(missing) + len(extra)
		if n == 0 {
			if same.IsZero() {
				same = time.Now()
			}
			return !w.told || time.Since(same) > stillTime && w.configured(), nil
		}
		same = time.Time{}
		if n != was {
			was, moved = n, time.Now()
		}
		if !w.networkd || !slices.ContainsFunc(missing, theirs) || time.Since(start) > handOverTime {
			restored = w.restoreOurs()
		}
		still := time.Since(moved)
		switch {
		case !w.networkd || !w.told && !slices.ContainsFunc(slices.Concat(missing, extra), theirs):
			// Nothing else changes anything; the second round is for what removals took along.
			return time.Since(start) > time.Second, nil
		case still > leftTime && slices.ContainsFunc(extra, theirs):
			return false, w.takeAwayTheTrys()
		case still > patience && !again && slices.ContainsFunc(missing, theirs):
			again, moved = true, time.Now()
			lacking := effect{devices: map[string]bool{}}
			for _, l := range missing {
				if l.theirs {
					lacking.devices[l.device] = true
				}
			}
			return false, w.reconfigure(ctx, lacking)
		}
		return false, nil
	})
	if err != nil {
		return errors.Join(restored, err)
	}
	if w.refused = nil; len(extra) == 0 && !slices.ContainsFunc(missing, theirs) {
		w.refused = refusedOf(missing, restored)
		return nil
	}
	var text []string
	for _, l := range missing {
		text = append(text, "missing: ip "+l.text)
	}
	for _, l := range extra {
		text = append(text, "extra: ip "+l.text)
	}
	slices.Sort(text)
	const most = 5
	if n := len(text) - most; n > 0 {
		text = append(text[:most], fmt.Sprintf("and %d more", n))
	}
	return errors.Join(restored, fmt.Errorf("the kernel differs from what it held:\n%s", strings.Join(text, "\n")))
}

// takeAwayTheTrys removes what networkd has left behind of the try.
func (w *wayBack) takeAwayTheTrys() error {
	now, err := w.Held(apply.Scope{Foreign: true})
	if err != nil {
		return err
	}
	left, err := w.leftovers(networkdPart(w.was.mayHold(now)), nil)
	if err != nil {
		return err
	}
	return w.takeAway(left)
}

// configured says whether networkd is done with its links.
func (w *wayBack) configured() bool {
	progress := units.LinkProgress(w.Root)
	return !slices.ContainsFunc(w.was.Held.Links, func(l apply.Link) bool {
		return l.Carrier && progress(l.Index, fib.Link{}).Busy()
	})
}

// differences compares what is there with the record.
func (w *wayBack) differences() (missing, extra []line, err error) {
	now, err := w.Held(apply.Scope{Foreign: true})
	if err != nil {
		return nil, nil, err
	}
	old := w.asOfNow(now)
	w.target, w.left = w.was.still(now, old)
	missing = lacks(lines(w.target), lines(w.was.own(now)))
	more := beside(old, w.target)
	w.target = join(w.target, more)
	extra = lacks(lines(w.was.theTrys(now)), lines(join(w.was.mayHold(now), more)))
	mtus := make(map[string]uint32, len(now.Links))
	for _, l := range now.Links {
		mtus[l.Name] = l.MTU
	}
	for _, l := range w.was.Held.Links {
		if mtu, there := mtus[l.Name]; l.MTU != 0 && there && mtu != l.MTU {
			o := apply.Op{Verb: apply.LinkMTU, Link: l.Name, MTU: l.MTU}
			missing = append(missing, line{text: o.Batch(), device: l.Name})
		}
	}
	return missing, extra, nil
}
