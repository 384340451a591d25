package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// The directories in which a spec is looked for, in the order of precedence of the UAPI
// group's configuration files specification.
var searchPath = []string{"/etc", "/run", "/usr/local/lib", "/usr/lib"}

const (
	mainFile  = "uplink/uplink.toml"
	dropInDir = "uplink/uplink.toml.d"

	// credential is the name under which systemd may pass a spec.
	credential = "uplink.toml"
	// systemCredentials is where PID 1 keeps the credentials that the system was
	// started with, since systemd 250 (systemd.exec(5), CREDENTIALS). A service that
	// has a file system of its own sees only those that it loads.
	systemCredentials = "/run/credentials/@system"
	// hostCredentials is where they are in a container (CONTAINER_INTERFACE.md of systemd).
	hostCredentials = "/run/host/credentials"

	// maxSize bounds a file. 10,000 uplinks take 1.5 MB.
	maxSize = 8 << 20
)

// ErrNone is the error of Load where there is no spec at all.
var ErrNone = errors.New("no spec: there is neither uplink/uplink.toml nor a drop-in in " + strings.Join(searchPath, ", "))

// Load reads the spec of the host whose root directory is root: the first
// uplink/uplink.toml of /etc, /run, /usr/local/lib and /usr/lib, the drop-ins of all
// four, and the credential uplink.toml. If none of them exists the error is ErrNone,
// and names the root unless it is the running host's; otherwise the error is Errors,
// with all that is wrong in any file.
func Load(root rootfs.Root) (*Spec, error) {
	files, err := find(root)
	if err != nil {
		return nil, err
	}
	return load(root, files)
}

// LoadFiles reads a spec from just these files, each overriding those before it.
func LoadFiles(root rootfs.Root, files ...string) (*Spec, error) { return load(root, files) }

// Parse reads a spec from memory; name stands for the file in errors.
func Parse(name string, data []byte) (*Spec, error) {
	d := &document{over: map[string]*source{}}
	d.add(&source{name: name, data: data})
	return d.spec()
}

// find returns the files that make up the spec, in the order in which they are
// merged.
func find(root rootfs.Root) ([]string, error) {
	var files []string
	for _, dir := range searchPath {
		name := path.Join(dir, mainFile)
		if root.Exists(name) {
			if !root.IsMasked(name) {
				files = append(files, name)
			}
			break
		}
	}
	var names []string
	where := map[string]string{}
	for _, dir := range searchPath {
		dir = path.Join(dir, dropInDir)
		found, err := root.ReadDir(dir)
		if err != nil {
			return nil, Errors{{File: dir, Msg: fmt.Sprintf("cannot be listed: %v", err), Err: err}}
		}
		for _, n := range found {
			// Editors and configuration management use names with a leading dot for
			// files that are not complete yet.
			if !strings.HasSuffix(n, ".toml") || n[0] == '.' {
				continue
			}
			if !utf8.ValidString(n) || strings.ContainsFunc(n, func(c rune) bool { return !unicode.IsPrint(c) }) {
				// Comments in files and people's terminals would show it.
				return nil, Errors{{File: dir, Msg: fmt.Sprintf("the file name %s has a character that cannot be shown", quote(n))}}
			}
			if _, hidden := where[n]; !hidden {
				where[n] = path.Join(dir, n)
				names = append(names, n)
			}
		}
	}
	slices.Sort(names)
	for _, n := range names {
		if !root.IsMasked(where[n]) {
			files = append(files, where[n])
		}
	}
	if name := CredentialFile(root); name != "" {
		files = append(files, name)
	}
	if len(files) == 0 {
		if !root.IsHost() {
			return nil, fmt.Errorf("%w below %s", ErrNone, root)
		}
		return nil, ErrNone
	}
	return files, nil
}

// CredentialFile returns the path of the credential with a spec, or "".
func CredentialFile(root rootfs.Root) string {
	dirs := []string{systemCredentials, hostCredentials}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" && root.IsHost() {
		dirs = slices.Insert(dirs, 0, dir)
	}
	for _, dir := range dirs {
		if name := path.Join(dir, credential); root.Exists(name) {
			return name
		}
	}
	return ""
}

// Names returns the names of the uplinks in the host's spec, or in just these files if
// any are given, sorted. It returns those that can be read, whatever else is wrong.
func Names(root rootfs.Root, files ...string) (names []string) {
	if len(files) == 0 {
		files, _ = find(root) // what cannot be found has no names
	}
	for _, u := range merge(root, files).decode().Uplinks {
		names = append(names, u.Name)
	}
	return names
}

func load(root rootfs.Root, files []string) (*Spec, error) { return merge(root, files).spec() }

// merge reads and merges the files. A file that cannot be read is an error of its own.
func merge(root rootfs.Root, files []string) *document {
	d := &document{over: map[string]*source{}}
	passed := CredentialFile(root)
	for _, name := range files {
		data, err := root.ReadFile(name, maxSize)
		if name == passed {
			// systemd gives each service a copy of its own. Rendered files name the file
			// that they come from, and must be the same whichever service renders them.
			name = path.Join(systemCredentials, credential)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = errors.New("no such file")
		}
		if err != nil {
			d.sources = append(d.sources, &source{name: name})
			d.errs = append(d.errs, &Error{File: name, Msg: fmt.Sprintf("cannot be read: %v", err), Err: err})
			continue
		}
		d.add(&source{name: name, data: data})
	}
	return d
}

// spec makes a Spec of the merged files, or returns the errors.
func (d *document) spec() (*Spec, error) {
	// Where a file is missing or broken, the values in the others can still be checked
	// one by one, but not against each other.
	whole := len(d.errs) == 0
	s := d.decode()
	for _, src := range d.sources {
		s.Files = append(s.Files, src.name)
	}
	if whole {
		s.validate()
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

// decode reads the merged tree, value by value.
func (d *document) decode() *Spec {
	if d.tree == nil {
		d.tree = map[string]any{}
	}
	dec := decoder{doc: d}
	return dec.spec(d.tree)
}
