package apply_test

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// TestVerify gives wrong answers of each kind to one question, and checks that only that one is
// wrong.
func TestVerify(t *testing.T) {
	k := kerneltest.NewFake(kerneltest.Links...)
	a := on(k)
	bring(t, a, recipe)
	right := map[apply.Packet]apply.Way{}
	v, err := a.Verify(state(t, recipe))
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]bool{}
	for _, c := range v.Checks {
		right[c.Packet] = c.Want
		asked[c.Uplink+" from "+c.Packet.From.String()+" to "+c.Packet.To.String()] = true
		if c.OK() {
			t.Errorf("a kernel without an answer is right: %s", c)
		}
	}
	for _, want := range []string{"isp1 from 192.0.2.10 to 8.8.8.8", "isp1 from 192.0.2.10 to 192.0.2.1", "rt2 from 198.51.100.10 to 203.0.113.254"} {
		if !asked[want] {
			t.Errorf("not asked: %s; asked: %v", want, asked)
		}
	}
	packet := apply.Packet{From: netip.MustParseAddr("198.51.100.10"), To: netip.MustParseAddr("8.8.8.8")}
	for why, change := range map[string]func(*apply.Way){
		"":        func(*apply.Way) {},
		"device":  func(w *apply.Way) { w.Device = "card0" },
		"gateway": func(w *apply.Way) { w.Via = netip.MustParseAddr("198.51.100.2") },
		"table":   func(w *apply.Way) { w.Table = 254 },
		"type":    func(w *apply.Way) { *w = apply.Way{Type: fib.RouteBlackhole} },
	} {
		k.Ways = map[apply.Packet]apply.Way{}
		for p, w := range right {
			k.Ways[p] = w
		}
		w := right[packet]
		change(&w)
		k.Ways[packet] = w
		v, err := a.Verify(state(t, recipe))
		if err != nil || v.OK() != (why == "") {
			t.Errorf("%s: %v, OK %t", why, err, v.OK())
		}
		for _, c := range v.Checks {
			want := ""
			if c.Packet == packet {
				want = why
			}
			if c.Why != want || c.OK() != (want == "") {
				t.Errorf("another %s: %s is wrong by %q, want %q", why, c, c.Why, want)
			}
		}
	}
}

// TestVerifyOfWhatAnotherLinkHasLearned makes networkd put the default route of another link into
// the table of an uplink, before the uplink's own, or where it has none.
func TestVerifyOfWhatAnotherLinkHasLearned(t *testing.T) {
	const rt2 = "[uplink.rt2]\ninterface = \"card1\"\ntable = 1\ndhcp = \"ipv4\"\n"
	in := func(metric uint32) apply.Route {
		return apply.Route{Protocol: apply.ProtocolDHCP, Route: fib.Route{Table: 1, Metric: metric}}
	}
	packet := apply.Packet{From: netip.MustParseAddr("198.51.100.10"), To: netip.MustParseAddr("8.8.8.8")}
	astray := apply.Way{Type: fib.Unicast, Table: 1, Device: "card0", Via: netip.MustParseAddr("192.0.2.1")}
	own := apply.Way{Type: fib.Unicast, Table: 1, Device: "card1", Via: netip.MustParseAddr("198.51.100.1")}
	for name, c := range map[string]struct {
		routes func(k *kerneltest.Fake)
		way    apply.Way
		why    string
	}{
		"its own":         {func(k *kerneltest.Fake) { gateway(k, "card1", "198.51.100.1", in(1024)) }, own, ""},
		"another's alone": {func(k *kerneltest.Fake) { gateway(k, "card0", "192.0.2.1", in(1024)) }, astray, "device"},
		"another's first": {func(k *kerneltest.Fake) {
			gateway(k, "card0", "192.0.2.1", in(100))
			gateway(k, "card1", "198.51.100.1", in(1024))
		}, astray, "device"},
		"another's behind": {func(k *kerneltest.Fake) {
			gateway(k, "card0", "192.0.2.1", in(2048))
			gateway(k, "card1", "198.51.100.1", in(1024))
		}, own, ""},
	} {
		k := kerneltest.NewFake(kerneltest.Links...)
		learnt(k, "card1", "198.51.100.10/24", apply.Address{})
		c.routes(k)
		k.Ways = map[apply.Packet]apply.Way{packet: c.way}
		v, err := on(k).Verify(state(t, rt2))
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(v.Checks, func(c apply.Check) bool { return c.Packet == packet })
		if i < 0 || v.Checks[i].Why != c.why || v.Checks[i].Err != nil {
			t.Errorf("%s: wrong by other than %q: %v", name, c.why, v.Checks)
		}
	}
}

