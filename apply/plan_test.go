package apply_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// TestPlan wants the exact operations from one spec to another.
func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name, have, want string
		alter            func(*kerneltest.Fake) // after have is there
		ops              string
		waiting          []string
	}{
		{name: "nothing of nothing"},
		{name: "nothing to do", have: dualStack, want: dualStack},
		{
			name: "from nothing: addresses, then routes on the link and through gateways, then rules from the highest priority down, IPv4 first",
			want: dualStack,
			ops: `
address add 192.0.2.10/24 dev card0 brd +
-6 address add 2001:db8:1::10/64 dev card0
address add 198.51.100.10/24 dev card1 brd +
-6 address add 2001:db8:2::10/64 dev card1
route add 198.51.100.0/24 dev card1 table 1 proto 118 scope link src 198.51.100.10
route add 192.0.2.0/24 dev card0 table 10000 proto 118 scope link src 192.0.2.10
route add default via 198.51.100.1 dev card1 table 1 proto 118
route add default via 192.0.2.1 dev card0 proto 118 metric 100
route add default via 192.0.2.1 dev card0 table 10000 proto 118
rule add priority 10001 from all to 198.51.100.10 lookup 1 protocol 118
rule add priority 10001 from 198.51.100.10 lookup 1 protocol 118
rule add priority 10000 from all to 192.0.2.10 lookup 10000 protocol 118
rule add priority 10000 from 192.0.2.10 lookup 10000 protocol 118
-6 route add 2001:db8:2::/64 dev card1 table 1 proto 118 src 2001:db8:2::10 metric 1024
-6 route add 2001:db8:1::/64 dev card0 table 10000 proto 118 src 2001:db8:1::10 metric 1024
-6 route add default via 2001:db8:2::1 dev card1 table 1 proto 118 metric 1024
-6 route add default via 2001:db8:1::1 dev card0 proto 118 metric 100
-6 route add default via 2001:db8:1::1 dev card0 table 10000 proto 118 metric 1024
-6 rule add priority 10001 from all to 2001:db8:2::10 lookup 1 protocol 118
-6 rule add priority 10001 from 2001:db8:2::10 lookup 1 protocol 118
-6 rule add priority 10000 from all to 2001:db8:1::10 lookup 10000 protocol 118
-6 rule add priority 10000 from 2001:db8:1::10 lookup 10000 protocol 118
`,
		},
		{
			name: "to nothing: rules from the lowest priority up, then routes through gateways and on the link, then addresses",
			have: recipe,
			ops: `
rule del priority 10000 from all to 192.0.2.10 lookup 10000 protocol 118
rule del priority 10000 from 192.0.2.10 lookup 10000 protocol 118
rule del priority 10001 from all to 198.51.100.10 lookup 1 protocol 118
rule del priority 10001 from 198.51.100.10 lookup 1 protocol 118
route del default via 198.51.100.1 dev card1 table 1 proto 118
route del default via 192.0.2.1 dev card0 table 10000 proto 118
route del 198.51.100.0/24 dev card1 table 1 proto 118 scope link src 198.51.100.10
route del 192.0.2.0/24 dev card0 table 10000 proto 118 scope link src 192.0.2.10
address del 198.51.100.10/24 dev card1
address del 192.0.2.10/24 dev card0
`,
		},
		{
			name: "a gateway and an address change: the new before the old",
			have: recipe, want: strings.NewReplacer("192.0.2.10", "192.0.2.20", "192.0.2.1\"", "192.0.2.2\"").Replace(recipe),
			ops: `
address add 192.0.2.20/24 dev card0 brd +
route replace 192.0.2.0/24 dev card0 table 10000 proto 118 scope link src 192.0.2.20
route replace default via 192.0.2.2 dev card0 table 10000 proto 118
rule add priority 10000 from all to 192.0.2.20 lookup 10000 protocol 118
rule add priority 10000 from 192.0.2.20 lookup 10000 protocol 118
rule del priority 10000 from all to 192.0.2.10 lookup 10000 protocol 118
rule del priority 10000 from 192.0.2.10 lookup 10000 protocol 118
address del 192.0.2.10/24 dev card0
`,
		},
		{
			name: "the prefix of an address gets another length: in IPv6 the old goes first, and what loses its source has it again",
			have: sourced, want: resized(sourced),
			ops: `
-6 address del 2001:db8:2::10/64 dev card1
address add 198.51.100.10/25 dev card1 brd +
-6 address add 2001:db8:2::10/48 dev card1
route add 198.51.100.0/25 dev card1 table 1 proto 118 scope link src 198.51.100.10
-6 route add 2001:db8:2::/48 dev card1 table 1 proto 118 src 2001:db8:2::10 metric 1024
-6 route replace 2001:db8:77::/48 via 2001:db8:2::2 dev card1 table 1 proto 118 src 2001:db8:2::10 metric 1024
route del 198.51.100.0/24 dev card1 table 1 proto 118 scope link src 198.51.100.10
-6 route del 2001:db8:2::/64 dev card1 table 1 proto 118 src 2001:db8:2::10 metric 1024
address del 198.51.100.10/24 dev card1
`,
		},
		{
			name: "one uplink of two goes: nothing of the other",
			have: recipe, want: recipe[:strings.Index(recipe, "[uplink.rt2]")],
			ops: `
rule del priority 10001 from all to 198.51.100.10 lookup 1 protocol 118
rule del priority 10001 from 198.51.100.10 lookup 1 protocol 118
route del default via 198.51.100.1 dev card1 table 1 proto 118
route del 198.51.100.0/24 dev card1 table 1 proto 118 scope link src 198.51.100.10
address del 198.51.100.10/24 dev card1
`,
		},
		{
			name: "a table changes: the rules that lead to it are in place before the old go",
			have: recipe, want: strings.Replace(recipe, "= 1\n", "= 2\n", 1),
			ops: `
route add 198.51.100.0/24 dev card1 table 2 proto 118 scope link src 198.51.100.10
route add default via 198.51.100.1 dev card1 table 2 proto 118
rule add priority 10001 from all to 198.51.100.10 lookup 2 protocol 118
rule add priority 10001 from 198.51.100.10 lookup 2 protocol 118
rule del priority 10001 from all to 198.51.100.10 lookup 1 protocol 118
rule del priority 10001 from 198.51.100.10 lookup 1 protocol 118
route del default via 198.51.100.1 dev card1 table 1 proto 118
route del 198.51.100.0/24 dev card1 table 1 proto 118 scope link src 198.51.100.10
`,
		},
		{
			name: "a rule that was there would lead the check of a new gateway astray: one for that gateway alone stands meanwhile",
			have: "[uplink.a]\ninterface = \"card0\"\naddresses = [\"192.0.2.10/24\"]\n[[uplink.a.rule]]\npriority = 900\nfamily = \"ipv4\"\ntype = \"prohibit\"\n",
			want: "[uplink.a]\ninterface = \"card0\"\naddresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.1\"]\n",
			ops: `
rule add priority 0 from all to 192.0.2.1 oif card0 lookup main protocol 118
route add default via 192.0.2.1 dev card0 table 10000 proto 118
rule del priority 0 from all to 192.0.2.1 oif card0 lookup main protocol 118
rule del priority 900 from all prohibit protocol 118
`,
		},
		{
			name: "an IPv6 gateway that is onlink on another card than its subnet was: the subnet goes first",
			have: "[uplink.a]\ninterface = \"card0\"\naddresses = [\"2001:db8:1::10/64\", \"2001:db8:9::10/64\"]\nfrom = []\nto = []\n",
			want: "[uplink.b]\ninterface = \"card1\"\ngateways = [\"2001:db8:1::1\"]\nonlink = true\nfrom = []\nto = []\n",
			ops: `
-6 address del 2001:db8:1::10/64 dev card0
-6 route add default via 2001:db8:1::1 dev card1 onlink table 10000 proto 118 metric 1024
-6 route del 2001:db8:1::/64 dev card0 table 10000 proto 118 src 2001:db8:1::10 metric 1024
-6 route del 2001:db8:9::/64 dev card0 table 10000 proto 118 src 2001:db8:9::10 metric 1024
-6 address del 2001:db8:9::10/64 dev card0
`,
		},
		{
			name:  "a link that is down is set up, and its MTU set, first",
			want:  "[uplink.a]\ninterface = \"card0\"\naddresses = [\"192.0.2.10/32\"]\nmtu = 1400\n",
			alter: func(f *kerneltest.Fake) { f.Links[1].Up, f.Links[1].Carrier = false, false },
			ops: `
link set dev card0 mtu 1400
link set dev card0 up
address add 192.0.2.10/32 dev card0
rule add priority 10000 from all to 192.0.2.10 lookup 10000 protocol 118
rule add priority 10000 from 192.0.2.10 lookup 10000 protocol 118
`,
		},
		{
			name:  "a link without carrier: nothing of its own is added, the other is done",
			want:  recipe,
			alter: func(f *kerneltest.Fake) { f.Links[2].Carrier = false },
			ops: `
address add 192.0.2.10/24 dev card0 brd +
route add 192.0.2.0/24 dev card0 table 10000 proto 118 scope link src 192.0.2.10
route add default via 192.0.2.1 dev card0 table 10000 proto 118
rule add priority 10000 from all to 192.0.2.10 lookup 10000 protocol 118
rule add priority 10000 from 192.0.2.10 lookup 10000 protocol 118
`,
			waiting: []string{"uplink rt2: card1 has no carrier"},
		},
		{
			name: "a link that lost its carrier: nothing of its own is taken away",
			have: recipe, want: recipe,
			alter:   func(f *kerneltest.Fake) { f.Links[2].Carrier = false },
			waiting: []string{"uplink rt2: card1 has no carrier"},
		},
		{
			name: "a link that lost its carrier: what the spec no longer wants of it is taken away",
			have: recipe, want: strings.Replace(recipe, "198.51.100.1\"", "198.51.100.2\"", 1),
			alter:   func(f *kerneltest.Fake) { f.Links[2].Carrier = false },
			ops:     "\nroute del default via 198.51.100.1 dev card1 table 1 proto 118\n",
			waiting: []string{"uplink rt2: card1 has no carrier"},
		},
		{
			name: "a link that went: its rules stay",
			have: recipe, want: recipe,
			alter: func(f *kerneltest.Fake) {
				f.Links = f.Links[:2]
				f.Addresses = slices.DeleteFunc(f.Addresses, func(a apply.Address) bool { return a.Link == "card1" })
				f.Routes = slices.DeleteFunc(f.Routes, func(r apply.Route) bool { return r.Nexthops[0].Link == "card1" })
			},
			waiting: []string{"uplink rt2: there is no link with name card1"},
		},
		{
			name: "manage = policy without the address: it waits for whoever adds that",
			want: strings.ReplaceAll(recipe, "table ", "manage = \"policy\"\ntable "),
			ops: `
address add 192.0.2.10/24 dev card0 brd +
route add 192.0.2.0/24 dev card0 table 10000 proto 118 scope link src 192.0.2.10
route add default via 192.0.2.1 dev card0 table 10000 proto 118
rule add priority 10000 from all to 192.0.2.10 lookup 10000 protocol 118
rule add priority 10000 from 192.0.2.10 lookup 10000 protocol 118
`,
			waiting: []string{"uplink rt2: card1 does not have the address 198.51.100.10"},
		},
		{
			name:    "manage = policy on a link that is down",
			want:    "[uplink.a]\ninterface = \"card0\"\nmanage = \"policy\"\naddresses = [\"192.0.2.10/32\"]\n",
			alter:   func(f *kerneltest.Fake) { f.Links[1].Up, f.Links[1].Carrier = false, false },
			waiting: []string{"uplink a: card0 is down"},
		},
		{
			name: "rules that fail closed need no link",
			want: "[uplink.a]\ninterface = \"absent0\"\naddresses = [\"192.0.2.10/32\"]\nfallthrough = \"unreachable\"\n",
			ops: `
route add unreachable default table 10000 proto 118 metric 4294967295
rule add priority 10000 from all to 192.0.2.10 lookup 10000 protocol 118
rule add priority 10000 from 192.0.2.10 lookup 10000 protocol 118
`,
			waiting: []string{"uplink a: there is no link with name absent0"},
		},
		{
			name:  "multipath with one link absent: IPv4 goes by the link that is there, and IPv6 has the ways that are",
			want:  strings.Replace(dualStack, "default-route = true\nmetric        = 100", "", 1) + "[multipath]\nuplinks = { isp1 = 2, rt2 = 1 }\n",
			alter: func(f *kerneltest.Fake) { f.Links[2].Carrier = false },
			ops: `
address add 192.0.2.10/24 dev card0 brd +
-6 address add 2001:db8:1::10/64 dev card0
route add 192.0.2.0/24 dev card0 table 10000 proto 118 scope link src 192.0.2.10
route add default via 192.0.2.1 dev card0 proto 118 metric 1
route add default via 192.0.2.1 dev card0 proto 118 metric 3
route add default via 192.0.2.1 dev card0 table 10000 proto 118
rule add priority 10000 from all to 192.0.2.10 lookup 10000 protocol 118
rule add priority 10000 from 192.0.2.10 lookup 10000 protocol 118
-6 route add 2001:db8:1::/64 dev card0 table 10000 proto 118 src 2001:db8:1::10 metric 1024
-6 route add default via 2001:db8:1::1 dev card0 proto 118 metric 1
-6 route add default via 2001:db8:1::1 dev card0 table 10000 proto 118 metric 1024
-6 rule add priority 10000 from all to 2001:db8:1::10 lookup 10000 protocol 118
-6 rule add priority 10000 from 2001:db8:1::10 lookup 10000 protocol 118
`,
			waiting: []string{"uplink rt2: card1 has no carrier"},
		},
		{
			name: "an address of another's serves, and stays when it is no longer wanted",
			want: recipe,
			alter: func(f *kerneltest.Fake) {
				f.Addresses = append(f.Addresses, apply.Address{Address: fib.Address{Link: "card0", Prefix: netip.MustParsePrefix("192.0.2.10/24")}},
					apply.Address{Address: fib.Address{Link: "card0", Prefix: netip.MustParsePrefix("192.0.2.99/24")}})
			},
			ops: `
address add 198.51.100.10/24 dev card1 brd +
route add 198.51.100.0/24 dev card1 table 1 proto 118 scope link src 198.51.100.10
route add 192.0.2.0/24 dev card0 table 10000 proto 118 scope link src 192.0.2.10
route add default via 198.51.100.1 dev card1 table 1 proto 118
route add default via 192.0.2.1 dev card0 table 10000 proto 118
rule add priority 10001 from all to 198.51.100.10 lookup 1 protocol 118
rule add priority 10001 from 198.51.100.10 lookup 1 protocol 118
rule add priority 10000 from all to 192.0.2.10 lookup 10000 protocol 118
rule add priority 10000 from 192.0.2.10 lookup 10000 protocol 118
`,
		},
		{
			name: "of a rule that is there twice one goes",
			have: recipe, want: recipe,
			alter: func(f *kerneltest.Fake) {
				for i, r := range f.Rules {
					if r.Ours() {
						f.Rules = slices.Insert(f.Rules, i, r)
						return
					}
				}
			},
			ops: "\nrule del priority 10000 from all to 192.0.2.10 lookup 10000 protocol 118\n",
		},
		{
			name: "a rule of another's that is the same as ours is not ours",
			want: "[uplink.a]\ninterface = \"card0\"\naddresses = [\"192.0.2.10/32\"]\nto = []\n",
			alter: func(f *kerneltest.Fake) {
				f.Addresses = append(f.Addresses, apply.Address{Address: fib.Address{Link: "card0", Prefix: netip.MustParsePrefix("192.0.2.10/32")}})
				f.Rules = append(f.Rules, apply.Rule{Rule: fib.Rule{Family: fib.Inet, Priority: 10000, From: netip.MustParsePrefix("192.0.2.10/32"), Action: fib.Lookup, Table: 10000}, Protocol: 4})
			},
			ops: "\nrule add priority 10000 from 192.0.2.10 lookup 10000 protocol 118\n",
		},
		{
			name: "an IPv6 route that becomes multipath is never away",
			have: "[uplink.a]\ninterface = \"card0\"\naddresses = [\"2001:db8:1::10/64\"]\n[[uplink.a.route]]\nto = \"2001:db8:9::/48\"\nvia = \"2001:db8:1::1\"\n",
			want: "[uplink.a]\ninterface = \"card0\"\naddresses = [\"2001:db8:1::10/64\"]\n[[uplink.a.route]]\nto = \"2001:db8:9::/48\"\nmultipath = [{ via = \"2001:db8:1::1\" }, { via = \"2001:db8:1::2\" }]\n",
			ops: `
-6 route replace 2001:db8:9::/48 table 10000 proto 118 metric 1024 nexthop via 2001:db8:1::1 dev card0 weight 1 nexthop via 2001:db8:1::2 dev card0 weight 1
`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := kerneltest.NewFake(kerneltest.Links...)
			a := on(k)
			bring(t, a, c.have)
			if c.alter != nil {
				c.alter(k)
			}
			k.Sent = 0
			plan, result, err := a.Plan(state(t, c.want))
			if err != nil {
				t.Fatal(err)
			}
			if k.Sent != 0 {
				t.Errorf("a plan sent %d changes", k.Sent)
			}
			if got, want := lines(plan.Ops()), strings.TrimPrefix(c.ops, "\n"); got != want {
				t.Errorf("- wanted, + planned:\n%s\nplanned:\n%s", kerneltest.Diff(want, got), got)
			}
			var waiting []string
			for _, w := range result.Waiting {
				waiting = append(waiting, w.String())
			}
			if !slices.Equal(waiting, c.waiting) {
				t.Errorf("waiting %q, want %q", waiting, c.waiting)
			}
		})
	}
}

