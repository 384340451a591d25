package importer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// TestIPAsItTakesIt reads commands in the forms that ip(8) takes; "!" begins a refusal.
func TestIPAsItTakesIt(t *testing.T) {
	names := Names{"rt2": 1}
	for line, want := range map[string]string{
		"ru a from 198.51.100.10 table rt2":                              "rule add priority 0 from 198.51.100.10 lookup 1",
		"r a default via 198.51.100.1 dev eth1 t rt2":                    "route add default via 198.51.100.1 dev eth1 table 1",
		"route add 10/8 dev eth1":                                        "route add 10.0.0.0/8 dev eth1 scope link",
		"-6 ro add default via fe80::1 dev eth1 table 0x10":              "-6 route add default via fe80::1 dev eth1 table 16 metric 1024",
		"route add 2001:db8::/32 dev eth1 metric 5":                      "-6 route add 2001:db8::/32 dev eth1 metric 5",
		"route add 192.0.2.0/255.255.255.0 dev eth1 src 192.0.2.1":       "route add 192.0.2.0/24 dev eth1 scope link src 192.0.2.1",
		"route add blackhole default table 7 metric 9":                   "route add blackhole default table 7 metric 9",
		"a a 192.0.2.10/24 brd + dev eth0":                               "address add 192.0.2.10/24 dev eth0 brd +",
		"rule add not fwmark 0x10/0xff tos 0x10 ipproto tcp dport 80-81": "rule add priority 0 not from all fwmark 0x10/0xff tos 0x10 ipproto 6 dport 80-81 lookup main",
		"rule add pref 5 iif eth0 goto 9":                                "rule add priority 5 from all iif eth0 goto 9",
		"rule add from 2001:db8::1 table 5":                              "!without -6 the kernel refuses a rule with an IPv6 address",
		"rule add dport 1-65535 table 5":                                 `!"1-65535" is not understood`,
		"rule add from 10.0.0.1/8 table 5":                               "rule add priority 0 from 10.0.0.1/8 lookup 5", // see settle
		"route add 10.1.2.3/16 dev eth1":                                 "!10.1.2.3/16 has bits beyond its length, which the kernel refuses",
		"-6 route add 2001:db8:5::1/64 dev eth1":                         "-6 route add 2001:db8:5::/64 dev eth1 metric 1024",
		"route add default via 198.51.100.1 dev eth1:1 table 5":          "route add default via 198.51.100.1 dev eth1 table 5",
		"route add default table 5 nexthop dev eth1:1 nexthop dev eth2":  "route add default table 5 scope link nexthop dev eth1 weight 1 nexthop dev eth2 weight 1",
		"addr add 198.51.100.11/24 dev eth1:1":                           "address add 198.51.100.11/24 dev eth1 brd +",
		"route add default via 192.0.2.1 table nope":                     `!no table is called "nope" in rt_tables`,
		"route add default":                                              "!neither `via` nor `dev`",
		"-n other route add default dev eth0":                            "!it works in another network namespace",
		"nexthop add id 1 via 192.0.2.1 dev eth0":                        "!`ip nexthop` is not part of a spec",
		"route flush table":                                              "!`table` names none",
		"addr add 192.0.2.1/24 dev eth0 local":                           `!"" is not understood`,
		"addr add 192.0.2.1/24 dev":                                      "!no address, or no `dev`",
		"rule add from":                                                  `!"" is not understood`,
		"rule add from 192.0.2.1 t 5":                                    "!`t` is `tun_id` to ip(8), which no rule of a spec has: write `table`",
		"rule add table":                                                 `!no table is called "" in rt_tables`,
		"route add default via":                                          `!"" is not understood`,
		"route add default dev":                                          "!neither `via` nor `dev`",
		"route flush":                                                    "!it takes all routes of table main away",
		"route show table rt2":                                           "",
	} {
		c, err := parseIP(strings.Fields(line), names)
		got := ""
		switch {
		case err != nil:
			got = "!" + err.Error()
		case c.address != nil:
			got = addressText(c.address.Address)
		case c.route != nil:
			got = routeText(c.route.Route)
		case c.rule != nil:
			got = ruleText(c.rule.Rule)
		}
		if got = strings.TrimPrefix(got, "ip "); got != want {
			t.Errorf("ip %s\n got %s\nwant %s", line, got, want)
		}
	}
}

