package blocks_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/blocks"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/lookup"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

var update = flag.Bool("update", false, "write the golden files anew")

// compile returns the flat State of a spec.
func compile(t testing.TB, text string) fib.State {
	t.Helper()
	s, err := spec.Parse("uplink.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	state, err := gen.Compile(s)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return state
}

// lay lays a State out that must be fit for it.
func lay(t testing.TB, flat fib.State) fib.State {
	t.Helper()
	laid, o := blocks.Lay(flat, 0)
	if o != nil {
		t.Fatalf("%+v", o)
	}
	return laid
}

// plain is a spec of uplinks with an address of each family, n of them from the i-th on,
// in subnets of their own.
func plain(head string, from, n int) string {
	var b strings.Builder
	b.WriteString(head + "\n")
	for i := from; i < from+n; i++ {
		fmt.Fprintf(&b, "[uplink.u%05d]\ninterface = \"e%d\"\naddresses = [\"10.%d.%d.2/24\", \"2001:db8:%x::2/64\"]\ngateways = [\"10.%d.%d.1\", \"2001:db8:%x::1\"]\n", i, i, i>>8, i&255, i, i>>8, i&255, i)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"plain": plain("", 0, 40),
		"one-subnet": func() string {
			var b strings.Builder
			for i := range 40 {
				fmt.Fprintf(&b, "[uplink.u%02d]\ninterface = \"e%d\"\naddresses = [\"198.51.100.%d/24\"]\ngateways = [\"198.51.100.1\"]\n", i, i, i+10)
			}
			return b.String()
		}(),
		"main-routes-first": plain("main-routes-first = true", 0, 20),
		// What stays stands in front: it fails closed, or comes first by name.
		"stays": plain("", 0, 20) + `
[uplink.vpn]
interface = "wg0"
fallthrough = "unreachable"
addresses = ["192.0.2.2/32"]
[[uplink.vpn.route]]
to = "default"
[uplink.a]
interface = "a"
fwmark = 7
addresses = ["203.0.113.2/24"]
gateways = ["203.0.113.1"]
[uplink.learns]
interface = "l"
dhcp = "ipv4"
[uplink.first]
interface = "f"
priority = 9000
addresses = ["203.0.113.130/25"]
`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			laid := lay(t, compile(t, text))
			file := filepath.Join("testdata", name+".golden")
			var b strings.Builder
			x := laid.Syntax()
			for _, l := range laid.Links {
				for _, r := range l.Learn.Rules {
					b.WriteString("# learned: " + x.Rule("add", r.Rule) + "\n")
				}
			}
			for _, r := range laid.Rules {
				b.WriteString(x.Rule("add", r) + "\n")
			}
			if *update {
				if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if b.String() != string(want) {
				t.Errorf("%s: have\n%s", file, b.String())
			}
			if again, o := blocks.Lay(laid, 0); o != nil || again.Text() != laid.Text() {
				t.Error("what is laid out is laid out again")
			}
		})
	}
}

// draw writes a random spec that mixes uplinks whose rules move with every kind whose rules stay.
func draw(g *rand.Rand) string {
	var b strings.Builder
	if g.IntN(3) == 0 {
		b.WriteString("main-routes-first = true\n")
	}
	n := 1 + g.IntN(60)
	rare := []int{1, 4, 16, 64}[g.IntN(4)]
	addresses := map[string]bool{}
	names := map[string]bool{}
	width := []int{4, 40, 256, 60000}[g.IntN(4)]
	for range n {
		a := g.IntN(width)
		four := fmt.Sprintf("%d.%d.%d.%d", []int{10, 10, 10, 172, 192}[g.IntN(5)], g.IntN(2), a>>8, a&255)
		six := fmt.Sprintf("2001:db8:%x::%x", g.IntN(3), a+1)
		name := string(rune('a'+g.IntN(26))) + fmt.Sprint(g.IntN(100))
		if addresses[four] || addresses[six] || names[name] {
			continue
		}
		addresses[four], addresses[six], names[name] = true, true, true
		fmt.Fprintf(&b, "[uplink.%s]\ninterface = %q\naddresses = [\"%s/32\", \"%s/128\"]\n", name, "i"+name, four, six)
		one := func(in int) bool { return g.IntN(in*rare) == 0 }
		switch {
		case one(12):
			b.WriteString("from = [\"203.0.113.0/28\", \"" + four + "\"]\n")
		case one(40):
			b.WriteString("from = [\"10.0.0.0/8\"]\n")
		case one(40):
			b.WriteString("from = [\"0.0.0.0/0\"]\n")
		}
		if one(12) {
			fmt.Fprintf(&b, "to = [\"100.64.%d.0/24\"]\n", g.IntN(3))
		}
		if one(20) {
			fmt.Fprintf(&b, "fwmark = %d\n", 1+g.IntN(3))
		}
		if one(20) {
			fmt.Fprintf(&b, "priority = %d\n", []int{100, 9000, 9999, 10500, 12000, 16300, 16381}[g.IntN(7)])
		}
		if one(30) {
			b.WriteString("fallthrough = \"unreachable\"\n")
		}
		if g.IntN(10) > 0 {
			fmt.Fprintf(&b, "[[uplink.%s.route]]\nto = \"default\"\n", name)
		}
		if g.IntN(4) == 0 {
			fmt.Fprintf(&b, "[[uplink.%s.route]]\nto = \"100.64.%d.0/25\"\n", name, g.IntN(3))
		}
		for range 3 {
			if !one(12) {
				continue
			}
			fmt.Fprintf(&b, "[[uplink.%s.rule]]\n", name)
			fmt.Fprintf(&b, "%s\n", []string{
				"from = \"" + four + "\"\nipproto = \"tcp\"", "to = \"100.64.1.0/24\"", "fwmark = 2", "from = \"10.0.0.0/9\"\nnot = true", "iif = \"lo\"\nto = \"100.64.0.0/10\"",
			}[g.IntN(5)])
			if g.IntN(2) == 0 {
				fmt.Fprintf(&b, "priority = %d\n", 5000+g.IntN(3)*7000)
			}
		}
	}
	return b.String()
}

