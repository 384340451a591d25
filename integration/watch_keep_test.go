package integration

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// quick4 is learning with IPv4 alone, which a client has in a moment.
var quick4 = strings.NewReplacer("\"yes\"\naccept", "\"ipv4\"\naccept", "accept-ra = \"yes\"\n", "").Replace(learning)

// leasedQuickly boots a host that has a lease from dhclient and its rules.
func leasedQuickly(t *testing.T) (*watched, netip.Addr) {
	t.Helper()
	w := bootWatched(t, quick4)
	a := netip.MustParseAddr("198.51.100.50")
	w.serve(a, time.Hour)
	if _, err := w.Host.StartClient(w.ctx, lab.ClientOptions{Program: lab.ClientDhclient, Links: []string{"eth1"}, IPv4: true}); err != nil {
		t.Fatal(err)
	}
	w.becomes("lease", leased(a)...)
	return w, a
}

// stays checks that the second uplink has exactly these rules and routes, now and a moment later.
func (w *watched) stays(what string, want ...string) {
	w.t.Helper()
	w.becomes(what, want...)
	time.Sleep(300 * time.Millisecond)
	w.becomes(what+", a moment later", want...)
}

// TestWatchKeeps removes what the watch has added, kills the watch, changes the spec, and takes
// everything down.
func TestWatchKeeps(t *testing.T) {
	t.Parallel()
	w, a := leasedQuickly(t)
	ctx := w.ctx

	// Each of its rules and routes, and all at once.
	for _, what := range []string{"rule del from 198.51.100.50 lookup 1", "rule del to 198.51.100.50 lookup 1", "route del default table 1", "route flush table 1"} {
		ip(ctx, t, w.Host, what)
		w.becomes(what, leased(a)...)
	}
	w.answers(a)

	// Killed, and while it is gone the address goes too: the next watch notices.
	if err := w.watch.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	w.stays("killed", leased(a)...)
	ip(ctx, t, w.Host, "address del 198.51.100.50/24 dev eth1", "address add 198.51.100.77/24 dev eth1")
	w.start()
	b := netip.MustParseAddr("198.51.100.77")
	want := leased(b)[:3] // the gateway went with the address
	w.becomes("started again", want...)
	ip(ctx, t, w.Host, "route add default via 198.51.100.1 dev eth1")
	w.becomes("the gateway is back", leased(b)...)
	w.answers(b)

	// Not in effect before the reload.
	edited := strings.Replace(quick4, "table     = 1", "table     = 1\nto        = []", 1)
	w.spec(edited)
	ip(ctx, t, w.Host, "rule del from 198.51.100.77 lookup 1")
	w.stays("edited", leased(b)...)
	w.run("reload").expect(t, "reload", 0, "", "")
	want = append([]string{"from 198.51.100.77/32 lookup 1"}, leased(b)[2:]...)
	w.stays("reloaded", want...)
	ip(ctx, t, w.Host, "address add 198.51.100.88/24 dev eth1")
	w.stays("one more address", append(want, "from 198.51.100.88/32 lookup 1")...)

	w.ok("down")
	w.stays("down")
	ip(ctx, t, w.Host, "address add 198.51.100.99/24 dev eth1")
	w.stays("an address after down")
	w.run("reload").expect(t, "reload", 0, "", "")
	w.becomes("up again", append(want, "from 198.51.100.88/32 lookup 1", "from 198.51.100.99/32 lookup 1")...)

	if err := w.watch.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := w.watch.Wait(); err != nil {
		t.Errorf("interrupted: %v", err)
	}
}

// TestWatchWithoutItsDirectory removes /run/uplink, as a tidy administrator may, and checks that
// what is reloaded afterwards is kept all the same, and that the watch is still the only one.
func TestWatchWithoutItsDirectory(t *testing.T) {
	t.Parallel()
	w := bootWatched(t, quick4)
	a, run := netip.MustParseAddr("198.51.100.50"), filepath.Join(w.root, "run/uplink")
	ip(w.ctx, t, w.Host, "link set eth1 up", "address add 198.51.100.50/24 dev eth1", "route add default via 198.51.100.1 dev eth1")
	w.becomes("learned", leased(a)...)
	for _, gone := range []string{run, filepath.Join(run, "watch"), run} {
		if err := os.RemoveAll(gone); err != nil && !errors.Is(err, syscall.ENOTEMPTY) {
			t.Fatal(err)
		}
		eventually(w.ctx, t, func() (string, error) {
			if _, err := os.Stat(filepath.Join(run, "watch")); err != nil {
				return err.Error(), nil
			}
			return "", nil
		})
		w.run("reload").expect(t, "reload", 0, map[bool]string{true: "written /run/uplink/rt_tables.conf"}[gone == run], "")
		ip(w.ctx, t, w.Host, "rule del from 198.51.100.50 lookup 1")
		w.becomes("without "+gone, leased(a)...)
		w.run("watch").expect(t, "another watch", 1, "", "another uplinkctl watch runs already")
	}
}

