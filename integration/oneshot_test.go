package integration

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// expect checks an exit status and texts, each a regular expression or "" for nothing.
func (a answer) expect(t *testing.T, what string, code int, stdout, stderr string) {
	t.Helper()
	match := func(text, want string) bool {
		if want == "" {
			return text == ""
		}
		return regexp.MustCompile("(?s)" + want).MatchString(text)
	}
	if a.code != code || !match(a.stdout, stdout) || !match(a.stderr, stderr) {
		t.Errorf("%s: exit status %d, want %d\nstandard output, want %q:\n%s\nstandard error, want %q:\n%s", what, a.code, code, stdout, a.stdout, stderr, a.stderr)
	}
}

// TestOneshot goes through the commands on one host, with exit codes and texts.
func TestOneshot(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	empty := dump(ctx, t, l.Host)

	c.run("apply").expect(t, "no spec", 1, "", "^uplinkctl: ")
	c.spec("[uplink.a]\ninterface = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\ngateway = \"192.0.2.1\"\n")
	for command, said := range map[string]string{"apply": "; nothing was changed", "diff": "", "verify": "; what is in effect is not known, and cannot be verified"} {
		c.run(command).expect(t, "a bad spec, "+command, 1, "", `uplink\.toml:4:1: .*did you mean .gateways.*1 error`+said+"\n$")
	}
	c.run("status").expect(t, "a bad spec, status", 1, "^rules of the host.*from all lookup main", `uplink\.toml:4:1: .*1 error; what is in effect is not known, and only the rules are shown\n$`)
	c.run("explain", "-", "127.0.0.1").expect(t, "a bad spec, explain", 1, "is for this host", `uplink\.toml:4:1: .*1 error; what is in effect is not known, and what follows is what the host has\n$`)
	for _, args := range [][]string{{"apply", "--nonsense"}, {"apply", "x"}, {"diff", "x"}, {"down", "x"}, {"verify", "x"}, {"apply", "--wait", "-1"}} {
		c.run(args[0], args[1:]...).expect(t, strings.Join(args, " "), 2, "", "Usage: uplinkctl "+args[0])
	}
	if now := dump(ctx, t, l.Host); now != empty {
		t.Errorf("something was changed:\n%s", now)
	}

	c.spec(twoUplinks)
	dry := c.run("apply", "--dry-run")
	dry.expect(t, "dry run", 0, "^link set dev eth0 up\nlink set dev eth1 up\naddress add 192.0.2.10/24 dev eth0 .*\nrule add priority 10000 from 192.0.2.10 lookup 10000 protocol 118\n", "")
	c.run("diff").expect(t, "diff from nothing", 1, "^"+regexp.QuoteMeta(dry.stdout)+"$", "")
	c.run("down").expect(t, "down with nothing there", 0, "", "")
	if now := dump(ctx, t, l.Host); now != empty {
		t.Errorf("a dry run, diff or down changed something:\n%s", now)
	}

	c.run("apply").expect(t, "apply", 0, "", "")
	c.run("apply").expect(t, "apply again", 0, "", "")
	c.run("apply", "--if-needed").expect(t, "apply where nobody manages the links", 0, "", "")
	c.run("apply", "--dry-run").expect(t, "dry run with nothing to do", 0, "", "")
	c.run("diff").expect(t, "diff with nothing to do", 0, "", "")
	if names, err := os.ReadFile(filepath.Join(c.root, "run/uplink/rt_tables.conf")); err != nil || !strings.Contains(string(names), "1\trt2") && !strings.Contains(string(names), "1 rt2") {
		t.Errorf("the table's name: %v: %s", err, names)
	}
	if err := l.Host.WaitSettled(ctx); err != nil {
		t.Fatal(err)
	}
	addrs := []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("198.51.100.10"), netip.MustParseAddr("2001:db8:1::10"), netip.MustParseAddr("2001:db8:2::10")}
	answers, err := l.TCPEcho(ctx, answerTime, addrs...)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range answers {
		if want := []string{"eth0", "eth1"}[i%2]; !a.Answered || a.Card != want {
			t.Errorf("%s; want an answer by %s", a, want)
		}
	}
	c.run("verify").expect(t, "verify", 0, "^ok .* rt2 .*from 198.51.100.10 to 8.8.8.8: via 198.51.100.1 dev eth1 table 1", "")

	// A spec with an error does not prevent the diagnosis of the one in effect.
	c.spec("[uplink.rt2]\ninterface =\n")
	said := `uplink\.toml:2:\d+: .*\nuplinkctl: 1 error; what follows is of the spec in effect since 20[^\n]*\n$`
	c.run("verify").expect(t, "verify with a bad spec", 1, "^ok .* rt2 .*from 198.51.100.10 to 8.8.8.8: via 198.51.100.1 dev eth1 table 1", said)
	c.run("status").expect(t, "status with a bad spec", 1, `^isp1: as the spec says.*\nrt2: as the spec says.*addresses  198.51.100.10/24, 2001:db8:2::10/64\n  gateways   198.51.100.1 `, said)
	c.run("explain", "rt2", "8.8.8.8").expect(t, "explain with a bad spec", 1, `from 198.51.100.10 lookup rt2 .*/etc/uplink/uplink.toml:\d+\n.*leaves by eth1 via 198.51.100.1, table rt2.*the kernel says the same\n`, said)
	for _, args := range [][]string{{"verify"}, {"status"}, {"explain", "rt2", "8.8.8.8"}} {
		c.run(args[0], append(args[1:], "--json")...).expect(t, args[0]+" as JSON with a bad spec", 1, `"ok": false,.*"spec-error": "/etc/uplink/uplink.toml:2:`, said)
	}
	c.spec(twoUplinks)

	// Somebody else's route is in the way: nothing is changed, and the error says whose it is.
	ip(ctx, t, l.Host, "route add default via 192.0.2.9 dev eth0 table 3 proto static")
	before := dump(ctx, t, l.Host)
	c.spec(strings.Replace(twoUplinks, "= 1\n", "= 3\n", 1))
	c.run("apply").expect(t, "in the way", 1, "", "^uplinkctl: ip route add default via 198.51.100.1 dev eth1 table rt2 .*: a route of an administrator or systemd-networkd .protocol static. is in the way .*via 192.0.2.9")
	c.run("diff").expect(t, "in the way of a diff", 1, "", "is in the way")
	if now := dump(ctx, t, l.Host); now != before {
		t.Errorf("something was changed:\n%s", now)
	}

	// Refused by the kernel: everything is as before, and the error has the kernel's own words.
	c.spec(twoUplinks + "\n[[uplink.rt2.route]]\nto = \"203.0.113.0/24\"\nvia = \"198.51.100.1\"\nscope = \"global\"\ntable = 77\n[[uplink.isp1.route]]\nto = \"10.0.0.0/8\"\ntype = \"local\"\ntable = 78\n[[uplink.isp1.route]]\nto = \"2001:db8:9::/48\"\nvia = \"2001:db8:1::2\"\nsrc = \"2001:db8:2::10\"\ntable = 79\n")
	if a := c.run("apply"); a.code != 0 && dump(ctx, t, l.Host) != before {
		t.Errorf("refused (%s), and something was changed:\n%s", a.stderr, dump(ctx, t, l.Host))
	}
	c.spec(twoUplinks)
	c.ok("apply")

	// A link that is not there.
	c.spec(twoUplinks + "\n[uplink.late]\ninterface = \"late0\"\naddresses = [\"203.0.113.1/24\"]\n")
	c.run("apply").expect(t, "a late link", 0, "", "^uplinkctl: uplink late: there is no link with name late0: it waits\n$")
	c.run("diff").expect(t, "diff with a late link", 0, "", "^uplinkctl: uplink late: ")
	c.run("verify").expect(t, "verify with a late link", 0, "\nwaits  uplink late: there is no link with name late0\n", "")

	c.run("down", "--dry-run").expect(t, "dry run of down", 0, "^rule del .*\naddress del 192.0.2.10/24 dev eth0\n$", "")
	c.run("down").expect(t, "down", 0, "", "")
	c.run("down").expect(t, "down again", 0, "", "")
	c.spec(twoUplinks)
	c.run("diff").expect(t, "diff after down", 1, "^address add ", "")
}

