package integration

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// TestContainersAndMainRoutesFirst shows what main-routes-first is for: a service of the host
// that is bound to an uplink's address reaches the host's containers, and what is behind them.
// Without it the same packets leave by the uplink.
func TestContainersAndMainRoutesFirst(t *testing.T) {
	for _, c := range []struct {
		name string
		on   bool
	}{{"true", true}, {"false", false}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require(t, lab.NeedNetworkd)
			ctx, h := boot(t, find(t, "containers"))
			if !c.on {
				h.root = edited(t, h.root, "main-routes-first = true", "main-routes-first = false")
				h.compile(t)
			}
			container, inside := h.addContainer(ctx, t)
			h.startNetworkd(ctx, t, h.tree(ctx, t))
			h.quiet(t)
			if err := h.Host.WaitSettled(ctx); err != nil {
				t.Fatal(err)
			}
			for _, a := range h.state.Addresses {
				for _, to := range inside {
					from := a.Prefix.Addr()
					if from.Is4() != to.Is4() {
						continue
					}
					err := connect(h.Host, from, container, to)
					if c.on && err != nil {
						t.Errorf("%s to the container's %s: %v", from, to, err)
					}
					if !c.on && err == nil {
						t.Errorf("%s reaches the container's %s without main-routes-first: then nobody needs it", from, to)
					}
				}
			}
			h.converged(ctx, t)
		})
	}
}

// addContainer gives the host a bridge with a container, as Docker does, and a network
// behind it that only main knows the way to. It returns the container and its addresses.
func (h *host) addContainer(ctx context.Context, t *testing.T) (*lab.Namespace, []netip.Addr) {
	t.Helper()
	_, l := open(t, lab.Options{})
	container := l.Host
	ip(ctx, t, h.Host,
		"link add docker0 type bridge",
		"address add 172.17.0.1/16 dev docker0",
		"address add fd00:17::1/64 dev docker0 nodad",
		"link set docker0 up",
		"link add veth0 type veth peer name eth0 netns "+container.Name(),
		"link set veth0 master docker0 up",
		"route add 10.88.0.0/16 via 172.17.0.2")
	ip(ctx, t, container,
		"address add 172.17.0.2/16 dev eth0",
		"address add fd00:17::2/64 dev eth0 nodad",
		"address add 10.88.0.1/32 dev lo",
		"link set eth0 up",
		"route add default via 172.17.0.1",
		"route add default via fd00:17::1")
	h.foreign.addresses = append(h.foreign.addresses, "docker0 inet 172.17.0.1/16", "docker0 inet6 fd00:17::1/64 nodad")
	h.foreign.routes = append(h.foreign.routes, "inet table 254 10.88.0.0/16 via 172.17.0.2 dev docker0")
	return container, []netip.Addr{netip.MustParseAddr("172.17.0.2"), netip.MustParseAddr("fd00:17::2"), netip.MustParseAddr("10.88.0.1")}
}

// connect connects from an address of one namespace to one of another.
func connect(from *lab.Namespace, source netip.Addr, to *lab.Namespace, destination netip.Addr) error {
	var listener net.Listener
	err := to.Do(func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(destination, 0).String())
		return err
	})
	if err != nil {
		return err
	}
	defer listener.Close()
	return from.Do(func() error {
		dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0)), Timeout: answerTime}
		conn, err := dialer.Dial("tcp", listener.Addr().String())
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// edited returns a copy of a root whose spec has one text in the place of another.
func edited(t *testing.T, root, before, after string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(root)); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "etc/uplink/uplink.toml")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(data), before); n != 1 {
		t.Fatalf("the spec has %d times %q", n, before)
	}
	if err := os.WriteFile(name, []byte(strings.Replace(string(data), before, after, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
