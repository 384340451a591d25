package units

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// ErrForeign says that a file that is not ours stands where one of ours belongs.
var ErrForeign = errors.New("not a file of uplink-generator, but in the place of one: move it away")

// Changes is what Write did. Its paths are the host's absolute ones.
type Changes struct{ Written, Removed []string }

// Write makes the files below dir ("/" for the running host) equal to the tree: it
// writes the files whose bytes differ, and removes those of an earlier run that are no
// longer in the tree. It never touches files of others; where one stands in the place
// of ours, the error is ErrForeign. It does not write an unchanged file, because
// networkd reconfigures a link whose file has a new time.
//
// It first writes all new content aside, and then renames file by file: if something
// fails, no file is half-written, and if the disk is full, none is changed. Runs at the
// same time wait for each other.
func (t Tree) Write(dir string) (Changes, error) { return t.write(dir, true) }

// Rendered returns what Write has left below dir, whoever called it: all that
// is needed to restore it.
func Rendered(dir string) (Tree, error) {
	w := writer{root: rootfs.At(dir)}
	names, err := w.stale(nil)
	if err != nil {
		return nil, err
	}
	var t Tree
	for _, n := range names {
		if strings.HasPrefix(filepath.Base(n), ".") {
			continue // a temporary file of a run that was killed, or that is at work
		}
		data, err := w.root.ReadFile(n, maxOwnSize)
		if err != nil {
			return nil, w.fail(n, err)
		}
		t = append(t, File{n, data})
	}
	return t, nil
}

// Add is Write without the removing: it touches only those files of an earlier
// run that are in the tree.
func (t Tree) Add(dir string) (Changes, error) { return t.write(dir, false) }

func (t Tree) write(dir string, remove bool) (Changes, error) {
	w := writer{root: rootfs.At(dir), dirs: map[string]string{}, fresh: map[string]bool{}}
	unlock, err := w.lock()
	if err != nil {
		return Changes{}, err
	}
	defer unlock()
	defer w.discard()

	wanted := make(map[string]bool, len(t))
	for _, f := range t {
		wanted[f.Path] = true
		if err := w.stage(f); err != nil {
			return Changes{}, w.fail(f.Path, err)
		}
	}
	if err := w.writeAside(); err != nil {
		return Changes{}, err
	}
	var stale []string
	if remove {
		if stale, err = w.stale(wanted); err != nil {
			return Changes{}, err
		}
	}
	var done Changes
	for len(w.staged) > 0 {
		s := w.staged[0]
		// Not os.Rename, which first looks whether a directory is there.
		if err := rootfs.Retry(func() error { return syscall.Rename(s.temp, s.path) }); err != nil {
			return done, w.fail(s.name, err)
		}
		w.staged = w.staged[1:]
		done.Written = append(done.Written, s.name)
	}
	for _, name := range stale {
		// This removes a link itself, not what it leads to.
		path, err := w.root.Path(filepath.Dir(name))
		if path = filepath.Join(path, filepath.Base(name)); err == nil {
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return done, w.fail(name, err)
		}
		done.Removed = append(done.Removed, name)
		// This removes a drop-in's directory together with its last file; with files of
		// others in it, it stays.
		if parent := filepath.Dir(path); strings.HasSuffix(parent, ".network.d") {
			_ = os.Remove(parent)
		}
	}
	return done, nil
}

// maxOwnSize bounds what is read of one of our files; a larger file is not ours.
const maxOwnSize = 64 << 20

type writer struct {
	root   rootfs.Root
	staged []staged
	dirs   map[string]string // the host's directory → where it is; only those that exist
	fresh  map[string]bool   // those that this run has made: they hold no files of others
}

// staged is a file that is written aside, at temp, and then renamed.
type staged struct {
	name, path, temp string
	data             []byte
}

// dir returns where a directory of the host is, and makes it if necessary.
func (w *writer) dir(name string) (string, error) {
	if path, known := w.dirs[name]; known {
		return path, nil
	}
	path, err := w.root.Path(name)
	if err == nil {
		_, missing := os.Lstat(path)
		w.fresh[name] = errors.Is(missing, fs.ErrNotExist)
		err = makeDir(path)
	}
	if err != nil {
		return "", err
	}
	w.dirs[name] = path
	return path, nil
}

