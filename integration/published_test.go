package integration

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// publishedPort is a host that forwards its port 8080, on each of its addresses, to port 80 of a
// container behind a bridge, as Docker does.
func publishedPort(h *pageHost) {
	_, l := open(h.t, lab.Options{})
	container := l.Host
	ip(h.ctx, h.t, h.Host,
		"link add docker0 type bridge",
		"address add 172.17.0.1/16 dev docker0",
		"link set docker0 up",
		"link add veth0 type veth peer name eth0 netns "+container.Name(),
		"link set veth0 master docker0 up")
	ip(h.ctx, h.t, container, "address add 172.17.0.2/16 dev eth0", "link set eth0 up", "route add default via 172.17.0.1")
	if err := h.Host.Sysctl("net.ipv4.ip_forward", "1"); err != nil {
		h.t.Fatal(err)
	}
	h.withoutNetworkd(map[string]string{hostSpec: recipeSpec(h.t)})
	h.inEffect()
	h.sh(`nft -f - <<'EOF'
table ip docker {
	chain prerouting {
		type nat hook prerouting priority dstnat
		fib daddr type local tcp dport 8080 dnat to 172.17.0.2:80
	}
	chain postrouting {
		type nat hook postrouting priority srcnat
		ip saddr 172.17.0.0/16 oifname != "docker0" masquerade
	}
}
EOF`)
	var listener net.Listener
	if err := container.Do(func() (err error) {
		listener, err = net.Listen("tcp", "172.17.0.2:80")
		return err
	}); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "hello") // who does not get it says so
			conn.Close()
		}
	}()
	h.asks = func(address netip.Addr) error {
		return h.Client.Do(func() error {
			conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(address, 8080).String(), answerTime)
			if err != nil {
				return err
			}
			defer conn.Close()
			said, err := io.ReadAll(conn)
			if err == nil && string(said) != "hello" {
				err = errors.New(string(said))
			}
			return err
		})
	}
}

// TestPublishedPortsByReversePathFilter does what the page says about published ports, under each
// setting of rp_filter: both addresses answer then, except with the strict one.
func TestPublishedPortsByReversePathFilter(t *testing.T) {
	const host, second = "a published port", "198.51.100.10"
	page, err := os.ReadFile("../cmd/uplinkctl/doc/wrong-address.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sessions(t, string(page)) {
		if s.host != host {
			continue
		}
		for _, filter := range strings.Fields("0 1 2") {
			t.Run(filter, func(t *testing.T) {
				t.Parallel()
				f := pageHosts[host]
				var h *pageHost
				f.start = func(started *pageHost) {
					h = started
					publishedPort(h)
					for _, of := range strings.Fields("all eth0 eth1 docker0") {
						if err := h.Host.Sysctl("net.ipv4.conf."+of+".rp_filter", filter); err != nil {
							t.Fatal(err)
						}
					}
				}
				if filter == "1" {
					f.defeated = ""
				}
				f.play(t, s)
				if filter == "1" {
					h.answers(second, false)
				}
			})
		}
		return
	}
	t.Errorf("no page shows the host %q", host)
}
