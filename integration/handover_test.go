package integration

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestHandOver has networkd take over links that the oneshot has, without telling us, as when it
// is started by hand. Whatever of ours runs next leaves networkd what it has then: the addresses,
// which to an old kernel are nobody's, and the IPv6 routes, of which the kernel has refused
// networkd a second one. No packet is lost.
func TestHandOver(t *testing.T) {
	const leavesForeign = "/run/systemd/networkd.conf.d/10-test.conf"
	for _, journal := range []bool{false, true} {
		for _, next := range []string{"watch", "apply", "apply at once", "down", "reload"} {
			t.Run(fmt.Sprintf("journal=%t/%s", journal, next), func(t *testing.T) {
				t.Parallel()
				h := bootNetworkd(t, map[string]string{
					"/etc/uplink/README": "", leavesForeign: "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n",
				}, provider1, provider2)
				h.journal = journal
				h.spec(twoUplinks)
				h.run("apply", "--if-needed").expect(t, "apply", 0, "", "")
				if next == "watch" {
					background(t, h.command("watch"))
				}
				if err := h.Host.WaitSettled(h.ctx); err != nil {
					t.Fatal(err)
				}
				if a := h.run("render", "--output", "/"); a.code != 0 {
					t.Fatal(a.stderr)
				}
				// This networkd removes the addresses and adds them.
				if err := h.networkd.Reload(h.ctx); err != nil {
					t.Fatal(err)
				}
				if next == "apply at once" {
					// Until networkd has noted that it has the links, its routes are in the way.
					h.run("apply", "--if-needed").expect(t, next, 0, "", "")
				}
				if err := h.networkd.WaitConfigured(h.ctx, "eth0", "eth1"); err != nil {
					t.Fatal(err)
				}
				gone := background(t, h.Host.Command(h.ctx, "ip", "-o", "monitor", "address"))
				stop := make(chan struct{})
				var flows []*flow
				var wg sync.WaitGroup
				for _, source := range []string{"192.0.2.10", "198.51.100.10", "2001:db8:1::10", "2001:db8:2::10"} {
					from := netip.MustParseAddr(source)
					f := udpFlow(t, h.Lab, from, h.ClientAddr(from.Is6()))
					flows = append(flows, f)
					wg.Go(func() { f.send(stop) })
				}
				switch next {
				case "apply", "apply at once":
					h.run("apply", "--if-needed").expect(t, next, 0, "", "")
				case "down":
					h.run("down", "--if-needed").expect(t, next, 0, "", "")
				case "reload":
					h.reload()
				}
				limit, cancel := context.WithTimeout(h.ctx, 10*time.Second)
				defer cancel()
				eventually(limit, t, func() (string, error) {
					out, err := h.Host.Run(h.ctx, "sh", "-c", "ip rule; ip -6 rule; ip route show table all; ip -6 route show table all")
					if !strings.Contains(out, "proto uplink") && !strings.Contains(out, "proto 118") {
						out = ""
					}
					return out, err
				})
				time.Sleep(3 * time.Second)
				close(stop)
				wg.Wait()
				for _, f := range flows {
					f.finish(t)
				}
				h.holds(twoUplinks)
				for line := range strings.Lines(gone.String()) {
					if strings.HasPrefix(line, "Deleted") {
						t.Errorf("taken away: %s", line)
					}
				}
			})
		}
	}
}
