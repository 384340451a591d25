package integration

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/integration/lab"
	"github.com/uplink-generator/uplink-generator/units"
)

// afterApply first makes the oneshot bring another subject about.
func afterApply(before subject) backend {
	return func(ctx context.Context, s subject, state fib.State, host *lab.Namespace) (func() string, error) {
		first, err := before.state()
		if err != nil {
			return noLog, err
		}
		if _, err := viaApply(ctx, before, first, host); err != nil {
			return noLog, fmt.Errorf("the spec before: %w", err)
		}
		return noLog, applyIn(ctx, s, state, host)
	}
}

// afterNetworkd first makes networkd bring another subject about, then gives it the new files, as
// `uplinkctl render` does, and makes it read them.
func afterNetworkd(before subject, version units.Version) backend {
	return func(ctx context.Context, s subject, state fib.State, host *lab.Namespace) (func() string, error) {
		first, err := before.state()
		if err != nil {
			return noLog, err
		}
		old, err := before.render(first, version)
		if err != nil {
			return noLog, err
		}
		d, err := startOn(ctx, before, old, host, true)
		if err != nil {
			return noLog, err
		}
		if err := d.WaitConfigured(ctx, managedLinks(before, old)...); err != nil {
			return d.Log, fmt.Errorf("the spec before: %w", err)
		}
		tree, err := s.render(state, version)
		if err != nil {
			return d.Log, err
		}
		if _, err := tree.Write(d.Root()); err != nil {
			return d.Log, err
		}
		return d.Log, d.Reload(ctx)
	}
}

// A pair is two specs for one host.
type pair struct {
	name          string
	before, after subject

	// ambiguous says that networkd may not get rid of the earlier spec: see there.
	ambiguous bool
}

// examplePairs returns all pairs of examples for one network.
func examplePairs(t *testing.T) (pairs []pair) {
	t.Helper()
	var fit []example
	for _, e := range examples {
		// The host's own files, which cloud-init has, would have to change with the spec.
		if len(e.foreign.addresses) == 0 {
			fit = append(fit, e)
		}
	}
	for _, a := range fit {
		for _, b := range fit {
			if a.name == b.name {
				continue
			}
			before, after := a.subject(t), b.subject(t)
			cards, ok := together(before.lab, after.lab)
			if !ok {
				continue
			}
			before.lab, after.lab = cards, cards
			pairs = append(pairs, pair{name: a.name + " to " + b.name, before: before, after: after})
		}
	}
	return pairs
}

// together returns a lab with the cards of two subjects, and whether they fit together: one name
// has one hardware address.
func together(a, b lab.Options) (lab.Options, bool) {
	o := lab.Options{HostSysctls: withoutDAD}
	for _, p := range slices.Concat(a.Providers, b.Providers) {
		card := p.Cards[0]
		same := func(q lab.Provider) bool {
			return q.Cards[0].Name == card.Name && q.Cards[0].MAC.String() == card.MAC.String()
		}
		either := func(q lab.Provider) bool {
			return q.Cards[0].Name == card.Name || q.Cards[0].MAC.String() == card.MAC.String()
		}
		switch {
		case slices.ContainsFunc(o.Providers, same):
		case slices.ContainsFunc(o.Providers, either):
			return o, false
		default:
			// Up from the start: neither back end sets down a link that it no longer needs.
			card.Up = true
			o.Providers = append(o.Providers, lab.Provider{Unfiltered: true, Cards: []lab.Card{card}})
		}
	}
	return o, true
}

// drawPair draws two specs for the same cards. The links that others configure are the
// same in both: their files are not ours to change.
func drawPair(t *testing.T, n int) pair {
	t.Helper()
	_, before := drawWith(t, 1<<20+2*n, ownLinks)
	_, after := drawWith(t, 1<<20+2*n+1, ownLinks)
	before.lab, _ = together(before.lab, after.lab)
	after.lab = before.lab
	first, err := before.state()
	if err != nil {
		t.Fatal(err)
	}
	return pair{fmt.Sprint(n), before, after, ambiguous(first)}
}

// ambiguous says whether a State has two rules at one priority of which one leaves open what the
// other asks for. To remove the first, the kernel takes whichever of the two comes first
// (fib_nl_delrule in net/core/fib_rules.c compares only what is given). networkd removes them in
// no order, finds the second one gone ("Could not drop routing policy rule: No such file or
// directory"), and leaves the first for good (252). The oneshot looks again.
func ambiguous(state fib.State) bool {
	fits := func(open, r fib.Rule) bool {
		wide := func(a, b netip.Prefix) bool { return a.Bits() <= 0 || a == b }
		return open.Family == r.Family && open.Priority == r.Priority && open.Action == r.Action && open.Table == r.Table &&
			wide(open.From, r.From) && wide(open.To, r.To) && (open.Mask == 0 || open.Mark == r.Mark && open.Mask == r.Mask) &&
			(open.IIF == "" || open.IIF == r.IIF) && (open.OIF == "" || open.OIF == r.OIF) && (open.TOS == 0 || open.TOS == r.TOS) &&
			(open.IPProto == 0 || open.IPProto == r.IPProto) && (open.SPort.Hi == 0 || open.SPort == r.SPort) &&
			(open.DPort.Hi == 0 || open.DPort == r.DPort) && (!open.UIDRange.Set || open.UIDRange == r.UIDRange)
	}
	for i, a := range state.Rules {
		for j, b := range state.Rules {
			if i != j && fits(a, b) {
				return true
			}
		}
	}
	return false
}

// ownLinks says whether all links of a subject are ours, and whether it leaves no trace on them.
func ownLinks(s subject) bool {
	state, err := s.state()
	// An MTU stays as it was set: too low a one would leave the next spec without IPv6.
	low := slices.ContainsFunc(state.Links, func(l fib.Link) bool { return l.MTU != 0 && l.MTU < 1280 })
	return err == nil && len(s.up) == 0 && !low
}

// TestChangedSpecsAreAsOnAFreshHost changes one spec into another on one host, by each
// back end, and compares with a host that never had the first.
func TestChangedSpecsAreAsOnAFreshHost(t *testing.T) {
	var pairs []pair
	require(t, lab.NeedNetworkd, lab.NeedBus)
	pairs = append(pairs, examplePairs(t)...)
	for n := range *transitions {
		pairs = append(pairs, drawPair(t, n))
	}
	count := map[string]int{}
	t.Cleanup(func() { t.Logf("%d specs were changed into another: %v", len(pairs), count) })
	for _, p := range pairs {
		for name, after := range map[string]backend{
			"oneshot":  afterApply(p.before),
			"networkd": afterNetworkd(p.before, installedVersion(t)),
		} {
			if p.ambiguous && name == "networkd" {
				continue
			}
			count[name]++
			t.Run(p.name+" by "+name, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				d, err := compare(ctx, p.after, patience/3, viaApply, after)
				if err != nil {
					t.Fatal(err)
				}
				if d != "" {
					t.Errorf("a fresh host (-) and a changed one (+) differ:\n%s\nfrom:\n%s\nto:\n%s", d, p.before.text(), p.after.text())
				}
			})
		}
	}
}

// text returns the subject's spec.
func (s subject) text() string {
	data, err := os.ReadFile(filepath.Join(s.root, "etc/uplink/uplink.toml"))
	if err != nil {
		return err.Error()
	}
	return string(data)
}