// TestVerifyFindsWhatIsWrong breaks a right state in several ways.
func TestVerifyFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	c.spec(twoUplinks)
	c.ok("apply")
	for _, w := range []struct{ what, line, undo, stdout string }{
		{"a foreign rule comes first", "rule add priority 5 from 198.51.100.0/24 lookup 10000 protocol boot", "rule del priority 5", "WRONG  rt2 .*from 198.51.100.10 to 8.8.8.8: via 192.0.2.1 dev eth0 table 10000 .wanted via 198.51.100.1 dev eth1 table 1.*note   a rule of boot scripts .protocol boot. is asked before the uplinks': priority 5 from 198.51.100.0/24 lookup 10000\n"},
		{"a foreign rule of priority 0", "rule add priority 0 from 198.51.100.0/24 blackhole protocol static", "rule del priority 0 from 198.51.100.0/24 blackhole", "WRONG .*note   a rule of an administrator or systemd-networkd .protocol static. is asked before the uplinks': priority 0 from 198.51.100.0/24 blackhole\n"},
		{"a rule that drops", "rule add priority 5 from 198.51.100.10 blackhole", "rule del priority 5", "WRONG  rt2 .*from 198.51.100.10 to 8.8.8.8: blackhole .wanted via 198.51.100.1 dev eth1 table 1"},
		{"a rule that prohibits", "-6 rule add priority 5 from 2001:db8:2::10 prohibit", "-6 rule del priority 5", "WRONG  rt2 .*from 2001:db8:2::10 to 2001:4860:4860::8888: prohibit .wanted via 2001:db8:2::1 dev eth1 table 1"},
		{"a route is gone", "route del default table 1", "", "WRONG  rt2 .*from 198.51.100.10 to 8.8.8.8: "},
		{"a more specific route", "route add 8.8.0.0/16 via 192.0.2.1 dev eth0 table 1", "route del 8.8.0.0/16 table 1", "WRONG  rt2 .*from 198.51.100.10 to 8.8.8.8: via 192.0.2.1 dev eth0 table 1"},
		{"a route elsewhere", "-6 route replace default via 2001:db8:2::9 dev eth1 table 1 metric 1024 proto 118", "", "WRONG  rt2 .*from 2001:db8:2::10 to 2001:4860:4860::8888: via 2001:db8:2::9 dev eth1 table 1"},
		{"a rule is gone", "rule del priority 10001 from 198.51.100.10 lookup 1", "", "WRONG  rt2 .*from 198.51.100.10 to 8.8.8.8: "},
	} {
		ip(ctx, t, l.Host, w.line)
		c.run("verify").expect(t, w.what, 1, w.stdout, "^uplinkctl: packets would leave the wrong way: see `uplinkctl explain SRC DST`\n$")
		if w.undo != "" {
			ip(ctx, t, l.Host, w.undo)
		}
		c.ok("apply") // repairs what is ours
		c.run("verify").expect(t, "after "+w.what, 0, "ok ", "")
	}
}

