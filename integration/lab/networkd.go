package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// NetworkdOptions says what a networkd of a lab reads. Its /run is empty but
// for the given files; of the machine's /etc/systemd and
// /usr/local/lib/systemd it sees nothing.
type NetworkdOptions struct {
	// Tree holds files for etc, run, usr and so on, laid over the machine's.
	// Such a tree on disk is os.DirFS(dir).
	Tree fs.FS

	// Files has the contents of more files by path, with mode 0644.
	Files map[string]string

	// LogLevel is systemd's name of a level; info if empty.
	LogLevel string

	// Bus starts a message bus of networkd's own, which networkctl needs for
	// all but the simplest requests, and so does [Networkd.Reload].
	Bus bool

	// Root is the root file system of another distribution to run networkd
	// from; that of the machine if empty. It is not written to.
	Root string
}

// Networkd is a systemd-networkd that runs in a [Namespace] and in a file
// system of its own. It runs until Stop, or until the lab is closed.
type Networkd struct {
	ns     *Namespace
	binary string   // inside its root
	env    []string // of the daemon
	daemon *process
	bus    *process
}

// StartNetworkd starts systemd-networkd in the namespace. It returns once the
// process runs, not once the links are configured: see
// [Networkd.WaitConfigured]. ctx bounds only the start.
func (n *Namespace) StartNetworkd(ctx context.Context, opts NetworkdOptions) (*Networkd, error) {
	d, err := n.startNetworkd(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("start networkd in %s: %w", n.name, errors.Join(err, d.Stop()))
	}
	n.adopt(d)
	return d, nil
}

func (n *Namespace) startNetworkd(ctx context.Context, opts NetworkdOptions) (*Networkd, error) {
	d := &Networkd{ns: n}
	root := opts.Root
	if root == "" {
		root = "/"
	}
	if opts.LogLevel == "" {
		opts.LogLevel = "info"
	}
	files, err := collect(opts.Tree, opts.Files)
	if err != nil {
		return d, err
	}
	// Ubuntu's networkd waits for udev unless it knows that it runs in a container.
	files = append(files, file{path: "run/host/container-manager", mode: 0o444, data: []byte("lab\n")})
	d.env = networkdEnv(opts.LogLevel)
	if d.binary, err = findNetworkd(root); err != nil {
		return d, err
	}
	// A process takes over the namespaces of the thread that starts it, so
	// this thread prepares all of them and no program has to run in between.
	return d, n.Do(func() error {
		if err := privateMounts(root, files); err != nil {
			return err
		}
		if opts.Bus {
			// networkd would try again for a bus only after seconds.
			if d.bus, err = startBus(ctx, root); err != nil {
				return err
			}
		}
		daemon, err := startProcess(root, d.env, d.binary)
		d.daemon = daemon
		return err
	})
}

// networkdEnv makes networkd log to its standard error.
func networkdEnv(level string) []string {
	return []string{
		"SYSTEMD_LOG_LEVEL=" + level,
		// Each line starts with its priority, as in "<6>".
		"SYSTEMD_LOG_TARGET=console-prefixed",
		"SYSTEMD_LOG_COLOR=0",
	}
}

// findNetworkd returns the path of systemd-networkd inside a root.
func findNetworkd(root string) (string, error) {
	for _, dir := range []string{"/usr/lib/systemd", "/lib/systemd"} {
		name := filepath.Join(dir, "systemd-networkd")
		if info, err := os.Stat(filepath.Join(root, name)); err == nil && info.Mode().IsRegular() {
			return name, nil
		}
	}
	return "", fmt.Errorf("no systemd-networkd in %s", root)
}

// Restart ends networkd, which leaves the links as they are, and starts it again in the same
// network and file system. It needs [NetworkdOptions.Bus], whose process keeps these meanwhile.
// The log begins anew.
func (d *Networkd) Restart(ctx context.Context) error {
	if err := d.daemon.stop(); err != nil {
		return err
	}
	daemon, err := startProcess("/", d.env, "nsenter",
		"--target="+strconv.Itoa(d.bus.cmd.Process.Pid), "--net", "--mount", "--root", "--wd", "--", d.binary)
	if err != nil {
		return err
	}
	d.daemon = daemon
	return d.waitName(ctx)
}

// Command returns a command that will run in networkd's network and file
// system. networkd must run when it starts.
func (d *Networkd) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	argv := append([]string{"--target=" + strconv.Itoa(d.PID()), "--net", "--mount", "--root", "--wd", "--", name}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", argv...)
	cmd.WaitDelay = time.Second
	return cmd
}

// Run runs a command as [Networkd.Command] and returns its standard output.
func (d *Networkd) Run(ctx context.Context, name string, args ...string) (string, error) {
	return output(d.Command(ctx, name, args...), append([]string{name}, args...))
}

// PID returns networkd's process number.
func (d *Networkd) PID() int { return d.daemon.cmd.Process.Pid }

// Root returns the directory through which the files that networkd sees can be
// reached from outside, as long as it runs.
func (d *Networkd) Root() string {
	return fmt.Sprintf("/proc/%d/root", d.PID())
}

