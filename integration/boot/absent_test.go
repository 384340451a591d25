package boot_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/boot"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// waitForAddress notes how many tenths of a second the first card has waited for its
// address, from when others would have configured it.
const waitForAddress = `[Unit]
After=network.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'i=0; while [ $i -lt 600 ] && ! ip -4 -o address show dev eth0 | grep -q 192.0.2.10; do i=$((i+1)); sleep 0.1; done; echo $i > /run/waited'
`

// TestAbsentCard boots a host without networkd that lacks one of its cards: the others are there
// at once, and the boot is delayed no longer than the service waits for a card.
func TestAbsentCard(t *testing.T) {
	t.Parallel()
	require(t)
	const unit = "/etc/systemd/system/waited.service"
	h := booted(t, boot.Config{
		Root: boot.Root{Suite: boot.Trixie}, Product: installed(t), Tree: recipe,
		Files: map[string]boot.File{
			"/etc/uplink/uplink.toml.d/absent.toml": boot.Text("[uplink.absent]\nmac = \"02:00:00:00:99:99\"\naddresses = [\"198.18.3.10/24\"]\ngateways = [\"198.18.3.1\"]\n"),
			unit:                                    boot.Text(waitForAddress),
			"/etc/systemd/system/multi-user.target.wants/waited.service": boot.Link(unit),
		},
	}, "running")
	h.works()
	h.clean()
	waited, err := strconv.Atoi(strings.TrimSpace(h.must("cat", "/run/waited")))
	const atOnce = 50
	if err != nil || waited > atOnce {
		t.Errorf("the cards that are there had to wait for %v: %v", time.Duration(waited)*100*time.Millisecond, err)
	}
	times := strings.Fields(h.must("systemctl", "show", "--value", "--property=ExecMainStartTimestampMonotonic", "--property=ExecMainExitTimestampMonotonic", "uplink-apply.service"))
	if len(times) != 2 {
		t.Fatalf("times %q", times)
	}
	start, _ := strconv.ParseInt(times[0], 10, 64)
	end, _ := strconv.ParseInt(times[1], 10, 64)
	took := time.Duration(end-start) * time.Microsecond
	t.Logf("uplink-apply.service took %v", took)
	if took > 18*time.Second {
		t.Errorf("uplink-apply.service took %v, and waits for 15 seconds", took)
	}
}

// awaitsWG0 is a rule for what comes in by a link that is made later, for example by a VPN.
const awaitsWG0 = "[[uplink.rt2.rule]]\npriority = 500\niif = \"wg0\"\n"

// reloadsSoon checks that a reload does not wait for what is absent.
func (h *host) reloadsSoon() {
	h.t.Helper()
	start := time.Now()
	if out, err := h.Run(h.ctx, "uplinkctl", "reload"); err != nil {
		h.t.Fatalf("uplinkctl reload: %v\n%s", err, out)
	}
	const soon = 15 * time.Second
	if took := time.Since(start); took > soon {
		h.t.Errorf("uplinkctl reload took %v", took)
	}
}

// TestAbsentSelector boots a host of networkd's with such a rule: no uplink and no host waits for
// it, and no command calls it missing. Since 257 networkd adds such a rule only when the link is
// there; before, at once.
func TestAbsentSelector(t *testing.T) {
	everySuite(t, func(t *testing.T, suite boot.Suite) {
		h := booted(t, boot.Config{
			Root: boot.Root{Suite: suite}, Product: installed(t), Tree: recipe, Enable: []string{networkd},
			Files: map[string]boot.File{specFile + ".d/wg.toml": boot.Text(awaitsWG0)},
		}, "running")
		online := func() {
			t.Helper()
			h.settled()
			h.works()
			h.must("/lib/systemd/systemd-networkd-wait-online", "--interface=eth0:routable", "--interface=eth1:routable", "--timeout=20")
			if out := h.must("networkctl", "--no-legend", "list", "eth0", "eth1"); strings.Contains(out, "configuring") {
				t.Errorf("an uplink waits for wg0:\n%s", out)
			}
		}
		online()
		late := h.must("ip", "rule", "show", "priority", "500") == ""
		if early := suite.Systemd() < 257; late == early {
			t.Errorf("the rule for wg0 is late: %t", late)
		}
		h.must("sh", "-c", `printf %s "$1" > `+specFile+".d/wg.toml", "sh", strings.Replace(awaitsWG0, "500", "501", 1))
		h.reloadsSoon()
		online()
		h.clean()

		h.must("ip", "link", "add", "wg0", "type", "veth", "peer", "name", "wg1")
		err := lab.Poll(h.ctx, func() (bool, string) {
			out, err := h.Run(h.ctx, "ip", "rule", "show", "priority", "501")
			return err == nil && strings.Contains(out, "iif wg0"), out
		})
		if err != nil {
			t.Errorf("the rule for wg0: %v\n%s", err, h.must("ip", "rule"))
		}
		h.settled()
	})
}

// TestHandOverOfAbsentSelector has networkd take over from the oneshot, which added such a rule
// at once: the reload does not wait for wg0, and nothing of the oneshot's stays.
func TestHandOverOfAbsentSelector(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite boot.Suite) {
		const netlink = specFile + ".d/netlink.toml"
		h := booted(t, boot.Config{
			Root: boot.Root{Suite: suite}, Product: installed(t), Tree: recipe, Enable: []string{networkd},
			Files: map[string]boot.File{specFile + ".d/wg.toml": boot.Text(awaitsWG0), netlink: boot.Text("backend = \"netlink\"\n")},
		}, "running")
		h.settled()
		h.works()
		h.clean()
		if out := h.must("ip", "rule", "show", "priority", "500"); !strings.Contains(out, "iif wg0") || !strings.Contains(h.network(), "proto 118") {
			t.Fatalf("not the oneshot's: %s", out)
		}
		h.must("rm", netlink)
		h.reloadsSoon()
		h.settled()
		h.works()
		h.clean()
		if out := h.network(); strings.Contains(out, "proto 118") {
			t.Errorf("the oneshot's:\n%s", out)
		}
		h.must("ip", "link", "add", "wg0", "type", "veth", "peer", "name", "wg1")
		err := lab.Poll(h.ctx, func() (bool, string) {
			out, err := h.Run(h.ctx, "ip", "rule", "show", "priority", "500")
			return err == nil && strings.Count(out, "iif wg0") == 1, out
		})
		if err != nil {
			t.Errorf("the rule for wg0: %v\n%s", err, h.must("ip", "rule"))
		}
	})
}