// TestVerifyOfAnAddressThatItsOwnerLost removes an address from a link of which only the policy
// is the uplink's: apply and reload wait for it, verify and status say that it is missing.
func TestVerifyOfAnAddressThatItsOwnerLost(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	ip(ctx, t, l.Host, "link set eth1 up", "address add 198.51.100.10/24 dev eth1", "address add 2001:db8:2::10/64 dev eth1")
	c.spec(twoUplinks + "manage = \"policy\"\n")
	c.ok("apply")
	c.run("verify").expect(t, "verify", 0, "^ok ", "^$")
	ip(ctx, t, l.Host, "address del 198.51.100.10/24 dev eth1")
	const says = "eth1 does not have 198.51.100.10: who has the link .netplan, NetworkManager, ifupdown …. has to bring it"
	c.run("verify").expect(t, "verify of a lost address", 1, "\nWRONG  rt2   "+says+"\n", "^uplinkctl: addresses of uplinks are missing: see `uplinkctl status`\n$")
	c.run("verify", "--json").expect(t, "verify --json of a lost address", 1, `"ok": false,.*"uplink rt2: `+says, "^uplinkctl: addresses of uplinks are missing")
	c.run("status").expect(t, "status of a lost address", 1, "rt2: waits for its address .*\n  waits +eth1 does not have the address 198.51.100.10\n", "")
	const waits = "^uplinkctl: uplink rt2: eth1 does not have the address 198.51.100.10: it waits\n$"
	c.run("apply").expect(t, "apply", 0, "", waits)
	c.run("reload", "--wait", "1").expect(t, "reload", 0, "", waits)
	ip(ctx, t, l.Host, "link set eth1 down")
	c.run("verify").expect(t, "verify of a link that is down", 0, "\nwaits  uplink rt2: eth1 is down\n", "^$")

	// Nothing waits for one more address in the same subnet.
	ip(ctx, t, l.Host, "link set eth1 up", "address add 198.51.100.10/24 dev eth1", "address add 2001:db8:2::10/64 dev eth1")
	c.spec(strings.ReplaceAll(twoUplinks, `"198.51.100.10/24"`, `"198.51.100.10/24", "198.51.100.11/24"`) + "manage = \"policy\"\n")
	c.run("reload", "--wait", "1").expect(t, "reload", 0, "", "^$")
	c.run("verify").expect(t, "verify of a second address", 1, "\nWRONG  rt2   eth1 does not have 198.51.100.11: who has the link ", "^uplinkctl: addresses of uplinks are missing")
	c.run("status").expect(t, "status of a second address", 1, "rt2: waits for its address .*\n  waits +eth1 does not have 198.51.100.11\n", "")
	ip(ctx, t, l.Host, "address add 198.51.100.11/24 dev eth1")
	c.run("verify").expect(t, "verify of both", 0, "^ok ", "^$")
	c.run("status").expect(t, "status of both", 0, "rt2: as the spec says ", "")
}

