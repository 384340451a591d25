package boot_test

import (
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/boot"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// probedSpec is the recipe with a probe, and with a second uplink that main can take.
const probedSpec = `
[uplink.isp1]
interface     = "eth0"
addresses     = ["192.0.2.10/24"]
gateways      = ["192.0.2.1"]
default-route = true
metric        = 100
probe         = { targets = ["203.0.113.10"], interval = 1, down = 2, up = 2 }

[uplink.rt2]
interface     = "eth1"
table         = 1
addresses     = ["198.51.100.10/24"]
gateways      = ["198.51.100.1"]
default-route = true
metric        = 200
`

// follower is a unit that runs while isp1 works.
const follower = `[Unit]
PartOf=uplink@isp1-up.target
[Service]
ExecStart=sleep infinity
[Install]
WantedBy=uplink@isp1-up.target
`

// TestProbe has uplink-watch.service, with the rights that it has there, find a provider dead and
// alive again, and units follow, with either back end.
func TestProbe(t *testing.T) {
	t.Parallel()
	t.Run("networkd", func(t *testing.T) {
		eachSuite(t, func(t *testing.T, suite boot.Suite) { probeIn(t, suite, networkd, "follower.service") })
	})
	t.Run("netlink", func(t *testing.T) {
		require(t)
		t.Parallel()
		probeIn(t, boot.Trixie, "follower.service")
	})
}

func probeIn(t *testing.T, suite boot.Suite, enable ...string) {
	t.Helper()
	h := booted(t, boot.Config{
		Root: boot.Root{Suite: suite}, Product: installed(t), Enable: enable,
		Files: map[string]boot.File{specFile: boot.Text(probedSpec), "/etc/systemd/system/follower.service": boot.Text(follower)},
	}, "running")
	h.settled()
	is := func(active, inactive string) {
		t.Helper()
		if err := lab.Poll(h.ctx, func() (bool, string) {
			var wrong strings.Builder
			for unit, want := range map[string]string{
				active: "active", inactive: "inactive", "follower.service": map[bool]string{true: "active", false: "inactive"}[strings.Contains(active, "-up")],
			} {
				if got := h.must("systemctl", "show", "--property=ActiveState", "--value", unit); strings.TrimSpace(got) != want {
					wrong.WriteString(unit + " is " + got)
				}
			}
			return wrong.Len() == 0, wrong.String()
		}); err != nil {
			t.Fatalf("%v\n%s", err, h.journal())
		}
	}
	const up, down = "uplink@isp1-up.target", "uplink@isp1-down.target"
	is(up, down)
	if _, err := h.lab.Router.Run(h.ctx, "ip", "rule", "add", "priority", "50", "iif", "p1", "blackhole"); err != nil {
		t.Fatal(err)
	}
	is(down, up)
	if way := h.must("ip", "route", "get", "203.0.113.10"); !strings.Contains(way, "dev eth1") {
		t.Errorf("packets leave by\n%s", way)
	}
	if status := h.must("uplinkctl", "status"); !strings.Contains(status, "IPv4 dead since") {
		t.Errorf("status:\n%s", status)
	}
	if _, err := h.lab.Router.Run(h.ctx, "ip", "rule", "del", "priority", "50", "iif", "p1", "blackhole"); err != nil {
		t.Fatal(err)
	}
	is(up, down)
	if way := h.must("ip", "route", "get", "203.0.113.10"); !strings.Contains(way, "dev eth0") {
		t.Errorf("packets leave by\n%s", way)
	}
	t.Logf("%s", h.journal("--unit=uplink-watch.service", "--output=cat"))
	h.clean()
}
