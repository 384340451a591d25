package rtnl

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply"
)

// Hardware is an apply.Hardware that asks the running host.
type Hardware struct{}

// Driver asks the driver itself (ETHTOOL_GDRVINFO), which is where udev gets ID_NET_DRIVER. A
// socket of any family will do (sock_do_ioctl in net/socket.c), and the services may open a
// netlink one.
func (Hardware) Driver(l apply.Link) string {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, l.Name)
	if err != nil {
		return ""
	}
	return unix.ByteSliceToString(info.Driver[:])
}

// Sysctl reads a setting of a link, or of "all".
func (Hardware) Sysctl(family, link, name string) string {
	data, err := os.ReadFile("/proc/sys/net/" + family + "/conf/" + link + "/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// Path reads udev's database, which knows where a device sits.
func (Hardware) Path(l apply.Link) string {
	data, err := os.ReadFile(fmt.Sprintf("/run/udev/data/n%d", l.Index))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "E:ID_PATH="); ok {
			return path
		}
	}
	return ""
}
