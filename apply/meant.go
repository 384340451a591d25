package apply

import (
	"os"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/lookup"
)

// meant knows which packets the spec itself sends elsewhere than to the uplink's table: by a rule
// that comes before the one that leads there.
type meant struct {
	kernel  *lookup.Resolver // with what is wanted, and the routes of others
	uplinks map[uint32]bool  // by table number
}

// newMeant takes what is wanted and what was learned, by table.
func newMeant(want Resolved, have Snapshot, tables map[uint32][]fib.Route) *meant {
	m := &meant{uplinks: make(map[uint32]bool, len(want.Tables))}
	for _, t := range want.Tables {
		m.uplinks[t.ID] = true
	}
	host := lookup.Host{Rules: append(lookup.KernelRules(), want.Rules...), Forwarding6: true}
	for _, routes := range tables {
		host.Routes = append(host.Routes, routes...)
	}
	for _, r := range have.Routes {
		if !m.uplinks[r.Table] && !r.Ours() {
			host.Routes = append(host.Routes, r.Route)
		}
	}
	ready := map[string]bool{} // links that the State itself sets up
	for _, l := range want.Links {
		ready[l.Device.Name] = !l.PolicyOnly
	}
	for _, l := range have.Links {
		// Verify asks about incoming packets only where they are forwarded.
		host.Links = append(host.Links, lookup.Link{Name: l.Name, Up: l.Up || ready[l.Name], Carrier: l.Carrier || ready[l.Name], Loopback: l.Loopback, Group: l.Group, Forwarding: true})
	}
	for _, a := range have.Addresses {
		host.Addresses = append(host.Addresses, a.Address)
	}
	m.kernel = lookup.New(host)
	return m
}

// ways returns the ways of a packet that a rule selects, where the spec gives others than the
// rule's table does. Another uplink that takes it is not meant: gen/check warns of that.
func (m *meant) ways(r *fib.Rule, packet Packet) (ways []Way) {
	p := lookup.Packet(packet)
	p.UID = fib.Some(uint32(os.Getuid()))
	found := m.kernel.Lookup(p)
	last, ok := found.Last()
	if !ok || last.Rule.Origin != r.Origin && last.Rule.Action == fib.Lookup && m.uplinks[last.Rule.Table] {
		return nil
	}
	for _, w := range found.Ways() {
		ways = append(ways, Way(w))
	}
	return ways
}
