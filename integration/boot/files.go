package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
)

// File is a file or a symbolic link of a machine.
type File struct {
	Data string
	Mode fs.FileMode // 0644 if zero
	Link string      // the target, which makes it a link
}

// Text is an ordinary file.
func Text(data string) File { return File{Data: data} }

// Program is a file that can be executed.
func Program(data string) File { return File{Data: data, Mode: 0o755} }

// Link is a symbolic link.
func Link(target string) File { return File{Link: target} }

// Masked is the unit file of a unit that must not be started.
var Masked = Link("/dev/null")

// write puts the file below root in place of what is there. name may lead through
// links, as /lib is one, but not out of root.
func (f File) write(root *os.Root, name string) error {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if err := mkdirAll(root, path.Dir(name)); err != nil {
		return err
	}
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if f.Link != "" {
		return root.Symlink(f.Link, name)
	}
	mode := f.Mode
	if mode == 0 {
		mode = 0o644
	}
	if err := root.WriteFile(name, []byte(f.Data), mode); err != nil {
		return err
	}
	// The umask must not be in the way.
	return root.Chmod(name, mode)
}

// mkdirAll makes directories that everybody can read.
func mkdirAll(root *os.Root, dir string) error {
	if info, err := root.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := mkdirAll(root, path.Dir(dir)); err != nil {
		return err
	}
	if err := root.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return root.Chmod(dir, 0o755)
}

// copyTree puts all that is in a tree below root.
func copyTree(root *os.Root, tree fs.FS) error {
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return mkdirAll(root, name)
		}
		f, err := readFile(tree, name, d)
		if err != nil {
			return err
		}
		return f.write(root, name)
	})
	if err != nil {
		return fmt.Errorf("copy tree: %w", err)
	}
	return nil
}

func readFile(tree fs.FS, name string, d fs.DirEntry) (File, error) {
	if d.Type() == fs.ModeSymlink {
		target, err := fs.ReadLink(tree, name)
		return Link(target), err
	}
	info, err := d.Info()
	if err != nil {
		return File{}, err
	}
	data, err := fs.ReadFile(tree, name)
	return File{Data: string(data), Mode: info.Mode().Perm()}, err
}
