package host

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
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

// put writes a file below a root directory.
func put(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestIsHooked compares what the generator would do with what it did when systemd ran it.
func TestIsHooked(t *testing.T) {
	root := t.TempDir()
	var stderr strings.Builder
	r := &reload{Host: &Host{Root: rootfs.At(root)}, stderr: &stderr}
	expect := func(what string, want bool, wantErr string) {
		t.Helper()
		have, err := r.isHooked()
		if have != want || (err == nil) != (wantErr == "") || err != nil && !strings.Contains(err.Error(), wantErr) {
			t.Errorf("%s: %t %v, want %t %q; %s", what, have, err, want, wantErr, &stderr)
		}
		if left, _ := filepath.Glob(filepath.Join(root, "run/uplink/*")); len(left) > 0 {
			t.Errorf("%s: left behind: %v", what, left)
		}
	}
	const text = "[uplink.a]\ninterface = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\n"
	put(t, root, "etc/uplink/uplink.toml", text)
	expect("without systemd", true, "")
	if err := os.MkdirAll(filepath.Join(root, "run/uplink"), 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, root, "run/systemd/system/x", "")
	expect("without the units", false, "is all of the package installed?")
	if !strings.Contains(stderr.String(), "uplink-networkd.service is not installed") {
		t.Errorf("it said %q", &stderr)
	}
	const dir = "/usr/lib/systemd/system/"
	for _, u := range []string{renderUnit, applyUnit, "uplink-apply@.service", "uplink-reload.service"} {
		put(t, root, dir+u, "")
	}
	expect("the generator has not seen the spec", false, "")

	link := func(name, target string) {
		path := filepath.Join(root, generated, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	link("systemd-networkd.service.wants/"+renderUnit, dir+renderUnit)
	link("systemd-networkd.service.wants/uplink-reload.service", dir+"uplink-reload.service")
	link("multi-user.target.wants/"+applyUnit, dir+applyUnit)
	link("multi-user.target.wants/somebody.service", dir+"somebody.service")
	expect("the link's own unit is missing", false, "")
	link("sys-subsystem-net-devices-eth0.device.wants/uplink-apply@eth0.service", dir+"uplink-apply@.service")
	expect("all is hooked in", true, "")
	put(t, root, "etc/uplink/uplink.toml", "backend = \"networkd\"\n"+text)
	expect("another back end", false, "")
	put(t, root, "etc/uplink/uplink.toml", strings.Replace(text, "eth0", "eth1", 1))
	expect("another link", false, "")
	if err := os.Remove(filepath.Join(root, "etc/uplink/uplink.toml")); err != nil {
		t.Fatal(err)
	}
	expect("no spec", false, "")
}

func TestUnitStates(t *testing.T) {
	for _, c := range []struct {
		what                 string
		r                    reload
		render, apply, watch bool
	}{
		{"networkd runs", reload{backend: spec.Auto, networkd: true}, true, true, false},
		{"networkd does not run", reload{backend: spec.Auto}, false, true, false},
		{"for networkd", reload{backend: spec.Networkd, networkd: true}, true, false, false},
		{"for netlink", reload{backend: spec.Netlink, networkd: true}, true, true, false},
		{"no spec", reload{gone: true, networkd: true}, false, false, false},
		{"a link learns", reload{backend: spec.Networkd, networkd: true, state: fib.State{Links: []fib.Link{{Learn: fib.Learn{RA: true}}}}}, true, false, true},
	} {
		if have := c.r.unitStates(); !slices.Equal(have, []unitState{{renderUnit, c.render}, {applyUnit, c.apply}, {watchUnit, c.watch}}) {
			t.Errorf("%s: %v", c.what, have)
		}
	}
}

func TestTheMarkerIsThereForLinksWithoutANameOfTheirOwn(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "run/uplink"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		match   fib.Match
		backend spec.Backend
		want    bool
	}{
		{fib.Match{MAC: "02:00:00:00:00:01"}, spec.Auto, true},
		{fib.Match{Name: "eth0"}, spec.Auto, false},
		{fib.Match{Name: "eth*"}, spec.Netlink, true},
		{fib.Match{Name: "eth*"}, spec.Networkd, false},
		{fib.Match{Name: "an-alternative-name"}, spec.Auto, true},
		{fib.Match{Driver: "virtio_net"}, spec.Auto, true},
		{fib.Match{Name: "eth0", MAC: "02:00:00:00:00:01"}, spec.Auto, false},
	} {
		state := fib.State{Links: []fib.Link{{Name: "a", Match: fib.Match{Name: "lan0"}}, {Name: "b", Match: c.match}}}
		err := (&Host{Root: rootfs.At(root)}).MarkMatches(state, c.backend)
		if _, stat := os.Stat(filepath.Join(root, matchFile)); err != nil || (stat == nil) != c.want {
			t.Errorf("%v, %s: %v %v", c.match, c.backend, err, stat)
		}
	}
}

func TestPoll(t *testing.T) {
	n := 0
	if done, err := poll(t.Context(), time.Minute, func() (bool, error) { n++; return n == 3, nil }); !done || err != nil || n != 3 {
		t.Error(done, err, n)
	}
	if done, err := poll(t.Context(), 0, func() (bool, error) { return false, nil }); done || err != nil {
		t.Error("the time was over:", done, err)
	}
	broken := errors.New("broken")
	if _, err := poll(t.Context(), time.Minute, func() (bool, error) { return false, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	if _, err := poll(ctx, time.Minute, func() (bool, error) { return false, nil }); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// TestTakeDown checks that the note of what is in effect goes with it, and no sooner.
func TestTakeDown(t *testing.T) {
	root := t.TempDir()
	put(t, root, "run/uplink/in-effect.json", "{}")
	put(t, root, "run/uplink/health.json", `[{"Uplink": "a", "Family": 2, "Dead": true}]`)
	fake := kerneltest.NewFake("eth0")
	h := &Host{Root: rootfs.At(root), Applier: apply.Applier{Kernel: fake}}
	state := fib.State{
		Links:     []fib.Link{{Name: "a", Match: fib.Match{Name: "eth0"}}},
		Addresses: []fib.Address{{Link: "a", Prefix: netip.MustParsePrefix("192.0.2.10/24")}},
	}
	if _, err := h.Apply(t.Context(), state); err != nil {
		t.Fatal(err)
	}
	for _, fault := range []kerneltest.Fault{kerneltest.Refuse, kerneltest.None} {
		h.Kernel = &kerneltest.Faulty{Kernel: fake, At: 1, Fault: fault}
		err := h.TakeDown(t.Context())
		_, there, noteErr := h.Effective()
		refused := fault != kerneltest.None
		if (err != nil) != refused || there != refused || noteErr != nil {
			t.Errorf("refused: %t: %v; the note is there: %t %v", refused, err, there, noteErr)
		}
		if known, err := h.knownHealth(); err != nil || (len(known) > 0) != refused {
			t.Errorf("refused: %t: what the probes have found: %v %v", refused, known, err)
		}
	}
	put(t, root, "run/uplink/in-effect.json", "{")
	want := filepath.Join(root, "run/uplink/in-effect.json") + ": unexpected end of JSON input: `uplinkctl reload` writes it anew"
	if _, _, err := h.Effective(); err == nil || err.Error() != want {
		t.Errorf("half a note: %v, want %s", err, want)
	}
}

// TestAnAddressThatMovedIsLeftBehind has networkd keep it on the old card, as 247 and 248 do.
func TestAnAddressThatMovedIsLeftBehind(t *testing.T) {
	prefix := netip.MustParsePrefix("192.0.2.10/24")
	on := func(link string) fib.State {
		return fib.State{
			Tables:    []fib.Table{{ID: 7, Name: "a"}},
			Links:     []fib.Link{{Name: "a", Uplinks: []fib.Named{{Name: "a"}}, Match: fib.Match{Name: link}}},
			Addresses: []fib.Address{{Link: "a", Prefix: prefix}},
		}
	}
	root := rootfs.At(t.TempDir())
	old, _, err := units.Render(on("eth0"), units.Target{Root: root, Version: units.Oldest})
	if err != nil {
		t.Fatal(err)
	}
	fake := kerneltest.NewFake("eth0", "eth1", "tun0")
	for _, l := range fake.Links[1:] { // on tun0 it is somebody else's
		fake.Addresses = append(fake.Addresses, apply.Address{Address: fib.Address{Link: l.Name, Prefix: prefix}})
	}
	put(t, root.String(), "run/uplink/lock", "")
	h := &Host{Root: root, Applier: apply.Applier{Kernel: fake}}
	if err := h.MarkInEffect(Effective{spec.Auto, on("eth0")}); err != nil {
		t.Fatal(err)
	}
	r := &reload{Host: h, networkd: true, changed: true, oldHas: old.Contents()}
	if err := r.noteOld(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		now  string
		want []string
	}{{"eth0", nil}, {"eth1", []string{"eth0"}}} {
		left, err := r.leftovers(on(c.now), nil)
		var have []string
		for _, l := range left {
			have = append(have, l.cure.Address.Link)
		}
		if err != nil || !slices.Equal(have, c.want) {
			t.Errorf("on %s: left on %q, want %q: %v", c.now, have, c.want, err)
		}
	}
}
