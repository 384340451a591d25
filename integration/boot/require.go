package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// Require returns nil if machines can be booted here, and a [lab.ErrUnavailable]
// that says what is missing if they cannot. Whether that is a reason to skip or to
// fail is for the caller to say.
func Require() error {
	if err := lab.Require(); err != nil {
		return err
	}
	for _, tool := range []string{"systemd-nspawn", "mmdebstrap", "unshare", "make", "go"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w: %w", lab.ErrUnavailable, err)
		}
	}
	if _, err := os.Stat(keyring); err != nil {
		return fmt.Errorf("%w: %w", lab.ErrUnavailable, err)
	}
	cgroups, err := openCgroups()
	if err != nil {
		return fmt.Errorf("%w: %w", lab.ErrUnavailable, err)
	}
	return cgroups.Close()
}

// RemoveStale removes what is left of machines whose process has ended without closing them, and
// their labs ([lab.RemoveStale]).
func RemoveStale(ctx context.Context) error {
	// First the processes, with the network namespaces by which they are found.
	return errors.Join(lab.RemoveStale(ctx), removeStaleCgroups(), removeStaleDirs())
}

// stale says whether a name consists of prefix, the number of a process that has ended, and,
// after a dash, something more.
func stale(name, prefix string) bool {
	rest, ours := strings.CutPrefix(name, prefix)
	pid, _, more := strings.Cut(rest, "-")
	owner, err := strconv.Atoi(pid)
	return ours && more && err == nil && owner > 0 && errors.Is(unix.Kill(owner, 0), unix.ESRCH)
}

// What the names of directories start with, before their owner's process number.
const (
	productPrefix = "uplink-product-"
	diskPrefix    = "uplink-disk-"
	vmPrefix      = "uplink-vm-"
)

// ownDir makes a directory of this process, for the purpose that prefix stands for.
func ownDir(prefix string) (string, error) {
	return os.MkdirTemp("", fmt.Sprintf("%s%d-", prefix, os.Getpid()))
}

// removeStaleDirs removes the directories whose owner has ended.
func removeStaleDirs() error {
	var errs []error
	for _, prefix := range []string{productPrefix, diskPrefix, vmPrefix} {
		dirs, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*-*"))
		errs = append(errs, err)
		for _, dir := range dirs {
			if stale(filepath.Base(dir), prefix) {
				errs = append(errs, os.RemoveAll(dir))
			}
		}
	}
	return errors.Join(errs...)
}
