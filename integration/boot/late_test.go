package boot_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/boot"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

const (
	// policySpec is the recipe for a host whose links are configured by somebody else.
	policySpec = `
[uplink.isp1]
interface = "eth0"
manage    = "policy"
addresses = ["192.0.2.10/24"]
gateways  = ["192.0.2.1"]

[uplink.rt2]
interface = "eth1"
manage    = "policy"
table     = 1
addresses = ["198.51.100.10/24"]
gateways  = ["198.51.100.1"]
`

	// networkdConf has our settings of networkd itself.
	networkdConf = "/run/systemd/networkd.conf.d/10-uplink.conf"

	// appliedFile exists while something of the oneshot's is there.
	appliedFile = "/run/uplink/applied"
)

// servedByNetworkd checks that everything is networkd's, and nothing the oneshot's.
func (h *host) servedByNetworkd() {
	h.t.Helper()
	h.settled()
	h.works()
	h.clean()
	h.allNetworkds()
}

// allNetworkds checks that nothing is the oneshot's.
func (h *host) allNetworkds() {
	h.t.Helper()
	if out := h.network(); strings.Contains(out, "proto 118") {
		h.t.Errorf("something is the oneshot's:\n%s", out)
	}
	if out, err := h.Run(h.ctx, "ls", appliedFile); err == nil {
		h.t.Errorf("there is %s", out)
	}
	for _, card := range []string{"eth0", "eth1"} {
		h.configured(card)
	}
	if conf, err := h.Run(h.ctx, "cat", networkdConf); err == nil && strings.Contains(conf, "ManageForeign") {
		h.t.Errorf("networkd is told to leave others' alone:\n%s", conf)
	}
}

// leavesOthersAlone checks that networkd is told to leave alone what is not its own.
func (h *host) leavesOthersAlone(suite boot.Suite) {
	h.t.Helper()
	want := []string{"\nManageForeignRoutes=no\n"}
	if suite.Systemd() >= 249 { // 247 does not have that one
		want = append(want, "\nManageForeignRoutingPolicyRules=no\n")
	}
	conf := h.must("cat", networkdConf)
	for _, w := range want {
		if !strings.Contains(conf, w) {
			h.t.Errorf("no %q in\n%s", w, conf)
		}
	}
}

// linkState returns what networkd says of a card.
func (h *host) linkState(card string) string {
	h.t.Helper()
	index := strings.TrimSpace(h.must("cat", "/sys/class/net/"+card+"/ifindex"))
	return h.must("cat", "/run/systemd/netif/links/"+index)
}

// TestNetplanEnablesNetworkd has a host on which only another generator, running beside ours,
// enables networkd.
func TestNetplanEnablesNetworkd(t *testing.T) {
	t.Parallel()
	const (
		// 252 would wait 12 seconds for a router that advertises itself.
		eth0 = "network:\n  version: 2\n  renderer: networkd\n  ethernets:\n    eth0:\n      accept-ra: false\n      addresses: [192.0.2.10/24]\n      routes: [{to: default, via: 192.0.2.1}]\n"
		eth1 = "    eth1:\n      accept-ra: false\n      addresses: [198.51.100.10/24]\n"
		// The second card is ours alone.
		mixed = `
[uplink.isp1]
interface = "eth0"
manage    = "policy"
addresses = ["192.0.2.10/24"]
gateways  = ["192.0.2.1"]

[uplink.rt2]
interface = "eth1"
table     = 1
addresses = ["198.51.100.10/24"]
gateways  = ["198.51.100.1"]
`
	)
	for _, test := range []struct {
		name, plan, spec string
		files            []string // that eth0 and eth1 have, besides netplan's
	}{
		{"all of it", eth0 + eth1, policySpec, []string{"10-netplan-eth0.network.d/", "10-netplan-eth1.network.d/"}},
		{"one card", eth0, mixed, []string{"10-netplan-eth0.network.d/", "10-uplink-rt2.network"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			everyFat(t, func(t *testing.T, suite boot.Suite) {
				h := booted(t, boot.Config{
					Root: fat(suite), Product: installed(t),
					Files: only(map[string]boot.File{
						"/etc/netplan/50-lab.yaml": {Data: test.plan, Mode: 0o600},
						// Since 1.2 it tells udev, which a container does not have, as the last
						// thing that it does.
						"/etc/systemd/system/netplan-configure.service.d/container.conf": boot.Text("[Service]\nSuccessExitStatus=1\n"),
						specFile: boot.Text(test.spec),
					}, netplan),
				}, "running")
				if out, err := h.Run(h.ctx, "sh", "-c", "find /etc/systemd/system -name 'systemd-networkd*'"); err != nil || out != "" {
					t.Errorf("networkd is enabled: %s %v", out, err)
				}
				h.servedByNetworkd()
				found := h.find("/run/systemd/network")
				for _, want := range test.files {
					if !strings.Contains(found, want) {
						t.Errorf("no %s among\n%s", want, found)
					}
				}
				first := h.network()
				h.must("systemctl", "daemon-reload")
				if after := h.network(); after != first {
					t.Errorf("before\n%s\nafter\n%s", first, after)
				}
				if err := h.Reboot(h.ctx); err != nil {
					t.Fatal(err)
				}
				h.wait("running")
				h.servedByNetworkd()
				if second := h.network(); second != first {
					t.Errorf("the first boot made\n%s\nthe second\n%s", first, second)
				}
			})
		})
	}
}

