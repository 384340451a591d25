package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

// Where a try is written down. The first directory exists while the try is pending. Going back
// starts with renaming it to the second, keeping with renaming it to the third, so that only one
// of the two can happen. The second stays if going back has failed.
const (
	tryDir     = "/run/uplink/try"
	tryBackDir = "/run/uplink/try-back"
	tryKeptDir = "/run/uplink/try-kept"
	tryNewDir  = "/run/uplink/try-new" // while it is written
)

// The files in these directories.
const (
	recordFile   = "before.json" // a record; never changed
	progressFile = "progress.json"
	outcomeFile  = "outcome" // empty until the try is decided; those who wait have it open
)

// recordVersion is the version of both JSON files. A try does not outlive a reboot, but another
// version of the program may be there when it goes back.
const recordVersion = 1

// record is the state of everything before a try, and what it takes to recognize what is the
// try's.
type record struct {
	Version int               `json:"version"`
	Backend spec.Backend      `json:"backend"` // of the try
	Gone    bool              `json:"gone"`    // the try takes everything away
	Files   units.Tree        `json:"files"`   // as they were
	Tried   units.Tree        `json:"tried"`
	Marks   map[string][]byte `json:"marks"` // of the marks that existed
	Held    apply.Snapshot    `json:"held"`  // what is ours, and of networkd's what the old and the new files ask for

	asked     *asked     // what Files and Tried ask networkd for; see asks
	effective *Effective // before the try; see inEffect
}

// marks are the files other than the rendered ones that a reload writes.
var marks = []string{run.AppliedFile, matchFile, inEffectFile}

// readMarks returns the marks that exist.
func (h *Host) readMarks() (map[string][]byte, error) {
	there := map[string][]byte{}
	for _, m := range marks {
		name, err := h.Root.Path(m)
		if err != nil {
			return nil, err
		}
		data, err := os.ReadFile(name)
		switch {
		case err == nil:
			there[m] = append([]byte{}, data...)
		case !errors.Is(err, os.ErrNotExist):
			return nil, err
		}
	}
	return there, nil
}