// parse has a reader read one file of a root that has nothing else.
func parse(t testing.TB, kind, text string) *Found {
	t.Helper()
	dir := t.TempDir()
	name := map[string]string{"netplan": "/a.yaml", "networkd": "/a.network", "networkmanager": "/a.nmconnection", "ifcfg": "/ifcfg-a", "routes": "/route-a", "rules": "/rule6-a"}[kind]
	if name == "" {
		name = "/a"
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	root := rootfs.At(dir)
	read := map[string]func(rootfs.Root, Names, ...string) (*Found, error){"interfaces": Interfaces, "netplan": Netplan, "networkd": Networkd, "script": Scripts, "networkmanager": Keyfiles, "ifcfg": Ifcfg, "routes": Ifcfg, "rules": Ifcfg}[kind]
	f, err := read(root, Names{"rt2": 1}, name)
	if err != nil {
		return nil
	}
	return f
}

// TestWhatIsLeft wants each thing that is not understood to be listed with its line.
func TestWhatIsLeft(t *testing.T) {
	for _, tt := range []struct{ kind, text, want string }{
		{"script", "for d in eth0 eth1; do\n ip route add default dev $d table 5\ndone\n", "/a:2: ip route add default dev $d table 5: in a loop"},
		{"script", "GW=$(cat /gw)\nip route add default via $GW dev eth0 table 5\n", "/a:2: ip route add default via $GW dev eth0 table 5: $GW is not known here"},
		{"script", "if true; then\n ip rule add from 192.0.2.1 table 5\nfi", "/a:2: ip rule add from 192.0.2.1 table 5: in a condition"},
		{"script", "ip rule del from 192.0.2.1 table 5\n", "/a:1: ip rule del from 192.0.2.1 table 5: it takes away what is not added here"},
		{"script", "tc qdisc add dev eth0 root fq\n", "/a:1: tc qdisc add dev eth0 root fq: no command of ip(8)"},
		{"script", "ip route add default dev eth0 congctl bbr\n", "/a:1: ip route add default dev eth0 congctl bbr: without `congctl bbr`"},
		{"script", "ip link set eth0 up\nvrrp {\n}\n", "/a:3: }: no shell script, and nothing of it is read: `}` can only be used to close a block"},
		{"script", "if ip rule | grep -q 192; then\n ip -4 route\n ip rule add from 192.0.2.1 table 5\nfi\n", "/a:3: ip rule add from 192.0.2.1 table 5: in a condition"},
		{"interfaces", "iface eth0 inet static\n address 192.0.2.1/24\n post-down ip route add default dev eth0 table 5\n", "/a:3: post: it is added when the link goes down"},
		{"netplan", "network:\n  ethernets:\n    eth0:\n      routes:\n      - to: default\n        via: 192.0.2.1\n        color: red\n", "/a.yaml:7: color: red: no route of a spec has it"},
		{"netplan", "ethernets:\n  eth0: {dhcp4: true}\n", "/a.yaml:1: ethernets: {eth0: {dhcp4: true}}: netplan's keys are below `network`"},
		{"networkd", "[Match]\nName=eth0\n[Route]\nGateway=192.0.2.1\nQuickAck=yes\n", "/a.network:5: QuickAck=yes: no route of a spec has it"},
		// Without these a rule would select other packets, or a route lead
		// elsewhere: they are left whole.
		{"networkd", "[Match]\nName=eth0\n[RoutingPolicyRule]\nTable=5\nDSCP=46\n", "/a.network:5: Table=5 DSCP=46: no rule of a spec has `DSCP=`"},
		{"networkd", "[Match]\nName=eth0\n[RoutingPolicyRule]\nTable=5\nTypeOfService=256\n", "/a.network:4: Table=5 TypeOfService=256: \"?256\" is not understood"},
		{"networkd", "[Match]\nName=eth0\n[Route]\nDestination=198.51.100.0/24\nNextHop=7\n", "/a.network:5: Destination=198.51.100.0/24 NextHop=7: no route of a spec has `NextHop=`"},
		{"networkd", "[Match]\nName=eth0\n[Route]\nDestination=::/0\nSource=2001:db8::/64\nGateway=fe80::1\n", "/a.network:5: Destination=::/0 Source=2001:db8::/64 Gateway=fe80::1: no route of a spec has `Source=`"},
		{"netplan", "network:\n  ethernets:\n    eth0:\n      routing-policy:\n      - table: 5\n        uid: 7\n", "/a.yaml:6: {table: 5, uid: 7}: `uid` is not understood"},
	} {
		f := parse(t, tt.kind, tt.text)
		if f == nil {
			t.Errorf("%q is not read", tt.text)
			continue
		}
		var got []string
		for _, l := range f.Left {
			got = append(got, l.String())
		}
		want := strings.Replace(tt.want, "post: ", "ip route add default dev eth0 table 5: ", 1)
		if !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q\n got %q\nwant %q", tt.kind, tt.text, got, want)
		}
		if strings.Contains(want, "rule of a spec") && len(f.Rules) > 0 || strings.Contains(want, "NextHop") && len(f.Routes) > 0 {
			t.Errorf("%s: %q is left, and there are %v %v", tt.kind, tt.text, f.Rules, f.Routes)
		}
	}
}