// dualRecipe is the recipe with IPv6.
const dualRecipe = `
[uplink.isp1]
interface     = "eth0"
addresses     = ["192.0.2.10/24", "2001:db8:1::10/64"]
gateways      = ["192.0.2.1", "2001:db8:1::1"]
default-route = true

[uplink.rt2]
interface = "eth1"
table     = 1
addresses = ["198.51.100.10/24", "2001:db8:2::10/64"]
gateways  = ["198.51.100.1", "2001:db8:2::1"]
`

// TestNetworkdStartedByHand boots without networkd and starts it later: it takes the
// links over, and no packet is lost.
func TestNetworkdStartedByHand(t *testing.T) {
	t.Parallel()
	// Its rules stand in a file of their own, and routes without a link among them.
	const closed = dualRecipe + "fallthrough = \"unreachable\"\n"
	six := []netip.Addr{netip.MustParseAddr("2001:db8:1::10"), netip.MustParseAddr("2001:db8:2::10")}
	for _, test := range []struct {
		name    string
		files   map[string]boot.File
		sources []netip.Addr
	}{
		{"IPv4", nil, recipeAddrs},
		{"IPv6 too", map[string]boot.File{specFile: boot.Text(dualRecipe)}, slices.Concat(recipeAddrs, six)},
		{"fails closed", map[string]boot.File{specFile: boot.Text(closed)}, slices.Concat(recipeAddrs, six)},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachSuite(t, func(t *testing.T, suite boot.Suite) {
				h := booted(t, boot.Config{Root: boot.Root{Suite: suite}, Product: installed(t), Tree: recipe, Files: test.files}, "running")
				h.servedByNetlink()

				flows := h.flows(test.sources...)
				start := time.Now()
				h.must("systemctl", "start", networkd)
				h.leavesOthersAlone(suite)
				h.takenOver()
				t.Logf("networkd has it all after %v", time.Since(start))
				h.unbroken("networkd is started", flows)
				h.settled()
				h.works()
				h.clean()
				before := h.network()

				flows = h.flows(test.sources...)
				h.must("systemctl", "restart", networkd)
				h.servedByNetworkd()
				// Since 257 it removes the rules of the other links while it configures the first
				// one, and adds them when it comes to those, which may cost a packet.
				h.measured("networkd is restarted", flows)
				if after := h.network(); after != before {
					t.Errorf("before networkd's restart\n%s\nafter\n%s", before, after)
				}
			})
		})
	}
}

// takenOver waits until nothing of the oneshot's is left.
func (h *host) takenOver() {
	h.t.Helper()
	err := lab.Poll(h.ctx, func() (bool, string) {
		out := h.network()
		state, _ := h.Run(h.ctx, "systemctl", "is-active", "uplink-reload.service")
		return !strings.Contains(out, "proto 118") && strings.TrimSpace(state) == "inactive", state + out
	})
	if err != nil {
		h.t.Fatalf("%v\n%s", err, h.journal())
	}
}

