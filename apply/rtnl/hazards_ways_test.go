package rtnl_test

import (
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
)

// TestAddressesThatNoRuleSelects gives an uplink a delegated prefix instead of its own addresses.
func TestAddressesThatNoRuleSelects(t *testing.T) {
	main := strings.Replace(twoCards, "[uplink.b]", "from = [\"192.0.2.1\", \"2001:db8:1::1\"]\n[uplink.b]", 1)
	is := func(src, leaves string) string {
		return "packets from " + src + " " + leaves + ", not by uplink b: its `from` replaces its own addresses: add it there"
	}
	// The hazard is there from the start, so before must not be nil.
	began := []string{"link set e2 up"}
	by := func(leaves string) []string { return []string{is("198.51.100.1", leaves), is("2001:db8:2::1", leaves)} }
	testHazards(t, map[string]hazardCase{
		"another prefix":           {spec: main + "from = [\"198.51.100.208/28\"]\n", before: began, want: by("leave by e0")},
		"with it":                  {spec: main + "from = [\"198.51.100.208/28\", \"198.51.100.1\"]\n", before: began, want: by("leave by e0")[1:]},
		"with its subnets":         {spec: main + "from = [\"198.51.100.0/24\", \"2001:db8:2::/64\"]\n", before: began},
		"none, on purpose":         {spec: main + "from = []\n", before: began},
		"refused":                  {spec: strings.Replace(main, "default-route = true\nmetric    = 100\n", "", 1) + "from = [\"198.51.100.208/28\"]\n", before: began, want: by("are refused")},
		"a rule for it":            {spec: main + "from = [\"198.51.100.208/28\", \"2001:db8:2::1\"]\n[[uplink.b.rule]]\nfrom = \"198.51.100.1\"\ntable = \"main\"\npriority = 500\n", before: began},
		"by its card all the same": {spec: main + "default-route = true\nmetric = 10\nfrom = [\"198.51.100.208/28\"]\n", before: began},
		"another's, with policy":   {spec: strings.ReplaceAll(main, "interface", "manage = \"policy\"\ninterface") + "from = [\"198.51.100.208/28\", \"2001:db8:2::1\"]\n", before: []string{"address add 192.0.2.1/24 dev e0", "address add 198.51.100.1/24 dev e1", "-6 address add 2001:db8:1::1/64 dev e0 nodad", "-6 address add 2001:db8:2::1/64 dev e1 nodad"}, want: by("leave by e0")[:1]},
	})
}

// TestOneOfSeveralWays lets the kernel choose among an uplink's gateways, and then sends packets
// elsewhere. IPv6 reports the packet's own source, whatever the kernel would have chosen.
func TestOneOfSeveralWays(t *testing.T) {
	t.Parallel()
	ns := kerneltest.NewNamespace(t)
	ns.Card("e0", "e1")
	a, state := applied(t, ns, `
[uplink.a]
interface = "e0"
addresses = ["192.0.2.1/24", "192.0.2.2/24", "2001:db8:1::1/64", "2001:db8:1::2/64"]
[[uplink.a.route]]
to = "default"
multipath = [{ via = "192.0.2.253" }, { via = "192.0.2.254" }]
[[uplink.a.route]]
to = "default"
multipath = [{ via = "2001:db8:1::fe" }, { via = "2001:db8:1::ff" }]
[uplink.b]
interface = "e1"
addresses = ["198.51.100.1/24", "2001:db8:2::1/64"]
gateways  = ["198.51.100.254", "2001:db8:2::ff"]
`)
	ns.Settle()
	verify := func() (outside, wrong, via map[string]bool) {
		t.Helper()
		v, err := a.Verify(state)
		if err != nil {
			t.Fatal(err)
		}
		outside, wrong, via = map[string]bool{}, map[string]bool{}, map[string]bool{}
		for _, c := range v.Checks {
			if c.Uplink != "a" {
				continue
			}
			if to := c.Packet.To.String(); to == "8.8.8.8" || to == "2001:4860:4860::8888" {
				outside[c.Packet.From.String()] = true
			}
			if !c.OK() {
				wrong[c.String()] = true
			}
			if c.Have.Src.IsValid() {
				t.Errorf("with a source: %s", c)
			}
			via[c.Have.Via.String()] = true
		}
		return outside, wrong, via
	}
	if outside, wrong, _ := verify(); len(outside) != 4 || len(wrong) > 0 {
		t.Errorf("asked of %v, wrong: %v", outside, wrong)
	}
	ns.IP("route replace default via 192.0.2.9 dev e0 table 10000", "-6 route del default table 10000", "-6 route add default via 2001:db8:1::9 dev e0 table 10000")
	if _, wrong, via := verify(); len(wrong) != 8 || !via["192.0.2.9"] || !via["2001:db8:1::9"] {
		t.Errorf("wrong: %v, want 8; by %v", wrong, via)
	}
}

