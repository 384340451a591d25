package apply

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Hazard is something on the host that can defeat a state that is in place.
type Hazard struct {
	Link string // interface name; "" where it concerns no single link
	Text string // what it is, what it does, and the remedy
}

// String returns "LINK: text".
func (h Hazard) String() string {
	if h.Link == "" {
		return h.Text
	}
	return h.Link + ": " + h.Text
}

// hazards looks for everything that is known to defeat a correct state.
func (a *Applier) hazards(s fib.State, want Resolved, have Snapshot, neighbours []Neighbour, checks []Check) []Hazard {
	hw, ask := a.Hardware, a.Kernel.RouteGet
	leads, own := leading(want, have), ownTables(want)
	others, turns := takeTurns(want, have)
	subnets, in := wantedSubnets(want), domains(have)
	mains := mainUplinks(want)
	ways := unbound(mains, ask)
	carriers := deadRoutes(want, have, hw, ways, checks)
	if len(carriers) == 0 {
		carriers = failsOverByCarrier(s, want, have, hw)
	}
	return slices.Concat(downs(want), ports(want, have), lateLocal(have, turns), rulesOfOthers(want, have, others, turns),
		strangers(want, have, own), mainDefaults(want, have), aheadOfMain(have, others, turns, mains, ways), aheadInMain(want, have, own, checks), insideSubnets(want, have, own, ask), strays(s, want, have, own, leads, ask),
		reversePath(want, hw), sharedSubnets(have, hw, subnets, in), sameAddresses(want, have, subnets, in),
		carriers, deadGateways(want, neighbours), withoutGateway(want, have, leads), deaf(want, hw, leads))
}

// deadGateways finds gateways that did not answer when the kernel asked for them.
func deadGateways(want Resolved, neighbours []Neighbour) (list []Hazard) {
	type host struct {
		link string
		addr netip.Addr
	}
	said, failed := map[netip.Addr]bool{}, map[host]bool{}
	for _, h := range neighbours {
		failed[host{h.Link, h.Addr}] = failed[host{h.Link, h.Addr}] || h.Failed()
	}
	for _, r := range want.Routes {
		for _, n := range r.Nexthops {
			if failed[host{n.Link, n.Via}] && !said[n.Via] {
				said[n.Via] = true
				list = append(list, Hazard{n.Link, fmt.Sprintf("the gateway %s does not answer: check its address, and the network there", n.Via)})
			}
		}
	}
	return list
}

// withoutGateway finds links that have learned an address, but no way out. Where two DHCP clients
// give the default route no metric (dhclient, udhcpc), the kernel refuses the second one's.
func withoutGateway(want Resolved, have Snapshot, leads map[place]bool) (list []Hazard) {
	learned := learnedAddresses(have)
	for _, l := range want.Links {
		for _, f := range fib.Families {
			i := slices.IndexFunc(learned[l.Device.Name], func(a Address) bool { return a.Family() == f && l.Learn.Takes(a.Prefix.Addr()) })
			if i < 0 || leads[place{table: l.Learn.Table, family: f}] {
				continue
			}
			list = append(list, Hazard{l.Device.Name, fmt.Sprintf(
				"%v was learned, and no gateway with it: see the log of the DHCP client; where it gives the default route no metric, the kernel takes only that of one link: give each its own (IF_METRIC, metric)",
				learned[l.Device.Name][i].Prefix.Addr())})
		}
	}
	return list
}

// deaf finds links on which the kernel takes no router advertisement (ip-sysctl, accept_ra), and
// nobody else has taken one.
func deaf(want Resolved, hw Hardware, leads map[place]bool) (list []Hazard) {
	for _, l := range want.Links {
		dev := l.Device.Name
		own, forwards := hw.Sysctl("ipv6", dev, "accept_ra"), hw.Sysctl("ipv6", dev, "forwarding") == "1"
		if l.Learn.RA && (own == "0" || own == "1" && forwards) && !leads[place{table: l.Learn.Table, family: fib.Inet6}] {
			list = append(list, Hazard{dev, "no router advertisement has been taken: the kernel takes none here; systemd-networkd or NetworkManager has to, or set " + sysctlName("ipv6", dev, "accept_ra") + "=2"})
		}
	}
	return list
}

// leading returns the tables that have a default route by any device, whoever added it.
func leading(want Resolved, have Snapshot) map[place]bool {
	in := map[place]bool{}
	see := func(r *fib.Route) {
		if r.IsDefault() && r.Type.HasDevice() {
			in[place{table: r.Table, family: r.Family}] = true
		}
	}
	for i := range want.Routes {
		see(&want.Routes[i])
	}
	for i := range have.Routes {
		see(&have.Routes[i].Route)
	}
	return in
}
