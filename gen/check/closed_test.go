package check_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/check"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/lookup"
)

const wg = `
[uplink.vpn]
interface   = "wg0"
manage      = "policy"
addresses   = ["10.9.0.2/32"]
fwmark      = 0x66
fallthrough = "unreachable"
[[uplink.vpn.route]]
to = "default"
`

// leaks returns the priorities of the rules by which packets with the mark leave by another
// uplink while wg0 is down, whatever source the kernel picks. It sends them everywhere, to
// each subnet and its neighbour, and to the routes' destinations.
func leaks(t *testing.T, root string) map[uint32]bool {
	t.Helper()
	_, state := compiled(t, root)
	h := lookup.FromState(state)
	for i := range h.Links {
		h.Links[i].Up = h.Links[i].Name != "wg0"
	}
	targets := []netip.Addr{netip.MustParseAddr("2001:4860:4860::8888")}
	for _, r := range h.Routes {
		if r.Family == fib.Inet6 && r.Dst.Bits() > 0 && r.Dst.Bits() < 128 {
			beside := r.Dst.Addr().As16()
			beside[(r.Dst.Bits()-1)/8] ^= 0x80 >> ((r.Dst.Bits() - 1) % 8)
			targets = append(targets, r.Dst.Addr().Next().Next(), netip.AddrFrom16(beside).Next())
		}
	}
	kernel, found := lookup.New(h), map[uint32]bool{}
	for _, to := range targets {
		r := kernel.Lookup(lookup.Packet{To: to, Mark: 0x66})
		if r.Again != nil && r.Again.OK() {
			last, _ := r.Again.Last()
			found[last.Rule.Priority] = true
		}
	}
	return found
}

// TestClosedLeaksAreReal compares the warning with what the kernel would do.
func TestClosedLeaksAreReal(t *testing.T) {
	const first = "main-routes-first = true\n"
	specific := "[[uplink.isp1.route]]\nto = \"2001:db8:77::/48\"\nvia = \"2001:db8:1::1\"\n"
	halves := "[[uplink.isp1.route]]\nto = \"::/1\"\nvia = \"2001:db8:1::1\"\n[[uplink.isp1.route]]\nto = \"8000::/1\"\nvia = \"2001:db8:1::1\"\n"
	early := "fwmark      = 0x66\n"
	moved := strings.Replace(wg, early, "", 1) + "[[uplink.vpn.rule]]\npriority = 9000\nfwmark = 0x66\n"
	for _, c := range []struct{ name, spec, want, help string }{
		{"automatic", first + isp1 + wg, "", ""},
		{"automatic, of two", first + isp1 + rt2 + wg, "", ""},
		{"not first, automatic", isp1 + wg, "", ""},
		{"not first, behind", isp1 + "priority = 100\n" + wg, "(priority 100, before 10000)", "leave the priorities out"},
		{"not first, behind a link without a way out", isp1 + "[uplink.lan]\ninterface = \"eth2\"\naddresses = [\"2001:db8:5::10/64\"]\npriority = 100\n" + wg, "to 2001:db8:5::/64 leave by uplink `lan`", "leave the priorities out"},
		{"far behind", first + isp1 + "priority = 100\n" + strings.Replace(wg, early, early+"priority = 200\n", 1), "(priority 16483, before 16583)", "leave the priorities out"},
		{"a number before", first + isp1 + "priority = 100\n" + strings.Replace(wg, early, early+"priority = 90\n", 1), "", ""},
		{"a route that main lacks", first + isp1 + specific + wg, "to 2001:db8:77::/48 leave by uplink `isp1` while its own ways are gone: the kernel then picks a source for them, and the rule for that comes first (priority 10002, before 26383)", "by a [[rule]] with a `priority` below 10002"},
		{"the same, by the remedy", first + isp1 + specific + moved, "", ""},
		{"a route that main has too", first + isp1 + specific + specific + "table = \"main\"\n" + wg, "", ""},
		{"a way out in two halves", first + isp1 + halves + wg, "(priority 10002, before 26383)", "by a [[rule]] with a `priority` below 10002"},
		{"a rule before main, behind sources", first + isp1 + strings.Replace(moved, "9000", "12000", 1), "to 2001:db8:1::/64 leave by uplink `isp1`", "by a [[rule]] with a `priority` below 10002"},
		{"a rule of its own for specific routes", first + isp1 + moved + "suppress-prefixlength = 0\n[[uplink.vpn.rule]]\nfwmark = 0x66\n", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := rootWith(t, c.spec)
			var said []check.Warning
			for _, w := range warningsOf(t, root) {
				if w.ID == check.ClosedLeak {
					said = append(said, w)
				}
			}
			real := leaks(t, root)
			if len(said) != min(len(real), 1) || (c.want != "") != (len(real) > 0) {
				t.Fatalf("it says %v, and packets leave by %v", said, real)
			}
			if len(said) == 0 {
				return
			}
			if w := said[0]; !strings.Contains(w.Text, c.want) || !strings.Contains(w.Help, c.help) {
				t.Errorf("%s: %s; want %q: %q", w.Text, w.Help, c.want, c.help)
			}
			if !slices.ContainsFunc([]uint32{100, 10002, 16483}, func(p uint32) bool {
				return real[p] && strings.Contains(said[0].Text, fmt.Sprintf("(priority %d,", p))
			}) {
				t.Errorf("%s: packets leave by %v", said[0].Text, real)
			}
		})
	}
}