// TestScriptsAsTheKernelRunsThem compares what is found in a script with what the kernel
// would hold after it, and checks what is left.
func TestScriptsAsTheKernelRunsThem(t *testing.T) {
	for script, want := range map[string]string{
		"ip rule add from 192.0.2.1 table 5 pref 12; ip rule add from 192.0.2.1 table 5 pref 9; ip rule del from 192.0.2.1": "rule add priority 12 from 192.0.2.1 lookup 5",
		"ip rule add from 192.0.2.1 table 5; ip rule add from 192.0.2.1 table 6; ip rule del from 192.0.2.1":                "rule add priority 0 from 192.0.2.1 lookup 5",
		"ip rule add from 192.0.2.1 table 5; ip rule add from 192.0.2.2 table 6; ip rule del pref 32764":                    "rule add priority 0 from 192.0.2.1 lookup 5",
		"ip rule add from 192.0.2.1 table 5 pref 9; ip rule add from 192.0.2.1 table 5 pref 9; ip rule del pref 9":          "",
		"ip rule add from 192.0.2.1 dport 80 table 5 pref 9; ip rule del from 192.0.2.1 dport 81": "rule add priority 9 from 192.0.2.1 dport 80 lookup 5\n" +
			"! /a:1: ip rule del from 192.0.2.1 dport 81: it takes away what is not added here",
		"ip rule add from 192.0.2.1 table 5 pref 9; ip -6 rule add from 2001:db8::1 table 5 pref 9; ip rule flush":                           "-6 rule add priority 9 from 2001:db8::1 lookup 5",
		"ip route add default dev d table 5 metric 5; ip route add default dev d table 5 metric 3; ip route del default table 5":             "route add default dev d table 5 scope link metric 5",
		"ip route add default dev d table 5\nip route add default dev e table 5\nip route del default table 5":                               "! /a:2: ip route add default dev e table 5: there is another with this destination and metric",
		"ip route add default dev d table 5; ip -6 route add default dev d table 5; ip route flush table 5":                                  "-6 route add default dev d table 5 metric 1024",
		"ip route add default dev d table 5; ip -6 route add default dev d table 5; ip -6 route flush table 5":                               "route add default dev d table 5 scope link",
		"ip route add default dev d table 5; ip -6 route add default dev d table 6; ip route flush table all":                                "",
		"ip route add blackhole 10.0.0.0/8 table 5 metric 1; ip route add 10.0.0.0/8 dev d table 5; ip route del unicast 10.0.0.0/8 table 5": "route add blackhole 10.0.0.0/8 table 5 metric 1",
		"ip route add 10.0.0.0/8 table 5 nexthop dev d nexthop dev e; ip route del 10.0.0.0/8 dev e table 5": "route add 10.0.0.0/8 table 5 scope link nexthop dev d weight 1 nexthop dev e weight 1\n" +
			"! /a:1: ip route del 10.0.0.0/8 dev e table 5: it takes away what is not added here",
		"ip -6 route add default table 5 nexthop via fe80::1 dev d nexthop via fe80::2 dev e; ip -6 route del default via fe80::1 table 5": "-6 route add default via fe80::2 dev e table 5 metric 1024",
		"ip route add 10.0.0.0/8 via 0.0.0.0 dev d table 5": "route add 10.0.0.0/8 dev d table 5 scope global",
		"ip -6 route add default via :: dev d table 5":      "! /a:1: ip -6 route add default via :: dev d table 5: :: is no gateway",
		"rule add from 192.0.2.1 table 5 # the first \\\nrule add \\\n from 192.0.2.2 \\\n table '6' # two\nrule add from \"192.0.2.3": "rule add priority 0 from 192.0.2.1 lookup 5\n" +
			"rule add priority 0 from 192.0.2.2 lookup 6\n! /a:5: rule add from \"192.0.2.3: a quote is not closed",
		"T=5\nip -batch - <<'E'\nrule add from 192.0.2.1 table $T\nE\nip -batch - <<E\nrule add from 192.0.2.2 table $T\n# no more \\\nrule add from 192.0.2.3 table 7\nE\n": "rule add priority 0 from 192.0.2.2 lookup 5\n" +
			"! /a:3: rule add from 192.0.2.1 table $T: no table is called \"$T\" in rt_tables",
		"iface d inet static\n address 172.16.1.2\n x-y_z 7\n up ip rule add from $IF_ADDRESS table $IF_X_Y_Z\n up ip route add $IF_BROADCAST dev d table 5\n": "address add 172.16.1.2/16 dev d brd +\n" +
			"route add 172.16.255.255 dev d table 5 scope link\nrule add priority 0 from 172.16.1.2 lookup 7",
		"iface d inet static\n address 10.1.2.3/8\n netmask 24\n up ip route add 10.1.2.0/$IF_NETMASK dev d table 5\n": "address add 10.1.2.3/24 dev d brd +\nroute add 10.1.2.0/24 dev d table 5 scope link",
		// Of several addresses each counts, with a length or netmask of its own or else the first netmask.
		"iface d inet static\n address 192.0.2.10/24\n address 192.0.2.11\n netmask 255.255.255.128\n address 192.0.2.12\n gateway 192.0.2.1\n gateway 192.0.2.2\n up ip rule add from $IF_ADDRESS table 5\n": "address add 192.0.2.10/24 dev d brd +\n" +
			"address add 192.0.2.11/25 dev d brd +\naddress add 192.0.2.12/25 dev d brd +\nroute add default via 192.0.2.1 dev d\nrule add priority 0 from 192.0.2.10 lookup 5\n" +
			"! /a:7: gateway 192.0.2.2: d has a gateway before it",
		"iface d inet static\n netmask 25\n address 10.0.0.1\n address 10.0.0.2\n": "address add 10.0.0.1/25 dev d brd +\naddress add 10.0.0.2/25 dev d brd +",
		"iface d\n address 10.0.0.1/24\n address 2001:db8::1/64\n address 10.1.0.1\n gateway 10.0.0.254\n gateway fe80::1\n": "address add 10.0.0.1/24 dev d brd +\n-6 address add 2001:db8::1/64 dev d\n" +
			"address add 10.1.0.1/32 dev d\nroute add default via 10.0.0.254 dev d\n-6 route add default via fe80::1 dev d metric 1024",
		"iface home inet static\n address 10.0.0.1/24\n up ip rule add iif $IFACE table 5\niface work inet static\n address 10.0.0.2/24\niface d inet static\n address 10.0.0.3/24\nauto d=home\nallow-hotplug e=work work\nauto /p*=work\n": "address add 10.0.0.1/24 dev d brd +\n" +
			"address add 10.0.0.2/24 dev e brd +\naddress add 10.0.0.2/24 dev work brd +\nrule add priority 0 from all iif d lookup 5\n" +
			"! /a:10: auto /p*=work: which interfaces /p* are depends on the running host\n! /a:6: iface d: it is configured as home",
		"ip rule add from 192.0.2.10/24 table 5 pref 9; ip rule del from 192.0.2.0/24 table 5": "rule add priority 9 from 192.0.2.10/24 lookup 5\n" +
			"! /a:1: ip rule del from 192.0.2.0/24 table 5: it takes away what is not added here",
		"ip -6 route add 2001:db8:5::1/64 dev d table 5; ip -6 route del 2001:db8:5::7/64 table 5":                  "",
		"iface d:1 inet static\n address 10.0.0.1/24\n up ip route add default via 10.0.0.254 dev $IFACE table 5\n": "address add 10.0.0.1/24 dev d brd +\nroute add default via 10.0.0.254 dev d table 5",
		"ip addr add 192.0.2.1/24 dev d; ip addr add 2001:db8::1/64 dev d; ip -4 addr flush dev d":                  "-6 address add 2001:db8::1/64 dev d",
	} {
		kind := "script"
		if strings.HasPrefix(script, "iface ") || strings.HasPrefix(script, "auto ") {
			kind = "interfaces"
		}
		f := parse(t, kind, script)
		var got []string
		for _, a := range f.Addresses {
			got = append(got, addressText(a.Address))
		}
		for _, r := range f.Routes {
			got = append(got, routeText(r.Route))
		}
		for _, r := range f.Rules {
			got = append(got, ruleText(r.Rule))
		}
		for _, l := range f.Left {
			got = append(got, "! "+l.String())
		}
		for i := range got {
			got[i] = strings.TrimPrefix(got[i], "ip ")
		}
		if s := strings.Join(got, "\n"); s != want {
			t.Errorf("%s\n got %s\nwant %s", script, s, want)
		}
	}
}

