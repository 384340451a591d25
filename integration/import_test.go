package integration

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// byHand are hosts that are set up by hand: the recipe as in every how-to, and what people make
// of it. All of each is carried over.
var byHand = []struct {
	name  string
	lines []string
}{
	{"the recipe", []string{
		"link set dev eth0 up", "link set dev eth1 up",
		"address add 192.0.2.10/24 dev eth0 brd +", "address add 198.51.100.10/24 dev eth1 brd +",
		"route add default via 192.0.2.1 dev eth0",
		"route add 198.51.100.0/24 dev eth1 src 198.51.100.10 table 1",
		"route add default via 198.51.100.1 dev eth1 table 1",
		"rule add from 198.51.100.10/32 table 1",
		"rule add to 198.51.100.10/32 table 1",
	}},
	{"IPv6", []string{
		"link set dev eth0 up", "link set dev eth1 up",
		"-6 address add 2001:db8:1::10/64 dev eth0 nodad", "-6 address add 2001:db8:2::10/64 dev eth1 nodad",
		"-6 route add default via 2001:db8:1::1 dev eth0",
		"-6 route add 2001:db8:2::/64 dev eth1 src 2001:db8:2::10 table 1",
		"-6 route add default via 2001:db8:2::1 dev eth1 table 1",
		"-6 rule add from 2001:db8:2::10 table 1",
		"-6 rule add to 2001:db8:2::10 table 1",
	}},
	{"multipath", []string{
		"link set dev eth0 up", "link set dev eth1 up",
		"address add 192.0.2.10/24 dev eth0 brd +", "address add 198.51.100.10/24 dev eth1 brd +",
		"-6 address add 2001:db8:1::10/64 dev eth0 nodad", "-6 address add 2001:db8:2::10/64 dev eth1 nodad",
		"route add default nexthop via 192.0.2.1 dev eth0 weight 2 nexthop via 198.51.100.1 dev eth1",
		"route add 192.0.2.0/24 dev eth0 src 192.0.2.10 table 7",
		"route add default via 192.0.2.1 dev eth0 table 7",
		"route add 198.51.100.0/24 dev eth1 src 198.51.100.10 table 1",
		"route add default via 198.51.100.1 dev eth1 table 1",
		"route add 10.0.0.0/8 table 1 nexthop via 198.51.100.1 dev eth1 weight 3 nexthop via 192.0.2.1 dev eth0",
		"-6 route add default nexthop via 2001:db8:1::1 dev eth0 nexthop via 2001:db8:2::1 dev eth1 weight 2",
		"-6 route add 2001:db8:1::/64 dev eth0 src 2001:db8:1::10 table 7",
		"-6 route add 2001:db8:2::/64 dev eth1 src 2001:db8:2::10 table 1",
		"-6 route add default via 2001:db8:1::1 dev eth0 table 7",
		"-6 route add default via 2001:db8:2::1 dev eth1 table 1",
		"-6 route add 2001:db8:9::/48 table 1 nexthop via 2001:db8:1::1 dev eth0 nexthop via 2001:db8:2::1 dev eth1 weight 2",
		"rule add from 192.0.2.10 table 7 pref 100", "rule add from 198.51.100.10 table 1 pref 101",
		"-6 rule add from 2001:db8:1::10 table 7 pref 100", "-6 rule add from 2001:db8:2::10 table 1 pref 101",
	}},
}

// owners are the protocols of routes and rules.
var owners = regexp.MustCompile(`(?m) proto(col)? \S+`)

func withoutOwners(s string) string { return owners.ReplaceAllString(s, "") }

// handOver runs what the spec of an import says to run.
func handOver(ctx context.Context, t *testing.T, n *lab.Namespace, spec string) {
	t.Helper()
	var script strings.Builder
	for line := range strings.Lines(spec) {
		if command, ok := strings.CutPrefix(line, "#~ "); ok {
			script.WriteString(command)
		}
	}
	if _, err := n.Run(ctx, "sh", "-ec", script.String()); err != nil {
		t.Fatal(err)
	}
}

