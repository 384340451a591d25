package apply

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// downs finds links that have been set down, which is why every check on them fails. A link that
// is not ours to set up is not ready, and is reported as that.
func downs(want Resolved) (list []Hazard) {
	for _, l := range want.Links {
		if dev := l.Device.Name; !l.Device.Up && !l.PolicyOnly {
			list = append(list, Hazard{Text: fmt.Sprintf("%s is down: set it up (`ip link set %s up`), or `uplinkctl reload`", dev, dev)})
		}
	}
	return list
}

// ports finds links whose packets go to their master instead. In a VRF they stay the host's own.
func ports(want Resolved, have Snapshot) (list []Hazard) {
	byIndex := make(map[int]string, len(have.Links))
	for _, l := range have.Links {
		byIndex[l.Index] = l.Name
	}
	for _, l := range want.Links {
		if master := byIndex[l.Device.Master]; master != "" && slices.Contains([]string{"bridge", "bond", "team", "openvswitch"}, l.Device.PortOf) {
			list = append(list, Hazard{Text: fmt.Sprintf("%s is a port of %s: the host itself gets no packets by it; the uplink's link and address should be %s", l.Device.Name, master, master)})
		}
	}
	return list
}

// reversePath finds links that drop packets whose answers would leave another way (RFC 3704;
// ip-sysctl, rp_filter: the higher value counts, of "all" or of the link).
func reversePath(want Resolved, hw Hardware) (list []Hazard) {
	for _, l := range want.Links {
		if linkSetting(hw, l.Device.Name, "rp_filter") == "1" {
			list = append(list, Hazard{l.Device.Name, "rp_filter is strict: what comes in here is dropped where its answer has another way; set " + sysctlName("ipv4", l.Device.Name, "rp_filter") + "=2"})
		}
	}
	return list
}

// domains returns, by name, the links that are up and can have neighbours, each with the index of
// its VRF, or 0. No link answers for an address in another VRF.
func domains(have Snapshot) map[string]int {
	in := make(map[string]int, len(have.Links))
	for _, l := range have.Links {
		switch {
		case !l.Up || l.Loopback || l.NoARP:
		case l.PortOf == "vrf":
			in[l.Name] = l.Master
		default:
			in[l.Name] = 0
		}
	}
	return in
}

// wantedSubnets returns the IPv4 subnets of the uplinks, with the address in each.
func wantedSubnets(want Resolved) (list []fib.Address) {
	for _, r := range want.Routes {
		if r.Family == fib.Inet && len(r.Nexthops) == 1 && !r.Nexthops[0].Via.IsValid() && r.Dst.Bits() > 0 && r.Dst.Contains(r.Src) {
			list = append(list, fib.Address{Link: r.Nexthops[0].Link, Prefix: netip.PrefixFrom(r.Src, r.Dst.Bits())})
		}
	}
	return list
}

// sharedSubnets finds links on the subnet of an uplink, or on a part of it: both links answer ARP
// for each other's addresses, so that packets come in on the wrong card (ip-sysctl, arp_ignore).
func sharedSubnets(have Snapshot, hw Hardware, subnets []fib.Address, in map[string]int) (list []Hazard) {
	type segment struct {
		subnet netip.Prefix
		domain int
	}
	on := map[segment][]fib.Address{} // of two links at most: enough for one that is not the link compared with
	var lengths [33]bool
	wanted := len(subnets)
	subnets = slices.Clone(subnets)
	for _, a := range have.Addresses {
		if _, up := in[a.Link]; up && a.Family() == fib.Inet && !a.Prefix.IsSingleIP() && !a.Peer.IsValid() {
			subnets = append(subnets, a.Address)
		}
	}
	isWanted := map[fib.Address]bool{}
	for i, a := range subnets {
		at := segment{a.Prefix.Masked(), in[a.Link]}
		lengths[a.Prefix.Bits()] = true
		isWanted[a] = isWanted[a] || i < wanted
		if s := on[at]; len(s) == 0 || len(s) == 1 && s[0].Link != a.Link {
			on[at] = append(s, a)
		}
	}
	ruled := map[netip.Addr]bool{} // addresses of which arp_filter can tell the link that they leave by
	for i := range have.Rules {
		if r := &have.Rules[i]; r.From.IsSingleIP() && r.Action == fib.Lookup && r.Table != fib.TableMain {
			ruled[r.From.Addr()] = true
		}
	}
	said := map[string]bool{}
	note := func(a, b fib.Address) {
		what := fmt.Sprintf("%s is on %s and %s", a.Prefix.Masked(), a.Link, b.Link)
		if a.Prefix.Bits() != b.Prefix.Bits() {
			what = fmt.Sprintf("%s is on %s, and %s on %s", a.Prefix.Masked(), a.Link, b.Prefix.Masked(), b.Link)
		}
		for _, pair := range [][2]fib.Address{{a, b}, {b, a}} {
			dev, other := pair[0].Link, pair[1].Prefix.Addr()
			filters := linkSetting(hw, dev, "arp_filter") == "1" && ruled[other]
			if linkSetting(hw, dev, "arp_ignore") == "0" && !filters && !said[dev] {
				said[dev] = true
				list = append(list, Hazard{dev, fmt.Sprintf("%s: both answer ARP for either's addresses; set %s=1 and arp_announce=2", what, sysctlName("ipv4", dev, "arp_ignore"))})
			}
		}
	}
	for _, a := range subnets {
		for bits := 1; bits <= a.Prefix.Bits(); bits++ {
			if !lengths[bits] {
				continue
			}
			for _, b := range on[segment{netip.PrefixFrom(a.Prefix.Addr(), bits).Masked(), in[a.Link]}] {
				if a.Link != b.Link && (isWanted[a] || isWanted[b]) {
					note(a, b)
				}
			}
		}
	}
	return list
}

// sameAddresses finds addresses of uplinks that another link has too, and so answers for.
func sameAddresses(want Resolved, have Snapshot, subnets []fib.Address, in map[string]int) (list []Hazard) {
	of := map[netip.Addr]string{}
	for _, a := range slices.Concat(subnets, want.Addresses) {
		of[a.Prefix.Addr()] = a.Link
	}
	for _, a := range have.Addresses {
		link, wanted := of[a.Prefix.Addr()]
		domain, up := in[a.Link]
		if wanted && link != a.Link && up && domain == in[link] && !a.Peer.IsValid() && !a.Prefix.Addr().IsLinkLocalUnicast() {
			list = append(list, Hazard{a.Link, fmt.Sprintf("%s, which is %s's, is here as well: both answer for it; remove it here (`ip address del %s dev %s`)", a.Prefix.Addr(), link, a.Prefix, a.Link)})
		}
	}
	return list
}
