package integration

import (
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// learned returns the rules of the host, the routes of all tables but main and local, and
// the addresses of the second card, as far as the spec is about them. What is left out:
//
//   - owners, and metrics of routes: a client chooses them, and in an uplink's table
//     nothing stands beside them;
//   - sources of routes through a gateway, which networkd gives and others do not: a
//     packet that a source rule leads there has one;
//   - routes to a gateway itself, which networkd adds beside the subnet, and the subnet of a
//     learned address once more beside that of a fixed one;
//   - the name that a router gives itself on a link, which is another one in each lab;
//   - how long it all lasts.
func (w *watched) learned() ([]string, error) {
	rules, err := w.Host.Rules(w.ctx)
	if err != nil {
		return nil, err
	}
	routes, err := w.Host.Routes(w.ctx)
	if err != nil {
		return nil, err
	}
	addresses, err := w.Host.Addresses(w.ctx)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, r := range rules {
		if r.Protocol != protocolKernel {
			r.Protocol = 0
			list = append(list, "rule "+r.String())
		}
	}
	gateways := map[netip.Addr]bool{}
	for _, r := range routes {
		gateways[r.Gateway] = true
	}
	slices.SortStableFunc(routes, func(a, b lab.Route) int { return cmp.Compare(a.Metric, b.Metric) })
	subnets := map[string]bool{}
	for _, r := range routes {
		subnet := fmt.Sprint(r.Table, r.Dst, r.Dev)
		if !r.Gateway.IsValid() && subnets[subnet] {
			continue
		}
		subnets[subnet] = !r.Gateway.IsValid()
		if r.Gateway.Is6() && r.Gateway.IsLinkLocalUnicast() {
			r.Gateway = netip.MustParseAddr("fe80::1")
		}
		if r.Table == fib.TableMain || r.Table == fib.TableLocal || r.Dst.IsSingleIP() && gateways[r.Dst.Addr()] {
			continue
		}
		if r.Gateway.IsValid() || r.Family == lab.Inet6 {
			r.PrefSrc = netip.Addr{}
		}
		r.Protocol, r.Metric, r.Expires, r.Preference = 0, 0, false, ""
		list = append(list, "route "+r.String())
	}
	for _, a := range addresses {
		if a.Link == "eth1" && !a.Prefix.Addr().IsLinkLocalUnicast() {
			list = append(list, "address "+a.Prefix.String())
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// TestLearnedIsTheSameByEitherBackEnd has a host learn the same from the same servers, once
// through networkd with the rendered files, once through dhclient and the kernel without
// networkd, with the watch running on both.
func TestLearnedIsTheSameByEitherBackEnd(t *testing.T) {
	const first = `
[uplink.isp1]
interface = "eth0"
addresses = ["192.0.2.10/24", "2001:db8:1::10/64"]
gateways  = ["192.0.2.1", "2001:db8:1::1"]

[uplink.rt2]
interface = "eth1"
table     = 1
`
	const dhcp, ra = "dhcp = \"ipv4\"\n", "accept-ra = \"yes\"\n"
	for _, c := range []struct {
		name, spec string
		inet6      bool
		want       []string // some of what has to be there
	}{
		{"dhcp", first + dhcp, false, []string{"address 198.51.100.50/24"}},
		{"router advertisements", first + ra, true, nil},
		{"both", first + dhcp + ra, true, []string{"address 198.51.100.50/24"}},
		{"default-route", first + dhcp + ra + "default-route = true\nmetric = 300\n", true, nil},
		{"a fixed address beside", first + dhcp + "addresses = [\"198.51.100.77/24\"]\n", false, []string{"address 198.51.100.50/24", "address 198.51.100.77/24"}},
		{"main-routes-first", "main-routes-first = true\n" + first + dhcp + ra, true, nil},
		{"fails closed", first + dhcp + "fallthrough = \"unreachable\"\n", false, nil},
		{"rules of its own", first + dhcp + "from = [\"10.9.0.0/16\"]\nto = []\n", false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require(t, lab.NeedNetworkd, lab.NeedBus, lab.NeedDHCP)
			serve := func(w *watched) {
				w.serve(netip.MustParseAddr("198.51.100.50"), time.Hour)
				if c.inet6 {
					w.advertise(lab.Advertisement{Lifetime: time.Hour, Prefixes: []lab.AdvertisedPrefix{{Prefix: netip.MustParsePrefix("2001:db8:2::/64")}}})
				}
			}

			root, tree := t.TempDir(), t.TempDir()
			write(t, filepath.Join(root, hostSpec), c.spec)
			run(t.Context(), t, programs.Control, "render", "--root", root, "--output", tree, "--systemd-version", installedVersion(t).String())
			files := readTree(t, tree)
			files[hostSpec] = c.spec
			h := bootNetworkd(t, files, provider1, provider2)
			one := &watched{cli: newCLI(h.ctx, t, h.Host), Lab: h.Lab}
			serve(one)
			h.run("reload", "--wait", "30").expect(t, "reload", 0, ".*", ".*")
			dir, err := built()
			if err != nil {
				t.Fatal(err)
			}
			background(t, h.networkd.Command(h.ctx, filepath.Join(dir, programs.Control), "watch"))

			two := bootWatched(t, c.spec)
			serve(two)
			if strings.Contains(c.spec, "dhcp") {
				if _, err := two.Host.StartClient(two.ctx, lab.ClientOptions{Program: lab.ClientDhclient, Links: []string{"eth1"}, IPv4: true}); err != nil {
					t.Fatal(err)
				}
			}

			var have [2][]string
			var same time.Time // since when they are
			for end := time.Now().Add(40 * time.Second); ; time.Sleep(100 * time.Millisecond) {
				for i, w := range []*watched{one, two} {
					if have[i], err = w.learned(); err != nil {
						t.Fatal(err)
					}
				}
				isThere := func(s string) bool { return slices.Contains(have[0], s) }
				switch {
				case !slices.Equal(have[0], have[1]) || slices.ContainsFunc(c.want, func(s string) bool { return !isThere(s) }) ||
					!slices.ContainsFunc(have[0], func(s string) bool { return strings.HasPrefix(s, "address ") }):
					same = time.Time{}
				case same.IsZero():
					same = time.Now()
				case time.Since(same) > 2*time.Second:
					t.Logf("both:\n%s", strings.Join(have[0], "\n"))
					return
				}
				if time.Now().After(end) {
					t.Fatalf("by networkd:\n%s\n\nby dhclient and the kernel:\n%s", strings.Join(have[0], "\n"), strings.Join(have[1], "\n"))
				}
			}
		})
	}
}
