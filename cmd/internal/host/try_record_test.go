package host

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// TestOwnIsWhatOurFilesAskFor tells what a record is about from what others have made.
func TestOwnIsWhatOurFilesAskFor(t *testing.T) {
	rule := func(from string, table uint32, protocol uint8) apply.Rule {
		return apply.Rule{Rule: fib.Rule{Family: fib.Inet, Priority: 10000, From: netip.MustParsePrefix(from + "/32"), Action: fib.Lookup, Table: table}, Protocol: protocol}
	}
	files := func(address string, table uint32) units.Tree {
		state := fib.State{
			Tables:    []fib.Table{{ID: table, Name: "a"}},
			Links:     []fib.Link{{Name: "a", Uplinks: []fib.Named{{Name: "a"}}, Match: fib.Match{Name: "eth0"}}},
			Addresses: []fib.Address{{Link: "a", Prefix: netip.MustParsePrefix(address + "/24")}},
			Rules:     []fib.Rule{rule(address, table, 0).Rule},
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
	})
	var have []string
	for _, a := range own.Addresses {
		have = append(have, a.Prefix.String())
	}
	for _, r := range own.Rules {
		have = append(have, fmt.Sprint(r.From, " ", r.Table, " ", r.Protocol))
	}
	const want = "192.0.2.10/24, 192.0.2.20/24, 192.0.2.40/24, 192.0.2.10/32 5 4, 192.0.2.20/32 6 4, 192.0.2.20/32 6 0, 192.0.2.99/32 9 118"
	if text := strings.Join(have, ", "); text != want {
		t.Errorf("%s\nwant\n%s", text, want)
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

func TestTheDeadlineIsByTheMonotonicClock(t *testing.T) {
	dir := t.TempDir()
	if err := writeProgress(dir, time.Minute, true); err != nil {
		t.Fatal(err)
	}
	var p progress
	if err := readJSON(filepath.Join(dir, progressFile), &p); err != nil {
		t.Fatal(err)
	}
	if left := p.left(); left > time.Minute || left < 59*time.Second || !p.InEffect || p.PID != os.Getpid() || p.Started != startTime(p.PID) {
		t.Errorf("%v %+v", left, p)
	}
}
