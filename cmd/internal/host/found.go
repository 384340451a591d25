package host

import (
	"fmt"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/importer"
)

// Found returns what the running kernel holds, for an import, and the snapshot that this comes
// from. It leaves out what the kernel makes by itself: its rules, table local, and the routes to
// the subnets of addresses.
func (h *Host) Found() (*importer.Found, apply.Snapshot, error) {
	have, err := h.Kernel.Observe(apply.Scope{Foreign: true})
	if err != nil {
		return nil, have, err
	}
	f := &importer.Found{From: "the running kernel", Everything: true, Tables: importer.ReadNames(h.Root).Tables()}
	links, loopback := map[string]*importer.Link{}, map[string]bool{}
	for _, l := range have.Links {
		if loopback[l.Name] = l.Loopback; !l.Loopback {
			links[l.Name] = &importer.Link{Name: l.Name}
		}
	}
	for _, a := range have.Addresses {
		if l := links[a.Link]; l != nil && !a.Prefix.Addr().IsLinkLocalUnicast() {
			text := "ip " + (fib.Syntax{Device: func(link string) string { return link }}).Address("add", a.Address)
			if a.Peer.IsValid() {
				l.Own = append(l.Own, importer.Left{Text: text, Why: fmt.Sprintf("without `peer %s`", a.Peer)})
			}
			if a.Deprecated && a.Valid == 0 {
				l.Own = append(l.Own, importer.Left{Text: text, Why: "without `preferred_lft 0`"})
			}
			f.Addresses = append(f.Addresses, importer.Address{Address: a.Address, Stays: true, Learned: a.Valid > 0})
		}
	}
	firstAddedFirst(f.Addresses)
	metrics := learnedMetrics{}
	for _, r := range have.Routes {
		const redirect = 1 // RTPROT_REDIRECT
		if r.Protocol == apply.ProtocolKernel || r.Protocol == redirect || r.Table == fib.TableLocal {
			continue
		}
		if len(r.Nexthops) > 0 && loopback[r.Nexthops[0].Link] {
			f.Left = append(f.Left, importer.Left{Text: "ip " + (apply.Op{Verb: apply.RouteAdd, Route: &r.Route, Owner: fib.Some(r.Protocol)}).Batch(), Why: "it leads to the host itself"})
			continue
		}
		if r.Unread != "" {
			o := apply.Op{Verb: apply.RouteAdd, Route: &r.Route, Owner: fib.Some(r.Protocol)}
			f.Left = append(f.Left, importer.Left{Text: "ip " + o.Batch(), Why: "it also has what a spec cannot say: " + r.Unread})
			continue
		}
		found := importer.Route{Route: r.Route, Stays: r.Table == fib.TableMain && !r.Ours(), Learned: r.Protocol == apply.ProtocolDHCP || r.Protocol == apply.ProtocolRA}
		if len(r.Nexthops) > 0 {
			found.Link = r.Nexthops[0].Link
		}
		if l := links[found.Link]; found.Learned && l != nil {
			metrics.see(r.Route, found.Link)
			l.Learn.DHCP4 = l.Learn.DHCP4 || r.Family == fib.Inet && r.Protocol == apply.ProtocolDHCP
			l.Learn.DHCP6 = l.Learn.DHCP6 || r.Family == fib.Inet6 && r.Protocol == apply.ProtocolDHCP
			l.Learn.RA = l.Learn.RA || r.Protocol == apply.ProtocolRA
			if r.IsDefault() && r.Table != fib.TableMain {
				l.Learn.Table = r.Table
			}
		}
		f.Routes = append(f.Routes, found)
	}
	for _, l := range links {
		metrics.settle(l)
		f.Links = append(f.Links, *l)
	}
	slices.SortFunc(f.Links, func(a, b importer.Link) int { return strings.Compare(a.Name, b.Name) })
	for _, r := range have.Rules {
		switch {
		case r.Protocol == apply.ProtocolKernel:
		case r.Unread != "":
			o := apply.Op{Verb: apply.RuleAdd, Rule: &r.Rule, Owner: fib.Some(r.Protocol)}
			f.Left = append(f.Left, importer.Left{Text: "ip " + o.Batch(), Why: "it also has what a spec cannot say: " + r.Unread})
		default:
			f.Rules = append(f.Rules, importer.Rule{Rule: r.Rule})
		}
	}
	return f, have, nil
}

