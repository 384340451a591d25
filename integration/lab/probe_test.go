package lab_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

type echoFunc func(context.Context, time.Duration, ...netip.Addr) ([]lab.Answer, error)

func TestProvidersDropForeignSources(t *testing.T) {
	t.Parallel()
	require(t)
	// The same wrong card, at providers that differ only in what they let pass.
	for name, test := range map[string]struct {
		change  func(*lab.Provider)
		arrives bool
	}{
		"own prefixes only": {func(*lab.Provider) {}, false},
		"one more prefix":   {func(p *lab.Provider) { p.Sources = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/25")} }, true},
		"all":               {func(p *lab.Provider) { p.Unfiltered = true }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := quick()
			test.change(&opts.Providers[0])
			ctx, l := open(t, opts)
			ip(ctx, t, l.Host, cards)
			settle(ctx, t, l.Host)
			d, err := l.LeavesBy(ctx, answerTime, lab.Flow{Source: netip.MustParseAddrPort("198.51.100.10:0")})
			if err != nil {
				t.Fatal(err)
			}
			if d.Card != "eth0" || d.Arrived != test.arrives {
				t.Errorf("%s; want it to leave by eth0, arrived %t", d, test.arrives)
			}
		})
	}
}

func TestFlowsAreWhatTheirRulesAskFor(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l := open(t, quick())
	ip(ctx, t, l.Host, cards+`
		route add default via 198.51.100.1 dev eth1 src 198.51.100.10 table 77
		-6 route add default via 2001:db8:2::1 dev eth1 src 2001:db8:2::10 table 77
		rule add fwmark 0x10 lookup 77 priority 100
		-6 rule add fwmark 0x10 lookup 77 priority 100
		rule add tos 0x08 lookup 77 priority 101
		-6 rule add tos 0x08 lookup 77 priority 101
		rule add uidrange 4242-4242 lookup 77 priority 102
		rule add sport 4243 lookup 77 priority 103
		rule add from 192.0.2.10 fwmark 0x20 unreachable priority 99
	`)
	settle(ctx, t, l.Host)
	for name, test := range map[string]struct {
		flow lab.Flow
		card string
		err  error
	}{
		"plain":              {lab.Flow{}, "eth0", nil},
		"mark":               {lab.Flow{Mark: 0x10}, "eth1", nil},
		"mark, v6":           {lab.Flow{Mark: 0x10, Destination: l.ClientAddr(true)}, "eth1", nil},
		"type of service":    {lab.Flow{TOS: 8}, "eth1", nil},
		"traffic class, v6":  {lab.Flow{TOS: 8, Destination: l.ClientAddr(true)}, "eth1", nil},
		"user":               {lab.Flow{UID: 4242}, "eth1", nil},
		"source port":        {lab.Flow{Source: netip.MustParseAddrPort("0.0.0.0:4243")}, "eth1", nil},
		"unreachable":        {lab.Flow{Mark: 0x20, Source: netip.MustParseAddrPort("192.0.2.10:0")}, "", unix.ENETUNREACH},
		"address not there":  {lab.Flow{Source: netip.MustParseAddrPort("192.0.2.99:0")}, "", unix.EADDRNOTAVAIL},
		"no way to go there": {lab.Flow{Destination: netip.MustParseAddr("192.0.2.77")}, "", nil},
	} {
		d, err := l.LeavesBy(ctx, answerTime, test.flow)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d.Card != test.card || d.Arrived != (test.card != "") || !errors.Is(d.Err, test.err) {
			t.Errorf("%s: %s; want card %q, error %v", name, d, test.card, test.err)
		}
	}
}

func TestTwoCardsInOneSubnet(t *testing.T) {
	t.Parallel()
	require(t)
	opts := quick()
	opts.Providers = []lab.Provider{{
		Gateways: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")},
		Cards:    []lab.Card{{Name: "eth0", Up: true}, {Name: "eth1", Up: true}},
	}}
	ctx, l := open(t, opts)
	ip(ctx, t, l.Host, `
		address add 192.0.2.10/24 dev eth0
		address add 192.0.2.20/24 dev eth1
		route add default via 192.0.2.1 dev eth0
		route add default via 192.0.2.1 dev eth1 table 77
		rule add from 192.0.2.20 lookup 77
	`)
	settle(ctx, t, l.Host)
	answers, err := l.UDPEcho(ctx, answerTime, addrs("192.0.2.10", "192.0.2.20")...)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range answers {
		if want := []string{"eth0", "eth1"}[i]; !a.Answered || a.Card != want {
			t.Errorf("%s; want an answer by %s", a, want)
		}
	}
}
