package apply_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
)

// card returns the link by which the kernel sends to an address.
func card(t *testing.T, n *kerneltest.Namespace, to string) string {
	t.Helper()
	out, err := n.Run("", "ip", "route", "get", to)
	if err != nil {
		return err.Error()
	}
	_, rest, _ := strings.Cut(out, " dev ")
	name, _, _ := strings.Cut(rest, " ")
	return name
}

// TestFailOverByWhatMainTakes puts default routes of others into the kernel's table main, beside
// the uplinks a and b of twoInMain, of which a is dead: what main sends by somebody else's link
// stays there, and what it sends by a goes by b.
func TestFailOverByWhatMainTakes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		others []string
		want4  string
		want6  string
	}{
		{"nobody else's", nil, "card1", "card1"},
		{"a VPN's", []string{"route add default via 172.16.0.1 dev card2 metric 50", "-6 route add default dev card2 metric 50"}, "card2", "card2"},
		{"a VPN's, of IPv4 alone", []string{"route add default dev card2 metric 50 proto static"}, "card2", "card1"},
		{"a routing daemon's", []string{"route add default via 172.16.0.1 dev card2 metric 20 proto zebra", "-6 route add default via fd16::1 dev card2 metric 32 proto bird"}, "card2", "card2"},
		{"one with a's metric", []string{"route append default via 172.16.0.1 dev card2 metric 100"}, "card0", "card1"},
		{"one that comes after a", []string{"route add default via 172.16.0.1 dev card2 metric 150", "-6 route add default dev card2 metric 150"}, "card1", "card1"},
		{"one that comes after all", []string{"route add default via 172.16.0.1 dev card2 metric 300", "-6 route add default dev card2 metric 2000"}, "card1", "card1"},
		{"one for a type of service", []string{"route add default via 172.16.0.1 dev card2 metric 50 tos 0x10", "-6 route add default from fd99::/64 dev card2 metric 50"}, "card1", "card1"},
		{"two halves", []string{"route add 0.0.0.0/1 dev card2", "route add 128.0.0.0/1 dev card2", "-6 route add ::/1 dev card2"}, "card2", "card2"},
		{"one that refuses", []string{"route add prohibit default metric 50"}, "RTNETLINK answers: Permission denied", "card1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := kerneltest.NewNamespace(t)
			n.Card(kerneltest.Links...)
			n.IP("address add 172.16.0.2/24 dev card2", "-6 address add fd16::2/64 dev card2 nodad")
			a := &apply.Applier{Kernel: n.Kernel(), Hardware: n.Hardware()}
			bring(t, a, twoInMain)
			n.IP(c.others...)
			before := n.Dump()
			a.Dead = deadOnes("a4 a6")
			for range 2 {
				bring(t, a, twoInMain)
				if got := card(t, n, "203.0.113.1"); !strings.Contains(got, c.want4) {
					t.Errorf("IPv4 leaves by %s, want %s", got, c.want4)
				}
				if got := card(t, n, "2001:db8:ffff::1"); !strings.Contains(got, c.want6) {
					t.Errorf("IPv6 leaves by %s, want %s", got, c.want6)
				}
			}
			if plan, _, err := a.Plan(state(t, twoInMain)); err != nil || plan.Len() != 0 {
				t.Errorf("what is in effect asks for more: %v, %v", plan.Ops(), err)
			}
			a.Adopt = true // as status and diff look at it
			if plan, _, err := a.Plan(state(t, twoInMain)); err != nil || plan.Len() != 0 {
				t.Errorf("looked at, it differs: %v, %v", plan.Ops(), err)
			}
			a.Adopt, a.Dead = false, nil
			bring(t, a, twoInMain)
			if d := kerneltest.Diff(before, n.Dump()); d != "" {
				t.Errorf("alive again it is not as before:\n%s", d)
			}
		})
	}
}

