package boot_test

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/boot"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

const watch = "uplink-watch.service"

const (
	// learnSpec is the recipe for a host that is told its addresses.
	learnSpec = `
[uplink.isp1]
interface     = "eth0"
dhcp          = "ipv4"
default-route = true

[uplink.rt2]
interface = "eth1"
dhcp      = "ipv4"
table     = 1
`
	// learnBothSpec is learnSpec with IPv6.
	learnBothSpec = `
[uplink.isp1]
interface     = "eth0"
dhcp          = "yes"
accept-ra     = "yes"
default-route = true

[uplink.rt2]
interface = "eth1"
dhcp      = "yes"
accept-ra = "yes"
table     = 1
`
)

// leases6 are the IPv6 addresses that the providers give, beside those of the recipe.
var leases6 = map[netip.Addr]string{
	netip.MustParseAddr("2001:db8:1::10"): "eth0",
	netip.MustParseAddr("2001:db8:2::10"): "eth1",
}

var recipeProvider = map[string]int{"eth0": 1, "eth1": 2}

// servers are the providers' DHCP servers for IPv4.
type servers []*lab.DHCPServer

// leaseTime is so long that no test sees its end; a client asks again after half of it.
const leaseTime = 10 * time.Minute

// serve has each provider give one address by DHCP, that of the recipe.
func (s *servers) serve(ctx context.Context, l *lab.Lab) error {
	for i, a := range recipeAddrs {
		server, err := l.StartDHCPServer(ctx, i+1, lab.Offer{First: a, Lease: leaseTime})
		if err != nil {
			return err
		}
		*s = append(*s, server)
	}
	return nil
}

// serve6 has each provider give one address by DHCPv6, and say so.
func (s *servers) serve6(ctx context.Context, l *lab.Lab) error {
	for a, card := range leases6 {
		provider := recipeProvider[card]
		if _, err := l.StartDHCPServer(ctx, provider, lab.Offer{First: a, Lease: leaseTime}); err != nil {
			return err
		}
		_, err := l.StartAdvertiser(ctx, provider, netip.Addr{}, lab.Advertisement{
			Lifetime: leaseTime, Managed: true,
			Prefixes: []lab.AdvertisedPrefix{{Prefix: netip.PrefixFrom(a, 64).Masked()}},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// online notes the rules that are there when network-online.target is reached, and for how many
// more milliseconds the rule of an address is missing.
const online = `[Unit]
Wants=network-online.target
After=network-online.target
[Service]
Type=oneshot
ExecStart=/bin/sh /etc/online
`

const onlineScript = `ip rule > /run/online
start=$(date +%s%3N)
for a in "$@"; do
	i=0
	while ! ip rule | grep -q "from $a lookup" && [ $i -lt 2000 ]; do i=$((i+1)); sleep 0.005; done
done
echo $(($(date +%s%3N) - start)) > /run/online-late
`

const onlineWanted = "/etc/systemd/system/multi-user.target.wants/online.service"

// onlineFiles has what notes when the rules are there.
func onlineFiles(spec string) map[string]boot.File {
	args := ""
	for _, a := range recipeAddrs {
		args += " " + a.String()
	}
	return map[string]boot.File{
		specFile:                             boot.Text(spec),
		"/etc/online":                        boot.Text(onlineScript),
		"/etc/systemd/system/online.service": boot.Text(strings.Replace(online, "/etc/online\n", "/etc/online"+args+"\n", 1)),
		onlineWanted:                         boot.Link("../online.service"),
	}
}

// TestDynamicNetworkd boots hosts whose cards get their addresses by DHCP, and does to networkd
// what administrators do to it.
func TestDynamicNetworkd(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite boot.Suite) {
		var s servers
		h := bootedWith(t, boot.Config{
			Root: boot.Root{Suite: suite}, Product: installed(t), Files: onlineFiles(learnSpec), Enable: []string{networkd},
		}, "running", s.serve)
		h.learned(recipeCards)
		h.onlineWithRules()
		h.leavesOthersAlone(suite)

		t.Run("watch", func(t *testing.T) { h.on(t).watchEnds() })
		t.Run("stopped", func(t *testing.T) { h.on(t).bothStopped() })
		t.Run("unit", func(t *testing.T) { h.on(t).watchUnit() })
		commands := []string{
			"systemctl daemon-reload", "networkctl reload", "touch /run/systemd/network/10-uplink-rt2.network && networkctl reload",
			"networkctl reconfigure eth0", "networkctl renew eth1", "systemctl restart systemd-networkd",
		}
		if suite.Systemd() < 248 {
			// One restart in a few with DHCPv4 kills it: an assertion in address_is_ready().
			commands = commands[:len(commands)-1]
		}
		for _, command := range commands {
			t.Run(command, func(t *testing.T) { h.on(t).survives(command) })
		}
		t.Run("another address", func(t *testing.T) { h.on(t).newLease(suite, s[1]) })
		if suite.Systemd() < 248 {
			t.Run("rules", func(t *testing.T) { h.on(t).refusesRules() })
			return
		}
		t.Run("static", func(t *testing.T) { h.on(t).becomesStatic(suite) })
		t.Run("dynamic", func(t *testing.T) { h.on(t).becomesDynamic(suite) })
	})
}

// refusesRules gives an uplink that learns a rule, because of which networkd 247 would fail its
// link, and checks that this is reported and nothing is changed.
func (h *host) refusesRules() {
	h.t.Helper()
	before := h.state()
	h.must("sh", "-c", "echo fwmark = 7 >> "+specFile)
	for _, command := range []string{"render", "reload"} {
		out, err := h.Command(h.ctx, "uplinkctl", command).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "uplink `rt2` has a rule beside those of its learned addresses: systemd-networkd before 248 ") {
			h.t.Errorf("uplinkctl %s: %v\n%s", command, err, out)
		}
	}
	h.becomes(before)
}

// TestDynamicBoth boots hosts whose cards get addresses of both families.
func TestDynamicBoth(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite boot.Suite) {
		h, _ := learnsBoth(t, suite, learnBothSpec)
		// One family's address is enough for networkd to be online.
		t.Logf("all rules of IPv4 are there %s ms after the network is online", strings.TrimSpace(h.must("cat", "/run/online-late")))
	})
}

