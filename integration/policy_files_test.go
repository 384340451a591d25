package integration

import (
	"context"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

const (
	// wired is a .network file for all cards, as distributions and people have it.
	wired     = "[Match]\nName=eth*\n\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
	wiredFile = "/etc/systemd/network/20-wired.network"

	policyStatic = `
[uplink.isp1]
interface = "eth0"
manage    = "policy"
addresses = ["192.0.2.10/24"]
gateways  = ["192.0.2.1"]

[uplink.rt2]
interface = "eth1"
manage    = "policy"
addresses = ["198.51.100.10/24"]
gateways  = ["198.51.100.1"]
`
	policyDHCP = `
[uplink.isp1]
interface = "eth0"
manage    = "policy"
dhcp      = "ipv4"

[uplink.rt2]
interface = "eth1"
manage    = "policy"
dhcp      = "ipv4"
`
)

// leases has both providers give the recipe's addresses away.
func (h *networkdHost) leases() {
	h.t.Helper()
	for i, first := range []string{"192.0.2.10", "198.51.100.10"} {
		if _, err := h.StartDHCPServer(h.ctx, i+1, lab.Offer{First: netip.MustParseAddr(first)}); err != nil {
			h.t.Fatal(err)
		}
	}
}

// answersByOwnCards waits until each address is answered by its card, and verify finds nothing.
func (h *networkdHost) answersByOwnCards(what string) {
	h.t.Helper()
	cards := map[netip.Addr]string{netip.MustParseAddr("192.0.2.10"): "eth0", netip.MustParseAddr("198.51.100.10"): "eth1"}
	ctx, cancel := context.WithTimeout(h.ctx, 20*time.Second)
	defer cancel()
	err := lab.Poll(ctx, func() (bool, string) {
		answers, err := h.TCPEcho(ctx, answerTime, netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("198.51.100.10"))
		if err != nil {
			return false, err.Error()
		}
		for _, a := range answers {
			if !a.Answered || a.Card != cards[a.Addr] {
				return false, a.String()
			}
		}
		v := h.run("verify")
		return v.code == 0, v.stdout + v.stderr
	})
	if err == nil {
		err = h.networkd.WaitConfigured(ctx, "eth0", "eth1")
	}
	if err != nil {
		out, _ := h.networkd.Run(h.ctx, "sh", "-c", "networkctl; ip -4 addr; ip rule; ip route show table all; ls /run/systemd/network/*")
		h.t.Fatalf("%s: %v\n%s", what, err, out)
	}
}

// TestPolicyOfAFileForManyLinks has networkd bring all cards by one file, whose links would all
// get what a drop-in to it asks for: the policy comes beside networkd, and is only for the
// uplink's own link.
func TestPolicyOfAFileForManyLinks(t *testing.T) {
	const note = wiredFile + " matches name eth0 and other links: the uplink's routes and rules are added beside systemd-networkd, through netlink"
	for name, spec := range map[string]string{
		"static":        policyStatic,
		"dhcp":          policyDHCP,
		"default-route": strings.ReplaceAll(policyDHCP, "\n\n[uplink.rt2]", "\ndefault-route = true\n\n[uplink.rt2]"),
		"one uplink":    policyStatic[strings.Index(policyStatic, "[uplink.rt2]"):],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require(t, lab.NeedNetworkd, lab.NeedBus, lab.NeedDHCP)
			root, tree := t.TempDir(), t.TempDir()
			write(t, filepath.Join(root, hostSpec), spec)
			write(t, filepath.Join(root, wiredFile), wired)
			_, notes := run(t.Context(), t, programs.Control, "render", "--root", root, "--output", tree, "--systemd-version", installedVersion(t).String())
			if name != "one uplink" && !strings.Contains(notes, note) || strings.Count(notes, "\n") != strings.Count(spec, "[uplink.") {
				t.Errorf("the rendering says\n%s", notes)
			}
			files := readTree(t, tree)
			for file := range files {
				if strings.Contains(file, ".network.d/") {
					t.Errorf("there is %s", file)
				}
			}
			files[hostSpec], files[wiredFile] = spec, wired
			h := bootNetworkd(t, files, provider1, provider2)
			h.leases()
			if err := h.Host.WaitAddresses(h.ctx, netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("198.51.100.10")); err != nil {
				t.Fatalf("%v\n%s", err, h.networkd.Log())
			}
			h.run("apply", "--if-needed", "--wait", "15").expect(t, "apply", 0, "", "")
			if strings.Contains(spec, "dhcp") {
				background(t, h.command("watch"))
			}
			if name == "one uplink" {
				h.onlyOne()
				return
			}
			h.answersByOwnCards("apply")
			h.run("reload").expect(t, "reload", 0, "", "^(.* and other links: .*\n){2}$")
			h.answersByOwnCards("uplinkctl reload")
			if err := h.networkd.Reload(h.ctx); err != nil {
				t.Fatal(err)
			}
			h.answersByOwnCards("networkctl reload")
			if status := h.run("status"); strings.Contains(status.stdout, "networkd") {
				t.Errorf("networkd has no part in it:\n%s", status.stdout)
			}
			if out, err := h.Host.Run(h.ctx, "ip", "route", "show", "default", "table", "main"); err != nil || strings.Count(out, "default via") != 2 {
				t.Errorf("the default routes of main: %s %v", out, err)
			}
		})
	}
}

// onlyOne wants the policy of eth1, and nothing of eth0's in it.
func (h *networkdHost) onlyOne() {
	h.t.Helper()
	h.run("verify").expect(h.t, "verify", 0, "^ok +rt2 ", "")
	out, err := h.Host.Run(h.ctx, "sh", "-c", "ip rule; ip route show table 10000")
	if err != nil || strings.Contains(out, "192.0.2.") || strings.Contains(out, "eth0") || !strings.Contains(out, "default via 198.51.100.1 dev eth1") {
		h.t.Errorf("%v:\n%s", err, out)
	}
}
