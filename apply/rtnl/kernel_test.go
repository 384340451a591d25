package rtnl_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// TestKernel holds the running kernel to the contract that the fake keeps.
func TestKernel(t *testing.T) {
	kerneltest.Run(t, func(t *testing.T) apply.Kernel {
		n := kerneltest.NewNamespace(t)
		n.Card(kerneltest.Links...)
		k := n.Kernel()
		if _, err := k.Observe(apply.Scope{}); err != nil {
			t.Fatal(err)
		}
		return k
	})
}

// TestRulesKeepTheirBits removes rules of others as they were read: the kernel keeps the bits
// beyond a prefix's length, and finds a rule by them.
func TestRulesKeepTheirBits(t *testing.T) {
	t.Parallel()
	n := kerneltest.NewNamespace(t)
	n.IP("rule add priority 5 from 192.0.2.10/25 lookup 7 protocol 4", "-6 rule add priority 5 to 2001:db8::1/64 lookup 7 protocol 4")
	k := n.Kernel()
	others := func() (list []apply.Rule) {
		t.Helper()
		have, err := k.Observe(apply.Scope{Foreign: true})
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(have.Rules, func(r apply.Rule) bool { return r.Priority != 5 })
	}
	var ops []apply.Op
	for _, r := range others() {
		ops = append(ops, apply.Op{Verb: apply.RuleDel, Rule: &r.Rule, Owner: fib.Some(r.Protocol)})
	}
	for i, err := range k.Execute(ops) {
		if err != nil {
			t.Errorf("%s: %v", ops[i], err)
		}
	}
	if left := others(); len(ops) != 2 || len(left) != 0 {
		t.Errorf("of %d rules there are still %+v", len(ops), left)
	}
}

// TestOthersRoutesOfEveryType adds a route of each type as networkd does. All of them are
// observed, except those in table local, which the kernel itself has for each address.
func TestOthersRoutesOfEveryType(t *testing.T) {
	t.Parallel()
	n := kerneltest.NewNamespace(t)
	n.Card("card0")
	n.IP("link set card0 up", "address add 192.0.2.10/24 dev card0", "address add 2001:db8:1::10/64 dev card0")
	want := map[string]bool{}
	for f, types := range map[fib.Family][]fib.RouteType{
		fib.Inet:  {fib.Unicast, fib.Local, fib.Broadcast, fib.Anycast, fib.Multicast, fib.RouteBlackhole, fib.RouteUnreachable, fib.RouteProhibit, fib.Throw},
		fib.Inet6: {fib.Unicast, fib.Local, fib.Anycast, fib.Multicast, fib.RouteBlackhole, fib.RouteUnreachable, fib.RouteProhibit, fib.Throw},
	} {
		for i, kind := range types {
			to := map[fib.Family]string{fib.Inet: fmt.Sprintf("10.9.%d.0/24", i), fib.Inet6: fmt.Sprintf("2001:db8:9:%x::/64", i+1)}[f]
			dev := ""
			if kind.HasDevice() {
				dev = "dev card0 "
			}
			n.IP(fmt.Sprintf("route add %s %s %stable 7 protocol static", kind, to, dev))
			want[fmt.Sprint(kind, " ", to)] = true
		}
	}
	for local, scope := range map[bool]apply.Scope{false: {Foreign: true}, true: {Foreign: true, Local: true}} {
		have, err := n.Kernel().Observe(scope)
		if err != nil {
			t.Fatal(err)
		}
		seen, locals := map[string]bool{}, 0
		for _, r := range have.Routes {
			switch r.Table {
			case 7:
				seen[fmt.Sprint(r.Type, " ", r.Dst)] = true
			case fib.TableLocal:
				locals++
			}
		}
		if !maps.Equal(seen, want) || (locals > 0) != local {
			t.Errorf("%+v: %v and %d of table local, want %v", scope, seen, locals, want)
		}
	}
}
