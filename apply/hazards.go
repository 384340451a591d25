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
	others, leads, first := othersRules(want, have), leading(want, have), firstRules(want)
	return slices.Concat(lateLocal(have, first), earlierRules(others, first), jumps(want, have, others, first), strangers(want, have), reversePath(want, hw), sharedSubnet(want, hw), deadGateways(want, neighbours), withoutGateway(want, have, leads), deaf(want, hw, leads))
}

// firstRules returns the priority of the first of our rules of each family.
func firstRules(want Resolved) map[fib.Family]uint32 {
	first := map[fib.Family]uint32{}
	for _, rules := range [][]fib.Rule{want.Rules, want.Later.Rules} {
		for _, r := range rules {
			if p, ok := first[r.Family]; !ok || r.Priority < p {
				first[r.Family] = r.Priority
			}
		}
	}
	return first
}

// lateLocal finds that table local is not looked up before our rules: then what is for the
// host's own addresses goes where these lead.
func lateLocal(have Snapshot, first map[fib.Family]uint32) (list []Hazard) {
	for _, f := range fib.Families {
		limit, ok := first[f]
		var local *fib.Rule
		for i := range have.Rules {
			r := &have.Rules[i].Rule
			if r.Family == f && r.Action == fib.Lookup && r.Table == fib.TableLocal && !r.Not && r.Key() == r.Bare() && (local == nil || r.Priority < local.Priority) {
				local = r
			}
		}
		if !ok || local != nil && local.Priority < limit {
			continue
		}
		what := "no rule looks table local up"
		if local != nil {
			what = fmt.Sprintf("table local is looked up behind the uplinks' rules (priority %d)", local.Priority)
		}
		list = append(list, Hazard{Text: fmt.Sprintf("%s: what is for the host's own %s addresses leaves by an uplink; `ip%s rule add priority 0 lookup local`", what, f, dash6(f))})
	}
	return list
}

// earlierRules finds rules of others that are asked before ours.
func earlierRules(others []Rule, first map[fib.Family]uint32) (list []Hazard) {
	for _, r := range others {
		// Table local is for the host's own addresses, wherever it is looked up, and the kernel's
		// rule for VRFs (l3mdev) for links in one.
		harmless := r.Action == fib.Lookup && r.Table == fib.TableLocal || r.L3MDev && r.Protocol == ProtocolKernel
		if limit, ok := first[r.Family]; ok && r.Priority < limit && !harmless {
			list = append(list, Hazard{Text: fmt.Sprintf("a rule of %s is asked before the uplinks': %s", ProtocolName(r.Protocol), ruleText(r))})
		}
	}
	return list
}

// jumps finds rules of others that packets never come to, because some of ours send all of
// them past, and those that lead packets past some of ours.
func jumps(want Resolved, have Snapshot, others []Rule, first map[fib.Family]uint32) (list []Hazard) {
	var around []fib.Rule
	for _, w := range want.Rules {
		if jumpsWithAll(&w) {
			around = append(around, w)
		}
	}
	for _, h := range others {
		over := slices.IndexFunc(around, func(w fib.Rule) bool {
			return w.Family == h.Family && w.Priority < h.Priority && h.Priority < w.Goto
		})
		if over >= 0 {
			list = append(list, Hazard{Text: fmt.Sprintf("a rule of %s is never asked, because the uplinks' rules are laid out around it (%d to %d): %s: give it a priority that is not among these",
				ProtocolName(h.Protocol), around[over].Priority, around[over].Goto, ruleText(h))})
			continue
		}
		// Those before all of ours are named already.
		if h.Action != fib.Goto || h.Priority < first[h.Family] || !slices.ContainsFunc(have.Rules, func(r Rule) bool { return r.Family == h.Family && r.Priority == h.Goto }) {
			continue
		}
		past := slices.IndexFunc(want.Rules, func(w fib.Rule) bool {
			return w.Family == h.Family && h.Priority <= w.Priority && w.Priority < h.Goto
		})
		if past >= 0 {
			list = append(list, Hazard{Text: fmt.Sprintf("a rule of %s leads packets past rules of the uplinks (priority %d and on): %s",
				ProtocolName(h.Protocol), want.Rules[past].Priority, ruleText(h))})
		}
	}
	return list
}

// othersRules returns the rules of a snapshot that are neither ours nor networkd's in our name.
func othersRules(want Resolved, have Snapshot) (list []Rule) {
	ours := sortedRules(slices.Concat(want.Rules, want.Later.Rules))
	for _, r := range have.Rules {
		if _, same := slices.BinarySearchFunc(ours, &r.Rule, (*fib.Rule).Compare); !same && !r.Ours() {
			list = append(list, r)
		}
	}
	return list
}

// ruleText returns a rule in the words of ip-rule(8).
func ruleText(r Rule) string {
	text := Op{Verb: RuleAdd, Rule: &r.Rule, Owner: fib.Some[uint8](ProtocolUnspec)}.Batch()
	_, text, _ = strings.Cut(text, "rule add ")
	return text
}

// reversePath finds links whose packets are dropped when their answers would leave
// another way (RFC 3704; ip-sysctl, rp_filter: the higher of "all" and the link's counts).
func reversePath(want Resolved, hw Hardware) (list []Hazard) {
	for _, l := range want.Links {
		if linkSetting(hw, l.Device.Name, "rp_filter") == "1" {
			list = append(list, Hazard{l.Device.Name, "rp_filter is strict: what comes in here is dropped where its answer has another way; set " + sysctlName("ipv4", l.Device.Name, "rp_filter") + "=2"})
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
			if linkSetting(hw, dev, "arp_ignore") == "0" && !said[dev] {
				said[dev] = true
				list = append(list, Hazard{dev, fmt.Sprintf("%s is on %s and %s: both answer ARP for either's addresses; set %s=1 and arp_announce=2", r.Dst, other, link, sysctlName("ipv4", dev, "arp_ignore"))})
			}
		}
	}
	return list
}

// deadGateways finds gateways that were asked for and did not answer.
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

// withoutGateway finds links that have learned an address, and no way out with it. Of two
// DHCP clients that give the default route no metric (dhclient, udhcpc), the kernel refuses
// the second one's.
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

// deaf finds links on which the kernel takes no router advertisement (ip-sysctl,
// accept_ra) and nobody else has taken one.
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

// leading returns the tables that have a default route by any device, whoever brought it.
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