// TestRulesAheadOfMain adds what takes the host's own traffic before main is asked.
func TestRulesAheadOfMain(t *testing.T) {
	const all = "; right for a VPN that is to have all, otherwise remove it"
	is := func(leaves, rule string) string {
		return "what asks for no source of its own " + leaves + ", not by a: a rule of boot scripts (protocol boot) is asked before main: " + rule + all
	}
	none := strings.Replace(twoCards, "default-route = true\nmetric    = 100\n", "", 1)
	wg := []string{"route add default dev e2 table 51820", "rule add priority 32765 not fwmark 0xca6c lookup 51820 proto boot", "rule add priority 32764 lookup main suppress_prefixlength 0"}
	testHazards(t, map[string]hazardCase{
		"wg-quick":                      {lines: wg, want: []string{is("leaves by e2", "priority 32765 not from all fwmark 0xca6c/0xffffffff lookup 51820")}},
		"IPv6":                          {lines: []string{"-6 route add default dev e2 table 51820", "-6 rule add priority 32765 not fwmark 0xca6c lookup 51820 proto boot"}, want: []string{is("leaves by e2", "priority 32765 not from all fwmark 0xca6c/0xffffffff lookup 51820")}},
		"refused":                       {lines: []string{"rule add priority 30000 uidrange 0-0 prohibit proto boot"}, want: []string{is("is refused", "priority 30000 from all uidrange 0-0 prohibit")}},
		"by an uplink's card":           {lines: []string{"route add default dev e0 table 77", "rule add priority 30000 lookup 77"}},
		"no way there":                  {lines: []string{"rule add priority 30000 lookup 77"}},
		"for marks and users":           {lines: append(wg[:1:1], "rule add priority 30000 fwmark 7 lookup 51820", "rule add priority 30000 uidrange 7-9 lookup 51820", "rule add priority 30000 from 10.0.0.0/8 lookup 51820", "rule add priority 30000 to 10.0.0.0/8 lookup 51820", "rule add priority 30000 iif e2 lookup 51820")},
		"no uplink has a default route": {spec: none, lines: wg},
		"of the spec":                   {spec: twoCards + "[[uplink.b.rule]]\nuidrange = \"0-0\"\npriority = 30000\n"},
		"it is named already":           {lines: append(wg[:1:1], "rule add priority 5 lookup 51820 proto boot"), want: []string{"a rule of boot scripts (protocol boot) is asked before the uplinks': priority 5 from all lookup 51820"}},
	})
}

