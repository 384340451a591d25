package rtnl_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/apply/rtnl"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// monitor listens to a namespace's changes, except those of k.
func monitor(t *testing.T, n *kerneltest.Namespace, k *rtnl.Kernel) *rtnl.Monitor {
	t.Helper()
	var m *rtnl.Monitor
	err := n.Do(func() (err error) {
		m, err = k.Monitor()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// told says whether a change is reported within a moment.
func told(m *rtnl.Monitor) bool {
	select {
	case _, open := <-m.Changed: // it is closed where the monitor has given up
		return open
	case <-time.After(100 * time.Millisecond):
		return false
	}
}

// drain waits until nothing is told any more.
func drain(m *rtnl.Monitor) {
	for told(m) {
	}
}

// TestMonitor makes one change after the other, and checks that those that matter are reported.
func TestMonitor(t *testing.T) {
	n := kerneltest.NewNamespace(t)
	n.Card("card0")
	k := n.Kernel()
	m := monitor(t, n, k)
	drain(m)
	for _, c := range []struct {
		change string
		told   bool
	}{
		{"address add 192.0.2.10/24 dev card0", true},
		{"-6 address add 2001:db8:1::10/64 dev card0", true},
		{"route add default via 192.0.2.1 dev card0 proto dhcp", true},
		{"route add 10.0.0.0/8 via 192.0.2.1 dev card0 proto bird", false},
		{"route del 10.0.0.0/8 via 192.0.2.1 dev card0 proto bird", false},
		{"-6 route add default via fe80::1 dev card0 proto ra", true},
		{"route add default via 192.0.2.1 dev card0 proto bird metric 7", true},
		{"route add default via 192.0.2.1 dev card0 proto bird metric 7 table 7", false},
		{"route add default via 192.0.2.1 dev card0 table 7 proto 118", true},
		{"rule add from 192.0.2.10 lookup 7", true},
		{"link set card0 alias one", true}, // the first that it hears of the link
		{"link set card0 alias two", false},
		{"link set card0.peer down", true},
		{"link set card0.peer up", true},
		{"link set card0 down", true},
		{"link add card1 type veth peer name card1.peer", true},
		{"link del card1", true},
	} {
		n.IP(c.change)
		if got := told(m); got != c.told {
			t.Errorf("ip %s: told %v, want %v", c.change, got, c.told)
		}
		drain(m)
	}

	if _, err := k.Observe(apply.Scope{}); err != nil {
		t.Fatal(err)
	}
	drain(m)
	own := fib.Rule{Family: fib.Inet, Priority: 99, Action: fib.Lookup, Table: 7}
	if errs := k.Execute([]apply.Op{{Verb: apply.RuleAdd, Rule: &own}}); errs[0] != nil {
		t.Fatal(errs[0])
	}
	if told(m) {
		t.Error("told of what the kernel's own user did")
	}
	m.Close()
	select {
	case _, ok := <-m.Changed:
		if ok {
			t.Error("told after it was closed")
		}
	case <-time.After(time.Second):
		t.Error("not closed")
	}
}

// TestMonitorOverrun makes more changes at once than fit into the socket's buffer. None of them
// matters, but that some are lost is reported.
func TestMonitorOverrun(t *testing.T) {
	n := kerneltest.NewNamespace(t)
	n.Card("card0")
	m := monitor(t, n, n.Kernel())
	drain(m)
	var batch strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&batch, "route add 10.%d.%d.0/24 dev card0 proto bird\n", i/250, i%250)
	}
	if err := m.SetBuffer(1); err != nil {
		t.Fatal(err)
	}
	// Whoever reads may keep up for once.
	lost := false
	for range 20 {
		if _, err := n.Run(batch.String(), "ip", "-batch", "-"); err != nil {
			t.Fatal(err)
		}
		n.IP("route flush proto bird")
		if lost = told(m); lost {
			break
		}
	}
	if !lost {
		t.Error("lost changes are not told")
	}
	drain(m)
	n.IP("address add 192.0.2.10/24 dev card0")
	if !told(m) {
		t.Error("afterwards nothing is told any more")
	}
}

// TestObserveLearned checks that of the routes of others those that may have been learned are
// observed.
func TestObserveLearned(t *testing.T) {
	n := kerneltest.NewNamespace(t)
	n.Card("card0")
	n.IP("address add 192.0.2.10/24 dev card0")
	want := []uint8{fib.Protocol}
	for p := range 20 {
		n.IP(fmt.Sprintf("route add 10.%d.0.0/16 via 192.0.2.1 dev card0 proto %d", p, max(p, 1)))
		if slices.Contains(apply.LearnedFrom, uint8(p)) {
			want = append(want, uint8(p))
		}
	}
	n.IP("route add 10.99.0.0/16 via 192.0.2.1 dev card0 proto 118")
	have, err := n.Kernel().Observe(apply.Scope{Learned: true})
	if err != nil {
		t.Fatal(err)
	}
	var got []uint8
	for _, r := range have.Routes {
		if r.Family == fib.Inet && r.Dst.Bits() == 16 {
			got = append(got, r.Protocol)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("protocols %v, want %v", got, want)
	}
}

// TestObserveDefaults wants the default routes of table main, each once, and nothing else of
// others; and none where there is no table main yet.
func TestObserveDefaults(t *testing.T) {
	for _, learned := range []bool{false, true} {
		n := kerneltest.NewNamespace(t)
		k := n.Kernel()
		scope := apply.Scope{Defaults: true, Learned: learned}
		if _, err := k.Observe(scope); err != nil {
			t.Fatal(err)
		}
		n.Card("card0")
		n.IP("address add 192.0.2.10/24 dev card0", "-6 address add 2001:db8:1::10/64 dev card0 nodad")
		want := map[string]int{}
		for i, protocol := range []uint8{3, 4, 11, 12, 16, 42, fib.Protocol, 186} {
			for _, ip := range []string{"route add default via 192.0.2.1", "-6 route add default via 2001:db8:1::1"} {
				n.IP(fmt.Sprintf("%s dev card0 proto %d metric %d", ip, protocol, 10+i))
			}
			n.IP(fmt.Sprintf("route add default via 192.0.2.1 dev card0 proto %d metric %d table 7", protocol, 10+i))
			for _, f := range fib.Families {
				want[fmt.Sprint(f, protocol)] = 1
			}
		}
		n.IP("route add 0.0.0.0/1 via 192.0.2.1 dev card0 proto bird", "route add unreachable default metric 9 proto zebra")
		want[fmt.Sprint(fib.Inet, 11)]++
		have, err := k.Observe(scope)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for _, r := range have.Routes {
			switch {
			case r.IsDefault() && r.Table == 254:
				got[fmt.Sprint(r.Family, r.Protocol)]++
			case !r.Ours() && (!learned || !slices.Contains(apply.LearnedFrom, r.Protocol)):
				t.Errorf("learned %v: %+v", learned, r)
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("learned %v: %v, want %v", learned, got, want)
		}
	}
}
