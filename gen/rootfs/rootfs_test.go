package rootfs

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	securejoin "github.com/cyphar/filepath-securejoin"
)

// makeRoot makes a root directory, also from a working directory beside it, with
// links that only make sense inside of it.
func makeRoot(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ro[o]t")
	for name, data := range map[string]string{
		"usr/lib/a": "A", "usr/lib/b": "B", "etc/file": "inside", "outside": "no",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"lib": "usr/lib", "etc/absolute": "/etc/file", "etc/up": "../../../../../../../etc/file", "etc/dangling": "/nowhere",
		"etc/null": "/dev/null", "etc/null2": "null", "etc/null3": "../dev/null", "etc/loop": "loop", "etc/dir": "/usr/lib",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	dir := makeRoot(t)
	if err := syscall.Mkfifo(filepath.Join(dir, "etc/fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"/etc/file": "inside", "/etc/absolute": "inside", "/etc/up": "inside", "/lib/a": "A", "/etc/dir/b": "B", "/../../etc/file": "inside",
	} {
		if got, err := At(dir).ReadFile(name, 6); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, want := range map[string]error{
		"/etc/none": fs.ErrNotExist, "/none/x": fs.ErrNotExist, "/etc/dangling": ErrDangling, "/etc/fifo": ErrNotRegular,
		"/etc": ErrNotRegular, "/etc/loop": syscall.ELOOP, "/etc/file/x": syscall.ENOTDIR,
	} {
		if got, err := At(dir).ReadFile(name, 6); !errors.Is(err, want) || strings.Contains(err.Error(), name) {
			t.Errorf("%s: %q, %v, want %v", name, got, err, want)
		}
	}
	if _, err := At(dir).ReadFile("/etc/file", 5); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if data, err := At("").ReadFile("/proc/self/mounts", 1<<20); err != nil || len(data) == 0 {
		t.Errorf("a file that says it is empty: %d bytes, %v", len(data), err)
	}
	if _, err := At("/").ReadFile("/dev/null", 1); err == nil || err.Error() != "not a regular file but a device" {
		t.Error(err)
	}
}

func TestSocket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := At(dir).ReadFile("/s", 1); !errors.Is(err, ErrNotRegular) || err.Error() != "not a regular file but a socket" {
		t.Error(err)
	}
	for mode, want := range map[uint32]string{syscall.S_IFSOCK: "socket", syscall.S_IFBLK: "device", 0: "special file"} {
		if got := kind(mode); got != want {
			t.Errorf("%v: %s", mode, got)
		}
	}
}

func TestReadDir(t *testing.T) {
	t.Parallel()
	r := At(makeRoot(t))
	if got, err := r.ReadDir("/etc/dir"); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Error(got, err)
	}
	if got, err := r.ReadDir("/none"); err != nil || got != nil {
		t.Error(got, err)
	}
	if _, err := r.ReadDir("/etc/file"); !errors.Is(err, syscall.ENOTDIR) {
		t.Error(err)
	}
	if _, err := r.ReadDir("/etc/loop"); !errors.Is(err, syscall.ELOOP) {
		t.Error(err)
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	r := At(makeRoot(t))
	for name, want := range map[string]struct{ exists, masked bool }{
		"/etc/file": {true, false}, "/etc/dangling": {true, false}, "/etc/none": {false, false}, "/etc/null": {true, true},
		"/etc/null2": {true, true}, "/etc/null3": {true, true}, "/etc/dir/a": {true, false}, "/etc/loop": {true, false}, "/etc/loop/x": {false, false},
	} {
		if r.Exists(name) != want.exists || r.IsMasked(name) != want.masked {
			t.Errorf("%s: exists %v, masked %v", name, r.Exists(name), r.IsMasked(name))
		}
	}
	if got, err := r.Readlink("/etc/absolute"); err != nil || got != "/etc/file" {
		t.Error(got, err)
	}
	if _, err := r.Readlink("/etc/file"); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
	if _, err := r.Readlink("/etc/loop/x"); err == nil {
		t.Error("a link below a loop")
	}
}

// TestMaskOnTheHost reads through the running host's root.
func TestMaskOnTheHost(t *testing.T) {
	t.Parallel()
	link := filepath.Join(t.TempDir(), "x")
	if err := os.Symlink("/dev/null", link); err != nil {
		t.Fatal(err)
	}
	if !At("/").IsMasked(link) || At("/").IsMasked("/dev/null") {
		t.Error("a link to /dev/null is a mask, and /dev/null itself is none")
	}
}

func TestGlob(t *testing.T) {
	t.Parallel()
	r := At(makeRoot(t))
	for pattern, want := range map[string][]string{
		"/usr/lib/*": {"/usr/lib/a", "/usr/lib/b"}, "/lib/[a]": {"/lib/a"}, "/usr/*/c": nil, "/usr/lib/[": nil,
	} {
		if got := r.Glob(pattern); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", pattern, got, want)
		}
	}
	if got := At("/").Glob("/de[v]"); !slices.Equal(got, []string{"/dev"}) {
		t.Error(got)
	}
}

// TestPath compares with SecureJoin, which looks at every element of every path.
func TestPath(t *testing.T) {
	t.Parallel()
	dir := makeRoot(t)
	if err := os.Symlink("/etc/dangling", filepath.Join(dir, "usr/lib/chain")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"/", "/etc", "/etc/file", "/etc/absolute", "/etc/up", "/etc/dir", "/etc/dir/a", "/etc/dir/none/b", "/lib/a", "/lib/../etc/file",
		"/none", "/none/etc/absolute", "/etc/none/../absolute", "/etc/file/x", "/etc/dangling", "/etc/dangling/x", "/lib/chain", "/lib/chain/x",
		"/etc//file", "/etc/./absolute", "etc/absolute", "/../../etc/absolute", "/etc/loop", "/etc/loop/x", "/etc/x\x00y", "", "/etc/file/",
	} {
		want, wantErr := securejoin.SecureJoin(dir, name)
		if got, err := At(dir).Path(name); got != want || (err == nil) != (wantErr == nil) {
			t.Errorf("%q: %q, %v; SecureJoin: %q, %v", name, got, err, want, wantErr)
		}
	}
}

func TestAt(t *testing.T) {
	dir := makeRoot(t)
	t.Chdir(filepath.Join(dir, "etc"))
	for _, name := range []string{dir, dir + "/", "..", "../usr/..", "../../ro[o]t"} {
		r := At(name)
		data, err := r.ReadFile("/etc/absolute", 10)
		if err != nil || string(data) != "inside" || r.IsHost() || r.String() != dir {
			t.Errorf("%s is %s: %q, %v", name, r, data, err)
		}
		if got := r.Glob("/usr/lib/a"); len(got) != 1 || got[0] != "/usr/lib/a" {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, name := range []string{"", "/", "//", "/usr/.."} {
		if r := At(name); !r.IsHost() || r.String() != "/" || r != (Root{}) {
			t.Errorf("%q is %s", name, r)
		}
	}
	if got, err := At("").Path("/a/../b"); err != nil || got != "/b" {
		t.Error(got, err)
	}
}