// TestForeignRouteInTheWay checks that nothing is changed, and that the error says whose route it
// is.
func TestForeignRouteInTheWay(t *testing.T) {
	const spec = "[uplink.isp1]\ninterface = \"card0\"\naddresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.1\"]\n"
	foreign := func(protocol uint8, gateway string) apply.Route {
		return apply.Route{Protocol: protocol, Route: fib.Route{
			Family: fib.Inet, Table: 10000, Dst: fib.Inet.Any(), Type: fib.Unicast,
			Nexthops: []fib.Nexthop{{Link: "card1", Via: netip.MustParseAddr(gateway)}},
		}}
	}
	for owner, name := range map[uint8]string{
		4: "an administrator or systemd-networkd (protocol static)", 3: "boot scripts (protocol boot)", 16: "a DHCP client (protocol dhcp)",
		12: "bird (protocol bird)", 99: "protocol 99",
	} {
		k := kerneltest.NewFake(kerneltest.Links...)
		k.Routes = append(k.Routes, foreign(owner, "198.51.100.1"))
		before := len(k.Rules)
		for _, try := range []func(fib.State) error{
			func(s fib.State) error { _, err := on(k).Apply(context.Background(), s); return err },
			func(s fib.State) error { _, _, err := on(k).Plan(s); return err },
		} {
			err := try(state(t, spec))
			var e *apply.ForeignError
			if !errors.As(err, &e) || !errors.Is(err, apply.ErrForeign) {
				t.Fatalf("%v, want a ForeignError", err)
			}
			want := "ip route add default via 192.0.2.1 dev card0 table isp1 proto 118: a route of " + name + " is in the way"
			if !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), fmt.Sprintf("via 198.51.100.1 dev card1 table isp1 proto %d)", owner)) {
				t.Errorf("%q, want %q and the route", err, want)
			}
		}
		if k.Sent != 0 || len(k.Routes) != 1 || len(k.Rules) != before || len(k.Addresses) != 0 {
			t.Errorf("something was changed: %+v", k.Snapshot)
		}
	}
}

