package units

import (
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// ManagedByNetworkd says whether a systemd-networkd that runs in this network
// namespace manages the link of that index: its state file says so
// (/run/systemd/netif/links, sd-network.h), and, because that file outlives it, the
// process is there.
func ManagedByNetworkd(root rootfs.Root, index int) bool {
	data, err := root.ReadFile(path.Join("/run/systemd/netif/links", strconv.Itoa(index)), maxUnitSize)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if state, ok := strings.CutPrefix(strings.TrimSpace(line), "ADMIN_STATE="); ok {
			return state != "unmanaged" && state != "linger" && networkdRuns()
		}
	}
	return false
}

// networkdRuns looks for the process; the kernel cuts its name to 15 characters.
func networkdRuns() bool {
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
		// one that does not tell may well be ours.
		if ns, err := os.Readlink("/proc/" + p.Name() + "/ns/net"); err != nil || ns == self {
			return true
		}
	}
	return false
}
