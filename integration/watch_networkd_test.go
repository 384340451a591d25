package integration

import (
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// TestWatchBesideNetworkd has networkd do what the files ask for: everything but the rules of
// learned addresses. These survive whatever makes networkd configure a link again, which removes
// all rules that are not its own unless the files forbid it.
func TestWatchBesideNetworkd(t *testing.T) {
	for name, spec := range map[string]string{
		"table":         learning,
		"default-route": learning + "default-route = true\nmetric = 300\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require(t, lab.NeedNetworkd, lab.NeedBus, lab.NeedDHCP)
			root, tree := t.TempDir(), t.TempDir()
			write(t, filepath.Join(root, hostSpec), spec)
			run(t.Context(), t, programs.Control, "render", "--root", root, "--output", tree, "--systemd-version", installedVersion(t).String())
			files := readTree(t, tree)
			files[hostSpec] = spec
			h := bootNetworkd(t, files, provider1, provider2)
			w := &watched{cli: newCLI(h.ctx, t, h.Host), Lab: h.Lab}
			a, six := netip.MustParseAddr("198.51.100.50"), netip.MustParseAddr("2001:db8:2::50")
			w.serve(a, 10*time.Second)
			w.serve(six, time.Hour)
			w.advertise(lab.Advertisement{Lifetime: time.Hour, Managed: true, Prefixes: []lab.AdvertisedPrefix{{Prefix: netip.MustParsePrefix("2001:db8:2::/64")}}})
			if err := h.Host.WaitAddresses(h.ctx, a, six); err != nil {
				t.Fatalf("%v\n%s", err, h.networkd.Log())
			}
			h.run("reload").expect(t, "reload", 0, "", "")
			dir, err := built()
			if err != nil {
				t.Fatal(err)
			}
			w.log = background(t, h.networkd.Command(h.ctx, filepath.Join(dir, programs.Control), "watch"))
			rules := append(leased(a)[:2], leased(six)...)
			only := func(what string) {
				t.Helper()
				limit := time.Now().Add(15 * time.Second)
				for {
					list, err := w.ours()
					if err != nil {
						t.Fatal(err)
					}
					have := map[string]bool{}
					for _, line := range list {
						have[line] = true
					}
					missing := ""
					for _, r := range rules {
						if !have[r] {
							missing += r + "\n"
						}
					}
					v := h.run("verify")
					if missing == "" && v.code == 0 && strings.Contains(v.stdout, "from "+a.String()+" to 8.8.8.8: via 198.51.100.1 dev eth1 table 1") &&
						strings.Contains(v.stdout, "from "+six.String()+" to 2001:4860:4860::8888: via fe80::") {
						t.Logf("%s: ours are\n%s", what, strings.Join(list, "\n"))
						return
					}
					if time.Now().After(limit) {
						t.Fatalf("%s: missing\n%sof\n%s\nverify: %d\n%s%s", what, missing, strings.Join(list, "\n"), v.code, v.stdout, v.stderr)
					}
					time.Sleep(100 * time.Millisecond)
				}
			}
			only("watch")
			gone := background(t, h.Host.Command(h.ctx, "ip", "-o", "monitor", "rule"))
			time.Sleep(100 * time.Millisecond)
			for _, args := range [][]string{{"reload"}, {"reconfigure", "eth1"}, {"reconfigure", "eth0"}} {
				if _, err := h.networkd.Run(h.ctx, "networkctl", args...); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				only("networkctl " + strings.Join(args, " "))
			}
			for line := range strings.Lines(gone.String()) {
				// With the lease the address may go for a moment, and its rule with it.
				if strings.HasPrefix(line, "Deleted") && strings.Contains(line, "proto uplink") && !strings.Contains(line, a.String()) && !strings.Contains(line, six.String()) {
					t.Errorf("networkd took away: %s", line)
				}
			}
			if name == "default-route" {
				for _, f := range []lab.Family{lab.Inet, lab.Inet6} {
					if err := h.Host.WaitDefaultRoute(h.ctx, f, "eth1"); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}

// readTree returns the files below a directory.
func readTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		files[strings.TrimPrefix(name, dir)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
