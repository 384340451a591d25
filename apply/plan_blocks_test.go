package apply_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/blocks"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/lookup"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// source is the address of an uplink.
type source struct {
	name string
	addr string
}

// sources returns n of them, some to a subnet.
func sources(n int) (list []source) {
	for i := range n {
		list = append(list, source{fmt.Sprintf("u%04d", i), fmt.Sprintf("10.%d.%d.%d", i%3, i/40, 2+i%200)})
	}
	return list
}

// blocksOf compiles uplinks with these addresses and numbers that stay theirs, and lays
// them out.
func blocksOf(t *testing.T, head string, list []source, flat bool) fib.State {
	t.Helper()
	var b strings.Builder
	b.WriteString(head + "\n")
	for _, u := range list {
		table, err := strconv.Atoi(u.name[1:])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "[uplink.%s]\ninterface = %q\ntable = %d\naddresses = [\"%s/32\"]\n[[uplink.%s.route]]\nto = \"default\"\n", u.name, u.name, 1000+table, u.addr, u.name)
	}
	s, err := spec.Parse("uplink.toml", []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	state, err := gen.Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	if flat {
		return state
	}
	laid, o := blocks.Lay(state, 0)
	if o != nil {
		t.Fatalf("%+v", o)
	}
	return laid
}

// behind moves flat rules to where other uplinks would have pushed them: with more than 800 some
// are among the blocks of the sources, with more than 3556 among those of the destinations.
func behind(s fib.State, by uint32) fib.State {
	for i := range s.Rules {
		if s.Rules[i].Order != fib.Given {
			s.Rules[i].Priority += by
		}
	}
	return s
}

// TestBlocksAtNoInstantLoseAFlow goes from one layout to another, operation by operation as the
// kernel executes them, and after each asks for the way of every uplink that is in both.
func TestBlocksAtNoInstantLoseAFlow(t *testing.T) {
	t.Parallel()
	all := sources(150)
	moved := slices.Clone(all)
	moved[70].addr = "10.1.1.250"
	few := all[:60]
	for _, head := range []string{"", "main-routes-first = true"} {
		laid := func(list []source) fib.State { return blocksOf(t, head, list, false) }
		flat := func(list []source) fib.State { return blocksOf(t, head, list, true) }
		for name, test := range map[string]struct {
			before, after fib.State
			stay          []source
		}{
			"one more":                   {laid(all[:100]), laid(all[:101]), all[:100]},
			"one less":                   {laid(all[:101]), laid(all[:100]), all[:100]},
			"another address":            {laid(all), laid(moved), slices.Delete(slices.Clone(all), 70, 71)},
			"many more":                  {laid(all[:20]), laid(all), all[:20]},
			"many less":                  {laid(all), laid(all[100:]), all[100:]},
			"from flat":                  {flat(few), laid(all), few},
			"to flat":                    {laid(all), flat(few), few},
			"from flat, among sources":   {behind(flat(few), 1500), laid(few), few},
			"to flat, among sources":     {laid(few), behind(flat(few), 1500), few},
			"from flat, in destinations": {behind(flat(few), 4000), laid(few), few},
			"to flat, in destinations":   {laid(few), behind(flat(few), 4000), few},
		} {
			t.Run(name+" "+head, func(t *testing.T) {
				t.Parallel()
				transition(t, test.before, test.after, test.stay)
			})
		}
	}
}

// transition asks for the ways of those that stay.
func transition(t *testing.T, before, after fib.State, both []source) {
	var have apply.Snapshot
	var rules []fib.Rule
	for _, r := range before.Rules {
		have.Rules = append(have.Rules, apply.Rule{Rule: r, Protocol: fib.Protocol})
		rules = append(rules, r)
	}
	for _, r := range before.Routes {
		have.Routes = append(have.Routes, apply.Route{Route: r, Protocol: fib.Protocol})
	}
	plan, err := apply.NewPlan(apply.Resolved{Rules: after.Rules, Routes: after.Routes}, have)
	if err != nil {
		t.Fatal(err)
	}
	host := lookup.FromState(before)
	host.Routes = append(host.Routes, lookup.FromState(after).Routes...)
	for _, l := range lookup.FromState(after).Links {
		if !slices.ContainsFunc(host.Links, func(o lookup.Link) bool { return o.Name == l.Name }) {
			host.Links = append(host.Links, l)
		}
	}
	ask := func(when string) {
		host.Rules = append(lookup.KernelRules(), rules...)
		k := lookup.New(host)
		for _, u := range both {
			r := k.Lookup(lookup.Packet{From: netip.MustParseAddr(u.addr), To: netip.MustParseAddr("8.8.8.8")})
			if !r.OK() || r.Way.Device != u.name {
				t.Fatalf("%s: packets of %+v: %+v %v", when, u, r.Way, r.Reason)
			}
		}
	}
	ask("before")
	n := 0
	for _, o := range plan.Ops() {
		switch o.Verb {
		case apply.RuleAdd:
			// Behind those of its priority, as in the kernel.
			at := slices.IndexFunc(rules, func(r fib.Rule) bool { return r.Family == o.Rule.Family && r.Priority > o.Rule.Priority })
			if at < 0 {
				at = len(rules)
			}
			rules = slices.Insert(rules, at, *o.Rule)
		case apply.RuleDel:
			at := slices.IndexFunc(rules, func(r fib.Rule) bool { return r.Compare(o.Rule) == 0 })
			if at < 0 {
				t.Fatalf("%s: there is none", o)
			}
			rules = slices.Delete(rules, at, at+1)
		default:
			continue
		}
		n++
		ask("after " + o.String())
	}
	slices.SortStableFunc(rules, func(a, b fib.Rule) int { return a.Compare(&b) })
	if !slices.EqualFunc(rules, after.Rules, func(a, b fib.Rule) bool { return a.Compare(&b) == 0 }) {
		t.Errorf("it does not end where it should")
	}
	t.Logf("%d operations, %d flows", n, len(both))
}
