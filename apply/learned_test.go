package apply_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// learnt gives a card an address that a client has added.
func learnt(f *kerneltest.Fake, card, prefix string, a apply.Address) {
	a.Link, a.Prefix = card, netip.MustParsePrefix(prefix)
	f.Addresses = append(f.Addresses, a)
}

// gateway puts a default route into main, as r says.
func gateway(f *kerneltest.Fake, card, via string, r apply.Route) {
	addr := netip.MustParseAddr(via)
	r.Family, r.Type, r.Nexthops = fib.Inet, fib.Unicast, []fib.Nexthop{{Link: card, Via: addr}}
	if addr.Is6() {
		r.Family = fib.Inet6
	}
	if !r.Dst.IsValid() {
		r.Dst = r.Family.Any()
	}
	if r.Table == 0 {
		r.Table = fib.TableMain
	}
	f.Routes = append(f.Routes, r)
}

// TestResolveLearned checks the exact rules and routes of a spec whose card1 learns, for what a
// kernel holds.
func TestResolveLearned(t *testing.T) {
	const both = "[uplink.rt2]\ninterface = \"card1\"\ntable = 1\ndhcp = \"yes\"\naccept-ra = \"yes\"\n"
	const dhcp4 = "[uplink.rt2]\ninterface = \"card1\"\ntable = 1\ndhcp = \"ipv4\"\n"
	lease := func(f *kerneltest.Fake) {
		learnt(f, "card1", "198.51.100.50/24", apply.Address{})
		gateway(f, "card1", "198.51.100.1", apply.Route{Protocol: apply.ProtocolDHCP})
	}
	const leaseRoutes = `
route add 198.51.100.0/24 dev card1 table 1 proto 118 scope link src 198.51.100.50
route add default via 198.51.100.1 dev card1 table 1 proto 118`
	const leased = `
rule add priority 10000 from 198.51.100.50 lookup 1 protocol 118
rule add priority 10000 from all to 198.51.100.50 lookup 1 protocol 118` + leaseRoutes
	const slaac = `
-6 rule add priority 10000 from 2001:db8:2::50 lookup 1 protocol 118
-6 rule add priority 10000 from all to 2001:db8:2::50 lookup 1 protocol 118
-6 route add 2001:db8:2::/64 dev card1 table 1 proto 118 metric 1024`
	six := func(a apply.Address) func(f *kerneltest.Fake) {
		return func(f *kerneltest.Fake) { learnt(f, "card1", "2001:db8:2::50/64", a) }
	}
	routers := func(list ...apply.Route) func(f *kerneltest.Fake) {
		return func(f *kerneltest.Fake) {
			for i, r := range list {
				r.Protocol, r.Metric = apply.ProtocolRA, 1024
				gateway(f, "card1", "fe80::"+string(rune('1'+i)), r)
			}
		}
	}
	for _, c := range []struct {
		name, spec string
		have       []func(*kerneltest.Fake)
		want       string
		later      bool // the same, put off
		until      time.Duration
		networkd   bool
	}{
		{name: "nothing learned", spec: both},
		{name: "a lease", spec: dhcp4, have: []func(*kerneltest.Fake){lease}, want: leased},
		{name: "a lease, and an address of IPv6 that nobody asked for", spec: dhcp4, have: []func(*kerneltest.Fake){lease, six(apply.Address{}), routers(apply.Route{})}, want: leased},
		{name: "a fixed address in the same subnet", spec: dhcp4 + "addresses = [\"198.51.100.77/24\"]\n", have: []func(*kerneltest.Fake){lease}, want: `
rule add priority 10000 from 198.51.100.50 lookup 1 protocol 118
rule add priority 10000 from 198.51.100.77 lookup 1 protocol 118
rule add priority 10000 from all to 198.51.100.50 lookup 1 protocol 118
rule add priority 10000 from all to 198.51.100.77 lookup 1 protocol 118
route add 198.51.100.0/24 dev card1 table 1 proto 118 scope link src 198.51.100.77
route add default via 198.51.100.1 dev card1 table 1 proto 118`},
		{name: "a rule of its own for what is learned", spec: dhcp4 + "to = []\npriority = 10000\n[[uplink.rt2.rule]]\npriority = 10000\nfrom = \"198.51.100.50\"\n", have: []func(*kerneltest.Fake){lease}, want: `
rule add priority 10000 from 198.51.100.50 lookup 1 protocol 118` + leaseRoutes},
		{name: "from is given", spec: dhcp4 + "from = [\"10.0.0.0/8\"]\n", have: []func(*kerneltest.Fake){lease}, want: `
rule add priority 10000 from 10.0.0.0/8 lookup 1 protocol 118
rule add priority 10000 from all to 198.51.100.50 lookup 1 protocol 118` + leaseRoutes},
		{name: "from and to are nothing", spec: dhcp4 + "from = []\nto = []\n", have: []func(*kerneltest.Fake){lease}, want: leaseRoutes},
		{name: "policy only", spec: dhcp4 + "manage = \"policy\"\n", have: []func(*kerneltest.Fake){lease}, want: leased},
		{name: "main-routes-first", spec: "main-routes-first = true\n" + dhcp4, have: []func(*kerneltest.Fake){lease}, want: `
rule add priority 10000 from 198.51.100.50 lookup 1 suppress_prefixlength 0 protocol 118
rule add priority 10000 from all to 198.51.100.50 lookup 1 suppress_prefixlength 0 protocol 118
rule add priority 16382 from all lookup main suppress_prefixlength 0 protocol 118
rule add priority 26383 from 198.51.100.50 lookup 1 protocol 118
rule add priority 26383 from all to 198.51.100.50 lookup 1 protocol 118` + leaseRoutes},
		{name: "a route of another's in the table", spec: dhcp4, have: []func(*kerneltest.Fake){lease, func(f *kerneltest.Fake) {
			gateway(f, "card1", "198.51.100.9", apply.Route{Route: fib.Route{Table: 1}, Protocol: apply.ProtocolDHCP})
		}}, want: strings.Replace(leased, "\nroute add default via 198.51.100.1 dev card1 table 1 proto 118", "", 1)},
		{name: "networkd's routes in the table, whose time is over", spec: both, networkd: true, have: []func(*kerneltest.Fake){six(apply.Address{}), routers(apply.Route{}), func(f *kerneltest.Fake) {
			gateway(f, "card1", "fe80::1", apply.Route{Route: fib.Route{Table: 1, Metric: 1024}, Protocol: apply.ProtocolRA, Expires: -1})
			f.Routes = append(f.Routes, apply.Route{Protocol: apply.ProtocolRA, Expires: -1, Route: fib.Route{
				Family: fib.Inet6, Table: 1, Type: fib.Unicast, Metric: 1024, Dst: netip.MustParsePrefix("2001:db8:2::/64"), Nexthops: []fib.Nexthop{{Link: "card1"}},
			}})
		}}, want: strings.Replace(slaac, "\n-6 route add 2001:db8:2::/64 dev card1 table 1 proto 118 metric 1024", "", 1)},
		{name: "no carrier", spec: dhcp4, have: []func(*kerneltest.Fake){lease, func(f *kerneltest.Fake) { f.Links[2].Carrier = false }}, want: leased, later: true},
		{name: "networkd has the link", spec: dhcp4, have: []func(*kerneltest.Fake){lease}, networkd: true, want: leased},
		{name: "a link-local address, one of ours, and a duplicate", spec: dhcp4, have: []func(*kerneltest.Fake){func(f *kerneltest.Fake) {
			learnt(f, "card1", "169.254.7.7/16", apply.Address{})
			learnt(f, "card1", "198.51.100.7/24", apply.Address{Ours: true})
			learnt(f, "card1", "198.51.100.8/24", apply.Address{Duplicate: true})
			learnt(f, "card0", "198.51.100.9/24", apply.Address{})
		}}},
		{name: "SLAAC", spec: both, have: []func(*kerneltest.Fake){six(apply.Address{})}, want: slaac},
		{name: "tentative", spec: both, have: []func(*kerneltest.Fake){six(apply.Address{Tentative: true})}, want: slaac},
		{name: "deprecated, for old connections", spec: both, have: []func(*kerneltest.Fake){six(apply.Address{Deprecated: true})}, want: slaac},
		{name: "temporary", spec: both, have: []func(*kerneltest.Fake){six(apply.Address{Temporary: true})}, want: slaac},
		{name: "two routers, the second is preferred", spec: both, have: []func(*kerneltest.Fake){routers(apply.Route{}, apply.Route{Pref: 1})}, want: `
-6 route add default via fe80::2 dev card1 table 1 proto 118 metric 1024
-6 route add default via fe80::1 dev card1 table 1 proto 118 metric 1025`},
		{name: "a router whose time is over, one with a minute", spec: both, have: []func(*kerneltest.Fake){routers(apply.Route{Expires: -1}, apply.Route{Expires: time.Minute})}, want: `
-6 route add default via fe80::2 dev card1 table 1 proto 118 metric 1024`, until: time.Minute},
		{name: "two routers, and the time of the first is over first", spec: both, have: []func(*kerneltest.Fake){routers(apply.Route{Expires: time.Minute}, apply.Route{Expires: time.Hour})}, want: `
-6 route add default via fe80::1 dev card1 table 1 proto 118 metric 1024
-6 route add default via fe80::2 dev card1 table 1 proto 118 metric 1025`, until: time.Minute},
		{name: "a prefix twice in main, and a kernel route to an address", spec: both, have: []func(*kerneltest.Fake){func(f *kerneltest.Fake) {
			for _, r := range []apply.Route{
				{Protocol: apply.ProtocolRA, Route: fib.Route{Metric: 1024, Dst: netip.MustParsePrefix("2001:db8:2::/64")}},
				{Protocol: apply.ProtocolKernel, Route: fib.Route{Metric: 256, Dst: netip.MustParsePrefix("2001:db8:2::/64")}},
				{Protocol: apply.ProtocolKernel, Route: fib.Route{Metric: 256, Dst: netip.MustParsePrefix("2001:db8:2::50/128")}},
			} {
				r.Family, r.Table, r.Type, r.Nexthops = fib.Inet6, fib.TableMain, fib.Unicast, []fib.Nexthop{{Link: "card1"}}
				f.Routes = append(f.Routes, r)
			}
		}}, want: "\n-6 route add 2001:db8:2::/64 dev card1 table 1 proto 118 metric 256"},
		{name: "a source that is gone", spec: dhcp4, have: []func(*kerneltest.Fake){func(f *kerneltest.Fake) {
			gateway(f, "card1", "198.51.100.1", apply.Route{Protocol: apply.ProtocolDHCP, Route: fib.Route{Src: netip.MustParseAddr("198.51.100.50")}})
		}}},
		{name: "routes of a daemon, and the administrator's", spec: dhcp4, have: []func(*kerneltest.Fake){func(f *kerneltest.Fake) {
			gateway(f, "card1", "198.51.100.1", apply.Route{Protocol: 12})
			gateway(f, "card1", "198.51.100.2", apply.Route{Protocol: apply.ProtocolStatic})
		}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := kerneltest.NewFake("card0", "card1")
			for _, h := range c.have {
				h(f)
			}
			s := state(t, c.spec)
			if c.networkd {
				s.LeaveToNetworkd(func(string) bool { return true })
			}
			r, err := apply.Resolve(s, f.Snapshot, noHardware{})
			if err != nil {
				t.Fatal(err)
			}
			rules, routes := r.Rules, r.Routes
			if c.later {
				if len(rules)+len(routes) > 0 {
					t.Errorf("not put off: %v %v", rules, routes)
				}
				rules, routes = r.Later.Rules, r.Later.Routes
			}
			var got []string
			x := fib.Syntax{Device: func(link string) string { return link }}
			slices.SortStableFunc(rules, func(a, b fib.Rule) int { return a.Compare(&b) })
			for _, e := range rules {
				got = append(got, x.Rule("add", e))
			}
			for _, e := range routes {
				got = append(got, x.Route("add", e))
			}
			want := strings.Split(strings.TrimPrefix(c.want, "\n"), "\n")
			if c.want == "" {
				want = nil
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if r.Until != c.until {
				t.Errorf("until %v, want %v", r.Until, c.until)
			}
		})
	}
}
