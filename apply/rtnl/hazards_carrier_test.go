package rtnl_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
)

// TestRoutesOfDeadLinks removes the carrier. The kernel itself shows what it does without the
// setting, with that of IPv4, and with both.
func TestRoutesOfDeadLinks(t *testing.T) {
	t.Parallel()
	const four, six = "net.ipv4.conf.LINK.ignore_routes_with_linkdown=1", "net.ipv6.conf.LINK.ignore_routes_with_linkdown=1"
	const closed = "[uplink.c]\ninterface = \"e2\"\naddresses = [\"100.64.0.1/24\", \"2001:db8:3::1/64\"]\ngateways = [\"100.64.0.254\", \"2001:db8:3::ff\"]\nfallthrough = \"unreachable\"\n"
	shared := twoCards[:strings.Index(twoCards, "default-route")] + twoCards[strings.Index(twoCards, "[uplink.b]"):] + "[multipath]\nuplinks = { a = 1, b = 1 }\n"
	two := twoCards + "default-route = true\nmetric = 200\n"
	probe := func(uplink string) string {
		return "[uplink." + uplink + ".probe]\ntargets = [\"203.0.113.1\", \"2001:db8:fffe::2\"]\n"
	}
	for name, tt := range map[string]struct {
		spec, card   string
		before, then bool // whether it is reported
		src          string
		over         string // the link that is used with the settings
	}{
		"failover":             {spec: two, card: "e0", before: true, then: true, over: "e1"},
		"of the last":          {spec: two, card: "e1", before: true, over: "e0"},
		"a probe":              {spec: two + probe("a"), card: "e0", then: true, over: "e1"},
		"a probe of the last":  {spec: two + probe("b"), card: "e0", before: true, then: true, over: "e1"},
		"shared":               {spec: shared, card: "e0", before: true, then: true, over: "e1"},
		"a part of the probes": {spec: shared + probe("b"), card: "e1", before: true, then: true, over: "e0"},
		"probes":               {spec: shared + probe("a") + probe("b"), card: "e1", then: true, over: "e0"},
		"closed":               {spec: twoCards + closed, card: "e2", then: true, src: "100.64.0.1"},
		"one":                  {spec: twoCards, card: "e0"},
		"of none":              {spec: twoCards, card: "e1", over: "e0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := kerneltest.NewNamespace(t)
			ns.Card("e0", "e1", "e2")
			a, state := applied(t, ns, tt.spec)
			ns.Settle()
			verify := func(when string, want []string) {
				t.Helper()
				v, err := a.Verify(state)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, h := range v.Hazards {
					got = append(got, h.String())
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s: %q, want %q", when, got, want)
				}
			}
			said := func(so bool, text string, settings ...string) []string {
				if !so {
					return nil
				}
				return []string{strings.Replace(text, "SET", "set "+strings.Join(settings, " and ")+" (sysctl.d(5))", 1)}
			}
			of := func(card string) []string {
				return []string{strings.Replace(four, "LINK", card, 1), strings.Replace(six, "LINK", card, 1)}
			}
			verify("before", said(tt.before, "main has default routes by e0 and e1: where one loses its carrier the kernel goes on using it; SET, or give the uplinks probes", of("all")...))
			ns.IP("link set " + tt.card + ".peer down")
			ask := func(want string) {
				t.Helper()
				var by string
				for range 200 {
					by = ""
					for i := range 16 { // of several ways each is for some
						from := []string{"ip", "route", "get", fmt.Sprintf("203.0.113.%d", i)}
						if tt.src != "" {
							from = append(from, "from", tt.src)
						}
						out, _ := ns.Run("", from...)
						if _, out, _ = strings.Cut(out, " dev "); want != "" && !strings.HasPrefix(out, want+" ") {
							by = out
						}
					}
					routes, _ := ns.Run("", "ip", "route", "show", "table", "all")
					if strings.Contains(routes, "linkdown") && by == "" {
						return
					}
					time.Sleep(10 * time.Millisecond)
				}
				t.Errorf("not by %s: %s", want, by)
			}
			ask("")
			const then = ": it has no carrier, and the kernel still sends there what has another way, or is to be refused: SET"
			later := said(tt.then, tt.card+then, of(tt.card)...)
			several := strings.Contains(tt.spec, "multipath")
			if several {
				later[0] += "; a route with several ways heeds it from a link's next change on: `ip link set " + tt.card + " down`, and `uplinkctl reload` once it is back"
			}
			if !tt.then {
				later = said(tt.before, "main has default routes by e0 and e1: where one loses its carrier the kernel goes on using it; SET, or give the uplinks probes", of("all")...)
			}
			verify("without the settings", later)
			ns.Sysctl("net/ipv4/conf/"+tt.card+"/ignore_routes_with_linkdown", "1")
			if several {
				ns.IP("link set "+tt.card+" down", "link set "+tt.card+" up")
			}
			ask(tt.over)
			if tt.then {
				verify("with IPv4's", said(true, tt.card+then, of(tt.card)[1]))
			}
			ns.Sysctl("net/ipv4/conf/all/ignore_routes_with_linkdown", "1")
			ns.Sysctl("net/ipv6/conf/all/ignore_routes_with_linkdown", "1")
			verify("with both", nil)
		})
	}
}
