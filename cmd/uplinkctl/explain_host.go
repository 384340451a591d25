package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/rtnl"
	"github.com/uplink-generator/uplink-generator/cmd/internal/host"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/lookup"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// lookupHost is the running kernel in the form that gen/lookup takes. What the spec has in it
// bears its origin in the spec.
type lookupHost struct {
	kernel  *rtnl.Kernel
	host    lookup.Host
	owners  map[any]uint8     // *fib.Rule or *fib.Route → the protocol number of its owner
	devices map[string]string // interface by link of the State
	waiting []apply.Waiting
	dead    []host.Dead
}

func openLookup(root rootfs.Root, state fib.State) (*lookupHost, error) {
	kernel, err := rtnl.New()
	if err != nil {
		return nil, err
	}
	h := &lookupHost{kernel: kernel, owners: map[any]uint8{}, devices: map[string]string{}}
	have, err := kernel.Observe(apply.Scope{Foreign: true, Local: true})
	if err == nil {
		err = h.fill(have, state, root)
	}
	if err != nil {
		kernel.Close()
		return nil, err
	}
	return h, nil
}

func (h *lookupHost) fill(have apply.Snapshot, state fib.State, root rootfs.Root) error {
	hw := rtnl.Hardware{}
	on := host.Host{Applier: apply.Applier{Kernel: h.kernel, Hardware: hw}, Root: root}
	on.LearnDead()
	want, err := on.Resolve(state, have)
	if err != nil {
		return err
	}
	if h.dead, err = on.DeadUplinks(state); err != nil {
		return err
	}
	h.waiting = want.Later.Links
	for _, l := range want.Links {
		for _, u := range l.Uplinks {
			h.devices[u.Name] = l.Device.Name
		}
	}
	h.host.Forwarding6 = hw.Sysctl("ipv6", "all", "forwarding") == "1"
	bind, _ := os.ReadFile("/proc/sys/net/ipv6/ip_nonlocal_bind") // none on a kernel without IPv6
	h.host.NonLocalBind6 = strings.TrimSpace(string(bind)) == "1"
	for _, l := range have.Links {
		highest := func(name string) uint8 {
			v, _ := strconv.ParseUint(max(hw.Sysctl("ipv4", "all", name), hw.Sysctl("ipv4", l.Name, name)), 10, 8)
			return uint8(v)
		}
		h.host.Links = append(h.host.Links, lookup.Link{
			Name: l.Name, Up: l.Up, Carrier: l.Carrier, Loopback: l.Loopback, Group: l.Group,
			Forwarding: hw.Sysctl("ipv4", l.Name, "forwarding") == "1", ReversePath: highest("rp_filter"),
			IgnoreLinkDown: highest("ignore_routes_with_linkdown") == 1,
		})
	}
	for _, a := range have.Addresses {
		h.host.Addresses = append(h.host.Addresses, a.Address)
	}
	h.rules(have.Rules, append(want.Rules, want.Later.Rules...))
	h.routes(have.Routes, append(want.Routes, want.Later.Routes...))
	neighbours, err := h.kernel.Neighbours()
	h.host.Failed = map[lookup.Neighbour]bool{}
	for _, n := range neighbours {
		if n.Failed() {
			h.host.Failed[lookup.Neighbour{Link: n.Link, Addr: n.Addr}] = true
		}
	}
	return err
}

// rules takes over the observed rules, with their origins.
func (h *lookupHost) rules(have []apply.Rule, want []fib.Rule) {
	origins := make(map[fib.Rule]fib.Origin, len(want))
	for _, r := range want {
		origins[r.Key()] = r.Origin
	}
	h.host.Rules = make([]fib.Rule, len(have))
	for i, r := range have {
		r.Origin = origins[r.Key()]
		h.host.Rules[i] = r.Rule
		h.owners[&h.host.Rules[i]] = r.Protocol
	}
}

// routes takes over the observed routes, with their origins. A route of others that has the key
// of a route of the spec gets no origin.
func (h *lookupHost) routes(have []apply.Route, want []fib.Route) {
	wanted := make(map[fib.RouteKey][]*fib.Route, len(want)) // several while one of its links waits
	for i := range want {
		wanted[want[i].Key()] = append(wanted[want[i].Key()], &want[i])
	}
	h.host.Routes = make([]fib.Route, len(have))
	for i, r := range have {
		for _, w := range wanted[r.Key()] {
			if (r.Ours() || r.MayBeNetworkds()) && r.Same(w) {
				r.Origin = w.Origin
			}
		}
		h.host.Routes[i] = r.Route
		h.owners[&h.host.Routes[i]] = r.Protocol
	}
}

