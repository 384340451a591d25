package host

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/probe"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// healthFile has what the probes have found. watch writes it, so that others who look at the
// kernel or change it know what is there because of that, and so that watch itself can go on
// where it was.
const healthFile = "health.json"

// Health is what probes have found out about an uplink in one family.
type Health struct {
	fib.Verdict
	probe.Judgement
}

// readHealth returns what the probes have found since the host was booted, because /run is new
// then.
func (h *Host) readHealth() ([]Health, error) {
	name, err := h.own(healthFile)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []Health
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: a restart of uplink-watch.service writes it anew", healthFile, err)
	}
	return all, nil
}

// writeHealth writes what the probes have found.
func (h *Host) writeHealth(judgements map[fib.Verdict]probe.Judgement) error {
	name, err := h.own(healthFile)
	if err != nil {
		return err
	}
	all := []Health{}
	for v, j := range judgements {
		if !j.Judged && !j.Dead {
			continue
		}
		j.Since = j.Since.Round(time.Second)
		all = append(all, Health{v, j})
	}
	slices.SortFunc(all, func(a, b Health) int {
		return cmp.Or(cmp.Compare(a.Uplink, b.Uplink), cmp.Compare(a.Family, b.Family))
	})
	data, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return writeFile(name, data, 0o644)
}

// forgetHealth removes what the probes have found, unless a watch runs: it writes what holds from
// now on.
func (h *Host) forgetHealth() error {
	if h.isWatched() {
		return nil
	}
	name, err := h.own(healthFile)
	if err != nil {
		return err
	}
	return removeFile(name)
}

// dead returns the verdicts that say dead.
func dead(judgements map[fib.Verdict]probe.Judgement) map[fib.Verdict]bool {
	set := map[fib.Verdict]bool{}
	for v, j := range judgements {
		if j.Dead {
			set[v] = true
		}
	}
	return set
}

// knownHealth is readHealth, by uplink and family.
func (h *Host) knownHealth() (map[fib.Verdict]probe.Judgement, error) {
	list, err := h.readHealth()
	known := make(map[fib.Verdict]probe.Judgement, len(list))
	for _, u := range list {
		known[u.Verdict] = u.Judgement
	}
	return known, err
}

// health adds what the probes of the spec have found.
func (l *looker) health() {
	l.out.Failover = l.state.Failover.Table
	known, err := l.healthOf(l.state)
	if err != nil {
		l.out.Notes = append(l.out.Notes, err.Error())
	}
	for _, e := range known {
		u := l.byName[e.Uplink]
		u.Health = append(u.Health, e)
	}
}

// healthOf is readHealth without what no probe of a State asks about.
func (h *Host) healthOf(s fib.State) ([]Health, error) {
	if len(s.Probes) == 0 {
		return nil, nil
	}
	known, err := h.readHealth()
	probed := make(map[fib.Verdict]bool, len(s.Probes))
	for _, p := range s.Probes {
		probed[p.Verdict] = true
	}
	return slices.DeleteFunc(known, func(e Health) bool { return !probed[e.Verdict] }), err
}

// Dead is an uplink that a probe has found dead.
type Dead struct {
	Health
	LedAround bool // there is a route around the dead uplinks of its family
}

// String returns "isp1 is dead for IPv4 since 2026-11-28 14:00:00 (no answer): led around".
func (d Dead) String() string {
	s := fmt.Sprintf("%s is dead for %s since %s (%s)", d.Uplink, d.Family, d.Since.Format(time.DateTime), d.Why)
	if d.LedAround {
		s += ": led around"
	}
	return s
}

// DeadUplinks returns the dead uplinks of a State.
func (h *Host) DeadUplinks(s fib.State) (list []Dead, err error) {
	known, err := h.healthOf(s)
	known = slices.DeleteFunc(known, func(e Health) bool { return !e.Dead })
	if err != nil || len(known) == 0 {
		return nil, err
	}
	have, err := h.Kernel.Observe(apply.Scope{Only: apply.Rules})
	for _, e := range known {
		list = append(list, Dead{e, slices.ContainsFunc(have.Rules, func(r apply.Rule) bool {
			return r.Family == e.Family && r.Table == s.Failover.Table
		})})
	}
	return list, err
}
