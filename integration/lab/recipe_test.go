package lab_test

import (
	"net/netip"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// cards is what a host has before anyone thinks of policy routing.
const cards = `
	address add 192.0.2.10/24 dev eth0
	address add 2001:db8:1::10/64 dev eth0 nodad
	address add 198.51.100.10/24 dev eth1
	address add 2001:db8:2::10/64 dev eth1 nodad
	link set eth0 up
	link set eth1 up
	route add default via 192.0.2.1
	route add default via 2001:db8:1::1
`

// recipe is the cure by hand, for the second card. Table 77 is rt2.
const recipe = `
	route add 198.51.100.0/24 dev eth1 src 198.51.100.10 table 77
	route add default via 198.51.100.1 dev eth1 table 77
	rule add from 198.51.100.10 table 77
	rule add to 198.51.100.10 table 77
	-6 route add 2001:db8:2::/64 dev eth1 table 77
	-6 route add default via 2001:db8:2::1 dev eth1 table 77
	-6 rule add from 2001:db8:2::10 table 77
	-6 rule add to 2001:db8:2::10 table 77
`

var (
	first  = addrs("192.0.2.10", "2001:db8:1::10")
	second = addrs("198.51.100.10", "2001:db8:2::10")
)

func TestRecipeMakesBothCardsAnswer(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l := open(t, quick())
	ip(ctx, t, l.Host, cards+recipe)
	settle(ctx, t, l.Host)

	for name, echo := range map[string]echoFunc{"TCP": l.TCPEcho, "UDP": l.UDPEcho} {
		answers, err := echo(ctx, answerTime, append(first, second...)...)
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range answers {
			want := []string{"eth0", "eth0", "eth1", "eth1"}[i]
			if !a.Answered || a.Card != want {
				t.Errorf("%s: %s; want an answer by %s", name, a, want)
			}
		}
	}
	for _, a := range second {
		d, err := l.LeavesBy(ctx, answerTime, lab.Flow{Source: netip.AddrPortFrom(a, 0)})
		if err != nil {
			t.Fatal(err)
		}
		if d.Card != "eth1" || d.Provider != 2 || !d.Arrived || d.Source != a || d.Seen.Addr() != a {
			t.Errorf("from %s: %s, seen as %s; want it to arrive by eth1", a, d, d.Seen)
		}
	}
}

// Without it the positive test would prove nothing: the lab could as well
// let everything pass.
func TestWithoutTheRecipeTheSecondCardIsNotAnswered(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l := open(t, quick())
	ip(ctx, t, l.Host, cards)
	settle(ctx, t, l.Host)

	for name, echo := range map[string]echoFunc{"TCP": l.TCPEcho, "UDP": l.UDPEcho} {
		answers, err := echo(ctx, answerTime, append(first, second...)...)
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range answers {
			// The host does answer: by the wrong card.
			if want := i < len(first); a.Answered != want || a.Card != "eth0" {
				t.Errorf("%s: %s; want answered %t, by eth0", name, a, want)
			}
		}
	}
	for _, a := range second {
		d, err := l.LeavesBy(ctx, answerTime, lab.Flow{Source: netip.AddrPortFrom(a, 0)})
		if err != nil {
			t.Fatal(err)
		}
		if d.Card != "eth0" || d.Arrived || d.Source != a {
			t.Errorf("from %s: %s; want it to leave by eth0 and be dropped", a, d)
		}
	}
}
