package boot_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/boot"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// TestColdBoot covers the first boot of a host on which the product was installed and a spec
// written, and what follows: a reload, a broken spec, a second boot.
func TestColdBoot(t *testing.T) {
	everySuite(t, func(t *testing.T, suite boot.Suite) {
		h := booted(t, boot.Config{
			Root: boot.Root{Suite: suite}, Product: installed(t), Tree: recipe, Enable: []string{networkd},
		}, "running")
		h.settled()
		h.works()
		h.clean()
		first := h.network()

		t.Run("links", func(t *testing.T) { h.on(t).hookedIn() })
		t.Run("rendered", func(t *testing.T) { h.on(t).rendered() })
		t.Run("daemon-reload", func(t *testing.T) { h.on(t).daemonReload() })
		t.Run("sandbox", func(t *testing.T) { h.on(t).generateConfined() })
		t.Run("broken later", func(t *testing.T) { h.on(t).breakSpec() })

		if err := h.Reboot(h.ctx); err != nil {
			t.Fatal(err)
		}
		h.wait("running")
		h.settled()
		h.works()
		h.clean()
		if second := h.network(); second != first {
			t.Errorf("the first boot made\n%s\nthe second\n%s", first, second)
		}
	})
}

// hookedIn checks for the generator's links, and that nothing of ours is in other places from
// which systemd reads units and that are not the administrator's.
func (h *host) hookedIn() {
	h.t.Helper()
	const dir = "/run/systemd/generator/"
	found := h.find("/run/systemd/generator", "/run/systemd/generator.early", "/run/systemd/generator.late",
		"/run/systemd/system", "/run/systemd/transient", "/etc/systemd/system")
	for name := range strings.Lines(found) {
		name = strings.TrimSpace(name)
		if !strings.HasPrefix(name, dir) {
			h.t.Errorf("%s: not of the generator's first directory", name)
		}
		h.must("test", "-L", name, "-a", "-f", name)
	}
	for _, want := range []string{networkd + ".wants/uplink-networkd.service", "multi-user.target.wants/uplink-apply.service"} {
		if !strings.Contains(found, dir+want+"\n") {
			h.t.Errorf("no %s among\n%s", want, found)
		}
	}
	// The links are useless if systemd does not use them.
	if deps := h.must("systemctl", "show", "--property=Wants", networkd); !strings.Contains(deps, "uplink-networkd.service") {
		h.t.Errorf("%s: %s", networkd, deps)
	}
	if state := h.must("systemctl", "is-active", "uplink-networkd.service", "uplink-apply.service"); state != "active\nactive\n" {
		h.t.Errorf("our services are %q", state)
	}
}

// rendered checks that networkd uses the files that were rendered for it.
func (h *host) rendered() {
	h.t.Helper()
	for card, name := range map[string]string{"eth0": "isp1", "eth1": "rt2"} {
		index := strings.TrimSpace(h.must("cat", "/sys/class/net/"+card+"/ifindex"))
		err := lab.Poll(h.ctx, func() (bool, string) {
			state := h.must("cat", "/run/systemd/netif/links/"+index)
			return strings.Contains(state, "\nNETWORK_FILE=/run/systemd/network/10-uplink-"+name+".network\n") &&
				strings.Contains(state, "\nADMIN_STATE=configured\n"), state
		})
		if err != nil {
			h.t.Errorf("%s: %v", card, err)
		}
	}
}