// TestQuestionsOfARule checks that a rule leads to the questions that the route lookup can
// answer, and that one with further selectors leads to none.
func TestQuestionsOfARule(t *testing.T) {
	const own, in = "from = \"192.0.2.10\"\n", "iif = \"card0\"\n"
	for _, c := range []struct{ keys, forwarding, want string }{
		{keys: own, want: "from 192.0.2.10"},
		{keys: own + "fwmark = 5", want: "from 192.0.2.10 mark 5"},
		{keys: "fwmark = 5", want: "mark 5"},
		{keys: in, forwarding: "1", want: "from 198.18.0.1 iif card0"},
		{keys: in + "from = \"10.0.0.0/8\"", forwarding: "1", want: "from 10.0.0.1 iif card0"},
		{keys: in, forwarding: "0"},
		{keys: "from = \"192.0.2.11\""}, // nobody's
		{keys: "from = \"192.0.2.0/28\""},
		{keys: "oif = \"card0\""},
		{keys: own + "to = \"203.0.113.0/24\""},
		{keys: own + "not = true"},
		{keys: own + "oif = \"card0\""},
		{keys: "iif = \"lo\"", forwarding: "1"},
		{keys: own + "tos = 16"},
		{keys: own + "ipproto = \"tcp\""},
		{keys: own + "ipproto = \"tcp\"\nsport = 80"},
		{keys: own + "sport = 80"},
		{keys: own + "dport = 80"},
		{keys: own + "uidrange = 7"},
		{keys: own + "suppress-prefixlength = 0"},
		{keys: own + "suppress-ifgroup = 1"},
		{keys: own + "type = \"prohibit\""},
	} {
		k := kerneltest.NewFake(kerneltest.Links...)
		a := on(k)
		s := recipe + "[[uplink.isp1.rule]]\npriority = 50\nfamily = \"ipv4\"\n" + c.keys
		if !strings.Contains(c.keys, "type") {
			s += "\ntable = \"rt2\"\n"
		}
		bring(t, a, s)
		a.Hardware = settings{"forwarding": c.forwarding}
		v, err := a.Verify(state(t, s))
		if err != nil {
			t.Fatal(err)
		}
		var asked []string
		for _, check := range v.Checks {
			p := check.Packet
			if check.Uplink != "rt2" || p.From.String() == "198.51.100.10" {
				continue // of the uplinks' own rules
			}
			what := ""
			if p.From.IsValid() {
				what += " from " + p.From.String()
			}
			if p.IIF != "" {
				what += " iif " + p.IIF
			}
			if p.Mark != 0 {
				what += " mark " + strconv.Itoa(int(p.Mark))
			}
			asked = append(asked, strings.TrimSpace(what))
		}
		slices.Sort(asked)
		if got := strings.Join(slices.Compact(asked), ", "); got != c.want {
			t.Errorf("%q: asked %q, want %q", c.keys, got, c.want)
		}
	}
}