// TestRulesWithoutAPriority adds rules as wg-quick does: the kernel puts each before the lowest.
func TestRulesWithoutAPriority(t *testing.T) {
	is := func(rule string) string {
		return "a rule of boot scripts (protocol boot) is asked before the uplinks': " + rule
	}
	const advice = "; it looks like one added without a priority, which the kernel puts before all others, however low these are: give it one (`ip rule add … priority 32000`)"
	testHazards(t, map[string]hazardCase{
		"two, and one of IPv6": {
			lines: []string{"rule add not fwmark 0xca6c lookup 51820 proto boot", "rule add lookup main suppress_prefixlength 0 proto boot", "-6 rule add lookup 77 proto boot"},
			want: []string{
				is("priority 9998 from all lookup main suppress_prefixlength 0") + advice, is("priority 9999 not from all fwmark 0xca6c/0xffffffff lookup 51820"),
				is("priority 9999 from all lookup 77") + advice,
			},
		},
		"ours are low":         {spec: twoCards + "priority = 90\n", lines: []string{"rule add from 10.0.0.0/8 lookup 77 proto boot"}, want: []string{is("priority 89 from 10.0.0.0/8 lookup 77") + advice}},
		"numbered by hand":     {lines: []string{"rule add priority 100 from 10.0.0.0/8 lookup 77 proto boot", "rule add priority 101 from 10.0.0.0/8 lookup 77 proto boot"}, want: []string{is("priority 100 from 10.0.0.0/8 lookup 77"), is("priority 101 from 10.0.0.0/8 lookup 77")}},
		"of somebody's choice": {lines: []string{"rule add priority 100 from 10.0.0.0/8 lookup 77 proto boot"}, want: []string{is("priority 100 from 10.0.0.0/8 lookup 77")}},
	})
}

// TestRoutesInsideSubnets adds a bridge with a part of an uplink's subnet, and then does what the
// note says.
func TestRoutesInsideSubnets(t *testing.T) {
	first := "main-routes-first = true\n" + twoCards
	bridge := []string{"link add br0 type bridge", "link set br0 up", "address add 198.51.100.209/28 dev br0", "-6 address add 2001:db8:2:0:1::1/80 dev br0 nodad"}
	is := func(to, subnet string) string {
		return "what b sends to " + to + " leaves by e1, not by br0: its subnet " + subnet + " comes before main, with main-routes-first too; a [[uplink.b.rule]] with to = \"" + to + "\", table = \"main\" and priority = 9999 puts main first"
	}
	both := []string{is("198.51.100.208/28", "198.51.100.0/24"), is("2001:db8:2:0:1::/80", "2001:db8:2::/64")}
	arp := []string{
		"198.51.100.208/28 is on br0, and 198.51.100.0/24 on e1: both answer ARP for either's addresses; set net.ipv4.conf.br0.arp_ignore=1 and arp_announce=2",
		"198.51.100.208/28 is on br0, and 198.51.100.0/24 on e1: both answer ARP for either's addresses; set net.ipv4.conf.e1.arp_ignore=1 and arp_announce=2",
	}
	rule := func(to string) string {
		return "[[uplink.b.rule]]\nto = \"" + to + "\"\ntable = \"main\"\npriority = 9999\n"
	}
	testHazards(t, map[string]hazardCase{
		"a bridge":            {spec: first, before: bridge, want: append(both[:2:2], arp...)},
		"with the remedy":     {spec: first + rule("198.51.100.208/28") + rule("2001:db8:2:0:1::/80"), before: bridge, want: arp},
		"for IPv4 alone":      {spec: first + rule("198.51.100.208/28"), before: bridge, want: append(both[1:2:2], arp...)},
		"without the setting": {before: bridge, want: arp},
		"by its own card":     {spec: first, lines: []string{"route add 198.51.100.208/28 via 198.51.100.7 dev e1"}},
		"many": {spec: first, lines: []string{"route add 198.51.100.16/28 dev e2", "route add 198.51.100.32/28 dev e2", "route add 198.51.100.48/28 dev e2", "route add 198.51.100.64/28 dev e2", "route add 198.51.100.80/28 dev e2"}, want: []string{
			strings.ReplaceAll(is("198.51.100.16/28", "198.51.100.0/24"), "br0", "e2"), strings.ReplaceAll(is("198.51.100.32/28", "198.51.100.0/24"), "br0", "e2"),
			strings.ReplaceAll(is("198.51.100.48/28", "198.51.100.0/24"), "br0", "e2"), "there are more such routes in main",
		}},
	})
}
