package units

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/need"
)

// Content of ours and of others.
const (
	ours   = madeBy + "/etc/uplink/uplink.toml\n"
	theirs = "# by hand\n"
)

// treeOf makes a Tree of pairs of path and content.
func treeOf(pairs ...string) (t Tree) {
	for i := 0; i < len(pairs); i += 2 {
		t = append(t, File{pairs[i], []byte(pairs[i+1])})
	}
	return t
}

func mustWrite(t *testing.T, tree Tree, dir string) Changes {
	t.Helper()
	done, err := tree.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// snapshot returns all that is below dir: path → what it is, with inode and time.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		what := fmt.Sprintf("%v %d", info.Mode(), st.Ino)
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += fmt.Sprintf(" %v %s", info.ModTime(), data)
		}
		all[strings.TrimPrefix(path, dir)] = what
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// files lists everything below dir except directories.
func files(t testing.TB, dir string) (names []string) {
	t.Helper()
	for name, what := range snapshot(t, dir) {
		if !strings.HasPrefix(what, "d") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func sameSnapshot(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name, what := range want {
		if got[name] != what {
			t.Errorf("%s was %q, is %q", name, what, got[name])
		}
	}
	for name := range got {
		if want[name] == "" {
			t.Errorf("%s is new", name)
		}
	}
}

func TestFilesWhoseBytesAreThereAreNotTouched(t *testing.T) {
	dir := t.TempDir()
	tree := treeOf(run+"10-uplink-a.network", ours+"a", run+"x.network.d/10-uplink-b.conf", ours+"b", networkdConf, ours+"c", tablesFile, ours+"d")
	if done := mustWrite(t, tree, dir); len(done.Written) != 4 || len(done.Removed) != 0 {
		t.Errorf("the first run: %v", done)
	}
	before := snapshot(t, dir)
	if done := mustWrite(t, tree, dir); len(done.Written)+len(done.Removed) != 0 {
		t.Errorf("the second run: %v", done)
	}
	sameSnapshot(t, snapshot(t, dir), before)
}

func TestAChangedFileIsReplacedAtOnce(t *testing.T) {
	dir := t.TempDir()
	name := run + "10-uplink-a.network"
	mustWrite(t, treeOf(name, ours+"old", tablesFile, ours), dir)
	reader, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	before := snapshot(t, dir)
	if done := mustWrite(t, treeOf(name, ours+"new", tablesFile, ours), dir); !slices.Equal(done.Written, []string{name}) || len(done.Removed) != 0 {
		t.Errorf("changes: %v", done)
	}
	if old, err := io.ReadAll(reader); err != nil || string(old) != ours+"old" {
		t.Errorf("an open reader sees %q, %v", old, err)
	}
	if now, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(now) != ours+"new" {
		t.Errorf("now it is %q, %v", now, err)
	}
	if after := snapshot(t, dir); after[tablesFile] != before[tablesFile] {
		t.Errorf("%s was touched", tablesFile)
	}
}

func TestWhatIsRemovedAndWhatStays(t *testing.T) {
	tests := []struct {
		name    string
		there   map[string]string
		tree    Tree
		removed []string
		left    []string // files after; nil for those of the tree and nothing else
		gone    string   // a directory that must have gone, or ""
	}{
		{"the file of an uplink that is gone", map[string]string{run + "10-uplink-b.network": ours}, treeOf(run+"10-uplink-a.network", ours), []string{run + "10-uplink-b.network"}, nil, ""},
		{"all of them", map[string]string{run + "10-uplink-b.network": ours, networkdConf: ours, tablesFile: ours}, nil, []string{run + "10-uplink-b.network", networkdConf, tablesFile}, nil, ""},
		{"a drop-in and its empty directory", map[string]string{run + "x.network.d/10-uplink-b.conf": ours}, nil, []string{run + "x.network.d/10-uplink-b.conf"}, nil, run + "x.network.d"},
		{"a drop-in beside one of another", map[string]string{run + "x.network.d/10-uplink-b.conf": ours, run + "x.network.d/50-other.conf": theirs}, nil, []string{run + "x.network.d/10-uplink-b.conf"}, []string{run + "x.network.d/50-other.conf"}, ""},
		{"others' files under any name", map[string]string{
			run + "10-uplink-b.network": theirs, run + "05-x.network": ours, run + "10-netplan-eth0.network": theirs, run + "x.network.d/10-uplink-b.conf": theirs,
			networkdConf: theirs, tablesFile: theirs, etc + "10-uplink-b.network": ours, run + "10-uplink-c.netdev": ours, run + "y.network.d": "no directory",
		}, nil, nil, []string{
			run + "10-uplink-b.network", run + "05-x.network", run + "10-netplan-eth0.network", run + "x.network.d/10-uplink-b.conf",
			networkdConf, tablesFile, etc + "10-uplink-b.network", run + "10-uplink-c.netdev", run + "y.network.d",
		}, ""},
		{"what a killed run has left", map[string]string{
			run + ".10-uplink-a.network.tmp": "half", run + ".10-uplink-z.network.tmp": "", run + "x.network.d/.10-uplink-z.conf.tmp": "", "/run/systemd/networkd.conf.d/.10-uplink.conf.tmp": "", "/run/uplink/.rt_tables.conf.tmp": "-> /nowhere",
		}, treeOf(run+"10-uplink-a.network", ours), []string{
			run + ".10-uplink-z.network.tmp", run + "x.network.d/.10-uplink-z.conf.tmp", "/run/systemd/networkd.conf.d/.10-uplink.conf.tmp", "/run/uplink/.rt_tables.conf.tmp",
		}, nil, run + "x.network.d"},
		{"what a killed run has left of a drop-in of the same name", map[string]string{run + "x.network.d/.10-uplink-a.conf.tmp": "half"}, treeOf(run+"y.network.d/10-uplink-a.conf", ours), []string{run + "x.network.d/.10-uplink-a.conf.tmp"}, nil, run + "x.network.d"},
		{"a leftover that is a link is removed, not followed", map[string]string{run + ".10-uplink-a.network.tmp": "-> /etc/passwd", "/etc/passwd": theirs}, treeOf(run+"10-uplink-a.network", ours), nil, []string{"/etc/passwd", run + "10-uplink-a.network"}, ""},
		{"of a stale link the link goes, not what it points to", map[string]string{run + "10-uplink-b.network": "-> /srv/copy", "/srv/copy": ours}, nil, []string{run + "10-uplink-b.network"}, []string{"/srv/copy"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range tt.there {
				putFile(t, dir, name, content)
			}
			done := mustWrite(t, tt.tree, dir)
			slices.Sort(tt.removed)
			if !slices.Equal(done.Removed, tt.removed) {
				t.Errorf("removed %q, want %q", done.Removed, tt.removed)
			}
			left := tt.left
			if left == nil {
				for _, f := range tt.tree {
					left = append(left, f.Path)
				}
			}
			slices.Sort(left)
			if got := files(t, dir); !slices.Equal(got, left) {
				t.Errorf("left %q, want %q", got, left)
			}
			for _, name := range left {
				if content, was := tt.there[name]; was && !strings.HasPrefix(content, "-> ") {
					if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != content {
						t.Errorf("%s is %q, %v", name, got, err)
					}
				}
			}
			if tt.gone != "" {
				if _, err := os.Lstat(filepath.Join(dir, tt.gone)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s is still there: %v", tt.gone, err)
				}
			}
			if again := mustWrite(t, tt.tree, dir); len(again.Written)+len(again.Removed) != 0 {
				t.Errorf("a second run: %v", again)
			}
		})
	}
}

func TestWhereNothingCanBeWrittenAllStaysAsItWas(t *testing.T) {
	first := treeOf(run+"10-uplink-a.network", ours+"new", run+"10-uplink-b.network", ours+"new")
	tests := []struct {
		name  string
		there map[string]string
		tree  Tree
		want  string // the whole error, below the directory
		is    error
	}{
		{"a file of another in our place", map[string]string{run + "10-uplink-b.network": theirs}, first, run + "10-uplink-b.network: not a file of uplink-generator, but in the place of one: move it away", ErrForeign},
		{"an empty file in our place", map[string]string{run + "10-uplink-b.network": ""}, first, run + "10-uplink-b.network: not a file of uplink-generator, but in the place of one: move it away", ErrForeign},
		{"a drop-in of another in our place", map[string]string{run + "x.network.d/10-uplink-a.conf": theirs}, treeOf(run+"x.network.d/10-uplink-a.conf", ours), run + "x.network.d/10-uplink-a.conf: not a file of uplink-generator, but in the place of one: move it away", ErrForeign},
		{"a directory in our place", map[string]string{run + "10-uplink-b.network/x": ""}, first, run + "10-uplink-b.network: not a regular file but a directory", nil},
		{"a file where a drop-in's directory belongs", map[string]string{run + "x.network.d": theirs}, treeOf(run+"10-uplink-a.network", ours, run+"x.network.d/10-uplink-a.conf", ours), run + "x.network.d/10-uplink-a.conf: not a directory", syscall.ENOTDIR},
		{"a file where our directory belongs", map[string]string{"/run/systemd": theirs}, first, "/run/systemd/network: not a directory", nil},
		{"a directory in the place of a temporary file", map[string]string{run + ".10-uplink-b.network.tmp/x": ""}, first, run + "10-uplink-b.network: directory not empty", nil},
		{"a drop-in directory that is a link to itself", map[string]string{run + "x.network.d": "-> x.network.d"}, nil, run + "x.network.d: too many levels of symbolic links", syscall.ELOOP},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			putFile(t, dir, run+"10-uplink-a.network", ours+"old")
			if tt.there["/run/systemd"] != "" {
				dir = t.TempDir()
			}
			for name, content := range tt.there {
				putFile(t, dir, name, content)
			}
			before := snapshot(t, dir)
			done, err := tt.tree.Write(dir)
			if err == nil || err.Error() != dir+tt.want || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if len(done.Written)+len(done.Removed) != 0 {
				t.Errorf("changes: %v", done)
			}
			sameSnapshot(t, snapshot(t, dir), before)
		})
	}
}

