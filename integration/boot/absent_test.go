package boot_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/boot"
)

// waitForAddress notes how many tenths of a second the first card has waited for its
// address, from when others would have configured it.
const waitForAddress = `[Unit]
After=network.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'i=0; while [ $i -lt 600 ] && ! ip -4 -o address show dev eth0 | grep -q 192.0.2.10; do i=$((i+1)); sleep 0.1; done; echo $i > /run/waited'
`

// TestAbsentCard boots a host without networkd that lacks one of its cards: the others are
// there at once, and the boot is held up no longer than the service waits for a card.
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
