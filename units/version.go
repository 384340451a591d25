package units

import (
	"cmp"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// Version is a version of systemd. Minor is 0 where it is not known.
type Version struct{ Major, Minor int }

// Oldest is the oldest systemd that is supported, and the one that is assumed if none is found.
var Oldest = Version{Major: 247}

// ParseVersion reads "257" or "257.13" of a systemd that is supported. What follows a
// further "-" or "~" belongs to the distribution.
func ParseVersion(s string) (Version, error) {
	v, err := parseVersion(s)
	if err == nil && v.Before(Oldest) {
		return Version{}, fmt.Errorf("systemd %s is older than %s, the oldest that is supported", s, Oldest)
	}
	return v, err
}

func parseVersion(s string) (Version, error) {
	upstream := s
	if i := strings.IndexAny(s, "-~+"); i > 0 {
		upstream = s[:i]
	}
	major, minor, _ := strings.Cut(upstream, ".")
	v := Version{}
	var err error
	if v.Major, err = strconv.Atoi(major); err != nil || v.Major <= 0 {
		return Version{}, fmt.Errorf("%q is not a version of systemd, like 257 or 257.13", s)
	}
	if minor != "" {
		if v.Minor, err = strconv.Atoi(minor); err != nil || v.Minor < 0 {
			return Version{}, fmt.Errorf("%q is not a version of systemd, like 257 or 257.13", s)
		}
	}
	return v, nil
}

// String returns "257", or "257.13" where the point release is known.
func (v Version) String() string {
	if v.Minor == 0 {
		return strconv.Itoa(v.Major)
	}
	return fmt.Sprintf("%d.%d", v.Major, v.Minor)
}

// Before says whether v is older than o.
func (v Version) Before(o Version) bool {
	return cmp.Or(cmp.Compare(v.Major, o.Major), cmp.Compare(v.Minor, o.Minor)) < 0
}

// DetectVersion finds the version of the systemd that is installed below root, by the
// name of its private library (libsystemd-shared-257.so, on some distributions
// -257.13-1.fc42.so). It returns false if there is none. It may return a version older
// than Oldest, which Render refuses.
func DetectVersion(root rootfs.Root) (Version, bool) {
	for _, lib := range []string{"/usr/lib", "/usr/lib64", "/lib"} {
		var newest Version
		see := func(dir string) {
			names, _ := root.ReadDir(dir)
			for _, n := range names {
				n, isShared := strings.CutPrefix(n, "libsystemd-shared-")
				n, isLib := strings.CutSuffix(n, ".so")
				if v, err := parseVersion(n); isShared && isLib && err == nil && newest.Before(v) {
					newest = v
				}
			}
		}
		see(path.Join(lib, "systemd"))
		if newest == (Version{}) {
			names, _ := root.ReadDir(lib)
			for _, n := range names {
				if strings.Contains(n, "-linux-") { // x86_64-linux-gnu, as Debian has them
					see(path.Join(lib, n, "systemd"))
				}
			}
		}
		if newest != (Version{}) {
			return newest, true
		}
	}
	return Version{}, false
}

// since says from which systemd on networkd knows each key that is written here
// (src/network/networkd-network-gperf.gperf and networkd-gperf.gperf of each release,
// and NEWS). A key that is not in the map is never written.
var since = map[string]Version{
	"Match.Name": {247, 0}, "Match.MACAddress": {247, 0}, "Match.Driver": {247, 0}, "Match.Path": {247, 0}, "Match.Type": {247, 0}, "Match.Kind": {252, 0},

	"Link.MTUBytes": {247, 0}, "Link.RequiredForOnline": {247, 0},

	"Network.Address": {247, 0}, "Network.DHCP": {247, 0}, "Network.DNS": {247, 0},
	"Network.Domains": {247, 0}, "Network.IPv6AcceptRA": {247, 0}, "Network.LinkLocalAddressing": {247, 0},
	"Network.KeepConfiguration": {247, 0},

	"DHCPv4.RouteTable": {247, 0}, "DHCPv4.RouteMetric": {247, 0},
	"IPv6AcceptRA.RouteTable": {247, 0}, "IPv6AcceptRA.RouteMetric": {249, 0},
	"DHCPv6.WithoutRA": {247, 0}, "DHCPv6.RouteTable": {261, 0},

	"Route.Destination": {247, 0}, "Route.Gateway": {247, 0}, "Route.GatewayOnLink": {247, 0}, "Route.Metric": {247, 0},
	"Route.PreferredSource": {247, 0}, "Route.Scope": {247, 0}, "Route.Table": {247, 0}, "Route.Type": {247, 0},
	"Route.MTUBytes": {247, 0}, "Route.InitialCongestionWindow": {247, 0}, "Route.InitialAdvertisedReceiveWindow": {247, 0},
	"Route.MultiPathRoute": {247, 0}, "Route.TCPAdvertisedMaximumSegmentSize": {248, 0},

	"RoutingPolicyRule.Priority": {247, 0}, "RoutingPolicyRule.Family": {247, 0}, "RoutingPolicyRule.From": {247, 0},
	"RoutingPolicyRule.To": {247, 0}, "RoutingPolicyRule.FirewallMark": {247, 0}, "RoutingPolicyRule.IncomingInterface": {247, 0},
	"RoutingPolicyRule.OutgoingInterface": {247, 0}, "RoutingPolicyRule.TypeOfService": {247, 0}, "RoutingPolicyRule.IPProtocol": {247, 0},
	"RoutingPolicyRule.SourcePort": {247, 0}, "RoutingPolicyRule.DestinationPort": {247, 0}, "RoutingPolicyRule.User": {247, 0},
	"RoutingPolicyRule.InvertRule": {247, 0}, "RoutingPolicyRule.Table": {247, 0}, "RoutingPolicyRule.SuppressPrefixLength": {247, 0},
	"RoutingPolicyRule.Type": {248, 0}, "RoutingPolicyRule.SuppressInterfaceGroup": {250, 0},
	"RoutingPolicyRule.L3MasterDevice": {256, 0}, "RoutingPolicyRule.GoTo": {257, 0},

	"networkd.conf/Network.RouteTable": {248, 0}, "networkd.conf/Network.ManageForeignRoutes": {247, 0},
	"networkd.conf/Network.ManageForeignRoutingPolicyRules": {249, 0},
}

// HasGoto says whether networkd can jump over rules (GoTo=, Type=nop), which the
// layout of many rules needs.
func (v Version) HasGoto() bool { return !v.Before(nopSince) }

// nopSince is when Type= of a rule learned "nop" (and "goto", "table"); before that,
// networkd drops the whole section for it.
var nopSince = Version{257, 0}

// AwaitsLinks says whether networkd adds a rule with an iif or oif only once there is a
// link of that name (257 and 262 do, 252 does not).
func (v Version) AwaitsLinks() bool { return !v.Before(Version{257, 0}) }

// zeroMarkSince is when FirewallMark= with the value 0 stopped losing its mask, and
// with the mask the selector (systemd#36973).
var zeroMarkSince = Version{257, 13}

// zeroPrefixSince is when From= and To= stopped losing a prefix whose address is zero, such as
// 0.0.0.0/1, and with it the selector: 247 takes it for none, 249 does not.
var zeroPrefixSince = Version{249, 0}

// awaitsGatewaysSince is when networkd began to hold a route back until its gateway is
// reached (route_is_ready_to_configure(), src/network/networkd-route.c). Before that,
// it adds the file's routes at once, and fails the link if the kernel refuses one: on
// 247 at each boot, for a gateway that only a learned address will reach.
const awaitsGatewaysSince = 249

// awaitsGateways6Since is the same for IPv6. 252 waits at a boot; but when it
// configures a link anew, it takes the subnet of a router advertisement for one that
// still exists, and fails the link every other time (257 and 262 were right eight times
// of eight). The kernel looks up such a gateway, but not one that is onlink.
const awaitsGateways6Since = 257

// rulesWithDHCP4Since is when networkd stopped taking it for a mistake that it sees a
// link's rules a second time, once it has a lease. On 247 that gives "Could not set
// routing policy rule: File exists" and a failed link; on 252 it does not.
var rulesWithDHCP4Since = Version{248, 0}