func TestWhateverTheUmaskNetworkdCanReadAllOfIt(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, treeOf(run+"10-uplink-a.network", ours, run+"x.network.d/10-uplink-b.conf", ours, networkdConf, ours, tablesFile, ours), dir)
	for name, what := range snapshot(t, dir) {
		if mode := strings.Fields(what)[0]; mode != "-rw-r--r--" && mode != "drwxr-xr-x" {
			t.Errorf("%s has mode %s", name, mode)
		}
	}
}

func TestLinksInAnImageAreFollowedInsideIt(t *testing.T) {
	outside := t.TempDir()
	tests := []struct {
		name, link, target string
		want               string // where the file is then, in the image
	}{
		{"an absolute link", "/run", "/var/run", "/var/run/systemd/network/10-uplink-a.network"},
		{"a relative link out of the image", "/run/systemd", "../../../../../../../../srv", "/srv/network/10-uplink-a.network"},
		{"an absolute link to a directory of this machine", "/run/systemd/network", outside, outside + "/10-uplink-a.network"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			putFile(t, dir, tt.link, "-> "+tt.target)
			tree := treeOf(run+"10-uplink-a.network", ours)
			mustWrite(t, tree, dir)
			if got, err := os.ReadFile(filepath.Join(dir, tt.want)); err != nil || string(got) != ours {
				t.Errorf("%q, %v", got, err)
			}
			if done := mustWrite(t, tree, dir); len(done.Written)+len(done.Removed) != 0 {
				t.Errorf("a second run: %v", done)
			}
			if done := mustWrite(t, nil, dir); len(done.Removed) != 1 {
				t.Errorf("an empty run: %v", done)
			}
			if left := files(t, outside); len(left) != 0 {
				t.Errorf("outside of the image: %q", left)
			}
		})
	}
}

