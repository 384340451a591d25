package host

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestNobodyIsKeptOutForGood has a record by which nobody can go back: the first attempt leaves
// it, the dead-man tries again when the time is over and not before, and the next attempt gives
// it up.
func TestNobodyIsKeptOutForGood(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, tryDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, recordFile), []byte("{"), 0o600), writeProgress(dir, 2*time.Second, true)); err != nil {
		t.Fatal(err)
	}
	h, err := Open(t.Context(), root, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	start := time.Now()
	refused := func(what string, err error, says string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = CancelTry(root, io.Discard)
	refused("--cancel", err, "`uplinkctl try --cancel` tries again")
	refused("reload", h.NotTrying(), "gives up what fails once more")
	text, err := GoBack(root, io.Discard)
	refused("--go-back", err, "`uplinkctl try --cancel` tries again")
	if took := time.Since(start); took < 1900*time.Millisecond || text != "" {
		t.Errorf("the dead-man has tried again after %v: %q", took, text)
	}
	if _, err = GoBack(root, io.Discard); err == nil {
		t.Error("the dead-man goes back")
	}
	refused("reload", h.NotTrying(), "gives up what fails once more")
	_, err = CancelTry(root, io.Discard)
	refused("--cancel again", err, "that is given up")
	if err := h.NotTrying(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(root, "run/uplink/try*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := CancelTry(root, io.Discard); !errors.Is(err, errNoTry) {
		t.Error(err)
	}
}

// TestNoLockIsNoHost checks that a run that cannot keep others out changes nothing.
func TestNoLockIsNoHost(t *testing.T) {
	root := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(root, "run"), 0o755), os.WriteFile(filepath.Join(root, ownDir), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if h, err := Open(t.Context(), root, 0, true); err == nil {
		h.Close()
		t.Error("a host that anybody may change meanwhile")
	}
}