// TestNetworkdHasOtherLinks has networkd run for a card that is not ours, from the boot on
// or later: the oneshot serves ours, and stays undisturbed.
func TestNetworkdHasOtherLinks(t *testing.T) {
	t.Parallel()
	// The third card, with the other end of its cable.
	third := map[string]boot.File{
		"/etc/systemd/network/30-eth2.netdev":  boot.Text("[NetDev]\nName=eth2\nKind=veth\n[Peer]\nName=cable\n"),
		"/etc/systemd/network/30-eth2.network": boot.Text("[Match]\nName=eth2 cable\n[Network]\nAddress=10.9.9.1/24\nLinkLocalAddressing=no\n[RoutingPolicyRule]\nFrom=10.9.9.1\nTable=99\nPriority=99\n"),
	}
	addressed := map[string]boot.File{
		specFile:                                boot.Text(policySpec),
		"/etc/systemd/system/addresses.service": boot.Text("[Unit]\nBefore=network.target\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh /etc/addresses\n"),
		"/etc/systemd/system/multi-user.target.wants/addresses.service": boot.Link("../addresses.service"),
		"/etc/addresses": boot.Text(byCommands),
	}
	for _, test := range []struct {
		name   string
		files  map[string]boot.File
		enable []string
	}{
		{"no file for ours", addressed, []string{networkd}},
		{"unmanaged", map[string]boot.File{
			"/etc/systemd/network/05-ours.network": boot.Text("[Match]\nName=eth0 eth1\n[Link]\nUnmanaged=yes\n"),
		}, []string{networkd}},
		{"started by hand", addressed, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachSuite(t, func(t *testing.T, suite boot.Suite) {
				c := boot.Config{
					Root: boot.Root{Suite: suite}, Product: installed(t), Tree: recipe, Enable: test.enable,
					Files: maps.Clone(third),
				}
				maps.Copy(c.Files, test.files)
				h := booted(t, c, "running")
				h.servedByNetlink()
				flows := h.flows(recipeAddrs...)
				if test.enable == nil {
					h.must("systemctl", "start", networkd)
					h.servedByNetlink()
				}
				h.leavesOthersAlone(suite)
				h.thirdConfigured()
				before := h.network()
				for _, args := range [][]string{{"networkctl", "reconfigure", "eth2"}, {"networkctl", "reload"}, {"systemctl", "restart", networkd}} {
					h.must(args[0], args[1:]...)
					h.must("networkctl", "list")
					h.thirdConfigured()
					if after := h.network(); after != before {
						t.Errorf("before %v\n%s\nafter\n%s", args, before, after)
					}
				}
				h.unbroken("networkd configures another card", flows)
				h.servedByNetlink()
				h.leavesOthersAlone(suite)
			})
		})
	}
}

// byCommands gives the host what the programs of others would.
const byCommands = `
ip link set up dev eth0
ip link set up dev eth1
ip address add 192.0.2.10/24 dev eth0
ip address add 198.51.100.10/24 dev eth1
ip route add default via 192.0.2.1 dev eth0
`

// configured waits until networkd says that it has configured a card.
func (h *host) configured(card string) {
	h.t.Helper()
	err := lab.Poll(h.ctx, func() (bool, string) {
		state := h.linkState(card)
		return strings.Contains(state, "\nADMIN_STATE=configured\n"), state
	})
	if err != nil {
		h.t.Fatalf("%s: %v", card, err)
	}
}

// thirdConfigured waits for networkd's own card, which reports it before everything is there.
func (h *host) thirdConfigured() {
	h.t.Helper()
	h.configured("eth2")
	err := lab.Poll(h.ctx, func() (bool, string) {
		out := h.network()
		return strings.Contains(out, "from 10.9.9.1") && strings.Contains(out, "10.9.9.1/24"), out
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// servedByNetlink checks that everything is the oneshot's.
func (h *host) servedByNetlink() {
	h.t.Helper()
	h.settled()
	h.works()
	h.clean()
	rules, err := h.lab.Host.Rules(h.ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	n := 0
	for _, r := range rules {
		if r.Protocol == 118 {
			n++
		} else if r.From.Bits() == 32 && (r.Table == 1 || r.Table >= 10000) {
			h.t.Errorf("not ours: %v", r)
		}
	}
	if n == 0 {
		h.t.Errorf("no rule is ours: %v", rules)
	}
}
