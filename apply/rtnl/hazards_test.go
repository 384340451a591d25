package rtnl_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
)

// twoCards is a host with a card at each of two providers.
const twoCards = `
[uplink.a]
interface = "e0"
addresses = ["192.0.2.1/24", "2001:db8:1::1/64"]
gateways  = ["192.0.2.254", "2001:db8:1::ff"]
default-route = true
metric    = 100
[uplink.b]
interface = "e1"
table     = 1
addresses = ["198.51.100.1/24", "2001:db8:2::1/64"]
gateways  = ["198.51.100.254", "2001:db8:2::ff"]
`

// leased is a host that learns the leases.
const leased = "[uplink.a]\ninterface = \"e0\"\nmanage = \"policy\"\ndhcp = \"ipv4\"\ndefault-route = true\n[uplink.b]\ninterface = \"e1\"\ntable = 1\nmanage = \"policy\"\ndhcp = \"ipv4\"\n"

var leases = []string{"address add 192.0.2.1/24 dev e0", "address add 198.51.100.1/24 dev e1", "route add default via 192.0.2.254 dev e0 metric 100 proto dhcp"}

// hazardCase is what others do on a host, and everything that verify must say about it: nothing
// if it does no harm.
type hazardCase struct {
	spec   string   // twoCards where it is ""
	before []string // lines that run first; with them there may be hazards from the start
	lines  []string
	sysctl []string // that are set to 1
	want   []string
}