// TestMissingAddresses removes an address, about which the kernel cannot be asked anything, and
// has another host with the address.
func TestMissingAddresses(t *testing.T) {
	k := kerneltest.NewFake(kerneltest.Links...)
	a := on(k)
	bring(t, a, recipe)
	missing := func() (lines []string) {
		t.Helper()
		v, err := a.Verify(state(t, recipe))
		if err != nil || v.OK() {
			t.Fatalf("%v, OK %t", err, v.OK())
		}
		for _, m := range v.Missing {
			lines = append(lines, m.Uplink+": "+m.String())
		}
		return lines
	}
	if got := missing(); got != nil {
		t.Errorf("of a host with all: %q", got)
	}
	gone := slices.DeleteFunc(slices.Clone(k.Addresses), func(a apply.Address) bool { return a.Link != "card1" })
	k.Addresses = slices.DeleteFunc(k.Addresses, func(a apply.Address) bool { return a.Link == "card1" })
	k.Addresses[0].Duplicate = true
	want := []string{
		"isp1: card0 cannot use 192.0.2.10/24: another host has this address (duplicate address detection has failed)",
		"rt2: card1 does not have 198.51.100.10/24",
	}
	if got := missing(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	k.Ways = map[apply.Packet]apply.Way{}
	// A kernel that has no answer yet is wrong.
	for round, want := range []error{apply.ErrWrongWay, apply.ErrMissing, apply.ErrWrongWay, apply.ErrDuplicate} {
		if round == 2 {
			k.Addresses = append(k.Addresses, gone...)
		}
		v, err := a.Verify(state(t, recipe))
		if err != nil || !errors.Is(v.Err(), want) {
			t.Errorf("round %d: %v, %v, want %v", round, err, v.Err(), want)
		}
		for _, c := range v.Checks {
			k.Ways[c.Packet] = c.Want
		}
	}
}

// TestAddressThatOthersHaveToBring removes an address from a link that belongs to others: apply
// waits, and verify counts it, but not while the link itself is not ready.
func TestAddressThatOthersHaveToBring(t *testing.T) {
	policy := strings.ReplaceAll(recipe, "table ", "manage = \"policy\"\ntable ")
	further := strings.ReplaceAll(policy, "\"198.51.100.10/24\"", "\"198.51.100.10/24\", \"198.51.100.11/24\", \"203.0.113.5/32\"")
	const theirs = "who has the link (netplan, NetworkManager, ifupdown …) has to bring it"
	six := strings.ReplaceAll(policy, "\"198.51.100.10/24\"", "\"198.51.100.10/24\", \"2001:db8:2::10/64\"")
	for name, tt := range map[string]struct {
		spec             string
		alter            func(*kerneltest.Fake)
		missing, waiting string
	}{
		"all is there": {spec: policy},
		"it is gone":   {spec: policy, alter: without("198.51.100.10"), missing: "rt2: card1 does not have 198.51.100.10: " + theirs},
		"the link is down": {spec: policy, waiting: "uplink rt2: card1 is down", alter: func(k *kerneltest.Fake) {
			without("198.51.100.10")(k)
			k.Links[2].Up, k.Links[2].Carrier = false, false
		}},
		"no carrier": {spec: policy, waiting: "uplink rt2: card1 has no carrier", alter: func(k *kerneltest.Fake) {
			without("198.51.100.10")(k)
			k.Links[2].Carrier = false
		}},
		"an IPv6 one is tentative": {spec: six, alter: func(k *kerneltest.Fake) {
			k.Addresses = append(k.Addresses, apply.Address{Address: fib.Address{Link: "card1", Prefix: netip.MustParsePrefix("2001:db8:2::10/64")}, Tentative: true})
		}},
		"an IPv6 one is gone": {spec: six, missing: "rt2: card1 does not have 2001:db8:2::10: " + theirs},
		// No route has these as its source, and nothing waits for them.
		"further ones are gone": {spec: further, missing: "rt2: card1 does not have 198.51.100.11: " + theirs + "\nrt2: card1 does not have 203.0.113.5: " + theirs},
		"all are gone": {spec: further, alter: without("198.51.100.10"), missing: "rt2: card1 does not have 198.51.100.10: " + theirs +
			"\nrt2: card1 does not have 198.51.100.11: " + theirs + "\nrt2: card1 does not have 203.0.113.5: " + theirs},
		"one is on a link of their own, one another host's": {spec: further, missing: "rt2: card1 cannot use 198.51.100.11/24: another host has this address (duplicate address detection has failed)", alter: func(k *kerneltest.Fake) {
			k.Addresses = append(k.Addresses, apply.Address{Address: fib.Address{Link: "lo", Prefix: netip.MustParsePrefix("203.0.113.5/32")}},
				apply.Address{Address: fib.Address{Link: "card1", Prefix: netip.MustParsePrefix("198.51.100.11/24")}, Duplicate: true})
		}},
	} {
		k := kerneltest.NewFake(kerneltest.Links...)
		a := on(k)
		bring(t, a, recipe)
		if tt.alter != nil {
			tt.alter(k)
		}
		v, err := a.Verify(state(t, tt.spec))
		if err != nil {
			t.Fatal(err)
		}
		var missing, waiting []string
		for _, m := range v.Missing {
			missing = append(missing, m.Uplink+": "+m.String())
		}
		for _, w := range v.Waiting {
			waiting = append(waiting, w.String())
		}
		if got := strings.Join(missing, "\n"); got != tt.missing {
			t.Errorf("%s: missing: %q, want %q", name, got, tt.missing)
		}
		if got := strings.Join(waiting, "\n"); got != tt.waiting {
			t.Errorf("%s: waiting: %q, want %q", name, got, tt.waiting)
		}
	}
}

// TestMembersOfOtherLinks checks that a port of a bond is reported, and that one in a VRF is like
// any other, except that no link in it answers for an address of another VRF.
func TestMembersOfOtherLinks(t *testing.T) {
	extra := apply.Address{Address: fib.Address{Link: "card2", Prefix: netip.MustParsePrefix("192.0.2.10/24")}}
	const both = "192.0.2.0/24 is on card0 and card2: both answer ARP"
	for name, tt := range map[string]struct {
		master [3]int // of card0, card1, card2
		kind   string
		want   []string
	}{
		"none":                      {want: []string{both, both, "192.0.2.10, which is card0's, is here as well"}},
		"a VRF":                     {master: [3]int{9, 9, 9}, kind: "vrf", want: []string{both, both, "192.0.2.10, which is card0's, is here as well"}},
		"the uplinks' are in a VRF": {master: [3]int{9, 9, 0}, kind: "vrf"},
		"another is in a VRF":       {master: [3]int{0, 0, 9}, kind: "vrf"},
		"a bond":                    {master: [3]int{0, 9, 0}, kind: "bond", want: []string{"card1 is a port of m0: the host itself gets no packets by it", both, both, "192.0.2.10, which is card0's, is here as well"}},
	} {
		k := kerneltest.NewFake("card0", "card1", "card2")
		a := on(k)
		bring(t, a, recipe)
		a.Hardware = settings{"arp_ignore": "0"}
		k.Links = append(k.Links, apply.Link{Index: 9, Name: "m0", Up: true, Carrier: true, Kind: tt.kind})
		for i, master := range tt.master {
			if l := &k.Links[1+i]; master != 0 {
				l.Master, l.PortOf = master, tt.kind
			}
		}
		k.Addresses = append(k.Addresses, extra)
		v, err := a.Verify(state(t, recipe))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(v.Hazards, tt.want, func(h apply.Hazard, want string) bool { return strings.HasPrefix(h.Text, want) }) {
			t.Errorf("%s: %q, want %q", name, v.Hazards, tt.want)
		}
	}
}

// settings are a host's, for all links.
type settings map[string]string

func (settings) Driver(apply.Link) string          { return "" }
func (settings) Path(apply.Link) string            { return "" }
func (s settings) Sysctl(_, _, name string) string { return s[name] }

// without takes an address away.
func without(addr string) func(*kerneltest.Fake) {
	return func(k *kerneltest.Fake) {
		k.Addresses = slices.DeleteFunc(k.Addresses, func(a apply.Address) bool { return a.Prefix.Addr().String() == addr })
	}
}

// TestHazards wants what defeats a right state to be named, and nothing else.
func TestHazards(t *testing.T) {
	k := kerneltest.NewFake(kerneltest.Links...)
	a := on(k)
	bring(t, a, recipe)
	hazards := func() (text string) {
		t.Helper()
		v, err := a.Verify(state(t, recipe))
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range v.Hazards {
			text += h.String() + "\n"
		}
		return text
	}
	if got := hazards(); got != "" {
		t.Errorf("of a host without hazards: %s", got)
	}
	foreign := func(priority uint32, table uint32) {
		k.Rules = append(k.Rules, apply.Rule{Rule: fib.Rule{Family: fib.Inet, Priority: priority, Action: fib.Lookup, Table: table}, Protocol: 4})
	}
	foreign(20000, 9)             // behind ours
	foreign(9000, fib.TableLocal) // as on hosts with VRFs, where it is moved behind
	k.Rules = append(k.Rules, apply.Rule{Rule: fib.Rule{Family: fib.Inet, Priority: 1000, Action: fib.Lookup, L3MDev: true}, Protocol: apply.ProtocolKernel})
	k.Near = append(k.Near, apply.Neighbour{Link: "card0", Addr: netip.MustParseAddr("192.0.2.9"), State: "failed"}, apply.Neighbour{Link: "card1", Addr: netip.MustParseAddr("192.0.2.1"), State: "failed"}, apply.Neighbour{Link: "card0", Addr: netip.MustParseAddr("192.0.2.1")})
	if got := hazards(); got != "" {
		t.Errorf("of what is no hazard: %s", got)
	}
	foreign(9, 9)
	foreign(0, 9)
	k.Near = append(k.Near, apply.Neighbour{Link: "card0", Addr: netip.MustParseAddr("192.0.2.1"), State: "failed"})
	got := strings.Split(strings.TrimSpace(hazards()), "\n")
	want := []string{
		"a rule of an administrator or systemd-networkd (protocol static) is asked before the uplinks': priority 9 from all lookup 9",
		"a rule of an administrator or systemd-networkd (protocol static) is asked before the uplinks': priority 0 from all lookup 9",
		"card0: the gateway 192.0.2.1 does not answer: check its address, and the network there",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// strict is a host with settings that defeat any state, for links that it knows.
type strict struct{ noHardware }

func (strict) Sysctl(family, link, name string) string {
	return map[string]string{"ipv4 all rp_filter": "1", "ipv4 card1.100 arp_ignore": "0", "ipv4 card0 arp_ignore": "1", "ipv6 card1.100 disable_ipv6": "1", "ipv6 card0 accept_ra": "0"}[family+" "+link+" "+name]
}

// TestHazardousSettings checks that the settings are named as sysctl(8) takes them.
func TestHazardousSettings(t *testing.T) {
	k := kerneltest.NewFake("card0", "card1.100")
	a := &apply.Applier{Kernel: k, Hardware: strict{}}
	v, err := a.Verify(state(t, `
[uplink.a]
interface = "card0"
addresses = ["192.0.2.10/24"]
accept-ra = "yes"
[uplink.b]
interface = "card1.100"
addresses = ["192.0.2.11/24", "2001:db8:1::10/64"]
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range v.Waiting {
		got = append(got, w.String())
	}
	for _, h := range v.Hazards {
		got = append(got, h.String())
	}
	promote := apply.Op{Verb: apply.LinkPromote, Link: "card1.100"}
	want := []string{
		"uplink b: card1.100 has IPv6 switched off (net.ipv6.conf.card1/100.disable_ipv6)",
		"uplink a: card0 has not learned an address yet: neither a DHCP client nor a router advertisement has brought one",
		"card0: rp_filter is strict: what comes in here is dropped where its answer has another way; set net.ipv4.conf.card0.rp_filter=2",
		"card1.100: rp_filter is strict: what comes in here is dropped where its answer has another way; set net.ipv4.conf.card1/100.rp_filter=2",
		"card1.100: 192.0.2.0/24 is on card0 and card1.100: both answer ARP for either's addresses; set net.ipv4.conf.card1/100.arp_ignore=1 and arp_announce=2",
		"card0: no router advertisement has been taken: the kernel takes none here; systemd-networkd or NetworkManager has to, or set net.ipv6.conf.card0.accept_ra=2",
		"# sysctl net.ipv4.conf.card1/100.promote_secondaries=0",
	}
	if got = append(got, promote.Batch()); !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestWayOfALeaseBeforeTheLastResort checks that what networkd has learned is the way of an
// uplink that fails closed, and the refusal where nothing was learned.
func TestWayOfALeaseBeforeTheLastResort(t *testing.T) {
	const closed = "[uplink.rt2]\ninterface = \"card1\"\ntable = 1\ndhcp = \"ipv4\"\nfallthrough = \"unreachable\"\n"
	for leased, want := range map[bool]string{true: "via 198.51.100.1 dev card1 table 1", false: "unreachable"} {
		k := kerneltest.NewFake(kerneltest.Links...)
		learnt(k, "card1", "198.51.100.50/24", apply.Address{})
		if leased {
			gateway(k, "card1", "198.51.100.1", apply.Route{Protocol: apply.ProtocolDHCP, Route: fib.Route{Table: 1, Metric: 1024}})
		}
		v, err := on(k).Verify(state(t, closed))
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		for _, c := range v.Checks {
			if c.Packet.To.String() == "8.8.8.8" {
				if asked++; c.Want.String() != want {
					t.Errorf("leased %t: wanted %s, want %s", leased, c.Want, want)
				}
			}
		}
		if asked != 1 {
			t.Errorf("leased %t: asked %d times", leased, asked)
		}
	}
}
