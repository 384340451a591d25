package units

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestThousandsOfFilesAreWrittenAsFewAre writes enough files for more than one thread.
func TestThousandsOfFilesAreWrittenAsFewAre(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	var tree Tree
	for i := range 3500 {
		tree = append(tree, File{fmt.Sprintf("%s10-uplink-u%04d.network", run, i), fmt.Appendf(nil, "%s%d", ours, i)})
	}
	dir := t.TempDir()
	// One of the temporary names is taken, by a directory that cannot be removed.
	const stuck = "10-uplink-u3001.network"
	blocker := filepath.Join(dir, run, "."+stuck+".tmp")
	if err := os.MkdirAll(filepath.Join(blocker, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, dir)
	done, err := tree.Write(dir)
	if err == nil || err.Error() != dir+run+stuck+": directory not empty" {
		t.Errorf("got %v", err)
	}
	if len(done.Written)+len(done.Removed) != 0 {
		t.Errorf("%d files were written beside the error", len(done.Written))
	}
	sameSnapshot(t, snapshot(t, dir), before)

	if err := os.RemoveAll(blocker); err != nil {
		t.Fatal(err)
	}
	if done := mustWrite(t, tree, dir); len(done.Written) != len(tree) {
		t.Errorf("%d files were written, not %d", len(done.Written), len(tree))
	}
	written := snapshot(t, dir)
	for _, f := range tree {
		what := written[f.Path]
		if !strings.HasPrefix(what, "-rw-r--r-- ") || !strings.HasSuffix(what, " "+string(f.Data)) {
			t.Fatalf("%s is %q", f.Path, what)
		}
	}
	if done := mustWrite(t, tree, dir); len(done.Written)+len(done.Removed) != 0 {
		t.Errorf("a second run changed %v", done)
	}
}
