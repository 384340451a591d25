package apply_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// TestPortWithTheCardsAddress has a card whose fast path bears its hardware address, as below
// hv_netvsc: that is not the link that is meant. Without a master either may be.
func TestPortWithTheCardsAddress(t *testing.T) {
	s := state(t, "[uplink.a]\nmac = \"02:00:00:00:00:10\"\naddresses = [\"192.0.2.10/24\"]\n")
	for name, tt := range map[string]struct {
		master int
		portOf string
		want   string
	}{
		"a port":         {master: 1},
		"in a VRF":       {master: 1, portOf: "vrf", want: "(MAC 02:00:00:00:00:10 is card0 and card1): make the match narrower, with `driver` beside `mac`"},
		"without master": {want: "(MAC 02:00:00:00:00:10 is card0 and card1)"},
	} {
		k := kerneltest.NewFake(kerneltest.Links...)
		for i := range k.Links {
			if name := k.Links[i].Name; name == "card0" || name == "card1" {
				k.Links[i].MAC = "02:00:00:00:00:10"
				if name == "card1" {
					k.Links[i].Master, k.Links[i].PortOf = tt.master, tt.portOf
				}
			}
		}
		_, err := on(k).Apply(context.Background(), s)
		if tt.want == "" && (err != nil || !slices.ContainsFunc(k.Addresses, func(a apply.Address) bool { return a.Link == "card0" && a.Ours })) ||
			tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// TestAmbiguousMatch wants an error that names the links.
func TestAmbiguousMatch(t *testing.T) {
	k := kerneltest.NewFake(kerneltest.Links...)
	_, err := on(k).Apply(context.Background(), state(t, "[uplink.a]\ninterface = \"card*\"\naddresses = [\"192.0.2.10/24\"]\n"))
	var e *apply.AmbiguousError
	if !errors.As(err, &e) || !strings.HasSuffix(err.Error(), "uplink.toml:1: uplink a matches more than one link (name card* is card0 and card1 and card2): make the match narrower") {
		t.Errorf("%v", err)
	}
}

// TestWatchedMatchOfTwoLinks checks that a watch knows which of two links a match means: the one
// that holds what is ours of what the spec asks for.
func TestWatchedMatchOfTwoLinks(t *testing.T) {
	const unknown, known = "uplink a: there is more than one link with name card?", "uplink a: card1 is not the only link with name card?"
	for name, c := range map[string]struct {
		address string
		ours    bool
		want    string
	}{
		"its address":      {"192.0.2.10/24", true, known},
		"another's":        {"192.0.2.10/24", false, unknown},
		"another uplink's": {"198.51.100.10/24", true, unknown},
	} {
		k := kerneltest.NewFake("card0", "card1")
		k.Addresses = append(k.Addresses, apply.Address{Address: fib.Address{Link: "card1", Prefix: netip.MustParsePrefix(c.address)}, Ours: c.ours})
		a := on(k)
		a.Watching = true
		_, result, err := a.Plan(state(t, "[uplink.a]\ninterface = \"card?\"\naddresses = [\"192.0.2.10/24\"]\n"))
		if err != nil || len(result.Waiting) != 1 || result.Waiting[0].String() != c.want {
			t.Errorf("%s: %v, waiting %v, want %s", name, err, result.Waiting, c.want)
		}
	}
}
