package apply_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
)

const (
	// full has routes and rules of all kinds, for three links.
	full = `
[multipath]
uplinks = { a = 2, b = 1 }

[uplink.a]
interface = "card0"
addresses = ["192.0.2.10/24", "192.0.2.11/24", "2001:db8:1::10/64", "2001:db8:1::11/64"]
gateways  = ["192.0.2.1", "2001:db8:1::1"]
table     = 101
fwmark    = "0x10/0xff"
fallthrough = "unreachable"
mtu       = 1400

[[uplink.a.route]]
to = "203.0.113.0/24"
via = "192.0.2.2"
src = "192.0.2.11"
metric = 50
mtu = 1400
initcwnd = 20
table = "main"

[[uplink.a.route]]
to = "100.64.0.0/10"
via = "10.255.255.1"
onlink = true

[[uplink.a.route]]
to = "2001:db8:77::/48"
multipath = [{ via = "2001:db8:1::2", weight = 10 }, { uplink = "b", via = "2001:db8:2::2", weight = 3 }, { via = "2001:db8:1::3" }]

[[uplink.a.route]]
to = "100.127.0.0/16"
multipath = [{ via = "192.0.2.3", weight = 10 }, { uplink = "b", via = "198.51.100.3" }]

[[uplink.a.route]]
to = "10.0.0.0/8"
type = "blackhole"

[[uplink.a.route]]
to = "fd00::/8"
type = "prohibit"

[[uplink.a.rule]]
priority = 900
family = "ipv4"
not = true
to = "203.0.113.0/24"
iif = "card0"
ipproto = "tcp"
dport = "1000-2000"
table = "b"

[[uplink.a.rule]]
priority = 901
from = "192.0.2.64/26"
type = "prohibit"

[[uplink.a.rule]]
priority = 901
from = "192.0.2.128/26"
goto = 2000

[uplink.b]
interface = "card1"
addresses = ["198.51.100.10/24", "2001:db8:2::10/64"]
gateways  = ["198.51.100.1", "2001:db8:2::1"]
priority  = 2000

[uplink.c]
interface = "card2"
addresses = ["100.100.0.10/24", "2001:db8:3::10/64"]
gateways  = ["100.100.0.1", "2001:db8:3::1"]
`
	// changed is full with something of each kind added, taken away and made different.
	changed = `
[multipath]
uplinks = { b = 5, c = 1 }

[uplink.a]
interface = "card0"
addresses = ["192.0.2.10/24", "192.0.2.12/24", "2001:db8:1::10/64", "2001:db8:1::12/64"]
gateways  = ["192.0.2.2", "2001:db8:1::2"]
table     = 101
fwmark    = "0x20/0xff"
fallthrough = "prohibit"
mtu       = 1500

[[uplink.a.route]]
to = "203.0.113.0/24"
via = "192.0.2.2"
metric = 50
table = "main"

[[uplink.a.route]]
to = "2001:db8:77::/48"
multipath = [{ via = "2001:db8:1::2", weight = 7 }, { uplink = "b", via = "2001:db8:2::9", weight = 3 }]

[[uplink.a.route]]
to = "100.127.0.0/16"
via = "192.0.2.3"

[[uplink.a.route]]
to = "10.0.0.0/8"
type = "throw"

[[uplink.a.route]]
to = "fd00::/8"
via = "2001:db8:1::3"

[[uplink.a.rule]]
priority = 901
from = "192.0.2.64/26"
type = "blackhole"

[uplink.b]
interface = "card1"
addresses = ["198.51.100.10/24", "198.51.100.11/24", "2001:db8:2::10/64"]
gateways  = ["198.51.100.1", "2001:db8:2::1"]
priority  = 2000

[uplink.c]
interface = "card2"
addresses = ["100.100.0.10/24"]
gateways  = ["100.100.0.1"]
`
)

