// Package rootfs reads files of a host whose root directory may be anywhere: "/" on
// the host itself, the tree of an image that is being built, a folder made by a
// test. Paths and links mean what they would mean on that host, so a link to
// /usr/share/x inside an image stays inside it.
//
// Reading never blocks: what is not a regular file (a FIFO, a device) is
// refused, and so is a file above the size that the caller allows.
package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	securejoin "github.com/cyphar/filepath-securejoin"
)

// Root is a host's root directory. The zero value is the running host's.
type Root struct{ dir string }

// At returns the root at dir; "" stands for "/".
func At(dir string) Root {
	if dir == "" {
		return Root{}
	}
	// SecureJoin refuses a root with "..", which a relative path may begin with.
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if dir = filepath.Clean(dir); dir == "/" {
		return Root{}
	}
	return Root{dir}
}

// String returns the directory.
func (r Root) String() string {
	if r.IsHost() {
		return "/"
	}
	return r.dir
}

// IsHost says whether this is the running host's own root.
func (r Root) IsHost() bool { return r.dir == "" }

// Path returns where the host's absolute path name really is, following every link
// in it inside the root. The file need not exist.
func (r Root) Path(name string) (string, error) {
	if r.IsHost() {
		return filepath.Clean(name), nil
	}
	if r.isPlain(name) {
		return r.dir + name, nil
	}
	return securejoin.SecureJoin(r.dir, name)
}

// isPlain says whether name, as far as it exists, has no link and no ".." in it. That is so
// for most names, and the search ends early, where SecureJoin would look at each element.
func (r Root) isPlain(name string) bool {
	if name == "/" || !filepath.IsAbs(name) || filepath.Clean(name) != name {
		return false
	}
	path := r.dir + name
	for end := len(r.dir) + 1; end <= len(path); end++ {
		if end < len(path) && path[end] != '/' {
			continue
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path[:end], &st); err != nil {
			return errors.Is(err, fs.ErrNotExist)
		}
		if st.Mode&syscall.S_IFMT == syscall.S_IFLNK {
			return false
		}
	}
	return true
}

// Real returns the host's absolute path of what name leads to through all links. It
// must exist.
func (r Root) Real(name string) (string, error) {
	if r.IsHost() {
		real, err := filepath.EvalSymlinks(name)
		return real, bare(err)
	}
	path, err := r.Path(name)
	if err == nil {
		_, err = os.Lstat(path)
	}
	if err != nil {
		return "", bare(err)
	}
	return strings.TrimPrefix(path, filepath.Clean(r.dir)), nil
}

// Owner returns the user that a file belongs to, if the file system tells.
func Owner(info fs.FileInfo) (uid uint32, known bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Uid, true
}

// ErrNotRegular is returned for what is not a regular file: reading it
// might block, or never end.
var ErrNotRegular = errors.New("not a regular file")

// ErrTooLarge is returned for a file above the limit.
var ErrTooLarge = errors.New("too large")

// ErrDangling is returned for a link to a file that does not exist, which is not
// the same as no file at all.
var ErrDangling = errors.New("link to a file that does not exist")

// ReadFile returns the content of the file at the host's absolute path name, of at
// most limit bytes. A missing file gives an error that is fs.ErrNotExist; for others
// see ErrNotRegular, ErrTooLarge, ErrDangling. The errors do not repeat the name.
func (r Root) ReadFile(name string, limit int64) ([]byte, error) {
	path, err := r.Path(name)
	if err != nil {
		return nil, bare(err)
	}
	data, err := read(path, limit)
	if errors.Is(err, fs.ErrNotExist) && r.isLink(name) {
		return nil, ErrDangling
	}
	return data, err
}

