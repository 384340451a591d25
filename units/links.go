package units

import (
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// facts is what is known of a link: the values for each key of [Match]. A key that
// is missing is not known.
type facts map[string][]string

// links is what the running kernel and udev say of the links, where root is
// that of a running host.
type links struct {
	root  rootfs.Root
	names map[string]string   // name or alternative name → name
	more  map[string]moreOf   // by name
	byMAC map[string][]string // names; made when it is first needed
}

// moreOf is what sysfs does not say about a link.
type moreOf struct {
	alternative []string // names
	permanent   string   // hardware address; "" where the kernel does not tell
}

const sysClassNet = "/sys/class/net"

func newLinks(root rootfs.Root) *links {
	l := &links{root: root, names: map[string]string{}}
	// An image has no such directory: no link is known then.
	names, _ := root.ReadDir(sysClassNet)
	for _, n := range names {
		l.names[n] = n
	}
	if root.IsHost() {
		// If the kernel does not answer, sysfs alone counts.
		if rib, err := syscall.NetlinkRIB(syscall.RTM_GETLINK, syscall.AF_UNSPEC); err == nil {
			l.know(parseLinks(rib))
		}
	}
	return l
}

// know adds what the kernel says.
func (l *links) know(more map[string]moreOf) {
	l.more = more
	for name, m := range more {
		for _, a := range m.alternative {
			l.names[a] = name
		}
	}
}

// Attributes of a link that the syscall package has no names for
// (include/uapi/linux/if_link.h).
const (
	iflaPropList    = 52
	iflaAltIfname   = 53
	iflaPermAddress = 54

	attributeType = 0x3fff // without NLA_F_NESTED and NLA_F_NET_BYTEORDER
)

// parseLinks reads the kernel's answer to RTM_GETLINK.
func parseLinks(rib []byte) map[string]moreOf {
	all := map[string]moreOf{}
	messages, _ := syscall.ParseNetlinkMessage(rib)
	for _, m := range messages {
		if m.Header.Type != syscall.RTM_NEWLINK || len(m.Data) < syscall.SizeofIfInfomsg {
			continue
		}
		name, more := "", moreOf{}
		attributes(m.Data[syscall.SizeofIfInfomsg:], func(typ uint16, value []byte) {
			switch typ {
			case syscall.IFLA_IFNAME:
				name = cString(value)
			case iflaPermAddress:
				more.permanent = strings.ReplaceAll(fmt.Sprintf("% x", value), " ", ":")
			case iflaPropList:
				attributes(value, func(typ uint16, value []byte) {
					if typ == iflaAltIfname {
						more.alternative = append(more.alternative, cString(value))
					}
				})
			}
		})
		all[name] = more
	}
	return all
}

// attributes calls do for each netlink attribute, up to the first malformed one.
func attributes(b []byte, do func(typ uint16, value []byte)) {
	const header = syscall.SizeofRtAttr
	for len(b) >= header {
		n := int(binary.NativeEndian.Uint16(b))
		if n < header || n > len(b) {
			return
		}
		do(binary.NativeEndian.Uint16(b[2:])&attributeType, b[header:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}

func cString(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

// attribute reads a file of a link; "" where it has none.
func (l *links) attribute(dev, file string) string {
	data, err := l.root.ReadFile(path.Join(sysClassNet, dev, file), 4096)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// device finds the interface that a match is about, if it exists. If two cards have the
// address, the match is about neither alone, and device finds none.
func (l *links) device(m fib.Match) (dev string, ok bool) {
	if name, ok := m.Device(); ok {
		dev, ok = l.names[name]
		return dev, ok
	}
	if m.MAC == "" {
		return "", false
	}
	found := l.cards(m.MAC)
	if len(found) != 1 {
		return "", false
	}
	return found[0], true
}

// withMAC returns the links that have a hardware address now, or have it as the
// permanent one of the card.
func (l *links) withMAC(mac string) []string {
	if l.byMAC == nil {
		l.byMAC = map[string][]string{}
		for alias, n := range l.names {
			if alias != n {
				continue
			}
			now, card := l.attribute(n, "address"), l.more[n].permanent
			l.byMAC[now] = append(l.byMAC[now], n)
			if card != now {
				l.byMAC[card] = append(l.byMAC[card], n)
			}
		}
	}
	return l.byMAC[mac]
}

// cards returns the links that have a hardware address now, in order. If several have it,
// it leaves out those stacked on a card: they bear the card's address, and have no device.
func (l *links) cards(mac string) (found []string) {
	all := l.withMAC(mac)
	for _, n := range all {
		if l.attribute(n, "address") == mac && (len(all) == 1 || l.root.Exists(path.Join(sysClassNet, n, "device"))) {
			found = append(found, n)
		}
	}
	slices.Sort(found)
	return found
}

// put sets the only value of a key, if there is one and none is known yet.
func (k facts) put(key, value string) {
	if value != "" && !fib.IsGlob(value) && k[key] == nil {
		k[key] = []string{value}
	}
}

// facts returns what the match says of a link, and what the kernel and udev add.
func (l *links) facts(m fib.Match) facts {
	if m.Name == "lo" {
		// The same on every host. A key without a value is known to have none.
		return facts{
			"Name": {"lo"}, "MACAddress": {"00:00:00:00:00:00"}, "PermanentMACAddress": {}, "Type": {"loopback"},
			"Driver": {}, "Path": {}, "Kind": {},
		}
	}
	k := facts{}
	k.put("Name", m.Name)
	k.put("MACAddress", m.MAC)
	k.put("Driver", m.Driver)
	k.put("Path", m.Path)
	dev, ok := l.device(m)
	if !ok {
		// People write the address that is on the card.
		k.put("PermanentMACAddress", m.MAC)
		return k
	}
	k["Name"] = append([]string{dev}, l.more[dev].alternative...)
	mac := l.attribute(dev, "address")
	k.put("MACAddress", mac)
	k.put("PermanentMACAddress", l.more[dev].permanent)
	// NET_ADDR_PERM (include/uapi/linux/netdevice.h): nobody has changed it.
	if l.attribute(dev, "addr_assign_type") == "0" {
		k.put("PermanentMACAddress", mac)
	}
	k.put("Type", linkType(l.attribute(dev, "uevent"), l.attribute(dev, "type")))
	// Not the driver in sysfs, whose name may differ from the one that ethtool tells
	// udev and networkd (mlx4_core for mlx4_en).
	if udev, ok := l.udev(dev); ok {
		k.put("Driver", udev["ID_NET_DRIVER"])
		if k.put("Path", udev["ID_PATH"]); k["Path"] == nil {
			k["Path"] = []string{} // it is known that it has none
		}
	}
	return k
}

// udev returns the properties that udev has set for a link, and ok once udev has
// finished with it: networkd waits for that.
func (l *links) udev(dev string) (properties map[string]string, ok bool) {
	data, err := l.root.ReadFile(path.Join("/run/udev/data", "n"+l.attribute(dev, "ifindex")), maxUnitSize)
	if err != nil {
		return nil, false
	}
	properties = map[string]string{}
	for line := range strings.Lines(string(data)) {
		kind, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		switch kind {
		case "I": // since when it is initialized
			ok = true
		case "E":
			key, value, _ := strings.Cut(rest, "=")
			properties[key] = value
		}
	}
	return properties, ok
}

// linkType names a link's type as networkd does: udev's DEVTYPE, or else the
// hardware type (ARPHRD_*, include/uapi/linux/if_arp.h).
func linkType(uevent, arphrd string) string {
	for line := range strings.Lines(uevent) {
		if t, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVTYPE="); ok {
			return t
		}
	}
	switch arphrd {
	case "1":
		return "ether"
	case "772":
		return "loopback"
	case "65534":
		return "none"
	}
	return ""
}
