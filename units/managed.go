package units

import (
	"os"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// ManagedByNetworkd says whether a systemd-networkd that runs in this network
// namespace manages the link of that index: its state file says so, and, because that
// file outlives it, the process is there.
func ManagedByNetworkd(root rootfs.Root, index int) bool {
	return ConfiguredByNetworkd(root, index) != NotNetworkds
}

// Progress is how far networkd is with a link.
type Progress int

// What networkd makes of a link.
const (
	NotNetworkds Progress = iota // it does not run, or has nothing to do with the link
	NotYet                       // it has yet to look at the link, or configures it
	Done                         // it has configured the link, or given it up
)

// ConfiguredByNetworkd says how far a systemd-networkd that runs in this network
// namespace is with the link of that index.
func ConfiguredByNetworkd(root rootfs.Root, index int) Progress {
	return progress(root, index, NetworkdRuns)
}

// ManagedLinks is ManagedByNetworkd for who asks of many links: it looks for the process
// once.
func ManagedLinks(root rootfs.Root) func(index int) bool {
	runs := sync.OnceValue(NetworkdRuns)
	return func(index int) bool { return progress(root, index, runs) != NotNetworkds }
}

func progress(root rootfs.Root, index int, runs func() bool) Progress {
	switch state := linkState(root, index, "ADMIN_STATE"); {
	case state == "" || state == "unmanaged" || state == "linger" || !runs():
		return NotNetworkds
	case state == "configured" || state == "failed":
		return Done
	}
	return NotYet
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

// NetworkdRuns says whether a systemd-networkd runs in this network namespace. It looks
// for the process; the kernel cuts its name to 15 characters.
func NetworkdRuns() bool {
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
