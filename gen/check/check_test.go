package check_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/check"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// compiled is the spec below a root.
func compiled(t *testing.T, root string) (*spec.Spec, fib.State) {
	t.Helper()
	s, err := spec.Load(rootfs.At(root))
	if err != nil {
		t.Fatal(err)
	}
	state, err := gen.Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	return s, state
}

// warningsOf checks the spec below a root.
func warningsOf(t *testing.T, root string) []check.Warning {
	t.Helper()
	return check.Run(compiled(t, root))
}

func rootWith(t *testing.T, text string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc/uplink"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/uplink/uplink.toml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

// TestNoFalseWarnings holds the examples, and what the README shows, to be free of
// warnings.
func TestNoFalseWarnings(t *testing.T) {
	roots, err := filepath.Glob("../../integration/examples/*/root")
	if err != nil || len(roots) < 8 {
		t.Fatal(roots, err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	specs := 0
	for i, block := range strings.Split(string(readme), "```") {
		if text, ok := strings.CutPrefix(block, "toml\n"); ok && i%2 == 1 {
			specs++
			roots = append(roots, rootWith(t, text))
		}
	}
	if specs == 0 {
		t.Error("no spec in README.md")
	}
	for _, root := range roots {
		for _, w := range warningsOf(t, root) {
			t.Errorf("%s: %s", root, w)
		}
	}
}

const isp1 = `
[uplink.isp1]
interface     = "eth0"
addresses     = ["192.0.2.10/24", "2001:db8:1::10/64"]
gateways      = ["192.0.2.1", "2001:db8:1::1"]
default-route = true
`

const rt2 = `
[uplink.rt2]
interface = "eth1"
addresses = ["198.51.100.10/24", "2001:db8:2::10/64"]
gateways  = ["198.51.100.1", "2001:db8:2::1"]
`

const vpn = `
[uplink.vpn]
interface   = "wg0"
addresses   = ["10.66.0.2/32", "fd00::2/128"]
fwmark      = 0x66
fallthrough = "unreachable"
`

// many is n uplinks that have nothing but an address.
func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "[uplink.m%02d]\ninterface = \"m%02d\"\naddresses = [\"10.0.%d.2/24\"]\ngateways = [\"10.0.%d.1\"]\n", i, i, i, i)
	}
	return b.String()
}