// deadOf returns the dead uplinks that concern a packet: the one that it is from, those whose
// tables were asked and, if the route around dead uplinks was asked, all of the family.
func (h *lookupHost) deadOf(e *explanation, src string, failover uint32) (list []string) {
	tables := map[string]bool{src: true}
	around := false
	for _, r := range []*lookup.Result{&e.result, e.result.Final()} {
		for _, s := range r.Steps {
			if s.Outcome != lookup.NoMatch && s.Rule.Action == fib.Lookup {
				tables[e.table(s.Rule.Table)] = true
				around = around || s.Rule.Table == failover
			}
		}
	}
	for _, d := range h.dead {
		if d.Family == fib.FamilyOf(e.result.Packet.To) && (around || tables[d.Uplink]) {
			list = append(list, d.String())
		}
	}
	return list
}

func (h *lookupHost) device(link string) string { return h.devices[link] }

// links returns the names of the host's links.
func (h *lookupHost) links() []string {
	names := make([]string, len(h.host.Links))
	for i, l := range h.host.Links {
		names[i] = l.Name
	}
	return names
}

// concerned returns the waiting uplinks that concern a packet: the one that it is from, the one
// on whose link it is, and those whose rules and routes select it, now or once the whole State is
// there.
func (h *lookupHost) concerned(e *explanation, src string, state fib.State) []apply.Waiting {
	if len(h.waiting) == 0 {
		return nil
	}
	p := e.result.Packet
	tables, origins, devices := map[string]bool{src: true}, map[fib.Origin]bool{}, map[string]bool{p.IIF: true, p.OIF: true}
	then := lookup.New(lookup.FromState(state)).Lookup(p)
	for _, r := range []*lookup.Result{&e.result, e.result.Final(), &then, then.Final()} {
		for _, s := range r.Steps {
			switch s.Outcome {
			case lookup.NoMatch, lookup.Jumped, lookup.NoTarget, lookup.Passed:
				continue
			case lookup.Found, lookup.Refused:
				if s.Route != nil {
					origins[s.Route.Origin] = true
				} else {
					origins[s.Rule.Origin] = true
				}
			}
			tables[e.table(s.Rule.Table)] = true
		}
		for _, w := range r.Ways() {
			devices[w.Device] = true
		}
	}
	delete(origins, fib.Origin{})
	delete(devices, "")
	delete(devices, lookup.Loopback)
	device := state.Syntax().Device
	return slices.DeleteFunc(slices.Clone(h.waiting), func(w apply.Waiting) bool {
		return !devices[w.Device] && !devices[device(w.Name)] && !slices.ContainsFunc(w.Uplinks, func(u fib.Named) bool { return tables[u.Name] || origins[u.Origin] })
	})
}

// ask asks the kernel the same question, and says whether its answer is one of ours.
func (h *lookupHost) ask(e *explanation) error {
	r := e.result.Final()
	way, err := h.kernel.RouteGet(apply.Packet(r.Packet))
	if errors.Is(err, syscall.EXDEV) { // the answer where rp_filter drops the packet
		way, err = apply.Way{Type: fib.RouteBlackhole}, nil
	}
	if err != nil {
		return fmt.Errorf("ask the kernel: %w", err)
	}
	e.kernel = &way
	for _, w := range r.Ways() {
		e.agrees = e.agrees || sameWay(way, apply.Way(w), r.Packet)
	}
	return nil
}

// sameWay says whether the kernel's answer matches a way. For a packet that has a source, or
// comes in, the kernel names no other source. For the host itself the table does not count: until
// somebody adds a first rule, IPv4 keeps local and main in one table (fib_unmerge in
// net/ipv4/fib_frontend.c).
func sameWay(have, want apply.Way, p lookup.Packet) bool {
	if !want.Type.HasDevice() {
		return have.Type == want.Type
	}
	if p.From.IsValid() || p.IIF != "" {
		have.Src = want.Src
	}
	if want.Type != fib.Unicast {
		have.Table = want.Table
	}
	return have == want
}
