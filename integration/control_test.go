package integration

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// TestWithoutThePolicyOnlyTheFirstCardAnswers is the control for all tests that send packets: the
// same hosts, with the same addresses but only a default route by the first card, have the
// trouble that the product cures.
func TestWithoutThePolicyOnlyTheFirstCardAnswers(t *testing.T) {
	for _, e := range examples {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			require(t)
			e.duplicates = false
			ctx, h := boot(t, e)
			first, cards := h.lab.Providers[0].Cards[0].Name, h.cards()
			for _, a := range h.addresses() {
				ip(ctx, t, h.Host, "address add "+a.prefix.String()+" dev "+a.card)
			}
			for _, p := range h.lab.Providers {
				ip(ctx, t, h.Host, "link set up dev "+p.Cards[0].Name)
			}
			for _, r := range h.state.Routes {
				if r.Table != fib.TableMain && r.IsDefault() && len(r.Nexthops) == 1 && h.devices[r.Nexthops[0].Link] == first {
					ip(ctx, t, h.Host, "route add default via "+r.Nexthops[0].Via.String()+" dev "+first)
				}
			}
			if err := h.Host.WaitSettled(ctx); err != nil {
				t.Fatal(err)
			}
			others := 0
			h.echo(ctx, t, slices.SortedFunc(maps.Keys(cards), netip.Addr.Compare), func(proto string, a lab.Answer) {
				// The host does answer all of them: by one card.
				if want := cards[a.Addr] == first; a.Answered != want || a.Card != first {
					t.Errorf("%s: %s; want answered %t, by %s", proto, a, want, first)
				}
				if cards[a.Addr] != first {
					others++
					t.Logf("%s: %s", proto, a)
				}
			})
			if others == 0 {
				t.Error("no address but the first card's: nothing was shown")
			}
		})
	}
}
