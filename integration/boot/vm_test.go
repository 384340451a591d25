package boot_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/gen/need"
	"github.com/uplink-generator/uplink-generator/integration/boot"
	"github.com/uplink-generator/uplink-generator/integration/internal/labtest"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// vmLimit is for all that one virtual machine does, on a computer with other work.
const vmLimit = 5 * time.Minute

// withoutNetworkd has the kernel command line of a host that has no networkd, and
// kernelNames keeps udev from giving the cards other names.
var (
	withoutNetworkd = []string{"systemd.mask=" + networkd, "systemd.mask=systemd-networkd.socket", "systemd.mask=systemd-network-generator.service"}
	kernelNames     = "net.ifnames=0"
)

// guestSpec is the spec of a virtual machine: two cards and both families. first and
// second say which cards they are.
func guestSpec(first, second string) string {
	return `[uplink.isp1]
` + first + `
addresses     = ["192.0.2.10/24", "2001:db8:1::10/64"]
gateways      = ["192.0.2.1", "2001:db8:1::1"]
default-route = true

[uplink.rt2]
` + second + `
table     = 1
addresses = ["198.51.100.10/24", "2001:db8:2::10/64"]
gateways  = ["198.51.100.1", "2001:db8:2::1"]
`
}

var (
	guestIPv4 = recipeAddrs
	guestIPv6 = []netip.Addr{netip.MustParseAddr("2001:db8:1::10"), netip.MustParseAddr("2001:db8:2::10")}
)

// guest is a virtual machine, with what the tests ask it.
type guest struct {
	*boot.VM
	lab *lab.Lab
	ctx context.Context
	t   *testing.T
}