// putMarks restores the marks that existed.
func (h *Host) putMarks(were map[string][]byte) error {
	var errs []error
	for _, m := range marks {
		name, err := h.Root.Path(m)
		data, was := were[m]
		switch {
		case err != nil:
		case was:
			err = writeFile(name, data, 0o644)
		default:
			err = removeFile(name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// progress is how far a try has come.
type progress struct {
	Version  int    `json:"version"`
	PID      int    `json:"pid"`   // of the process that brings it about
	Started  uint64 `json:"start"` // when that process was started, see startTime
	Deadline int64  `json:"deadline"`
	InEffect bool   `json:"in_effect"`
}

// monotonic is the time by CLOCK_MONOTONIC, in nanoseconds. Unlike the time of day it does not
// jump when the network comes up and somebody sets the clock, and it is the same for all
// processes.
func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0 // never happens on Linux
	}
	return t.Nano()
}

// left is the time until the deadline. The deadline has come if the process that was to bring the
// try about has ended before that.
func (p progress) left() time.Duration {
	if !p.InEffect && !p.isAtWork() {
		return 0
	}
	return time.Duration(p.Deadline - monotonic())
}

// isAtWork says whether the process that brings the try about is there. Where processes are
// hidden, as from our services (ProtectProc=), any process with its number counts: whoever waits
// for it then waits until the deadline at most.
func (p progress) isAtWork() bool {
	if started := startTime(p.PID); p.Started == 0 || started != 0 || startTime(1) != 0 {
		return p.Started != 0 && started == p.Started
	}
	return syscall.Kill(p.PID, 0) == nil
}

// startTime returns when a process was started, in clock ticks since the boot: with it a number
// identifies one process (proc_pid_stat(5), field 22). It is 0 if there is no such process.
func startTime(pid int) uint64 {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The second field is the name in parentheses, which may contain anything.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	const at = 22 - 3
	if len(fields) <= at {
		return 0
	}
	ticks, _ := strconv.ParseUint(fields[at], 10, 64)
	return ticks
}

// phase is where a try stands.
type phase int

const (
	noTry     phase = iota
	pending         // or not yet in effect
	goingBack       // or going back has failed
)

// readTry returns where a try stands and, while it is pending, its progress.
func readTry(root rootfs.Root) (phase, progress, error) {
	var p progress
	for dir, at := range map[string]phase{tryBackDir: goingBack, tryDir: pending} {
		path, err := root.Path(dir)
		if err != nil {
			return noTry, p, err
		}
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if at == goingBack {
			return at, p, nil
		}
		err = readJSON(filepath.Join(path, progressFile), &p)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was decided meanwhile
		}
		if errors.Is(err, fs.ErrPermission) {
			return at, p, &PendingError{Unread: true}
		}
		if err == nil {
			err = checkVersion(path, p.Version)
		}
		return at, p, err
	}
	return noTry, p, nil
}

// PendingError says that a try keeps others from changing anything.
type PendingError struct {
	// Left is the time until the try goes back; 0 or less if it goes back now.
	Left time.Duration
	// Failed says that the try goes back now, or that going back has failed.
	Failed bool
	// Unread says that only root may know the time that is left.
	Unread bool
}

// Error says what the user can do.
func (e *PendingError) Error() string {
	switch {
	case e.Unread:
		return "a try is pending: root may keep it with `uplinkctl try --confirm`, or go back with `uplinkctl try --cancel`"
	case e.Failed:
		return "a try goes back, or has failed to (see the journal): `uplinkctl try --cancel` tries again, and gives up what fails once more"
	case e.Left <= 0:
		return "a try is pending, and its time is over: `uplinkctl try --cancel` goes back"
	}
	return fmt.Sprintf("a try is pending for %d more seconds, then it goes back: `uplinkctl try --confirm` keeps it, `uplinkctl try --cancel` goes back now", Seconds(e.Left))
}

// Seconds returns a duration in whole seconds, rounded up.
func Seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// NotTrying returns a PendingError while a try is pending below the host's root.
func (h *Host) NotTrying() error {
	at, p, err := readTry(h.Root)
	switch {
	case err != nil:
		return err
	case at == noTry:
		return nil
	}
	return &PendingError{Left: p.left(), Failed: at == goingBack}
}

// record writes down the state of everything, before anything is changed.
func (r *reload) record() (record, error) {
	was := record{Version: recordVersion, Backend: r.backend, Gone: r.gone, Files: r.old, Tried: r.tree, Marks: r.marks}
	held, err := r.Held(apply.Scope{Foreign: true})
	if err != nil {
		return was, err
	}
	was.Held = was.own(held)
	want, err := apply.Resolve(r.state, held, r.Hardware)
	if err != nil {
		return was, err
	}
	set := map[int]bool{}
	for _, l := range want.Links {
		set[l.Device.Index] = l.MTU != 0
	}
	for i := range was.Held.Links {
		if l := &was.Held.Links[i]; !set[l.Index] {
			l.MTU = 0 // it is not the try that sets it
		}
	}
	return was, nil
}

// line is one thing of a snapshot.
type line struct {
	text   string // in the words of ip(8)
	device string
	theirs bool // networkd's
}

// lines returns what is in a snapshot, and how often.
func lines(s apply.Snapshot) map[line]int {
	count := map[line]int{}
	for _, a := range s.Addresses {
		count[addressLine(a)]++
	}
	for _, r := range s.Routes {
		count[routeLine(r)]++
	}
	for _, r := range s.Rules {
		count[ruleLine(r)]++
	}
	return count
}

func addressLine(a apply.Address) line {
	o := apply.Op{Verb: apply.AddressAdd, Address: &a.Address}
	return line{o.Batch(), deviceOf(o), !a.Ours}
}

func routeLine(r apply.Route) line {
	if len(r.Nexthops) > 0 {
		r.Link = r.Nexthops[0].Link
	}
	o := apply.Op{Verb: apply.RouteAdd, Route: &r.Route, Owner: fib.Some(r.Protocol)}
	return line{o.Batch(), deviceOf(o), !r.Ours()}
}

func ruleLine(r apply.Rule) line {
	o := apply.Op{Verb: apply.RuleAdd, Rule: &r.Rule, Owner: fib.Some(r.Protocol)}
	return line{o.Batch(), deviceOf(o), !r.Ours()}
}

// lacks returns what is in a but not in b, or not as often.
func lacks(a, b map[line]int) (list []line) {
	for l, n := range a {
		if b[l] < n {
			list = append(list, l)
		}
	}
	return list
}

func readJSON(file string, v any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// writeJSON writes a value that readJSON reads.
func writeJSON(file string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeFile(file, data, 0o600)
}

// checkVersion refuses a record of a try that this program does not read.
func checkVersion(path string, version int) error {
	if version != recordVersion {
		return fmt.Errorf("%s: version %d, and this program reads %d: use the uplinkctl that wrote it", path, version, recordVersion)
	}
	return nil
}

// removeFile removes a file, if there is one.
func removeFile(name string) error {
	if err := os.Remove(name); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// writeFile writes a file aside and renames it. The file has its mode whatever the umask, because
// people other than root read it. If this fails nothing of it is left.
func writeFile(file string, data []byte, mode fs.FileMode) error {
	temp, err := writeAside(file, data, mode)
	if err == nil {
		if err = os.Rename(temp, file); err != nil {
			_ = os.Remove(temp)
		}
	}
	return err
}

// asideSuffix ends the name of a file that is not in its place yet.
const asideSuffix = ".tmp"

// writeAside is writeFile before the renaming.
func writeAside(file string, data []byte, mode fs.FileMode) (temp string, err error) {
	temp = file + asideSuffix
	if err = os.WriteFile(temp, data, mode); err == nil {
		err = os.Chmod(temp, mode)
	}
	if err != nil {
		_ = os.Remove(temp)
	}
	return temp, err
}
