package apply_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// foreign is what others have on a host, of every kind and owner, in the tables that
// full and changed use as well. FIRST is a gateway of the table's, OTHER not.
var foreign = func() (ip []string) {
	add := func(format string, args ...any) { ip = append(ip, fmt.Sprintf(format, args...)) }
	add("address add 172.20.0.1/24 dev card0")
	add("address add 172.20.0.2/24 dev card0 label card0:old")
	add("address add 172.20.1.1 peer 172.20.1.2/32 dev card0")
	add("address add 172.20.2.1/24 brd + dev card1 scope link valid_lft 3000 preferred_lft 3000 noprefixroute")
	add("address add 172.20.3.1/32 dev lo")
	add("-6 address add fd20::1/64 dev card0")
	add("-6 address add fd20::2/128 dev card0 noprefixroute")
	add("-6 address add fd20:1::1 peer fd20:1::2/128 dev card1")
	add("-6 address add fd20:2::1/64 dev card2 valid_lft 3000 preferred_lft 0")
	protocols := []string{"boot", "static", "kernel", "ra", "redirect", "dhcp", "zebra", "bird", "babel", "bgp", "77", "117", "119", "255"}
	for i, protocol := range protocols {
		for _, table := range []int{101, 10000, 254, 777} {
			add("route add 172.21.%d.0/24 via 172.20.0.9 dev card0 table %d proto %s metric %d", i, table, protocol, 5+i)
			add("-6 route add fd21:%d::/64 via fd20::9 dev card0 table %d proto %s metric %d", i, table, protocol, 5+i)
		}
		add("rule add priority %d from 172.22.%d.0/24 lookup %d protocol %s", 100*i+50, i, 10000, protocol)
		add("-6 rule add priority %d from fd22:%d::/64 lookup %d protocol %s", 100*i+50, i, 101, protocol)
	}
	for i, kind := range []string{"blackhole", "unreachable", "prohibit", "throw"} {
		add("route add %s 172.23.%d.0/24 table 101", kind, i)
		add("-6 route add %s fd23:%d::/64 table 101", kind, i)
	}
	add("route add local 172.24.0.0/24 dev lo table 101 scope host")
	add("route add broadcast 172.24.1.255 dev card0 table 101 scope link")
	add("route add multicast 224.9.0.0/16 dev card0 table 101")
	add("route add 172.24.2.0/24 dev card0 table 101 scope link src 172.20.0.1 mtu lock 1400 advmss 1300 hoplimit 9 rtt 10ms initcwnd 9 quickack 1 realm 7 tos 0x10")
	add("route add 172.24.3.0/24 table 10000 nexthop via 172.20.0.9 dev card0 weight 3 nexthop via 172.20.2.9 dev card1 onlink weight 5")
	add("route add 172.24.4.0/24 via inet6 fd20::9 dev card0 table 101")
	add("nexthop add id 5 via 172.20.0.9 dev card0")
	add("route add 172.24.5.0/24 nhid 5 table 101")
	add("-6 route add fd24::/64 dev card0 table 101 pref high")
	add("-6 route add fd24:1::/64 from fd99::/64 dev card0 table 101")
	add("-6 route add fd24:2::/64 table 101 nexthop via fd20::9 dev card0 nexthop via fd20::8 dev card0")
	add("-6 route add default via fd20::9 dev card0 metric 99 proto ra expires 3000")
	add("route add default via 172.20.0.9 dev card0 metric 99 proto dhcp src 172.20.0.2")
	// Of ours but for the owner, or for one word.
	add("rule add priority 10000 from 192.0.2.10 lookup 101 protocol static")
	add("rule add priority 10000 from 192.0.2.10 lookup 102 protocol boot")
	add("-6 rule add priority 10000 from 2001:db8:1::10 lookup 101 protocol static")
	add("rule add priority 2000 not from 172.22.0.0/16 to 172.25.0.0/16 fwmark 0x1/0xff iif card0 oif card1 tos 0x10 ipproto tcp sport 1-9 dport 80 uidrange 1-2 lookup 101 suppress_prefixlength 3 suppress_ifgroup 4")
	add("rule add priority 2001 from 172.25.0.0/16 goto 32766")
	add("rule add priority 2002 from 172.25.0.0/16 prohibit")
	add("rule add priority 2003 from 172.25.0.0/16 nop")
	add("rule add priority 2004 from 172.25.0.0/16 lookup 9 realms 3/4")
	add("-6 rule add priority 2005 from fd25::/64 blackhole")
	return ip
}()

