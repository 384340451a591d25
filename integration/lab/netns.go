package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// netnsDir is where iproute2 looks for named namespaces.
const netnsDir = "/run/netns"

// namePrefix starts the name of every namespace that a lab makes.
const namePrefix = "uplink-"

// Namespace is one network namespace of a [Lab]. Its methods may be called
// from several goroutines.
type Namespace struct {
	name   string
	handle netns.NsHandle
	nl     *netlink.Handle

	mu      sync.Mutex
	daemons []daemon
}

// daemon is something that runs in a namespace and must not outlive it.
type daemon interface{ Stop() error }

// adopt makes the namespace stop d when it is closed.
func (n *Namespace) adopt(d daemon) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.daemons = append(n.daemons, d)
}

// labCount makes the names of one process's labs unique.
var labCount atomic.Int64

// newNamespace makes a namespace with lo up.
func newNamespace(name string) (*Namespace, error) {
	if err := mountNames(); err != nil {
		return nil, fmt.Errorf("namespace %s: %w", name, err)
	}
	n := &Namespace{name: name, handle: netns.None()}
	err := onOwnThread(func() (err error) {
		n.handle, err = netns.NewNamed(name)
		return err
	})
	if err != nil {
		// What has the name is ours only if it did not exist before.
		if !errors.Is(err, os.ErrExist) {
			_ = removeName(name)
		}
		return nil, fmt.Errorf("namespace %s: %w", name, err)
	}
	if err := n.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("namespace %s: %w", name, err), n.close())
	}
	return n, nil
}

// mountNames makes the directory of the names a mount point of its own, once for the life
// of the machine, as the first `ip netns add` does: that copies the mounts which are
// there already, and the names of labs that run meanwhile could not be removed again.
var mountNames = sync.OnceValue(func() error {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return err
	}
	dir, err := os.Open(netnsDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil { // ip(8) takes this lock as well
		return fmt.Errorf("lock %s: %w", netnsDir, err)
	}
	if unix.Mount("", netnsDir, "", unix.MS_SHARED|unix.MS_REC, "") == nil {
		return nil // only a mount point can be made shared
	}
	if err := unix.Mount(netnsDir, netnsDir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s: %w", netnsDir, err)
	}
	return unix.Mount("", netnsDir, "", unix.MS_SHARED|unix.MS_REC, "")
})

func (n *Namespace) open() error {
	var err error
	if n.nl, err = netlink.NewHandleAt(n.handle, unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	return n.up("lo")
}

// up sets the link of that name up.
func (n *Namespace) up(name string) error {
	link, err := n.nl.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := n.nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("%s: set up: %w", name, err)
	}
	return nil
}

// close stops what runs inside and removes the namespace.
func (n *Namespace) close() error {
	n.mu.Lock()
	daemons := n.daemons
	n.daemons = nil
	n.mu.Unlock()

	var errs []error
	for _, d := range daemons {
		errs = append(errs, d.Stop())
	}
	if n.nl != nil {
		n.nl.Close()
	}
	if n.handle.IsOpen() {
		errs = append(errs, n.handle.Close())
	}
	errs = append(errs, removeName(n.name))
	return errors.Join(errs...)
}

// removeName takes away the name of a namespace. The kernel frees the
// namespace itself with its last user.
func removeName(name string) error {
	path := filepath.Join(netnsDir, name)
	// EINVAL: not a mount, so only the empty file that the mount would cover.
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Name returns the namespace's name, as `ip netns` shows it.
func (n *Namespace) Name() string { return n.name }

// Path returns the file that stands for the namespace.
func (n *Namespace) Path() string { return filepath.Join(netnsDir, n.name) }

// Do runs f inside the namespace, on an operating system thread of its own,
// and returns what f returns. Sockets that f opens stay in the namespace, and
// so do processes that f starts itself; goroutines that f starts do not. Since
// f runs on another goroutine than the caller, it must not end a test with
// t.Fatal.
func (n *Namespace) Do(f func() error) error {
	return onOwnThread(func() error {
		if err := netns.Set(n.handle); err != nil {
			return fmt.Errorf("enter %s: %w", n.name, err)
		}
		return f()
	})
}

var errNoReturn = errors.New("function inside the namespace did not return")

// onOwnThread runs f on a locked thread that ends with it, so that f may
// change the thread's namespaces without ever changing them back.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errNoReturn
		// Deferred, or a runtime.Goexit in f would leave the caller waiting.
		defer func() { done <- err }()

		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread never ends: it would hold the namespaces until
			// the process does, and show them in /proc/PID. While it is locked
			// here the scheduler has to take another one.
			err = onOwnThread(f)
			runtime.UnlockOSThread()
			return
		}
		err = f()
	}()
	return <-done
}

// Command returns a command that will run inside the namespace. Only the
// network is that of the namespace: files, /sys among them, are the machine's.
func (n *Namespace) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	argv := append([]string{"--net=" + n.Path(), "--", name}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", argv...)
	// A grandchild that holds the output open must not hold up Wait.
	cmd.WaitDelay = time.Second
	return cmd
}

// Run runs a command inside the namespace and returns its standard output.
// The error, if any, has the command line and what it wrote to standard error.
func (n *Namespace) Run(ctx context.Context, name string, args ...string) (string, error) {
	return output(n.Command(ctx, name, args...), append([]string{name}, args...))
}

// output runs cmd, which the error calls by the words in argv.
func output(cmd *exec.Cmd, argv []string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// Sysctl sets a kernel parameter of the namespace. The key is written with
// dots, or with slashes where a part of it, such as the name of a link, has a
// dot.
func (n *Namespace) Sysctl(key, value string) error {
	return n.sysctls(map[string]string{key: value})
}

func (n *Namespace) sysctls(values map[string]string) error {
	return n.Do(func() error {
		for key, value := range values {
			if !strings.Contains(key, "/") {
				key = strings.ReplaceAll(key, ".", "/")
			}
			// What /proc/sys/net shows depends on the thread that opens it.
			if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0); err != nil {
				return fmt.Errorf("sysctl: %w", err)
			}
		}
		return nil
	})
}

// RemoveStale removes namespaces, with the processes inside, of labs whose own
// process has ended without closing them, by a crash or a killed test run.
// Labs of processes that still run are left alone.
func RemoveStale(ctx context.Context) error {
	paths, err := filepath.Glob(filepath.Join(netnsDir, namePrefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range paths {
		name := filepath.Base(path)
		pid, _, _ := strings.Cut(strings.TrimPrefix(name, namePrefix), "-")
		owner, err := strconv.Atoi(pid)
		if err != nil || owner <= 0 || !errors.Is(unix.Kill(owner, 0), unix.ESRCH) {
			continue
		}
		out, err := output(exec.CommandContext(ctx, "ip", "netns", "pids", name), []string{"ip", "netns", "pids", name})
		if err != nil {
			// Another process may be clearing up as well.
			if _, statErr := os.Stat(path); !errors.Is(statErr, os.ErrNotExist) {
				errs = append(errs, err)
			}
			continue
		}
		for _, field := range strings.Fields(out) {
			if inside, err := strconv.Atoi(field); err == nil {
				_ = unix.Kill(inside, unix.SIGKILL)
			}
		}
		errs = append(errs, removeName(name))
	}
	return errors.Join(errs...)
}