// TestWhatBecomesOtherwise checks what is lost and what changes of a source, and what the
// spec has of things that are not easily carried over.
func TestWhatBecomesOtherwise(t *testing.T) {
	const script = "ip addr add 192.0.2.10/24 dev eth0\nip route add default via 192.0.2.1 table 5\nip rule add from 192.0.2.10 table 5\n"
	for _, tt := range []struct {
		kind   string
		manage Manage
		text   string
		holds  string // a text that the spec holds
		want   []string
	}{
		{"script", "", script + "ip rule add from 10.0.0.0/8 table main\n", "priority = 32764\nfrom = \"10.0.0.0/8\"\ntable = \"main\"", nil},
		{"script", "", script + "ip rule add from 10.0.0.0/8 table 9\n", "priority = 32764\nfrom = \"10.0.0.0/8\"\ntable = 9", nil},
		{"script", "", "RUN= DEBUG=\n$DEBUG\n$RUN M=1400\n" + script + "$RUN ip link set mtu 1400 dev eth0\n", "mtu = 1400", []string{"not carried over: /a:3: $RUN M=1400: no command of ip(8)"}},
		{"script", "", script + "ip link set mtu 1400 dev eth0\n", "mtu = 1400", nil},
		{"script", "", script + "ip link set mtu 1400 dev eth1\n", "", []string{
			`not carried over: /a:4: ip link set mtu 1400 dev eth1: with manage = "policy" the MTU is left to whoever configures eth1`,
		}},
		{"script", "", script + "ip rule add from 10.1.2.3/8 to 10.9.9.9/16 table 9 pref 7\n", "from = \"10.0.0.0/8\"\nto = \"10.9.0.0/16\"", nil},
		{"networkd", "", "[Match]\nName=eth0\n[Network]\nAddress=192.0.2.10/24\n[Route]\nGateway=192.0.2.1\nTable=5\n[Route]\nDestination=10.1.2.3/16\nGateway=192.0.2.1\nTable=5\n[RoutingPolicyRule]\nFrom=192.0.2.10/24\nTable=5\n", "to = \"10.1.0.0/16\"", nil},
		{"networkd", "", "[Match]\nName=eth0\n[Network]\nAddress=192.0.2.10/24\n[Route]\nGateway=192.0.2.1\nTable=5\n[RoutingPolicyRule]\nFrom=192.0.2.10/24\nTable=5\n", "from = [\"192.0.2.0/24\"]", nil},
		{"netplan", "", "network:\n  ethernets:\n    eth0:\n      addresses: [192.0.2.10/24]\n      routes: [{to: default, via: 192.0.2.1, table: 5}, {to: 10.1.2.3/16, via: 192.0.2.1, table: 5}]\n", "to = \"10.1.0.0/16\"", nil},
		{"script", ByLink, script + "ip link set mtu 1400 dev eth1\n", "", []string{"not carried over: /a:4: the settings of eth1: it is no uplink"}},
		{"interfaces", "", "iface eth0 inet static\n address 192.0.2.10/24\n mtu 1300\n up ip link set mtu 1400 dev $IFACE\n up ip rule add from 192.0.2.10 table 5\n", "", []string{
			`not carried over: /a:4: ip link set mtu 1400 dev $IFACE: with manage = "policy" the MTU is left to whoever configures eth0`,
		}},
		{"netplan", ByLink, "network:\n  ethernets:\n    eth0:\n      dhcp4: true\n      dhcp4-overrides: {route-metric: 300}\n      link-local: [ipv4]\n", "metric = 300", []string{
			"not carried over: /a.yaml:6: eth0: link-local: [ipv4]: no spec has it",
		}},
		{"netplan", ByLink, "network:\n  ethernets:\n    eth0:\n      dhcp6: true\n", "dhcp = \"ipv6\"\naccept-ra = \"ipv6\"\n", nil}, // which brings no gateway
		{"netplan", ByLink, "network:\n  ethernets:\n    eth0:\n      dhcp6: true\n      accept-ra: false\n      mtu: 1400\n", "dhcp = \"ipv6\"\nmtu", nil},
		{"netplan", ByLink, "network:\n  ethernets:\n    eth0:\n      dhcp4: true\n      addresses: [\"2001:db8::2/64\"]\n      routes:\n      - {to: default, via: \"2001:db8::1\", metric: 50}\n", "metric = 50", []string{
			"will change: /a.yaml:3: router advertisements on eth0: accepted by default, and no longer: `accept-ra` takes them",
			"will change: /a.yaml:3: what eth0 learns: its metric becomes 50, not the default",
		}},
		{"networkd", ByLink, "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n[DHCPv4]\nRouteTable=5\nRouteMetric=7\n", "table = 5", []string{
			"will change: /a.network:2: router advertisements on eth0: accepted by default, and no longer: `accept-ra` takes them",
			"will change: /a.network:2: what eth0 learns: its metric becomes the default, not 7",
		}},
		{"networkd", ByLink, "[Match]\nName=eth0\n[Network]\nIPv6AcceptRA=no\nIPv6AcceptRA=maybe\nDHCP=v4\nDHCP=\nDHCP=ipv5\n", "dhcp = \"ipv4\"\n", []string{
			"not carried over: /a.network:5: IPv6AcceptRA=maybe: networkd has no such value, and ignores it",
			"not carried over: /a.network:7: DHCP=: networkd has no such value, and ignores it",
			"not carried over: /a.network:8: DHCP=ipv5: networkd has no such value, and ignores it",
		}},
		{"networkd", ByLink, "[Match]\nName=eth0\n[Network]\nDHCP=ipv6\n", "accept-ra = \"ipv6\"\n", nil}, // which brings no gateway
		{"networkd", ByLink, "[Match]\nName=eth0\n[Network]\nDHCP=ipv6\nIPv6AcceptRA=no\n[Link]\nMTUBytes=1400\n", "dhcp = \"ipv6\"\nmtu", nil},
		{"networkd", ByLink, "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=ipv4\n", "", []string{
			"not carried over: /a.network:5: LinkLocalAddressing=ipv4: no spec has it",
		}},
		{"networkd", ByLink, "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nIPForward=yes\n", "", []string{
			"not carried over: /a.network:5: IPForward=yes: no spec has it",
		}},
		{"networkd", Policy, "[Match]\nName=eth0\n[Network]\nAddress=192.0.2.10/24\n[Route]\nGateway=192.0.2.1\nTable=5\n[RoutingPolicyRule]\nFrom=192.0.2.10\nTable=5\n", "", nil},
		{"networkd", ByLink, "[Match]\nName=eth0\n[Network]\nIPv6AcceptRA=yes\nDHCP=both\n", "dhcp = \"yes\"\n", nil},
		{"networkd", ByLink, "[Match]\nName=eth0\n[Network]\nIPv6AcceptRA=yes\nDHCP=v6\n", "dhcp = \"ipv6\"\n", nil},
		{"networkd", ByLink, "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=yes\n[DHCPv4]\nRouteMetric=7\n[IPv6AcceptRA]\nRouteMetric=9\n", "metric = 7", []string{
			"not carried over: /a.network:9: RouteMetric=9: a spec has one for all that a link learns",
		}},
		{"networkd", ByLink, "[Match]\nName=eth0\n[Network]\nAddress=192.0.2.1\nAddress=\nAddress=203.0.113.10\nAddress=2001:db8::1\nGateway=203.0.113.1\n", "addresses = [\"203.0.113.10/24\", \"2001:db8::1/128\"]", []string{
			"not carried over: /a.network:6: Address=203.0.113.10: without a length it is /24 up to systemd 252, and /32 since: the spec has /24",
			"not carried over: /a.network:7: Address=2001:db8::1: without a length it is /0 up to systemd 252, and /128 since: the spec has /128",
			"will change: /a.network:2: router advertisements on eth0: accepted by default, and no longer: `accept-ra` takes them",
		}},
		{"interfaces", ByLink, "iface eth0 inet static\n address 192.0.2.10/24\n gateway 192.0.2.1\n foo \x1b[2J\u202e\n", "", []string{
			"not carried over: /a:4: foo ?[2J?: no spec has `foo`",
		}},
		{"netplan", ByLink, "network:\n  vrfs:\n    v:\n      table: 1000\n      routes: [{to: default, via: 192.0.2.1, on-link: true}]\n      routing-policy: [{from: 192.0.2.0/24, priority: 50}]\n", "table = 1000\npriority = 50", []string{
			"not carried over: /a.yaml:3: vrfs: v: a spec makes no links", "not carried over: /a.yaml:4: v: table: 1000: no spec has it",
		}},
	} {
		r, err := Make(parse(t, tt.kind, tt.text), Options{Manage: tt.manage})
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		got := slices.DeleteFunc(r.Lines(), func(s string) bool { return strings.HasPrefix(s, "will be added: ") })
		if !slices.Equal(got, tt.want) || !strings.Contains(r.TOML, tt.holds) {
			t.Errorf("%s\n got %q\nwant %q\n%s", tt.text, got, tt.want, r.TOML)
		}
	}
}

