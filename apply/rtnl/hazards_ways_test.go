package rtnl_test

import (
	"strings"
	"testing"
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
