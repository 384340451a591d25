package importer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// imported reads files, a path before each, and returns the spec without its comments, and
// then what is left.
func imported(t *testing.T, read func(rootfs.Root, Names, ...string) (*Found, error), o Options, files string) string {
	t.Helper()
	dir := t.TempDir()
	for part := range strings.SplitSeq(strings.TrimPrefix(files, "-- "), "\n-- ") {
		name, text, _ := strings.Cut(part, "\n")
		name = filepath.Join(dir, name)
		if filepath.Ext(name) == tombstoneSuffix {
			if err := os.Symlink("/dev/null", name); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root := rootfs.At(dir)
	f, err := read(root, ReadNames(root))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Make(f, o)
	if err != nil {
		return fmt.Sprintln(err, r.Lost)
	}
	var b strings.Builder
	for line := range strings.Lines(r.TOML) {
		if strings.TrimSpace(line) != "" && line[0] != '#' || strings.HasPrefix(line, "# not carried") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestKeyfiles(t *testing.T) {
	const dir = "-- etc/NetworkManager/system-connections/"
	for what, c := range map[string]struct{ files, want string }{
		"the recipe": {dir + "eth0.nmconnection\n[connection]\ntype=ethernet\ninterface-name=eth0\n[ipv4]\naddress1=192.0.2.10/24,192.0.2.1\nmethod=manual\n" +
			dir + "second\n[connection]\ntype=ethernet\ninterface-name=eth1\n[ipv4]\naddress1=198.51.100.10/24\nmethod=manual\nnever-default=true\n" +
			"route1=0.0.0.0/0,198.51.100.1\nroute1_options=table=1\nrouting-rule1=priority 5 from 198.51.100.10 table 1\n",
			"[uplink.eth0]\ninterface = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.1\"]\ndefault-route = true\nmetric = 100\nfrom = []\nto = []\n" +
				"[uplink.eth1]\ninterface = \"eth1\"\ntable = 1\npriority = 5\naddresses = [\"198.51.100.10/24\"]\ngateways = [\"198.51.100.1\"]\nto = []\n"},
		// NetworkManager gives the second of two the next metric.
		"two gateways": {dir + "a.nmconnection\n[connection]\ntype=ethernet\ninterface-name=eth0\n[ipv4]\naddress1=192.0.2.10/24\ngateway=192.0.2.1\nmethod=manual\n" +
			dir + "b.nmconnection\n[connection]\ntype=ethernet\n[ethernet]\nmac-address=02:00:00:00:00:0A\nmtu=1400\n[ipv4]\naddress1=198.51.100.10/24,198.51.100.1\nmethod=manual\ndns=192.0.2.53;\ndns-search=a.example;\n",
			"[uplink.b]\nmac = \"02:00:00:00:00:0a\"\naddresses = [\"198.51.100.10/24\"]\ngateways = [\"198.51.100.1\"]\ndefault-route = true\nmetric = 101\nfrom = []\nto = []\nmtu = 1400\ndns = [\"192.0.2.53\"]\ndomains = [\"a.example\"]\n" +
				"[uplink.eth0]\ninterface = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.1\"]\ndefault-route = true\nmetric = 100\nfrom = []\nto = []\n"},
		"DHCP into a table": {dir + "a.nmconnection\n[connection]\ntype=ethernet\ninterface-name=eth0\n[ipv4]\nmethod=auto\nroute-table=7\nroute-metric=50\n[ipv6]\nmethod=ignore\n",
			"[uplink.eth0]\ninterface = \"eth0\"\ntable = 7\ndhcp = \"ipv4\"\n"},
		"DHCP that is never the default, and one that is deleted": {dir + "a.nmconnection\n[connection]\ntype=ethernet\nuuid=1-a\ninterface-name=eth0\n[ipv4]\nmethod=auto\nnever-default=true\nrouting-rule1=priority 5 iif eth0 table 7\nroute1=0.0.0.0/0,192.0.2.1\nroute1_options=table=7\n" +
			dir + "b.nmconnection\n[connection]\ntype=ethernet\nuuid=2-b\ninterface-name=eth1\n[ipv4]\nmethod=auto\n" +
			dir + "2-b.nmmeta\n" +
			"-- run/NetworkManager/system-connections/c.nmconnection\n[connection]\ntype=ethernet\nuuid=3-c\ninterface-name=eth2\n[ipv4]\naddress1=192.0.2.99/24,192.0.2.1\n" +
			dir + "c.nmconnection\n[connection]\ntype=ethernet\nuuid=3-c\ninterface-name=eth2\n[ipv4]\naddress1=192.0.2.10/24,192.0.2.1\n",
			"[uplink.eth0]\ninterface = \"eth0\"\ntable = 7\ndhcp = \"ipv4\"\n[[uplink.eth0.route]]\nto = \"default\"\nvia = \"192.0.2.1\"\n[[uplink.eth0.rule]]\npriority = 5\nfamily = \"ipv4\"\niif = \"eth0\"\n" +
				"[uplink.eth2]\ninterface = \"eth2\"\naddresses = [\"192.0.2.99/24\"]\ngateways = [\"192.0.2.1\"]\ndefault-route = true\nmetric = 100\nfrom = []\nto = []\n"},
		"profiles that are not used": {dir + "a.nmconnection\n[connection]\ntype=ethernet\ninterface-name=eth0\nautoconnect-priority=-5\n[ipv4]\naddress1=192.0.2.11/24,192.0.2.1\n" +
			dir + "b.nmconnection\n[connection]\ntype=ethernet\ninterface-name=eth0\n[ipv4]\naddress1=192.0.2.10/24,192.0.2.1\n" +
			dir + "c.nmconnection\n[connection]\ntype=ethernet\ninterface-name=eth2\nautoconnect=false\n[ipv4]\naddress1=192.0.2.12/24,192.0.2.1\n" +
			dir + "d.nmconnection\n[connection]\ntype=ethernet\n[ipv4]\naddress1=192.0.2.13/24,192.0.2.1\n" +
			dir + "e.nmconnection\n[connection]\ntype=ethernet\ninterface-name=eth3\nmaster=br0\n[ipv4]\naddress1=192.0.2.14/24\n" +
			dir + "f.nmconnection~\n[connection]\ntype=ethernet\ninterface-name=eth4\n[ipv4]\naddress1=192.0.2.15/24\n",
			"[uplink.eth0]\ninterface = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.1\"]\ndefault-route = true\nmetric = 100\nfrom = []\nto = []\n" +
				"# not carried over: /etc/NetworkManager/system-connections/c.nmconnection:4: c.nmconnection: it is not brought up by itself: autoconnect=false\n" +
				"# not carried over: /etc/NetworkManager/system-connections/d.nmconnection: d.nmconnection: it is for any link: a spec wants a name, a MAC address, a driver or a path\n" +
				"# not carried over: /etc/NetworkManager/system-connections/a.nmconnection: a.nmconnection: another profile of eth0 comes before it: /etc/NetworkManager/system-connections/b.nmconnection\n"},
		"what no spec has": {dir + "a.nmconnection\n[connection]\ntype=vlan\ninterface-name=eth0.5\n[vlan]\nid=5\n[ipv4]\nmethod=manual\naddress1=192.0.2.10;24;192.0.2.1;\ndhcp-timeout=5\n" +
			"route1=203.0.113.0/24,192.0.2.7\nroute1_options=quickack=true\nroute2=203.0.113.0/25,192.0.2.7\nroute2_options=tos=4\nroute3=nonsense\nrouting-rule1=from nowhere table 5\n",
			"[uplink.\"eth0.5\"]\ninterface = \"eth0.5\"\naddresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.1\"]\ndefault-route = true\nmetric = 400\nfrom = []\nto = []\n" +
				"[[uplink.\"eth0.5\".route]]\nto = \"203.0.113.0/24\"\nvia = \"192.0.2.7\"\nmetric = 400\ntable = \"main\"\n" +
				"# not carried over: /etc/NetworkManager/system-connections/a.nmconnection:11: quickack=true: no route of a spec has it\n" +
				"# not carried over: /etc/NetworkManager/system-connections/a.nmconnection:13: route2=203.0.113.0/25,192.0.2.7: no route of a spec has `tos`\n" +
				"# not carried over: /etc/NetworkManager/system-connections/a.nmconnection:14: route3=nonsense: \"nonsense\" is not understood\n" +
				"# not carried over: /etc/NetworkManager/system-connections/a.nmconnection:15: routing-rule1=from nowhere table 5: \"nowhere\" is not understood\n" +
				"# not carried over: /etc/NetworkManager/system-connections/a.nmconnection:2: type=vlan: a spec makes no links\n" +
				"# not carried over: /etc/NetworkManager/system-connections/a.nmconnection:5: vlan.id=5: no spec has it\n" +
				"# not carried over: /etc/NetworkManager/system-connections/a.nmconnection:9: dhcp-timeout=5: no spec has it\n"},
	} {
		if got := imported(t, Keyfiles, Options{Manage: ByLink}, c.files); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", what, got, c.want)
		}
	}
}

func TestIfcfg(t *testing.T) {
	const dir = "-- etc/sysconfig/network-scripts/"
	for what, c := range map[string]struct{ files, want string }{
		"the recipe": {"-- etc/iproute2/rt_tables\n1 rt2\n" +
			dir + "ifcfg-lo\nDEVICE=lo\nIPADDR=127.0.0.1\n" +
			dir + "ifcfg-eth0\nDEVICE=eth0\nBOOTPROTO=none\nIPADDR=192.0.2.10\nNETMASK=255.255.255.0\nGATEWAY=192.0.2.1\n" +
			dir + "route-eth0\nADDRESS0=203.0.113.0\nNETMASK0=255.255.255.0\nGATEWAY0=192.0.2.254\n" +
			dir + "ifcfg-eth1\nDEVICE=\"eth1\"\nIPADDR0=198.51.100.10\nPREFIX0=24\nDEFROUTE=no\nGATEWAY0=198.51.100.1\nIPV6ADDR=2001:db8:2::10\nIPV6INIT=yes\nIPV6_AUTOCONF=no\n" +
			dir + "route-eth1\n# by hand\n198.51.100.0/24 dev eth1 src 198.51.100.10 table rt2\ndefault via 198.51.100.1 table rt2\n" +
			dir + "route6-eth1\ndefault via 2001:db8:2::1 dev eth1 table rt2\n" +
			dir + "rule-eth1\nfrom 198.51.100.10 table rt2\nto 198.51.100.10 table rt2\n" +
			dir + "rule6-eth1\nfrom 2001:db8:2::10 table rt2\n" +
			dir + "ifcfg-eth1.bak\nDEVICE=eth1\nIPADDR=198.51.100.99\n",
			"[uplink.eth0]\ninterface = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.1\"]\ndefault-route = true\nmetric = 100\nfrom = []\nto = []\n" +
				"[[uplink.eth0.route]]\nto = \"203.0.113.0/24\"\nvia = \"192.0.2.254\"\ntable = \"main\"\n" +
				"[uplink.rt2]\ninterface = \"eth1\"\ntable = 1\naddresses = [\"198.51.100.10/24\", \"2001:db8:2::10/64\"]\ngateways = [\"198.51.100.1\", \"2001:db8:2::1\"]\nto = [\"198.51.100.10\"]\n"},
		"NetworkManager's own": {dir + "ifcfg-a\nHWADDR=02:00:00:00:00:0A\nBOOTPROTO=static\nIPADDR=198.51.100.10\nPREFIX=24\nGATEWAY=198.51.100.1\nIPV4_ROUTE_TABLE=7\nROUTING_RULE_1='priority 5 from 198.51.100.10 table 7'\nMTU=1400\nDNS1=192.0.2.53\nDOMAIN=\"a.example\"\n",
			"[uplink.a]\nmac = \"02:00:00:00:00:0a\"\ntable = 7\npriority = 5\naddresses = [\"198.51.100.10/24\"]\ngateways = [\"198.51.100.1\"]\nto = []\nmtu = 1400\ndns = [\"192.0.2.53\"]\ndomains = [\"a.example\"]\n"},
		"DHCP": {dir + "ifcfg-eth0\nBOOTPROTO=dhcp\nMETRIC=50\n" + dir + "rule-eth0\niif eth0 table 7\n" + dir + "route-eth0\ndefault via 192.0.2.1 table 7\n" +
			"-- etc/sysconfig/network\nNETWORKING=yes\n",
			"[uplink.eth0]\ninterface = \"eth0\"\ntable = 7\ndefault-route = true\nmetric = 50\ndhcp = \"ipv4\"\n" +
				"[[uplink.eth0.route]]\nto = \"default\"\nvia = \"192.0.2.1\"\n[[uplink.eth0.rule]]\npriority = 32765\nfamily = \"ipv4\"\niif = \"eth0\"\n"},
		"the host's gateways, DHCP that is never the default, an alias": {"-- etc/sysconfig/network\nGATEWAY=192.0.2.1\nIPV6_DEFAULTGW=fe80::1%eth0\n" +
			dir + "ifcfg-eth0\nIPADDR=192.0.2.10\nPREFIX=24\nIPV6INIT=yes\nIPV6_AUTOCONF=yes\n" + dir + "ifcfg-eth0:0\nIPADDR=192.0.2.11\nPREFIX=24\n" +
			dir + "ifcfg-eth1\nBOOTPROTO=dhcp\nDEFROUTE=no\nPEERROUTES=no\n" + dir + "rule-eth1\niif eth1 table 7\n" + dir + "route-eth1\ndefault via 198.51.100.1 table 7\n" + dir + "route-eth0\nADDRESS0=\nGATEWAY0=\n",
			"[uplink.eth0]\ninterface = \"eth0\"\naddresses = [\"192.0.2.10/24\", \"192.0.2.11/24\"]\ngateways = [\"192.0.2.1\"]\ndefault-route = true\nmetric = 100\naccept-ra = \"ipv6\"\nfrom = []\nto = []\n" +
				"[[uplink.eth0.route]]\nto = \"default\"\nvia = \"fe80::1\"\nmetric = 100\ntable = \"main\"\n" +
				"[uplink.eth1]\ninterface = \"eth1\"\ntable = 7\ndhcp = \"ipv4\"\n[[uplink.eth1.route]]\nto = \"default\"\nvia = \"198.51.100.1\"\n" +
				"[[uplink.eth1.rule]]\npriority = 32765\nfamily = \"ipv4\"\niif = \"eth1\"\n" +
				"# not carried over: /etc/sysconfig/network-scripts/route-eth0:1: ADDRESS0=: it has no destination\n" +
				"# not carried over: /etc/sysconfig/network-scripts/ifcfg-eth1:3: PEERROUTES=no: no spec has it\n"},
		"not brought up, ports, and what no spec has": {dir + "ifcfg-eth0\nONBOOT=no\nIPADDR=192.0.2.10\nPREFIX=24\nGATEWAY=192.0.2.1\n" +
			dir + "ifcfg-eth1\nBRIDGE=br0\n" +
			dir + "ifcfg-br0\nTYPE=Bridge\nIPADDR=198.51.100.10\nGATEWAY=198.51.100.1\nSTP=off\nIPADDR1=$(hostname -i)\nDNS1=fe80::1%br0\n" +
			dir + "route-br0\n203.0.113.0/24 via 198.51.100.7 realms 5\n203.0.113.0/24 via\n",
			"[uplink.br0]\ninterface = \"br0\"\naddresses = [\"198.51.100.10/24\"]\ngateways = [\"198.51.100.1\"]\ndefault-route = true\nmetric = 100\nfrom = []\nto = []\n" +
				"[[uplink.br0.route]]\nto = \"203.0.113.0/24\"\nvia = \"198.51.100.7\"\ntable = \"main\"\n" +
				"# not carried over: /etc/sysconfig/network-scripts/ifcfg-br0:5: IPADDR1=$(hostname -i): what it is set to is not known here\n" +
				"# not carried over: /etc/sysconfig/network-scripts/route-br0:1: 203.0.113.0/24 via 198.51.100.7 realms 5: without `realms 5`\n" +
				"# not carried over: /etc/sysconfig/network-scripts/route-br0:2: 203.0.113.0/24 via: \"\" is not understood\n" +
				"# not carried over: /etc/sysconfig/network-scripts/ifcfg-eth0:1: ifcfg-eth0: it is not brought up by itself: ONBOOT=no\n" +
				"# not carried over: /etc/sysconfig/network-scripts/ifcfg-br0:1: TYPE=Bridge: a spec makes no links\n" +
				"# not carried over: /etc/sysconfig/network-scripts/ifcfg-br0:6: DNS server fe80::1%br0: no address alone\n" +
				"# not carried over: /etc/sysconfig/network-scripts/ifcfg-br0:4: STP=off: no spec has it\n"},
	} {
		if got := imported(t, Ifcfg, Options{Manage: ByLink}, c.files); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", what, got, c.want)
		}
	}
}