// TestALinkInPlaceOfOursIsReadInsideTheImage: it does not matter what this machine
// has where the link leads.
func TestALinkInPlaceOfOursIsReadInsideTheImage(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(outside, []byte(ours), 0o644); err != nil {
		t.Fatal(err)
	}
	tree := treeOf(run+"10-uplink-a.network", ours)
	for name, c := range map[string]struct {
		inside string // what the image has where the link leads
		want   error
	}{
		"the same": {ours, nil}, "another's": {theirs, ErrForeign}, "nothing": {"", ErrForeign},
	} {
		dir := t.TempDir()
		putFile(t, dir, run+"10-uplink-a.network", "-> "+outside)
		if c.inside != "" {
			putFile(t, dir, outside, c.inside)
		}
		done, err := tree.Write(dir)
		if !errors.Is(err, c.want) || len(done.Written)+len(done.Removed) != 0 {
			t.Errorf("%s: %v, %v", name, done, err)
		}
	}
}

func TestTwoWritersAtOnceEndInOneConsistentTree(t *testing.T) {
	dir := t.TempDir()
	var trees [4]Tree
	for i := range trees {
		for n := range 20 {
			trees[i] = append(trees[i], File{fmt.Sprintf("%s10-uplink-%d-%d.network", run, n%3*i, n), fmt.Appendf(nil, "%s%d", ours, i)})
		}
		trees[i] = append(trees[i], File{fmt.Sprintf("%sx%d.network.d/10-uplink-a.conf", run, i), []byte(ours)})
	}
	for range 10 {
		var all sync.WaitGroup
		for _, tree := range trees {
			all.Go(func() {
				if _, err := tree.Write(dir); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		have := files(t, dir)
		consistent := slices.ContainsFunc(trees[:], func(tree Tree) bool {
			if len(tree) != len(have) {
				return false
			}
			return !slices.ContainsFunc(tree, func(f File) bool {
				data, err := os.ReadFile(filepath.Join(dir, f.Path))
				return err != nil || string(data) != string(f.Data)
			})
		})
		if !consistent {
			t.Fatalf("this is the tree of none of them: %q", have)
		}
	}
}

// inMountNamespace calls f in a mount namespace of its own. f must not end the test.
func inMountNamespace(t *testing.T, f func()) {
	t.Helper()
	need.Root(t)
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and the namespace with it.
		runtime.LockOSThread()
		if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
			done <- err
			return
		}
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			done <- err
			return
		}
		f()
		done <- nil
	}()
	if err := <-done; err != nil {
		need.Nil(t, fmt.Errorf("a mount namespace: %w", err))
	}
}

