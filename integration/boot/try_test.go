package boot_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/boot"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// triedSpec has another address and another table than the recipe.
const triedSpec = `
[uplink.isp1]
interface = "eth0"
addresses = ["192.0.2.10/24"]
gateways  = ["192.0.2.1"]
default-route = true

[uplink.rt2]
interface = "eth1"
table     = 7
addresses = ["198.51.100.99/24"]
gateways  = ["198.51.100.1"]
`

// TestTry loses the session in which a spec is tried, with its process, on each systemd and
// either back end: the timer goes back, and leaves nothing of itself behind.
func TestTry(t *testing.T) {
	t.Parallel()
	t.Run("networkd", func(t *testing.T) {
		eachSuite(t, func(t *testing.T, suite boot.Suite) { tryIn(t, suite, networkd) })
	})
	t.Run("netlink", func(t *testing.T) {
		require(t)
		t.Parallel()
		tryIn(t, boot.Trixie)
	})
}

func tryIn(t *testing.T, suite boot.Suite, enable ...string) {
	t.Helper()
	h := booted(t, boot.Config{Root: boot.Root{Suite: suite}, Product: installed(t), Tree: recipe, Enable: enable}, "running")
	h.settled()
	before := h.network()
	h.must("cp", specFile, "/root/spec")
	sessions := 0
	try := func(text, timeout string) {
		t.Helper()
		sessions++ // systemd forgets an ended scope when it comes to it
		h.must("sh", "-c", "cat > "+specFile+" <<'EOF'\n"+text+"EOF\n")
		// A session, as sshd and logind would make it, which is gone in the end.
		h.must("systemd-run", "--scope", fmt.Sprintf("--unit=session-%d", sessions), "sh", "-c",
			"rm -f /root/said; uplinkctl try --timeout "+timeout+" >/root/said 2>&1 & until grep -qs within /root/said; do kill -0 $! || exit 1; sleep 0.1; done")
	}
	timers := func() string { return h.must("systemctl", "list-timers", "--all", "--no-legend", "uplink*") }
	gone := func(what string) {
		t.Helper()
		err := lab.Poll(h.ctx, func() (bool, string) {
			out := timers() + h.must("sh", "-c", "systemctl list-units --all --no-legend 'uplink-try*'; ls -d /run/uplink/try* /run/systemd/transient/uplink* 2>/dev/null || true")
			return out == "", out
		})
		if err != nil {
			t.Errorf("%s: left: %v\n%s", what, err, h.journal())
		}
	}

	try(triedSpec, "5")
	if out := timers(); !strings.Contains(out, "uplink-try.timer") {
		t.Errorf("there is no timer: %s", out)
	}
	if out := h.must("uplinkctl", "diff"); out != "" {
		t.Errorf("it is not in effect: %s", out)
	}
	h.must("systemctl", "daemon-reload")
	h.must("sh", "-c", "kill -KILL $(pidof uplinkctl)")
	start := time.Now()
	gone("the time is over")
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
	if now := h.network(); now != before {
		t.Errorf("the kernel holds\n%s\nheld\n%s\n%s", now, before, h.journal("--unit=uplink-try"))
	}
	h.works()
	if out := h.journal("--unit=uplink-try", "--priority=notice"); !strings.Contains(out, "nobody has kept what was tried: all is as it was before") {
		t.Errorf("the journal has %s", out)
	}

	// Enough time for the message, even if other systems boot at the same time.
	try(triedSpec, "60")
	h.must("uplinkctl", "try", "--confirm")
	gone("kept")
	if out := h.must("uplinkctl", "diff"); out != "" {
		t.Errorf("it is not kept: %s", out)
	}

	h.clean()

	// What boots is what is there.
	h.must("cp", "/root/spec", specFile)
	h.must("uplinkctl", "reload")
	if now := h.network(); now != before {
		t.Errorf("the kernel holds\n%s\nheld\n%s", now, before)
	}
	try(triedSpec, "60")
	if err := h.Reboot(h.ctx); err != nil {
		t.Fatal(err)
	}
	h.wait("running")
	h.settled()
	gone("a reboot")
	h.clean()
}
