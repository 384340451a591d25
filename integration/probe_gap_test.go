package integration

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// replacing is a host whose first card gets its addresses from somebody else.
var replacing = strings.NewReplacer(
	`addresses     = ["192.0.2.10/24", "2001:db8:1::10/64"]`, `manage = "policy"`,
	`gateways      = ["192.0.2.1", "2001:db8:1::1"]`, `dhcp = "yes"`,
	"metric        = 200\n", "metric = 2000\n",
).Replace(probedUplinks)

// TestAnAddressIsReplaced replaces the addresses of an uplink as most DHCP clients do, removing
// the old one first, and with duplicate address detection in IPv6: no verdict follows, and
// traffic without a source stays with the uplink. If no address comes the uplink is dead.
func TestAnAddressIsReplaced(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	if err := l.Host.Sysctl("net.ipv6.conf.eth0.accept_dad", "1"); err != nil {
		t.Fatal(err)
	}
	give4 := func(last string) {
		ip(ctx, t, l.Host, "address add 192.0.2."+last+"/24 dev eth0", "route add default via 192.0.2.1 dev eth0 proto dhcp metric 100")
	}
	give6 := func(last string) {
		ip(ctx, t, l.Host, "-6 address add 2001:db8:1::"+last+"/64 dev eth0", "-6 route add default via 2001:db8:1::1 dev eth0 proto ra metric 100")
	}
	ip(ctx, t, l.Host, "link set eth0 up")
	give4("50")
	give6("50")
	c.spec(replacing)
	c.ok("apply")
	if err := l.Host.WaitSettled(ctx); err != nil {
		t.Fatal(err)
	}
	d := startWatch(t, c.command("watch"))
	defer d.stop()
	d.says(ctx, "isp1: alive (IPv4)", 1)
	d.says(ctx, "isp1: alive (IPv6)", 1)

	for i, gap := range []time.Duration{0, 0, 100 * time.Millisecond, 500 * time.Millisecond} {
		was, is := []string{"50", "60", "70", "80"}[i], []string{"60", "70", "80", "90"}[i]
		ip(ctx, t, l.Host, "address del 192.0.2."+was+"/24 dev eth0", "-6 address del 2001:db8:1::"+was+"/64 dev eth0", "-6 route flush default proto ra")
		time.Sleep(gap)
		give4(is)
		give6(is)
		time.Sleep(4 * time.Second) // detection, and more than duplicate address detection takes
		if text := d.log.String(); strings.Contains(text, "dead") {
			t.Fatalf("replaced within %v:\n%s", gap, text)
		}
	}
	flow := startStream(t, l, netip.Addr{}, l.ClientAddr(false))
	start := time.Now()
	time.Sleep(300 * time.Millisecond)
	if _, _, sources := flow.since(start); len(sources) != 1 || sources[netip.MustParseAddr("192.0.2.90")] == 0 {
		t.Errorf("it leaves from %v", sources)
	}

	start = time.Now()
	ip(ctx, t, l.Host, "address del 192.0.2.90/24 dev eth0")
	d.says(ctx, "isp1: dead (IPv4): eth0 has no IPv4 address of the uplink\n", 1)
	if took := time.Since(start); took < 900*time.Millisecond || took > 2*time.Second {
		t.Errorf("dead after %v", took)
	}
	if strings.Contains(d.log.String(), "dead (IPv6)") {
		t.Error("IPv6 is dead as well")
	}
}

// TestAVerdictGoesWithItsProbe moves the probe from an uplink that is dead to the other one while
// no watch runs: without a probe the uplink counts as alive. After `down` nothing is known.
func TestAVerdictGoesWithItsProbe(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	c.spec(probedUplinks)
	c.ok("apply")
	if err := l.Host.WaitSettled(ctx); err != nil {
		t.Fatal(err)
	}
	d := startWatch(t, c.command("watch"))
	d.says(ctx, ": alive (IPv", 2)
	die(ctx, t, l, 1)
	d.says(ctx, ": dead (IPv", 2)
	d.says(ctx, "rule add priority 32765", 2)
	d.stop()
	revive(ctx, t, l, 1)
	failedOver := func() bool {
		t.Helper()
		rules, err := l.Host.Run(ctx, "ip", "rule", "show", "priority", "32765")
		if err != nil {
			t.Fatal(err)
		}
		return rules != ""
	}
	c.ok("apply")
	if !failedOver() {
		t.Error("a verdict does not hold over a run")
	}
	i, j := strings.Index(probedUplinks, "[uplink.isp1.probe]"), strings.Index(probedUplinks, "[uplink.rt2]")
	moved := probedUplinks[:i] + probedUplinks[j:] + strings.ReplaceAll(probedUplinks[i:j], "isp1", "rt2")
	c.spec(moved)
	c.ok("apply")
	if failedOver() {
		t.Error("an uplink without a probe is dead")
	}
	c.ok("diff")
	c.ok("down")
	c.spec(probedUplinks)
	c.ok("apply")
	if failedOver() {
		t.Error("a verdict has survived `down`")
	}
}