// TestImportOfWhatWasDoneByHandChangesNothing sets hosts up by hand, imports each, hands it over
// and applies: nothing changes except the owner.
func TestImportOfWhatWasDoneByHandChangesNothing(t *testing.T) {
	for _, tt := range byHand {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require(t)
			ctx, l, c := bootHost(t, provider1, provider2)
			ip(ctx, t, l.Host, tt.lines...)
			if err := l.Host.WaitSettled(ctx); err != nil {
				t.Fatal(err)
			}
			before := dump(ctx, t, l.Host)
			a := c.run("import", "--from", "kernel")
			a.expect(t, "import", 0, `^# Made by uplinkctl import from the running kernel\n.*\[uplink\.eth1\]\n`, "^uplinkctl: read the running kernel\n$")
			if now := dump(ctx, t, l.Host); now != before {
				t.Fatalf("the import changed something:\n%s", now)
			}
			c.spec(a.stdout)
			c.run("apply").expect(t, "apply before it is handed over", 1, "", "is in the way")
			if now := dump(ctx, t, l.Host); now != before {
				t.Fatalf("refused, and something was changed:\n%s", now)
			}
			handOver(ctx, t, l.Host, a.stdout)
			if now := dump(ctx, t, l.Host); withoutOwners(now) != withoutOwners(before) {
				t.Errorf("before\n%s\nhanded over\n%s", before, now)
			} else if now == before {
				t.Error("nothing was handed over")
			}
			c.run("apply", "--dry-run").expect(t, "what is left to apply", 0, "", "")
			c.ok("apply")
			if now := dump(ctx, t, l.Host); withoutOwners(now) != withoutOwners(before) {
				t.Errorf("before\n%s\nafter\n%s", before, now)
			}
			c.ok("verify")
		})
	}
}

// TestImportOfWhatIsLearned takes over links whose default routes came from a DHCP client and
// router advertisements: the same one wins as before, or the import says so.
func TestImportOfWhatIsLearned(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	ip(ctx, t, l.Host, "link set dev eth0 up", "link set dev eth1 up",
		"address add 192.0.2.10/24 dev eth0 brd + valid_lft 3600 preferred_lft 3600",
		"address add 198.51.100.10/24 dev eth1 brd + valid_lft 3600 preferred_lft 3600",
		"route add default via 192.0.2.1 dev eth0 proto dhcp src 192.0.2.10 metric 200",
		"route add default via 198.51.100.1 dev eth1 proto dhcp src 198.51.100.10 metric 100",
		"-6 route add default via fe80::1 dev eth1 proto ra metric 512")
	a := c.run("import", "--from", "kernel", "--manage", "link")
	a.expect(t, "import", 1,
		`(?s)\[uplink\.eth0\]\ninterface = "eth0"\ndefault-route = true\nmetric = 200\ndhcp = "ipv4"\n.*`+
			`\[uplink\.eth1\]\ninterface = "eth1"\ndefault-route = true\nmetric = 100\ndhcp = "ipv4"\naccept-ra = "ipv6"\n`,
		"not carried over: metric 512 of the IPv6 default route that eth1 learns: a spec has one for both families, and that of IPv4 is 100\n")
	c.spec(a.stdout)
	c.run("check").expect(t, "check", 0, ": fine\n$", "")
}