// daemonReload checks that a reload runs the generator again, and changes nothing.
func (h *host) daemonReload() {
	h.t.Helper()
	// With times and sizes, for networkd looks at nothing else.
	const files = "ls -l --full-time /run/systemd/network; find /run/systemd/generator -name 'uplink*' | sort"
	configured := func() int { return strings.Count(h.journal("--unit="+networkd), ": Configuring with ") }
	before, beforeFiles, beforeCount := h.network(), h.must("sh", "-c", files), configured()
	inode := h.must("stat", "--format=%i", "/run/systemd/generator/multi-user.target.wants/uplink-apply.service")

	h.must("systemctl", "daemon-reload")
	if h.must("stat", "--format=%i", "/run/systemd/generator/multi-user.target.wants/uplink-apply.service") == inode {
		h.t.Error("the generator was not run again")
	}
	// networkd answers only after it has done what it was asked before.
	h.must("networkctl", "list")
	if after := h.network(); after != before {
		h.t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	if after := h.must("sh", "-c", files); after != beforeFiles {
		h.t.Errorf("before\n%s\nafter\n%s", beforeFiles, after)
	}
	if after := configured(); after != beforeCount {
		h.t.Errorf("networkd has configured links %d times, and %d times before", after, beforeCount)
	}
	h.clean()
}

// confined runs the generator with everything read-only but its three directories,
// which is stricter than any systemd. /proc has to stay as it is.
const confined = `
set -e
dirs=$1; generator=$2
mount --make-rprivate /
mkdir -p "$dirs/normal" "$dirs/early" "$dirs/late"
for d in normal early late; do mount --bind "$dirs/$d" "$dirs/$d"; done
while read -r _ _ _ _ point _; do
	case $point in "$dirs"/*) ;; *) mount -o remount,bind,ro "$point" 2>/dev/null || : ;; esac
done < /proc/self/mountinfo
for d in / /run /tmp /etc /var /dev/shm /run/systemd /run/systemd/network "$dirs"; do
	if (: > "$d/probe") 2>/dev/null; then rm -f "$d/probe"; echo "$d can be written" >&2; exit 99; fi
done
: > "$dirs/normal/probe"; rm "$dirs/normal/probe"
exec env -i PATH="$PATH" SYSTEMD_SCOPE=system "$generator" "$dirs/normal" "$dirs/early" "$dirs/late" </dev/null
`

// generateConfined runs the installed generator by hand where it can write only what a generator
// may, and compares the result with that of the boot.
func (h *host) generateConfined() {
	h.t.Helper()
	const dirs = "/run/confined"
	generator := strings.TrimSpace(h.must("sh", "-c", "ls -d /lib/systemd/system-generators/uplink-generator"))
	if out, err := h.Command(h.ctx, "unshare", "--mount", "sh", "-c", confined, "sh", dirs, generator).CombinedOutput(); err != nil || len(out) > 0 {
		h.t.Fatalf("%v: %s", err, out)
	}
	list := func(dir string) string {
		return h.must("sh", "-c", `cd "$1" && find . -name 'uplink*' -printf '%p -> %l\n' | sort`, "sh", dir)
	}
	if got, want := list(dirs+"/normal"), list("/run/systemd/generator"); got != want || want == "" {
		h.t.Errorf("it wrote\n%s\nand at boot\n%s", got, want)
	}
	if rest := h.must("find", dirs+"/early", dirs+"/late", "-mindepth", "1"); rest != "" {
		h.t.Errorf("it wrote\n%s", rest)
	}
}

// breakSpec breaks the spec of a running host, where the last good rendering must stay, and
// restores it.
func (h *host) breakSpec() {
	h.t.Helper()
	files := func() string { return h.must("sh", "-c", "cd /run/systemd/network && ls -l --full-time && cat *") }
	before, rendered := h.network(), files()
	h.must("sh", "-c", `cp "$1" /root/good && printf %s "$2" > "$1"`, "sh", specFile, badSpec)
	if out, err := h.Run(h.ctx, "systemctl", "restart", "uplink-networkd.service"); err == nil {
		h.t.Errorf("a bad spec was rendered: %s", out)
	}
	if failed, err := h.FailedUnits(h.ctx); err != nil || len(failed) != 1 || failed[0] != "uplink-networkd.service" {
		h.t.Errorf("failed units: %v %v", failed, err)
	}
	log := h.journal("--unit=uplink-networkd.service")
	for _, want := range []string{specFile + `:3:\d+: `, specFile + ":4:1: unknown key \"gatways\"", "did you mean .gateways."} {
		if !regexp.MustCompile(want).MatchString(log) {
			h.t.Errorf("no %q in\n%s", want, log)
		}
	}
	if after := files(); after != rendered {
		h.t.Errorf("rendered before\n%s\nafter\n%s", rendered, after)
	}
	h.must("networkctl", "reload")
	h.must("networkctl", "list")
	if after := h.network(); after != before {
		h.t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	h.works()

	h.must("cp", "/root/good", specFile)
	h.must("systemctl", "restart", "uplink-networkd.service")
	if failed, err := h.FailedUnits(h.ctx); err != nil || len(failed) > 0 {
		h.t.Errorf("with a good spec again failed units: %v %v", failed, err)
	}
	if after := h.network(); after != before {
		h.t.Errorf("before\n%s\nwith a good spec again\n%s", before, after)
	}
}