// learnedMetrics are the metrics of the best learned default route in main, by link and family.
type learnedMetrics map[learnedBy]uint32

type learnedBy struct {
	link   string
	family fib.Family
}

func (m learnedMetrics) see(r fib.Route, link string) {
	if !r.IsDefault() || r.Table != fib.TableMain {
		return
	}
	k := learnedBy{link, r.Family}
	if have, ok := m[k]; !ok || r.Metric < have {
		m[k] = r.Metric
	}
}

// settle gives a link the metric of what it learns. A spec has one metric for both families, and
// the default for IPv6 is not 0.
func (m learnedMetrics) settle(l *importer.Link) {
	four, is4 := m[learnedBy{l.Name, fib.Inet}]
	six, is6 := m[learnedBy{l.Name, fib.Inet6}]
	switch {
	case is4:
		l.Learn.Metric = four
	case is6 && six != fib.Inet6.Metric(0):
		l.Learn.Metric = six
	}
	if is4 && is6 && six != fib.Inet6.Metric(four) {
		l.Own = append(l.Own, importer.Left{
			Text: fmt.Sprintf("metric %d of the IPv6 default route that %s learns", six, l.Name),
			Why:  fmt.Sprintf("a spec has one for both families, and that of IPv4 is %d", four),
		})
	}
}

// firstAddedFirst reverses the IPv6 addresses of each link: the kernel lists the last one first
// (ipv6_link_dev_addr, net/ipv6/addrconf.c), and chooses it where two suit equally well.
func firstAddedFirst(list []importer.Address) {
	at := map[string][]int{}
	for i, a := range list {
		if a.Family() == fib.Inet6 {
			at[a.Link] = append(at[a.Link], i)
		}
	}
	for _, places := range at {
		for i, j := 0, len(places)-1; i < j; i, j = i+1, j-1 {
			list[places[i]], list[places[j]] = list[places[j]], list[places[i]]
		}
	}
}

// HandOver returns the operations that make ours, in place, what a State asks for and somebody
// else has added to the kernel: a route gets another owner, and our rule is there before the
// other one goes. No packet can tell.
func HandOver(state fib.State, have apply.Snapshot) []apply.Op {
	device := state.Syntax().Device
	rules := map[fib.Rule]bool{}
	for _, r := range state.Rules {
		rules[r.Key()] = true
	}
	wanted := map[fib.RouteKey]fib.Route{}
	for _, r := range state.Routes {
		r.Nexthops = slices.Clone(r.Nexthops)
		for i := range r.Nexthops {
			r.Nexthops[i].Link = device(r.Nexthops[i].Link)
		}
		wanted[r.Key()] = r
	}
	ours := map[fib.Rule]bool{}
	for _, r := range have.Rules {
		ours[r.Key()] = ours[r.Key()] || r.Ours()
	}
	var ops, gone []apply.Op
	for i := range have.Routes {
		h := &have.Routes[i]
		if w, ok := wanted[h.Key()]; ok && !h.Ours() && h.Protocol != apply.ProtocolKernel && w.Same(&h.Route) {
			ops = append(ops, apply.Op{Verb: apply.RouteReplace, Route: &h.Route, Before: &h.Route})
		}
	}
	for i := range have.Rules {
		h := &have.Rules[i]
		if !rules[h.Key()] || h.Ours() || h.Protocol == apply.ProtocolKernel {
			continue
		}
		if !ours[h.Key()] {
			ops = append(ops, apply.Op{Verb: apply.RuleAdd, Rule: &h.Rule})
		}
		gone = append(gone, apply.Op{Verb: apply.RuleDel, Rule: &h.Rule, Owner: fib.Some(h.Protocol)})
	}
	return append(ops, gone...)
}