// ip feeds lines to ip(8) as the dry run says: lines that begin with "-6 " go without that to ip
// -6, all in their order.
func ip(t *testing.T, n *kerneltest.Namespace, lines []string) {
	t.Helper()
	for len(lines) > 0 {
		six := strings.HasPrefix(lines[0], "-6 ")
		k := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "-6 ") != six })
		if k < 0 {
			k = len(lines)
		}
		batch, argv := "", []string{"ip", "-batch", "-"}
		if six {
			argv = []string{"ip", "-6", "-batch", "-"}
		}
		for _, l := range lines[:k] {
			batch += strings.TrimPrefix(l, "-6 ") + "\n"
		}
		lines = lines[k:]
		if _, err := n.Run(batch, argv...); err != nil {
			t.Fatalf("%v\n%s", err, batch)
		}
		n.Settle()
	}
}

// lasting removes from a dump what changes by itself: the seconds that are left of a lifetime.
func lasting(dump string) string {
	var b strings.Builder
	for line := range strings.Lines(dump) {
		words := strings.Fields(line)
		for i := 1; i < len(words); i++ {
			if w := words[i]; w != "0sec" && strings.HasSuffix(w, "sec") {
				line = strings.Replace(line, w, "Nsec", 1)
			}
		}
		b.WriteString(line)
	}
	return b.String()
}

