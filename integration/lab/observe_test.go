package lab_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// What the observers say is compared with what was put in with iproute2's own
// syntax, so both a misread member and a forgotten one show.
func TestObserversLeaveNothingOut(t *testing.T) {
	t.Parallel()
	require(t)
	opts := lab.TwoUplinks()
	opts.HostSysctls = map[string]string{"net.ipv6.conf.default.addr_gen_mode": "1"} // no link-local addresses
	ctx, l := open(t, opts)
	// Routes first: the kernel asks the rules whether a gateway can be reached,
	// and here one of them is a blackhole.
	ip(ctx, t, l.Host, `
		address add 192.0.2.10/24 broadcast + dev eth0
		address add 192.0.2.11/24 dev eth0 valid_lft 4000 preferred_lft 3000
		address add 192.0.2.100 peer 192.0.2.101 dev eth0 label eth0:x
		address add 2001:db8:1::10/64 dev eth0 nodad
		address add 2001:db8:1::11/64 dev eth0 nodad noprefixroute
		link set eth0 up

		route add default table 77 protocol 118 nexthop via 192.0.2.1 weight 2 nexthop dev eth0 weight 3
		route add 10.0.0.0/8 via inet6 2001:db8:1::1 dev eth0 mtu 1400 advmss 1300 initcwnd 3 table 77 metric 7
		route add 10.1.0.0/16 via 10.9.9.9 dev eth0 onlink src 192.0.2.10 table 4000000000 tos 0x10
		route add unreachable default table 78
		-6 route add blackhole default table 78
		-6 route add default table 79 nexthop via fe80::2 dev eth0 nexthop via fe80::3 dev eth0 weight 5
		-6 route add 2001:db8:5::/48 from 2001:db8::/32 dev eth0 expires 5000 table 79
		nexthop add id 3 via fe80::9 dev eth0
		-6 route add 2001:db8:6::/48 nhid 3 table 79
		-6 route add default via fe80::1 dev eth0 table 80 pref high

		rule add not from 10.0.0.0/8 to 192.0.2.0/24 iif eth0 oif eth1 fwmark 0x1/0xff tos 0x10 ipproto tcp sport 1-5 dport 80 uidrange 0-7 priority 5 lookup 4000000000 suppress_prefixlength 0
		rule add priority 6 fwmark 0x7 goto 8
		rule add priority 7 nop
		rule add priority 8 blackhole
		rule add priority 9 iif nosuch0 lookup 78 suppress_ifgroup 3 protocol 118
		rule add priority 10 l3mdev
		rule add priority 11 lookup 5 realms 1/2
		-6 rule add from 2001:db8::/32 unreachable priority 5
		-6 rule add to 2001:db8::1 prohibit priority 6
	`)

	rules, err := l.Host.Rules(ctx)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "rules", rules, `
inet 0: from all lookup 255 proto 2
inet 5: not from 10.0.0.0/8 to 192.0.2.0/24 tos 0x10 fwmark 0x1/0xff iif eth0 oif eth1 uidrange 0-7 ipproto 6 sport 1-5 dport 80 lookup 4000000000 suppress_prefixlength 0
inet 6: from all fwmark 0x7 goto 8
inet 7: from all nop
inet 8: from all blackhole
inet 9: from all iif nosuch0 lookup 78 suppress_ifgroup 3 proto 118 iif_detached
inet 10: from all l3mdev lookup
inet 11: from all lookup 5 flow_from 1 flow_to 2
inet 32766: from all lookup 254 proto 2
inet 32767: from all lookup 253 proto 2
inet6 0: from all lookup 255 proto 2
inet6 5: from 2001:db8::/32 unreachable
inet6 6: from all to 2001:db8::1/128 prohibit
inet6 32766: from all lookup 254 proto 2
`)

	routes, err := l.Host.Routes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	routes = slices.DeleteFunc(routes, func(r lab.Route) bool { return r.Table == 254 || r.Table == 255 })
	diff(t, "routes", routes, `
inet table 77 default nexthops [via 192.0.2.1 dev eth0 weight 2, dev eth0 weight 3] proto 118
inet table 77 10.0.0.0/8 via 2001:db8:1::1 dev eth0 proto 3 metric 7 advmss 1300 initcwnd 3 mtu 1400
inet table 78 unreachable default proto 3
inet table 4000000000 10.1.0.0/16 tos 0x10 via 10.9.9.9 dev eth0 proto 3 src 192.0.2.10 onlink
inet6 table 78 blackhole default dev lo proto 3 metric 1024
inet6 table 79 default nexthops [via fe80::2 dev eth0 weight 1, via fe80::3 dev eth0 weight 5] proto 3 metric 1024
inet6 table 79 2001:db8:5::/48 from 2001:db8::/32 dev eth0 proto 3 metric 1024 expires
inet6 table 79 2001:db8:6::/48 nhid 3 via fe80::9 dev eth0 proto 3 metric 1024
inet6 table 80 default via fe80::1 dev eth0 proto 3 metric 1024 pref high
`)

	addresses, err := l.Host.Addresses(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range addresses {
		if a.Valid != lab.Forever {
			if a.Valid < 3900 || a.Valid > 4000 || a.Preferred < 2900 || a.Preferred > 3000 {
				t.Errorf("lifetimes of %s", a)
			}
			addresses[i].Valid, addresses[i].Preferred = 0, 0
		}
	}
	diff(t, "addresses", addresses, `
eth0 inet 192.0.2.10/24 brd 192.0.2.255
eth0 inet 192.0.2.11/24 dynamic secondary
eth0 inet 192.0.2.100/32 peer 192.0.2.101 label eth0:x
eth0 inet6 2001:db8:1::10/64 nodad
eth0 inet6 2001:db8:1::11/64 nodad noprefixroute
lo inet 127.0.0.1/8 scope host
lo inet6 ::1/128 scope host
`)
	if !slices.IsSortedFunc(rules, func(a, b lab.Rule) int {
		return strings.Compare(string(a.Family), string(b.Family))
	}) {
		t.Error("rules are not sorted by family")
	}
}

func TestWaitAddressesWaitsForDuplicateDetection(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l := open(t, lab.TwoUplinks())
	ip(ctx, t, l.Host, `
		link set eth0 up
		address add 2001:db8:1::10/64 dev eth0
	`)
	own := netip.MustParseAddr("2001:db8:1::10")
	if err := l.Host.WaitAddresses(ctx, own); err != nil {
		t.Fatal(err)
	}
	d, err := l.LeavesBy(ctx, answerTime, lab.Flow{Source: netip.AddrPortFrom(own, 0)})
	if err != nil || d.Err == nil {
		t.Errorf("%s, %v; want no route to the client", d, err)
	}
	ip(ctx, t, l.Host, "route add default via 2001:db8:1::1")
	d, err = l.LeavesBy(ctx, answerTime, lab.Flow{Source: netip.AddrPortFrom(own, 0)})
	if err != nil || !d.Arrived {
		t.Errorf("%s, %v; want it to arrive", d, err)
	}
}