// Write writes files, by path, into the file system that networkd sees. Only
// /run and the directories that the networkd was started with files for are
// private: anything else would be the machine's, and is refused.
func (d *Networkd) Write(files map[string]string) error {
	list, err := collect(nil, files)
	if err != nil {
		return err
	}
	for _, f := range list {
		if !strings.HasPrefix(f.path, "run/") && !strings.HasPrefix(f.path, "etc/") {
			return fmt.Errorf("%s: only /run and /etc can be written to while networkd runs", f.path)
		}
		if err := f.write(d.Root()); err != nil {
			return err
		}
	}
	return nil
}

// Remove removes files from /run or /etc of the file system that networkd sees.
func (d *Networkd) Remove(paths ...string) error {
	for _, p := range paths {
		p = filepath.Clean("/" + p)
		if !strings.HasPrefix(p, "/run/") && !strings.HasPrefix(p, "/etc/") {
			return fmt.Errorf("%s: only files in /run and /etc can be removed while networkd runs", p)
		}
		if err := os.Remove(filepath.Join(d.Root(), p)); err != nil {
			return err
		}
	}
	return nil
}

// Reload makes networkd read its files again. It needs [NetworkdOptions.Bus].
// networkd answers before the links are configured anew, while they still
// count as configured: poll for rules and routes afterwards.
func (d *Networkd) Reload(ctx context.Context) error {
	err := d.waitName(ctx)
	if err == nil {
		_, err = d.Run(ctx, "networkctl", "reload")
	}
	return err
}

// waitName waits until networkd has its name on the bus, which is some time after its start:
// until then the bus tries to start it, and cannot.
func (d *Networkd) waitName(ctx context.Context) error {
	return Poll(ctx, func() (bool, string) {
		const bus = "org.freedesktop.DBus"
		out, err := d.Run(ctx, "busctl", "call", bus, "/org/freedesktop/DBus", bus, "NameHasOwner", "s", "org.freedesktop.network1")
		return strings.Contains(out, "true"), fmt.Sprintf("it has no name on the bus: %s %v", out, err)
	})
}

// WaitConfigured waits until networkd says of every named link that it is
// configured. When a link has failed, networkd has ended or ctx is done, the
// error has the whole log.
func (d *Networkd) WaitConfigured(ctx context.Context, links ...string) error {
	var fatal error
	err := Poll(ctx, func() (bool, string) {
		var missing []string
		for _, link := range links {
			state, err := d.adminState(link)
			switch {
			case err != nil:
				missing = append(missing, err.Error())
			case state == "failed":
				fatal = fmt.Errorf("%s: failed", link)
			case state != "configured":
				missing = append(missing, fmt.Sprintf("%s is %s", link, state))
			}
		}
		if !d.daemon.running() {
			fatal = fmt.Errorf("networkd ended: %w", d.daemon.err)
		}
		return fatal != nil || len(missing) == 0, strings.Join(missing, ", ")
	})
	if fatal != nil {
		err = fatal
	}
	if err != nil {
		return fmt.Errorf("wait for networkd in %s: %w; its log:\n%s", d.ns.name, err, d.Log())
	}
	return nil
}

// adminState returns what networkd has written about a link.
func (d *Networkd) adminState(name string) (string, error) {
	link, err := d.ns.nl.LinkByName(name)
	if err != nil {
		var notFound netlink.LinkNotFoundError
		if errors.As(err, &notFound) {
			return "", fmt.Errorf("%s: no such link", name)
		}
		return "", fmt.Errorf("%s: %w", name, err)
	}
	file := filepath.Join(d.Root(), "run/systemd/netif/links", strconv.Itoa(link.Attrs().Index))
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return "not known to networkd yet", nil
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	for line := range strings.Lines(string(data)) {
		if state, ok := strings.CutPrefix(strings.TrimSpace(line), "ADMIN_STATE="); ok {
			return state, nil
		}
	}
	return "without a state", nil
}

// Log returns all that networkd has logged so far. A line starts with its
// priority, as in "<6>".
func (d *Networkd) Log() string { return d.daemon.log.String() }

// Warnings returns the log lines of level warning and worse, and those without
// a level, which did not come from networkd's own logging.
func (d *Networkd) Warnings() []string {
	var warnings []string
	for line := range strings.Lines(d.Log()) {
		line = strings.TrimSuffix(line, "\n")
		if level, ok := logLevel(line); !ok || level <= warningLevel {
			warnings = append(warnings, line)
		}
	}
	return warnings
}

// warningLevel is syslog's number for it; lower numbers are worse.
const warningLevel = 4

// logLevel reads the prefix of a log line, which has level and facility.
func logLevel(line string) (int, bool) {
	number, _, ok := strings.Cut(strings.TrimPrefix(line, "<"), ">")
	if !ok || !strings.HasPrefix(line, "<") {
		return 0, false
	}
	priority, err := strconv.Atoi(number)
	return priority & 7, err == nil
}

// Stop ends networkd, which leaves the links as they are, and its bus. It may
// be called more than once.
func (d *Networkd) Stop() error {
	err := errors.Join(d.daemon.stop(), d.bus.stop())
	d.ns.mu.Lock()
	defer d.ns.mu.Unlock()
	d.ns.daemons = slices.DeleteFunc(d.ns.daemons, func(other daemon) bool { return other == d })
	return err
}
