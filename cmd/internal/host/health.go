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

	"github.com/uplink-generator/uplink-generator/apply/probe"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// healthFile has what the probes have found: watch writes it, so that whoever else looks
// at the kernel or changes it knows what is there because of it, and so that watch itself
// goes on where it was.
const healthFile = "health.json"

// Health is what probes have found of an uplink in one family.
type Health struct {
	fib.Verdict
	probe.Judgement
}

// readHealth returns what the probes have found since the host was booted: /run is new
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

// dead returns those that are.
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
	known, err := l.readHealth()
	if err != nil {
		l.out.Notes = append(l.out.Notes, err.Error())
	}
	probed := make(map[fib.Verdict]bool, len(l.state.Probes))
	for _, p := range l.state.Probes {
		probed[p.Verdict] = true
	}
	for _, e := range known {
		if probed[e.Verdict] {
			u := l.byName[e.Uplink]
			u.Health = append(u.Health, e)
		}
	}
}
