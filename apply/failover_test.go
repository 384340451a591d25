package apply_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

const (
	twoInMain = `
[uplink.a]
interface = "card0"
addresses = ["192.0.2.10/24", "2001:db8:1::10/64"]
gateways = ["192.0.2.1", "2001:db8:1::1"]
default-route = true
metric = 100
probe = { targets = ["203.0.113.1", "2001:db8:ffff::1"] }

[uplink.b]
interface = "card1"
addresses = ["198.51.100.10/24", "2001:db8:2::10/64"]
gateways = ["198.51.100.1", "2001:db8:2::1"]
default-route = true
metric = 200
probe = { targets = ["203.0.113.1", "2001:db8:ffff::1"] }
`
	sharedAndReserve = `
[multipath]
uplinks = { a = 3, b = 2 }

[uplink.a]
interface = "card0"
addresses = ["192.0.2.10/24"]
gateways = ["192.0.2.1"]
probe = { targets = ["203.0.113.1"] }

[uplink.b]
interface = "card1"
addresses = ["198.51.100.10/24"]
gateways = ["198.51.100.1"]
probe = { targets = ["203.0.113.1"] }

[uplink.c]
interface = "card2"
addresses = ["100.64.0.10/24"]
gateways = ["100.64.0.1"]
default-route = true
metric = 500
`
	learning = `
[uplink.a]
interface = "card0"
dhcp = "ipv4"
default-route = true
probe = { targets = ["203.0.113.1"] }

[uplink.b]
interface = "card1"
dhcp = "ipv4"
default-route = true
probe = { targets = ["203.0.113.1"] }
`
)

// deadOnes reads "a4 b6": uplinks and families.
func deadOnes(text string) map[fib.Verdict]bool {
	dead := map[fib.Verdict]bool{}
	for _, w := range strings.Fields(text) {
		f := fib.Inet
		if w[1] == '6' {
			f = fib.Inet6
		}
		dead[fib.Verdict{Uplink: w[:1], Family: f}] = true
	}
	return dead
}

