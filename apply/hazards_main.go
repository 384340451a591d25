package apply

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/lookup"
)

// mainUplinks returns the uplinks that table main should lead out by, by family and device: those
// with default-route, and those of [multipath].
func mainUplinks(want Resolved) map[fib.Family]map[string]string {
	names, by := make(map[string]string, len(want.Links)), map[fib.Family]map[string]string{}
	add := func(f fib.Family, device string) {
		if by[f] == nil {
			by[f] = map[string]string{}
		}
		by[f][device] = names[device]
	}
	for _, l := range want.Links {
		names[l.Device.Name] = l.Name
		for _, f := range fib.Families {
			if l.Learn.DefaultRoute && l.Learn.Learns(f) {
				add(f, l.Device.Name)
			}
		}
	}
	for _, routes := range [][]fib.Route{want.Routes, want.Later.Routes} {
		for i := range routes {
			if r := &routes[i]; r.Table == fib.TableMain && r.IsDefault() {
				for _, n := range r.Nexthops {
					add(r.Family, n.Link)
				}
			}
		}
	}
	return by
}

// unbound asks the kernel which way it sends a packet of the host's own without source or mark,
// in each family in which main has uplinks.
func unbound(mains map[fib.Family]map[string]string, ask func(Packet) (Way, error)) map[fib.Family]Way {
	ways := map[fib.Family]Way{}
	for f := range mains {
		if w, err := ask(Packet{To: outside[f][0]}); err == nil {
			ways[f] = w
		}
	}
	return ways
}

// aheadOfMain finds rules of others behind the uplinks' rules that take packets without a source
// before main is asked, as a VPN's rule for everything does. rulesOfOthers reports those before
// the uplinks' rules, and mainDefaults the default routes of others in main.
func aheadOfMain(have Snapshot, others []othersRule, turns map[fib.Family]*turns, mains map[fib.Family]map[string]string, ways map[fib.Family]Way) (list []Hazard) {
	var kernel *lookup.Resolver
	for _, f := range fib.Families {
		way, asked := ways[f]
		if _, uplinks := mains[f][way.Device]; !asked || uplinks || way.Table == fib.TableMain {
			continue
		}
		if kernel == nil {
			kernel = lookup.New(observed(have))
		}
		found := kernel.Lookup(lookup.Packet{To: outside[f][0], UID: fib.Some(uint32(os.Getuid()))})
		last, ok := found.Last()
		if !ok || found.Way.Type != way.Type || found.Way.Device != way.Device || last.Rule.Action == fib.Lookup && last.Rule.Table == fib.TableMain {
			continue
		}
		for _, o := range others {
			if t := turns[f]; o.rule.Compare(last.Rule) != 0 || o.rule.Protocol == ProtocolKernel || t != nil && (o.turn.before(t.first) || t.takes(o.rule, o.turn)) {
				continue
			}
			leaves := "is refused"
			if way.Type.HasDevice() {
				leaves = "leaves by " + way.Device
			}
			names := slices.Compact(slices.Sorted(maps.Values(mains[f])))
			list = append(list, Hazard{Text: fmt.Sprintf("what asks for no source of its own %s, not by %s: a rule of %s is asked before main: %s; right for a VPN that is to have all, otherwise remove it",
				leaves, strings.Join(names, " or "), ProtocolName(o.rule.Protocol), ruleText(o.rule))})
			break
		}
	}
	return list
}

// observed is the host as it is, without table local, which leads nowhere outside.
func observed(have Snapshot) lookup.Host {
	host := lookup.Host{Forwarding6: true}
	for i := range have.Rules {
		host.Rules = append(host.Rules, have.Rules[i].Rule)
	}
	for i := range have.Routes {
		if r := &have.Routes[i]; r.Expires >= 0 && !r.isForSome() {
			host.Routes = append(host.Routes, r.Route)
		}
	}
	for _, l := range have.Links {
		host.Links = append(host.Links, lookup.Link{Name: l.Name, Up: l.Up, Carrier: l.Carrier, Loopback: l.Loopback, Group: l.Group})
	}
	for _, a := range have.Addresses {
		host.Addresses = append(host.Addresses, a.Address)
	}
	return host
}