// TestManyUplinks checks that an import of many uplinks, valid or not, takes linear time:
// quadratic time would be minutes.
func TestManyUplinks(t *testing.T) {
	const n, most = 2000, 30 * time.Second
	for name, format := range map[string]string{
		"right":         "address add 10.%[1]d.%[2]d.10/24 dev d%[3]d\nroute add default via 10.%[1]d.%[2]d.1 dev d%[3]d table %[4]d\nrule add from 10.%[1]d.%[2]d.10 table %[4]d pref %[4]d\n",
		"wrong":         "address add 10.%[1]d.%[2]d.10/24 dev d%[3]d\nroute add default via 172.16.0.1 dev d%[3]d table %[4]d\nrule add from 10.%[1]d.%[2]d.10 table %[4]d pref 40000\n",
		"one for all":   "address add 10.%[1]d.%[2]d.10/24 dev d\nroute add default via 10.%[1]d.%[2]d.1 dev d table 7 metric %[3]d\nrule add from 10.%[1]d.%[2]d.10 table 7\n",
		"one link":      "address add 10.%[1]d.%[2]d.10/24 dev d\nroute add default via 10.%[1]d.%[2]d.1 dev d table %[4]d\nrule add from 10.%[1]d.%[2]d.10 table %[4]d pref %[4]d\n",
		"in main":       "address add 10.%[1]d.%[2]d.10/24 dev d\nroute add default via 10.%[1]d.%[2]d.1 dev d table %[4]d\nroute add default via 10.%[1]d.%[2]d.1 dev d metric %[4]d\nroute add 172.16.%[1]d.%[2]d via 10.%[1]d.%[2]d.1 dev d\n",
		"removed first": "rule del from 10.%[1]d.%[2]d.10 table %[4]d\naddress add 10.%[1]d.%[2]d.10/24 dev d%[3]d\nroute add default via 10.%[1]d.%[2]d.1 table %[4]d\nrule add from 10.%[1]d.%[2]d.10 table %[4]d\n",
	} {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i/250, i%250, i, 1000+i)
		}
		start := time.Now()
		r, err := Make(parse(t, "script", b.String()), Options{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		took := time.Since(start)
		t.Logf("%s: %d uplinks, %d lost, %v", name, strings.Count(r.TOML, "[uplink."), len(r.Lost), took)
		if took > most {
			t.Errorf("%s: %v", name, took)
		}
	}
}

