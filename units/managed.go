package units

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// Progress is how far networkd is with a link.
type Progress int

// What networkd makes of a link.
const (
	NotNetworkds Progress = iota // it does not run, or has nothing to do with what is asked about
	Undecided                    // it has yet to look at the link
	NotYet                       // it configures the link
	Done                         // it has configured the link, or given it up
)

// Busy says whether networkd is still to do something.
func (p Progress) Busy() bool { return p == Undecided || p == NotYet }

// LinkProgress returns how far a systemd-networkd that runs in this network namespace is
// with the link of an index: as its state file says, and, because that file outlives it,
// where the process is there. It is looked for once, when that first matters.
//
// Of a link of a State of which only the policy is ours, that is what is asked about: it is
// networkd's where the .network file that networkd uses has our drop-in. The zero Link stands
// for any link, whosever it is.
func LinkProgress(root rootfs.Root) func(index int, l fib.Link) Progress {
	runs := sync.OnceValue(NetworkdRuns)
	return func(index int, l fib.Link) Progress {
		state := linkState(root, index, "ADMIN_STATE")
		if state == "" || state == "unmanaged" || state == "linger" || !runs() {
			return NotNetworkds
		}
		file := linkState(root, index, "NETWORK_FILE")
		switch {
		case file != "" && l.PolicyOnly && !root.Exists(path.Join(networkDir, path.Base(file)+".d", filePrefix+l.Name+".conf")):
			return NotNetworkds
		case state == "configured" || state == "failed":
			return Done
		case file == "":
			return Undecided
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
