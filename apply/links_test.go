package apply_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
)

// TestLinkChangesBetweenPlanAndExecute removes card1 in four ways before each operation of a
// plan. The run may fail, or not notice; nothing of ours ever ends up on another link, and
// nothing of others' is lost. Once card1 is back the next run converges.
func TestLinkChangesBetweenPlanAndExecute(t *testing.T) {
	for _, c := range []struct {
		name       string
		away, back []string
	}{
		{"Down", []string{"link set card1 down"}, []string{"link set card1 up"}},
		{"NoCarrier", []string{"link set card1.peer down"}, []string{"link set card1.peer up"}},
		{"Gone", []string{"link del card1"}, nil},
		{"Renamed", []string{"link set card1 down", "link set card1 name other1", "link set other1 up"}, []string{"link set other1 down", "link set other1 name card1", "link set card1 up"}},
		{"Recreated", []string{"link del card1", "link add card1 type veth peer name card1.peer", "link set card1.peer addrgenmode none up", "link set card1 addrgenmode none up"}, []string{"link set card1 up"}},
		{"NamesSwapped", []string{"link set card1 down", "link set card2 down", "link set card1 name tmp", "link set card2 name card1", "link set tmp name card2", "link set card1 up", "link set card2 up"}, []string{"link set card1 up"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			const before = recipe
			want := strings.ReplaceAll(dualStack, "default-route = true", "")
			want = strings.ReplaceAll(want, "metric        = 100", "")
			total := 0
			for at := 1; at == 1 || at <= total; at += 3 {
				n := kerneltest.NewNamespace(t)
				n.Card(kerneltest.Links...)
				n.IP("address add 172.20.0.1/24 dev card0", "route add 172.21.0.0/16 via 172.20.0.9 dev card0 table 10000", "rule add priority 7 from 172.22.0.0/16 lookup 10000")
				k := &kerneltest.Faulty{Kernel: n.Kernel()}
				a := &apply.Applier{Kernel: k, Hardware: n.Hardware()}
				bring(t, a, before)
				plan, _, err := a.Plan(state(t, want))
				if err != nil {
					t.Fatal(err)
				}
				total = plan.Len()
				k.Seen = nil
				k.Before = func(i int, _ apply.Op) {
					if i == at {
						n.IP(c.away...)
					}
				}
				r, err := a.Apply(context.Background(), state(t, want))
				k.Before = nil
				what := fmt.Sprintf("before operation %d of %d: %v", at, total, err)
				dump := n.Dump()
				for line := range strings.Lines(dump) {
					ours := strings.Contains(line, "proto 118")
					if ours && (strings.Contains(line, "dev card2 ") && c.name != "NamesSwapped" || strings.Contains(line, "dev card1 ") && err != nil && (c.name == "NamesSwapped" || c.name == "Recreated")) {
						t.Errorf("%s: on the wrong link: %s", what, line)
					}
				}
				for _, line := range []string{"172.20.0.1/24", "172.21.0.0/16", "172.22.0.0/16"} {
					if !strings.Contains(dump, line) {
						t.Errorf("%s: lost %s", what, line)
					}
				}
				var drift *apply.DriftError
				if err != nil && !errors.As(err, &drift) && len(r.Done) > 0 {
					t.Errorf("%s: but %d operations were done", what, len(r.Done))
				}
				// The other uplink's way is there, as before or as wanted.
				for _, line := range []string{"default via 192.0.2.1 dev card0 table 10000", "from 192.0.2.10 lookup 10000", "192.0.2.10/24"} {
					if !strings.Contains(dump, line) {
						t.Errorf("%s: lost %s:\n%s", what, line, dump)
					}
				}
				n.IP(c.back...)
				if c.name == "Gone" {
					n.Card("card1")
				} else {
					n.Carrier("card0", "card1")
				}
				bring(t, a, want)
				if plan, result, err := a.Plan(state(t, want)); err != nil || plan.Len() > 0 || len(result.Waiting) > 0 {
					t.Errorf("%s: the next run did not converge: %v, %v\n%s", what, err, result.Waiting, lines(plan.Ops()))
				}
			}
		})
	}
}

// TestDownAndUnplugged sets up links that are down. One of them has no cable: the other is
// completed all the same, also in IPv6, where an address without a carrier would stay tentative
// for ever.
func TestDownAndUnplugged(t *testing.T) {
	t.Parallel()
	n := kerneltest.NewNamespace(t)
	n.Sysctl("net/ipv6/conf/default/accept_dad", "1")
	n.Card("card0", "card1")
	n.IP("link set card0 down", "link set card1 down", "link set card1.peer down")
	a := &apply.Applier{Kernel: n.Kernel(), Hardware: n.Hardware()}
	r := bring(t, a, dualStack)
	if len(r.Waiting) != 1 || r.Waiting[0].String() != "uplink rt2: card1 has no carrier" {
		t.Errorf("waiting: %v", r.Waiting)
	}
	dump := n.Dump()
	if !strings.Contains(dump, "2001:db8:1::/64 dev card0 table 10000 proto 118") || strings.Contains(dump, "198.51.100") {
		t.Errorf("the kernel has\n%s", dump)
	}
	n.IP("link set card1.peer up")
	n.Carrier("card0", "card1")
	if r := bring(t, a, dualStack); len(r.Waiting) != 0 {
		t.Errorf("waiting: %v", r.Waiting)
	}
	if plan, _, err := a.Plan(state(t, dualStack)); err != nil || plan.Len() != 0 {
		t.Errorf("%v, still to do:\n%s", err, lines(plan.Ops()))
	}
}

