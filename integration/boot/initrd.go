package boot

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// earlyModules are the modules that mounting the disk needs. udev loads all others from there, as
// on a real host.
var earlyModules = []string{"virtio_blk", "squashfs", "overlay"}

// initScript mounts the disk, with a tmpfs over it where the machine may write
// (overlayWord), and starts systemd.
const initScript = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
while read -r m; do $b insmod "/modules/$m"; done < /modules/order
for try in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vda ] && break; $b sleep 0.2; done
if $b grep -qw ` + overlayWord + ` /proc/cmdline; then
	$b mount -t squashfs -o ro /dev/vda /ro
	$b mount -t tmpfs tmpfs /rw
	$b mkdir /rw/upper /rw/work
	$b mount -t overlay -o lowerdir=/ro,upperdir=/rw/upper,workdir=/rw/work overlay /sysroot
else
	$b mount -t squashfs -o ro /dev/vda /sysroot
fi
$b umount /proc
$b mount --move /dev /sysroot/dev
exec $b switch_root /sysroot /sbin/init
`

const overlayWord = "lab.overlay"

// makeInitrd returns an archive of busybox and a few modules.
func makeInitrd(ctx context.Context, root, version string) ([]byte, error) {
	busybox := filepath.Join(root, "usr/bin/busybox")
	if _, err := os.Stat(busybox); err != nil {
		busybox = filepath.Join(root, "bin/busybox")
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, "usr/lib/modules", version)
	if _, err := os.Stat(dir); err != nil {
		dir = filepath.Join(root, "lib/modules", version)
	}
	files, err := modules(dir, earlyModules)
	if err != nil {
		return nil, err
	}

	var a cpio
	for _, d := range []string{"bin", "dev", "proc", "modules", "ro", "rw", "sysroot"} {
		a.add(d, 0o040755, nil)
	}
	a.add("bin/busybox", 0o100755, program)
	a.add("init", 0o100755, []byte(initScript))
	var order strings.Builder
	for _, f := range files {
		data, err := decompress(ctx, busybox, filepath.Join(dir, f))
		if err != nil {
			return nil, err
		}
		name, _, _ := strings.Cut(path.Base(f), ".")
		fmt.Fprintln(&order, name)
		a.add("modules/"+name, 0o100644, data)
	}
	a.add("modules/order", 0o100644, []byte(order.String()))
	return a.end(), nil
}

// modules returns the files of modules, by their names below dir, each after those that it needs.
// A module that is built into the kernel has none.
func modules(dir string, names []string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, err
	}
	needs, files := map[string][]string{}, map[string]string{}
	for line := range strings.Lines(string(data)) {
		file, list, _ := strings.Cut(strings.TrimSpace(line), ":")
		needs[file] = strings.Fields(list)
		name, _, _ := strings.Cut(path.Base(file), ".")
		files[name] = file
	}
	var order []string
	for _, name := range names {
		file, ok := files[name]
		if !ok {
			continue
		}
		// The file lists the nearest ones first.
		for _, f := range slices.Backward(append([]string{file}, needs[file]...)) {
			if !slices.Contains(order, f) {
				order = append(order, f)
			}
		}
	}
	return order, nil
}

// decompress reads a module.
func decompress(ctx context.Context, busybox, file string) ([]byte, error) {
	if path.Ext(file) != ".xz" {
		return os.ReadFile(file)
	}
	data, err := exec.CommandContext(ctx, busybox, "xzcat", file).Output()
	if err != nil {
		return nil, fmt.Errorf("xzcat %s: %w", file, err)
	}
	return data, nil
}

// cpio is an archive in the format that the kernel unpacks
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type cpio struct {
	buf   bytes.Buffer
	files int
}

func (c *cpio) add(name string, mode int, data []byte) {
	c.files++
	fmt.Fprintf(&c.buf, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		c.files, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	c.buf.WriteString(name + "\x00")
	c.pad()
	c.buf.Write(data)
	c.pad()
}

func (c *cpio) pad() {
	for c.buf.Len()%4 != 0 {
		c.buf.WriteByte(0)
	}
}

func (c *cpio) end() []byte {
	c.add("TRAILER!!!", 0, nil)
	return c.buf.Bytes()
}
