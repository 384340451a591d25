package host

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/probe"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// prober runs the probes of what is in effect, and reports their results.
type prober struct {
	*Host
	runner  probe.Runner
	targets *targets
	wrote   map[fib.Verdict]probe.Judgement // what healthFile has; nil before there was anything
	told    bool                            // whether that was written since the start
}

// startProber starts from what an earlier run has found. The prober calls changed when a verdict
// needs another look.
func (h *Host) startProber(ctx context.Context, changed func(), log func(string)) *prober {
	known, err := h.knownHealth()
	if err != nil {
		log(err.Error())
	}
	p := &prober{Host: h, runner: probe.Runner{Changed: changed, Log: log, Known: maps.Clone(known)}, targets: h.followTargets(ctx, log)}
	if len(known) > 0 {
		p.wrote = known
	}
	return p
}

// update makes the probes of a State run by the paths that exist now, and takes over what they
// have found.
func (p *prober) update(s fib.State) error {
	if len(s.Probes) == 0 && p.wrote == nil {
		return nil
	}
	tasks, err := p.tasks(s)
	if err != nil {
		return err
	}
	p.runner.Set(tasks)
	all := p.runner.Judgements()
	p.Dead = dead(all)
	if p.told && maps.Equal(p.wrote, all) {
		return nil
	}
	// Whoever is told may look at the file. If it cannot be written, the failover still happens.
	if err := p.writeHealth(all); err != nil {
		p.runner.Log(err.Error())
	} else {
		p.wrote, p.told = all, true
	}
	p.targets.tell(all)
	return nil
}

// tasks finds each probe's path.
func (p *prober) tasks(s fib.State) ([]probe.Task, error) {
	if len(s.Probes) == 0 {
		return nil, nil
	}
	have, err := p.Kernel.Observe(apply.Scope{})
	if err != nil {
		return nil, err
	}
	want, err := p.Resolve(s, have)
	if err != nil {
		return nil, err
	}
	links, addresses := make(map[string]apply.ResolvedLink, len(want.Links)), map[string][]apply.Address{}
	for _, l := range want.Links {
		links[l.Name] = l
	}
	for _, a := range have.Addresses {
		addresses[a.Link] = append(addresses[a.Link], a)
	}
	tasks := make([]probe.Task, 0, len(s.Probes))
	for _, e := range s.Probes {
		path := probe.Path{None: "its link is not there"}
		if l, there := links[e.Link]; there {
			path = pathOf(e, l, addresses[l.Device.Name])
		}
		tasks = append(tasks, probe.Task{Probe: e, Path: path})
	}
	return tasks, nil
}

// pathOf returns the way by which a probe leaves: its uplink's link, and one of the addresses
// there.
func pathOf(p fib.Probe, link apply.ResolvedLink, there []apply.Address) probe.Path {
	switch d := link.Device; {
	case !d.Up:
		return probe.Path{None: d.Name + " is down"}
	case !d.Carrier:
		return probe.Path{None: d.Name + " has no carrier"}
	}
	if from := usable(p, link, there, false); len(from) > 0 {
		return probe.Path{Device: link.Device.Name, Source: from[0]}
	}
	none := probe.Path{None: link.Device.Name + " has no " + p.Family.String() + " address of the uplink", Grace: replaceTime}
	if len(usable(p, link, there, true)) > 0 {
		none.Grace += tentativeTime
	}
	return none
}

const (
	// replaceTime is for programs that replace an address and remove the old one first:
	// dhclient-script(8) takes 3 ms from there to the new default route, and may have hooks or a
	// busy host to wait for.
	replaceTime = time.Second
	// tentativeTime is the longest that duplicate address detection takes: a second, and up to
	// one more to begin (RFC 4862, section 5.4.2).
	tentativeTime = 2 * time.Second
)

// usable returns the addresses of a link that a probe may be sent from: first those of the spec,
// in its order, then those that were learned. With soon it includes those that will become
// usable.
func usable(p fib.Probe, link apply.ResolvedLink, there []apply.Address, soon bool) (list []netip.Addr) {
	var learned []apply.Address
	for _, a := range there {
		addr := a.Prefix.Addr()
		switch {
		case a.Family() != p.Family || a.Tentative && !soon || a.Duplicate:
		case slices.Contains(p.Sources, addr):
			list = append(list, addr)
		case link.Learn.Takes(addr) && addr.IsGlobalUnicast() && !a.Deprecated && !a.Temporary:
			learned = append(learned, a)
		}
	}
	slices.SortStableFunc(list, func(a, b netip.Addr) int { return slices.Index(p.Sources, a) - slices.Index(p.Sources, b) })
	for _, a := range learned {
		list = append(list, a.Prefix.Addr())
	}
	return list
}