func TestFailOver(t *testing.T) {
	t.Parallel()
	const rules4 = "rule add priority 32764 from all lookup main suppress_prefixlength 0 protocol 118\nrule add priority 32765 from all lookup failover protocol 118\n"
	const rules6 = "-6 rule add priority 32764 from all lookup main suppress_prefixlength 0 protocol 118\n-6 rule add priority 32765 from all lookup failover protocol 118\n"
	others := func(table, metric uint32, protocol uint8, gateway, card string) apply.Route {
		via := netip.MustParseAddr(gateway)
		f := fib.FamilyOf(via)
		return apply.Route{Protocol: protocol, Route: fib.Route{Family: f, Table: table, Dst: f.Any(), Type: fib.Unicast, Metric: metric, Nexthops: []fib.Nexthop{{Link: card, Via: via}}, Link: card}}
	}
	// As networkd leaves it: in main, and in the tables of both.
	leased := func(metric0, metric1 uint32) []apply.Route {
		return []apply.Route{
			others(fib.TableMain, metric0, apply.ProtocolDHCP, "192.0.2.1", "card0"), others(10000, metric0, apply.ProtocolDHCP, "192.0.2.1", "card0"),
			others(fib.TableMain, metric1, apply.ProtocolDHCP, "198.51.100.1", "card1"), others(10001, metric1, apply.ProtocolDHCP, "198.51.100.1", "card1"),
		}
	}
	// Without what networkd puts into main for one of them.
	without := func(list []apply.Route, i int) []apply.Route { return slices.Delete(list, i, i+1) }
	static := []apply.Route{
		others(fib.TableMain, 100, apply.ProtocolStatic, "192.0.2.1", "card0"), others(10000, 0, apply.ProtocolStatic, "192.0.2.1", "card0"),
		others(fib.TableMain, 200, apply.ProtocolStatic, "198.51.100.1", "card1"), others(10001, 0, apply.ProtocolStatic, "198.51.100.1", "card1"),
	}
	measured := strings.NewReplacer("[uplink.b]\n", "[uplink.b]\nmetric = 200\nmanage = \"policy\"\n",
		"[uplink.a]\n", "[uplink.a]\nmetric = 100\nmanage = \"policy\"\n").Replace(learning)
	// Both by one card: only their gateways tell them apart.
	oneCard := strings.ReplaceAll(twoInMain, "card1", "card0")
	three := measured + "[uplink.c]\ninterface = \"card2\"\ndhcp = \"ipv4\"\ndefault-route = true\nmetric = 300\nmanage = \"policy\"\n"
	expired := leased(1024, 1025)
	expired[2].Expires, expired[3].Expires = -time.Second, -time.Second
	for _, c := range []struct {
		name, spec, dead string
		have             []apply.Route
		down             string // the card without a carrier
		networkd         bool   // has all the links
		want             string
	}{
		{name: "all alive", spec: twoInMain},
		{name: "the first", spec: twoInMain, dead: "a4", want: "route add default via 198.51.100.1 dev card1 table failover proto 118\n" + rules4},
		{name: "the first, of the other family", spec: twoInMain, dead: "a6", want: "-6 route add default via 2001:db8:2::1 dev card1 table failover proto 118 metric 1024\n" + rules6},
		{name: "the second", spec: twoInMain, dead: "b4 b6"},
		{name: "both", spec: twoInMain, dead: "a4 b4"},
		{name: "the first, and no carrier for the second", spec: twoInMain, dead: "a4", down: "card1"},
		{name: "the second of one card", spec: oneCard, dead: "b4"},
		{name: "the first of one card", spec: oneCard, dead: "a4", want: "route add default via 198.51.100.1 dev card0 table failover proto 118\n" + rules4},
		{name: "no probe asks for it", spec: strings.ReplaceAll(twoInMain, "probe =", "# "), dead: "a4"},
		{name: "no probe asks for this one", spec: strings.Replace(twoInMain, "probe =", "# ", 1), dead: "a4"},
		{name: "nor for its family", spec: strings.Replace(twoInMain, `"203.0.113.1", `, "", 1), dead: "a4"},
		{name: "one of those that share", spec: sharedAndReserve, dead: "a4", want: "route add default via 198.51.100.1 dev card1 table failover proto 118\n" + rules4},
		{name: "all of those that share", spec: sharedAndReserve, dead: "a4 b4", want: "route add default via 100.64.0.1 dev card2 table failover proto 118\n" + rules4},
		{name: "the reserve", spec: sharedAndReserve, dead: "c4"},
		{
			name: "one of three that share", spec: strings.Replace(sharedAndReserve, "b = 2", "b = 2, c = 1", 1), dead: "a4",
			want: "route add default table failover proto 118 nexthop via 198.51.100.1 dev card1 weight 2 nexthop via 100.64.0.1 dev card2 weight 1\n" + rules4,
		},
		{name: "nothing learned", spec: learning, dead: "a4"},
		{name: "learned", spec: learning, dead: "a4", have: leased(1024, 1025), want: "route add default via 198.51.100.1 dev card1 table failover proto 118\n" + rules4},
		{name: "learned, and the other comes first", spec: learning, dead: "a4", have: leased(1025, 1024)},
		{name: "learned, and the other comes first and is dead", spec: learning, dead: "b4", have: leased(1025, 1024), want: "route add default via 192.0.2.1 dev card0 table failover proto 118\n" + rules4},
		{
			name: "the best of two by the metrics of main", spec: three, dead: "a4",
			have: append(leased(10, 30), others(fib.TableMain, 20, apply.ProtocolDHCP, "100.64.0.1", "card2"), others(10002, 20, apply.ProtocolDHCP, "100.64.0.1", "card2")),
			want: "route add default via 100.64.0.1 dev card2 table failover proto 118\n" + rules4,
		},
		{name: "learned, and over", spec: learning, dead: "a4", have: expired},
		{
			name: "networkd has the links", spec: twoInMain, dead: "a4", networkd: true, have: static,
			want: "route add default via 198.51.100.1 dev card1 table failover proto 118\n" + rules4,
		},
		{name: "not in main, and the other is dead", spec: learning, dead: "b4", have: without(leased(1024, 1025), 0), want: "route add default via 192.0.2.1 dev card0 table failover proto 118\n" + rules4},
		{
			name: "not in main with a metric of its own, and the other is dead", spec: twoInMain, dead: "b4", networkd: true, have: without(slices.Clone(static), 0),
			want: "route add default via 192.0.2.1 dev card0 table failover proto 118\n" + rules4,
		},
		{
			name: "the client's metrics are not the spec's", spec: measured, dead: "b4", have: leased(101, 100),
			want: "route add default via 192.0.2.1 dev card0 table failover proto 118\n" + rules4,
		},
		{name: "the client's metrics are not the spec's, and main takes the other", spec: measured, dead: "a4", have: leased(101, 100)},
		{name: "not in main, and dead", spec: learning, dead: "a4", have: without(leased(1024, 1025), 0)},
		{name: "networkd has the links, and not yet the route", spec: twoInMain, dead: "a4", networkd: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := kerneltest.NewFake(kerneltest.Links...)
			for i := range k.Links {
				k.Links[i].Carrier = k.Links[i].Name != c.down
			}
			have, err := k.Observe(apply.Scope{})
			if err != nil {
				t.Fatal(err)
			}
			have.Routes = append(have.Routes, c.have...)
			s := state(t, c.spec)
			if c.networkd {
				s.LeaveToNetworkd(func(string) bool { return true })
			}
			a := on(k)
			a.Dead = deadOnes(c.dead)
			want, err := a.Resolve(s, have)
			if err != nil {
				t.Fatal(err)
			}
			x := s.Syntax()
			x.Device = func(name string) string { return name }
			var got strings.Builder
			for _, r := range want.Routes {
				if r.Table == s.Failover.Table && s.Failover.Table != 0 {
					got.WriteString(x.Route("add", r) + "\n")
				}
			}
			for _, r := range want.Rules {
				if r.Priority >= fib.PriorityFailover {
					got.WriteString(x.Rule("add", r) + "\n")
				}
			}
			if text := strings.NewReplacer("10002", "failover", "10003", "failover").Replace(got.String()); text != c.want {
				t.Errorf("got\n%swant\n%s", text, c.want)
			}
		})
	}
}

// TestFailOverInOrder checks that the order is one in which a packet for another of main's routes
// never goes by the route around dead uplinks.
func TestFailOverInOrder(t *testing.T) {
	t.Parallel()
	k := kerneltest.NewFake(kerneltest.Links...)
	a := on(k)
	bring(t, a, twoInMain)
	s := state(t, twoInMain)
	for _, step := range []struct{ dead, want string }{
		{"a4", "route add default via 198.51.100.1 dev card1 table 10002 proto 118\n" +
			"rule add priority 32764 from all lookup main suppress_prefixlength 0 protocol 118\n" +
			"rule add priority 32765 from all lookup 10002 protocol 118\n"},
		{"a4", ""},
		{"", "rule del priority 32765 from all lookup 10002 protocol 118\n" +
			"rule del priority 32764 from all lookup main suppress_prefixlength 0 protocol 118\n" +
			"route del default via 198.51.100.1 dev card1 table 10002 proto 118\n"},
	} {
		a.Dead = deadOnes(step.dead)
		result, err := a.Apply(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if got := lines(result.Done); got != step.want {
			t.Errorf("dead %q:\n%swant\n%s", step.dead, got, step.want)
		}
	}
}