// learnsBoth boots a host under networkd whose cards get addresses of both families, which it
// returns with their cards.
func learnsBoth(t *testing.T, suite boot.Suite, spec string) (h *host, cards map[netip.Addr]string) {
	t.Helper()
	var s servers
	h = bootedWith(t, boot.Config{
		Root: boot.Root{Suite: suite}, Product: installed(t), Files: onlineFiles(spec), Enable: []string{networkd},
	}, "running", func(ctx context.Context, l *lab.Lab) error {
		if err := s.serve(ctx, l); err != nil {
			return err
		}
		return s.serve6(ctx, l)
	})
	cards = maps.Clone(recipeCards)
	maps.Copy(cards, leases6)
	h.learned(cards)
	return h, cards
}

// learned waits for the addresses to be learned, and checks that everything is as the spec says.
func (h *host) learned(cards map[netip.Addr]string) {
	h.t.Helper()
	h.waitRules(cards)
	h.settled()
	h.worksAt(cards)
	h.clean()
	out, err := h.Run(h.ctx, "uplinkctl", "status")
	if err != nil || strings.Count(out, ": as the spec says") != 2 {
		h.t.Errorf("uplinkctl status: %v\n%s", err, out)
	}
	if state := h.show(watch, "ActiveState", "SubState", "NRestarts", "StatusText"); !strings.HasPrefix(state, "active running 0") {
		h.t.Errorf("%s is %q", watch, state)
	}
}

// show returns properties of a unit, with spaces between.
func (h *host) show(unit string, properties ...string) string {
	h.t.Helper()
	values := make([]string, len(properties))
	for i, p := range properties {
		values[i] = strings.TrimSpace(h.must("systemctl", "show", "--value", "--property="+p, unit))
	}
	return strings.Join(values, " ")
}

// begun is when networkd has started on what it was told, which newer ones do later.
const begun = time.Second