// matched returns the rules that matched, without the layout's own.
func matched(r lookup.Result) (list []string) {
	for _, s := range r.Steps {
		if a := s.Rule.Action; a != fib.Goto && a != fib.Nop && s.Outcome != lookup.NoMatch {
			step := fmt.Sprintf("%v %d %v %v", a, s.Rule.Table, s.Rule.SuppressPrefixLength, s.Outcome)
			// A table that has no route has none the second time either.
			if !slices.Contains(list, step) {
				list = append(list, step)
			}
		}
	}
	return list
}

// TestLaidOutIsTheSameAsFlat sends packets of every kind through gen/lookup, which other
// tests compare with the kernel.
func TestLaidOutIsTheSameAsFlat(t *testing.T) {
	t.Parallel()
	laidOut, obstacles := 0, map[string]int{}
	for seed := range uint64(700) {
		g := rand.New(rand.NewPCG(seed, 7))
		text := draw(g)
		s, err := spec.Parse("uplink.toml", []byte(text))
		if err != nil {
			continue
		}
		flat, err := gen.Compile(s)
		if err != nil {
			continue
		}
		laid, o := blocks.Lay(flat, 0)
		if o != nil {
			kind, _, _ := strings.Cut(o.Why, " for ")
			kind, _, _ = strings.Cut(kind, " priority ")
			obstacles[kind]++
			if o.Help == "" || o.Why == "" {
				t.Errorf("%+v", o)
			}
			continue
		}
		laidOut++
		if wrong := differs(g, flat, laid); wrong != "" {
			t.Fatalf("seed %d: %s\n%s\nflat:\n%s\nlaid out:\n%s", seed, wrong, text, flat.Text(), laid.Text())
		}
	}
	t.Logf("%d laid out, obstacles: %v", laidOut, obstacles)
	if laidOut < 250 || len(obstacles) < 3 {
		t.Errorf("%d laid out, obstacles: %v: too few", laidOut, obstacles)
	}
}

// TestNetworkAroundItsOwnAddresses checks that an uplink's rule for a network still works
// beside rules for more addresses in that network, of the same uplink, than a block holds.
func TestNetworkAroundItsOwnAddresses(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"10.1.0.0/16", "10.1.0.0/24", "10.1.2.0/26"} {
		var from []string
		for i := range 60 {
			from = append(from, fmt.Sprintf("\"10.1.%d.%d\"", i%4, i+1))
		}
		flat := compile(t, plain("", 600, 40)+"[uplink.vast]\ninterface = \"v\"\nto = []\nfrom = [\""+network+"\", "+strings.Join(from, ", ")+"]\n[[uplink.vast.route]]\nto = \"default\"\n")
		laid := lay(t, flat)
		for seed := range uint64(20) {
			if wrong := differs(rand.New(rand.NewPCG(seed, 7)), flat, laid); wrong != "" {
				t.Fatalf("%s: %s\nlaid out:\n%s", network, wrong, laid.Text())
			}
		}
	}
}

func differs(g *rand.Rand, flat, laid fib.State) string {
	host := lookup.FromState(flat)
	a, b := lookup.New(host), lookup.New(lookup.FromState(laid))
	for range 100 {
		p := packet(g, host)
		have, want := b.Lookup(p), a.Lookup(p)
		if have.Reason != want.Reason || have.Way != want.Way || !slices.Equal(matched(have), matched(want)) {
			return fmt.Sprintf("%+v: %v %+v %q, flat: %v %+v %q", p, have.Reason, have.Way, matched(have), want.Reason, want.Way, matched(want))
		}
	}
	return ""
}

