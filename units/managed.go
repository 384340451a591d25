package units

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// Progress is how far networkd is with a link.
type Progress int

// What networkd makes of a link.
const (
	NotNetworkds Progress = iota // it does not run, or has nothing to do with the link
	NotYet                       // it has yet to look at the link, or configures it
	Done                         // it has configured the link, or given it up
)

// LinkProgress returns how far a systemd-networkd that runs in this network namespace is
// with the link of an index: as its state file says, and, because that file outlives it,
// where the process is there. It is looked for once, when that first matters.
func LinkProgress(root rootfs.Root) func(index int) Progress {
	runs := sync.OnceValue(NetworkdRuns)
	return func(index int) Progress {
		switch state := linkState(root, index, "ADMIN_STATE"); {
		case state == "" || state == "unmanaged" || state == "linger" || !runs():
			return NotNetworkds
		case state == "configured" || state == "failed":
			return Done
		}
		return NotYet
	}
}

// linkState returns what networkd has written about a link (/run/systemd/netif/links,
// sd-network.h).
func linkState(root rootfs.Root, index int, key string) string {
	data, err := root.ReadFile(path.Join("/run/systemd/netif/links", strconv.Itoa(index)), maxUnitSize)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			return value
		}
	}
	return ""
}

// networkdInvocation is a link that systemd has while networkd's unit is not inactive
// (unit_export_invocation_id(), since 236; src/core/unit.c).
const networkdInvocation = "/run/systemd/units/invocation:systemd-networkd.service"

// NetworkdRuns says whether a systemd-networkd runs in this network namespace. It looks
// for the process; the kernel cuts its name to 15 characters. From our services the
// processes of others are hidden (ProtectProc=): they are in systemd's own namespace, and
// are told by systemd.
func NetworkdRuns() bool {
	if _, err := os.Lstat("/proc/1"); errors.Is(err, fs.ErrNotExist) {
		_, err := os.Lstat(networkdInvocation)
		return err == nil
	}
	self, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return false
	}
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	for _, p := range processes {
		if p.Name()[0] < '0' || p.Name()[0] > '9' {
			continue
		}
		comm, err := os.ReadFile("/proc/" + p.Name() + "/comm")
		if err != nil || string(comm) != "systemd-network\n" {
			continue
		}
		// Whose namespace it is in is only told to who may trace it (CAP_SYS_PTRACE);
		// one that does not tell may well be ours. One that is about to end has none.
		if ns, err := os.Readlink("/proc/" + p.Name() + "/ns/net"); errors.Is(err, fs.ErrPermission) || err == nil && ns == self {
			return true
		}
	}
	return false
}
