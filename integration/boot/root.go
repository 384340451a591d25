package boot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Suite is a suite of Debian or Ubuntu, and with it a version of systemd.
type Suite string

// The suites, from the oldest systemd that the product is for to the newest.
const (
	Bullseye Suite = "bullseye" // /bin and /lib are not merged with /usr
	Jammy    Suite = "jammy"    // Ubuntu 22.04
	Bookworm Suite = "bookworm"
	Noble    Suite = "noble" // Ubuntu 24.04
	Trixie   Suite = "trixie"
	Resolute Suite = "resolute" // Ubuntu 26.04
	Sid      Suite = "sid"
)

// Debian's suites and Ubuntu's, the oldest first.
var (
	Debian = []Suite{Bullseye, Bookworm, Trixie, Sid}
	Ubuntu = []Suite{Jammy, Noble, Resolute}
)

// Systemd returns the version of the suite's systemd; of Sid's, which changes, one that is
// newer than any.
func (s Suite) Systemd() int {
	versions := map[Suite]int{Bullseye: 247, Jammy: 249, Bookworm: 252, Noble: 255, Trixie: 257, Resolute: 259}
	if v, ok := versions[s]; ok {
		return v
	}
	return math.MaxInt
}

// Root says what a root file system is made of.
type Root struct {
	Suite Suite
	// Packages are installed beside the base: systemd with networkd, udev, dbus,
	// iproute2, ping.
	Packages []string
}

// basePackages make a system that boots. mount and kmod are not essential, and udev
// has the links' default files.
var basePackages = []string{"systemd", "systemd-sysv", "dbus", "udev", "mount", "kmod", "iproute2", "iputils-ping"}

// recipe is part of a root's name, so that a root that was made in another way is not reused.
// Count it up when changing what build does.
const recipe = "3"

// name is the root's name in the cache.
func (r Root) name() string {
	packages := slices.Compact(slices.Sorted(slices.Values(slices.Concat(basePackages, r.Packages))))
	sum := sha256.Sum256([]byte(recipe + "\n" + strings.Join(packages, "\n")))
	return string(r.Suite) + "-" + hex.EncodeToString(sum[:6])
}

// Prepare returns a directory with the root, which nobody must write to. If there is none yet, it
// makes one from the Debian mirror that this computer is set up with, in about 30 seconds, and
// keeps it for ever, below $UPLINK_BOOT_CACHE or else the user's cache directory: delete that to
// get newer packages. Several processes may call it at once.
func Prepare(ctx context.Context, r Root) (string, error) {
	dir, err := cacheDir()
	if err != nil {
		return "", err
	}
	root := filepath.Join(dir, r.name())
	unlock, err := lock(ctx, root+".lock")
	if err != nil {
		return "", fmt.Errorf("root %s: %w", r.name(), err)
	}
	defer unlock()
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	if err := r.prepare(ctx, root); err != nil {
		return "", fmt.Errorf("root %s: %w", r.name(), err)
	}
	return root, nil
}

// prepare makes the root under another name and renames it when it is complete, so that a root
// that is there is always complete.
func (r Root) prepare(ctx context.Context, root string) error {
	half := root + ".half"
	if err := os.RemoveAll(half); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(half) }()
	if err := r.build(ctx, half); err != nil {
		return err
	}
	// A container gets a /dev of its own.
	if err := emptyDir(filepath.Join(half, "dev")); err != nil {
		return err
	}
	return os.Rename(half, root)
}

// emptyDir removes all that is in a directory.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// build makes the root in a directory that is not there yet.
func (r Root) build(ctx context.Context, dir string) error {
	key := dir + ".asc"
	defer func() { _ = os.Remove(key) }()
	sources, err := r.Suite.sources(ctx, key)
	if err != nil {
		return err
	}
	// What it mounts in the directory must be gone before anybody removes that, even if it is
	// killed.
	return command(ctx, "unshare", append([]string{
		"--mount", "--", "mmdebstrap", "--mode=root", "--format=directory", "--variant=apt",
		"--include=" + strings.Join(slices.Concat(basePackages, r.Packages), ","),
		`--aptopt=APT::Install-Recommends "false"`,
		"--dpkgopt=force-unsafe-io",
		// An old suite is not signed again.
		`--aptopt=Acquire::Check-Valid-Until "false"`,
		"--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
		// Updates and maintenance would interfere, and no name can be resolved.
		`--customize-hook=rm -f "$1"/etc/systemd/system/timers.target.wants/* "$1/etc/resolv.conf"`,
		string(r.Suite), dir,
	}, sources...)...)
}

// cacheDir returns the directory for roots, which it makes if need be.
func cacheDir() (string, error) {
	dir := os.Getenv("UPLINK_BOOT_CACHE")
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("cache of roots: %w", err)
		}
		dir = filepath.Join(user, "uplink-generator", "roots")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("cache of roots: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("cache of roots: %w", err)
	}
	return dir, nil
}

// lock waits for a lock among processes. The lock ends with the process that holds it.
func lock(ctx context.Context, name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	locked := make(chan error, 1)
	go func() {
		for {
			if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
				locked <- err
				return
			}
		}
	}()
	select {
	case err := <-locked:
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
		}
		return func() { _ = f.Close() }, nil
	case <-ctx.Done():
		// Whenever the lock comes, nobody wants it any more.
		go func() { <-locked; _ = f.Close() }()
		return nil, fmt.Errorf("lock %s: %w", name, ctx.Err())
	}
}

// command runs a program. If it fails, the error has its last words.
func command(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		const most = 4 << 10
		out = bytes.TrimSpace(out)
		return fmt.Errorf("%s: %w:\n%s", name, err, out[max(0, len(out)-most):])
	}
	return nil
}
