package rtnl

import (
	"cmp"
	"net"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply"
)

// The links have a codec of our own because vishvananda/netlink 1.3.1 asks for every link's
// statistics and reads everything, which takes five times as long as all the rest of a run that
// finds nothing to do.

// decodeLink reads the payload of an RTM_NEWLINK.
func decodeLink(b []byte) (apply.Link, error) {
	var l apply.Link
	if len(b) < unix.SizeofIfInfomsg {
		return l, errMalformed
	}
	l.Index = int(int32(native.Uint32(b[4:])))
	flags := native.Uint32(b[8:])
	l.Up, l.Carrier, l.Loopback = flags&unix.IFF_UP != 0, flags&unix.IFF_LOWER_UP != 0, flags&unix.IFF_LOOPBACK != 0
	l.NoARP = flags&unix.IFF_NOARP != 0
	var err error
	a := attributes{rest: b[unix.SizeofIfInfomsg:]}
	for err == nil && a.next() {
		switch a.typ {
		case unix.IFLA_IFNAME:
			l.Name = getString(a.value)
		case unix.IFLA_MTU:
			l.MTU, err = get32(a.value)
		case unix.IFLA_GROUP:
			l.Group, err = get32(a.value)
		case unix.IFLA_CARRIER_CHANGES:
			l.CarrierChanges, err = get32(a.value)
		case unix.IFLA_ADDRESS:
			l.MAC = net.HardwareAddr(a.value).String()
		case unix.IFLA_MASTER:
			var master uint32
			master, err = get32(a.value)
			l.Master = int(int32(master))
		case unix.IFLA_LINKINFO:
			info := attributes{rest: a.value}
			for info.next() {
				switch info.typ {
				case unix.IFLA_INFO_KIND:
					l.Kind = getString(info.value)
				case unix.IFLA_INFO_SLAVE_KIND:
					l.PortOf = getString(info.value)
				}
			}
			err = info.err
		case unix.IFLA_PROP_LIST:
			list := attributes{rest: a.value}
			for list.next() {
				if list.typ == unix.IFLA_ALT_IFNAME {
					l.AltNames = append(l.AltNames, getString(list.value))
				}
			}
			err = list.err
		}
	}
	return l, cmp.Or(err, a.err)
}

// observeLinks reads all links, and remembers which name belongs to which.
func (k *Kernel) observeLinks() (list []apply.Link, err error) {
	request := encoder{b: make([]byte, unix.SizeofIfInfomsg)}
	const skipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS, include/uapi/linux/rtnetlink.h
	request.attr32(unix.IFLA_EXT_MASK, skipStats)
	err = k.socket.dump(unix.RTM_GETLINK, request.b, func() { list = list[:0] }, func(b []byte) error {
		l, err := decodeLink(b)
		list = append(list, l)
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b apply.Link) int { return a.Index - b.Index })
	clear(k.byName)
	clear(k.byID)
	for _, l := range list {
		k.byName[l.Name] = uint32(l.Index)
		k.byID[uint32(l.Index)] = l.Name
	}
	return list, nil
}
