package rtnl_test

import (
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
)

// TestVerifyOfWhatIsRight applies specs that look wrong to a check of each route, and each
// uplink, by itself; then it damages one, which is wrong.
func TestVerifyOfWhatIsRight(t *testing.T) {
	t.Parallel()
	const head = `
[uplink.a]
interface = "e0"
addresses = ["192.0.2.1/24", "192.0.2.2/24", "2001:db8:1::1/64", "2001:db8:1::2/64"]
gateways  = ["192.0.2.254", "2001:db8:1::ff"]
[uplink.b]
interface = "e1"
addresses = ["192.0.2.3/24", "198.51.100.1/24"]
gateways  = ["198.51.100.254"]
`
	route := func(keys string) string { return "[[uplink.a.route]]\n" + keys + "\n" }
	rule := func(keys string) string { return "[[uplink.a.rule]]\npriority = 50\n" + keys + "\n" }
	const damage = "route del default table 10000"
	for name, tt := range map[string]struct{ spec, damage, wrong string }{
		"the next addresses are its own":   {spec: head},
		"routes to the host itself":        {spec: head + route("to = \"10.1.0.0/16\"\ntype = \"local\"") + route("to = \"2001:db8:8::/48\"\ntype = \"local\"")},
		"multicast, broadcast, loopback":   {spec: head + route("to = \"224.0.0.0/4\"") + route("to = \"ff00::/8\"") + route("to = \"255.255.255.255\"") + route("to = \"127.0.0.0/8\"\ntype = \"blackhole\"") + route("to = \"::/1\"")},
		"a rule for main":                  {spec: head + rule("to = \"192.0.2.0/24\"\ntable = \"main\"")},
		"its own rule for another uplink":  {spec: head + rule("to = \"8.8.8.8\"\nfrom = \"192.0.2.1\"\ntable = \"b\"")},
		"a rule that refuses":              {spec: head + rule("to = \"8.8.8.8\"\ntype = \"prohibit\"")},
		"a rule that leads past":           {spec: head + rule("to = \"8.8.8.8\"\ngoto = 32766"), damage: "route add default via 198.51.100.7"},
		"routes of others in main":         {spec: "main-routes-first = true\n" + head, damage: "route add 8.8.8.0/24 via 198.51.100.7"},
		"another uplink's rule takes it":   {spec: head + strings.ReplaceAll(rule("to = \"8.8.8.8\""), "uplink.a", "uplink.b"), wrong: "a from 192.0.2.1 to 8.8.8.8: via 198.51.100.254 dev e1 table 10001 (wanted via 192.0.2.254 dev e0 table 10000)"},
		"a link that is down":              {spec: strings.Replace(head, "[uplink.b]", "default-route = true\n[uplink.b]", 1), damage: "link set e1 down", wrong: "b from 192.0.2.3 to 8.8.8.8: via 192.0.2.254 dev e0 table 254 (wanted via 198.51.100.254 dev e1 table 10001)"},
		"no way out":                       {spec: head, damage: damage, wrong: "a from 192.0.2.1 to 8.8.8.8: unreachable (wanted via 192.0.2.254 dev e0 table 10000)"},
		"no way out, but for main":         {spec: "main-routes-first = true\n" + head, damage: damage, wrong: "a from 192.0.2.1 to 8.8.8.8: unreachable (wanted"},
		"no way out, and a rule for main":  {spec: head + rule("to = \"192.0.2.0/24\"\ntable = \"main\""), damage: damage, wrong: "a from 192.0.2.1 to 8.8.8.8: unreachable (wanted"},
		"a local route, and others' rules": {spec: head + route("to = \"10.1.0.0/16\"\ntype = \"local\""), damage: "rule add priority 7 to 10.1.0.0/16 lookup 10001", wrong: "a from 192.0.2.1 to 10.1.0.1: via 198.51.100.254 dev e1 table 10001 (wanted local"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := kerneltest.NewNamespace(t)
			ns.Card("e0", "e1")
			a, state := applied(t, ns, tt.spec)
			if tt.damage != "" {
				ns.IP(tt.damage)
			}
			v, err := a.Verify(state)
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, c := range v.Checks {
				line := c.Uplink + " " + c.String()
				switch {
				case c.OK():
				case tt.wrong == "":
					t.Errorf("WRONG: %s", line)
				case strings.HasPrefix(line, tt.wrong):
					found = true
				}
			}
			if len(v.Checks) < 6 || found != (tt.wrong != "") {
				t.Errorf("not found: %s; checks: %v", tt.wrong, v.Checks)
			}
		})
	}
}

// TestTableLocalHasToComeFirst moves the rule for table local, and removes it: the host's own
// addresses are then like any other.
func TestTableLocalHasToComeFirst(t *testing.T) {
	t.Parallel()
	ns := kerneltest.NewNamespace(t)
	ns.Card("e0")
	a, state := applied(t, ns, "[uplink.a]\ninterface = \"e0\"\naddresses = [\"192.0.2.1/24\", \"2001:db8:1::1/64\"]\ngateways = [\"192.0.2.254\"]\n")
	const harm = " addresses leaves by an uplink"
	for _, tt := range []struct {
		lines []string
		want  string
	}{
		{nil, ""},
		{[]string{"rule add priority 100 lookup local", "rule del priority 0"}, ""},
		{[]string{"rule add priority 32000 lookup local", "rule del priority 100"}, "table local is looked up behind the uplinks' rules (priority 32000): what is for the host's own IPv4" + harm + "; `ip rule add priority 0 lookup local`"},
		{[]string{"rule add priority 0 from 192.0.2.0/24 lookup local"}, "(priority 32000)"},
		{[]string{"rule del priority 32000"}, "no rule looks table local up: what is for the host's own IPv4" + harm},
		{[]string{"rule del priority 0", "rule add priority 0 lookup local", "-6 rule del priority 0"}, "no rule looks table local up: what is for the host's own IPv6" + harm + "; `ip -6 rule add priority 0 lookup local`"},
	} {
		ns.IP(tt.lines...)
		v, err := a.Verify(state)
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, h := range v.Hazards {
			if strings.Contains(h.Text, "table local") {
				said = append(said, h.Text)
			}
		}
		if got := strings.Join(said, "\n"); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("after %q: %q, want %q", tt.lines, got, tt.want)
		}
	}
}
