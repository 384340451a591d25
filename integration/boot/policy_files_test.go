package boot_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/boot"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// wired is a .network file for all cards.
const wired = "[Match]\nName=eth*\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"

// answersByOwn waits until each address is answered by its own card, and all is as the spec says.
func (h *host) answersByOwn(what string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.ctx, soon)
	defer cancel()
	err := lab.Poll(ctx, func() (bool, string) {
		for _, a := range h.answers() {
			if !a.Answered || a.Card != recipeCards[a.Addr] {
				return false, a.String()
			}
		}
		out, err := h.Run(h.ctx, "uplinkctl", "verify")
		return err == nil, out
	})
	if err != nil {
		h.t.Errorf("%s: %v\n%s", what, err, h.network())
	}
	for _, card := range []string{"eth0", "eth1"} {
		h.configured(card)
	}
}

// TestPolicyOfAFileForManyLinks boots hosts whose cards networkd configures by one file, and does
// to networkd what administrators do to it.
func TestPolicyOfAFileForManyLinks(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]string{
		"static":  policySpec,
		"dynamic": strings.NewReplacer("\"eth0\"\n", "\"eth0\"\nmanage = \"policy\"\n", "\"eth1\"\n", "\"eth1\"\nmanage = \"policy\"\n").Replace(learnSpec),
	} {
		t.Run(name, func(t *testing.T) {
			eachSuite(t, func(t *testing.T, suite boot.Suite) {
				var s servers
				h := bootedWith(t, boot.Config{
					Root: boot.Root{Suite: suite}, Product: installed(t), Enable: []string{networkd},
					Files: map[string]boot.File{specFile: boot.Text(spec), "/etc/systemd/network/20-wired.network": boot.Text(wired)},
				}, "running", s.serve)
				h.answersByOwn("boot")
				h.leavesOthersAlone(suite)
				if found := h.find("/run/systemd/network"); strings.Contains(found, ".network.d/") {
					t.Errorf("the file is extended:\n%s", found)
				}
				for _, args := range [][]string{{"networkctl", "reload"}, {"systemctl", "restart", networkd}, {"uplinkctl", "reload"}, {"networkctl", "reconfigure", "eth1"}} {
					// When networkd removes an address, the kernel removes the routes that have
					// it as source. The watch adds those again that follow from learned
					// addresses; a static spec has no watch. An assertion in address_is_ready()
					// kills 247 at a restart with DHCPv4, with and without us.
					if args[1] == "restart" && suite.Systemd() < 248 || args[1] == "reconfigure" && name == "static" {
						continue
					}
					h.must(args[0], args[1:]...)
					time.Sleep(begun)
					h.answersByOwn(strings.Join(args, " "))
				}
				h.clean()
			})
		})
	}
}

// TestPolicyOfCardsThatComeLate plugs in cards which the files of others identify by their
// addresses, and the spec by their names: until it is known which file is meant none is extended,
// and the policy comes with the cards.
func TestPolicyOfCardsThatComeLate(t *testing.T) {
	everySuite(t, func(t *testing.T, suite boot.Suite) {
		file := func(mac, address string) boot.File {
			return boot.Text("[Match]\nMACAddress=" + mac + "\n[Network]\nLinkLocalAddressing=no\nAddress=" + address + "/24\n")
		}
		h := booted(t, boot.Config{
			Root: boot.Root{Suite: suite}, Product: installed(t), Enable: []string{networkd},
			Files: map[string]boot.File{
				specFile: boot.Text(strings.NewReplacer("eth0", "wan0", "eth1", "wan1").Replace(policySpec)),
				"/etc/systemd/network/10-netplan-wan0.network": file("02:00:00:00:aa:01", "192.0.2.10"),
				"/etc/systemd/network/10-netplan-wan1.network": file("02:00:00:00:aa:02", "198.51.100.10"),
				"/etc/systemd/network/20-eth.network":          boot.Text("[Match]\nName=eth*\n[Link]\nRequiredForOnline=no\n[Network]\nLinkLocalAddressing=no\n"),
			},
		}, "")
		h.leavesOthersAlone(suite)
		h.must("sh", "-c", "for i in 0 1; do ip link add wan$i address 02:00:00:00:aa:0$((i+1)) type veth peer name q$i; ip link set q$i up; done")
		// A container has no udev that would tell systemd about the card's device.
		for _, card := range []string{"wan0", "wan1"} {
			h.must("uplinkctl", "apply", "--if-needed", "--wait", "15", "--link", card)
		}
		want := map[string]string{"10000": "default via 192.0.2.1 dev wan0", "1": "default via 198.51.100.1 dev wan1"}
		for table, way := range want {
			if out := h.must("ip", "route", "show", "table", table); !strings.Contains(out, way) || strings.Contains(out, "wan0") == strings.Contains(out, "wan1") {
				t.Errorf("table %s:\n%s", table, out)
			}
		}
		h.configured("wan0")
		h.configured("wan1")
		if found := h.find("/run/systemd/network"); strings.Contains(found, ".network.d/") {
			t.Errorf("files are extended:\n%s", found)
		}
		if out, err := h.Run(h.ctx, "uplinkctl", "verify"); err != nil || !strings.Contains(out, "ok ") {
			t.Errorf("verify: %v\n%s", err, out)
		}
	})
}
