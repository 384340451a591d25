package host

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/apply/rtnl"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

// sourceless is a kernel that refuses routes a number of times.
type sourceless struct {
	*kerneltest.Fake
	times int
	errno syscall.Errno
}

// Execute implements apply.Kernel.
func (k *sourceless) Execute(ops []apply.Op) []error {
	var answers []error
	for _, o := range ops {
		if o.Verb == apply.RouteAdd && k.times > 0 {
			k.times--
			answers = append(answers, &apply.OpError{Op: o, Msg: "Invalid prefsrc address", Err: k.errno})
			continue
		}
		answers = append(answers, k.Fake.Execute([]apply.Op{o})...)
	}
	return answers
}

// TestSettleTriesAgain refuses a route of a learned address, as the kernel does while networkd
// replaces an address of its own with that of a DHCP server.
func TestSettleTriesAgain(t *testing.T) {
	const ever = 1 << 20
	for _, c := range []struct {
		name     string
		times    int
		errno    syscall.Errno
		networkd bool
		want     error
	}{
		{"for a moment", 2, syscall.EINVAL, true, nil},
		{"for ever", ever, syscall.EINVAL, true, syscall.EINVAL},
		{"for another reason", 1, syscall.EPERM, true, syscall.EPERM},
		{"without networkd", 1, syscall.EINVAL, false, syscall.EINVAL},
	} {
		t.Run(c.name, func(t *testing.T) {
			kernel := &sourceless{kerneltest.NewFake("eth0"), c.times, c.errno}
			kernel.Addresses = append(kernel.Addresses, apply.Address{Address: fib.Address{Link: "eth0", Prefix: netip.MustParsePrefix("192.0.2.10/24")}})
			r := &reload{
				Host:   &Host{Root: rootfs.At(t.TempDir()), Applier: apply.Applier{Kernel: kernel}},
				stderr: io.Discard, wait: 300 * time.Millisecond, backend: spec.Auto, networkd: c.networkd,
				state: fib.State{Links: []fib.Link{{
					Name: "a", Uplinks: []fib.Named{{Name: "a"}}, Match: fib.Match{Name: "eth0"}, Learn: fib.Learn{DHCP4: true, Table: 7},
				}}},
			}
			if err := r.settle(t.Context()); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if c.want == nil && len(kernel.Routes) != 1 {
				t.Errorf("the kernel holds %v", kernel.Routes)
			}
		})
	}
}

// TestARouteInTheWayIsLeftBehind has a networkd that leaves the IPv6 route of an address that is
// gone, as 257 does with one that was bequeathed to it.
func TestARouteInTheWayIsLeftBehind(t *testing.T) {
	link := func(name string, via ...string) fib.Route {
		r := fib.Route{Family: fib.Inet6, Table: 7, Dst: netip.MustParsePrefix("2001:db8::/64"), Type: fib.Unicast, Metric: 1024, Link: name, Nexthops: []fib.Nexthop{{Link: name}}}
		if len(via) > 0 {
			r.Dst, r.Nexthops = fib.Inet6.Any(), nil
		}
		for _, v := range via {
			r.Nexthops = append(r.Nexthops, fib.Nexthop{Link: name, Via: netip.MustParseAddr(v)})
		}
		return r
	}
	from := func(r fib.Route, src string) fib.Route {
		r.Src = netip.MustParseAddr(src)
		return r
	}
	state := func(routes ...fib.Route) fib.State {
		return fib.State{
			Tables: []fib.Table{{ID: 7, Name: "a"}}, Routes: routes,
			Links: []fib.Link{{Name: "a", Uplinks: []fib.Named{{Name: "a"}}, Match: fib.Match{Name: "eth0"}}},
			Addresses: []fib.Address{
				{Link: "a", Prefix: netip.MustParsePrefix("2001:db8::1/64")}, {Link: "a", Prefix: netip.MustParsePrefix("2001:db8::2/64")},
			},
		}
	}
	root := rootfs.At(t.TempDir())
	old, _, err := units.Render(state(from(link("a"), "2001:db8::1"), link("a", "2001:db8::a")), units.Target{Root: root, Version: units.Oldest})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name       string
		have, want fib.Route
		left       string
	}{
		{"as it is wanted", from(link("eth0"), "2001:db8::1"), from(link("a"), "2001:db8::1"), ""},
		{"its source is gone", link("eth0"), from(link("a"), "2001:db8::2"), "-6 route del 2001:db8::/64 dev eth0 table 7 proto 4 metric 1024"},
		{"it is wanted so", link("eth0"), link("a"), ""},
		{"the new way beside the old", link("eth0", "2001:db8::a", "2001:db8::b"), link("a", "2001:db8::b"), "-6 route del default via 2001:db8::a dev eth0 table 7 proto 4 metric 1024"},
		{"somebody else's", link("eth0", "2001:db8::c"), link("a", "2001:db8::b"), ""},
	} {
		fake := kerneltest.NewFake("eth0")
		fake.Routes = append(fake.Routes, apply.Route{Route: c.have, Protocol: apply.ProtocolStatic})
		r := &reload{
			Host:     &Host{Root: root, Applier: apply.Applier{Kernel: fake, Hardware: rtnl.Hardware{}}},
			networkd: true, changed: true, oldHas: old.Contents(), state: state(c.want),
		}
		now, err := r.look()
		have := ""
		for _, l := range now.left {
			if have += l.cure.Batch(); !l.inTheWay || !now.devices["eth0"] {
				t.Errorf("%s: %+v on %v", c.name, l, now.devices)
			}
		}
		if err != nil || have != c.left {
			t.Errorf("%s: left %q, want %q: %v", c.name, have, c.left, err)
		}
	}
}