func TestWarnings(t *testing.T) {
	without := func(s, line string) string {
		if !strings.Contains(s, line) {
			t.Fatalf("%q is not in %s", line, s)
		}
		return strings.Replace(s, line, "", 1)
	}
	var fifty []string
	for i := range 50 {
		fifty = append(fifty, fmt.Sprintf("\"198.51.100.%d/24\"", 10+i))
	}
	for _, c := range []struct {
		name, spec string
		want       []string // "id uplink: part of the text"
	}{
		{"fine", isp1 + rt2, nil},
		{"no gateway", isp1 + without(rt2, `gateways  = ["198.51.100.1", "2001:db8:2::1"]`), []string{
			"no-way-out rt2: table `rt2` has no IPv4 default route: what its rules select goes on to table main, and leaves by uplink `isp1`",
			"no-way-out rt2: table `rt2` has no IPv6 default route",
		}},
		{"no gateway, and the lowest metric in main", without(isp1, "default-route = true") + "default-route = true\nmetric = 300\n" + "[uplink.z]\ninterface = \"eth2\"\naddresses = [\"203.0.113.10/24\"]\ngateways = [\"203.0.113.1\"]\ndefault-route = true\nmetric = 200\n[uplink.y]\ninterface = \"eth3\"\naddresses = [\"198.51.100.10/24\"]\n", []string{
			"no-way-out y: what its rules select goes on to table main, and leaves by uplink `z`",
		}},
		{"no gateway, and who knows who main leads to", isp1 + "[uplink.z]\ninterface = \"eth2\"\ndhcp = \"ipv4\"\ndefault-route = true\nmetric = 200\n[uplink.y]\ninterface = \"eth3\"\naddresses = [\"198.51.100.10/24\"]\n", []string{
			"no-way-out y: what its rules select goes on to table main$",
		}},
		{"a way out in two halves", isp1 + "[uplink.vpn]\ninterface = \"wg0\"\naddresses = [\"198.51.100.10/32\", \"2001:db8:2::10/128\"]\n[[uplink.vpn.route]]\nto = \"0.0.0.0/1\"\n[[uplink.vpn.route]]\nto = \"128.0.0.0/1\"\n[[uplink.vpn.route]]\nto = \"2000::/3\"\n", nil},
		{"a way out in one half", isp1 + "[uplink.vpn]\ninterface = \"wg0\"\naddresses = [\"198.51.100.10/32\"]\n[[uplink.vpn.route]]\nto = \"0.0.0.0/1\"\n[[uplink.vpn.route]]\nto = \"192.0.0.0/2\"\n", []string{"no-way-out vpn: "}},
		{"main leads to a gateway elsewhere", isp1 + rt2 + "[[uplink.isp1.route]]\nto = \"198.51.100.0/28\"\nvia = \"192.0.2.1\"\ntable = \"main\"\n", []string{
			"gateway-only-in-table rt2: only table `rt2` reaches the gateway 198.51.100.1: from elsewhere it is looked for by eth0",
		}},
		{"a subnet of others, and a narrower route from it", isp1 + rt2 + "manage = \"policy\"\n[[uplink.rt2.route]]\nto = \"203.0.113.0/28\"\nvia = \"198.51.100.1\"\nsrc = \"198.51.100.10\"\n", nil},
		{"no gateway, and it says what then", isp1 + without(rt2, `gateways  = ["198.51.100.1", "2001:db8:2::1"]`) + "fallthrough = \"unreachable\"\n", nil},
		{"no IPv6 gateway", isp1 + without(rt2, `, "2001:db8:2::1"`), []string{"ipv6-without-gateway rt2: uplink `rt2` has a way out for IPv4 only"}},
		{"no IPv4 gateway", isp1 + without(rt2, `"198.51.100.1", `), []string{"no-way-out rt2: table `rt2` has no IPv4 default route"}},
		{"only its own network", isp1 + "[uplink.lan]\ninterface = \"eth2\"\nto = [\"10.0.0.0/8\"]\n[[uplink.lan.route]]\nto = \"10.0.0.0/8\"\n", nil},
		{"another's rule comes first", isp1 + "[[uplink.isp1.rule]]\npriority = 5\nfrom = \"198.51.100.0/24\"\n" + rt2, []string{
			"source-leaks rt2: packets from 198.51.100.10 leave by uplink `isp1` (via 192.0.2.1): a rule of uplink `isp1` selects it first (priority 5)",
		}},
		{"its own rule says so", isp1 + rt2 + "[[uplink.rt2.rule]]\npriority = 5\nfrom = \"198.51.100.10\"\nto = \"203.0.113.0/24\"\ntable = \"isp1\"\n", nil},
		{"from is empty", isp1 + rt2 + "from = []\nfwmark = 1\n", nil},
		{"from leaves it out", isp1 + rt2 + "from = [\"198.51.100.208/28\", \"2001:db8:2::/64\"]\n", []string{
			"source-leaks rt2: packets from 198.51.100.10 leave by uplink `isp1` (via 192.0.2.1): `from` replaces the uplink's own addresses$",
		}},
		{"from has it, and more", isp1 + rt2 + "from = [\"198.51.100.10\", \"198.51.100.208/28\", \"2001:db8:2::/64\"]\n", nil},
		{"from leaves it out, and a rule has it", isp1 + rt2 + "from = [\"198.51.100.208/28\", \"2001:db8:2::/64\"]\n[[uplink.rt2.rule]]\nfrom = \"198.51.100.10\"\n", nil},
		{"from leaves out what is the first in main", isp1 + "from = [\"203.0.113.0/24\", \"2001:db8:77::/48\"]\n" + rt2, nil},
		{"from leaves out many", isp1 + without(rt2, `addresses = ["198.51.100.10/24", "2001:db8:2::10/64"]`) + "addresses = [" + strings.Join(fifty, ", ") + ", \"2001:db8:2::10/64\"]\nfrom = [\"198.51.100.10\", \"2001:db8:2::10\"]\n", []string{
			"source-leaks rt2: packets from 198.51.100.11, 198.51.100.12, 198.51.100.13 and 46 more leave by uplink `isp1`",
		}},
		{"from leaves it out, and main is learned", "[uplink.isp1]\ninterface = \"eth0\"\ndhcp = \"ipv4\"\ndefault-route = true\n" + without(without(rt2, `, "2001:db8:2::10/64"`), `, "2001:db8:2::1"`) + "from = [\"198.51.100.208/28\"]\n", []string{
			"source-leaks rt2: packets from 198.51.100.10 leave by uplink `isp1`: `from` replaces the uplink's own addresses$",
		}},
		{"from leaves it out, and main is another's", without(without(rt2, `, "2001:db8:2::10/64"`), `, "2001:db8:2::1"`) + "manage = \"policy\"\nfrom = [\"198.51.100.208/28\"]\n", []string{
			"source-leaks rt2: packets from 198.51.100.10 leave by table main: `from` replaces the uplink's own addresses$",
		}},
		{"no default", without(isp1, "default-route = true") + rt2, []string{"no-default-route isp1: table main has no IPv4 and no IPv6 default route"}},
		{"no default, shared", without(isp1, "default-route = true") + rt2 + "[multipath]\nuplinks = { isp1 = 1, rt2 = 1 }\n", nil},
		{"no default, others bring it", without(isp1, "default-route = true") + rt2 + "manage = \"policy\"\n", nil},
		{"metric alone", isp1 + rt2 + "metric = 5\n", []string{"metric-without-default-route rt2: `metric` of uplink `rt2` does nothing"}},
		{"nothing selects", isp1 + rt2 + "from = []\nto = []\n", []string{"nothing-selects rt2: nothing leads to uplink `rt2`"}},
		{"nothing selects, but learned", isp1 + "[uplink.lte]\ninterface = \"wwan0\"\ndhcp = \"ipv4\"\n", nil},
		{"one priority, two tables", isp1 + rt2 + "[[uplink.rt2.rule]]\npriority = 7\nipproto = \"tcp\"\nfamily = \"ipv4\"\n[[uplink.rt2.rule]]\npriority = 7\ndport = 443\nfamily = \"ipv4\"\ntable = \"isp1\"\n", []string{
			"equal-priorities rt2: two rules of priority 7 may select the same packet",
		}},
		{"one priority, nothing in common", isp1 + rt2 + "[[uplink.rt2.rule]]\npriority = 7\ndport = 80\nfamily = \"ipv4\"\n[[uplink.rt2.rule]]\npriority = 7\ndport = 443\nfamily = \"ipv4\"\ntable = \"isp1\"\n", nil},
		{"one priority, and one for all but some", isp1 + rt2 + "[[uplink.rt2.rule]]\npriority = 7\nfrom = \"10.1.0.0/16\"\n[[uplink.rt2.rule]]\npriority = 7\nfrom = \"10.0.0.0/8\"\nnot = true\ntable = \"isp1\"\n", nil},
		{"one priority, and one for all but the other's", isp1 + rt2 + "[[uplink.rt2.rule]]\npriority = 7\nfrom = \"10.0.0.0/8\"\ntable = \"isp1\"\n[[uplink.rt2.rule]]\npriority = 7\nfrom = \"10.0.0.0/8\"\nnot = true\n", []string{"source-leaks isp1: "}},
		{"one priority, and the first to the host itself", isp1 + rt2 + "[[uplink.rt2.rule]]\npriority = 7\nfrom = \"10.0.0.0/8\"\nto = \"192.0.2.10\"\n[[uplink.rt2.rule]]\npriority = 7\nfrom = \"10.1.0.0/16\"\nto = \"192.0.2.0/24\"\ntable = \"isp1\"\n", nil},
		{"one priority, and the second to the host itself", isp1 + rt2 + "[[uplink.rt2.rule]]\npriority = 7\nfrom = \"10.0.0.0/8\"\nto = \"192.0.2.0/24\"\n[[uplink.rt2.rule]]\npriority = 7\nfrom = \"10.1.0.0/16\"\nto = \"192.0.2.10\"\ntable = \"isp1\"\n", nil},
		{"the same, and another's table if the first has no way", isp1 + rt2 + "[[uplink.rt2.rule]]\npriority = 8\nfrom = \"10.1.0.0/16\"\n[uplink.lan]\ninterface = \"eth2\"\n[[uplink.lan.route]]\nto = \"10.0.0.0/16\"\n[[uplink.lan.rule]]\npriority = 7\nfrom = \"10.1.0.0/16\"\n", []string{"no-way-out lan: "}},
		{"only a part of what leads to it", isp1 + "[uplink.lan]\ninterface = \"eth2\"\nto = [\"10.0.0.0/8\"]\n[[uplink.lan.route]]\nto = \"10.0.0.0/16\"\n", []string{"no-way-out lan: table `lan` has no IPv4 default route"}},
		{"the same twice", isp1 + rt2 + "[[uplink.rt2.rule]]\npriority = 7\nfrom = \"10.0.0.0/8\"\n[[uplink.rt2.rule]]\npriority = 8\nfrom = \"10.1.0.0/16\"\n", []string{"shadowed-rule rt2: "}},
		{"the other way round", isp1 + rt2 + "[[uplink.rt2.rule]]\npriority = 7\nfrom = \"10.1.0.0/16\"\n[[uplink.rt2.rule]]\npriority = 8\nfrom = \"10.0.0.0/8\"\n", nil},
		{"many", isp1 + many(60), nil},
		{"many, and one that has to come in between", isp1 + many(60) + rt2 + "fwmark = 1\n", []string{
			"many-rules rt2: they are not laid out in blocks, because this rule and those for the sources of uplinks before it may select the same packet",
		}},
		{"many, and one to an address of somebody else's", isp1 + many(60) + rt2 + "to = [\"203.0.113.9\"]\n", []string{
			"many-rules rt2: they are not laid out in blocks, because this rule and those for the sources of uplinks before it may select the same packet",
		}},
		{"many, and one to its own address", isp1 + many(60) + rt2 + "to = [\"198.51.100.10\"]\n", nil},
		{"many, and one that comes first", isp1 + many(60) + rt2 + "fwmark = 1\npriority = 9000\n", nil},
		{"many, and a rule in their place", isp1 + many(60) + rt2 + "[[uplink.rt2.rule]]\npriority = 12000\nfwmark = 1\n", []string{
			"many-rules rt2: because a rule stands at priority 12000",
		}},
		{"many, and a rule that leads to their place", isp1 + many(60) + rt2 + "[[uplink.rt2.rule]]\npriority = 500\nfwmark = 1\nfamily = \"ipv4\"\ngoto = 10010\n", []string{
			"many-rules rt2: because a rule leads to priority 10010",
		}},
		{"many, and a rule that leads past them", isp1 + many(60) + rt2 + "[[uplink.rt2.rule]]\npriority = 500\nfwmark = 1\nfamily = \"ipv4\"\ngoto = 32766\n", nil},
		{"many, and one for all of them", isp1 + many(60) + rt2 + "from = [\"10.0.0.0/8\", \"198.51.100.10/32\", \"2001:db8:2::10\"]\nto = []\n", []string{
			"many-rules rt2: because its rule for 10.0.0.0/8 selects sources of other uplinks too (10.0.0.2/32)",
		}},
		{"many, and one that learns an address that a network of another's may hold", isp1 + many(60) + rt2 + "from = [\"198.51.100.10\", \"2001:db8:2::10\", \"172.16.0.0/12\"]\n[uplink.z]\ninterface = \"wwan0\"\ndhcp = \"ipv4\"\n", []string{
			"many-rules z: they are not laid out in blocks",
		}},
		{"many, and one that learns, and is only for what is to it", isp1 + many(60) + rt2 + "from = [\"198.51.100.10\", \"2001:db8:2::10\", \"172.16.0.0/12\"]\n[uplink.z]\ninterface = \"wwan0\"\ndhcp = \"ipv4\"\nfrom = []\n", nil},
		{"many, and one that learns", isp1 + many(60) + rt2 + "[uplink.z]\ninterface = \"wwan0\"\ndhcp = \"ipv4\"\n", nil},
		{"into another's table", isp1 + rt2 + "[[uplink.rt2.rule]]\npriority = 7\nfrom = \"198.51.100.10\"\ntable = \"isp1\"\n", []string{
			"no-connected-subnet rt2: packets from 198.51.100.10 to its own subnet 198.51.100.0/24 go to the gateway 192.0.2.1: table `isp1` does not have the subnet",
		}},
		{"a closed uplink behind another", isp1 + "priority = 100\n" + vpn, []string{"fail-closed-leaks vpn: IPv6 packets for uplink `vpn` leave by uplink `isp1` while its own ways are gone: the kernel then picks a source for them, and the rule for that comes first (priority 100, before 10000)"}},
		{"a closed uplink far behind", isp1 + vpn + "priority = 20000\n", []string{"fail-closed-leaks vpn: (priority 10000, before 20000)"}},
		{"a closed uplink behind another, by two rules", isp1 + "priority = 100\n" + vpn + "[[uplink.vpn.rule]]\nfwmark = 0x67\n", []string{"fail-closed-leaks vpn: (priority 100, before 10000)"}},
		{"a closed uplink before another", isp1 + vpn, nil},
		{"a closed uplink that is given a number before another", isp1 + "priority = 100\n" + vpn + "priority = 99\n", nil},
		{"a closed uplink behind one that learns", "[uplink.a]\ninterface = \"eth0\"\naccept-ra = \"yes\"\ndefault-route = true\npriority = 100\n" + vpn, []string{"fail-closed-leaks vpn: by uplink `a`"}},
		{"a closed uplink for what is forwarded", isp1 + without(vpn, "fwmark      = 0x66\n") + "[[uplink.vpn.rule]]\npriority = 20000\niif = \"br0\"\n", nil},
		{"DHCPv6 alone", "[uplink.a]\ninterface = \"eth0\"\ndhcp = \"yes\"\ndefault-route = true\n", []string{"ipv6-without-gateway a: learns IPv6 addresses by DHCPv6, which brings no gateway"}},
		{"DHCPv6, and a gateway", "[uplink.a]\ninterface = \"eth0\"\ndhcp = \"ipv6\"\ngateways = [\"fe80::1\"]\ndefault-route = true\n", nil},
		{"a reserve with a metric, and a first without", isp1 + rt2 + "default-route = true\nmetric = 200\n", []string{"families-apart isp1: leaves by uplink `isp1` for IPv4 and by `rt2` for IPv6"}},
		{"a reserve with a metric, and a first with one", isp1 + "metric = 100\n" + rt2 + "default-route = true\nmetric = 200\n", nil},
		{"a reserve with the lowest metric", isp1 + rt2 + "default-route = true\nmetric = 1\n", []string{"families-apart isp1: "}},
		{"a reserve with a high metric", isp1 + rt2 + "default-route = true\nmetric = 2000\n", nil},
		{"an empty file", "", []string{"no-uplink : the spec has no uplink: to bring it into effect takes away all "}},
		{"only a comment and a back end", "# [uplink.isp1]\nbackend = \"auto\"\n", []string{"no-uplink : "}},
		{"an empty table", "[uplink]\n", []string{"no-uplink : "}},
	} {
		var have []string
		for _, w := range warningsOf(t, rootWith(t, c.spec)) {
			if w.Origin.File != "/etc/uplink/uplink.toml" || (w.Origin.Line == 0) != (w.ID == check.NoUplink) || w.Help == "" {
				t.Errorf("%s: %+v", c.name, w)
			}
			have = append(have, fmt.Sprintf("%s %s: %s$", w.ID, w.Uplink, w.Text))
		}
		missing := slices.DeleteFunc(slices.Clone(c.want), func(want string) bool {
			id, text, _ := strings.Cut(want, ": ")
			i := slices.IndexFunc(have, func(h string) bool { return strings.HasPrefix(h, id+": ") && strings.Contains(h, text) })
			if i >= 0 {
				have = slices.Delete(have, i, i+1)
			}
			return i >= 0
		})
		if len(missing)+len(have) > 0 {
			t.Errorf("%s: missing %q, too much %q", c.name, missing, have)
		}
	}
}

// TestKinds wants each kind to be listed once, in order.
func TestKinds(t *testing.T) {
	if len(check.Kinds) != 16 || !slices.IsSortedFunc(check.Kinds, func(a, b struct {
		ID   check.ID
		What string
	}) int {
		return strings.Compare(string(a.ID), string(b.ID))
	}) {
		t.Error(check.Kinds)
	}
}
