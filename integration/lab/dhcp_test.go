package lab_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// A provider can hand out its addresses itself: networkd in the router.
func TestProviderWithDHCP(t *testing.T) {
	t.Parallel()
	require(t, lab.NeedNetworkd)
	ctx, l := open(t, quick())
	_, err := l.Router.StartNetworkd(ctx, lab.NetworkdOptions{Files: map[string]string{
		"etc/systemd/networkd.conf.d/keep.conf": "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n",
		"run/systemd/network/10-p2.network": `[Match]
Name=p2
[Network]
Address=198.51.100.1/24
DHCPServer=yes
KeepConfiguration=yes
[DHCPServer]
PoolOffset=10
PoolSize=1
`}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.Host.StartNetworkd(ctx, lab.NetworkdOptions{Files: map[string]string{
		"run/systemd/network/10-eth1.network": `[Match]
Name=eth1
[Network]
DHCP=ipv4
IPv6AcceptRA=no
[DHCPv4]
RouteTable=77
`}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.WaitConfigured(ctx, "eth1"); err != nil {
		t.Fatal(err)
	}
	leased := netip.MustParseAddr("198.51.100.10")
	if err := l.Host.WaitAddresses(ctx, leased); err != nil {
		t.Fatal(err)
	}
	ip(ctx, t, l.Host, "rule add from 198.51.100.10 lookup 77")
	waitArrives(ctx, t, l, lab.Flow{Source: netip.AddrPortFrom(leased, 0)})
}

// waitArrives waits until a flow arrives: the last routes can come after
// networkd has said that it is done.
func waitArrives(ctx context.Context, t *testing.T, l *lab.Lab, flow lab.Flow) {
	t.Helper()
	err := lab.Poll(ctx, func() (bool, string) {
		d, err := l.LeavesBy(ctx, 200*time.Millisecond, flow)
		if err != nil {
			return false, err.Error()
		}
		return d.Arrived, d.String()
	})
	if err != nil {
		t.Error(err)
	}
}

// leases are what the second provider gives away in these tests.
var leases = addrs("198.51.100.50", "2001:db8:2::50")

// serve makes the second provider hand out addresses of both families, and
// say so.
func serve(ctx context.Context, t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, a := range leases {
		if _, err := l.StartDHCPServer(ctx, 2, lab.Offer{First: a, Lease: time.Minute}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := l.StartAdvertiser(ctx, 2, netip.Addr{}, lab.Advertisement{
		Lifetime: 30 * time.Second,
		Managed:  true,
		Prefixes: []lab.AdvertisedPrefix{{Prefix: netip.MustParsePrefix("2001:db8:2::/64")}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestServerRefusesAnAddressThatItNoLongerOffers(t *testing.T) {
	t.Parallel()
	require(t, lab.NeedDHCP)
	ctx, l := open(t, quick())
	old, other := netip.MustParseAddr("198.51.100.50"), netip.MustParseAddr("198.51.100.60")
	s, err := l.StartDHCPServer(ctx, 2, lab.Offer{First: old, Lease: 6 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	c := startClient(ctx, t, l, lab.ClientOptions{Program: lab.ClientDhclient, IPv4: true})
	if err := l.Host.WaitAddresses(ctx, old); err != nil {
		t.Fatal(err)
	}
	if err := s.Change(ctx, lab.Offer{First: other, Lease: 6 * time.Second}); err != nil {
		t.Fatal(err)
	}
	if err := l.Host.WaitAddresses(ctx, other); err != nil {
		t.Errorf("%v; the client's log:\n%s", err, c.Log())
	}
	waitNoAddress(ctx, t, l, old)
	if log := s.Log(); !strings.Contains(log, "DHCPNAK on 198.51.100.50") {
		t.Errorf("the server has not said NAK:\n%s", log)
	}
}

func TestLeaseRunsOutWithoutItsServer(t *testing.T) {
	t.Parallel()
	require(t, lab.NeedDHCP)
	ctx, l := open(t, quick())
	leased := netip.MustParseAddr("198.51.100.50")
	s, err := l.StartDHCPServer(ctx, 2, lab.Offer{First: leased, Lease: 4 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	startClient(ctx, t, l, lab.ClientOptions{Program: lab.ClientDhclient, IPv4: true})
	if err := l.Host.WaitAddresses(ctx, leased); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	waitNoAddress(ctx, t, l, leased)
}

// waitNoAddress waits until the host does not have an address any more.
func waitNoAddress(ctx context.Context, t *testing.T, l *lab.Lab, gone netip.Addr) {
	t.Helper()
	err := lab.Poll(ctx, func() (bool, string) {
		have, err := l.Host.Addresses(ctx)
		if err != nil {
			return false, err.Error()
		}
		return !slices.ContainsFunc(have, func(a lab.Address) bool { return a.Prefix.Addr() == gone }), gone.String() + " is still there"
	})
	if err != nil {
		t.Error(err)
	}
}
