package host

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

// TestARecordIsReadAsItWasWritten has routes and rules of all kinds in it.
func TestARecordIsReadAsItWasWritten(t *testing.T) {
	r := kerneltest.NewRandom(1, kerneltest.Links...)
	was := record{
		Version: recordVersion, Backend: spec.Auto, Files: units.Tree{{Path: "/run/systemd/network/10-uplink-a.network", Data: []byte("# \xff\n")}},
		Marks: map[string][]byte{matchFile: {}, inEffectFile: []byte("{}")},
	}
	was.Held.Links = []apply.Link{{Index: 2, Name: "card0", AltNames: []string{"x"}, MAC: "02:00:00:00:00:01", MTU: 1400, Up: true, Carrier: true}}
	for _, prefix := range kerneltest.Setup(0) {
		was.Held.Addresses = append(was.Held.Addresses, apply.Address{Address: fib.Address{Link: "card0", Prefix: prefix}, Ours: true})
	}
	for range 500 {
		was.Held.Routes = append(was.Held.Routes, apply.Route{Route: r.Route(), Protocol: fib.Protocol})
		was.Held.Rules = append(was.Held.Rules, apply.Rule{Rule: r.Rule(), Protocol: 4})
	}
	file := filepath.Join(t.TempDir(), recordFile)
	if err := writeJSON(file, was); err != nil {
		t.Fatal(err)
	}
	var is record
	if err := readJSON(file, &is); err != nil {
		t.Fatal(err)
	}
	if a, b := fmt.Sprintf("%#v", was.Files), fmt.Sprintf("%#v", is.Files); a != b {
		t.Errorf("the files are %s, were %s", b, a)
	}
	if !maps.Equal(lines(was.Held), lines(is.Held)) || !maps.Equal(contents(was.Held), contents(is.Held)) || len(lines(is.Held)) < 900 {
		t.Errorf("%d lines", len(lines(is.Held)))
	}
	if a, b := fmt.Sprint(was), fmt.Sprint(is); a != b {
		t.Errorf("%s\nwas\n%s", b, a)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

// TestOwnIsWhatOurFilesAskFor checks that a record distinguishes its own part from what others
// made.
func TestOwnIsWhatOurFilesAskFor(t *testing.T) {
	rule := func(from string, table uint32, protocol uint8) apply.Rule {
		return apply.Rule{Rule: fib.Rule{Family: fib.Inet, Priority: 10000, From: netip.MustParsePrefix(from + "/32"), Action: fib.Lookup, Table: table}, Protocol: protocol}
	}
	route := func(link string, table uint32, protocol uint8) apply.Route {
		return apply.Route{Route: fib.Route{
			Family: fib.Inet, Table: table, Dst: fib.Inet.Any(), Type: fib.Unicast, Link: link, Nexthops: []fib.Nexthop{{Link: link, Via: netip.MustParseAddr("192.0.2.1")}},
		}, Protocol: protocol}
	}
	files := func(address string, table uint32) units.Tree {
		state := fib.State{
			Tables:    []fib.Table{{ID: table, Name: "a"}},
			Links:     []fib.Link{{Name: "a", Uplinks: []fib.Named{{Name: "a"}}, Match: fib.Match{Name: "eth0"}}},
			Addresses: []fib.Address{{Link: "a", Prefix: netip.MustParsePrefix(address + "/24")}},
			Rules:     []fib.Rule{rule(address, table, 0).Rule},
			Routes:    []fib.Route{route("a", table, 0).Route},
		}
		state.Rules[0].Link = "a"
		tree, _, err := units.Render(state, units.Target{Root: rootfs.At(t.TempDir()), Version: units.Oldest})
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	w := record{Files: files("192.0.2.10", 5), Tried: files("192.0.2.20", 6)}
	address := func(a string, ours bool) apply.Address {
		return apply.Address{Address: fib.Address{Link: "eth0", Prefix: netip.MustParsePrefix(a + "/24")}, Ours: ours}
	}
	own := w.own(apply.Snapshot{
		Addresses: []apply.Address{address("192.0.2.10", false), address("192.0.2.20", false), address("192.0.2.30", false), address("192.0.2.40", true)},
		Rules: []apply.Rule{
			rule("192.0.2.10", 5, 4), rule("192.0.2.20", 6, 4), rule("192.0.2.20", 6, 0), // networkd's
			rule("192.0.2.10", 6, 4), rule("192.0.2.10", 5, 3), // others'
			rule("192.0.2.99", 9, fib.Protocol),
		},
		Routes: []apply.Route{
			route("eth0", 5, 4), route("eth0", 6, 4), // networkd's
			route("eth0", 5, 3), route("eth0", 7, 4), // others'
			route("eth0", 9, fib.Protocol),
		},
	})
	var have []string
	for _, a := range own.Addresses {
		have = append(have, a.Prefix.String())
	}
	for _, r := range own.Rules {
		have = append(have, fmt.Sprint(r.From, " ", r.Table, " ", r.Protocol))
	}
	for _, r := range own.Routes {
		have = append(have, fmt.Sprint(r.Nexthops[0].Link, " ", r.Table, " ", r.Protocol))
	}
	const want = "192.0.2.10/24, 192.0.2.20/24, 192.0.2.40/24, 192.0.2.10/32 5 4, 192.0.2.20/32 6 4, 192.0.2.20/32 6 0, 192.0.2.99/32 9 118, " +
		"eth0 5 4, eth0 6 4, eth0 9 118"
	if text := strings.Join(have, ", "); text != want {
		t.Errorf("%s\nwant\n%s", text, want)
	}
}

// TestLinksThatComeAndGoDuringATry goes back after networkd has configured a link meanwhile, or
// when it no longer can.
func TestLinksThatComeAndGoDuringATry(t *testing.T) {
	address := func(link, a string) apply.Address {
		return apply.Address{Address: fib.Address{Link: link, Prefix: netip.MustParsePrefix(a + "/24")}}
	}
	rule := func(from string) apply.Rule {
		return apply.Rule{Rule: fib.Rule{Family: fib.Inet, Priority: 10000, From: netip.MustParsePrefix(from + "/32"), Action: fib.Lookup, Table: 7}, Protocol: 4}
	}
	// file is what an uplink of this name and interface has.
	file := func(name, link, a string) units.Tree {
		state := fib.State{
			Tables:    []fib.Table{{ID: 7, Name: name}},
			Links:     []fib.Link{{Name: name, Uplinks: []fib.Named{{Name: name}}, Match: fib.Match{Name: link}}},
			Addresses: []fib.Address{address(name, a).Address},
			Rules:     []fib.Rule{rule(a).Rule},
		}
		state.Rules[0].Link = name
		tree, _, err := units.Render(state, units.Target{Root: rootfs.At(t.TempDir()), Version: units.Oldest})
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(tree, func(f units.File) bool { return !units.AffectsNetworkd(f.Path) })
	}
	eth0 := apply.Link{Index: 2, Name: "eth0", Up: true, Carrier: true}
	eth1 := apply.Link{Index: 3, Name: "eth1", Up: true, Carrier: true}
	unplugged := eth1
	unplugged.Carrier = false
	const ours, others, tried = "192.0.2.10", "198.51.100.10", "198.51.100.20"
	snapshot := func(links []apply.Link, of ...apply.Address) apply.Snapshot {
		s := apply.Snapshot{Links: links}
		for _, a := range of {
			s.Addresses, s.Rules = append(s.Addresses, a), append(s.Rules, rule(a.Prefix.Addr().String()))
		}
		return s
	}
	both, one := []apply.Link{eth0, eth1}, []apply.Link{eth0}
	a, b, changed := file("a", "eth0", ours), file("b", "eth1", others), file("b", "eth1", tried)
	for _, c := range []struct {
		what           string
		files, tried   units.Tree
		held, now      apply.Snapshot
		missing, extra int
	}{
		{"nothing happens", slices.Concat(a, b), slices.Concat(a, changed), snapshot(both, address("eth0", ours), address("eth1", others)), snapshot(both, address("eth0", ours), address("eth1", others)), 0, 0},
		{"plugged in, and no part of the try", slices.Concat(file("a", "eth0", "192.0.2.99"), b), slices.Concat(a, b), snapshot(one), snapshot(both, address("eth1", others)), 0, 0},
		{"plugged in, and as before the try", slices.Concat(a, b), slices.Concat(a, changed), snapshot(one, address("eth0", ours)), snapshot(both, address("eth0", ours), address("eth1", others)), 0, 0},
		{"plugged in, and as in the try", slices.Concat(a, b), slices.Concat(a, changed), snapshot(one, address("eth0", ours)), snapshot(both, address("eth0", ours), address("eth1", tried)), 0, 2},
		{"its cable plugged in", slices.Concat(a, b), slices.Concat(a, changed), snapshot([]apply.Link{eth0, unplugged}), snapshot(both, address("eth1", others)), 0, 0},
		{"pulled out", slices.Concat(a, b), slices.Concat(a, changed), snapshot(both, address("eth0", ours), address("eth1", others)), snapshot(one, address("eth0", ours)), 0, 0},
		{"its cable pulled out", slices.Concat(a, b), slices.Concat(a, changed), snapshot(both, address("eth1", others)), snapshot([]apply.Link{eth0, unplugged}), 0, 0},
		{"not yet back", slices.Concat(a, b), slices.Concat(a, changed), snapshot(both, address("eth1", others)), snapshot(both, address("eth1", tried)), 2, 2},
		{"pulled out, of two of one file", slices.Concat(file("a", "eth*", ours), b), slices.Concat(a, changed), snapshot(both, address("eth0", ours), address("eth1", ours)), apply.Snapshot{Links: one, Addresses: []apply.Address{address("eth0", ours)}}, 1, 0},
		{"its MTU is another", a, a, snapshot([]apply.Link{{Index: 2, Name: "eth0", MTU: 1500, Up: true, Carrier: true}}), snapshot([]apply.Link{{Index: 2, Name: "eth0", MTU: 1400, Up: true, Carrier: true}}), 1, 0},
		{"its MTU is as it was", a, a, snapshot([]apply.Link{{Index: 2, Name: "eth0", MTU: 1500, Up: true, Carrier: true}}), snapshot([]apply.Link{{Index: 2, Name: "eth0", MTU: 1500, Up: true, Carrier: true}}), 0, 0},
		{"left on another card", b, file("b", "eth0", others), snapshot(both, address("eth1", others)), snapshot(both, address("eth1", others), address("eth0", others)), 0, 1},
	} {
		w := wayBack{was: record{Files: c.files, Tried: c.tried}}
		w.was.Held = w.was.own(c.held)
		fake := kerneltest.NewFake()
		fake.Snapshot = c.now
		w.reload = &reload{Host: &Host{Applier: apply.Applier{Kernel: fake}}}
		if missing, extra, err := w.differences(); err != nil || len(missing) != c.missing || len(extra) != c.extra {
			t.Errorf("%s: missing %v, extra %v, want %d and %d: %v", c.what, missing, extra, c.missing, c.extra, err)
		}
	}
}

func TestStartTime(t *testing.T) {
	if own := startTime(os.Getpid()); own == 0 || own != startTime(os.Getpid()) {
		t.Error(own)
	}
	if first := startTime(1); first == 0 || first > startTime(os.Getpid()) {
		t.Error(first)
	}
	if none := startTime(1 << 30); none != 0 {
		t.Error(none)
	}
}

// TestTheDeadlineIsByTheMonotonicClock reads the clock itself: by the time of day, both ends of a
// try would agree too, until somebody sets it.
func TestTheDeadlineIsByTheMonotonicClock(t *testing.T) {
	dir := t.TempDir()
	before := uptime(t)
	if err := writeProgress(dir, time.Minute, true); err != nil {
		t.Fatal(err)
	}
	after := uptime(t)
	var p progress
	if err := readJSON(filepath.Join(dir, progressFile), &p); err != nil {
		t.Fatal(err)
	}
	if at := time.Duration(p.Deadline) - time.Minute; at < before || at > after {
		t.Errorf("the deadline is a minute after %v, and was written between %v and %v after the boot", at, before, after)
	}
	if left := p.left(); left > time.Minute || left < 59*time.Second || !p.InEffect || p.PID != os.Getpid() || p.Started != startTime(p.PID) {
		t.Errorf("%v %+v", left, p)
	}
}

// uptime reads CLOCK_MONOTONIC.
func uptime(t *testing.T) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return time.Duration(now.Nano())
}

// TestLeasesAreDatedByTheClockOfTheKernel: an address says how long after the boot it was added,
// and only the output is by the time of day.
func TestLeasesAreDatedByTheClockOfTheKernel(t *testing.T) {
	before := uptime(t)
	now := clock()
	if after := uptime(t); now.uptime < before || now.uptime > after {
		t.Errorf("%v, between %v and %v after the boot", now.uptime, before, after)
	}
	const age = 3 * time.Second
	lease := now.lease(apply.Address{Since: now.uptime - age})
	if have := now.wall.Sub(lease.Since); have != age {
		t.Errorf("there for %v, want %v", have, age)
	}
}