// drawn is a spec of an uplink that fails closed among others, at random.
func drawn(g *rand.Rand) string {
	var b strings.Builder
	sometimes := func(of int, format string, args ...any) bool {
		if g.IntN(of) > 0 {
			return false
		}
		fmt.Fprintf(&b, format, args...)
		return true
	}
	fmt.Fprintf(&b, "main-routes-first = %v\n", g.IntN(4) > 0)
	for i := range 1 + g.IntN(3) {
		route := func(to string) {
			fmt.Fprintf(&b, "[[uplink.o%d.route]]\nto = %q\nvia = \"2001:db8:%d::1\"\n", i, to, i+1)
		}
		fmt.Fprintf(&b, "[uplink.o%d]\ninterface = \"eth%[1]d\"\naddresses = [\"192.0.%d.10/24\", \"2001:db8:%d::10/64\"]\n", i, i+2, i+1)
		if !sometimes(4, "gateways = [\"192.0.%d.1\"]\n", i+2) {
			fmt.Fprintf(&b, "gateways = [\"192.0.%d.1\", \"2001:db8:%d::1\"]\n", i+2, i+1)
		}
		sometimes(2, "default-route = true\nmetric = %d\n", 2000+i)
		sometimes(3, "priority = %d\n", 5*g.IntN(3000)+1+i) // no two alike
		for k := range g.IntN(3) {
			route(fmt.Sprintf("2001:db8:%x::/%d", 0x100*(i+1)+k*0x10, []int{44, 48, 64}[g.IntN(3)]))
			sometimes(3, "table = \"main\"\n")
		}
		if g.IntN(6) == 0 {
			route("::/1")
			route("8000::/1")
		}
	}
	b.WriteString("[uplink.vpn]\ninterface = \"wg0\"\nfallthrough = \"unreachable\"\naddresses = [\"10.9.0.2/32\"]\nmanage = \"policy\"\n")
	sometimes(3, "priority = %d\n", 5*g.IntN(3000)+4)
	marked := sometimes(2, "fwmark = 0x66\n")
	b.WriteString("[[uplink.vpn.route]]\nto = \"default\"\n")
	if !marked {
		b.WriteString("[[uplink.vpn.rule]]\nfwmark = 0x66\n")
		sometimes(2, "priority = %d\n", 5*g.IntN(6000)+4)
	}
	return b.String()
}

// TestClosedLeaksOfDrawnSpecs wants the warning exactly where packets leave.
func TestClosedLeaksOfDrawnSpecs(t *testing.T) {
	seed := rand.Uint64()
	g, warned := rand.New(rand.NewPCG(seed, 0)), 0
	const specs = 300
	for range specs {
		text := drawn(g)
		root := rootWith(t, text)
		said := slices.DeleteFunc(warningsOf(t, root), func(w check.Warning) bool { return w.ID != check.ClosedLeak })
		if real := leaks(t, root); (len(said) > 0) != (len(real) > 0) {
			t.Fatalf("seed %d: it says %v, and packets leave by %v:\n%s", seed, said, real, text)
		}
		warned += len(said)
	}
	if warned < specs/10 || warned > specs*9/10 {
		t.Errorf("seed %d: %d warnings of %d specs", seed, warned, specs)
	}
}
