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

// Progress is how far networkd has come with a link.
type Progress int

// The stages of networkd's work on a link.
const (
	NotNetworkds Progress = iota // it does not run, or does not manage what is asked about
	Undecided                    // it has yet to look at the link
	NotYet                       // it configures the link
	Done                         // it has configured the link, or given it up
)

// Busy says whether networkd still has work to do.
func (p Progress) Busy() bool { return p == Undecided || p == NotYet }

// LinkProgress returns how far the systemd-networkd in this network namespace has come
// with the link of an index. It goes by the link's state file and, because that file
// outlives networkd, by whether the process exists. It looks for the process only once,
// when that first matters.
//
// For a link with PolicyOnly the question is about our policy: it is networkd's job
// where the .network file that networkd uses has our drop-in. The zero Link stands for
// any link, whoever manages it. Loopback stands for what belongs to
// no link.
func LinkProgress(root rootfs.Root) func(index int, l fib.Link) Progress {
	runs := sync.OnceValue(NetworkdRuns)
	return func(index int, l fib.Link) Progress {
		state := linkState(root, index, "ADMIN_STATE")
		if state == "" || state == "unmanaged" || state == "linger" || !runs() {
			return NotNetworkds
		}
		file := linkState(root, index, "NETWORK_FILE")
		switch {
		case file != "" && l.PolicyOnly && !extended(root, path.Base(file), l.Name):
			return NotNetworkds
		case state == "configured" || state == "failed":
			return Done
		case file == "":
			return Undecided
		}
		return NotYet
	}
}

// Loopback is the link in whose file stands what belongs to no link, see LinkProgress. No uplink
// has this name.
var Loopback = fib.Link{Name: "lo", Match: fib.Match{Name: "lo"}, PolicyOnly: true}

// LoopbackIndex is that of lo in each network namespace (LOOPBACK_IFINDEX in include/net/flow.h).
const LoopbackIndex = 1

// extended says whether a .network file has our policy for a link: as a drop-in, or, as no
// uplink's has, because it is ours.
func extended(root rootfs.Root, file, link string) bool {
	return link == Loopback.Name && file == filePrefix+link+".network" ||
		root.Exists(path.Join(networkDir, file+".d", filePrefix+link+".conf"))
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

// networkdInvocation is a link that systemd keeps while networkd's unit is not inactive
// (unit_export_invocation_id(), since 236; src/core/unit.c).
const networkdInvocation = "/run/systemd/units/invocation:systemd-networkd.service"

// NetworkdRuns says whether a systemd-networkd runs in this network namespace. It looks for
// the process, whose name the kernel cuts to 15 characters. ProtectProc= hides other
// processes from our services; these are in the same namespace as systemd, and go by what
// it says of networkd's unit.
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
		// Only a process that may trace networkd (CAP_SYS_PTRACE) learns which
		// namespace it is in; if we may not, it may well be ours. A process that is
		// about to end has no namespace.
		if ns, err := os.Readlink("/proc/" + p.Name() + "/ns/net"); errors.Is(err, fs.ErrPermission) || err == nil && ns == self {
			return true
		}
	}
	return false
}
