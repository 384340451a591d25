package boot_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/boot"
)

// other is a program that configures the links of a host without networkd, or none.
type other struct {
	root  func(boot.Suite) boot.Root
	each  func(*testing.T, func(*testing.T, boot.Suite))
	some  func(*testing.T, func(*testing.T, boot.Suite)) // for what asks less of systemd
	files map[string]boot.File
	spec  string
	// has says that the addresses are there without us.
	has bool
}

// config is a host with the product and a spec.
func (o other) config(t *testing.T, suite boot.Suite, spec string) boot.Config {
	t.Helper()
	files := maps.Clone(o.files)
	files[specFile] = boot.Text(spec)
	return boot.Config{Root: o.root(suite), Product: installed(t), Files: files}
}

// test runs everything that holds whoever configures the links.
func (o other) test(t *testing.T) {
	t.Parallel()
	t.Run("boot", func(t *testing.T) { o.each(t, o.boot) })
	t.Run("without the product", func(t *testing.T) { o.each(t, o.control) })
	t.Run("broken spec", func(t *testing.T) { o.some(t, o.broken) })
	t.Run("switched off", func(t *testing.T) { o.some(t, o.switchedOff) })
}

// boot has a first boot, a daemon-reload, a changed spec, a stop, and a second boot.
func (o other) boot(t *testing.T, suite boot.Suite) {
	h := booted(t, o.config(t, suite, o.spec), "running")
	h.servedByNetlink()
	first := h.network()

	h.must("systemctl", "daemon-reload")
	if after := h.network(); after != first {
		t.Errorf("before daemon-reload\n%s\nafter\n%s", first, after)
	}
	t.Run("reload", func(t *testing.T) { h.on(t).changeSpec(o.spec) })
	if after := h.network(); after != first {
		t.Errorf("at first\n%s\nwith the first spec again\n%s", first, after)
	}
	t.Run("stop", func(t *testing.T) { h.on(t).stopOneshot(o.has) })
	if after := h.network(); after != first {
		t.Errorf("at first\n%s\nstopped and started\n%s", first, after)
	}

	if err := h.Reboot(h.ctx); err != nil {
		t.Fatal(err)
	}
	h.wait("running")
	h.servedByNetlink()
	if second := h.network(); second != first {
		t.Errorf("the first boot made\n%s\nthe second\n%s", first, second)
	}
}

