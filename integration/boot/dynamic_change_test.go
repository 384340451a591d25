package boot_test

import (
	"io/fs"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/boot"
)

// TestDynamicFromStatic makes a host learn the addresses that were in its spec, which networkd
// 252 gets wrong half the time.
func TestDynamicFromStatic(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite boot.Suite) {
		if suite.Systemd() < 248 {
			t.Skip("247 keeps its rules of these addresses, and uplinkctl reload fails")
		}
		var s servers
		h := bootedWith(t, boot.Config{
			Root: boot.Root{Suite: suite}, Product: installed(t), Tree: recipe, Enable: []string{networkd},
		}, "running", s.serve)
		h.servedByNetworkd()
		h.changeTo(learnSpec)
		h.learned(recipeCards)
	})
}

// becomesStatic changes the spec to one that learns nothing, by way of one in which one uplink
// does. The addresses differ from those learned: networkd 252 fails with one that it has learned
// and then finds in its file, or the other way round.
func (h *host) becomesStatic(suite boot.Suite) {
	h.t.Helper()
	data, err := fs.ReadFile(recipe, specFile[1:])
	if err != nil {
		h.t.Fatal(err)
	}
	one, two := netip.MustParseAddr("192.0.2.30"), netip.MustParseAddr("198.51.100.30")
	spec := strings.NewReplacer(recipeAddrs[0].String(), one.String(), recipeAddrs[1].String(), two.String()).Replace(string(data))
	h.changeTo(strings.Replace(spec, "addresses = [\"198.51.100.30/24\"]\ngateways  = [\"198.51.100.1\"]\n", "dhcp = \"ipv4\"\nfwmark = 7\npriority = 500\n", 1))
	// It does not recognize the rules that it finds as its own.
	h.must("systemctl", "restart", networkd)
	h.learned(map[netip.Addr]string{one: "eth0", recipeAddrs[1]: "eth1"})
	h.leavesOthersAlone(suite)
	h.changeTo(spec)
	cards := map[netip.Addr]string{one: "eth0", two: "eth1"}
	h.static(cards)
	h.must("systemctl", "restart", networkd)
	h.static(cards)
	static := h.state()
	h.must("rm", onlineWanted) // which would wait for rules that will not be
	if err := h.Reboot(h.ctx); err != nil {
		h.t.Fatal(err)
	}
	h.wait("running")
	h.static(cards)
	h.becomes(static)
}

// static checks that everything is networkd's, and that no watch runs.
func (h *host) static(cards map[netip.Addr]string) {
	h.t.Helper()
	h.waitRules(cards)
	h.settled()
	h.worksAt(cards)
	h.clean()
	h.allNetworkds()
	if state := h.show(watch, "ActiveState"); state != "inactive" {
		h.t.Errorf("%s is %q", watch, state)
	}
}

// becomesDynamic changes the spec to one that learns, while a networkd runs that was not told to
// leave the rules of others alone.
func (h *host) becomesDynamic(suite boot.Suite) {
	h.t.Helper()
	h.changeTo(learnSpec)
	h.learned(recipeCards)
	h.leavesOthersAlone(suite)
	before := h.state()
	flows := h.flows(recipeAddrs[1])
	h.must("networkctl", "reconfigure", "eth0")
	time.Sleep(begun)
	h.learned(recipeCards)
	h.becomes(before)
	h.measured("networkd takes rules away", flows)
	flows = h.flows(recipeAddrs...)
	h.must("systemctl", "restart", networkd)
	h.learned(recipeCards)
	h.measured("networkd is restarted", flows)
	flows = h.flows(recipeAddrs[1])
	h.must("networkctl", "reconfigure", "eth0")
	time.Sleep(begun)
	h.learned(recipeCards)
	h.unbroken("networkd leaves rules alone", flows)
}

// changeTo has `uplinkctl reload` bring a spec into effect.
func (h *host) changeTo(spec string) {
	h.t.Helper()
	h.must("sh", "-c", `printf %s "$1" > `+specFile, "sh", spec)
	h.t.Log(h.must("sh", "-c", "uplinkctl reload 2>&1"))
}