func testHazards(t *testing.T, cases map[string]hazardCase) {
	t.Parallel()
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := kerneltest.NewNamespace(t)
			ns.Card("e0", "e1", "e2")
			if tt.spec == "" {
				tt.spec = twoCards
			}
			ns.IP(tt.before...)
			ns.Sysctl("net/ipv4/conf/all/ignore_routes_with_linkdown", "1")
			ns.Sysctl("net/ipv6/conf/all/ignore_routes_with_linkdown", "1")
			a, state := applied(t, ns, tt.spec)
			ns.Settle()
			if said := hazards(t, &a, state, ""); len(said) > 0 && tt.before == nil {
				t.Errorf("before: %q", said)
			}
			ns.IP(tt.lines...)
			for _, key := range tt.sysctl {
				ns.Sysctl(key, "1")
			}
			if said := hazards(t, &a, state, ""); !slices.Equal(said, tt.want) {
				t.Errorf("%s\nwant\n%s", strings.Join(said, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

// TestStrangersInAnUplinksTable adds routes to the tables of uplinks.
func TestStrangersInAnUplinksTable(t *testing.T) {
	is := func(route, does string) string {
		return "table b has a route of boot scripts (protocol boot) that is not of the uplinks: " + route + ": packets of b to there " + does + "; remove it, or write it into the spec"
	}
	testHazards(t, map[string]hazardCase{
		"by the other card":               {lines: []string{"route add 203.0.113.0/25 via 192.0.2.254 dev e0 table 1"}, want: []string{is("203.0.113.0/25 via 192.0.2.254 dev e0", "go that way")}},
		"by the other card, IPv6":         {lines: []string{"-6 route add 2001:db8:9::/48 via 2001:db8:1::ff dev e0 table 1"}, want: []string{is("2001:db8:9::/48 via 2001:db8:1::ff dev e0 metric 1024", "go that way")}},
		"by both cards":                   {lines: []string{"route add 203.0.113.0/25 table 1 nexthop via 192.0.2.254 dev e0 nexthop via 198.51.100.7 dev e1"}, want: []string{is("203.0.113.0/25 nexthop via 192.0.2.254 dev e0 weight 1 nexthop via 198.51.100.7 dev e1 weight 1", "go that way")}},
		"refusing":                        {lines: []string{"route add unreachable 203.0.113.0/25 table 1"}, want: []string{is("unreachable 203.0.113.0/25", "go nowhere")}},
		"leaving the table":               {lines: []string{"route add throw 203.0.113.0/25 table 1"}, want: []string{is("throw 203.0.113.0/25", "go on to the next rule")}},
		"another default before":          {lines: []string{"route prepend default via 198.51.100.7 dev e1 table 1"}, want: []string{is("default via 198.51.100.7 dev e1", "go that way")}},
		"of another's number":             {lines: []string{"route add 203.0.113.0/25 dev e2 table 1 proto static"}, want: []string{strings.Replace(is("203.0.113.0/25 dev e2 scope link", "go that way"), "boot scripts (protocol boot)", "an administrator or systemd-networkd (protocol static)", 1)}},
		"the subnet by another card":      {lines: []string{"route prepend 198.51.100.0/24 dev e2 table 1"}, want: []string{is("198.51.100.0/24 dev e2 scope link", "go that way")}},
		"another default behind":          {lines: []string{"route append default via 192.0.2.254 dev e0 table 1", "route add default via 192.0.2.254 dev e0 table 1 metric 7", "-6 route add default via 2001:db8:1::ff dev e0 table 1 metric 2000"}},
		"the same default before":         {lines: []string{"route prepend default via 198.51.100.254 dev e1 table 1 src 198.51.100.1"}},
		"closed behind all others":        {lines: []string{"route add unreachable default table 1 metric 4278198272", "-6 route add unreachable default table 1 metric 4278198272"}},
		"closed where there is no way":    {spec: strings.ReplaceAll(twoCards, ", \"2001:db8:2::ff\"", ""), lines: []string{"-6 route add unreachable default table 1 metric 4278198272"}},
		"more specific by its own card":   {lines: []string{"route add 203.0.113.0/25 via 198.51.100.7 dev e1 table 1"}},
		"the subnets of others":           {lines: []string{"route add 192.0.2.0/24 dev e0 table 1", "route add 127.0.0.0/8 dev lo table 1", "-6 route add 2001:db8:1::/64 dev e0 table 1"}},
		"a table that is no uplink's":     {lines: []string{"route add 203.0.113.0/25 via 192.0.2.254 dev e0 table 7", "route add unreachable 203.0.113.0/24"}},
		"the kernel's own, as in a VRF's": {lines: []string{"route add 203.0.113.0/25 dev e0 table 1 proto kernel"}},
		"learned, before what is copied":  {spec: leased, before: append(leases[:3:3], "route add default via 198.51.100.254 dev e1 metric 200 proto dhcp"), lines: []string{"route add default via 192.0.2.7 dev e0 table 10000 metric 50 proto dhcp"}},
		"a whole daemon's": {
			lines: []string{"route add 203.0.113.0/28 dev e0 table 1", "route add 203.0.113.16/28 dev e0 table 1", "route add 203.0.113.32/28 dev e0 table 1", "route add 203.0.113.48/28 dev e0 table 1", "route add 203.0.113.64/28 dev e0 table 1"},
			want: []string{
				is("203.0.113.0/28 dev e0 scope link", "go that way"), is("203.0.113.16/28 dev e0 scope link", "go that way"), is("203.0.113.32/28 dev e0 scope link", "go that way"),
				"table b has more such routes of boot scripts (protocol boot): `ip route show table 1`",
			},
		},
	})
}

// TestRulesOfOthersAmongOurs adds rules before, among and behind those of the uplinks.
func TestRulesOfOthersAmongOurs(t *testing.T) {
	is := func(when, rule string) []string {
		return []string{"a rule of boot scripts (protocol boot) is asked before " + when + "the uplinks': " + rule}
	}
	const some = "some of "
	first := "main-routes-first = true\n" + twoCards
	marked := twoCards + "fwmark = 7\npriority = 10002\n"
	testHazards(t, map[string]hazardCase{
		"of one number, before all":   {before: []string{"rule add priority 10000 to 203.0.113.0/25 lookup main proto boot"}, want: is("", "priority 10000 from all to 203.0.113.0/25 lookup main")},
		"of one number, among ours":   {lines: []string{"rule add priority 10000 to 203.0.113.0/25 lookup main proto boot"}, want: is(some, "priority 10000 from all to 203.0.113.0/25 lookup main")},
		"of one number, behind all":   {lines: []string{"rule add priority 10001 to 203.0.113.0/25 lookup main"}},
		"of the lowest source alone":  {spec: strings.Replace(twoCards, "metric ", "priority = 10005\nmetric ", 1), lines: []string{"rule add priority 10003 to 203.0.113.0/25 lookup main proto boot"}, want: is(some, "priority 10003 from all to 203.0.113.0/25 lookup main")},
		"between the bands":           {spec: first, lines: []string{"rule add priority 20000 to 203.0.113.0/25 lookup 77 proto boot"}, want: is(some, "priority 20000 from all to 203.0.113.0/25 lookup 77")},
		"between the bands, IPv6":     {spec: first, lines: []string{"-6 rule add priority 20000 from 2001:db8:2::/64 lookup 77 proto boot"}, want: is(some, "priority 20000 from 2001:db8:2::/64 lookup 77")},
		"for others, between":         {spec: first, lines: []string{"rule add priority 20000 from 172.17.0.0/16 lookup 77", "rule add priority 20000 iif e2 lookup 77", "-6 rule add priority 20000 from 2001:db8:3::/64 lookup 77"}},
		"inverted, between":           {spec: first, lines: []string{"rule add priority 20000 not from 172.17.0.0/16 lookup 77 proto boot"}, want: is(some, "priority 20000 not from 172.17.0.0/16 lookup 77")},
		"for whom ours have been":     {lines: []string{"rule add priority 10000 from 192.0.2.0/24 lookup 77"}},
		"before a mark's":             {spec: marked, lines: []string{"rule add priority 10001 from 172.17.0.0/16 lookup 77 proto boot"}, want: is(some, "priority 10001 from 172.17.0.0/16 lookup 77")},
		"behind all":                  {spec: first, lines: []string{"rule add priority 27000 lookup 77", "-6 rule add priority 32000 lookup 77"}},
		"table local and VRFs, among": {spec: first, lines: []string{"rule add priority 20000 lookup local", "rule add priority 20001 l3mdev proto kernel"}},
	})
}

// TestDefaultRoutesOfOthersInMain adds default routes beside that of an uplink with
// default-route.
func TestDefaultRoutesOfOthersInMain(t *testing.T) {
	is := func(leaves, route, metric string) []string {
		return []string{"what asks for no source of its own " + leaves + ": " + route + " of boot scripts (protocol boot) comes before the metric " + metric + "; remove it, or give it a higher metric"}
	}
	shared := twoCards[:strings.Index(twoCards, "default-route")] + twoCards[strings.Index(twoCards, "[uplink.b]"):] + "[multipath]\nuplinks = { a = 1, b = 1 }\n"
	testHazards(t, map[string]hazardCase{
		"by another card":               {lines: []string{"route add default via 198.51.100.254 dev e1"}, want: is("leaves by e1", "default via 198.51.100.254 dev e1 metric 0", "100 of a")},
		"by another card, IPv6":         {lines: []string{"-6 route add default via 2001:db8:2::ff dev e1 metric 50"}, want: is("leaves by e1", "default via 2001:db8:2::ff dev e1 metric 50", "100 of a")},
		"of the same metric, before":    {lines: []string{"route prepend default via 198.51.100.254 dev e1 metric 100"}, want: is("leaves by e1", "default via 198.51.100.254 dev e1 metric 100", "100 of a")},
		"of the same metric, behind":    {lines: []string{"route append default via 198.51.100.254 dev e1 metric 100"}},
		"refusing":                      {lines: []string{"route add unreachable default metric 5"}, want: is("is refused", "unreachable default metric 5", "100 of a")},
		"behind":                        {lines: []string{"route add default via 198.51.100.254 dev e1 metric 200", "-6 route add default via 2001:db8:2::ff dev e1"}},
		"by the same card":              {lines: []string{"route add default via 192.0.2.7 dev e0"}},
		"by both, in the spec's order":  {lines: []string{"route add default via 192.0.2.7 dev e0 metric 50", "route add default via 198.51.100.254 dev e1 metric 60"}},
		"between two of the spec":       {spec: twoCards + "default-route = true\nmetric = 200\n", lines: []string{"route add default via 198.51.100.254 dev e1 metric 150"}},
		"before all":                    {spec: twoCards + "default-route = true\nmetric = 200\n", lines: []string{"route add default via 198.51.100.254 dev e1"}, want: is("leaves by e1", "default via 198.51.100.254 dev e1 metric 0", "100 of a")},
		"in place of several":           {spec: shared, lines: []string{"route add default via 198.51.100.254 dev e1"}, want: is("leaves by e1", "default via 198.51.100.254 dev e1 metric 0", "1 of a and b")},
		"behind several":                {spec: shared, lines: []string{"route add default via 198.51.100.254 dev e1 metric 7"}},
		"none in the spec":              {spec: strings.ReplaceAll(strings.ReplaceAll(twoCards, "default-route = true", ""), "metric    = 100", ""), lines: []string{"route add default via 198.51.100.254 dev e1"}},
		"while the best is not there":   {spec: leased, lines: append(leases[1:2:2], "route add default via 198.51.100.254 dev e1 proto dhcp")},
		"before what is learned":        {spec: leased, before: leases, lines: []string{"route add default via 198.51.100.254 dev e1 metric 50"}, want: is("leaves by e1", "default via 198.51.100.254 dev e1 metric 50", "100 of a")},
		"behind what is learned":        {spec: leased, before: leases, lines: []string{"route add default via 198.51.100.254 dev e1 metric 200 proto dhcp"}},
		"learned twice, in both orders": {spec: leased + "default-route = true\n", before: leases, lines: []string{"route add default via 198.51.100.254 dev e1 metric 50"}},
	})
}

// TestRoutesAheadInMain adds what a VPN adds to main, which main-routes-first puts before the
// uplinks' default routes.
func TestRoutesAheadInMain(t *testing.T) {
	halves := []string{"route add 0.0.0.0/1 dev e2", "route add 128.0.0.0/1 dev e2", "-6 route add 2000::/4 dev e2"}
	is := func(who, to, by, route string) string {
		return "what " + who + " sends to " + to + " leaves by e2, not by " + by + ": " + route + " of boot scripts (protocol boot) in main comes first (main-routes-first)"
	}
	first := "main-routes-first = true\n" + twoCards
	testHazards(t, map[string]hazardCase{
		"a VPN": {spec: first, lines: halves, want: []string{
			is("a (and 1 more)", "203.0.113.254", "e0", "128.0.0.0/1 dev e2 scope link"),
			is("a (and 1 more)", "8.8.8.8", "e0", "0.0.0.0/1 dev e2 scope link"),
			is("a (and 1 more)", "2001:db8:fffe::1", "e0", "2000::/4 dev e2 metric 1024"),
		}},
		"by one of the cards":  {spec: first, lines: []string{"route add 8.8.8.0/24 dev e1"}, want: []string{strings.Replace(is("a", "8.8.8.8", "e0", "8.8.8.0/24 dev e1 scope link"), "by e2", "by e1", 1)}},
		"of the spec":          {spec: first + "[[uplink.b.route]]\nto = \"8.8.8.0/24\"\ntable = \"main\"\n"},
		"containers and a VPN": {spec: first, lines: []string{"route add 172.17.0.0/16 dev e2", "route add 10.8.0.0/16 dev e2", "-6 route add fd00::/8 dev e2"}},
		"without the setting":  {lines: halves},
		"a rule for main, and one for specific routes": {
			spec:  twoCards + "[[uplink.b.rule]]\nto = \"8.8.8.8\"\ntable = \"main\"\npriority = 5\n[[uplink.b.rule]]\nfrom = \"198.51.100.1\"\npriority = 6\nsuppress-prefixlength = 0\n",
			lines: halves,
		},
		"a rule for main": {spec: twoCards + "[[uplink.b.rule]]\nto = \"8.8.8.8\"\ntable = \"main\"\npriority = 5\n", lines: halves},
	})
}

// TestTwoLinksOnOneSubnet gives others' links addresses in the uplinks' subnets, and their own.
func TestTwoLinksOnOneSubnet(t *testing.T) {
	is := func(what string, devs ...string) (list []string) {
		for _, dev := range devs {
			list = append(list, what+": both answer ARP for either's addresses; set net.ipv4.conf."+dev+".arp_ignore=1 and arp_announce=2")
		}
		return list
	}
	same := strings.NewReplacer("198.51.100.1/24", "192.0.2.3/24", "198.51.100.254", "192.0.2.254").Replace(twoCards)
	both := is("192.0.2.0/24 is on e1 and e0", "e1", "e0")
	const filter = "net/ipv4/conf/all/arp_filter"
	testHazards(t, map[string]hazardCase{
		"of two uplinks":               {spec: same, before: []string{"link set e2 up"}, want: both},
		"with arp_ignore":              {spec: same, before: []string{"link set e2 up"}, sysctl: []string{"net/ipv4/conf/e0/arp_ignore"}, want: both[:1]},
		"with arp_filter and rules":    {spec: same, before: []string{"link set e2 up"}, sysctl: []string{filter}},
		"with arp_filter on one":       {spec: same, before: []string{"link set e2 up"}, sysctl: []string{"net/ipv4/conf/e0/arp_filter"}, want: both[:1]},
		"with arp_filter and no rules": {spec: same, before: []string{"link set e2 up"}, sysctl: []string{filter}, lines: []string{"rule del from 192.0.2.3 lookup 1"}, want: both[1:]},
		"one is no uplink's":           {lines: []string{"address add 198.51.100.9/24 dev e2"}, want: is("198.51.100.0/24 is on e1 and e2", "e1", "e2")},
		"arp_filter, no uplink's":      {lines: []string{"address add 198.51.100.9/24 dev e2"}, sysctl: []string{filter}, want: is("198.51.100.0/24 is on e1 and e2", "e1")},
		"a part of it":                 {lines: []string{"address add 198.51.100.9/25 dev e2"}, want: is("198.51.100.0/25 is on e2, and 198.51.100.0/24 on e1", "e2", "e1")},
		"more than it":                 {lines: []string{"address add 198.51.200.9/16 dev e2"}, want: is("198.51.100.0/24 is on e1, and 198.51.0.0/16 on e2", "e1", "e2")},
		"a single address in it":       {lines: []string{"address add 198.51.100.9/32 dev e2", "address add 198.51.100.8/32 dev lo"}},
		"another part":                 {lines: []string{"address add 198.51.101.9/24 dev e2", "address add 198.51.100.77/25 dev e1"}},
		"others among themselves":      {lines: []string{"address add 10.0.0.1/24 dev e2", "address add 10.0.0.2/24 dev e2.peer"}},
		"a link that is down":          {lines: []string{"address add 198.51.100.9/24 dev e2", "link set e2 down"}},
		"a tunnel":                     {lines: []string{"tuntap add d0 mode tun", "link set d0 up", "address add 198.51.100.9/24 dev d0", "address add 198.51.100.1/32 dev d0"}},
		"the same address": {
			lines: []string{"address add 198.51.100.1/32 dev e2", "-6 address add 2001:db8:2::1/128 dev e2", "address add 198.51.100.1/32 dev lo"},
			want: []string{
				"198.51.100.1, which is e1's, is here as well: both answer for it; remove it here (`ip address del 198.51.100.1/32 dev e2`)",
				"2001:db8:2::1, which is e1's, is here as well: both answer for it; remove it here (`ip address del 2001:db8:2::1/128 dev e2`)",
			},
		},
	})
}

// TestLinksThatGetNothing sets one link down, and makes another a port of a bridge.
func TestLinksThatGetNothing(t *testing.T) {
	testHazards(t, map[string]hazardCase{
		"set down":                {lines: []string{"link set e1 down"}, want: []string{"e1 is down: set it up (`ip link set e1 up`), or `uplinkctl reload`"}},
		"set down, no uplink's":   {lines: []string{"link set e2 down"}},
		"a bridge's":              {lines: []string{"link add br0 type bridge", "link set br0 up", "link set e1 master br0"}, want: []string{"e1 is a port of br0: the host itself gets no packets by it; the uplink's link and address should be br0"}},
		"a bridge's, no uplink's": {lines: []string{"link add br0 type bridge", "link set br0 up", "link set e2 master br0"}},
	})
}
