package boot_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/boot"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// lastWords notes the state of the network when it is stopped, a while after everything that is
// not ordered behind it. systemd.special(7) promises it the network until then, network.target.
const lastWords = `[Unit]
After=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/sh -c 'sleep 1; ip address > /root/network; ip rule >> /root/network; ip route show table all >> /root/network'
`

// TestShutdown checks that a service that is stopped at a shutdown still has the uplinks, where
// netlink added them.
func TestShutdown(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite boot.Suite) {
		const unit = "/etc/systemd/system/last-words.service"
		h := booted(t, boot.Config{
			Root: boot.Root{Suite: suite}, Product: installed(t), Tree: recipe,
			Files: map[string]boot.File{
				unit: boot.Text(lastWords),
				"/etc/systemd/system/multi-user.target.wants/last-words.service": boot.Link(unit),
			},
		}, "running")
		h.works()
		if state := h.show("uplink-apply.service", "ActiveState"); state != "active" {
			t.Fatalf("uplink-apply.service is %s", state)
		}
		if err := h.Reboot(h.ctx); err != nil {
			t.Fatal(err)
		}
		h.wait("running")
		h.works()
		h.hadNetwork()
		h.clean()
		if suite.Systemd() >= 257 { // soft-reboot is of 254, but has no SoftRebootsCount there
			h.softReboot()
		}

		// Stopping it takes everything away.
		h.must("systemctl", "stop", "uplink-apply.service")
		if now := h.network(); strings.Contains(now, "proto 118") || strings.Contains(now, "192.0.2.10") {
			t.Errorf("there is still\n%s", now)
		}
	})
}

// hadNetwork checks that the network was there to the end.
func (h *host) hadNetwork() {
	h.t.Helper()
	network := h.must("cat", "/root/network")
	for _, want := range []string{
		"inet 192.0.2.10/24 ", "inet 198.51.100.10/24 ",
		"from 192.0.2.10 lookup isp1", "from 198.51.100.10 lookup rt2",
		"default via 192.0.2.1 dev eth0 table isp1", "default via 198.51.100.1 dev eth1 table rt2", "default via 192.0.2.1 dev eth0 proto",
	} {
		if !strings.Contains(network, want) {
			h.t.Errorf("%q is gone already:\n%s", want, network)
		}
	}
}

// softReboot restarts user space (since systemd 254) with another address in the spec. The kernel
// stays as it is, and so does uplink-apply.service: uplink-reload.service brings what has changed
// into effect.
func (h *host) softReboot() {
	h.t.Helper()
	since := h.show("uplink-apply.service", "ActiveEnterTimestampMonotonic")
	second := netip.MustParseAddr("198.51.100.20")
	h.must("sh", "-c", "rm /root/network; sed -i s/"+recipeAddrs[1].String()+"/"+second.String()+"/ "+specFile)
	h.must("systemctl", "soft-reboot", "--no-block")
	err := lab.Poll(h.ctx, func() (bool, string) {
		// A question that nobody answers may wait for ever.
		ctx, cancel := context.WithTimeout(h.ctx, 2*time.Second)
		defer cancel()
		out, err := h.Run(ctx, "systemctl", "show", "--value", "--property=SoftRebootsCount")
		return strings.TrimSpace(out) == "1", fmt.Sprint(out, err)
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.wait("running")
	h.hadNetwork()
	h.worksAt(map[netip.Addr]string{recipeAddrs[0]: "eth0", second: "eth1"})
	h.clean()
	if now := h.show("uplink-apply.service", "ActiveEnterTimestampMonotonic"); now != since {
		h.t.Errorf("uplink-apply.service is up since %s, was since %s", now, since)
	}
}
