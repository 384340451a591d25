package boot_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/boot"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// automatic is a file of NetworkManager's for a card that learns.
func automatic(card, metric string) boot.File {
	return boot.File{Mode: 0o600, Data: "[connection]\nid=" + card + "\ntype=ethernet\ninterface-name=" + card +
		"\n[ipv4]\nmethod=auto\nroute-metric=" + metric + "\n[ipv6]\nmethod=link-local\naddr-gen-mode=eui64\n"}
}

// TestDynamicOthers boots hosts whose cards get their addresses by somebody else's DHCP client,
// and makes that take them down and up.
func TestDynamicOthers(t *testing.T) {
	t.Parallel()
	require(t)
	for _, test := range []struct {
		name   string
		suite  boot.Suite
		files  map[string]boot.File
		unit   string
		change []string // to one of the cards, and what has ended
	}{
		{"NetworkManager", boot.Trixie, map[string]boot.File{
			"/etc/NetworkManager/system-connections/eth0.nmconnection": automatic("eth0", "100"),
			"/etc/NetworkManager/system-connections/eth1.nmconnection": automatic("eth1", "200"),
			"/etc/NetworkManager/conf.d/container.conf":                boot.Text("[main]\nno-auto-default=*\n[device]\nmatch-device=*\nmanaged=1\n"),
		}, networkManager, []string{"nmcli device reapply eth1", "nmcli connection up eth1", "nmcli connection down eth0; nmcli connection up eth0", "systemctl restart " + networkManager}},
		// Without a metric of its own dhclient does not add the second default route.
		{"ifupdown", boot.Bookworm, map[string]boot.File{
			"/etc/systemd/system/NetworkManager-wait-online.service": boot.Masked,
			"/etc/network/interfaces":                                boot.Text("auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet dhcp\nauto eth1\niface eth1 inet dhcp\n\tmetric 200\n"),
		}, ifupdown, []string{"ifdown eth1; ifup eth1", "ifdown eth0; ifup eth0", "systemctl restart " + ifupdown}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var s servers
			files := only(test.files, test.unit)
			for name, f := range onlineFiles(strings.ReplaceAll(learnSpec, "interface ", "manage = \"policy\"\ninterface ")) {
				files[name] = f
			}
			h := bootedWith(t, boot.Config{Root: fat(test.suite), Product: installed(t), Files: files}, "running",
				func(ctx context.Context, l *lab.Lab) error { return s.serve(ctx, l) })
			h.learned(recipeCards)
			// Nobody tells when NetworkManager's last card has its address.
			t.Logf("all rules are there %s ms after the network is online", strings.TrimSpace(h.must("cat", "/run/online-late")))
			before := h.state()
			for _, command := range test.change {
				flows := h.flows(recipeAddrs...)
				start := time.Now()
				h.must("sh", "-c", command)
				h.waitRules(recipeCards)
				h.learned(recipeCards)
				t.Logf("%s: %v", command, time.Since(start))
				h.measured(command, flows)
				h.becomes(before)
			}
		})
	}
}

// TestDynamicCloudInit has user-data with a spec that learns, which did not exist when the
// generator ran.
func TestDynamicCloudInit(t *testing.T) {
	require(t)
	t.Parallel()
	user := "#cloud-config\nwrite_files:\n- path: " + specFile + "\n  content: |\n    " + strings.ReplaceAll(strings.TrimSpace(learnSpec), "\n", "\n    ") + "\n"
	config := cloud(boot.Trixie, seed{user, nothing, exampleOf(t, "network-config")}, "")
	config.Product, config.Enable = installed(t), []string{networkd}
	var s servers
	h := bootedWith(t, config, "running", s.serve)
	for _, late := range []bool{true, false} {
		h.cloudInitRan()
		h.learned(recipeCards)
		h.cloudTimes(map[bool]string{true: "first", false: "second"}[late], late)
		if late {
			if err := h.Reboot(h.ctx); err != nil {
				t.Fatal(err)
			}
			h.wait("running")
		}
	}
}
