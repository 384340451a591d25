package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// TestTryWithNetworkd ends a try in each possible way where networkd has the links.
func TestTryWithNetworkd(t *testing.T) {
	t.Parallel()
	require(t, lab.NeedNetworkd, lab.NeedBus)
	for name, end := range tries {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := bootNetworkd(t, map[string]string{hostSpec: twoUplinks}, provider1, provider2)
			h.reload()
			before, files := sorted(dump(h.ctx, t, h.Host)), h.files()
			h.spec(changedUplink)
			r := h.startTry("--timeout", "3")
			began := time.Now()
			h.holds(changedUplink)
			kept := end(t, r, h.run)
			r.decided()
			if kept {
				time.Sleep(max(0, timeout+time.Second-time.Since(began)))
				h.holds(changedUplink)
				h.reload()
				return
			}
			h.holds(twoUplinks)
			if now := sorted(dump(h.ctx, t, h.Host)); now != before {
				t.Errorf("the kernel holds\n%s, held\n%s", now, before)
			}
			if now := h.files(); now != files {
				t.Errorf("the files are\n%s, were\n%s", now, files)
			}
		})
	}
}

// startTry starts `uplinkctl try` where networkd is.
func (h *networkdHost) startTry(args ...string) *trial {
	h.t.Helper()
	dir, err := built()
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := h.networkd.Command(h.ctx, filepath.Join(dir, programs.Control), append([]string{"try"}, args...)...)
	return startTry(h.ctx, h.t, cmd, h.networkd.Root())
}

// files returns ours, and networkd's settings.
func (h *networkdHost) files() string {
	h.t.Helper()
	run := h.networkd.Root() + "/run/"
	return filesBelow(h.t, run+"systemd/network", run+"systemd/networkd.conf.d", run+"uplink")
}

// TestTryWithNetworkdOfOtherChanges goes back from a first spec, from none, and from one back end
// to the other, while packets leave by an uplink that does not change.
func TestTryWithNetworkdOfOtherChanges(t *testing.T) {
	t.Parallel()
	h := bootNetworkd(t, nil, provider1, provider2)
	none := "[uplink.x]\ninterface = \"eth0\"\nfrom = []\nto = []\n"
	for _, step := range []struct{ name, before, spec string }{
		{"the first spec", "", twoUplinks},
		{"no spec", twoUplinks, ""},
		{"it fails closed", twoUplinks, failsClosed},
		{"netlink", twoUplinks, "backend = \"netlink\"\n" + twoUplinks},
		{"networkd", "backend = \"netlink\"\n" + twoUplinks, twoUplinks},
	} {
		h.spec(step.before)
		if step.before != "" {
			if a := h.run("reload"); a.code != 0 {
				t.Fatal(a)
			}
		}
		if err := h.Host.WaitSettled(h.ctx); err != nil {
			t.Fatal(err)
		}
		files := h.files()
		h.spec(step.spec)
		r := h.startTry()
		start := time.Now()
		h.run("try", "--cancel").expect(t, step.name, 0, "^"+wentBack, "")
		t.Logf("%s: back after %v", step.name, time.Since(start))
		r.end()
		if step.before == "" {
			h.holds(none)
		} else {
			h.holds(step.before)
		}
		if now := h.files(); now != files {
			t.Errorf("%s: the files are\n%s, were\n%s", step.name, now, files)
		}
	}
}

// TestTryWithNetworkdLosesNoPacket is TestTryLosesNoPacket where networkd has the links.
func TestTryWithNetworkdLosesNoPacket(t *testing.T) {
	t.Parallel()
	h := bootNetworkd(t, map[string]string{hostSpec: twoUplinks}, provider1, provider2)
	h.reload()
	if err := h.Host.WaitSettled(h.ctx); err != nil {
		t.Fatal(err)
	}
	unbroken(t, h.Lab, func() {
		for range 3 {
			h.spec(changedUplink)
			r := h.startTry()
			h.run("try", "--cancel").expect(t, "--cancel", 0, "^"+wentBack, "")
			r.end()
		}
	})
}

// TestTryThatCannotGoBack first has no networkd to tell, and then has one.
func TestTryThatCannotGoBack(t *testing.T) {
	t.Parallel()
	h := bootNetworkd(t, map[string]string{hostSpec: twoUplinks}, provider1, provider2)
	h.reload()
	h.spec(changedUplink)
	r := h.startTry("--timeout", "2")
	socket := h.networkd.Root() + "/run/dbus/system_bus_socket"
	if err := os.Rename(socket, socket+".away"); err != nil {
		t.Fatal(err)
	}
	r.end().expect(t, "it cannot go back", 1, inEffect, "^uplinkctl: not all is as it was before: .*message bus, which does not answer.*extra: ip .*and \\d+ more\nuplinkctl: `uplinkctl try --cancel` tries again\n$")
	for _, args := range [][]string{{"reload"}, {"try"}} {
		h.run(args...).expect(t, args[0], 1, "", "^uplinkctl: a try goes back, or has failed to .see the journal.: `uplinkctl try --cancel` tries again, and gives up what fails once more\n$")
	}
	h.run("try", "--confirm").expect(t, "--confirm", 1, "", "^uplinkctl: it is too late")
	if err := os.Rename(socket+".away", socket); err != nil {
		t.Fatal(err)
	}
	h.run("try", "--cancel").expect(t, "--cancel", 0, "^"+wentBack, "")
	r.decided()
	h.holds(twoUplinks)
}

// TestTryWhereNetworkdHasOneLink serves the other link through netlink; networkd would remove
// that while it configures its own.
func TestTryWhereNetworkdHasOneLink(t *testing.T) {
	t.Parallel()
	const unmanaged = "/run/systemd/network/05-eth1.network"
	for name, change := range map[string]*strings.Replacer{
		"networkd's":      strings.NewReplacer("192.0.2.10", "192.0.2.20"),
		"the other":       strings.NewReplacer("198.51.100.10", "198.51.100.20", "= 1\n", "= 2\n"),
		"both":            strings.NewReplacer("192.0.2.10", "192.0.2.20", "198.51.100.10", "198.51.100.20", "= 1\n", "= 2\n"),
		"nothing is kept": strings.NewReplacer("eth0", "eth8", "eth1", "eth9"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := bootNetworkd(t, map[string]string{unmanaged: "[Match]\nName=eth1\n[Link]\nUnmanaged=yes\n"}, provider1, provider2)
			h.spec(twoUplinks)
			if a := h.run("reload"); a.code != 0 {
				t.Fatal(a)
			}
			h.holds(twoUplinks)
			before := sorted(dump(h.ctx, t, h.Host))
			if !strings.Contains(before, "proto 118") || !strings.Contains(before, "proto 4") {
				t.Fatalf("not both have something:\n%s", before)
			}
			files := h.files()
			h.spec(change.Replace(twoUplinks))
			r := h.startTry()
			start := time.Now()
			h.run("try", "--cancel").expect(t, "--cancel", 0, "^"+wentBack, "")
			t.Logf("back after %v", time.Since(start))
			r.end()
			if now := sorted(dump(h.ctx, t, h.Host)); now != before {
				t.Errorf("the kernel holds\n%s, held\n%s", now, before)
			}
			if now := h.files(); now != files {
				t.Errorf("the files are\n%s, were\n%s", now, files)
			}
		})
	}
}
