package boot_test

import (
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/boot"
)

// byHand is the configuration of an administrator who does not know about policy routing.
var byHand = map[string]boot.File{
	"/etc/systemd/network/20-eth0.network": boot.Text("[Match]\nName=eth0\n[Network]\nAddress=192.0.2.10/24\nGateway=192.0.2.1\n"),
	"/etc/systemd/network/20-eth1.network": boot.Text("[Match]\nName=eth1\n[Network]\nAddress=198.51.100.10/24\n"),
}

// TestWithoutTheProductOneCardAnswers is the control for the other tests: the same machine
// without the product answers by the wrong card.
func TestWithoutTheProductOneCardAnswers(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite boot.Suite) {
		h := booted(t, boot.Config{Root: boot.Root{Suite: suite}, Files: byHand, Enable: []string{networkd}}, "running")
		if err := h.lab.Host.WaitAddresses(h.ctx, recipeAddrs...); err != nil {
			t.Fatal(err)
		}
		if err := h.lab.Host.WaitSettled(h.ctx); err != nil {
			t.Fatal(err)
		}
		for _, a := range h.answers() {
			// It does answer both: by one card.
			if want := recipeCards[a.Addr] == "eth0"; a.Answered != want || a.Card != "eth0" {
				t.Errorf("%s; want answered %t, by eth0", a, want)
			}
		}
	})
}

// TestBrokenSpecAtBoot checks that a host whose spec has errors boots, and shows them.
func TestBrokenSpecAtBoot(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite boot.Suite) {
		h := booted(t, boot.Config{
			Root: boot.Root{Suite: suite}, Product: installed(t), Enable: []string{networkd},
			Files: map[string]boot.File{specFile: boot.Text(badSpec)},
		}, "degraded")
		failed, err := h.FailedUnits(h.ctx)
		if err != nil {
			t.Fatal(err)
		}
		list := strings.Join(failed, "\n") + "\n"
		if !strings.Contains(list, "uplink-networkd.service\n") {
			t.Errorf("uplink-networkd.service has not failed, but %q", list)
		}
		for _, unit := range failed {
			if !strings.HasPrefix(unit, "uplink-") {
				t.Errorf("%s has failed", unit)
			}
		}
		t.Logf("failed: %s", strings.Join(failed, " "))
		if state := h.must("systemctl", "is-active", networkd, "multi-user.target"); state != "active\nactive\n" {
			t.Errorf("networkd and the target are %q", state)
		}
		if files := h.find("/run/systemd/network"); files != "" {
			t.Errorf("rendered: %s", files)
		}
		if out := h.network(); strings.Contains(out, "192.0.2.") || strings.Contains(out, "proto 118") {
			t.Errorf("something was set up:\n%s", out)
		}
	})
}

// TestSwitchedOff boots with uplink=0: nothing of ours is there.
func TestSwitchedOff(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite boot.Suite) {
		h := booted(t, boot.Config{
			Root: boot.Root{Suite: suite}, Product: installed(t), Tree: recipe, Enable: []string{networkd},
			CommandLine: []string{"uplink=0"},
		}, "running")
		if line := h.must("cat", "/proc/1/cmdline"); !strings.Contains(line, "\x00uplink=0") {
			t.Fatalf("PID 1 was not given it: %q", line)
		}
		if found := h.find("/run/systemd/generator", "/run/systemd/network", "/run/systemd/networkd.conf.d") + h.must("find", "/run", "-name", "uplink"); found != "" {
			t.Errorf("there is\n%s", found)
		}
		if out := h.network(); strings.Contains(out, "192.0.2.") || strings.Contains(out, "proto 118") {
			t.Errorf("something was set up:\n%s", out)
		}
		if names, err := h.Run(h.ctx, "cat", "/run/uplink/rt_tables.conf"); err == nil {
			t.Errorf("tables were named: %s", names)
		}
		h.clean()

		// The command line alone did that.
		if out, err := h.Run(h.ctx, "uplinkctl", "check"); err != nil {
			t.Errorf("the spec is no good: %v %s", err, out)
		}
	})
}

// TestBackendOnTheCommandLine makes the kernel command line choose the back end that the host
// would not have taken.
func TestBackendOnTheCommandLine(t *testing.T) {
	t.Parallel()
	t.Run("netlink", func(t *testing.T) {
		eachSuite(t, func(t *testing.T, suite boot.Suite) {
			h := booted(t, boot.Config{
				Root: boot.Root{Suite: suite}, Product: installed(t), Tree: recipe, Enable: []string{networkd},
				CommandLine: []string{"uplink.backend=netlink"},
			}, "running")
			h.settled()
			h.works()
			h.clean()
			if files := h.find("/run/systemd/network"); files != "" {
				t.Errorf("rendered: %s", files)
			}
			before := h.network()
			if !strings.Contains(before, "proto 118") {
				t.Errorf("not ours:\n%s", before)
			}
			// networkd must not touch what it did not make.
			h.must("systemctl", "restart", networkd)
			h.must("networkctl", "list")
			if after := h.network(); after != before {
				t.Errorf("before networkd's restart\n%s\nafter\n%s", before, after)
			}
		})
	})
	t.Run("networkd", func(t *testing.T) {
		eachSuite(t, func(t *testing.T, suite boot.Suite) {
			// Nobody runs networkd here, and a complaint about that is right.
			h := booted(t, boot.Config{
				Root: boot.Root{Suite: suite}, Product: installed(t), Tree: recipe,
				CommandLine: []string{"uplink.backend=networkd"},
			}, "")
			if found := h.find("/run/systemd/generator"); strings.Contains(found, "uplink-apply") || !strings.Contains(found, "uplink-networkd.service") {
				t.Errorf("hooked in:\n%s", found)
			}
			if out := h.network(); strings.Contains(out, "192.0.2.") || strings.Contains(out, "proto 118") {
				t.Errorf("something was set up:\n%s", out)
			}
		})
	})
}

// TestWithoutNetworkd checks that the oneshot does the work where networkd is masked.
// TestNobodyElse has a networkd that is only not enabled.
func TestWithoutNetworkd(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite boot.Suite) {
		h := booted(t, boot.Config{
			Root: boot.Root{Suite: suite}, Product: installed(t), Tree: recipe,
			Files: map[string]boot.File{
				"/etc/systemd/system/" + networkd:             boot.Masked,
				"/etc/systemd/system/systemd-networkd.socket": boot.Masked,
			},
		}, "running")
		// multi-user.target waits for the oneshot: there is nothing to wait for.
		if out, err := h.Run(h.ctx, "uplinkctl", "diff"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		h.settled()
		h.works()
		h.clean()
		if out := h.network(); !strings.Contains(out, "proto 118") {
			t.Errorf("not ours:\n%s", out)
		}
		if state, _ := h.Run(h.ctx, "systemctl", "is-active", "uplink-apply.service", networkd, "uplink-networkd.service"); state != "active\ninactive\ninactive\n" {
			t.Errorf("apply, networkd and render are %q", state)
		}
		if files := h.find("/run/systemd/network"); files != "" {
			t.Errorf("rendered: %s", files)
		}
		before := h.network()
		h.must("systemctl", "daemon-reload")
		if after := h.network(); after != before {
			t.Errorf("before\n%s\nafter\n%s", before, after)
		}
		if err := h.Reboot(h.ctx); err != nil {
			t.Fatal(err)
		}
		h.wait("running")
		h.settled()
		h.works()
		if after := h.network(); after != before {
			t.Errorf("the first boot made\n%s\nthe second\n%s", before, after)
		}
	})
}
