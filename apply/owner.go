package apply

import (
	"fmt"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Protocol numbers that systemd-networkd gives (RTPROT_* in include/uapi/linux/rtnetlink.h).
const (
	ProtocolUnspec = 0 // to rules, before systemd 248
	ProtocolStatic = 4 // to what stands in its files
)

// Protocol numbers of what has been learned: dhclient's and udhcpc's scripts call ip(8),
// which says boot; dhcpcd, NetworkManager and networkd say dhcp or ra, the kernel ra for a
// gateway and kernel for a prefix.
const (
	ProtocolKernel = 2
	ProtocolBoot   = 3
	ProtocolRA     = 9
	ProtocolDHCP   = 16
)

// Ours says whether the route bears our protocol number.
func (r Route) Ours() bool { return r.Protocol == fib.Protocol }

// Ours says whether the rule bears our protocol number.
func (r Rule) Ours() bool { return r.Protocol == fib.Protocol }

// MayBeNetworkds says whether the route bears the number that networkd gives to what
// stands in its files. An administrator's may bear it as well.
func (r Route) MayBeNetworkds() bool { return r.Protocol == ProtocolStatic }

// MayBeNetworkds says whether the rule bears a number that networkd gives, of whatever
// version. An administrator's may bear it as well.
func (r Rule) MayBeNetworkds() bool {
	return r.Protocol == ProtocolStatic || r.Protocol == ProtocolUnspec
}

// ProtocolName names the owner of a route or rule, as iproute2's rt_protos does.
func ProtocolName(p uint8) string {
	names := map[uint8]string{
		ProtocolUnspec: "nobody (protocol unspec)", 1: "an ICMP redirect (protocol redirect)", ProtocolKernel: "the kernel (protocol kernel)", ProtocolBoot: "boot scripts (protocol boot)",
		ProtocolStatic: "an administrator or systemd-networkd (protocol static)", ProtocolRA: "a router advertisement (protocol ra)", 11: "zebra (protocol zebra)", 12: "bird (protocol bird)",
		ProtocolDHCP: "a DHCP client (protocol dhcp)", 42: "babel (protocol babel)", 186: "bgp (protocol bgp)", 188: "ospf (protocol ospf)", fib.Protocol: "uplink-generator (protocol uplink)",
	}
	if n, ok := names[p]; ok {
		return n
	}
	return fmt.Sprintf("protocol %d", p)
}