// TestVirtualMachine covers what a container cannot show: its own kernel with udev and drivers,
// firmware, a root file system that nobody can write to, cards that come and go.
func TestVirtualMachine(t *testing.T) {
	t.Parallel()
	need.Nil(t, boot.RequireVM())
	disk, err := boot.MakeDisk(t.Context(), boot.Config{
		Root: boot.Root{Suite: boot.Trixie, Packages: boot.Kernel}, Product: installed(t), Enable: []string{networkd},
		Files: map[string]boot.File{
			"/etc/systemd/network/50-red.netdev": boot.Text("[NetDev]\nName=red\nKind=vrf\n[VRF]\nTable=77\n"),
			"/etc/modules-load.d/vrf.conf":       boot.Text("vrf\n"),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	labtest.Close(t, disk)
	for name, row := range map[string]struct {
		config boot.VMConfig
		check  func(*guest)
	}{
		"networkd": {boot.VMConfig{
			// With the names that udev gives them: the generator ran before.
			Credentials: map[string]string{"uplink.toml": guestSpec(`interface = "ens16"`, `mac = "`+boot.MAC("eth1")+`"`) +
				"[[uplink.rt2.rule]]\nl3mdev = true\npriority = 900\n"},
		}, (*guest).coldBoot},
		"hot-plug": {boot.VMConfig{
			CommandLine: append([]string{kernelNames}, withoutNetworkd...),
			Cards:       []string{"eth0"},
			Credentials: map[string]string{"uplink.toml": guestSpec(`interface = "eth0"`, `interface = "eth1"`) +
				"[uplink.rt3]\nmac = \"" + boot.MAC("eth2") + "\"\naddresses = [\"198.18.3.10/24\"]\ngateways = [\"198.18.3.1\"]\n"},
		}, (*guest).hotPlug},
		"networkd without IPv6": {boot.VMConfig{
			CommandLine: []string{kernelNames, "ipv6.disable=1"},
			Credentials: map[string]string{"uplink.toml": guestSpec(`interface = "eth0"`, `interface = "eth1"`)},
		}, (*guest).withoutIPv6},
		"netlink without IPv6": {boot.VMConfig{
			CommandLine: append([]string{kernelNames, "ipv6.disable=1"}, withoutNetworkd...),
			Credentials: map[string]string{"uplink.toml": guestSpec(`interface = "eth0"`, `interface = "eth1"`)},
		}, (*guest).withoutIPv6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row.config.Disk = disk
			row.check(startGuest(t, row.config))
		})
	}
}

// startGuest starts a virtual machine in a network of three providers and waits until
// it has booted.
func startGuest(t *testing.T, c boot.VMConfig) *guest {
	t.Helper()
	opts := lab.TwoUplinks()
	opts.Providers = append(opts.Providers, lab.Provider{
		Gateways: []netip.Prefix{netip.MustParsePrefix("198.18.3.1/24")}, Cards: []lab.Card{{Name: "eth2"}},
	})
	ctx, l := labtest.Open(t, vmLimit, opts)
	c.Lab = l
	if c.Cards == nil {
		c.Cards = []string{"eth0", "eth1"}
	}
	start := time.Now()
	v, err := boot.StartVM(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	labtest.Close(t, v)
	g := &guest{v, l, ctx, t}
	state, err := v.WaitBooted(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s after %v, by its own clock %s", state, time.Since(start).Round(time.Second), g.must("cut", "-d", " ", "-f", "1", "/proc/uptime"))
	if state != "running" {
		t.Errorf("the machine is %s", state)
	}
	return g
}

// must runs a command that has to succeed.
func (g *guest) must(name string, args ...string) string {
	g.t.Helper()
	out, err := g.Run(g.ctx, name, args...)
	if err != nil {
		g.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

func (g *guest) sh(script string) string {
	g.t.Helper()
	return g.must("sh", "-c", script)
}

// clean checks that no unit has failed, and that nothing is complained about.
func (g *guest) clean() {
	g.t.Helper()
	if failed := g.must("systemctl", "list-units", "--failed", "--plain", "--no-legend"); failed != "" {
		g.t.Errorf("failed units: %s", failed)
	}
	for line := range strings.Lines(g.must("journalctl", "--boot", "--quiet", "--no-pager", "--priority=warning", "--output=short-monotonic")) {
		if strings.Contains(line, "potentially unpredictable interface name") {
			continue // such names are what a test wants
		}
		if strings.Contains(line, "uplink") || strings.Contains(line, "ordering cycle") {
			g.t.Errorf("logged: %s", line)
		}
	}
}

// verified waits until `uplinkctl verify` finds as many ways right as expected, and none wrong.
func (g *guest) verified(ways int) {
	g.t.Helper()
	start := time.Now()
	for {
		out, err := g.Run(g.ctx, "uplinkctl", "verify")
		if err == nil && strings.Count(out, "ok ") >= ways {
			return
		}
		if time.Since(start) > time.Minute {
			g.t.Errorf("uplinkctl verify: %v\n%s", err, out)
			return
		}
		time.Sleep(time.Second)
	}
}

// ask connects to an address from outside and expects an answer. The providers drop what comes by
// the wrong card.
func (g *guest) ask(addr netip.Addr) error {
	return g.lab.Client.Do(func() error {
		conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(addr, boot.EchoPort).String(), 5*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		const words = "is anybody there?"
		got := make([]byte, len(words))
		err = errors.Join(conn.SetDeadline(time.Now().Add(15*time.Second)), write(conn, words))
		if err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, got); err != nil {
			return err
		}
		if string(got) != words {
			return fmt.Errorf("answered %q", got)
		}
		return nil
	})
}

func write(w io.Writer, s string) error { _, err := io.WriteString(w, s); return err }

// works checks that each address can be reached from outside, and can send to the outside.
func (g *guest) works(addrs ...netip.Addr) {
	g.t.Helper()
	for _, a := range addrs {
		if err := g.ask(a); err != nil {
			g.t.Errorf("%s: %v", a, err)
		}
		if out, err := g.Run(g.ctx, "ping", "-c", "1", "-W", "5", "-I", a.String(), g.lab.ClientAddr(a.Is6()).String()); err != nil {
			g.t.Errorf("%v\n%s", err, out)
		}
	}
}

// served waits until an address is answered from.
func (g *guest) served(what string, addr netip.Addr) {
	g.t.Helper()
	start := time.Now()
	for err := errors.New("not asked"); err != nil; {
		if err = g.ask(addr); err != nil && time.Since(start) > time.Minute {
			g.t.Fatalf("%s: %v\n%s", what, err, g.sh("ip address; ip rule; journalctl -b --no-pager -n 60; systemctl --failed"))
		}
	}
	g.t.Logf("%s: served after %v", what, time.Since(start).Round(100*time.Millisecond))
}

// coldBoot checks that a root file system that nobody can write to boots as the spec says.
func (g *guest) coldBoot() {
	if out, err := g.Run(g.ctx, "touch", "/etc/probe", "/usr/probe"); err == nil {
		g.t.Errorf("/etc or /usr can be written: %s", out)
	}
	g.verified(12)
	g.works(append(guestIPv4, guestIPv6...)...)
	g.clean()
	for _, family := range []string{"-4", "-6"} {
		// Beside the kernel's own one, at 1000, which came with the VRF.
		if rules := g.must("ip", family, "rule"); !strings.Contains(rules, "900:\tfrom all lookup [l3mdev-table] proto static") ||
			!strings.Contains(rules, "1000:\tfrom all lookup [l3mdev-table]\n") {
			g.t.Errorf("rules %s:\n%s", family, rules)
		}
	}
	if links := g.must("networkctl", "--no-pager", "--no-legend", "list"); strings.Count(links, "configured") < 2 {
		g.t.Errorf("networkd says\n%s", links)
	}
}

// rt3 is the address of the card that is known by its MAC address.
var rt3 = netip.MustParseAddr("198.18.3.10")

// hotPlug plugs cards in and out of a host without networkd: one that the spec knows by
// its name, one that it knows by its MAC address, and again.
func (g *guest) hotPlug() {
	g.works(guestIPv4[0])
	for i := range 2 {
		for card, by := range map[string]struct {
			addr netip.Addr
			unit string
		}{
			"eth1": {guestIPv4[1], "uplink-apply@eth1.service"},
			"eth2": {rt3, "uplink-hotplug@*-eth2.service"},
		} {
			if card == "eth2" && i > 0 {
				continue
			}
			if err := g.Plug(card); err != nil {
				g.t.Fatal(err)
			}
			g.served(fmt.Sprintf("%s, time %d", card, i+1), by.addr)
			g.finished(by.unit, i+1)
		}
		for _, card := range []string{"eth1", "eth2"} {
			if card == "eth2" && i > 0 {
				continue
			}
			if err := g.Unplug(g.ctx, card); err != nil {
				g.t.Fatal(err)
			}
		}
		g.gone()
	}
	if err := g.PowerOff(g.ctx); err != nil {
		g.t.Error(err)
	}
}

// finished waits until a unit, or the units that a pattern names, have done their work so many
// times since the boot, and none is still at it. The uplink may be served before its unit was
// asked for (the watch is there too), and before the journal mentions the unit: for a pattern
// journalctl fails until then.
func (g *guest) finished(unit string, times int) {
	g.t.Helper()
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		jobs := g.must("systemctl", "list-jobs", "--no-legend", "uplink*")
		log, _ := g.Run(g.ctx, "journalctl", "--boot", "--no-pager", "--quiet", "--output=cat", "--unit="+unit)
		if jobs == "" && strings.Count(log, "Finished") >= times {
			return
		}
		if time.Since(start) > 2*time.Minute {
			g.t.Errorf("%s has not finished %d times after 2 minutes; jobs: %s\n%s", unit, times, jobs, log)
			return
		}
	}
}

// gone checks that only the rules are left of cards that were unplugged. They find nothing in
// their tables, which the kernel has emptied, and go on with the next rule.
func (g *guest) gone() {
	g.t.Helper()
	g.verified(6)
	g.works(guestIPv4[0])
	if out, err := g.Run(g.ctx, "uplinkctl", "diff"); err != nil {
		g.t.Errorf("%v\n%s", err, out)
	}
	for _, table := range []string{"rt2", "rt3"} {
		if routes := g.sh("for f in -4 -6; do ip $f route show table " + table + " 2>/dev/null || :; done"); routes != "" {
			g.t.Errorf("table %s has\n%s", table, routes)
		}
	}
	if rules := g.must("ip", "rule"); !strings.Contains(rules, "from 198.51.100.10 lookup rt2") {
		g.t.Errorf("the rules are\n%s", rules)
	}
	g.clean()
}

// withoutIPv6 checks that IPv4 works where the kernel knows nothing else.
func (g *guest) withoutIPv6() {
	if _, err := g.Run(g.ctx, "test", "-e", "/proc/sys/net/ipv6"); err == nil {
		g.t.Fatal("there is IPv6")
	}
	g.verified(6)
	g.works(guestIPv4...)
	g.clean()
}