// TestFailOverByTheClientsMetrics has a DHCP client whose metrics in main reverse the order of
// the spec.
func TestFailOverByTheClientsMetrics(t *testing.T) {
	t.Parallel()
	n := kerneltest.NewNamespace(t)
	n.Card(kerneltest.Links...)
	spec := ""
	for i, u := range []struct {
		name   string
		metric int // the client's
	}{{"a", 103}, {"b", 101}, {"c", 102}} {
		n.IP(fmt.Sprintf("address add 172.16.%d.10/24 dev card%d", i, i), fmt.Sprintf("route add default via 172.16.%d.1 dev card%d proto dhcp metric %d", i, i, u.metric))
		spec += fmt.Sprintf("[uplink.%s]\ninterface = \"card%d\"\nmanage = \"policy\"\ndhcp = \"ipv4\"\ndefault-route = true\nmetric = %d00\nprobe = { targets = [\"203.0.113.1\"] }\n", u.name, i, i+1)
	}
	a := &apply.Applier{Kernel: n.Kernel(), Hardware: n.Hardware()}
	for _, c := range []struct{ dead, want string }{
		{"", "card1"}, {"a4", "card1"}, {"a4 c4", "card1"}, {"b4", "card2"}, {"b4 c4", "card0"}, {"a4 b4", "card2"}, {"a4 b4 c4", "card1"},
	} {
		a.Dead = deadOnes(c.dead)
		bring(t, a, spec)
		if got := card(t, n, "203.0.113.1"); got != c.want {
			t.Errorf("dead %q: it leaves by %s, want %s", c.dead, got, c.want)
		}
	}
}

// TestFailOverKeepsSourceAndMetrics checks that the default route around dead uplinks is as in
// the uplink's own table; of several, it has what holds for all.
func TestFailOverKeepsSourceAndMetrics(t *testing.T) {
	t.Parallel()
	const (
		first  = "[uplink.a]\ninterface = \"card0\"\naddresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.1\"]\ndefault-route = true\nmetric = 100\nprobe = { targets = [\"203.0.113.1\"] }\n"
		second = "[uplink.b]\ninterface = \"card1\"\naddresses = [\"198.51.100.10/24\", \"198.51.100.11/24\"]\ndefault-route = true\nmetric = 200\n" +
			"[[uplink.b.route]]\nto = \"default\"\nvia = \"198.51.100.1\"\nsrc = \"198.51.100.11\"\nmtu = 1400\nadvmss = 1360\ninitcwnd = 20\ninitrwnd = 30\n"
		third = "[uplink.c]\ninterface = \"card2\"\naddresses = [\"100.64.0.10/24\"]\n[[uplink.c.route]]\nto = \"default\"\nvia = \"100.64.0.1\"\n"
	)
	shared := func(c string) string {
		return "[multipath]\nuplinks = { a = 1, b = 2, c = 1 }\n" +
			strings.NewReplacer("default-route = true\n", "", "metric = 100\n", "", "metric = 200\n", "").Replace(first+second) + third + c
	}
	for _, c := range []struct{ name, spec, want string }{
		{"one", first + second, "default via 198.51.100.1 dev card1 proto 118 src 198.51.100.11 mtu 1400 advmss 1360 initcwnd 20 initrwnd 30"},
		{"several that agree on little", shared("src = \"100.64.0.10\"\nmtu = 1300\nadvmss = 1380\ninitcwnd = 20\ninitrwnd = 40\n"), "default proto 118 mtu 1300 advmss 1360 initcwnd 20"},
		{"one of several with nothing of its own", shared(""), "default proto 118 mtu 1400 advmss 1360"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := kerneltest.NewNamespace(t)
			n.Card(kerneltest.Links...)
			a := &apply.Applier{Kernel: n.Kernel(), Hardware: n.Hardware()}
			bring(t, a, c.spec)
			a.Dead = deadOnes("a4")
			bring(t, a, c.spec)
			table := fmt.Sprint(state(t, c.spec).Failover.Table)
			got, err := n.Run("", "ip", "-N", "route", "show", "table", table)
			if err != nil {
				t.Fatal(err)
			}
			got, _, _ = strings.Cut(got, "\n")
			if strings.TrimSpace(got) != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}
