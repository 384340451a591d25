package apply

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Hazard is something on the host that can defeat a state which is in place.
type Hazard struct {
	Link string // interface name; "" where it is none's
	Text string // what it is, what it does, and the remedy
}

// String returns "LINK: text".
func (h Hazard) String() string {
	if h.Link == "" {
		return h.Text
	}
	return h.Link + ": " + h.Text
}

// hazards looks for all that is known to make a right state fail.
func hazards(want Resolved, have Snapshot, hw Hardware, neighbours []Neighbour) []Hazard {
	return slices.Concat(earlierRules(want, have), reversePath(want, hw), sharedSubnet(want, hw), deadGateways(want, neighbours))
}

// earlierRules finds rules of others that are asked before ours.
func earlierRules(want Resolved, have Snapshot) (list []Hazard) {
	first := map[fib.Family]uint32{}
	ours := sortedRules(slices.Concat(want.Rules, want.Later.Rules))
	for _, r := range ours {
		if p, ok := first[r.Family]; !ok || r.Priority < p {
			first[r.Family] = r.Priority
		}
	}
	for _, r := range have.Rules {
		limit, ok := first[r.Family]
		if !ok || r.Priority >= limit || r.Ours() || r.Priority == 0 && r.Table == fib.TableLocal {
			continue
		}
		if _, same := slices.BinarySearchFunc(ours, &r.Rule, compareRules); same {
			continue // networkd's, in our name
		}
		text := strings.TrimSuffix((Op{Verb: RuleAdd, Rule: &r.Rule}).Batch(), fmt.Sprintf(" protocol %d", fib.Protocol))
		_, text, _ = strings.Cut(text, "rule add ")
		list = append(list, Hazard{Text: fmt.Sprintf("a rule of %s is asked before the uplinks': %s", ProtocolName(r.Protocol), text)})
	}
	return list
}

// reversePath finds links whose packets are dropped when their answers would leave
// another way (RFC 3704; ip-sysctl, rp_filter: the higher of "all" and the link's counts).
func reversePath(want Resolved, hw Hardware) (list []Hazard) {
	for _, l := range want.Links {
		all, own := hw.Sysctl("ipv4", "all", "rp_filter"), hw.Sysctl("ipv4", l.Device.Name, "rp_filter")
		if max(all, own) == "1" {
			list = append(list, Hazard{l.Device.Name, "rp_filter is strict: what comes in here is dropped where its answer has another way; set net.ipv4.conf." + l.Device.Name + ".rp_filter=2"})
		}
	}
	return list
}

// sharedSubnet finds two links on one subnet that answer ARP for each other's
// addresses, so that packets come in on the wrong card (ip-sysctl, arp_ignore).
func sharedSubnet(want Resolved, hw Hardware) (list []Hazard) {
	on := map[netip.Prefix]string{}
	said := map[string]bool{}
	for _, r := range want.Routes {
		if r.Family != fib.Inet || !r.Src.IsValid() || len(r.Nexthops) != 1 || r.Nexthops[0].Via.IsValid() {
			continue
		}
		link := r.Nexthops[0].Link
		other, shared := on[r.Dst]
		on[r.Dst] = link
		if !shared || other == link {
			continue
		}
		for _, dev := range []string{other, link} {
			all, own := hw.Sysctl("ipv4", "all", "arp_ignore"), hw.Sysctl("ipv4", dev, "arp_ignore")
			if max(all, own) == "0" && !said[dev] {
				said[dev] = true
				list = append(list, Hazard{dev, fmt.Sprintf("%s is on %s and %s: both answer ARP for either's addresses; set net.ipv4.conf.%s.arp_ignore=1 and arp_announce=2", r.Dst, other, link, dev)})
			}
		}
	}
	return list
}

// deadGateways finds gateways that were asked for and did not answer.
func deadGateways(want Resolved, neighbours []Neighbour) (list []Hazard) {
	said := map[netip.Addr]bool{}
	for _, r := range want.Routes {
		for _, n := range r.Nexthops {
			failed := slices.ContainsFunc(neighbours, func(h Neighbour) bool { return h.Failed && h.Link == n.Link && h.Addr == n.Via })
			if failed && !said[n.Via] {
				said[n.Via] = true
				list = append(list, Hazard{n.Link, fmt.Sprintf("the gateway %s does not answer", n.Via)})
			}
		}
	}
	return list
}
