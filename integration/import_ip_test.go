package integration

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// ipTables are the names of tables in the scripts below.
const ipTables = "1 rt2\n0x7d0 isp-b\n77 seventy\n"

// ipCards sets up both cards; it goes before each script that is no batch.
const ipCards = `ip link set dev eth0 up
ip link set eth1 up
ip addr add 192.0.2.10/24 dev eth0 brd +
ip a a 198.51.100.10/24 broadcast + dev eth1
ip -6 address add 2001:db8:1::10/64 dev eth0
ip a add 2001:db8:2::10/64 dev eth1
ip route add default via 192.0.2.1 dev eth0 metric 50
ip -6 route add default via 2001:db8:1::1 dev eth0 metric 50
`

// ipScripts are scripts that real ip(8) accepts. lost is how one import or the other must explain
// a difference; without it both carry everything over, to the same State.
var ipScripts = []struct {
	name, script, lost string
	batch              bool // for ip -batch
	free               bool // the order of the rules makes no difference, and the script gives none
}{
	{name: "the recipe, shortened", free: true, script: `
ip ro a 198.51.100.0/24 dev eth1 src 198.51.100.10 t rt2
ip r a default via 198.51.100.1 dev eth1 table rt2
ip ru a from 198.51.100.10 ta rt2
ip rule add to 198.51.100.10 lookup rt2
`},
	{name: "families", script: `
ip -4 route add default via 192.0.2.1 dev eth0
ip -6 route add default via 2001:db8:1::1 dev eth0
ip -f inet6 route add default via 2001:db8:2::1 dev eth1 table isp-b
ip -family inet route add default via 198.51.100.1 dev eth1 table 2000
ip -6 rule add from 2001:db8:2::10 table isp-b pref 100
ip rule add from 198.51.100.10/32 table 0x7d0 pref 100
ip -6 rule add to 2001:db8:2::10/128 lookup 2000 pref 100
`},
	{name: "tables by name and base", script: `
ip route add default via 198.51.100.1 dev eth1 table 0x4d
ip -6 route add default via 2001:db8:2::1 dev eth1 table seventy
ip route add table 77 10.9.0.0/16 via 198.51.100.3 dev eth1
ip rule add pref 5 from 198.51.100.10 table seventy
ip rule add order 6 from 10.0.0.0/8 table main
ip rule add priority 0x7 from 10.1/16 lookup default
`},
	{name: "metrics", script: `
ip route add default via 192.0.2.1 dev eth0 metric 100
ip route add default via 198.51.100.1 dev eth1 preference 200
ip route add default via 198.51.100.1 dev eth1 table rt2 mtu 1400 advmss 1300 initcwnd 20 initrwnd 30
ip route add default via 198.51.100.2 dev eth1 table rt2 metric 0x10
ip -6 route add default via 2001:db8:2::1 dev eth1 table rt2 priority 7
ip -6 route add 2001:db8:9::/48 via 2001:db8:2::1 dev eth1 table rt2 mtu 1400
ip rule add from 198.51.100.10 table rt2 pref 9
`},
	{name: "destinations", script: `
ip route add default via 198.51.100.1 dev eth1 table rt2
ip route add 10/8 via 198.51.100.1 dev eth1 table rt2
ip route add 172.16/12 via 198.51.100.1 dev eth1 table rt2
ip route add to 203.0.113.0/255.255.255.0 via 198.51.100.1 dev eth1 table rt2
ip route add unicast 203.0.114.7 via 198.51.100.1 dev eth1 table rt2
ip route add 2001:db8:7::7 via 2001:db8:2::1 dev eth1 table rt2
ip route add ::/0 via 2001:db8:2::1 dev eth1 table rt2
ip -4 route add all via 192.0.2.1 dev eth0
ip rule add from 198.51.100.10 table rt2 pref 9
`},
	{name: "onlink", script: `
ip route add default via 203.0.113.1 dev eth1 onlink table rt2
ip route add 10.0.0.0/8 via 203.0.113.9 dev eth1 table rt2 onlink
ip -6 route add default via fe80::1 dev eth1 onlink table rt2
ip rule add from 198.51.100.10 table rt2 pref 9
ip -6 rule add from 2001:db8:2::10 table rt2 pref 9
`},
	{name: "gateways of the link's scope", script: `
ip -6 route add default via fe80::1 dev eth1 table rt2
ip -6 route add default via fe80::2 dev eth0 metric 5
ip -6 rule add from 2001:db8:2::10 table rt2 pref 9
`},
	{name: "no dev", script: `
ip route add default via 198.51.100.1 table rt2
ip route add default via 192.0.2.1
ip -6 route add default via 2001:db8:2::1 table rt2
ip rule add from 198.51.100.10 table rt2 pref 9
`},
	{name: "multipath", script: `
ip route add default nexthop via 192.0.2.1 dev eth0 weight 2 nexthop via 198.51.100.1 dev eth1
ip route add default via 198.51.100.1 dev eth1 table rt2
ip route add default via 192.0.2.1 dev eth0 table 7
ip route add 10.0.0.0/8 table rt2 nexthop via 198.51.100.1 weight 256 dev eth1 nexthop dev eth0 via 192.0.2.1
ip rule add from 198.51.100.10 table rt2 pref 9
ip rule add from 192.0.2.10 table 7 pref 9
`},
	{name: "multipath of IPv6", script: `
ip -6 route add default nexthop via 2001:db8:1::1 dev eth0 nexthop via 2001:db8:2::1 dev eth1 weight 3
ip -6 route add default via 2001:db8:2::1 dev eth1 table rt2
ip -6 route add 2001:db8:9::/48 table rt2 nexthop via 2001:db8:2::1 dev eth1 nexthop via fe80::1 dev eth0
ip -6 rule add from 2001:db8:2::10 table rt2 pref 9
`},
	{name: "multipath by append", script: `
ip -6 route add default via 2001:db8:2::1 dev eth1 table rt2
ip -6 route append 2001:db8:9::/48 via 2001:db8:2::1 dev eth1 table rt2
ip -6 route append 2001:db8:9::/48 via 2001:db8:1::1 dev eth0 table rt2
ip -6 rule add from 2001:db8:2::10 table rt2 pref 9
`},
	{name: "types", script: `
ip route add default via 198.51.100.1 dev eth1 table rt2
ip route add blackhole 10.1.0.0/16 table rt2
ip route add unreach 10.2.0.0/16 table rt2 metric 3
ip route add prohibit 10.3.0.0/16 table rt2
ip route add throw 10.4.0.0/16 table rt2
ip -6 route add blackhole 2001:db8:a::/48 table rt2
ip route add unreachable 2001:db8:b::/48 table rt2
ip -6 route add prohibit 2001:db8:c::/48 table rt2 metric 9
ip -6 route add throw 2001:db8:d::/48 table rt2
ip rule add from 198.51.100.10 table rt2 pref 9
ip -6 rule add from 2001:db8:2::10 table rt2 pref 9
ip -6 route add default via 2001:db8:2::1 dev eth1 table rt2
`},
	{name: "last resort", script: `
ip route add default via 198.51.100.1 dev eth1 table rt2
ip route add unreachable default table rt2 metric 4294967295
ip -6 route add unreachable default table rt2 metric 4294967295
ip rule add from 198.51.100.10 table rt2 pref 9
`},
	{name: "scopes", script: `
ip route add 198.51.100.0/24 dev eth1 scope link src 198.51.100.10 table rt2
ip route add default via 198.51.100.1 dev eth1 table rt2 scope global
ip route add 10.1.0.0/16 dev eth1 table rt2 scope global
ip route add 10.2.0.0/16 dev eth1 table rt2 scope 253
ip route add 10.3.0.0/16 dev eth1 table rt2 scope site
ip rule add from 198.51.100.10 table rt2 pref 9
`},
	{name: "selectors of rules", script: `
ip route add default via 198.51.100.1 dev eth1 table rt2
ip rule add pref 20 from 198.51.100.0/28 to 10.0.0.0/8 table rt2
ip rule add pref 21 fwmark 0x10 table rt2
ip rule add pref 22 fwmark 16/0xff table rt2
ip rule add pref 23 iif eth0 oif eth1 table rt2
ip rule add pref 24 dev eth0 table rt2
ip rule add pref 25 tos 0x10 table rt2
ip rule add pref 26 dsfield 8 from 10.0.0.0/8 table rt2
ip rule add pref 27 ipproto tcp sport 80 table rt2
ip rule add pref 28 ipproto 17 dport 5000-6000 table rt2
ip rule add pref 29 ipproto sctp table rt2
ip rule add pref 30 uidrange 1000-2000 table rt2
ip rule add pref 31 not from 10.0.0.0/8 table rt2
ip rule add pref 32 from 10.0.0.0/8 table main suppress_prefixlength 0
ip rule add pref 33 from all table rt2 suppress_ifgroup 5
ip rule add pref 34 from 10.0.0.0/8 goto 40
ip rule add pref 40 from 10.0.0.0/8 prohibit
ip rule add pref 41 from 10.0.0.0/8 type blackhole
ip rule add pref 42 from 10.0.0.0/8 unreachable
ip rule add pref 43 from 10.0.0.0/8 nop
ip -6 rule add pref 21 fwmark 0x10 table rt2
ip -6 rule add pref 24 iif eth0 table rt2
ip -6 rule add pref 44 from 2001:db8::/32 to 2001:db8:9::/48 ipproto ipv6-icmp table rt2
ip -6 rule add pref 45 not fwmark 0x1/0x1 uidrange 0-0 table rt2
ip -6 rule add pref 46 from 2001:db8:a::/48 dport 1-65534 goto 47
ip -6 rule add pref 47 to 2001:db8:b::/48 prohibit
`},
	{name: "a rule for l3mdev", script: `
ip route add default via 198.51.100.1 dev eth1 table rt2
ip rule add pref 20 from 198.51.100.10 table rt2
ip rule add pref 1000 l3mdev
ip -6 rule add pref 1000 l3mdev
`},
	{name: "no preference", script: `
ip route add default via 198.51.100.1 dev eth1 table rt2
ip route add default via 192.0.2.1 dev eth0 table 7
ip rule add from 198.51.100.0/24 table rt2
ip rule add from 198.51.100.128/25 table 7
ip rule add from 198.51.100.10 table rt2 pref 500
ip rule add to 10.0.0.0/8 table 7
ip -6 rule add to 2001:db8:9::/48 table rt2
`},
	{name: "added and taken away", script: `
ip route add default via 198.51.100.9 dev eth1 table rt2
ip route replace default via 198.51.100.1 dev eth1 table rt2
ip route add 10.0.0.0/8 via 198.51.100.1 dev eth1 table rt2
ip route change 10.0.0.0/8 via 198.51.100.2 dev eth1 table rt2
ip route add 10.5.0.0/16 via 198.51.100.1 dev eth1 table rt2
ip route del 10.5.0.0/16 table rt2
ip -6 route add default via 2001:db8:2::9 dev eth1 table rt2
ip -6 route replace default via 2001:db8:2::1 dev eth1 table rt2
ip route add default via 192.0.2.9 dev eth0 table 7
ip route flush table 7
ip route add default via 192.0.2.1 dev eth0 table 7
ip rule add from 198.51.100.10 table rt2 pref 9
ip rule add from 192.0.2.10 table rt2 pref 10
ip rule del from 192.0.2.10 table rt2
ip rule add from 192.0.2.10 table 7 pref 11
ip rule add from 192.0.2.10 table 7 pref 12
ip rule del pref 12
ip addr add 192.0.2.77/24 dev eth0
ip addr del 192.0.2.77/24 dev eth0
`},
	{name: "taken away one by one", script: `
ip route add default via 198.51.100.1 dev eth1 table rt2 metric 5
ip route add default via 198.51.100.2 dev eth1 table rt2 metric 3
ip route del default table rt2
ip route add blackhole 10.1.0.0/16 table rt2 metric 3
ip route add 10.1.0.0/16 via 198.51.100.1 dev eth1 table rt2 metric 5
ip route del unicast 10.1.0.0/16 table rt2
ip -6 route add default table rt2 nexthop via 2001:db8:1::1 dev eth0 nexthop via 2001:db8:2::1 dev eth1
ip -6 route del default via 2001:db8:1::1 table rt2
ip route add default via 192.0.2.1 dev eth0 table 7
ip -6 route add default via 2001:db8:1::1 dev eth0 table 7
ip route flush table 7
ip -6 route add default via 2001:db8:1::1 dev eth0 table 8
ip -6 route flush table 8
ip rule add from 198.51.100.10 table rt2 pref 12
ip rule add from 198.51.100.10 table rt2 pref 9
ip rule add from 198.51.100.10 to 10.0.0.0/8 table rt2 pref 11
ip rule del from 198.51.100.10 table rt2
ip rule add from 198.51.100.0/24 table rt2
ip rule add from 198.51.100.0/24 table rt2
ip rule del from 198.51.100.0/24
ip -6 rule add from 2001:db8:2::10 table rt2 pref 9
ip -6 rule add from 2001:db8:1::10 table 7 pref 9
`},
	{name: "several addresses", script: `
ip addr add 203.0.113.5 dev eth1
ip addr add 198.51.100.11/24 dev eth1
ip addr add 2001:db8:2::11/64 dev eth1
sleep 1 # until it is not tentative any more
ip route add 198.51.100.0/24 dev eth1 src 198.51.100.11 table rt2
ip route add default via 198.51.100.1 dev eth1 src 198.51.100.11 table rt2
ip -6 route add default via 2001:db8:2::1 dev eth1 src 2001:db8:2::11 table rt2
ip rule add from 198.51.100.11 table rt2 pref 9
ip rule add from 203.0.113.5 table rt2 pref 9
`},
	{name: "append of IPv4", script: `
ip route add default via 198.51.100.1 dev eth1 table rt2
ip route append default via 198.51.100.2 dev eth1 table rt2
ip rule add from 198.51.100.10 table rt2 pref 9
`, lost: `198\.51\.100\.2`},
	{name: "a shell's words", script: `
TABLE=rt2 GW="198.51.100.1"
DEV='eth1'
ip route add default via $GW dev ${DEV} table "$TABLE" || true
ip rule add from 198.51.100.10 table $TABLE pref ${PREF:-77} && ip rule add to 198.51.100.10 \
  table $TABLE pref 77
ip -batch - <<END
route add 10.0.0.0/8 via $GW dev eth1 table rt2 # by the first
rule add pref 78 iif eth1 table rt2
END
ip -6 -b - <<END
rule add pref 78 iif eth1 table rt2
END
`},
	{name: "a batch", batch: true, script: `
# a comment \
link set eth0 up
link set dev eth1 up
a a 192.0.2.10/24 dev eth0
addr add 198.51.100.10/24 dev eth1
route add default via 198.51.100.1 \
  dev eth1 table rt2
route add 10.0.0.0/8 via 0.0.0.0 dev eth1 table rt2
addr add 2001:db8:2::10/64 dev eth1
route add default via 192.0.2.1 dev eth0
route add default via 2001:db8:2::1 dev eth1 table rt2   # a comment
rule add from 198.51.100.10 table "rt2" pref 9
ru a pref 10 fwmark 0x7 ta 'rt2'
`},
	{name: "what no spec says", script: `
ip route add default via 198.51.100.1 dev eth1 table rt2
ip route add 10.1.0.0/16 via 198.51.100.1 dev eth1 table rt2 mtu lock 1400
ip route add 10.2.0.0/16 via 198.51.100.1 dev eth1 table rt2 tos 0x10
ip rule add from 198.51.100.10 table rt2 pref 9 realms 5
`, lost: `mtu lock|tos|realms`},
}