// TestVerifyNamesHazards sets up a host that defeats a correct state.
func TestVerifyNamesHazards(t *testing.T) {
	t.Parallel()
	require(t)
	shared := lab.Provider{Gateways: prefixes("192.0.2.1/24"), Cards: []lab.Card{{Name: "eth0"}, {Name: "eth1"}}}
	ctx, l, c := bootHost(t, shared)
	c.spec(`
[uplink.a]
interface = "eth0"
addresses = ["192.0.2.10/24"]
gateways  = ["192.0.2.1"]

[uplink.b]
interface = "eth1"
addresses = ["192.0.2.20/24"]
gateways  = ["192.0.2.77"]
`)
	c.ok("apply")
	for key, value := range map[string]string{"net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.eth0.rp_filter": "1", "net.ipv4.conf.eth1.rp_filter": "2"} {
		if err := l.Host.Sysctl(key, value); err != nil {
			t.Fatal(err)
		}
	}
	// Nobody has 192.0.2.77.
	_, _ = l.Host.Run(ctx, "ip", "neigh", "replace", "192.0.2.77", "dev", "eth1", "nud", "failed")
	a := c.run("verify")
	a.expect(t, "hazards", 0, `note   eth0: rp_filter is strict: .*set net\.ipv4\.conf\.eth0\.rp_filter=2`, "")
	for _, want := range []string{
		"note   eth0: 192.0.2.0/24 is on eth0 and eth1: both answer ARP for either's addresses; set net.ipv4.conf.eth0.arp_ignore=1 and arp_announce=2\n",
		"note   eth1: 192.0.2.0/24 is on eth0 and eth1: both answer ARP for either's addresses; set net.ipv4.conf.eth1.arp_ignore=1 and arp_announce=2\n",
		"note   eth1: the gateway 192.0.2.77 does not answer: check its address, and the network there\n",
	} {
		if !strings.Contains(a.stdout, want) {
			t.Errorf("no %q in\n%s", want, a.stdout)
		}
	}
	if strings.Contains(a.stdout, "eth1: rp_filter") {
		t.Errorf("rp_filter=2 is no hazard:\n%s", a.stdout)
	}
	for key, value := range map[string]string{"net.ipv4.conf.all.arp_ignore": "1", "net.ipv4.conf.eth0.rp_filter": "0"} {
		if err := l.Host.Sysctl(key, value); err != nil {
			t.Fatal(err)
		}
	}
	if a := c.run("verify"); strings.Contains(a.stdout, "ARP") || strings.Contains(a.stdout, "rp_filter") {
		t.Errorf("remedied, and still said:\n%s", a.stdout)
	}
	// What holds for all links counts where it is higher.
	if err := l.Host.Sysctl("net.ipv4.conf.all.rp_filter", "1"); err != nil {
		t.Fatal(err)
	}
	if a := c.run("verify"); !strings.Contains(a.stdout, "note   eth0: rp_filter is strict") || strings.Contains(a.stdout, "eth1: rp_filter") {
		t.Errorf("rp_filter for all links:\n%s", a.stdout)
	}
}