func packet(g *rand.Rand, h lookup.Host) lookup.Packet {
	near := func(a netip.Addr) netip.Addr {
		if n := a.Next(); g.IntN(4) == 0 && n.IsValid() {
			return n
		}
		return a
	}
	six := g.IntN(2) == 0
	to := []netip.Addr{netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("100.64.1.1"), netip.MustParseAddr("2001:4860:4860::8888")}
	var from []netip.Addr
	for _, r := range h.Rules {
		if r.From.Bits() > 0 {
			from = append(from, near(r.From.Addr()))
		}
		if r.To.Bits() > 0 {
			to = append(to, near(r.To.Addr()))
		}
	}
	of := func(list []netip.Addr) (a netip.Addr) {
		for range 50 {
			if a = list[g.IntN(len(list))]; a.Is6() == six {
				return a
			}
		}
		return netip.Addr{}
	}
	p := lookup.Packet{To: of(to)}
	if len(from) > 0 && g.IntN(4) > 0 {
		p.From = of(from)
	}
	if !p.To.IsValid() {
		p.To = netip.MustParseAddr("8.8.8.8")
		if six {
			p.To = netip.MustParseAddr("2001:4860:4860::8888")
		}
	}
	p.Mark = uint32(g.IntN(4))
	if g.IntN(3) == 0 {
		p.IPProto = 6
	}
	// Some packets come in by a link, so that sources count that the host does not have.
	if g.IntN(2) == 0 && p.From.IsValid() {
		for _, l := range h.Links {
			if !l.Loopback {
				p.IIF = l.Name
				break
			}
		}
	}
	return p
}

// TestFewRulesAreTried counts what the kernel would try.
func TestFewRulesAreTried(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1000, 10000} {
		laid := lay(t, compile(t, plain("", 0, n)))
		host := lookup.FromState(laid)
		k := lookup.New(host)
		worst, sum := 0, 0
		for i := 0; i < n; i += 7 {
			r := k.Trace(lookup.Packet{From: netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 2}), To: netip.MustParseAddr("8.8.8.8")})
			worst, sum = max(worst, len(r.Steps)), sum+len(r.Steps)
			if !r.OK() || r.Way.Device != fmt.Sprintf("e%d", i) {
				t.Fatalf("%+v", r)
			}
		}
		other := k.Trace(lookup.Packet{From: netip.MustParseAddr("127.0.0.1"), To: netip.MustParseAddr("127.0.0.2")})
		none := k.Trace(lookup.Packet{To: netip.MustParseAddr("8.8.8.8")})
		t.Logf("%d uplinks: %d rules, tried %d at most, %d on average; other sources %d, none %d", n, len(laid.Rules), worst, sum/(n/7+1), len(other.Steps), len(none.Steps))
		if limit := map[int]int{1000: 60, 10000: 120}[n]; worst > limit {
			t.Errorf("%d uplinks: %d rules tried", n, worst)
		}
	}
}

// TestOneUplinkChangesItsBlock adds an uplink, and counts which rules change: those of
// its own block may move, if the block must be divided, and those that lead there. No
// other uplink's rules may.
func TestOneUplinkChangesItsBlock(t *testing.T) {
	t.Parallel()
	g := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{60, 256, 1000} {
		before := lay(t, compile(t, plain("", 0, n)))
		rules := map[fib.Rule]bool{}
		for _, r := range before.Rules {
			rules[r.Key()] = true
		}
		moved := 0
		const times = 6
		for range times {
			// Its name is the last, and so is its table's number: the others keep theirs.
			extra := fmt.Sprintf("[uplink.z]\ninterface = \"z\"\naddresses = [\"10.%d.%d.%d/32\"]\n", g.IntN(8), g.IntN(256), 3+g.IntN(200))
			after := lay(t, compile(t, plain("", 0, n)+extra))
			var came []fib.Rule
			gone := maps.Clone(rules)
			for _, r := range after.Rules {
				if rules[r.Key()] {
					delete(gone, r.Key())
				} else {
					came = append(came, r)
				}
			}
			lookups, leading := 0, 0
			for r := range gone {
				if r.Action == fib.Lookup {
					lookups++
				} else {
					leading++
				}
			}
			moved += len(gone)
			// A node that was just full is divided too: it leads to 16 blocks here.
			if lookups > 2*16 || leading > 2*(1+17+1) || len(came) > len(gone)+2*(1+3*2) {
				t.Errorf("%d uplinks, and %s: %d rules of uplinks and %d others go, %d come", n, extra, lookups, leading, len(came))
			}
		}
		t.Logf("%d uplinks: one more takes %d of %d rules away on average", n, moved/times, len(rules))
	}
}