// TestWhatOthersHaveIsNotLeftBehind puts what the old rendering asked for into the kernel, once
// as networkd's and once as somebody else's, where it stays theirs.
func TestWhatOthersHaveIsNotLeftBehind(t *testing.T) {
	route := fib.Route{Family: fib.Inet, Table: 7, Dst: fib.Inet.Any(), Type: fib.Unicast, Link: "a", Nexthops: []fib.Nexthop{{Link: "a", Via: netip.MustParseAddr("192.0.2.1")}}}
	rule := fib.Rule{Family: fib.Inet, Priority: 10000, From: netip.MustParsePrefix("192.0.2.10/32"), Action: fib.Lookup, Table: 7, Link: "a"}
	links := []fib.Link{{Name: "a", Uplinks: []fib.Named{{Name: "a"}}, Match: fib.Match{Name: "eth0"}}}
	root := rootfs.At(t.TempDir())
	old, _, err := units.Render(fib.State{
		Tables: []fib.Table{{ID: 7, Name: "a"}}, Links: links, Routes: []fib.Route{route}, Rules: []fib.Rule{rule},
		Addresses: []fib.Address{{Link: "a", Prefix: netip.MustParsePrefix("192.0.2.10/24")}},
	}, units.Target{Root: root, Version: units.Oldest})
	if err != nil {
		t.Fatal(err)
	}
	route.Link, route.Nexthops = "eth0", []fib.Nexthop{{Link: "eth0", Via: netip.MustParseAddr("192.0.2.1")}}
	rule.Link = ""
	for protocol, want := range map[uint8]int{apply.ProtocolStatic: 2, apply.ProtocolBoot: 0, apply.ProtocolDHCP: 0} {
		fake := kerneltest.NewFake("eth0")
		fake.Routes = append(fake.Routes, apply.Route{Route: route, Protocol: protocol})
		fake.Rules = append(fake.Rules, apply.Rule{Rule: rule, Protocol: protocol})
		r := &reload{
			Host:     &Host{Root: root, Applier: apply.Applier{Kernel: fake, Hardware: rtnl.Hardware{}}},
			networkd: true, changed: true, oldHas: old.Contents(), state: fib.State{Links: links},
		}
		if left, err := r.leftovers(r.state, nil); err != nil || len(left) != want {
			t.Errorf("of protocol %d are left %+v, want %d: %v", protocol, left, want, err)
		}
	}
}

// TestSettleIsInterrupted has as much missing as there is left behind, which is not in effect,
// and interrupts the run.
func TestSettleIsInterrupted(t *testing.T) {
	links := []fib.Link{{Name: "a", Uplinks: []fib.Named{{Name: "a"}}, Match: fib.Match{Name: "eth0"}}}
	rule := func(from string) fib.Rule {
		return fib.Rule{Family: fib.Inet, Priority: 10000, From: netip.MustParsePrefix(from), Action: fib.Lookup, Table: 7, Link: "a"}
	}
	state := func(from string) fib.State {
		return fib.State{Tables: []fib.Table{{ID: 7, Name: "a"}}, Links: links, Rules: []fib.Rule{rule(from)}}
	}
	root := rootfs.At(t.TempDir())
	old, _, err := units.Render(state("192.0.2.10/32"), units.Target{Root: root, Version: units.Oldest})
	if err != nil {
		t.Fatal(err)
	}
	fake := kerneltest.NewFake("eth0")
	fake.Rules = append(fake.Rules, apply.Rule{Rule: rule("192.0.2.10/32"), Protocol: apply.ProtocolStatic})
	r := &reload{
		Host:   &Host{Root: root, Applier: apply.Applier{Kernel: fake, Hardware: rtnl.Hardware{}}},
		stderr: io.Discard, wait: time.Hour, backend: spec.Networkd, networkd: true, changed: true, oldHas: old.Contents(), state: state("192.0.2.20/32"),
	}
	now, err := r.look()
	if err != nil || len(now.missing) != 1 || len(now.left) != 1 {
		t.Fatalf("%+v, %v", now, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.settle(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestANoteOfAKilledRunDoesNotStay brings about what is in effect already, after a run that was
// killed before its note was in its place.
func TestANoteOfAKilledRunDoesNotStay(t *testing.T) {
	root := t.TempDir()
	h := &Host{Root: rootfs.At(root)}
	if err := h.makeOwnDir(); err != nil {
		t.Fatal(err)
	}
	now := Effective{Backend: spec.Netlink}
	if err := h.MarkInEffect(now); err != nil {
		t.Fatal(err)
	}
	put(t, root, "run/uplink/in-effect.json.tmp", "{}")
	if err := h.MarkInEffect(now); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(root, "run/uplink/*"))
	if err != nil || len(left) != 1 {
		t.Errorf("there are %v: %v", left, err)
	}
}
