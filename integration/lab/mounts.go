package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// file is a file or symbolic link to be put into a private file system.
type file struct {
	path string // relative to the root
	mode fs.FileMode
	data []byte
	link string // target, for a symbolic link
}

// collect reads a tree and then the single files that go over it. It reads everything at once,
// because the tree may lie where the private mounts will be.
func collect(tree fs.FS, single map[string]string) ([]file, error) {
	var files []file
	if tree != nil {
		err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			f, err := readFile(tree, name, d)
			files = append(files, f)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read tree: %w", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(single)) {
		clean := strings.TrimPrefix(path.Clean("/"+name), "/")
		mode := fs.FileMode(0o644)
		if strings.HasSuffix(clean, ".nmconnection") { // NetworkManager refuses it if others can read it
			mode = 0o600
		}
		files = append(files, file{path: clean, mode: mode, data: []byte(single[name])})
	}
	for _, f := range files {
		switch top, rest, _ := strings.Cut(f.path, "/"); {
		case rest == "":
			return nil, fmt.Errorf("%s: not below a directory of the root", f.path)
		case top == "proc" || top == "sys" || top == "dev":
			return nil, fmt.Errorf("%s: not a place for files", f.path)
		}
	}
	return files, nil
}

func readFile(tree fs.FS, name string, d fs.DirEntry) (file, error) {
	if d.Type() == fs.ModeSymlink {
		target, err := fs.ReadLink(tree, name)
		return file{path: name, link: target}, err
	}
	info, err := d.Info()
	if err != nil {
		return file{}, err
	}
	data, err := fs.ReadFile(tree, name)
	mode := info.Mode().Perm()
	if mode == 0 {
		// Trees in memory seldom set a mode.
		mode = 0o644
	}
	return file{path: name, mode: mode, data: data}, err
}

// write puts the file below root, whatever is there.
func (f file) write(root string) error {
	name := filepath.Join(root, f.path)
	if err := mkdirAll(filepath.Dir(name)); err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if f.link != "" {
		return os.Symlink(f.link, name)
	}
	if err := os.WriteFile(name, f.data, f.mode); err != nil {
		return err
	}
	// networkd reads as another user, so the umask must not matter.
	return os.Chmod(name, f.mode)
}

// mkdirAll is os.MkdirAll for directories that everyone can read.
func mkdirAll(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := mkdirAll(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}

// machineID makes client identifiers the same in every run. networkd also
// wants one where an image has none.
const machineID = "75706c696e6b2d67656e657261746f72\n"

// privateMounts gives the calling thread, which must be locked and about to
// end, a view of the file system of its own: that of root with an empty /run,
// the network namespace's own /sys, nothing that would configure networkd,
// and the given files. What is written there is gone with the last process
// that sees it, and so is what is written to the top directories in writable.
func privateMounts(root string, files []file, writable ...string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// The upper layers of all overlays share one tmpfs. It is made where /run
	// will hide it.
	scratch := filepath.Join(root, "run")
	if err := mountTmpfs(scratch); err != nil {
		return err
	}
	tops := map[string]bool{"etc": true}
	for _, top := range writable {
		tops[top] = true
	}
	for _, f := range files {
		top, _, _ := strings.Cut(f.path, "/")
		tops[top] = top != "run"
	}
	for _, top := range slices.Sorted(maps.Keys(tops)) {
		if !tops[top] {
			continue
		}
		if err := mountOverlay(filepath.Join(root, top), filepath.Join(scratch, top)); err != nil {
			return err
		}
	}
	if err := mountTmpfs(scratch); err != nil {
		return err
	}
	if root != "/" {
		if err := unix.Mount("/proc", filepath.Join(root, "proc"), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind /proc: %w", err)
		}
		if err := unix.Mount("/dev", filepath.Join(root, "dev"), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind /dev: %w", err)
		}
	}
	// networkd takes a read-only /sys for a container's, and does not wait for
	// udev to have seen each link.
	flags := uintptr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount("sysfs", filepath.Join(root, "sys"), "sysfs", flags, ""); err != nil {
		return fmt.Errorf("mount sysfs: %w", err)
	}
	// The machine's own configuration must not decide what a test sees. What
	// the distribution ships in /usr/lib stays: every host has it.
	for _, dir := range []string{"etc/systemd", "usr/local/lib/systemd"} {
		dir = filepath.Join(root, dir)
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if err := mountTmpfs(dir); err != nil {
			return err
		}
	}
	files = append([]file{{path: "etc/machine-id", mode: 0o444, data: []byte(machineID)}}, files...)
	for _, f := range files {
		if err := f.write(root); err != nil {
			return err
		}
	}
	return nil
}

func mountTmpfs(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
	}
	return nil
}

// mountOverlay makes dir writable without changing what is below it.
func mountOverlay(dir, layers string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	upper, work := filepath.Join(layers, "upper"), filepath.Join(layers, "work")
	for _, d := range []string{upper, work} {
		if err := mkdirAll(d); err != nil {
			return err
		}
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, upper, work)
	if err := unix.Mount("overlay", dir, "overlay", 0, data); err != nil {
		return fmt.Errorf("mount overlay on %s: %w", dir, err)
	}
	return nil
}