// makeDir does what os.MkdirAll does, whatever the umask: networkd runs as a user of
// its own and must get through.
func makeDir(path string) error {
	st, err := os.Stat(path)
	if err == nil && !st.IsDir() {
		return syscall.ENOTDIR
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	switch err := os.Mkdir(path, 0o755); {
	case errors.Is(err, fs.ErrExist):
		return nil // another run was faster
	case err != nil:
		return err
	}
	return os.Chmod(path, 0o755)
}

// lock keeps other runs out until unlock is called. The lock is on the directory
// itself, so that nothing is left behind.
func (w *writer) lock() (unlock func(), err error) {
	path, err := w.dir(networkDir)
	if err != nil {
		return nil, w.fail(networkDir, err)
	}
	d, err := os.Open(path)
	if err != nil {
		return nil, w.fail(networkDir, err)
	}
	if err := rootfs.Retry(func() error { return syscall.Flock(int(d.Fd()), syscall.LOCK_EX) }); err != nil {
		d.Close()
		return nil, w.fail(networkDir, fmt.Errorf("lock: %w", err))
	}
	return func() { d.Close() }, nil
}

// stage lets a file be written aside, unless the same bytes are there already. The
// temporary file is in the directory of the real one, so that it can be renamed and
// SELinux gives it that directory's label.
func (w *writer) stage(f File) error {
	dir, err := w.dir(filepath.Dir(f.Path))
	if err != nil {
		return err
	}
	path := filepath.Join(dir, filepath.Base(f.Path))
	var old []byte
	err = fs.ErrNotExist
	if !w.fresh[filepath.Dir(f.Path)] {
		// By the host's path, so that a link leads where it leads on the host.
		old, err = w.root.ReadFile(f.Path, maxOwnSize)
	}
	switch {
	case err == nil && !isOurs(old), errors.Is(err, rootfs.ErrDangling):
		return ErrForeign
	case err == nil && bytes.Equal(old, f.Data):
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	w.staged = append(w.staged, staged{f.Path, path, tempName(path), f.Data})
	return nil
}

// writeAside writes the files that are staged. For thousands of files that takes longer
// than to render them, so several processors share it.
func (w *writer) writeAside() error {
	const share = 1000 // files that are worth a thread
	threads := min(1+len(w.staged)/share, runtime.NumCPU())
	done := make(chan error, threads)
	write := func(first int) {
		var a aside
		for i := first; i < len(w.staged); i += threads {
			if err := a.write(&w.staged[i]); err != nil {
				done <- w.fail(w.staged[i].name, err)
				return
			}
		}
		done <- nil
	}
	for i := 1; i < threads; i++ {
		go write(i)
	}
	write(0)
	var failed error
	for range threads {
		if err := <-done; err != nil {
			failed = err
		}
	}
	return failed
}

// aside writes files aside, one after the other.
type aside struct {
	modesOK bool // the umask leaves mode 0644 alone
}

func (a *aside) write(s *staged) error {
	fd, err := create(s.temp)
	if errors.Is(err, syscall.EEXIST) {
		// A leftover of a run that was killed may have any mode, or be a link.
		if err := os.Remove(s.temp); err != nil {
			return err
		}
		fd, err = create(s.temp)
	}
	if err != nil {
		return err
	}
	return errors.Join(a.fill(fd, s.data), syscall.Close(fd))
}

// tempName is where a file is written aside. networkd reads only names that end in
// .network and .conf.
func tempName(name string) string {
	return filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".tmp")
}

// create makes a new file. Like fill it avoids os.File, because the runtime's poller
// would then look at each of ten thousand files first.
func create(path string) (fd int, err error) {
	err = rootfs.Retry(func() (err error) {
		fd, err = syscall.Open(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|syscall.O_CLOEXEC, 0o644)
		return err
	})
	return fd, err
}

// fill writes a file's content and sets its mode.
func (a *aside) fill(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := syscall.Write(fd, data)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return err
		}
		data = data[max(n, 0):]
	}
	if a.modesOK {
		return nil
	}
	// networkd runs as a user of its own, and must be able to read this whatever the umask.
	var st syscall.Stat_t
	err := syscall.Fstat(fd, &st)
	if a.modesOK = err == nil && st.Mode&0o777 == 0o644; a.modesOK {
		return nil
	}
	return syscall.Fchmod(fd, 0o644)
}

// discard removes the files that were written aside and not renamed.
func (w *writer) discard() {
	for _, s := range w.staged {
		_ = os.Remove(s.temp)
	}
}

// stale returns our files that are not wanted, and temporary files that a killed run has left.
func (w *writer) stale(wanted map[string]bool) ([]string, error) {
	var names []string
	see := func(full string) {
		if wanted[full] {
			return
		}
		if data, err := w.root.ReadFile(full, maxOwnSize); err == nil && isOurs(data) {
			names = append(names, full)
		}
	}
	inUse := map[string]bool{} // by the host's path: two drop-ins may have one name
	for _, s := range w.staged {
		inUse[tempName(s.name)] = true
	}
	sift := func(dir, suffix string, entries []string) {
		for _, n := range entries {
			leftover := strings.HasPrefix(n, "."+filePrefix) && strings.HasSuffix(n, suffix+".tmp") && !inUse[filepath.Join(dir, n)]
			if leftover {
				names = append(names, filepath.Join(dir, n))
			} else if strings.HasPrefix(n, filePrefix) && strings.HasSuffix(n, suffix) {
				see(filepath.Join(dir, n))
			}
		}
	}
	entries, err := w.readDir(networkDir)
	if err != nil {
		return nil, err
	}
	sift(networkDir, ".network", entries)
	for _, n := range entries {
		if dir := filepath.Join(networkDir, n); strings.HasSuffix(n, ".network.d") {
			dropIns, err := w.readDir(dir)
			if err != nil {
				return nil, err
			}
			sift(dir, ".conf", dropIns)
		}
	}
	for _, f := range []string{networkdConf, tablesFile} {
		see(f)
		if temp := tempName(f); !inUse[temp] && w.root.Exists(temp) {
			names = append(names, temp)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (w *writer) readDir(dir string) ([]string, error) {
	names, err := w.root.ReadDir(dir)
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, w.fail(dir, err)
	}
	return names, nil
}

// fail says which of the host's files an error is about, by the file's path on this machine.
func (w *writer) fail(name string, err error) error {
	return fmt.Errorf("%s: %w", filepath.Join(w.root.String(), name), bare(err))
}

// bare removes the path from an error, because fail gives it as the caller knows it.
func bare(err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err
	}
	if le := (*os.LinkError)(nil); errors.As(err, &le) {
		return le.Err
	}
	return err
}