// TestImportSaysWhatOfTheKernelIsLost takes over links with addresses and routes that no spec can
// express completely.
func TestImportSaysWhatOfTheKernelIsLost(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	ip(ctx, t, l.Host, "link set dev lo up", "link set dev eth0 up",
		"address add 192.0.2.10 peer 192.0.2.1/32 dev eth0",
		"-6 address add 2001:db8:1::10/64 dev eth0 nodad", "-6 address add 2001:db8:1::11/64 dev eth0 nodad preferred_lft 0",
		"route add default dev eth0 table 1", "-6 route add default via 2001:db8:1::1 dev eth0 table 1",
		"route add 127.0.0.0/8 dev lo table 1",
		"rule add from 192.0.2.10 table 1", "-6 rule add from 2001:db8:1::10 table 1")
	a := c.run("import", "--from", "kernel", "--manage", "link")
	for _, want := range []string{
		"ip address add 192.0.2.10/32 dev eth0: without `peer 192.0.2.1`",
		"ip -6 address add 2001:db8:1::11/64 dev eth0: without `preferred_lft 0`",
		"ip route add 127.0.0.0/8 dev lo table 1 proto 3 scope link: it leads to the host itself",
	} {
		if a.code != 1 || !strings.Contains(a.stderr, "not carried over: "+want+"\n") {
			t.Errorf("exit status %d, and not %q:\n%s", a.code, want, a.stderr)
		}
	}
	if a := c.run("import", "--from", "kernel"); strings.Contains(a.stderr, "without") {
		t.Errorf("addresses stay with whoever has them, and it says\n%s", a.stderr)
	}
}

// TestImportOfWhatRenderMakes takes the spec of each of these hosts round: imported from the
// kernel, rendered for networkd, and imported from those files, it is the same State.
func TestImportOfWhatRenderMakes(t *testing.T) {
	for _, tt := range byHand {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require(t)
			ctx, l, c := bootHost(t, provider1, provider2)
			ip(ctx, t, l.Host, tt.lines...)
			state := func(what string, a answer) string {
				t.Helper()
				t.Logf("%s\n%s", what, a.stdout)
				if strings.Contains(a.stderr, "not carried over: ") && what == "kernel" || a.stdout == "" {
					t.Fatalf("%s: %s", what, a.stderr)
				}
				c.spec(a.stdout)
				check := c.run("check", "--state")
				if check.code != 0 {
					t.Fatal(check.stderr)
				}
				return check.stdout
			}
			want := state("kernel", c.run("import", "--from", "kernel", "--manage", "link"))
			out := t.TempDir()
			c.run("render", "--output", out, "--systemd-version", "257").expect(t, "render", 0, "written .*", "")
			files, err := filepath.Glob(filepath.Join(out, "run/systemd/network/*.network"))
			if err != nil || len(files) == 0 {
				t.Fatalf("no files: %v", err)
			}
			have := state("files", c.run("import", append([]string{"--from", "networkd", "--manage", "link"}, files...)...))
			if have != want {
				t.Errorf("of the files\n%s\nof the kernel\n%s", have, want)
			}
		})
	}
}

// TestImportOfWhatApplyDid applies each example, imports it from the kernel, and applies that:
// the kernel holds the same as before, or the import says what is missing.
func TestImportOfWhatApplyDid(t *testing.T) {
	require(t)
	for _, e := range examples {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			ctx, l, c := bootHost(t, e.lab.Providers...)
			text, err := os.ReadFile(filepath.Join(e.root(), "etc/uplink/uplink.toml"))
			if err != nil {
				t.Fatal(err)
			}
			c.spec(string(text))
			for _, a := range e.foreign.addresses {
				w := strings.Fields(a) // "eth0 inet 192.0.2.10/24 …"
				ip(ctx, t, l.Host, "link set dev "+w[0]+" up", "address add "+w[2]+" dev "+w[0]+" brd +")
			}
			c.ok("apply")
			if err := l.Host.WaitSettled(ctx); err != nil {
				t.Fatal(err)
			}
			before, err := observe(ctx, l.Host)
			if err != nil {
				t.Fatal(err)
			}
			a := c.run("import", "--from", "kernel", "--manage", "link")
			t.Logf("%s\n%s", a.stderr, a.stdout)
			c.spec(a.stdout)
			c.ok("apply")
			after, err := observe(ctx, l.Host)
			if err != nil {
				t.Fatal(err)
			}
			d := diff(before, after)
			said := strings.Count(a.stderr, "\n") - 1
			if d != "" && said == 0 {
				t.Errorf("in silence:\n%s", d)
			}
			if e.name != "reference" && d != "" {
				t.Errorf("%s", d)
			}
		})
	}
}