// control is the same host without the product.
func (o other) control(t *testing.T, suite boot.Suite) {
	h := booted(t, boot.Config{Root: o.root(suite), Files: o.files}, "running")
	if o.has {
		if err := h.lab.Host.WaitAddresses(h.ctx, recipeAddrs...); err != nil {
			t.Fatalf("%v\n%s", err, h.journal())
		}
		if err := h.lab.Host.WaitSettled(h.ctx); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range h.answers() {
		card := ""
		if o.has {
			card = "eth0"
		}
		if want := o.has && recipeCards[a.Addr] == "eth0"; a.Answered != want || a.Card != card {
			t.Errorf("%s; want answered %t, by %q", a, want, card)
		}
	}
}

// broken is the host with a spec that has errors.
func (o other) broken(t *testing.T, suite boot.Suite) {
	h := booted(t, o.config(t, suite, badSpec), "degraded")
	failed, err := h.FailedUnits(h.ctx)
	if list := strings.Join(failed, " ") + " "; err != nil || !strings.Contains(list, "uplink-apply.service ") {
		t.Errorf("uplink-apply.service has not failed, but %q %v", list, err)
	}
	for _, unit := range failed {
		if !strings.HasPrefix(unit, "uplink-") {
			t.Errorf("%s has failed", unit)
		}
	}
	t.Logf("failed: %s", strings.Join(failed, " "))
	if state := h.must("systemctl", "is-active", "multi-user.target"); state != "active\n" {
		t.Errorf("the target is %q", state)
	}
	if log := h.journal("--unit=uplink-apply.service"); !strings.Contains(log, specFile+":4:1: unknown key \"gatways\"") {
		t.Errorf("it does not say what is wrong:\n%s", log)
	}
	o.alone(h)
}

// switchedOff is the host with uplink=0.
func (o other) switchedOff(t *testing.T, suite boot.Suite) {
	c := o.config(t, suite, o.spec)
	c.CommandLine = []string{"uplink=0"}
	h := booted(t, c, "running")
	if found := h.find("/run/systemd/generator"); found != "" {
		t.Errorf("hooked in:\n%s", found)
	}
	h.clean()
	o.alone(h)
}

// alone checks that the host has what others give it, and nothing of ours.
func (o other) alone(h *host) {
	h.t.Helper()
	if o.has {
		if err := h.lab.Host.WaitAddresses(h.ctx, recipeAddrs...); err != nil {
			h.t.Errorf("%v\n%s", err, h.journal())
		}
	}
	for line := range strings.Lines(h.network()) {
		if ours(line) || !o.has && strings.Contains(line, "192.0.2.10") {
			h.t.Errorf("there is %s", line)
		}
	}
}

// changeSpec has `uplinkctl reload` bring another spec into effect and then the first one again,
// while packets leave by the uplink that does not change.
func (h *host) changeSpec(spec string) {
	h.t.Helper()
	changed := strings.Replace(spec, "table     = 1\n", "table     = 2\nfwmark    = 7\npriority  = 500\n", 1)
	if changed == spec {
		h.t.Fatal("the spec has not been changed")
	}
	flows := h.flows(recipeAddrs[0])
	for _, text := range []string{changed, spec} {
		h.must("sh", "-c", `printf %s "$2" > "$1"`, "sh", specFile, text)
		h.must("uplinkctl", "reload")
		if out, err := h.Run(h.ctx, "uplinkctl", "diff"); err != nil {
			h.t.Errorf("%v\n%s", err, out)
		}
		out := h.network()
		if got := strings.Contains(out, "fwmark 0x7") && strings.Contains(out, "lookup 2"); got != (text == changed) {
			h.t.Errorf("the changed spec is in effect: %t\n%s", got, out)
		}
		h.works()
	}
	h.unbroken("uplinkctl reload", flows)
	h.clean()
}

// stopOneshot stops and starts the oneshot on a host where others have routes and rules beside
// ours.
func (h *host) stopOneshot(others bool) {
	h.t.Helper()
	commands := []string{
		"rule add priority 7 from 203.0.113.200 lookup 99 protocol static",
		"rule add priority 10001 from 203.0.113.201 lookup 1 protocol static",
		"route add blackhole 10.9.0.0/16 table 1 protocol static",
	}
	for _, c := range commands {
		h.must("ip", strings.Fields(c)...)
	}
	want := without(h.network(), func(line string) bool {
		// Where the addresses are ours, they go as well, and what the kernel makes of them.
		return ours(line) || !others && (strings.Contains(line, "192.0.2.") || strings.Contains(line, "198.51.100."))
	})
	h.must("systemctl", "stop", "uplink-apply.service")
	if after := h.network(); after != want {
		h.t.Errorf("stopped: want\n%s\nthere is\n%s", want, after)
	}
	h.must("systemctl", "start", "uplink-apply.service")
	for _, c := range commands {
		h.must("ip", strings.Fields(strings.Replace(c, " add ", " del ", 1))...)
	}
	h.servedByNetlink()
}

// disturbed lets somebody else do something with a link that makes the kernel remove routes: it
// reports what is left of ours, which must include all rules, and checks that a reload of the
// oneshot brings back the rest.
func (h *host) disturbed(what string, f func()) {
	h.t.Helper()
	before := h.network()
	f()
	if err := h.lab.Host.WaitAddresses(h.ctx, recipeAddrs...); err != nil {
		h.t.Fatal(err)
	}
	after := h.network()
	var rules, routes, lost int
	for line := range strings.Lines(before) {
		switch there := strings.Contains(after, line); {
		case !ours(line):
		case strings.HasPrefix(line, "rule "):
			rules++
			if !there {
				h.t.Errorf("%s: gone is %s", what, line)
			}
		default:
			routes++
			if !there {
				lost++
			}
		}
	}
	verify, err := h.Run(h.ctx, "uplinkctl", "verify")
	h.t.Logf("%s: of ours there are all %d rules, and %d of %d routes; verify: %v\n%s", what, rules, routes-lost, routes, err, verify)
	h.must("systemctl", "reload", "uplink-apply.service")
	h.servedByNetlink()
	if again := without(h.network(), func(line string) bool { return !ours(line) }); again != without(before, func(line string) bool { return !ours(line) }) {
		h.t.Errorf("%s: ours was\n%s\nis after a reload\n%s", what, before, again)
	}
}
