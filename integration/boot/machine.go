package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// Config says what a machine is. Root and Lab are needed.
type Config struct {
	// Root is what the machine boots from. It is prepared if it is not yet.
	Root Root

	// Lab is the network, whose Host has the machine's cards. It must be closed
	// after the machine.
	Lab *lab.Lab

	// Product is installed, if there is one.
	Product *Product

	// Tree and then Files are put into the root file system before the first boot;
	// Files by path. Such a tree on disk is os.DirFS(dir).
	Tree  fs.FS
	Files map[string]File

	// Enable lists the units to enable, as `systemctl enable` of that systemd does, with
	// everything that their [Install] sections name.
	Enable []string

	// CommandLine is given to PID 1, whose own arguments are the kernel command line
	// of a container.
	CommandLine []string

	// Credentials are passed to PID 1 by name.
	Credentials map[string]string

	// ReadOnly makes the root file system read-only except for the directories in Tmpfs, which
	// are empty, such as /var.
	ReadOnly bool
	Tmpfs    []string
}

// Machine is a container with its own systemd as PID 1. Its methods must not be called at the
// same time, except those that only run something inside.
type Machine struct {
	config  Config
	name    string
	thread  *thread
	cgroups *os.Root
	boots   int

	mu      sync.Mutex // guards what Reboot changes
	current *running
}

// machineCount makes the names of one process's machines unique.
var machineCount atomic.Int64

// Start makes a machine and boots it, in the lab's host as it is, except that the loopback link
// is down as when a kernel starts. It returns once PID 1 runs, not once the machine is up: see
// [Machine.WaitBooted]. ctx bounds only the start. On error nothing is left of it.
func Start(ctx context.Context, c Config) (*Machine, error) {
	m := &Machine{config: c, name: fmt.Sprintf("%s%d-%d", cgroupPrefix, os.Getpid(), machineCount.Add(1))}
	if err := m.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start a machine with %s: %w", c.Root.Suite, err), m.Close())
	}
	return m, nil
}

func (m *Machine) start(ctx context.Context) error {
	lower, err := Prepare(ctx, m.config.Root)
	if err != nil {
		return err
	}
	if m.cgroups, err = openCgroups(); err != nil {
		return err
	}
	m.thread = newThread(m.config.Lab.Host)
	root, err := m.makeRoot(ctx, lower)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := loopbackDown(ctx, m.config.Lab.Host); err != nil {
		return err
	}
	return m.boot(ctx)
}

// makeRoot mounts a root file system over lower in the machine's thread, with everything that the
// machine adds to it.
func (m *Machine) makeRoot(ctx context.Context, lower string) (root *os.Root, err error) {
	err = m.thread.do(func() (err error) {
		root, err = mountRoot(lower)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := m.install(ctx, root, lower); err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

// install puts everything into the root that the machine adds to it.
func (m *Machine) install(ctx context.Context, root *os.Root, lower string) error {
	base := map[string]File{
		// Without this file networkd cannot make client identifiers, and systemd takes the boot
		// for the first one.
		"/etc/machine-id": {Data: machineID, Mode: 0o444},
		"/etc/hostname":   Text(hostname + "\n"),
		"/etc/hosts":      Text("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 " + hostname + "\n"),
	}
	write := func(files map[string]File) error {
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if err := files[name].write(root, name); err != nil {
				return fmt.Errorf("write %s: %w", name, err)
			}
		}
		return nil
	}
	if err := write(base); err != nil {
		return err
	}
	if p := m.config.Product; p != nil {
		tree, err := p.Tree(lower)
		if err != nil {
			return err
		}
		if err := copyTree(root, os.DirFS(tree)); err != nil {
			return err
		}
	}
	if m.config.Tree != nil {
		if err := copyTree(root, m.config.Tree); err != nil {
			return err
		}
	}
	if err := write(m.config.Files); err != nil {
		return err
	}
	if len(m.config.Enable) == 0 {
		return nil
	}
	return m.thread.do(func() error { return enable(ctx, m.config.Enable) })
}

const (
	machineID = "75706c696e6b2d67656e657261746f72\n"
	hostname  = "machine"
)

// boot starts PID 1.
func (m *Machine) boot(ctx context.Context) error {
	// Each boot has its own group, because nspawn leaves some behind.
	m.boots++
	group := fmt.Sprintf("%s-%d", m.name, m.boots)
	var r *running
	err := m.thread.do(func() (err error) {
		r, err = spawn(m.cgroups, group, m.name, m.config)
		return err
	})
	if err != nil {
		return errors.Join(err, removeCgroup(m.cgroups, group))
	}
	m.mu.Lock()
	m.current = r
	m.mu.Unlock()
	return r.waitInit(ctx)
}

// now returns the current boot.
func (m *Machine) now() *running {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current
}

// Reboot makes the machine shut itself down and boots it again. As after a real reboot the root
// file system is as it was left, /run is empty, and the cards are bare: down, without addresses,
// routes or rules. Kernel parameters are those of the lab's host, and stay.
func (m *Machine) Reboot(ctx context.Context) error {
	r := m.now()
	if err := m.leave(ctx, r, "reboot", exitReboot); err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	if err := bare(ctx, m.config.Lab.Host); err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	return m.boot(ctx)
}

// PowerOff makes the machine shut itself down. What it has set up in the kernel's network stays
// in the lab's host, where it can be looked at.
func (m *Machine) PowerOff(ctx context.Context) error {
	if err := m.leave(ctx, m.now(), "poweroff", exitPowerOff); err != nil {
		return fmt.Errorf("power off: %w", err)
	}
	return nil
}

// leave asks PID 1 to end, and waits until everything is gone.
func (m *Machine) leave(ctx context.Context, r *running, verb string, status int) error {
	_, runErr := m.Run(ctx, "systemctl", verb)
	select {
	case <-r.done:
	case <-ctx.Done():
		return errors.Join(runErr, fmt.Errorf("%w; its console:\n%s", ctx.Err(), r.console.String()))
	}
	// It is no error that systemctl was cut off, but one if the machine ended in another way.
	if code := r.cmd.ProcessState.ExitCode(); code != status {
		return errors.Join(runErr, fmt.Errorf("exit status %d, want %d; its console:\n%s", code, status, r.console.String()))
	}
	return r.remove()
}

// Close ends the machine at once, as if the plug were pulled, and removes all of it.
// It may be called more than once.
func (m *Machine) Close() error {
	if m.cgroups == nil {
		return nil
	}
	var err error
	if r := m.now(); r != nil {
		err = r.remove()
	}
	if m.thread != nil {
		m.thread.end()
	}
	err = errors.Join(err, m.cgroups.Close())
	m.cgroups = nil
	return err
}
