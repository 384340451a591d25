package rtnl

import (
	"cmp"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

const (
	addressHeaderLen = unix.SizeofIfAddrmsg
	ifaProto         = 11 // IFA_PROTO, since Linux 5.18 (include/uapi/linux/if_addr.h)
)

// encodeAddress writes the payload of RTM_NEWADDR or RTM_DELADDR.
func (e *encoder) encodeAddress(a *fib.Address, del bool, index func(string) uint32) {
	addr := a.Prefix.Addr()
	e.bytes(uint8(a.Family()), uint8(a.Prefix.Bits()), unix.IFA_F_PERMANENT, 0)
	e.u32(index(a.Link))
	e.attrAddr(unix.IFA_LOCAL, addr)
	e.attrAddr(unix.IFA_ADDRESS, addr)
	if del {
		return
	}
	if addr.Is4() && a.Prefix.Bits() < 31 {
		e.attrAddr(unix.IFA_BROADCAST, fib.BroadcastOf(a.Prefix))
	}
	if MarksAddresses() {
		e.attr8(ifaProto, fib.Protocol)
	}
}

// decodeAddress reads the payload of an RTM_NEWADDR.
func decodeAddress(b []byte, name func(uint32) string) (apply.Address, error) {
	var a apply.Address
	if len(b) < addressHeaderLen {
		return a, errMalformed
	}
	family, bits, flags := fib.Family(b[0]), int(b[1]), uint32(b[2])
	a.Link = name(native.Uint32(b[4:]))
	if family != fib.Inet && family != fib.Inet6 {
		return a, nil
	}
	var address, local netip.Addr
	var err error
	attrs := attributes{rest: b[addressHeaderLen:]}
	for err == nil && attrs.next() {
		v := attrs.value
		switch attrs.typ {
		case unix.IFA_ADDRESS: // the peer's, where there is one
			address, err = getAddr(family, v)
		case unix.IFA_LOCAL:
			local, err = getAddr(family, v)
		case unix.IFA_FLAGS:
			flags, err = get32(v)
		case ifaProto:
			var p uint8
			p, err = get8(v)
			a.Ours = p == fib.Protocol
		case unix.IFA_CACHEINFO:
			err = getLifetime(v, &a)
		}
	}
	err = cmp.Or(err, attrs.err)
	if !local.IsValid() {
		local = address
	}
	if address.IsValid() && address != local {
		a.Peer = address
	}
	if err == nil && (!local.IsValid() || bits > local.BitLen()) {
		err = errMalformed
	}
	a.Prefix = netip.PrefixFrom(local, bits)
	a.Deprecated = flags&unix.IFA_F_DEPRECATED != 0
	a.Temporary = family == fib.Inet6 && flags&unix.IFA_F_TEMPORARY != 0
	a.Duplicate = flags&unix.IFA_F_DADFAILED != 0
	a.Tentative = flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 && flags&unix.IFA_F_OPTIMISTIC == 0
	return a, err
}

// getLifetime reads struct ifa_cacheinfo (include/uapi/linux/if_addr.h): lifetimes in seconds,
// and when the address was added, in hundredths of a second since boot.
func getLifetime(v []byte, a *apply.Address) error {
	const valid, created, length, forever = 4, 8, 16, 0xffffffff
	if len(v) < length {
		return errMalformed
	}
	if left := native.Uint32(v[valid:]); left != forever {
		a.Valid = time.Duration(left) * time.Second
	}
	a.Since = time.Duration(native.Uint32(v[created:])) * 10 * time.Millisecond
	return nil
}

func (k *Kernel) addresses() (list []apply.Address, err error) {
	err = k.socket.dump(unix.RTM_GETADDR, make([]byte, addressHeaderLen), func() { list = list[:0] }, func(b []byte) error {
		a, err := decodeAddress(b, k.name)
		if err == nil && a.Prefix.IsValid() {
			list = push(list, a)
		}
		return err
	})
	return list, err
}