func TestAFullDiskLeavesEverythingAsItWas(t *testing.T) {
	dir := t.TempDir()
	inMountNamespace(t, func() {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k,mode=755"); err != nil {
			t.Error(err)
			return
		}
		before := treeOf(run+"10-uplink-a.network", ours+"old", run+"10-uplink-b.network", ours+"old", tablesFile, ours)
		if _, err := before.Write(dir); err != nil {
			t.Error(err)
			return
		}
		was := snapshot(t, dir)
		big := treeOf(run+"10-uplink-a.network", ours+"new", run+"10-uplink-c.network", ours+strings.Repeat("x", 1<<20), tablesFile, ours+"new")
		done, err := big.Write(dir)
		if !errors.Is(err, syscall.ENOSPC) || err.Error() != dir+run+"10-uplink-c.network: no space left on device" {
			t.Errorf("got %v", err)
		}
		if len(done.Written)+len(done.Removed) != 0 {
			t.Errorf("changes: %v", done)
		}
		sameSnapshot(t, snapshot(t, dir), was)
	})
}

func TestAReadOnlyDirectoryIsSaidByItsName(t *testing.T) {
	dir := t.TempDir()
	mustWrite(t, treeOf(run+"10-uplink-a.network", ours, run+"x.network.d/10-uplink-a.conf", ours), dir)
	inMountNamespace(t, func() {
		if err := errors.Join(
			syscall.Mount(dir, dir, "", syscall.MS_BIND, ""),
			syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""),
		); err != nil {
			t.Error(err)
			return
		}
		for _, tt := range []struct {
			name string
			tree Tree
			want string
		}{
			{"a file that changes", treeOf(run+"10-uplink-a.network", ours+"new"), run + "10-uplink-a.network: read-only file system"},
			{"a new directory", treeOf(run+"y.network.d/10-uplink-a.conf", ours), run + "y.network.d/10-uplink-a.conf: read-only file system"},
			{"a file that goes", treeOf(run+"10-uplink-a.network", ours), run + "x.network.d/10-uplink-a.conf: read-only file system"},
		} {
			if _, err := tt.tree.Write(dir); err == nil || err.Error() != dir+tt.want {
				t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
			}
		}
		// If nothing changes, nothing is written.
		if _, err := treeOf(run+"10-uplink-a.network", ours, run+"x.network.d/10-uplink-a.conf", ours).Write(dir); err != nil {
			t.Error(err)
		}
		if _, err := (Tree{}).Write(filepath.Join(dir, "none")); err == nil || err.Error() != dir+"/none/run/systemd/network: read-only file system" {
			t.Errorf("no directory: got %v", err)
		}
	})
}

func TestRenderedIsWhatPutsAWritingBack(t *testing.T) {
	root := t.TempDir()
	first := Tree{
		{"/run/systemd/network/10-uplink-a.network", []byte(madeBy + "x\n1")},
		{"/run/systemd/network/other.network.d/10-uplink-b.conf", []byte(madeBy + "x\n2")},
		{"/run/systemd/networkd.conf.d/10-uplink.conf", []byte(madeBy + "x\n3")},
		{"/run/uplink/rt_tables.conf", []byte(madeBy + "x\n4")},
	}
	for _, f := range []string{"run/systemd/network/10-uplink-foreign.network", "run/systemd/network/.10-uplink-c.network.tmp"} {
		path := filepath.Join(root, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("somebody else's"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if old, err := Rendered(root); err != nil || len(old) > 0 {
		t.Fatalf("there is nothing of ours: %v %v", old, err)
	}
	for _, tree := range []Tree{first, first[1:3], nil} {
		if _, err := tree.Write(root); err != nil {
			t.Fatal(err)
		}
		old, err := Rendered(root)
		if err != nil || textOf(old) != textOf(tree) {
			t.Errorf("written %s, found %s: %v", textOf(tree), textOf(old), err)
		}
		if _, err := first.Write(root); err != nil {
			t.Fatal(err)
		}
		if _, err := old.Write(root); err != nil {
			t.Fatal(err)
		}
		if again, err := Rendered(root); err != nil || textOf(again) != textOf(tree) {
			t.Errorf("put back, it is %s: %v", textOf(again), err)
		}
	}
}
