package lab_test

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// startClient starts a client on eth1.
func startClient(ctx context.Context, t *testing.T, l *lab.Lab, opts lab.ClientOptions) *lab.Client {
	t.Helper()
	opts.Links = []string{"eth1"}
	c, err := l.Host.StartClient(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEachClientGetsAddressesAndRoutes(t *testing.T) {
	t.Parallel()
	for _, program := range lab.Programs() {
		t.Run(string(program), func(t *testing.T) {
			t.Parallel()
			require(t, lab.NeedDHCP, lab.NeedBus, lab.NeedNetworkd)
			ctx, l := open(t, quick())
			serve(ctx, t, l)
			v6 := program != lab.ClientUdhcpc
			c, err := l.Host.StartClient(ctx, lab.ClientOptions{Program: program, Links: []string{"eth1"}, IPv4: true, IPv6: v6})
			if err != nil {
				t.Fatal(err)
			}
			want := leases
			if !v6 {
				want = leases[:1]
			}
			if err := l.Host.WaitAddresses(ctx, want...); err != nil {
				t.Errorf("%v; its log:\n%s", err, c.Log())
			}
			for _, f := range []lab.Family{lab.Inet, lab.Inet6} {
				// Without a client for IPv6 the kernel has the route.
				if err := l.Host.WaitDefaultRoute(ctx, f, "eth1"); err != nil {
					t.Errorf("%v; its log:\n%s", err, c.Log())
				}
			}
			for _, a := range want {
				waitArrives(ctx, t, l, lab.Flow{Source: netip.AddrPortFrom(a, 0)})
			}
		})
	}
}

func TestKilledClientLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, program := range lab.Programs() {
		t.Run(string(program), func(t *testing.T) {
			t.Parallel()
			require(t, lab.NeedDHCP, lab.NeedBus, lab.NeedNetworkd)
			before := machine(t)
			ctx, l := open(t, quick())
			if _, err := l.StartDHCPServer(ctx, 2, lab.Offer{First: leases[0], Statements: []string{
				"option domain-name-servers 198.51.100.1;", `option host-name "leased";`,
			}}); err != nil {
				t.Fatal(err)
			}
			c := startClient(ctx, t, l, lab.ClientOptions{Program: program, IPv4: true})
			if err := l.Host.WaitDefaultRoute(ctx, lab.Inet, "eth1"); err != nil {
				t.Fatalf("%v; its log:\n%s", err, c.Log())
			}
			c.Kill()
			// Its helpers see that it is gone and follow.
			err := lab.Poll(ctx, func() (bool, string) {
				pids, err := exec.CommandContext(ctx, "ip", "netns", "pids", l.Host.Name()).Output()
				if err != nil {
					return false, err.Error()
				}
				return len(pids) == 0, "processes " + string(pids)
			})
			if err != nil {
				t.Errorf("killed, and still there: %v", err)
			}
			if after := machine(t); after != before {
				t.Errorf("the machine was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// machine returns what a client could change of the machine.
func machine(t *testing.T) string {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	found := []string{name}
	resolv, _ := os.ReadFile("/etc/resolv.conf")
	found = append(found, string(resolv))
	for _, pattern := range []string{
		"/etc/NetworkManager/system-connections/*", "/etc/systemd/network/*", "/run/systemd/netif/leases/*",
		"/run/NetworkManager", "/run/dhclient*", "/run/dhcpcd*", "/run/udhcpc*", "/run/radvd*",
		"/var/lib/dhcp/*", "/var/lib/dhcpcd/*", "/var/lib/NetworkManager/*",
	} {
		names, _ := filepath.Glob(pattern)
		found = append(found, names...)
	}
	return strings.Join(found, "\n")
}
