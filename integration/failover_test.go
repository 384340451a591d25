package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// TestEveryCardMayFail removes the carrier of each of three cards and gives it back. What is left
// carries all traffic, and afterwards everything is as before.
func TestEveryCardMayFail(t *testing.T) {
	t.Parallel()
	require(t, lab.NeedNetworkd)
	e := find(t, "three-providers")
	ctx, h := boot(t, e)
	// Many destinations, for a flow's way is chosen by its addresses.
	to := []netip.Addr{h.ClientAddr(false), h.ClientAddr(true)}
	for i := range 24 {
		for _, p := range prefixes(fmt.Sprintf("203.0.113.%d/24", 100+i), fmt.Sprintf("2001:db8:ffff::1:%x/64", i)) {
			ip(ctx, t, h.Client, "address add "+p.String()+" dev eth0")
			to = append(to, p.Addr())
		}
	}
	h.startNetworkd(ctx, t, h.tree(ctx, t))
	h.quiet(t)

	use := spread(ctx, t, h.Lab, to)
	t.Logf("all cards: %v", use)
	if use["eth0"] == 0 || use["eth1"] == 0 || use["eth2"] != 0 {
		t.Errorf("%v; want it shared by eth0 and eth1", use)
	}
	for i := range h.lab.Providers {
		port, card := fmt.Sprintf("p%d", i+1), h.lab.Providers[i].Cards[0].Name
		// Otherwise the provider would lose its IPv6 addresses for good.
		if err := h.Router.Sysctl("net.ipv6.conf."+port+".keep_addr_on_down", "1"); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		ip(ctx, t, h.Router, "link set "+port+" down")
		use := spread(ctx, t, h.Lab, to)
		t.Logf("without %s, after %v: %v", card, time.Since(start).Round(time.Millisecond), use)
		if use[card] != 0 {
			t.Errorf("without %s: %v", card, use)
		}
		start = time.Now()
		ip(ctx, t, h.Router, "link set "+port+" up")
		h.converged(ctx, t)
		use = spread(ctx, t, h.Lab, to)
		t.Logf("with %s again, after %v: %v", card, time.Since(start).Round(time.Millisecond), use)
		if use["eth0"] == 0 || use["eth1"] == 0 || use["eth2"] != 0 {
			t.Errorf("%v; want it shared by eth0 and eth1", use)
		}
	}

	// Both cards that share the traffic: the third takes over what it can carry.
	ip(ctx, t, h.Router, "link set p1 down", "link set p2 down")
	only4 := slices.DeleteFunc(slices.Clone(to), netip.Addr.Is6)
	if use := spread(ctx, t, h.Lab, only4); use["eth2"] != len(only4) {
		t.Errorf("only eth2 is left: %v", use)
	}
	ip(ctx, t, h.Router, "link set p1 up", "link set p2 up")
	h.converged(ctx, t)
	if use := spread(ctx, t, h.Lab, to); use["eth0"] == 0 || use["eth1"] == 0 || use["eth2"] != 0 {
		t.Errorf("%v; want it shared by eth0 and eth1 again", use)
	}
	h.quiet(t)
}

// spread waits until packets to all those addresses arrive, and returns how
// many left by each card.
func spread(ctx context.Context, t *testing.T, l *lab.Lab, to []netip.Addr) map[string]int {
	t.Helper()
	var use map[string]int
	limit, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	eventually(limit, t, func() (string, error) {
		use = map[string]int{}
		var lost []string
		for _, a := range to {
			d, err := l.LeavesBy(ctx, 100*time.Millisecond, lab.Flow{Destination: a})
			if err != nil {
				return "", err
			}
			if !d.Arrived {
				lost = append(lost, fmt.Sprintf("to %s: %s", a, d))
				break
			}
			use[d.Card]++
		}
		return strings.Join(lost, "\n"), nil
	})
	return use
}

// TestCarrierThroughNetlink removes the carrier of the better of two cards on a host without
// networkd. Without the kernel's setting nothing arrives, which verify reports, after warning of
// it; with the setting the other card takes over.
func TestCarrierThroughNetlink(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	text, err := os.ReadFile(filepath.Join("examples", "dual-stack", "root", "etc", "uplink", "uplink.toml"))
	if err != nil {
		t.Fatal(err)
	}
	c.spec(string(text))
	c.ok("apply")
	const set = "net.ipv4.conf.%[1]s.ignore_routes_with_linkdown=1 and net.ipv6.conf.%[1]s.ignore_routes_with_linkdown=1 (sysctl.d(5))"
	notes := func(want string) {
		t.Helper()
		a := c.run("verify", "--json")
		var v struct{ Hazards []string }
		if err := json.Unmarshal([]byte(a.stdout), &v); err != nil || a.code != 0 || strings.Join(v.Hazards, "\n") != want {
			t.Errorf("exit status %d, %v: %q, want %q", a.code, err, v.Hazards, want)
		}
	}
	leaves := func(want string) {
		t.Helper()
		eventually(ctx, t, func() (string, error) {
			for _, six := range []bool{false, true} {
				d, err := l.LeavesBy(ctx, 200*time.Millisecond, lab.Flow{Destination: l.ClientAddr(six)})
				if err != nil || d.Arrived != (want != "") || want != "" && d.Card != want {
					return d.String(), err
				}
			}
			return "", nil
		})
	}
	leaves("eth0")
	notes("main has default routes by eth0 and eth1: where one loses its carrier the kernel goes on using it; set " + fmt.Sprintf(set, "all") + ", or give the uplinks probes")
	ip(ctx, t, l.Router, "link set p1 down")
	leaves("")
	notes("eth0: it has no carrier, and the kernel still sends there what has another way, or is to be refused: set " + fmt.Sprintf(set, "eth0"))
	for _, family := range []string{"ipv4", "ipv6"} {
		if err := l.Host.Sysctl("net."+family+".conf.eth0.ignore_routes_with_linkdown", "1"); err != nil {
			t.Fatal(err)
		}
	}
	leaves("eth1")
	notes("")
}