// TestForeignRouteIsHandedOver checks for the remedy that leaves no moment without the route: if
// only the owner differs, the command that hands the route over, but no such command if its owner
// would just add it again.
func TestForeignRouteIsHandedOver(t *testing.T) {
	const spec = "[uplink.isp1]\ninterface = \"card0\"\naddresses = [\"192.0.2.10/24\", \"2001:db8:1::10/64\"]\ngateways = [\"192.0.2.1\", \"2001:db8:1::1\"]\ndefault-route = true\n"
	const elsewhere = "): remove it, or give one of them another metric"
	for _, c := range []struct {
		what     string
		family   fib.Family
		table    uint32
		protocol uint8
		mtu      uint32
		unread   string
		want     string // the end
	}{
		{"the same", fib.Inet, 10000, apply.ProtocolBoot, 0, "", " isp1 proto 118: a route of boot scripts (protocol boot) is in the way (the same but for its owner): `ip route replace default via 192.0.2.1 dev card0 table 10000 proto 118` hands it over in place; what adds it at boot has to go as well"},
		{"the same, IPv6", fib.Inet6, 10000, apply.ProtocolStatic, 0, "", ": `ip -6 route replace default via 2001:db8:1::1 dev card0 table 10000 proto 118 metric 1024` hands it over in place; what adds it at boot has to go as well"},
		{"what its owner adds again", fib.Inet, 10000, apply.ProtocolDHCP, 0, "", elsewhere},
		{"another one", fib.Inet, 10000, apply.ProtocolBoot, 1400, "", elsewhere},
		{"with what a spec cannot say", fib.Inet, 10000, apply.ProtocolBoot, 0, "tos 0x10", elsewhere},
		{"the default in main", fib.Inet, fib.TableMain, apply.ProtocolBoot, 0, "", "(route add default via 192.0.2.1 dev card0 proto 3): where whoever configures the link adds it, leave it out of the spec (`default-route`, or the route: /etc/uplink/uplink.toml:1); or give one of them another metric"},
	} {
		k := kerneltest.NewFake(kerneltest.Links...)
		via := map[fib.Family]string{fib.Inet: "192.0.2.1", fib.Inet6: "2001:db8:1::1"}[c.family]
		k.Routes = append(k.Routes, apply.Route{Protocol: c.protocol, Unread: c.unread, Route: fib.Route{
			Family: c.family, Table: c.table, Dst: c.family.Any(), Type: fib.Unicast, Metric: c.family.Metric(0), MTU: c.mtu,
			Nexthops: []fib.Nexthop{{Link: "card0", Via: netip.MustParseAddr(via)}},
		}})
		s := state(t, spec)
		for i := range s.Routes {
			s.Routes[i].Origin.File = "/etc/uplink/uplink.toml"
		}
		_, _, err := on(k).Plan(s)
		if !errors.Is(err, apply.ErrForeign) || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant …%s", c.what, err, c.want)
		}
	}
}