// TestWaitsForLinks plugs a link in while a run waits.
func TestWaitsForLinks(t *testing.T) {
	t.Parallel()
	n := kerneltest.NewNamespace(t)
	n.Card("card0")
	a := &apply.Applier{Kernel: n.Kernel(), Hardware: n.Hardware(), Wait: 20 * time.Second}
	go func() {
		time.Sleep(50 * time.Millisecond)
		_, _ = n.Run("link add card1 type veth peer name card1.peer\nlink set card1.peer up\n", "ip", "-batch", "-")
	}()
	start := time.Now()
	if r := bring(t, a, recipe); len(r.Waiting) != 0 {
		t.Errorf("waiting: %v", r.Waiting)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if plan, _, err := a.Plan(state(t, recipe)); err != nil || plan.Len() != 0 {
		t.Errorf("%v, still to do:\n%s", err, lines(plan.Ops()))
	}
}

// TestAdoptDoesNotMissWhatNetworkdWaitsWith looks at a rule for a link that comes later.
func TestAdoptDoesNotMissWhatNetworkdWaitsWith(t *testing.T) {
	t.Parallel()
	n := kerneltest.NewNamespace(t)
	n.Card("card0", "card1")
	spec := state(t, recipe+"[[uplink.rt2.rule]]\npriority = 500\niif = \"wg0\"\n")
	// The number of rules that a look reports as missing, and that an apply would add.
	expect := func(what string, looker, applier int) {
		t.Helper()
		for _, adopt := range []bool{true, false} {
			a := &apply.Applier{Kernel: n.Kernel(), Hardware: n.Hardware(), Adopt: adopt, AwaitsLinks: true}
			plan, _, err := a.Plan(spec)
			if err != nil {
				t.Fatal(err)
			}
			added, want := strings.Count(lines(plan.Ops()), "rule add priority 500"), applier
			if adopt {
				want = looker
			}
			if added != want {
				t.Errorf("%s, adopt %t: %d rules are missing, want %d:\n%s", what, adopt, added, want, lines(plan.Ops()))
			}
		}
	}
	expect("without the link", 0, 1)
	n.Card("wg0")
	expect("with the link", 1, 1)
	n.IP("rule add priority 500 iif wg0 lookup 1 protocol static")
	expect("with networkd's rule", 0, 1)
	n.IP("link del wg0")
	expect("with the rule of a link that went", 0, 1)
}

// TestInterrupted ends a run that waits for links, and one that waits for duplicate
// address detection: all is as before, and the error says that it was interrupted.
func TestInterrupted(t *testing.T) {
	t.Run("WaitingForLinks", func(t *testing.T) {
		t.Parallel()
		n := kerneltest.NewNamespace(t)
		n.Card("card0")
		before := n.Dump()
		a := &apply.Applier{Kernel: n.Kernel(), Hardware: n.Hardware(), Wait: time.Minute}
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(100*time.Millisecond, cancel)
		_, err := a.Apply(ctx, state(t, recipe))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if d := kerneltest.Diff(before, n.Dump()); d != "" {
			t.Error(d)
		}
	})
	t.Run("DuplicateAddressDetection", func(t *testing.T) {
		t.Parallel()
		n := kerneltest.NewNamespace(t)
		n.Sysctl("net/ipv6/conf/default/accept_dad", "1")
		n.Card("card0", "card1")
		before := n.Dump()
		a := &apply.Applier{Kernel: n.Kernel(), Hardware: n.Hardware()}
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(100*time.Millisecond, cancel)
		_, err := a.Apply(ctx, state(t, dualStack))
		if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "another host") {
			t.Errorf("%v", err)
		}
		if d := kerneltest.Diff(before, n.Dump()); d != "" {
			t.Error(d)
		}
	})
}

// TestAddressConflict has another host with the same IPv6 address: the error says so at
// once, and all is as before.
func TestAddressConflict(t *testing.T) {
	t.Parallel()
	n := kerneltest.NewNamespace(t)
	n.Sysctl("net/ipv6/conf/default/accept_dad", "1")
	n.Card("card0", "card1")
	n.IP("-6 address add 2001:db8:2::10/64 dev card1.peer nodad")
	n.HasRoute("local 2001:db8:2::10 dev card1.peer")
	before := n.Dump()
	a := &apply.Applier{Kernel: n.Kernel(), Hardware: n.Hardware()}
	start := time.Now()
	_, err := a.Apply(context.Background(), state(t, dualStack))
	if err == nil || err.Error() != "2001:db8:2::10 on card1: another host has this address (duplicate address detection has failed)" {
		t.Errorf("%v", err)
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("it took %s", took)
	}
	if d := kerneltest.Diff(before, n.Dump()); d != "" {
		t.Error(d)
	}
}