// soon is longer than anything that is waited for takes.
const soon = 15 * time.Second

// waitRules waits until there is a rule for each of the addresses, and none for others.
func (h *host) waitRules(cards map[netip.Addr]string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.ctx, soon)
	defer cancel()
	err := lab.Poll(ctx, func() (bool, string) {
		rules, err := h.lab.Host.Rules(h.ctx)
		if err != nil {
			return false, err.Error()
		}
		left, others := maps.Clone(cards), false
		for _, r := range rules {
			if r.From.IsSingleIP() {
				_, ok := cards[r.From.Addr()]
				others = others || !ok
				delete(left, r.From.Addr())
			}
		}
		return len(left) == 0 && !others, fmt.Sprint(rules)
	})
	if err != nil {
		h.t.Fatalf("%v\n%s\n%s", err, h.network(), h.journal())
	}
}

// onlineWithRules checks that the rules of learned addresses are there as soon as the network is
// online.
func (h *host) onlineWithRules() {
	h.t.Helper()
	rules := h.must("cat", "/run/online")
	for _, a := range recipeAddrs {
		if !strings.Contains(rules, "from "+a.String()+" lookup") {
			h.t.Errorf("when the network was online there was no rule from %v but\n%s%s ms later there were all", a, rules, h.must("cat", "/run/online-late"))
		}
	}
}

// state returns rules, routes and addresses, without how long they last; and without the
// metric of those that the kernel makes of an address, which networkd 252 forgets when it
// is started again.
func (h *host) state() string {
	h.t.Helper()
	text := lifetimes.ReplaceAllString(h.network(), "")
	return madeOfAddress.ReplaceAllString(text, "$1$2")
}

var (
	lifetimes     = regexp.MustCompile(` (valid|preferred)_lft \d+`)
	madeOfAddress = regexp.MustCompile(`(?m)^(address .*|route inet table 254 .* proto 2 .*) metric 1024(.*)$`)
)

// becomes waits until the state is as it was.
func (h *host) becomes(want string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.ctx, soon)
	defer cancel()
	err := lab.Poll(ctx, func() (bool, string) {
		got := h.state()
		return got == want, got
	})
	if err != nil {
		h.t.Errorf("%v\nwant\n%s", err, want)
	}
}

// survives checks that everything is as before after a command, and reports what flows have lost.
func (h *host) survives(command string) {
	h.t.Helper()
	before := h.state()
	flows := h.flows(recipeAddrs...)
	h.must("sh", "-c", command)
	time.Sleep(begun)
	h.becomes(before)
	h.measured(command, flows)
	h.learned(recipeCards)
	h.becomes(before)
}

// setsAddress restarts networkd if it has a lease for the second card and will never set its
// address. If 252 loses an address to a NAK and gets the next lease before the kernel has
// reported the removal, it removes the address twice. The second removal is never reported, so
// networkd considers the address as "removing" for good, and later leases of it wait for that.
func (h *host) setsAddress(a netip.Addr) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.ctx, 5*time.Second)
	defer cancel()
	if h.lab.Host.WaitAddresses(ctx, a) == nil {
		return
	}
	acquired := h.journal("--unit="+networkd, "--grep=eth1: DHCPv4 address .* acquired", "--lines=1", "--quiet")
	if !strings.Contains(acquired, a.String()+"/") {
		h.t.Errorf("networkd has no lease for %v: %s", a, acquired)
		return
	}
	h.t.Logf("networkd has a lease and not set its address: %s", acquired)
	h.must("systemctl", "restart", networkd)
}