// TestForeignRouteBesideOurs checks that a change of ours does not replace somebody else's route
// with the same key, as the kernel would: it takes the first.
func TestForeignRouteBesideOurs(t *testing.T) {
	k := kerneltest.NewFake(kerneltest.Links...)
	bring(t, on(k), recipe)
	other := k.Routes[slices.IndexFunc(k.Routes, func(r apply.Route) bool { return r.IsDefault() })]
	other.Protocol, other.Nexthops = 4, []fib.Nexthop{{Link: "card2", Via: netip.MustParseAddr("100.100.0.1"), OnLink: true}}
	k.Routes = slices.Insert(k.Routes, 0, other)

	if r := bring(t, on(k), recipe); len(r.Done) != 0 {
		t.Errorf("done with nothing to do: %s", lines(r.Done))
	}
	k.Sent = 0
	_, err := on(k).Apply(context.Background(), state(t, strings.NewReplacer("192.0.2.1\"", "192.0.2.2\"", "198.51.100.1\"", "198.51.100.2\"").Replace(recipe)))
	if !errors.Is(err, apply.ErrForeign) || k.Sent != 0 {
		t.Errorf("%v after %d changes, want a ForeignError and none", err, k.Sent)
	}
}

// TestSecondRunSendsNothing counts the changes.
func TestSecondRunSendsNothing(t *testing.T) {
	k := kerneltest.NewFake(kerneltest.Links...)
	for _, spec := range []string{recipe, dualStack, full, changed} {
		bring(t, on(k), spec)
		k.Sent = 0
		if r := bring(t, on(k), spec); k.Sent != 0 || len(r.Done) != 0 {
			t.Errorf("%d changes sent by a second run:\n%s", k.Sent, lines(r.Done))
		}
	}
}

// TestChangeIsProportional changes one uplink of a thousand.
func TestChangeIsProportional(t *testing.T) {
	many := func(gateway string) string {
		return manyUplinks(1000, func(i int) string {
			if i == 500 {
				return gateway
			}
			return "192.0.2.1"
		})
	}
	k := kerneltest.NewFake(kerneltest.Links...)
	bring(t, on(k), many("192.0.2.1"))
	if r := bring(t, on(k), many("192.0.2.2")); len(r.Done) != 1 {
		t.Errorf("%d operations for one gateway:\n%s", len(r.Done), lines(r.Done))
	}
}