// TestUndoWaitsForAddresses refuses the last operation of a change that removes IPv6 addresses:
// they come back, and with them the routes that have them as source.
func TestUndoWaitsForAddresses(t *testing.T) {
	t.Parallel()
	n := kerneltest.NewNamespace(t)
	n.Sysctl("net/ipv6/conf/default/accept_dad", "1")
	n.Card("card0", "card1")
	k := &kerneltest.Faulty{Kernel: n.Kernel()}
	a := &apply.Applier{Kernel: k, Hardware: n.Hardware()}
	bring(t, a, dualStack)
	before := n.Dump()
	plan, _, err := a.Plan(state(t, recipe))
	if err != nil {
		t.Fatal(err)
	}
	k.Seen, k.At, k.Fault = nil, plan.Len(), kerneltest.Refuse
	if _, err = a.Apply(context.Background(), state(t, recipe)); err == nil || strings.Contains(err.Error(), "undoing") {
		t.Errorf("%v", err)
	}
	if d := kerneltest.Diff(before, n.Dump()); d != "" {
		t.Error(d)
	}
}

// TestInet6Off switches IPv6 off by sysctl, on all links or on one: IPv4 goes on.
func TestInet6Off(t *testing.T) {
	for _, link := range []string{"all", "card1"} {
		t.Run(link, func(t *testing.T) {
			t.Parallel()
			n := kerneltest.NewNamespace(t)
			n.Card("card0", "card1")
			n.Sysctl("net/ipv6/conf/"+link+"/disable_ipv6", "1")
			a := &apply.Applier{Kernel: n.Kernel(), Hardware: n.Hardware()}
			r := bring(t, a, dualStack)
			dump := n.Dump()
			for _, want := range []string{"default via 192.0.2.1 dev card0 table 10000", "default via 198.51.100.1 dev card1 table 1 ", "from 198.51.100.10 lookup 1 "} {
				if !strings.Contains(dump, want) {
					t.Errorf("no %q in\n%s", want, dump)
				}
			}
			if got, want := strings.Contains(dump, "2001:db8:1::/64 dev card0 table 10000"), link == "card1"; got != want {
				t.Errorf("IPv6 on card0: %v, want %v:\n%s", got, want, dump)
			}
			if len(r.Waiting) == 0 || !strings.Contains(r.Waiting[len(r.Waiting)-1].String(), "uplink rt2: card1 has IPv6 switched off") {
				t.Errorf("waiting: %v", r.Waiting)
			}
			if plan, _, err := a.Plan(state(t, dualStack)); err != nil || plan.Len() != 0 {
				t.Errorf("%v, still to do:\n%s", err, lines(plan.Ops()))
			}
			n.Sysctl("net/ipv6/conf/"+link+"/disable_ipv6", "0")
			if r := bring(t, a, dualStack); len(r.Waiting) != 0 || !strings.Contains(n.Dump(), "2001:db8:2::/64 dev card1 table 1 ") {
				t.Errorf("switched on again: %v\n%s", r.Waiting, n.Dump())
			}
		})
	}
}

// TestPrimaryAddressGoes removes the first address of a subnet, with which the kernel by default
// deletes all others of it: somebody else's stays, and so does the one that is still wanted.
func TestPrimaryAddressGoes(t *testing.T) {
	t.Parallel()
	n := kerneltest.NewNamespace(t)
	n.Card("card0")
	a := &apply.Applier{Kernel: n.Kernel(), Hardware: n.Hardware()}
	spec := "[uplink.a]\ninterface = \"card0\"\naddresses = [%s]\ngateways = [\"192.0.2.1\"]\n"
	bring(t, a, fmt.Sprintf(spec, `"192.0.2.10/24", "192.0.2.11/24"`))
	n.IP("address add 192.0.2.99/24 dev card0")
	bring(t, a, fmt.Sprintf(spec, `"192.0.2.11/24"`))
	dump := n.Dump()
	for _, want := range []string{"192.0.2.11/24", "192.0.2.99/24"} {
		if !strings.Contains(dump, want) {
			t.Errorf("no %s in\n%s", want, dump)
		}
	}
	if strings.Contains(dump, "192.0.2.10/24") {
		t.Errorf("192.0.2.10 is still there:\n%s", dump)
	}
	if _, err := a.Down(context.Background()); err != nil {
		t.Fatal(err)
	}
	if dump := n.Dump(); !strings.Contains(dump, "192.0.2.99/24") || strings.Contains(dump, "192.0.2.11") {
		t.Errorf("after down:\n%s", dump)
	}
}
