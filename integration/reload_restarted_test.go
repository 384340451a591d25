package integration

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// TestReloadMovesWhatWasLearnedBeforeARestart has two uplinks that learn change their tables
// while their routers are silent, on a host whose networkd was restarted, as by an update of
// systemd. Told to leave alone what others have made, that one takes what it learned before for
// theirs. It stays in neither table, where it would lead the one's packets to the other's
// provider.
func TestReloadMovesWhatWasLearnedBeforeARestart(t *testing.T) {
	t.Parallel()
	require(t, lab.NeedDHCP)
	const spec = "[uplink.isp1]\ninterface = \"eth0\"\ntable = 1\naccept-ra = \"yes\"\n[uplink.rt2]\ninterface = \"eth1\"\ntable = 2\naccept-ra = \"yes\"\n"
	h := bootNetworkd(t, map[string]string{hostSpec: spec}, provider1, provider2)
	var routers []*lab.Advertiser
	for i, prefix := range []string{"2001:db8:1::/64", "2001:db8:2::/64"} {
		what := lab.Advertisement{Lifetime: time.Hour, Prefixes: []lab.AdvertisedPrefix{{Prefix: netip.MustParsePrefix(prefix)}}}
		a, err := h.StartAdvertiser(h.ctx, i+1, netip.Addr{}, what)
		if err != nil {
			t.Fatal(err)
		}
		routers = append(routers, a)
	}
	if a := h.run("reload"); a.code != 0 {
		t.Fatal(a)
	}
	// learned counts the routes of the two tables by a card.
	learned := func(table uint32, card string) (list []string) {
		t.Helper()
		routes, err := h.Host.Routes(h.ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			if r.Table == table && (r.Dev == card || strings.Contains(r.NextHops, card)) {
				list = append(list, r.String())
			}
		}
		return list
	}
	eventually(h.ctx, t, func() (string, error) {
		if len(learned(1, "eth0")) < 2 || len(learned(2, "eth1")) < 2 {
			return "a subnet and a gateway in each table", nil
		}
		return "", nil
	})
	for _, r := range routers {
		r.Kill() // without a word
	}
	if err := h.networkd.Restart(h.ctx); err != nil {
		t.Fatal(err)
	}
	h.spec(strings.NewReplacer("table = 1", "table = 2", "table = 2", "table = 1").Replace(spec))
	// networkd waits for the routers for longer than that.
	h.run("reload", "--wait", "4").expect(t, "reload", 0, "^written ", ".*")
	if left := append(learned(1, "eth0"), learned(2, "eth1")...); len(left) > 0 {
		t.Errorf("left of what was learned before:\n%s", strings.Join(left, "\n"))
	}
}