// TestVerifyJSON reads the stable form strictly: an unknown member is an error.
func TestVerifyJSON(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	c.spec(twoUplinks + "\n[uplink.late]\ninterface = \"late0\"\naddresses = [\"203.0.113.1/24\"]\nfwmark = 5\n")
	c.run("apply").expect(t, "apply", 0, "", "late0")
	ip(ctx, t, l.Host, "rule add priority 5 from 198.51.100.10 blackhole")
	a := c.run("verify", "--json")
	a.expect(t, "verify --json", 1, "^{", "^uplinkctl: packets would leave the wrong way: see `uplinkctl explain SRC DST`\n$")
	type way struct {
		Type, Dev, Via, Src string
		Table               uint32
	}
	var v struct {
		Version int
		OK      bool
		Checks  []struct {
			Uplink, From, To, Error string
			OK                      bool
			FwMark                  uint32
			Want, Have              *way
		}
		Missing, Waiting, Hazards, Dead []string
	}
	dec := json.NewDecoder(strings.NewReader(a.stdout))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v:\n%s", err, a.stdout)
	}
	if v.Version != 1 || v.OK || len(v.Missing) != 0 || len(v.Waiting) != 1 || len(v.Hazards) != 1 || len(v.Checks) == 0 {
		t.Errorf("%+v", v)
	}
	right := 0
	for _, c := range v.Checks {
		switch {
		case c.Want == nil || c.Want.Type != "unicast" || c.To == "":
			t.Errorf("%+v", c)
		case c.From == "198.51.100.10":
			if c.OK || c.Have == nil || c.Have.Type != "blackhole" {
				t.Errorf("%+v have %+v", c, c.Have)
			}
		default:
			right++
			if !c.OK || c.Have == nil || c.Have.Dev != c.Want.Dev || c.Have.Via != c.Want.Via || c.Have.Table != c.Want.Table {
				t.Errorf("%+v have %+v", c, c.Have)
			}
		}
	}
	if right < 6 {
		t.Errorf("only %d right ways in %s", right, a.stdout)
	}
}

// TestApplyWhereNetworkdManages has real networkd on the links: apply says so and stops,
// --if-needed leaves them to it, --force applies all the same. Verify works in either case.
func TestApplyWhereNetworkdManages(t *testing.T) {
	t.Parallel()
	require(t, lab.NeedNetworkd)
	ctx, h := boot(t, find(t, "recipe"))
	h.startNetworkd(ctx, t, h.tree(ctx, t))
	inside := func(command string, args ...string) answer {
		t.Helper()
		dir, err := built()
		if err != nil {
			t.Fatal(err)
		}
		var out, errs strings.Builder
		cmd := h.networkd.Command(ctx, filepath.Join(dir, "uplinkctl"), append([]string{command}, args...)...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		_ = cmd.Run()
		return answer{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
	}
	before := dump(ctx, t, h.Host)
	inside("apply").expect(t, "apply", 1, "", "^uplinkctl: systemd-networkd manages eth0, eth1: .*--force")
	inside("apply", "--dry-run").expect(t, "dry run", 1, "", "^uplinkctl: systemd-networkd manages eth0, eth1: .*--force")
	inside("apply", "--if-needed").expect(t, "if needed", 0, "", "")
	inside("verify").expect(t, "verify", 0, "^ok ", "")
	if after := dump(ctx, t, h.Host); after != before {
		t.Errorf("something was changed:\n%s", after)
	}
	if a := inside("apply", "--force"); a.code == 0 {
		inside("diff").expect(t, "diff", 0, "", "")
		inside("down").expect(t, "down", 0, "", "")
		if after := dump(ctx, t, h.Host); after != before {
			t.Errorf("after force and down: before\n%s\nafter\n%s", before, after)
		}
	} else {
		// networkd's own routes stand where ours would.
		a.expect(t, "force", 1, "", "is in the way")
		if after := dump(ctx, t, h.Host); after != before {
			t.Errorf("refused, and something was changed:\n%s", after)
		}
	}
	if err := h.networkd.Stop(); err != nil {
		t.Fatal(err)
	}
}
