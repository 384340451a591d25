package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/need"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// What cmd/uplinkctl/doc/comparison.md says about other programs, if it can be tried here.

// TestWhatNetplanTakes asks netplan's own generator what it makes of rules.
func TestWhatNetplanTakes(t *testing.T) {
	need.Program(t, "netplan")
	const card = "network:\n  version: 2\n  ethernets:\n    eth1:\n      addresses: [198.51.100.10/24]\n      routes:\n      - {to: default, via: 198.51.100.1, table: 1}\n      routing-policy:\n      - "
	for _, c := range []struct{ name, rule, refused, has, lacks string }{
		{name: "the recipe", rule: "{from: 198.51.100.10, table: 1}", has: "[RoutingPolicyRule]\nFrom=198.51.100.10\nTable=1\n", lacks: "Priority="},
		{name: "the subnet is not in the table", rule: "{from: 198.51.100.10, table: 1}", has: "Gateway=198.51.100.1\n", lacks: "198.51.100.0"},
		{name: "a mark alone", rule: "{mark: 16, table: 1}", refused: "must include either a 'from' or 'to'"},
		{name: "a mark as the firewall has it", rule: "{from: 198.51.100.10, mark: 0x10, table: 1}", refused: "invalid unsigned int value"},
		{name: "a mark with a mask", rule: "{from: 198.51.100.10, mark: 16/255, table: 1}", refused: "invalid unsigned int value"},
		{name: "a port", rule: "{from: 198.51.100.10, dport: 80, table: 1}", refused: "unknown key 'dport'"},
		{name: "a user", rule: "{from: 198.51.100.10, uidrange: 1000, table: 1}", refused: "unknown key 'uidrange'"},
		{name: "suppress_prefixlength", rule: "{from: 198.51.100.10, suppress-prefixlength: 0, table: 1}", refused: "unknown key 'suppress-prefixlength'"},
	} {
		root := t.TempDir()
		file := filepath.Join(root, "etc/netplan/a.yaml")
		write(t, file, card+c.rule+"\n")
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "netplan", "generate", "--root-dir", root).CombinedOutput()
		if c.refused != "" {
			if err == nil || !strings.Contains(string(out), c.refused) {
				t.Errorf("%s: %v\n%s", c.name, err, out)
			}
			continue
		}
		made, readErr := os.ReadFile(filepath.Join(root, "run/systemd/network/10-netplan-eth1.network"))
		if err != nil || readErr != nil || !strings.Contains(string(made), c.has) || strings.Contains(string(made), c.lacks) {
			t.Errorf("%s: %v, %v\n%s%s", c.name, err, readErr, out, made)
		}
	}
}

// TestWhatNetworkdLeavesOut gives networkd a rule with a key that it does not know: it warns, and
// adds the rest of the rule, for more packets than were meant.
func TestWhatNetworkdLeavesOut(t *testing.T) {
	t.Parallel()
	h := bootNetworkd(t, map[string]string{"/etc/systemd/network/10-eth1.network": "[Match]\nName=eth1\n[Network]\nAddress=198.51.100.10/24\nLinkLocalAddressing=no\n" +
		"[RoutingPolicyRule]\nFrom=198.51.100.10\nSelector=80\nPriority=900\nTable=77\n"}, provider1, provider2)
	if err := h.networkd.WaitConfigured(h.ctx, "eth1"); err != nil {
		t.Fatal(err)
	}
	eventually(h.ctx, t, func() (string, error) {
		out, err := h.Host.Run(h.ctx, "ip", "rule")
		if !strings.Contains(out, "900:\tfrom 198.51.100.10 lookup 77") {
			return out, err
		}
		return "", err
	})
	if log := h.networkd.Log(); !strings.Contains(log, "Selector") {
		t.Errorf("it does not warn:\n%s", log)
	}
}

// TestNetworkdTakesAwayForeignRules adds a rule by hand and changes networkd's file for a card:
// the rule is gone. With ManageForeignRoutingPolicyRules=no it stays.
func TestNetworkdTakesAwayForeignRules(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(map[bool]string{false: "as it is", true: "told not to"}[keep], func(t *testing.T) {
			t.Parallel()
			const file, text = "/etc/systemd/network/10-eth1.network", "[Match]\nName=eth1\n[Network]\nAddress=198.51.100.10/24\nLinkLocalAddressing=no\n"
			files := map[string]string{file: text}
			if keep {
				files["/etc/systemd/networkd.conf"] = "[Network]\nManageForeignRoutingPolicyRules=no\n"
			}
			h := bootNetworkd(t, files, provider1, provider2)
			if err := h.networkd.WaitConfigured(h.ctx, "eth1"); err != nil {
				t.Fatal(err)
			}
			ip(h.ctx, t, h.Host, "rule add priority 500 from 10.9.0.0/16 lookup 99")
			rule := func() (bool, string) {
				out, err := h.Host.Run(h.ctx, "ip", "rule")
				if err != nil {
					t.Fatal(err)
				}
				return strings.Contains(out, "500:"), out
			}
			if err := h.networkd.Write(map[string]string{file: text + "Address=198.51.100.11/24\n"}); err != nil {
				t.Fatal(err)
			}
			if err := h.networkd.Reload(h.ctx); err != nil {
				t.Fatal(err)
			}
			err := lab.Poll(h.ctx, func() (bool, string) {
				out, err := h.Host.Run(h.ctx, "ip", "address", "show", "dev", "eth1")
				if err != nil {
					t.Fatal(err)
				}
				there, rules := rule()
				return strings.Contains(out, "198.51.100.11") && there == keep, out + rules
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}
