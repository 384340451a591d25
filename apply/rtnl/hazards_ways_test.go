package rtnl_test

import (
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
)

// TestAddressesThatNoRuleSelects gives an uplink a delegated prefix in the place of its own
// addresses.
func TestAddressesThatNoRuleSelects(t *testing.T) {
	main := strings.Replace(twoCards, "[uplink.b]", "from = [\"192.0.2.1\", \"2001:db8:1::1\"]\n[uplink.b]", 1)
	is := func(src, leaves string) string {
		return "packets from " + src + " " + leaves + ", not by uplink b: its `from` replaces its own addresses: add it there"
	}
	// What is said stands there from the beginning.
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

// TestOneOfSeveralWays has the kernel choose among an uplink's gateways, and then sends it
// elsewhere. IPv6 has the packet's own source, whatever the kernel would have chosen.
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