// TestWatchLinkFlaps removes the carrier, and sets the link down: what the kernel drops without
// reporting it is back when the link and its client are.
func TestWatchLinkFlaps(t *testing.T) {
	t.Parallel()
	w, a := leasedQuickly(t)
	ip(w.ctx, t, w.Router, "link set p2 down")
	w.stays("no carrier", leased(a)...)
	ip(w.ctx, t, w.Router, "link set p2 up")
	w.stays("carrier", leased(a)...)
	w.answers(a)

	ip(w.ctx, t, w.Host, "link set eth1 down")
	rules := leased(a)[:2]
	w.stays("down", rules...)
	ip(w.ctx, t, w.Host, "link set eth1 up")
	// dhclient does not put its gateway back.
	w.stays("up", leased(a)[:3]...)
	ip(w.ctx, t, w.Host, "route add default via 198.51.100.1 dev eth1")
	w.becomes("the gateway is back", leased(a)...)
	w.answers(a)
}

// TestWatchRouters makes the kernel listen to router advertisements: of two routers, one goes
// with a last message and one without; and a prefix changes.
func TestWatchRouters(t *testing.T) {
	t.Parallel()
	w := bootWatched(t, strings.Replace(learning, "dhcp      = \"yes\"\n", "", 1))
	if err := w.Host.Sysctl("net.ipv6.conf.eth1.accept_ra", "2"); err != nil {
		t.Fatal(err)
	}
	prefix := func(s string) []lab.AdvertisedPrefix {
		return []lab.AdvertisedPrefix{{Prefix: netip.MustParsePrefix(s)}}
	}
	slaac := func(subnet string) []string {
		a := subnet + "::ff:fe00:201/128"
		return []string{"from " + a + " lookup 1", "to " + a + " lookup 1", "table 1 " + subnet + "::/64 dev eth1"}
	}
	by := func(router string) string { return "table 1 ::/0 via " + router + " dev eth1" }
	own := w.linkLocal("p2")
	// Each with its own source: otherwise radvd would use the other's.
	one, err := w.StartAdvertiser(w.ctx, 2, netip.MustParseAddr(own), lab.Advertisement{Lifetime: time.Hour, Prefixes: prefix("2001:db8:2::/64")})
	if err != nil {
		t.Fatal(err)
	}
	old := slaac("2001:db8:2")
	w.becomes("one router", append(old, by(own))...)
	two, err := w.StartAdvertiser(w.ctx, 2, netip.MustParseAddr("fe80::2"), lab.Advertisement{Lifetime: 6 * time.Second, Preference: "high"})
	if err != nil {
		t.Fatal(err)
	}
	w.becomes("two routers", append(old, by(own), by("fe80::2"))...)
	routes, err := w.Host.Run(w.ctx, "ip", "-6", "route", "show", "table", "1", "default")
	if err != nil || !strings.HasPrefix(routes, "default via fe80::2 ") {
		t.Errorf("the preferred router is not the first: %v\n%s", err, routes)
	}
	two.Kill()
	start := time.Now()
	w.becomes("one is silent until its time is over", append(old, by(own))...)
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("it was kept for %v", took)
	}

	// The old prefix is announced for four seconds more.
	next := append(prefix("2001:db8:22::/64"), lab.AdvertisedPrefix{Prefix: netip.MustParsePrefix("2001:db8:2::/64"), Valid: 4 * time.Second})
	if err := one.Advertise(lab.Advertisement{Lifetime: time.Hour, Prefixes: next}); err != nil {
		t.Fatal(err)
	}
	fresh := slaac("2001:db8:22")
	w.becomes("a prefix more", slices.Concat(old, fresh, []string{by(own)})...)
	w.answers(netip.MustParseAddr("2001:db8:2::ff:fe00:201"))

	if err := one.Stop(); err != nil {
		t.Fatal(err)
	}
	w.becomes("the other has said goodbye", append(old, fresh...)...)
}

// TestWatchSecondGatewayRefused has dhclient ask on both cards. Without a metric, the kernel
// refuses the second default route, so that gateway is not learned. With a metric for each card
// it is.
func TestWatchSecondGatewayRefused(t *testing.T) {
	t.Parallel()
	w := bootWatched(t, "[uplink.isp1]\ninterface = \"eth0\"\ntable = 2\ndhcp = \"ipv4\"\n[uplink.rt2]\ninterface = \"eth1\"\ntable = 1\ndhcp = \"ipv4\"\n")
	a := netip.MustParseAddr("198.51.100.50")
	if _, err := w.StartDHCPServer(w.ctx, 1, lab.Offer{First: netip.MustParseAddr("192.0.2.50"), Lease: time.Hour}); err != nil {
		t.Fatal(err)
	}
	w.serve(a, time.Hour)
	for _, card := range []string{"eth0", "eth1"} {
		if _, err := w.Host.StartClient(w.ctx, lab.ClientOptions{Program: lab.ClientDhclient, Links: []string{card}, IPv4: true}); err != nil {
			t.Fatal(err)
		}
		if card == "eth0" {
			if err := w.Host.WaitDefaultRoute(w.ctx, lab.Inet, card); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.stays("the second gateway is refused", leased(a)[:3]...)
	w.run("verify").expect(t, "verify", 0, "eth1: 198.51.100.50 was learned, and no gateway with it", "")
	ip(w.ctx, t, w.Host, "route add default via 198.51.100.1 dev eth1 metric 200")
	w.becomes("with a metric", leased(a)...)
	if v := w.run("verify"); strings.Contains(v.stdout, "no gateway") {
		t.Errorf("verify has a complaint: %s", v.stdout)
	}
	w.answers(a)
}
