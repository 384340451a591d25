package spec

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// Exposure is a file or directory through which somebody other than root could decide
// where the host's packets go.
type Exposure struct {
	File   string // as the host sees it
	Linked bool   // it is a link out of the directories for specs; otherwise it can be written
	Text   string // what was found, and its consequence
	Help   string // the remedy
}

// String returns "FILE: warning: text (remedy)".
func (e Exposure) String() string {
	return fmt.Sprintf("%s: warning: %s (%s)", printable(e.File), e.Text, e.Help)
}

// Exposures looks at the files that make up the host's spec, and at the directories in
// which one more file would be part of it. It checks whether their modes let anybody but
// the owner write them, whether they are links that lead out of the directories for specs,
// and, on the running host and as root, whether root owns them. In an image the owner says
// nothing: anybody may have made it.
func Exposures(root rootfs.Root) []Exposure {
	l := lookout{root: root, owners: root.IsHost() && os.Geteuid() == 0, seen: map[string]bool{}, dirs: map[string]string{}}
	files, _ := find(root) // what cannot be found cannot be read either, and that is an error
	for _, dir := range searchPath {
		l.look(path.Join(dir, path.Dir(mainFile)))
		l.look(path.Join(dir, dropInDir))
	}
	passed := CredentialFile(root)
	for _, name := range files {
		if name != passed { // systemd keeps that one
			l.look(name)
		}
	}
	return l.found
}

// lookout collects Exposures.
type lookout struct {
	root   rootfs.Root
	owners bool
	seen   map[string]bool   // real paths
	dirs   map[string]string // real paths of directories
	found  []Exposure
}

// look judges what name leads to through all links, and every directory above that.
func (l *lookout) look(name string) {
	real, linked := l.real(name)
	if real == "" {
		return // nothing is read from what does not exist; a link that leads nowhere is an error of its own
	}
	if linked && !slices.ContainsFunc(searchPath, func(dir string) bool { return strings.HasPrefix(real, dir+"/") || l.isAlso(dir, real) }) {
		l.add(Exposure{File: name, Linked: true,
			Text: fmt.Sprintf("it is a link to %s, out of the directories for specs: whoever can write there says where this host's packets go", printable(real)),
			Help: "put the file itself here"})
	}
	for at, first := real, true; at != "/" && !l.seen[at]; at, first = path.Dir(at), false {
		l.seen[at] = true
		l.judge(at, first)
	}
}

// real returns where name leads to, "" for nowhere, and whether it is a link itself. It
// resolves a directory once for all its files.
func (l *lookout) real(name string) (real string, linked bool) {
	dir, known := l.dirs[path.Dir(name)]
	if !known {
		dir, _ = l.root.Real(path.Dir(name))
		l.dirs[path.Dir(name)] = dir
	}
	if dir == "" {
		return "", false
	}
	real = path.Join(dir, path.Base(name))
	st, err := os.Lstat(filepath.Join(l.root.String(), real))
	switch {
	case err != nil:
		return "", false
	case st.Mode()&fs.ModeSymlink == 0:
		return real, false
	}
	real, _ = l.root.Real(name)
	return real, true
}

// isAlso says whether real is below the directory for specs dir where that is a link
// itself, as /usr/local is on some systems.
func (l *lookout) isAlso(dir, real string) bool {
	d, err := l.root.Real(dir)
	return err == nil && strings.HasPrefix(real, d+"/")
}

// judge looks at one file or directory. In a sticky directory above, such as /tmp, only the
// owner of an entry can replace it.
func (l *lookout) judge(name string, itself bool) {
	where := filepath.Join(l.root.String(), name)
	st, err := os.Lstat(where)
	if err != nil {
		return
	}
	uid, known := rootfs.Owner(st)
	who, remedy := "", ""
	switch mode := st.Mode(); {
	case l.owners && known && uid != 0:
		who, remedy = fmt.Sprintf("it belongs to user %d", uid), "chown root "
	case mode&0o022 == 0 || !itself && mode&fs.ModeSticky != 0:
		return
	case mode&0o002 != 0:
		who, remedy = fmt.Sprintf("anybody can write it (mode %04o)", mode.Perm()), "chmod go-w "
	default:
		who, remedy = fmt.Sprintf("its group can write it (mode %04o)", mode.Perm()), "chmod go-w "
	}
	l.add(Exposure{File: name, Text: who + ", and say where this host's packets go", Help: "`" + remedy + printable(where) + "`"})
}

func (l *lookout) add(e Exposure) { l.found = append(l.found, e) }
