package apply_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// TestVerify gives wrong answers of each kind to a question, and wants only that one to
// be wrong.
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
	foreign(20000, 9) // behind ours
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
