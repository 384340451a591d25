package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// thread is an operating system thread in the network of a lab's host. It has its own view of the
// file system, in which a machine's root is mounted: the mounts are gone with the thread and the
// processes that it has started.
type thread struct {
	tasks chan func()
	ended chan struct{}
	err   error // from entering the namespace; valid after ended
}

func newThread(n *lab.Namespace) *thread {
	t := &thread{tasks: make(chan func()), ended: make(chan struct{})}
	go func() {
		defer close(t.ended)
		t.err = n.Do(func() error {
			for f := range t.tasks {
				f()
			}
			return nil
		})
	}()
	return t
}

// do runs f on the thread.
func (t *thread) do(f func() error) error {
	done := make(chan error, 1)
	select {
	case t.tasks <- func() { done <- f() }:
		return <-done
	case <-t.ended:
		return errors.Join(t.err, errors.New("the machine is closed"))
	}
}

// end ends the thread.
func (t *thread) end() {
	select {
	case <-t.ended:
	default:
		close(t.tasks)
		<-t.ended
	}
}

// Where the thread sees the parts of the machine.
const (
	scratchDir = "/run"
	rootDir    = scratchDir + "/machine"
)

// mountRoot gives the calling thread its own view of the file system, with a tmpfs over lower as
// the machine's root. A tmpfs hides this computer's /run: nspawn would leave its own files there,
// and look for a systemd to register with.
func mountRoot(lower string) (*os.Root, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("unshare mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	// By number: the tmpfs may hide the name, and the name may contain a comma.
	dir, err := os.Open(lower)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if err := unix.Mount("tmpfs", scratchDir, "tmpfs", 0, "mode=755"); err != nil {
		return nil, fmt.Errorf("mount tmpfs: %w", err)
	}
	for _, d := range []string{rootDir, scratchDir + "/upper", scratchDir + "/work"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
	}
	layers := fmt.Sprintf("lowerdir=/proc/self/fd/%d,upperdir=%s/upper,workdir=%s/work", dir.Fd(), scratchDir, scratchDir)
	if err := unix.Mount("overlay", rootDir, "overlay", 0, layers); err != nil {
		return nil, fmt.Errorf("mount overlay: %w", err)
	}
	// Only version 2: the newest systemd boots with nothing else.
	if err := unix.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""); err != nil {
		return nil, fmt.Errorf("mount cgroup2: %w", err)
	}
	return os.OpenRoot(rootDir)
}

// searchPath is the search path of a Debian system.
const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// enable enables units in the root that the calling thread sees.
func enable(ctx context.Context, units []string) error {
	cmd := exec.CommandContext(ctx, "/bin/systemctl", append([]string{"enable"}, units...)...)
	cmd.SysProcAttr = &unix.SysProcAttr{Chroot: rootDir}
	cmd.Dir = "/"
	cmd.Env = []string{searchPath, "SYSTEMD_OFFLINE=1"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("systemctl enable: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// Exit codes of nspawn when its container has ended itself.
const (
	exitPowerOff = 0
	exitReboot   = 133
)

// running is one boot of a machine.
type running struct {
	cmd     *exec.Cmd
	console lab.Buffer
	cgroups *os.Root
	group   string
	done    chan struct{} // closed when nspawn has ended
	pid     int           // of PID 1, as seen from outside
}

// spawn starts nspawn, on the thread that sees the root.
func spawn(cgroups *os.Root, group, name string, c Config) (*running, error) {
	if err := cgroups.Mkdir(group, 0o755); err != nil {
		return nil, err
	}
	dir, err := cgroups.Open(group)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	args := []string{
		// nspawn does not kill its container when it is killed. The kernel does, if nspawn is the
		// first process of a process namespace.
		"--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--", "systemd-nspawn",
		"--quiet", "--boot", "--directory=" + rootDir, "--machine=" + name, "--hostname=" + hostname,
		"--register=no", "--keep-unit", "--link-journal=no", "--resolv-conf=off", "--timezone=off",
		"--console=read-only", "--capability=CAP_NET_ADMIN",
	}
	if c.ReadOnly {
		args = append(args, "--read-only")
	}
	for _, dir := range c.Tmpfs {
		args = append(args, "--tmpfs="+dir)
	}
	for _, id := range slices.Sorted(maps.Keys(c.Credentials)) {
		args = append(args, "--set-credential="+id+":"+c.Credentials[id])
	}
	args = append(append(args, "--"), c.CommandLine...)

	r := &running{cmd: exec.Command("unshare", args...), cgroups: cgroups, group: group, done: make(chan struct{})}
	r.cmd.Env = []string{searchPath, "LANG=C",
		// Otherwise no sysctl of the network could be set inside.
		"SYSTEMD_NSPAWN_API_VFS_WRITABLE=network"}
	r.cmd.Dir = "/"
	r.cmd.Stdout, r.cmd.Stderr = &r.console, &r.console
	r.cmd.WaitDelay = time.Second
	r.cmd.SysProcAttr = &unix.SysProcAttr{
		UseCgroupFD: true, CgroupFD: int(dir.Fd()),
		// The thread ends when this process does, in whatever way.
		Pdeathsig: unix.SIGKILL,
	}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		// ProcessState says how it ended.
		_ = r.cmd.Wait()
		close(r.done)
	}()
	return r, nil
}

// waitInit waits until there is a PID 1.
func (r *running) waitInit(ctx context.Context) error {
	var fatal error
	err := lab.Poll(ctx, func() (bool, string) {
		select {
		case <-r.done:
			fatal = r.failure("it ended")
			return true, ""
		default:
		}
		pids, err := processes(r.cgroups, r.group)
		if err != nil {
			return false, err.Error()
		}
		for _, pid := range pids {
			if isInit(pid) {
				r.pid = pid
				return true, ""
			}
		}
		return false, "there is no PID 1 yet"
	})
	if fatal != nil {
		return fatal
	}
	if err != nil {
		return r.failure(err.Error())
	}
	return nil
}

// failure is an error with the console.
func (r *running) failure(what string) error {
	return fmt.Errorf("%s; its console:\n%s", what, r.console.String())
}

// isInit says whether a process is the first one in a container of ours, whose namespace is below
// nspawn's, which is below this one.
func isInit(pid int) bool {
	inside, err := pidsInside(strconv.Itoa(pid))
	if err != nil {
		return false
	}
	ours, err := pidsInside("self")
	return err == nil && len(inside) == len(ours)+2 && inside[len(inside)-1] == "1"
}

// pidsInside returns a process's number in each of its namespaces.
func pidsInside(pid string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		if list, ok := strings.CutPrefix(line, "NSpid:"); ok {
			return strings.Fields(list), nil
		}
	}
	return nil, errors.New("no NSpid")
}

// remove ends whatever still runs.
func (r *running) remove() error {
	err := removeCgroup(r.cgroups, r.group)
	<-r.done
	return err
}
