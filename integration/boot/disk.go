package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// Kernel has the packages that a [Root] needs to boot as a virtual machine.
var Kernel = []string{"linux-image-cloud-amd64", "busybox-static"}

// Disk is what virtual machines boot from: a root file system as a squashfs, which is
// never written to, with a kernel and an initial RAM disk that mounts it.
type Disk struct{ dir string }

// RequireVM is [Require] for virtual machines.
func RequireVM() error {
	if err := Require(); err != nil {
		return err
	}
	for _, tool := range []string{qemu, "mksquashfs"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w: %w", lab.ErrUnavailable, err)
		}
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("%w: %w", lab.ErrUnavailable, err)
	}
	return nil
}

// MakeDisk puts a machine's root file system on a disk. Of c it uses Root, which must have the
// packages of [Kernel], Product, Tree, Files and Enable.
func MakeDisk(ctx context.Context, c Config) (*Disk, error) {
	dir, err := ownDir(diskPrefix)
	if err != nil {
		return nil, err
	}
	d := &Disk{dir}
	if err := d.make(ctx, c); err != nil {
		return nil, errors.Join(fmt.Errorf("make a disk of %s: %w", c.Root.Suite, err), d.Close())
	}
	return d, nil
}

// Close removes the disk. No machine may use it any more.
func (d *Disk) Close() error { return os.RemoveAll(d.dir) }

func (d *Disk) image() string  { return filepath.Join(d.dir, "root.squashfs") }
func (d *Disk) kernel() string { return filepath.Join(d.dir, "vmlinuz") }
func (d *Disk) initrd() string { return filepath.Join(d.dir, "initrd") }

func (d *Disk) make(ctx context.Context, c Config) (err error) {
	lower, err := Prepare(ctx, c.Root)
	if err != nil {
		return err
	}
	kernels, err := filepath.Glob(filepath.Join(lower, "boot", "vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return fmt.Errorf("one kernel is wanted in the root, not %q", kernels)
	}
	version := strings.TrimPrefix(filepath.Base(kernels[0]), "vmlinuz-")
	if err := os.Symlink(kernels[0], d.kernel()); err != nil {
		return err
	}
	initrd, err := makeInitrd(ctx, lower, version)
	if err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	if err := os.WriteFile(d.initrd(), initrd, 0o644); err != nil {
		return err
	}

	// The network does not matter, but a thread needs one.
	nowhere, err := lab.New(lab.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, nowhere.Close()) }()
	m := &Machine{config: c, thread: newThread(nowhere.Host)}
	defer m.thread.end()
	root, err := m.makeRoot(ctx, lower)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := installAgent(root); err != nil {
		return err
	}
	return m.thread.do(func() error {
		// An emulated processor takes long to decompress.
		cmd := exec.CommandContext(ctx, "mksquashfs", rootDir, d.image(), "-noappend", "-quiet", "-no-progress",
			"-noI", "-noD", "-noF", "-noX", "-e", "boot")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("mksquashfs: %w: %s", err, bytes.TrimSpace(out))
		}
		return nil
	})
}