// newLease makes the second provider give another address when the lease runs out, and checks the
// rules for that.
func (h *host) newLease(suite boot.Suite, server *lab.DHCPServer) {
	h.t.Helper()
	before := h.state()
	first, second := recipeAddrs[1], netip.MustParseAddr("198.51.100.20")
	offer := func(a netip.Addr, lease time.Duration) {
		if err := server.Change(h.ctx, lab.Offer{First: a, Lease: lease}); err != nil {
			h.t.Fatal(err)
		}
	}
	const short = 3 * time.Second
	flows := h.flows(recipeAddrs[0])
	if suite != boot.Sid {
		offer(first, short)
		h.must("networkctl", "reconfigure", "eth1")
		h.waitRules(recipeCards)
	}
	// The server does not answer a client that wants to keep the first.
	offer(second, leaseTime)
	if suite == boot.Sid {
		// It takes no lease for less than 30 seconds.
		h.must("networkctl", "reconfigure", "eth1")
	}
	start := time.Now()
	cards := map[netip.Addr]string{recipeAddrs[0]: "eth0", second: "eth1"}
	h.waitRules(cards)
	h.t.Logf("%v has its rules after %v", second, time.Since(start))
	h.learned(cards)
	if now := h.state(); strings.Contains(now, first.String()+"/") || strings.Contains(now, "src "+first.String()+" ") {
		h.t.Errorf("there is still something of %v:\n%s", first, now)
	}
	h.unbroken("the other card gets another address", flows)
	offer(first, leaseTime)
	h.must("networkctl", "reconfigure", "eth1")
	if suite == boot.Bookworm {
		h.setsAddress(first)
	}
	h.waitRules(recipeCards)
	h.learned(recipeCards)
	h.becomes(before)
}

// watchEnds checks that what is in effect stays when no watch runs.
func (h *host) watchEnds() {
	h.t.Helper()
	before := h.state()
	flows := h.flows(recipeAddrs...)
	pid := h.show(watch, "MainPID")
	h.must("sh", "-c", "kill -KILL "+pid)
	h.waitActive(watch)
	if now := h.show(watch, "MainPID", "NRestarts"); now == pid+" 1" || !strings.HasSuffix(now, " 1") {
		h.t.Errorf("PID was %s; PID and restarts are now %s", pid, now)
	}
	h.must("systemctl", "restart", watch)
	h.must("systemctl", "stop", watch)
	h.unbroken("the watch ends", flows)
	if now := h.state(); now != before {
		h.t.Errorf("before\n%s\nwithout a watch\n%s", before, now)
	}
	h.must("systemctl", "start", watch)
	h.learned(recipeCards)
	h.becomes(before)
}

// waitActive waits until a unit that is started anew is up.
func (h *host) waitActive(unit string) {
	h.t.Helper()
	err := lab.Poll(h.ctx, func() (bool, string) {
		state := h.show(unit, "ActiveState", "NRestarts")
		return state == "active 1", state
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// bothStopped checks that nothing of the oneshot's is left, or comes back, until it is started
// again.
func (h *host) bothStopped() {
	h.t.Helper()
	before := h.state()
	for _, units := range [][]string{{"uplink-apply.service", watch}, {watch, "uplink-apply.service"}, {"uplink-apply.service"}} {
		for _, unit := range units {
			h.must("systemctl", "stop", unit)
		}
		// A running watch would look at this.
		h.must("networkctl", "renew", "eth1")
		h.must("ip", "address", "add", "198.51.100.99/24", "dev", "eth1")
		h.must("ip", "address", "del", "198.51.100.99/24", "dev", "eth1")
		time.Sleep(300 * time.Millisecond)
		if now := h.state(); strings.Contains(now, "proto 118") {
			h.t.Errorf("stopped %v; there is\n%s", units, now)
		}
		for _, unit := range units {
			h.must("systemctl", "start", unit)
		}
		h.becomes(before)
	}
}

// watchUnit looks at the unit as systemd does.
func (h *host) watchUnit() {
	h.t.Helper()
	if got := h.show(watch, "Type", "WatchdogUSec", "NotifyAccess"); got != "notify 10min main" {
		h.t.Errorf("%s", got)
	}
	out, err := h.Command(h.ctx, "systemd-analyze", "verify", "--man=no", watch).CombinedOutput()
	if err != nil || strings.Contains(string(out), "uplink") {
		h.t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	security := h.must("systemd-analyze", "security", "--no-pager", watch)
	h.t.Log(security[strings.LastIndex(strings.TrimSpace(security), "\n")+1:])
}