var (
	lostLines  = regexp.MustCompile(`(?m)^not carried over: .*`)
	priorities = regexp.MustCompile(`(?m)^(rule add) priority \d+`)
)

// inet6Last puts the lines of IPv6 last: the kernel does not say in which order addresses of both
// families were added.
func inet6Last(state string) string {
	lines := slices.Collect(strings.Lines(state))
	slices.SortStableFunc(lines, func(a, b string) int {
		inet6 := func(s string) int { return strings.Count(s[:min(len(s), 3)], "-6 ") }
		return inet6(a) - inet6(b)
	})
	return strings.Join(lines, "")
}

// TestImportOfAScriptIsThatOfTheKernel has real ip(8) run scripts, and imports each script and
// what the kernel then holds: both specs compile to the same State, or one says why not.
func TestImportOfAScriptIsThatOfTheKernel(t *testing.T) {
	for _, tt := range ipScripts {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require(t)
			ctx, l, c := bootHost(t, provider1, provider2)
			script := filepath.Join(c.root, "script")
			write(t, filepath.Join(c.root, "etc/iproute2/rt_tables"), ipTables)
			text, program := ipCards+tt.script, "exec sh -e "
			if tt.batch {
				text, program = tt.script, "exec ip -batch "
			}
			write(t, script, text)
			// ip(8) reads the names from one of these, in its own view of the files.
			if _, err := l.Host.Run(ctx, "unshare", "--mount", "sh", "-ec", `
for d in /etc/iproute2 /usr/share/iproute2 /usr/lib/iproute2; do
	test ! -d $d || mount --bind "$1/etc/iproute2" $d
done
`+program+`"$1/script"`, "sh", c.root); err != nil {
				t.Fatal(err)
			}
			states, said := map[string]string{}, ""
			for from, args := range map[string][]string{"script": {script}, "kernel": nil} {
				a := c.run("import", append([]string{"--from", from, "--manage", "link"}, args...)...)
				lost := lostLines.FindAllString(a.stderr, -1)
				if (a.code == 0) != (len(lost) == 0) || a.stdout == "" {
					t.Fatalf("import from the %s: exit status %d, %s", from, a.code, a.stderr)
				}
				said += strings.Join(lost, "\n")
				if tt.lost == "" && len(lost) > 0 {
					t.Errorf("the %s:\n%s", from, a.stderr)
				}
				c.spec(a.stdout)
				check := c.run("check", "--state")
				if check.code != 0 {
					t.Fatal(check.stderr)
				}
				if states[from] = inet6Last(check.stdout); tt.free {
					states[from] = priorities.ReplaceAllString(states[from], "$1")
				}
				t.Logf("from the %s:\n%s", from, a.stdout)
			}
			if states["script"] != states["kernel"] && tt.lost == "" {
				t.Errorf("of the script\n%s\nof the kernel\n%s", states["script"], states["kernel"])
			}
			if tt.lost != "" && !regexp.MustCompile(tt.lost).MatchString(said) {
				t.Errorf("said: %s\nwant %s", said, tt.lost)
			}
		})
	}
}
