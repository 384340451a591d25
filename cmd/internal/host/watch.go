package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/units"
)

// WatchOptions says to whom Watch reports what.
type WatchOptions struct {
	Log   func(line string) // for people
	Alive func()            // the kernel has been looked at; after the first time, everything is in effect
	Every time.Duration     // how often Alive is called even if nothing happens; 0 for never
}

// Watch keeps in the kernel what is in effect, as links, addresses and routes come and go, until
// ctx is done. Then it leaves everything as it is.
func Watch(ctx context.Context, root string, o WatchOptions) error {
	h, err := Open(ctx, root, 0, false)
	if err != nil {
		return err
	}
	defer h.Close()
	h.Watching = true
	w := &watcher{Host: h}
	if w.only, err = h.onlyWatch(); err != nil {
		return err
	}
	defer func() { w.only.Close() }()
	events, err := h.kernel.Monitor()
	if err != nil {
		return err
	}
	defer events.Close()
	w.quiet = time.AfterFunc(quietTime, giveBack)
	defer w.quiet.Stop()
	state, err := w.listen()
	if err != nil {
		return fmt.Errorf("watch %s: %w", filepath.Dir(inEffectFile), err)
	}
	defer state.Close()
	w.prober = h.startProber(ctx, w.wake, o.Log)
	defer w.prober.runner.Stop()
	loop := apply.Watcher{Look: w.look, Kernel: events.Changed, State: w.changed, Log: o.Log, Alive: o.Alive, Every: o.Every}
	err = loop.Run(ctx)
	if errors.Is(err, apply.ErrDeaf) {
		err = fmt.Errorf("%w: %w", err, events.Err())
	}
	return err
}

// watchFile is locked by the watch that runs.
const watchFile = "watch"

// onlyWatch makes sure that there is one watch on a host, and lets others know of it, until the
// file that it returns is closed.
func (h *Host) onlyWatch() (*os.File, error) {
	name, err := h.own(watchFile)
	if err != nil {
		return nil, err
	}
	if err := h.makeOwnDir(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err == nil {
		err = f.Chmod(0o644) // for those who ask whether a watch runs
	}
	if err != nil {
		return nil, err
	}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		f.Close()
		return nil, errors.New("another uplinkctl watch runs already: `systemctl stop uplink-watch` ends the one of the service")
	}
	return f, nil
}

// isWatched says whether a watch runs.
func (h *Host) isWatched() bool {
	name, err := h.own(watchFile)
	if err != nil {
		return false
	}
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock) == nil && lock.Type != unix.F_UNLCK
}

// watcher keeps what it has read of the host.
type watcher struct {
	*Host
	prober  *prober
	only    *os.File      // watchFile
	inotify int           // listens to ownDir
	changed chan struct{} // inEffectFile may have changed, or an uplink is dead or alive

	read  os.FileInfo // inEffectFile as last read
	now   Effective
	there bool

	rest  fib.State // what of now is for netlink, as of asked
	asked time.Time

	quiet *time.Timer // gives memory back
}

// listen starts listening for changes to inEffectFile (inotify(7)), until the Closer is closed.
func (w *watcher) listen() (io.Closer, error) {
	name, err := w.Root.Path(inEffectFile)
	if err != nil {
		return nil, err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	w.inotify = fd
	if err := w.hearOwnDir(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	w.changed = make(chan struct{}, 1)
	events := os.NewFile(uintptr(fd), "inotify")
	go func() {
		// Room for any event (inotify(7)). Where the kernel has lost events (IN_Q_OVERFLOW), and
		// where the directory ends (IN_IGNORED), the event has no name.
		buf := make([]byte, 16*(unix.SizeofInotifyEvent+unix.NAME_MAX+1))
		for {
			n, err := events.Read(buf)
			if err != nil {
				return
			}
			for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
				length := min(int(binary.NativeEndian.Uint32(b[12:])), len(b)-unix.SizeofInotifyEvent)
				b = b[unix.SizeofInotifyEvent:]
				if of := unix.ByteSliceToString(b[:length]); of == "" || of == filepath.Base(name) || of == watchFile {
					w.wake()
				}
				b = b[length:]
			}
		}
	}()
	return events, nil
}

// hearOwnDir starts listening to ownDir, to the directory because the file in it is replaced.
func (w *watcher) hearOwnDir() error {
	dir, err := w.Root.Path(ownDir)
	if err == nil {
		_, err = unix.InotifyAddWatch(w.inotify, dir, unix.IN_ONLYDIR|unix.IN_MOVED_TO|unix.IN_MOVED_FROM|unix.IN_CLOSE_WRITE|unix.IN_DELETE)
	}
	return err
}

// comeBack takes the watch's place in ownDir again if somebody has removed the directory or
// watchFile: otherwise it would not hear of anything that is brought about after that.
func (w *watcher) comeBack() error {
	name, err := w.own(watchFile)
	if err != nil {
		return err
	}
	mine, err := w.only.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(name); err == nil && os.SameFile(mine, there) {
		return nil
	}
	only, err := w.onlyWatch()
	if err != nil {
		return err
	}
	if err := w.hearOwnDir(); err != nil {
		only.Close()
		return err
	}
	w.only.Close()
	w.only = only
	return nil
}

// wake makes it look again.
func (w *watcher) wake() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// managedFor is how long the answer to which links networkd has stays valid.
const managedFor = time.Second

// look brings about what is missing of what is in effect. Whoever brings about something else
// holds the lock until that is in effect.
func (w *watcher) look(ctx context.Context) (apply.Result, error) {
	defer w.quiet.Reset(quietTime)
	if err := w.comeBack(); err != nil {
		return apply.Result{}, err
	}
	unlock, err := w.lock(ctx)
	if err != nil {
		return apply.Result{}, err
	}
	defer unlock()
	fresh, err := w.readInEffect()
	if err != nil {
		return apply.Result{}, err
	}
	if err := w.prober.update(w.now.State); err != nil || !w.there {
		return apply.Result{}, err
	}
	ask := fresh || time.Since(w.asked) > managedFor
	if ask {
		if w.rest, err = w.Rest(w.now, units.NetworkdRuns()); err != nil {
			return apply.Result{}, err
		}
		if err = w.BequeathTaken(w.now.State, w.rest, false); err != nil {
			return apply.Result{}, err
		}
		w.asked = time.Now()
	}
	result, err := w.Keep(ctx, w.rest)
	// networkd does not report which links it has, nor when it is done with them.
	if (!ask || w.undecided || len(w.Spared.Links) > 0) && (result.Until == 0 || result.Until > managedFor) {
		result.Until = managedFor
	}
	if err == nil && slices.ContainsFunc(result.Done, func(o apply.Op) bool { return o.Address != nil }) {
		// The kernel's reports to us leave out our own addresses.
		err = w.prober.update(w.now.State)
	}
	return result, err
}

// readInEffect reads inEffectFile if it has changed, and says whether it has.
func (w *watcher) readInEffect() (fresh bool, err error) {
	info, err := w.noted()
	if info == nil {
		fresh, w.read, w.there, w.now = w.there, nil, false, Effective{}
		return fresh, err
	}
	if isSame(w.read, info) {
		return false, nil
	}
	w.now, w.there, err = w.Effective()
	if w.read = info; err != nil {
		w.read = nil
	}
	return true, err
}