// TestRefusedAtAnyPoint refuses, and loses the answer to, every operation of a plan in turn: each
// time the kernel is as before, byte for byte in everything that ip(8) shows.
func TestRefusedAtAnyPoint(t *testing.T) {
	type fault struct {
		name  string
		fault kerneltest.Fault
	}
	faults := []fault{{"Refused", kerneltest.Refuse}, {"Stopped", kerneltest.Stop}, {"AnswersLost", kerneltest.Lose}, {"RequestsLost", kerneltest.LoseAll}}
	for _, c := range []struct {
		name, before, after string
		faults              []fault
	}{
		{"FromNothing", "", full, faults},
		{"Change", full, changed, faults},
		{"ChangeBack", changed, full, faults[:1]},
		{"Down", full, "", faults},
		{"Recipe", recipe, dualStack, faults[:1]},
		{"PrefixLength", sourced, resized(sourced), faults},
	} {
		for _, fault := range c.faults {
			t.Run(c.name+"/"+fault.name, func(t *testing.T) {
				t.Parallel()
				n := kerneltest.NewNamespace(t)
				n.Card(kerneltest.Links...)
				k := &kerneltest.Faulty{Kernel: n.Kernel(), Fault: fault.fault}
				a := &apply.Applier{Kernel: k, Hardware: noHardware{}}
				bring(t, a, c.before)
				n.Settle()
				before, want := n.Dump(), state(t, c.after)
				plan, _, err := a.Plan(want)
				if err != nil {
					t.Fatal(err)
				}
				if plan.Len() < 9 {
					t.Fatalf("only %d operations", plan.Len())
				}
				for i := range plan.Ops() {
					k.Seen, k.At = nil, i+1
					if c.after == "" {
						_, err = a.Down(context.Background())
					} else {
						_, err = a.Apply(context.Background(), want)
					}
					var refused *apply.OpError
					switch lost := fault.fault == kerneltest.Lose || fault.fault == kerneltest.LoseAll; {
					case err == nil:
						t.Fatalf("no error, though operation %d went wrong: %s", k.At, k.Seen[i])
					case strings.Contains(err.Error(), "undoing"):
						t.Errorf("operation %d, %s: %v", k.At, k.Seen[i], err)
					case lost && !errors.Is(err, apply.ErrUnanswered), !lost && !errors.As(err, &refused):
						t.Errorf("operation %d, %s: %v", k.At, k.Seen[i], err)
					case !lost && (refused.Op.String() != k.Seen[i].String() || err.Error() != fmt.Sprintf("ip %s: refused by the test", k.Seen[i])):
						t.Errorf("the error of %q is %q", k.Seen[i], err)
					}
					n.Settle()
					after := n.Dump()
					if k.Seen[i].Verb == apply.AddressDel && sorted(after) == sorted(before) {
						// The kernel shows a new address behind or before all others: where one is
						// refused between others, they come back on its other side.
						before = after
					}
					if d := kerneltest.Diff(before, after); d != "" {
						t.Fatalf("operation %d of %d, %s:\n%s\nthe operations:\n%s", k.At, plan.Len(), k.Seen[i], d, lines(k.Seen))
					}
				}
			})
		}
	}
}

// TestTheNextRunConverges leaves the kernel at any point of a plan, as a kill does, and checks
// that the next run reaches the same state as one that was not killed.
func TestTheNextRunConverges(t *testing.T) {
	t.Parallel()
	n := kerneltest.NewNamespace(t)
	n.Card(kerneltest.Links...)
	a := &apply.Applier{Kernel: n.Kernel(), Hardware: noHardware{}}
	bring(t, a, full)
	bring(t, a, changed)
	n.Settle()
	dump := func() string {
		n.Settle()
		return sorted(n.Dump())
	}
	reached := map[string]string{changed: dump()}
	bring(t, a, full)
	reached[full] = dump()
	for _, to := range []string{changed, full} {
		for k := 1; ; k += 2 {
			plan, _, err := a.Plan(state(t, to))
			if err != nil {
				t.Fatal(err)
			}
			ops := plan.Ops()
			if k >= len(ops) {
				break
			}
			a.Kernel.Execute(ops[:k])
			bring(t, a, to)
			if d := kerneltest.Diff(reached[to], dump()); d != "" {
				t.Fatalf("killed after operation %d of %d, %s:\n%s", k, len(ops), ops[k-1], d)
			}
			bring(t, a, map[string]string{changed: full, full: changed}[to])
		}
		bring(t, a, to)
	}
}

// sorted returns a text with its lines in order.
func sorted(text string) string { return strings.Join(slices.Sorted(strings.Lines(text)), "") }
