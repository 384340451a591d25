package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupPrefix starts the name of every machine's control group.
const cgroupPrefix = "uplink-boot-"

// openCgroups opens the hierarchy of version 2. It mounts it again, where nobody else sees it: on
// some computers it is mounted in another place, beside version 1, and in some containers it is
// read-only.
func openCgroups() (*os.Root, error) {
	fail := func(err error) (*os.Root, error) { return nil, fmt.Errorf("mount cgroup2: %w", err) }
	context, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(context)
	if err := unix.FsconfigCreate(context); err != nil {
		return fail(err)
	}
	mount, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(mount)
	return os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", mount))
}

// processes returns the processes in a group and in those below it.
func processes(cgroups *os.Root, group string) (pids []int, err error) {
	err = fs.WalkDir(cgroups.FS(), group, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return ignoreGone(err)
		}
		data, err := cgroups.ReadFile(path.Join(name, "cgroup.procs"))
		for _, word := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return ignoreGone(err)
	})
	return pids, err
}

// ignoreGone drops errors about a group that is removed while it is read.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// removeCgroup kills everything in a group and removes it. A group that does not exist counts as
// removed.
func removeCgroup(cgroups *os.Root, group string) error {
	kill := func() error {
		f, err := cgroups.OpenFile(path.Join(group, "cgroup.kill"), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString("1")
		return errors.Join(err, f.Close())
	}
	if err := ignoreGone(kill()); err != nil {
		return fmt.Errorf("kill cgroup %s: %w", group, err)
	}
	// A group can be removed once the last process is gone, which takes the kernel a
	// moment.
	const limit = 10 * time.Second
	var err error
	for start := time.Now(); time.Since(start) < limit; time.Sleep(5 * time.Millisecond) {
		if err = removeGroups(cgroups, group); !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("remove cgroup %s: %w", group, err)
	}
	return nil
}

// removeGroups removes a group after those below it. Its files cannot be removed, and need not
// be.
func removeGroups(cgroups *os.Root, group string) error {
	var groups []string
	err := fs.WalkDir(cgroups.FS(), group, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			groups = append(groups, name)
		}
		return ignoreGone(err)
	})
	for _, name := range slices.Backward(groups) {
		err = errors.Join(err, ignoreGone(cgroups.Remove(name)))
	}
	return err
}

// removeStaleCgroups removes the groups whose owner has ended.
func removeStaleCgroups() error {
	cgroups, err := openCgroups()
	if err != nil {
		return err
	}
	defer cgroups.Close()
	groups, err := fs.ReadDir(cgroups.FS(), ".")
	if err != nil {
		return err
	}
	var errs []error
	for _, g := range groups {
		if !stale(g.Name(), cgroupPrefix) {
			continue
		}
		errs = append(errs, removeCgroup(cgroups, g.Name()))
	}
	return errors.Join(errs...)
}