// missing returns the lines of a dump that another lacks.
func missing(before, after string) string {
	var b strings.Builder
	for line := range strings.Lines(kerneltest.Diff(before, after)) {
		if strings.HasPrefix(line, "- ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestNothingOfOthersIsTouched puts routes, rules and addresses of all kinds of others on the
// host: all of them are there, byte for byte, after apply, re-apply, changes, a refused change,
// and down, which leaves nothing else.
func TestNothingOfOthersIsTouched(t *testing.T) {
	t.Parallel()
	n := kerneltest.NewNamespace(t)
	n.Card(kerneltest.Links...)
	ip(t, n, foreign)
	dump := func() string { n.Settle(); return lasting(n.Dump()) }
	before := dump()
	k := &kerneltest.Faulty{Kernel: n.Kernel()}
	a := &apply.Applier{Kernel: k, Hardware: n.Hardware()}
	untouched := func(what string) {
		t.Helper()
		if lost := missing(before, dump()); lost != "" {
			t.Fatalf("%s lost:\n%s", what, lost)
		}
	}
	full := strings.Replace(full, "mtu       = 1400", "", 1) // the link's MTU is in its line
	changed := strings.Replace(changed, "mtu       = 1500", "", 1)
	for i, spec := range []string{full, full, changed, full, recipe, dualStack, changed} {
		bring(t, a, spec)
		untouched(fmt.Sprintf("step %d", i))
	}
	k.Seen, k.At, k.Fault = nil, 20, kerneltest.Refuse
	if _, err := a.Apply(context.Background(), state(t, full)); err == nil {
		t.Fatal("nothing was refused")
	}
	untouched("undoing")
	k.Fault = kerneltest.None
	bring(t, a, full)
	if _, err := a.Down(context.Background()); err != nil {
		t.Fatal(err)
	}
	if d := kerneltest.Diff(before, dump()); d != "" {
		t.Errorf("down left the kernel different:\n%s", d)
	}
}

// TestForeignRouteInTheWayOfTheKernel is TestForeignRouteInTheWay on the real kernel, for every
// owner and both families.
func TestForeignRouteInTheWayOfTheKernel(t *testing.T) {
	t.Parallel()
	n := kerneltest.NewNamespace(t)
	n.Card(kerneltest.Links...)
	n.IP("address add 172.20.0.1/24 dev card2", "-6 address add fd20::1/64 dev card2")
	n.Settle()
	a := &apply.Applier{Kernel: n.Kernel(), Hardware: n.Hardware()}
	for _, line := range []string{
		"route add default via 172.20.0.9 dev card2 table 1 proto static",
		"route add 198.51.100.0/24 dev card2 table 1 proto dhcp",
		"route add blackhole default table 1 proto bird",
		"route add default table 1 proto 99 nexthop via 172.20.0.9 dev card2 nexthop via 172.20.0.8 dev card2",
		"route add default via 172.20.0.9 dev card2 metric 100 proto kernel",
		"-6 route add default via fd20::9 dev card2 table 1 proto static",
		"-6 route add 2001:db8:2::/64 dev card2 table 1 proto ra metric 1024",
		"-6 route add prohibit default table 1 proto boot metric 1024",
	} {
		n.IP(line)
		before := n.Dump()
		_, err := a.Apply(context.Background(), state(t, dualStack))
		if !errors.Is(err, apply.ErrForeign) {
			t.Errorf("%s: %v, want a ForeignError", line, err)
		}
		if d := kerneltest.Diff(before, n.Dump()); d != "" {
			t.Errorf("%s: something was changed:\n%s", line, d)
		}
		n.IP(strings.Replace(line, " add ", " del ", 1))
	}
	bring(t, a, dualStack)
}

// TestBatchReachesTheSame feeds the dry run to the real ip(8), from nothing and for a change:
// afterwards nothing differs, except that iproute2 cannot mark addresses as ours.
func TestBatchReachesTheSame(t *testing.T) {
	t.Parallel()
	specs := []string{full, changed, sourced, resized(sourced), dualStack, recipe, full}
	applied, fed := kerneltest.NewNamespace(t), kerneltest.NewNamespace(t)
	var a [2]*apply.Applier
	for i, n := range []*kerneltest.Namespace{applied, fed} {
		n.Card(kerneltest.Links...)
		a[i] = &apply.Applier{Kernel: n.Kernel(), Hardware: n.Hardware()}
	}
	a[1].Journal = journal(t) // says which addresses are ours
	for i, spec := range specs {
		bring(t, a[0], spec)
		plan, _, err := a[1].Plan(state(t, spec))
		if err != nil {
			t.Fatal(err)
		}
		if err := a[1].Journal.Before(plan.Ops()); err != nil {
			t.Fatal(err)
		}
		ip(t, fed, strings.Split(strings.TrimSpace(lines(plan.Ops())), "\n"))
		plan, _, err = a[1].Plan(state(t, spec))
		if err != nil || plan.Len() > 0 {
			t.Errorf("step %d: %v, and there is still to do:\n%s", i, err, lines(plan.Ops()))
		}
		applied.Settle()
		if d := kerneltest.Diff(neutral(applied.Dump()), neutral(fed.Dump())); d != "" {
			t.Errorf("step %d: - applied, + fed to ip -batch:\n%s", i, d)
		}
	}
}

// neutral is a dump without what differs from namespace to namespace, and in order.
func neutral(dump string) string {
	var b []string
	for line := range strings.Lines(dump) {
		if strings.Contains(line, "link/") {
			continue // hardware addresses
		}
		b = append(b, line)
	}
	return sorted(strings.Join(b, ""))
}

// TestStatesInTurn brings states about one after the other on one kernel. Each is the
// same as on a fresh one, a second run sends nothing, and down leaves nothing.
func TestStatesInTurn(t *testing.T) {
	t.Parallel()
	n := kerneltest.NewNamespace(t)
	n.Card(kerneltest.Links...)
	k := n.Kernel()
	a := &apply.Applier{Kernel: k, Hardware: n.Hardware()}
	empty := n.Dump()
	fresh := map[string]string{}
	specs := []string{recipe, dualStack, full, changed, dualStack, resized(dualStack), sourced, resized(sourced), changed, recipe, full, manyUplinks(50, func(int) string { return "192.0.2.1" }), dualStack}
	for i, spec := range specs {
		bring(t, a, spec)
		n.Settle()
		have := neutral(n.Dump())
		if fresh[spec] == "" {
			other := kerneltest.NewNamespace(t)
			other.Card(kerneltest.Links...)
			bring(t, &apply.Applier{Kernel: other.Kernel(), Hardware: noHardware{}}, spec)
			other.Settle()
			fresh[spec] = neutral(other.Dump())
		}
		if d := kerneltest.Diff(unset(fresh[spec]), unset(have)); d != "" {
			t.Errorf("step %d: - on a fresh kernel, + here:\n%s", i, d)
		}
		sent := k.Sent()
		if r := bring(t, a, spec); k.Sent() != sent || len(r.Done) != 0 {
			t.Errorf("step %d: a second run sent %d changes:\n%s", i, k.Sent()-sent, lines(r.Done))
		}
	}
	if _, err := a.Down(context.Background()); err != nil {
		t.Fatal(err)
	}
	n.IP("link set card0 mtu 1500") // which no spec gives back
	if d := kerneltest.Diff(empty, n.Dump()); d != "" {
		t.Errorf("down left the kernel different:\n%s", d)
	}
}

// unset takes the MTU out of a dump: a spec that leaves it out leaves it alone.
func unset(dump string) string {
	return strings.NewReplacer("mtu 1400 qdisc", "mtu 1500 qdisc", "mtu 1400 state", "mtu 1500 state").Replace(dump)
}

// TestRuleThatLeavesOpen removes rules that leave open what others of their priority select: the
// request to delete one matches those too, and the kernel takes the first. The others stay, without
// a second plan that adds them again; so does somebody else's.
func TestRuleThatLeavesOpen(t *testing.T) {
	t.Parallel()
	n := kerneltest.NewNamespace(t)
	n.IP("rule add priority 9 from 11.0.0.0/8 fwmark 1 lookup 7 protocol static")
	k := n.Kernel()
	a := &apply.Applier{Kernel: k, Hardware: noHardware{}}
	base := fib.Rule{Family: fib.Inet, Priority: 9, Mark: 1, Mask: 1<<32 - 1, Action: fib.Lookup, Table: 7}
	from, to, not, open := base, base, base, base
	from.From, to.To = netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")
	not.From, not.Not = from.From, true
	near, far := from, from // as where a run that changes the one into the other is killed
	near.Action, near.Table, near.Goto = fib.Goto, 0, 100
	far.Action, far.Table, far.Goto = fib.Goto, 0, 200
	type change struct{ have, want []fib.Rule }
	changes := []change{
		{[]fib.Rule{from, open}, []fib.Rule{from}},
		{[]fib.Rule{from, to, open}, []fib.Rule{to}},
		{[]fib.Rule{from, not}, []fib.Rule{from}},
		{[]fib.Rule{not, from}, []fib.Rule{not}},
		{[]fib.Rule{open, from, not, to}, []fib.Rule{not, to}},
		{[]fib.Rule{from, to, open}, nil},
		{[]fib.Rule{near, far}, []fib.Rule{near}},
		{[]fib.Rule{near, far}, []fib.Rule{far}},
	}
	for _, also := range []func(*fib.Rule){
		func(r *fib.Rule) { r.IIF = "lo" },
		func(r *fib.Rule) { r.OIF = "lo" },
		func(r *fib.Rule) { r.TOS = 16 },
		func(r *fib.Rule) { r.IPProto = 6 },
		func(r *fib.Rule) { r.SPort = fib.Range[uint16]{Lo: 1, Hi: 9} },
		func(r *fib.Rule) { r.DPort = fib.Range[uint16]{Lo: 80, Hi: 80} },
		func(r *fib.Rule) { r.UIDRange = fib.Some(fib.Range[uint32]{Lo: 1, Hi: 2}) },
		func(r *fib.Rule) { r.SuppressPrefixLength = fib.Some[uint32](3) },
		func(r *fib.Rule) { r.SuppressIfGroup = fib.Some[uint32](4) },
		func(r *fib.Rule) { r.Mark, r.Mask = 1, 1<<32-1 },
	} {
		bare := fib.Rule{Family: fib.Inet, Priority: 9, From: from.From, Action: fib.Lookup, Table: 7}
		more := bare
		also(&more)
		changes = append(changes, change{[]fib.Rule{more, bare}, []fib.Rule{more}})
	}
	for _, c := range changes {
		// In this order into the kernel.
		for _, r := range c.have {
			if err := errors.Join(k.Execute([]apply.Op{{Verb: apply.RuleAdd, Rule: &r}})...); err != nil {
				t.Fatal(err)
			}
		}
		s := fib.State{Rules: slices.Clone(c.want)}
		s.Sort()
		plan, _, err := a.Plan(s)
		if err != nil {
			t.Fatal(err)
		}
		r, err := a.Apply(context.Background(), s)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := lines(r.Done), lines(plan.Ops()); got != want {
			t.Errorf("it took a second plan:\n%s, the first was\n%s", got, want)
		}
		have, err := k.Observe(apply.Scope{})
		if err != nil {
			t.Fatal(err)
		}
		left := 0
		for _, h := range have.Rules {
			if h.Ours() {
				left++
				if !slices.Contains(c.want, h.Rule) {
					t.Errorf("%+v is there still:\n%s", h.Rule, lines(r.Done))
				}
			}
		}
		if left != len(c.want) {
			t.Errorf("%d rules, want %d:\n%s", left, len(c.want), lines(r.Done))
		}
		if r, err = a.Apply(context.Background(), s); err != nil || len(r.Done) != 0 {
			t.Errorf("a second run: %v\n%s", err, lines(r.Done))
		}
		if _, err := a.Down(context.Background()); err != nil {
			t.Fatal(err)
		}
		if dump := n.Dump(); !strings.Contains(dump, "11.0.0.0/8") || strings.Contains(dump, "proto 118") {
			t.Fatalf("down left\n%s", dump)
		}
	}
}

// randomState returns a State of random routes and rules. Its rules are for marked packets, so
// that the kernel does not look gateways up through them, and many have the same priority.
func randomState(r kerneltest.Random) fib.State {
	s := fib.State{}
	for i, name := range kerneltest.Links {
		s.Links = append(s.Links, fib.Link{Name: name, Match: fib.Match{Name: name}, Uplinks: []fib.Named{{Name: name}}})
		for _, p := range kerneltest.Setup(i) {
			if p.Addr().As16()[15] == 10 || r.IntN(2) == 0 {
				s.Addresses = append(s.Addresses, fib.Address{Link: name, Prefix: p})
			}
		}
	}
	has := func(src netip.Addr) bool {
		return !src.IsValid() || slices.ContainsFunc(s.Addresses, func(a fib.Address) bool { return a.Prefix.Addr() == src })
	}
	keys := map[fib.RouteKey]bool{}
	for range 30 {
		e := r.Route()
		ways := map[netip.Addr]bool{}
		for _, n := range e.Nexthops {
			ways[n.Via] = true
		}
		e.Table = [...]uint32{7, 8, 10000, fib.TableMain}[r.IntN(4)]
		if !keys[e.Key()] && has(e.Src) && len(ways) == len(e.Nexthops) {
			keys[e.Key()] = true
			s.Routes = append(s.Routes, e)
		}
	}
	rules := map[string]bool{}
	for range 30 {
		u := r.Rule()
		u.Priority, u.Not = 100+uint32(r.IntN(4)), false
		u.Mask, u.Mark = 0xff, 1+uint32(r.IntN(2))
		u.From, u.To = u.From.Masked(), netip.Prefix{}
		if u.Table != 0 {
			u.Table = 7 + uint32(r.IntN(2))
		}
		if u.Goto != 0 {
			u.Goto = 200
		}
		if text := fmt.Sprint(u); !rules[text] {
			rules[text] = true
			s.Rules = append(s.Rules, u)
		}
	}
	s.Sort()
	return s
}

// TestRandomStates brings about one random State after the other. Before each change it refuses
// one at a random point; afterwards each is as on a fresh kernel.
func TestRandomStates(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %#x", seed)
	r := kerneltest.NewRandom(seed, kerneltest.Links...)
	n := kerneltest.NewNamespace(t)
	n.Card(kerneltest.Links...)
	// As systemd has it on most hosts.
	n.Sysctl("net/ipv4/conf/all/promote_secondaries", "1")
	real := n.Kernel()
	k := &kerneltest.Faulty{Kernel: real}
	a := &apply.Applier{Kernel: k, Hardware: n.Hardware()}
	do := func(a *apply.Applier, s fib.State) {
		t.Helper()
		if _, err := a.Apply(context.Background(), s); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 6 {
		s := randomState(r)
		plan, _, err := a.Plan(s)
		if err != nil {
			t.Fatal(err)
		}
		n.Settle()
		before := n.Dump()
		k.Seen, k.At, k.Fault = nil, 1+r.IntN(plan.Len()), kerneltest.Fault(1+r.IntN(4))
		if _, err := a.Apply(context.Background(), s); err == nil || strings.Contains(err.Error(), "undoing") {
			t.Errorf("step %d: operation %d of %d refused: %v", i, k.At, plan.Len(), err)
		}
		if len(k.Seen) < k.At {
			t.Fatalf("step %d: %v", i, err)
		}
		n.Settle()
		after := n.Dump()
		if verb := k.Seen[k.At-1].Verb; (verb == apply.AddressDel || verb == apply.LinkPromote) && sorted(before) == sorted(after) {
			before = after
		}
		if d := kerneltest.Diff(before, after); d != "" {
			t.Fatalf("step %d: operation %d of %d went wrong (%d):\n%s\nthe operations:\n%s", i, k.At, plan.Len(), k.Fault, d, lines(k.Seen))
		}
		k.Fault = kerneltest.None
		do(a, s)
		n.Settle()
		fresh := kerneltest.NewNamespace(t)
		fresh.Card(kerneltest.Links...)
		do(&apply.Applier{Kernel: fresh.Kernel(), Hardware: fresh.Hardware()}, s)
		fresh.Settle()
		if d := kerneltest.Diff(primary(neutral(fresh.Dump())), primary(neutral(n.Dump()))); d != "" {
			t.Fatalf("step %d: - on a fresh kernel, + here:\n%s", i, d)
		}
		sent := real.Sent()
		do(a, s)
		if real.Sent() != sent {
			t.Errorf("step %d: a second run sent %d changes", i, real.Sent()-sent)
		}
	}
}

// primary removes from a dump which address of a subnet is the first.
func primary(dump string) string {
	var b strings.Builder
	for line := range strings.Lines(dump) {
		if strings.Contains(line, " proto 2 ") {
			line, _, _ = strings.Cut(line, " src ")
			line = strings.TrimSpace(line) + "\n"
		}
		b.WriteString(strings.ReplaceAll(line, "secondary ", ""))
	}
	return b.String()
}
