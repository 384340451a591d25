package boot_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/boot"
)

// TestReload has `uplinkctl reload` bring a changed spec into effect on a host of networkd's,
// without restarting networkd and without losing a packet of the other uplink; a boot with the
// changed spec reaches the same state.
func TestReload(t *testing.T) {
	text, err := fs.ReadFile(recipe, specFile[1:])
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "table     = 1\n", "table     = 7\npriority  = 500\nfwmark    = 0x10\n", 1)
	everySuite(t, func(t *testing.T, suite boot.Suite) {
		h := booted(t, boot.Config{
			Root: boot.Root{Suite: suite}, Product: installed(t), Tree: recipe, Enable: []string{networkd},
		}, "running")
		h.settled()
		first := h.network()
		pid := h.must("systemctl", "show", "--property=MainPID", networkd)

		flows := h.flows(recipeAddrs[0])
		for _, spec := range []string{changed, string(text), changed} {
			h.changeTo(spec)
			h.settled()
			h.works()
			if now := h.network(); (now == first) != (spec == string(text)) {
				t.Errorf("before\n%s\nafter\n%s", first, now)
			}
		}
		second := strings.Index(string(text), "[uplink.rt2]")
		for _, spec := range []string{string(text[:second]), changed} {
			h.changeTo(spec)
			h.settled()
			if now := h.network(); strings.Contains(now, "198.51.100.10") != (spec == changed) {
				t.Errorf("with the spec\n%s\nthere is\n%s", spec, now)
			}
		}
		h.unbroken("uplinkctl reload", flows)
		if again := h.must("uplinkctl", "reload"); again != "" {
			t.Errorf("a second reload did\n%s", again)
		}
		if now := h.must("systemctl", "show", "--property=MainPID", networkd); now != pid {
			t.Errorf("networkd was started again: %s, then %s", pid, now)
		}
		h.clean()

		reloaded := h.network()
		if err := h.Reboot(h.ctx); err != nil {
			t.Fatal(err)
		}
		h.wait("running")
		h.settled()
		if now := h.network(); now != reloaded {
			t.Errorf("after the reload\n%s\nafter a boot\n%s", reloaded, now)
		}
	})
}
