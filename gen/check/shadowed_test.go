package check_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/check"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/lookup"
)

// shadows returns the priorities of the rules that a warning says are never asked.
func shadows(warnings []check.Warning) map[uint32]bool {
	found := map[uint32]bool{}
	for _, w := range warnings {
		if m := regexp.MustCompile(`rule add priority (\d+)`).FindStringSubmatch(w.Text); m != nil && w.ID == check.ShadowedRule {
			n, _ := strconv.ParseUint(m[1], 10, 32) // digits
			found[uint32(n)] = true
		}
	}
	return found
}

// deciding returns the priorities of the rules that decide about a packet that they select,
// with all links up or any of them down.
func deciding(t *testing.T, root string) map[uint32]bool {
	t.Helper()
	_, state := compiled(t, root)
	found := map[uint32]bool{}
	for down := range 1 << 3 {
		h := lookup.FromState(state)
		for i := range h.Links {
			for n := range 3 {
				if h.Links[i].Name == fmt.Sprintf("eth%d", n) {
					h.Links[i].Up = down>>n&1 == 0
				}
			}
		}
		h.Links = append(h.Links, lookup.Link{Name: "lan", Up: true, Carrier: true, Forwarding: true})
		kernel := lookup.New(h)
		for _, r := range h.Rules {
			from := r.From.Addr()
			if r.Family != fib.Inet || r.Action != fib.Lookup || !from.IsValid() {
				continue
			}
			// The packet is forwarded: the host does not have the address while its link is down.
			p := lookup.Packet{From: from, To: netip.MustParseAddr("8.8.8.8"), Mark: r.Mark, IIF: "lan"}
			result := kernel.Lookup(p)
			if last, ok := result.Last(); ok {
				found[last.Rule.Priority] = true
			}
		}
	}
	return found
}

const provider = "[uplink.p%d]\ninterface = \"eth%[1]d\"\naddresses = [\"192.0.%[1]d.10/24\"]\ngateways = [\"192.0.%[1]d.1\"]\n"

// TestShadowedRulesAreForNothing checks that a rule with the warning has no effect, and
// that a rule that is the reserve for another link gets no warning.
func TestShadowedRulesAreForNothing(t *testing.T) {
	p0, p1 := fmt.Sprintf(provider, 0)+"default-route = true\n", fmt.Sprintf(provider, 1)
	own := "from = [\"192.0.0.10\", \"203.0.113.0/24\"]\n"
	reserve := "[[uplink.p1.rule]]\npriority = 20000\nfrom = \"203.0.113.0/24\"\n"
	second := func(more string) string {
		return "[uplink.p2]\ninterface = \"eth0\"\naddresses = [\"192.0.0.20/24\"]\ngateways = [\"192.0.0.1\"]\n[[uplink.p2.rule]]\npriority = 20000\nfrom = \"203.0.113.0/24\"\n" + more
	}
	for _, c := range []struct {
		name, spec string
		want       bool // the rule at 20000 has no effect
	}{
		{"a reserve", p0 + own + p1 + reserve, false},
		{"a reserve of an uplink that fails closed", p0 + own + "fallthrough = \"unreachable\"\n" + p1 + reserve, true},
		{"the same table", p0 + own + p1 + strings.Replace(reserve, "from", "table = \"p0\"\nfrom", 1), true},
		{"table main", p0 + own + p1 + "default-route = true\nmetric = 200\n" + strings.Replace(reserve, "from", "table = \"main\"\nfrom", 1), false},
		{"another uplink on the same link", p0 + own + second(""), true},
		{"another uplink on the same link that fails closed", p0 + own + second("[[uplink.p2.route]]\nto = \"default\"\ntype = \"unreachable\"\nmetric = 500\n"), false},
		{"a reserve, main-routes-first", "main-routes-first = true\n" + p0 + own + p1 + reserve, false},
		{"two ways in one", p0 + own + "[[uplink.p0.route]]\nto = \"default\"\nmetric = 9\nmultipath = [{ via = \"192.0.0.1\" }, { uplink = \"p1\", via = \"192.0.1.1\" }]\n" + p1 + reserve, true},
	} {
		root := rootWith(t, c.spec)
		warned, real := shadows(warningsOf(t, root))[20000], deciding(t, root)[20000]
		if warned != c.want || real == c.want {
			t.Errorf("%s: warned of: %t, want %t; it decides: %t\n%s", c.name, warned, c.want, real, c.spec)
		}
	}
	seed := rand.Uint64()
	g, warnings := rand.New(rand.NewPCG(seed, 0)), 0
	for range 300 {
		var text strings.Builder
		if g.IntN(4) == 0 {
			text.WriteString("main-routes-first = true\n")
		}
		for n := range 3 {
			fmt.Fprintf(&text, provider, n)
			if g.IntN(3) == 0 {
				fmt.Fprintf(&text, "fallthrough = %q\n", []string{"unreachable", "blackhole"}[g.IntN(2)])
			}
			if n == 0 {
				text.WriteString("default-route = true\n")
			}
		}
		for i := range 2 + g.IntN(3) {
			u := g.IntN(3)
			fmt.Fprintf(&text, "[[uplink.p%d.rule]]\npriority = %d\nfrom = %q\n", u, 500+10*i, []string{"203.0.113.0/24", "203.0.113.64/26", "203.0.0.0/16"}[g.IntN(3)])
			if g.IntN(3) == 0 {
				fmt.Fprintf(&text, "table = %q\n", []string{"p0", "p1", "p2", "main"}[g.IntN(4)])
			}
		}
		root := rootWith(t, text.String())
		decide := deciding(t, root)
		for priority := range shadows(warningsOf(t, root)) {
			if warnings++; decide[priority] {
				t.Fatalf("seed %d: the rule at %d is not for nothing\n%s", seed, priority, text.String())
			}
		}
	}
	if warnings < 50 {
		t.Errorf("seed %d: only %d warnings in all", seed, warnings)
	}
}