// read reads a regular file. It avoids os.File, because the runtime's poller would
// then look at each of ten thousand files first.
func read(path string, limit int64) ([]byte, error) {
	fd, err := open(path, 0)
	var st syscall.Stat_t
	// ENXIO: a socket, or a device that does not exist. Neither can be opened.
	if errors.Is(err, syscall.ENXIO) && syscall.Stat(path, &st) == nil {
		return nil, fmt.Errorf("%w but a %s", ErrNotRegular, kind(st.Mode))
	}
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil, fmt.Errorf("%w but a %s", ErrNotRegular, kind(st.Mode))
	}
	// Files in /proc report size 0: read up to the limit whatever the size.
	data := make([]byte, 0, min(st.Size, limit)+512)
	for {
		n := 0
		err := Retry(func() (err error) {
			n, err = syscall.Read(fd, data[len(data):cap(data)])
			return err
		})
		if err != nil {
			return nil, err
		}
		data = data[:len(data)+n]
		switch {
		case int64(len(data)) > limit:
			return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
		case n == 0:
			return data, nil
		case len(data) == cap(data):
			data = append(data, 0)[:len(data)]
		}
	}
}

// Retry calls a system call again while a signal interrupts it (EINTR), and returns its answer.
func Retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// ReadDir returns the names in the host's directory name, sorted. A directory that
// does not exist has none.
func (r Root) ReadDir(name string) ([]string, error) {
	path, err := r.Path(name)
	if err != nil {
		return nil, bare(err)
	}
	// Not os.ReadDir, for the reason that read gives.
	fd, err := open(path, syscall.O_DIRECTORY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	var names []string
	buf := make([]byte, 8<<10)
	for {
		n := 0
		err := Retry(func() (err error) {
			n, err = syscall.ReadDirent(fd, buf)
			return err
		})
		if err != nil {
			return nil, err
		}
		if n == 0 {
			slices.Sort(names)
			return names, nil
		}
		_, _, names = syscall.ParseDirent(buf[:n], -1, names)
	}
}

// open opens a file for reading. O_NONBLOCK: opening a FIFO must not wait for a writer.
func open(path string, flags int) (fd int, err error) {
	err = Retry(func() (err error) {
		fd, err = syscall.Open(path, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC|syscall.O_NOCTTY|flags, 0)
		return err
	})
	return fd, err
}

// Exists says whether there is anything at name, a dangling link included.
func (r Root) Exists(name string) bool {
	_, err := r.lstat(name)
	return err == nil
}

// IsMasked says whether name is a link to /dev/null, which switches off a
// configuration file of systemd or of the UAPI group.
func (r Root) IsMasked(name string) bool {
	if !r.isLink(name) {
		return false
	}
	if r.IsHost() {
		path, err := filepath.EvalSymlinks(name)
		return err == nil && path == "/dev/null"
	}
	path, err := r.Path(name)
	return err == nil && path == filepath.Join(r.dir, "dev/null")
}

// Readlink returns the target of the link at name.
func (r Root) Readlink(name string) (string, error) {
	path, err := r.parent(name)
	if err != nil {
		return "", bare(err)
	}
	target, err := os.Readlink(path)
	return target, bare(err)
}

// Glob returns the host's absolute paths that match pattern (filepath.Match),
// sorted. It follows a link to an absolute path on the way as this machine would.
func (r Root) Glob(pattern string) []string {
	root := strings.TrimSuffix(r.String(), "/")
	found, _ := filepath.Glob(literally.Replace(root) + "/" + strings.TrimPrefix(pattern, "/"))
	for i, f := range found {
		found[i] = strings.TrimPrefix(f, root)
	}
	return found
}

// literally makes a name into a pattern that matches only that name.
var literally = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

func (r Root) isLink(name string) bool {
	st, err := r.lstat(name)
	return err == nil && st.Mode()&fs.ModeSymlink != 0
}

func (r Root) lstat(name string) (fs.FileInfo, error) {
	path, err := r.parent(name)
	if err != nil {
		return nil, err
	}
	return os.Lstat(path)
}

// parent resolves all of name but its last element.
func (r Root) parent(name string) (string, error) {
	dir, err := r.Path(filepath.Dir(name))
	return filepath.Join(dir, filepath.Base(name)), err
}

// bare removes the operation and the path from an error, because the caller words
// them better.
func bare(err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func kind(mode uint32) string {
	switch mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		return "directory"
	case syscall.S_IFIFO:
		return "FIFO"
	case syscall.S_IFSOCK:
		return "socket"
	case syscall.S_IFCHR, syscall.S_IFBLK:
		return "device"
	}
	return "special file"
}