// TestSlowScripts checks that scripts that are made to be slow come to an end.
func TestSlowScripts(t *testing.T) {
	for name, text := range map[string]string{
		"doubling":  "A=xxxxxxxx\n" + strings.Repeat("A=$A$A\n", 40) + "ip route add default dev $A table 5\n",
		"a chain":   "ip route show" + strings.Repeat(" && ip rule show", 30000) + "\n",
		"continued": "route add default dev eth0 \\\n" + strings.Repeat("table 5 \\\n", 100000),
	} {
		start := time.Now()
		if parse(t, "script", text) == nil {
			t.Errorf("%s is not read", name)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: %v", name, took)
		}
	}
}

// TestAliasesOfAliases checks that YAML is refused whose aliases stand for more than anybody needs.
func TestAliasesOfAliases(t *testing.T) {
	text := "network:\n  a0: &a0 [1]\n"
	for i := range 12 {
		text += fmt.Sprintf("  a%d: &a%[1]d [*a%[2]d%[3]s]\n", i+1, i, strings.Repeat(fmt.Sprintf(", *a%d", i), 9))
	}
	start := time.Now()
	if f := parse(t, "netplan", text); f != nil {
		t.Errorf("%d things of it are left", len(f.Left))
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Error(took)
	}
}

// FuzzReaders checks that any input gives a spec that compiles, or an error.
func FuzzReaders(f *testing.F) {
	kinds := []string{"interfaces", "netplan", "networkd", "script", "networkmanager", "ifcfg", "routes", "rules"}
	for i, text := range []string{
		"iface eth0 inet static\n address 192.0.2.1/24\n gateway 192.0.2.2\n up ip rule add from 192.0.2.1 table rt2\n up ip route add default via 192.0.2.2 table rt2\n",
		"network:\n  ethernets:\n    eth0:\n      addresses: [192.0.2.1/24]\n      routes: [{to: default, via: 192.0.2.2, table: 5}]\n      routing-policy: [{from: 192.0.2.1, table: 5}]\n",
		"[Match]\nName=eth0\n[Network]\nAddress=192.0.2.1/24\n[Route]\nGateway=192.0.2.2\nTable=5\n[RoutingPolicyRule]\nFrom=192.0.2.1\nTable=5\n",
		"A=192.0.2.1\nip addr add $A/24 dev eth0\nip route add default via 192.0.2.2 table 5\nip rule add from $A fwmark 1 table 5 || true\nip -batch - <<E\nrule add to 10.0.0.0/8 prohibit\nE\n",
		"[connection]\ninterface-name=eth0\n[ipv4]\nmethod=manual\naddress1=192.0.2.1/24,192.0.2.2\nroute1=0.0.0.0/0,192.0.2.2\nroute1_options=table=5\nrouting-rule1=priority 5 from 192.0.2.1 table 5\n",
		"DEVICE=eth0\nIPADDR=192.0.2.1\nPREFIX=24\nGATEWAY=192.0.2.2\nIPV4_ROUTE_TABLE=5\nROUTING_RULE_1='from 192.0.2.1 table 5'\n",
		"ADDRESS0=\nNETMASK0=255.0.0.0\nGATEWAY0=192.0.2.2\n",
		"from 2001:db8::1 table 5\n",
	} {
		f.Add(uint8(i), text, false)
		f.Add(uint8(i), text, true)
	}
	f.Fuzz(func(t *testing.T, kind uint8, text string, link bool) {
		start := time.Now()
		defer func() {
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("%v for %d bytes", took, len(text))
			}
		}()
		found := parse(t, kinds[int(kind)%len(kinds)], text)
		if found == nil {
			return
		}
		o := Options{}
		if link {
			o.Manage = ByLink
		}
		r, err := Make(found, o)
		if errors.Is(err, ErrNothing) {
			return
		}
		if err != nil {
			t.Fatalf("%v", err)
		}
		state, err := compile(r.TOML)
		if err != nil {
			t.Fatalf("%v\n%s", err, r.TOML)
		}
		if state.Text() != r.State.Text() {
			t.Fatalf("another State than was compared:\n%s", r.TOML)
		}
	})
}

