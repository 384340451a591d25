package apply

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// ignoresLinkDown is the setting without which the kernel goes on using a route whose link has
// lost its carrier (ip-sysctl). networkd removes such routes; through netlink they stay.
const ignoresLinkDown = "ignore_routes_with_linkdown"

// usesLinkDown says whether the kernel goes on using a link that has lost its carrier. For IPv6
// only the link's own setting counts (ip6_ignore_linkdown); setting that of "all" sets it too.
func usesLinkDown(hw Hardware, f fib.Family, link string) bool {
	if f == fib.Inet {
		return linkSetting(hw, link, ignoresLinkDown) == "0"
	}
	return hw.Sysctl("ipv6", link, ignoresLinkDown) == "0"
}

// linkDownSettings returns the settings of a link, or of "all", that cure it in some families.
func linkDownSettings(link string, families []fib.Family) string {
	var list []string
	for _, f := range families {
		list = append(list, sysctlName(map[fib.Family]string{fib.Inet: "ipv4", fib.Inet6: "ipv6"}[f], link, ignoresLinkDown)+"=1")
	}
	return strings.Join(list, " and ") + " (sysctl.d(5))"
}

// deadRoutes finds links without a carrier by which the kernel still sends packets that have
// another way, or that are to be refused.
func deadRoutes(want Resolved, have Snapshot, hw Hardware, ways map[fib.Family]Way, checks []Check) (list []Hazard) {
	dead := map[string]bool{}
	for _, l := range have.Links {
		dead[l.Name] = l.Up && !l.Carrier
	}
	for _, l := range want.Links {
		dev := l.Device.Name
		if !dead[dev] {
			continue
		}
		several := false
		uses := slices.DeleteFunc(slices.Clone(fib.Families[:]), func(f fib.Family) bool {
			// The route counts, not the device: which of several nexthops the kernel names
			// depends on the packet.
			best := passedOver(have, f, dev, dead)
			sends := ways[f].Table == fib.TableMain && best != nil || slices.ContainsFunc(checks, func(c Check) bool {
				return !c.OK() && c.Err == nil && c.Have.Device == dev && fib.FamilyOf(c.Packet.To) == f
			})
			uses := sends && usesLinkDown(hw, f, dev)
			several = several || uses && f == fib.Inet && best != nil && len(best.Nexthops) > 1
			return !uses
		})
		if len(uses) == 0 {
			continue
		}
		text := "it has no carrier, and the kernel still sends there what has another way, or is to be refused: set " + linkDownSettings(dev, uses)
		if several { // only then does IPv4 spread its flows anew (fib_rebalance in net/ipv4/fib_semantics.c)
			text += fmt.Sprintf("; a route with several ways heeds it from a link's next change on: `ip link set %s down`, and `uplinkctl reload` once it is back", dev)
		}
		list = append(list, Hazard{dev, text})
	}
	return list
}

// passedOver returns the default route that main uses, if it leads by the link and there is
// another way once that is passed over.
func passedOver(have Snapshot, f fib.Family, dev string, dead map[string]bool) (best *Route) {
	another := false
	for i := range have.Routes {
		r := &have.Routes[i]
		if r.Family != f || r.Table != fib.TableMain || !r.IsDefault() || r.Expires < 0 {
			continue
		}
		if best == nil || r.Metric < best.Metric {
			best = r
		}
		another = another || slices.ContainsFunc(r.Nexthops, func(n fib.Nexthop) bool { return !dead[n.Link] })
	}
	if !another || !slices.Contains(linksOf(&best.Route), dev) {
		return nil
	}
	return best
}

// failsOverByCarrier reports that main has default routes of ours by several links, and that the
// kernel would not go on to the next one when a link loses its carrier. A probe takes care of
// that. It is reported before it happens, because at night it is too late.
func failsOverByCarrier(s fib.State, want Resolved, have Snapshot, hw Hardware) []Hazard {
	device, probed := map[string]string{}, map[place]bool{}
	for _, l := range want.Links {
		device[l.Name] = l.Device.Name
	}
	for i := range s.Probes {
		probed[place{family: s.Probes[i].Family, device: device[s.Probes[i].Link]}] = true
	}
	var families []fib.Family
	var links []string
	for _, f := range fib.Families {
		var routes []*Route
		for i := range have.Routes {
			if r := &have.Routes[i]; r.Family == f && r.Table == fib.TableMain && r.IsDefault() && r.Ours() && len(r.Nexthops) > 0 {
				routes = append(routes, r)
			}
		}
		slices.SortStableFunc(routes, func(a, b *Route) int { return cmp.Compare(a.Metric, b.Metric) })
		var of []string
		for _, r := range routes {
			for _, link := range linksOf(&r.Route) {
				if !slices.Contains(of, link) {
					of = append(of, link)
				}
			}
		}
		if len(of) < 2 {
			continue
		}
		left := of // links whose traffic goes by others when they fail
		if len(routes[0].Nexthops) == 1 {
			left = of[:len(of)-1]
		}
		if slices.ContainsFunc(left, func(link string) bool { return usesLinkDown(hw, f, link) && !probed[place{family: f, device: link}] }) {
			families, links = append(families, f), append(links, of...)
		}
	}
	if len(families) == 0 {
		return nil
	}
	slices.Sort(links)
	return []Hazard{{Text: fmt.Sprintf("main has default routes by %s: where one loses its carrier the kernel goes on using it; set %s, or give the uplinks probes",
		strings.Join(slices.Compact(links), " and "), linkDownSettings("all", families))}}
}
