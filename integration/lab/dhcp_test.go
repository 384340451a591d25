package lab_test

import (
	"context"
	"net/netip"
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