// TestTablesThatShareOut imports the recipe with a table for each uplink, and one that
// balances between them and belongs to no uplink.
func TestTablesThatShareOut(t *testing.T) {
	f := parse(t, "script", `ip addr add 192.0.2.10/24 dev eth0
ip addr add 198.51.100.10/24 dev eth1
ip route add 192.0.2.0/24 dev eth0 src 192.0.2.10 table 11
ip route add default via 192.0.2.1 dev eth0 table 11
ip route add 198.51.100.0/24 dev eth1 src 198.51.100.10 table 12
ip route add default via 198.51.100.1 dev eth1 table 12
ip route add default table 13 nexthop via 192.0.2.1 dev eth0 weight 2 nexthop via 198.51.100.1 dev eth1
ip rule add prio 20 from 192.0.2.10 table 11
ip rule add prio 21 from 198.51.100.10 table 12
ip rule add prio 1000 table 13
`)
	r, err := Make(f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Lost)+len(r.Added) > 0 || len(r.State.Tables) != 2 {
		t.Error(r.TOML)
	}
}

// TestInvertRule reads the key as systemd.network(5) has it.
func TestInvertRule(t *testing.T) {
	f := parse(t, "networkd", "[Match]\nName=eth0\n[RoutingPolicyRule]\nFirewallMark=7\nInvertRule=yes\nTable=5\n")
	if len(f.Left) > 0 || len(f.Rules) != 1 || !f.Rules[0].Not {
		t.Errorf("%v, and %v is left", f.Rules, f.Left)
	}
}

