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

// Two routers on one link, as the kernel sees them.
func TestAdvertisers(t *testing.T) {
	t.Parallel()
	require(t, lab.NeedDHCP)
	ctx, l := open(t, quick())
	ip(ctx, t, l.Host, "link set eth1 up")
	first, second := netip.MustParseAddr("fe80::2"), netip.MustParseAddr("fe80::3")
	says := lab.Advertisement{
		Lifetime: 30 * time.Second,
		Prefixes: []lab.AdvertisedPrefix{{Prefix: netip.MustParsePrefix("2001:db8:2::/64")}},
	}
	a, err := l.StartAdvertiser(ctx, 2, first, says)
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.StartAdvertiser(ctx, 2, second, lab.Advertisement{Lifetime: 30 * time.Second, Preference: "high"})
	if err != nil {
		t.Fatal(err)
	}
	wantRouters(ctx, t, l, "fe80::2", "fe80::3 high")
	// The card's own, from its hardware address.
	if err := l.Host.WaitAddresses(ctx, netip.MustParseAddr("2001:db8:2::ff:fe00:201")); err != nil {
		t.Error(err)
	}

	says.Lifetime = 0
	says.Prefixes = []lab.AdvertisedPrefix{{Prefix: netip.MustParsePrefix("2001:db8:22::/64"), Valid: time.Minute, Preferred: time.Minute}}
	if err := a.Advertise(says); err != nil {
		t.Fatal(err)
	}
	wantRouters(ctx, t, l, "fe80::3 high")
	if err := l.Host.WaitAddresses(ctx, netip.MustParseAddr("2001:db8:22::ff:fe00:201")); err != nil {
		t.Error(err)
	}

	says.Lifetime = 30 * time.Second
	if err := a.Advertise(says); err != nil {
		t.Fatal(err)
	}
	wantRouters(ctx, t, l, "fe80::2", "fe80::3 high")
	if err := b.Stop(); err != nil {
		t.Error(err)
	}
	wantRouters(ctx, t, l, "fe80::2")
	a.Kill()
	// Nobody has told the host.
	time.Sleep(answerTime)
	wantRouters(ctx, t, l, "fe80::2")
}

// wantRouters waits until the kernel has these default routers, each with its
// preference where it is not medium.
func wantRouters(ctx context.Context, t *testing.T, l *lab.Lab, want ...string) {
	t.Helper()
	err := lab.Poll(ctx, func() (bool, string) {
		routes, err := l.Host.Routes(ctx)
		if err != nil {
			return false, err.Error()
		}
		var have []string
		for _, r := range routes {
			if r.Family == lab.Inet6 && r.Dst.Bits() == 0 && r.Type == "unicast" {
				have = append(have, strings.TrimSuffix(r.Gateway.String()+" "+r.Preference, " medium"))
			}
		}
		slices.Sort(have)
		return slices.Equal(have, want), "default routers are " + strings.Join(have, ", ")
	})
	if err != nil {
		t.Errorf("want %s: %v", strings.Join(want, ", "), err)
	}
}
