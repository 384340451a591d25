package gen

import (
	"fmt"
	"strings"
	"time"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// probes adds the probes of the uplinks, and the ways that table main has.
func (c *compiler) probes() {
	if !c.spec.HasProbes() {
		return
	}
	origin := fib.Origin{File: c.spec.Files[0]}
	c.state.Failover = fib.Failover{Table: c.tables[spec.FailoverTable], Origin: origin}
	c.state.Tables = append(c.state.Tables, fib.Table{ID: c.state.Failover.Table, Name: spec.FailoverTable})
	if c.spec.Uplink(spec.FailoverTable) != nil {
		c.spec.Fail("`"+spec.FailoverTable+"` cannot be an uplink's name where one has a probe", "the table to fail over to has this name", "uplink", spec.FailoverTable)
	}
	weights := make(map[string]uint16, len(c.spec.Multipath))
	for _, m := range c.spec.Multipath {
		weights[m.Uplink] = m.Weight
	}
	for i := range c.spec.Uplinks {
		u := &c.spec.Uplinks[i]
		for _, f := range fib.Families {
			c.probe(u, f)
			c.mainWay(u, f, weights[u.Name])
		}
	}
}

func (c *compiler) probe(u *spec.Uplink, f fib.Family) {
	if u.Probe == nil {
		return
	}
	p := fib.Probe{
		Verdict: fib.Verdict{Uplink: u.Name, Family: f}, Link: c.linkOf(u.Name), Mark: u.Mark.Value, Port: u.Probe.Port,
		Interval: time.Duration(u.Probe.Interval) * time.Second, Timeout: time.Duration(u.Probe.Timeout) * time.Second,
		Down: u.Probe.Down, Up: u.Probe.Up, Reliability: u.Probe.Reliability, Origin: u.Origin,
	}
	for _, a := range u.Probe.Targets {
		if fib.FamilyOf(a) == f {
			p.Targets = append(p.Targets, a)
		}
	}
	for _, a := range u.Addresses {
		if fib.FamilyOf(a.Addr()) == f {
			p.Sources = append(p.Sources, a.Addr())
		}
	}
	if len(p.Targets) > 0 {
		c.state.Probes = append(c.state.Probes, p)
	}
}

// mainWay adds the default route that the uplink has, or may learn, in table main. weight
// is its share in [multipath], or 0.
func (c *compiler) mainWay(u *spec.Uplink, f fib.Family, weight uint16) {
	w := fib.MainWay{Verdict: fib.Verdict{Uplink: u.Name, Family: f}, Link: c.linkOf(u.Name), Table: c.tables[u.Name], Metric: f.Metric(u.Metric)}
	_, out := c.wayOut(u, f)
	switch {
	case out && weight > 0:
		w.Weight = weight
	case !u.DefaultRoute || !out && !u.Learns(f):
		return
	}
	c.state.Failover.Ways = append(c.state.Failover.Ways, w)
}

// belowFailover reports rules that would be asked only after those that fail over.
func (c *compiler) belowFailover() {
	if c.state.Failover.Table == 0 {
		return
	}
	uplinks := make(map[fib.Origin]string, len(c.spec.Uplinks))
	for i := range c.spec.Uplinks {
		uplinks[c.spec.Uplinks[i].Origin] = c.spec.Uplinks[i].Name
	}
	said := map[string]bool{}
	late := func(r fib.Rule, at []string) {
		if r.Priority < fib.PriorityFailover {
			return
		}
		if name, ok := uplinks[r.Origin]; at == nil && ok {
			at = []string{"uplink", name}
		}
		if key := strings.Join(at, "."); !said[key] {
			said[key] = true
			c.spec.Fail(fmt.Sprintf("a rule would stand at priority %d, where those that fail over stand", r.Priority),
				fmt.Sprintf("where an uplink has a probe, all others are below %d", fib.PriorityFailover), append(at, "priority")...)
		}
	}
	for i, r := range c.state.Rules {
		late(r, c.extraRules[i])
	}
	for _, l := range c.state.Links {
		for _, r := range l.Learn.Rules {
			late(r.Rule, nil)
		}
	}
}
