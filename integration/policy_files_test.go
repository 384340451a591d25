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

// TestPolicyOfAFileForManyLinks has networkd configure all cards by one file. With a drop-in to
// it, all the links would get the policy, so the policy is added beside networkd, and only for
// the uplink's own link.
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

// TestPolicyLeavesAFileForManyLinks has an earlier version's drop-in to a file for many links:
// reload removes it, and adds the policy beside networkd.
func TestPolicyLeavesAFileForManyLinks(t *testing.T) {
	t.Parallel()
	require(t, lab.NeedNetworkd, lab.NeedBus, lab.NeedDHCP)
	root, tree := t.TempDir(), t.TempDir()
	write(t, filepath.Join(root, hostSpec), policyStatic)
	for _, card := range []string{"eth0", "eth1"} {
		write(t, filepath.Join(root, "/etc/systemd/network/"+card+".network"), "[Match]\nName="+card+"\n")
	}
	run(t.Context(), t, programs.Control, "render", "--root", root, "--output", tree, "--systemd-version", installedVersion(t).String())
	files := map[string]string{wiredFile: wired, hostSpec: policyStatic}
	for name, text := range readTree(t, tree) {
		for _, card := range []string{"eth0", "eth1"} {
			name = strings.Replace(name, "/"+card+".network.d/", "/20-wired.network.d/", 1)
		}
		files[name] = text
	}
	if n := len(files); n < 5 {
		t.Fatalf("%d files", n)
	}
	h := bootNetworkd(t, files, provider1, provider2)
	h.leases()
	if err := h.Host.WaitAddresses(h.ctx, netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("198.51.100.10")); err != nil {
		t.Fatalf("%v\n%s", err, h.networkd.Log())
	}
	for range 2 { // the second finds nothing to do
		h.run("reload").expect(t, "reload", 0, ".*", "^([^\\n]* and other links: [^\\n]*\n){2}(uplinkctl: systemd-networkd reads its own settings [^\\n]*\n)?$")
		h.answersByOwnCards("reload")
	}
	if out, err := h.networkd.Run(h.ctx, "find", "/run/systemd/network", "-name", "10-uplink-*"); err != nil || out != "" {
		t.Errorf("files: %s %v", out, err)
	}
	out, err := h.Host.Run(h.ctx, "sh", "-c", "ip rule; ip route show table 10000; ip route show table 10001")
	for line := range strings.Lines(out) {
		if strings.Contains(line, "192.0.2.1") == strings.Contains(line, "198.51.100.1") && !strings.Contains(line, "from all lookup") {
			t.Errorf("of both cards: %s", line)
		}
	}
	if err != nil || strings.Count(out, "dev ") != 4 || strings.Contains(out, "proto static") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestPolicyOfACardThatComesLate has files of somebody else's that match cards by their
// addresses, which are not known while the cards are absent: none of the files is extended, and
// the policy comes with the card.
func TestPolicyOfACardThatComesLate(t *testing.T) {
	t.Parallel()
	require(t, lab.NeedNetworkd, lab.NeedBus)
	const late = "[uplink.late]\ninterface = \"wan1\"\nmanage = \"policy\"\naddresses = [\"203.0.113.10/24\"]\ngateways = [\"203.0.113.1\"]\n"
	root, tree := t.TempDir(), t.TempDir()
	files := map[string]string{
		hostSpec: late,
		"/etc/systemd/network/10-netplan-wan0.network": "[Match]\nMACAddress=02:00:00:00:aa:01\n[Network]\nAddress=198.18.0.10/24\n",
		"/etc/systemd/network/10-netplan-wan1.network": "[Match]\nMACAddress=02:00:00:00:aa:02\n[Network]\nAddress=203.0.113.10/24\n",
	}
	for name, text := range files {
		write(t, filepath.Join(root, name), text)
	}
	_, notes := run(t.Context(), t, programs.Control, "render", "--root", root, "--output", tree, "--systemd-version", installedVersion(t).String())
	if !strings.Contains(notes, "10-netplan-wan0.network may match name wan1 (MACAddress= cannot be told here): ") {
		t.Errorf("the rendering says %q", notes)
	}
	for name, text := range readTree(t, tree) {
		files[name] = text
		if strings.Contains(name, ".network.d/") {
			t.Errorf("there is %s", name)
		}
	}
	h := bootNetworkd(t, files, provider1, provider2)
	h.run("apply", "--if-needed").expect(t, "apply", 0, "", "no link with name wan1")
	ip(h.ctx, t, h.Host, "link add wan0 address 02:00:00:00:aa:01 type veth peer name q0", "link add wan1 address 02:00:00:00:aa:02 type veth peer name q1", "link set q0 up", "link set q1 up")
	// As uplink-apply@wan1.service does.
	h.run("apply", "--if-needed", "--wait", "15", "--link", "wan1").expect(t, "apply", 0, "", "")
	holds := func(what string) {
		t.Helper()
		if err := h.networkd.WaitConfigured(h.ctx, "wan0", "wan1"); err != nil {
			t.Fatal(err)
		}
		out, err := h.Host.Run(h.ctx, "sh", "-c", "ip rule; ip route show table 10000")
		if err != nil || !strings.Contains(out, "from 203.0.113.10 lookup 10000") || !strings.Contains(out, "default via 203.0.113.1 dev wan1") || strings.Contains(out, "wan0") {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
	}
	holds("apply")
	// wan0 is somebody else's: whatever networkd does with it removes nothing of ours.
	if _, err := h.networkd.Run(h.ctx, "networkctl", "reconfigure", "wan0"); err != nil {
		t.Fatal(err)
	}
	holds("networkctl reconfigure wan0")
	// Now that the cards are there, their addresses are known.
	h.run("reload").expect(t, "reload", 0, "^written .*10-netplan-wan1.network.d/10-uplink-late.conf\n", "")
	holds("reload")
	if out, err := h.Host.Run(h.ctx, "sh", "-c", "ip rule; ip route show table 10000"); err != nil || strings.Contains(out, "proto 118") || strings.Contains(out, "proto uplink") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestPolicyBesideAFileForWlan renders for an absent card beside systemd's own file for wlan,
// which may match it: networkd, which runs for another link, leaves alone what netlink adds.
func TestPolicyBesideAFileForWlan(t *testing.T) {
	t.Parallel()
	require(t, lab.NeedNetworkd, lab.NeedBus)
	root, tree := t.TempDir(), t.TempDir()
	write(t, filepath.Join(root, hostSpec), policyStatic)
	write(t, filepath.Join(root, "/usr/lib/systemd/network/80-wifi-adhoc.network"), "[Match]\nType=wlan\nWLANInterfaceType=ad-hoc\n[Network]\nDHCPServer=yes\n")
	run(t.Context(), t, programs.Control, "render", "--root", root, "--output", tree, "--systemd-version", installedVersion(t).String())
	files := readTree(t, tree)
	files[hostSpec] = policyStatic
	files["/etc/systemd/network/30-wg0.netdev"] = "[NetDev]\nName=wg0\nKind=veth\n[Peer]\nName=wg1\n"
	files["/etc/systemd/network/30-wg0.network"] = "[Match]\nName=wg*\n[Network]\nAddress=198.18.0.1/24\nLinkLocalAddressing=no\n"
	h := bootNetworkd(t, files, provider1, provider2)
	ip(h.ctx, t, h.Host, "link set eth0 up", "link set eth1 up", "address add 192.0.2.10/24 dev eth0", "address add 198.51.100.10/24 dev eth1", "route add default via 192.0.2.1")
	if err := h.networkd.WaitConfigured(h.ctx, "wg0"); err != nil {
		t.Fatal(err)
	}
	h.run("apply", "--if-needed", "--wait", "15").expect(t, "apply", 0, "", "")
	before := dump(h.ctx, t, h.Host)
	if _, err := h.networkd.Run(h.ctx, "networkctl", "reconfigure", "wg0"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	h.run("verify").expect(t, "verify", 0, "^ok ", "")
	if err := h.networkd.WaitConfigured(h.ctx, "wg0"); err != nil {
		t.Fatal(err)
	}
	if after := dump(h.ctx, t, h.Host); sorted(after) != sorted(before) {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}