// TestASourcedFileMayHaveSetIt uses no default after a sourced file, which is not read.
func TestASourcedFileMayHaveSetIt(t *testing.T) {
	f := parse(t, "script", "DEV=eth1\n. /etc/default/uplink\nGW=${GW:-192.0.2.1}\nip route add default via $GW dev ${DEV:-eth0} table 5\nip rule add from 192.0.2.10 table ${T:-5}\nip rule add iif ${DEV:-eth0} table 5\n")
	var got []string
	for _, l := range f.Left {
		got = append(got, l.String())
	}
	want := []string{
		"/a:2: . /etc/default/uplink: the file that it names is to be imported by itself",
		"/a:4: ip route add default via $GW dev ${DEV:-eth0} table 5: $GW is not known here",
		"/a:5: ip rule add from 192.0.2.10 table ${T:-5}: ${T:-5} is not known here",
	}
	if !slices.Equal(got, want) || len(f.Rules) != 1 || f.Rules[0].IIF != "eth1" {
		t.Errorf("got %q\nwant %q\n%v", got, want, f.Rules)
	}
}

// TestNothingIsAddedInPassing checks that an import has the routes and rules of the script
// and no others.
func TestNothingIsAddedInPassing(t *testing.T) {
	const cards = "ip addr add 198.51.100.10/24 dev eth1\nip -6 addr add 2001:db8:2::10/64 dev eth1\n" +
		"ip route add 198.51.100.0/24 dev eth1 src 198.51.100.10 table 5\nip route add default via 198.51.100.1 dev eth1 table 5\n" +
		"ip -6 route add 2001:db8:2::/64 dev eth1 src 2001:db8:2::10 table 5\nip -6 route add default via 2001:db8:2::1 dev eth1 table 5\n"
	for what, script := range map[string]string{
		"the kernel's own rules, put back": "ip rule flush\nip rule add lookup main pref 32766\nip rule add lookup default pref 32767\nip rule add from 198.51.100.10 table 5\n",
		"a last resort of one family":      "ip -6 route add unreachable default table 5 metric 4294967295\nip rule add from 198.51.100.10 table 5 pref 9\nip -6 rule add from 2001:db8:2::10 table 5 pref 9\n",
	} {
		r, err := Make(parse(t, "script", cards+script), Options{})
		if err != nil || r.differences() > 0 {
			t.Errorf("%s: %v\n%s", what, err, r.TOML)
		}
	}
}
