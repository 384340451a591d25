package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

const hostSpec = "/etc/uplink/uplink.toml"

// networkdHost is a host on which networkd runs, with a bus.
type networkdHost struct {
	t   *testing.T
	ctx context.Context
	*lab.Lab
	networkd *lab.Networkd
	journal  bool // uplinkctl takes the kernel for one that does not keep whose an address is
}

// bootNetworkd starts networkd on a host that may have a spec, and nothing rendered yet:
// as at a first boot, when cloud-init comes with the spec after networkd is up.
func bootNetworkd(t *testing.T, files map[string]string, providers ...lab.Provider) *networkdHost {
	t.Helper()
	require(t, lab.NeedNetworkd, lab.NeedBus)
	ctx, l, _ := bootHost(t, providers...)
	// networkd makes a directory for its state, but not the one above it.
	files = maps.Clone(files)
	if files == nil {
		files = map[string]string{}
	}
	files["/run/systemd/README"] = ""
	d, err := l.Host.StartNetworkd(ctx, lab.NetworkdOptions{Bus: true, Files: files, LogLevel: "debug"})
	if err != nil {
		t.Fatal(err)
	}
	return &networkdHost{t: t, ctx: ctx, Lab: l, networkd: d}
}

// spec writes the host's spec, or removes it.
func (h *networkdHost) spec(text string) {
	h.t.Helper()
	err := h.networkd.Write(map[string]string{hostSpec: text})
	if text == "" {
		err = h.networkd.Remove(hostSpec)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// command is uplinkctl where networkd is.
func (h *networkdHost) command(args ...string) *exec.Cmd {
	h.t.Helper()
	dir, err := built()
	if err != nil {
		h.t.Fatal(err)
	}
	argv := append([]string{filepath.Join(dir, programs.Control)}, args...)
	if h.journal {
		argv = append([]string{"setarch", "--uname-2.6"}, argv...)
	}
	return h.networkd.Command(h.ctx, argv[0], argv[1:]...)
}

// run runs uplinkctl where networkd is.
func (h *networkdHost) run(args ...string) answer {
	h.t.Helper()
	var out, errs strings.Builder
	cmd := h.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	return answer{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// reload runs uplinkctl reload, which must succeed and have nothing to complain of. It
// returns what was written and removed.
func (h *networkdHost) reload(args ...string) string {
	h.t.Helper()
	start := time.Now()
	a := h.run(append([]string{"reload"}, args...)...)
	if a.code != 0 || a.stderr != "" {
		h.t.Fatalf("exit status %d, %s%s", a.code, a.stdout, a.stderr)
	}
	h.t.Logf("reload took %v", time.Since(start))
	return a.stdout
}

// reloads counts how often networkd was told to read its files.
func (h *networkdHost) reloads() int {
	return strings.Count(h.networkd.Log(), "member=Reload ")
}

// holds wants the kernel to hold a spec, and nothing else that is not the kernel's.
func (h *networkdHost) holds(spec string) {
	h.t.Helper()
	root := h.t.TempDir()
	write(h.t, filepath.Join(root, hostSpec), spec)
	state := compile(h.t, root)
	devices := map[string]string{}
	for _, l := range state.Links {
		devices[l.Name], _ = l.Match.Device()
	}
	have, err := observe(h.ctx, h.Host)
	if err != nil {
		h.t.Fatal(err)
	}
	if d := diff(wanted(state, devices), have); d != "" {
		h.t.Errorf("the kernel differs from the State (- missing, + too much):\n%s", d)
	}
}

// changedUplink is twoUplinks with another address and another table for rt2.
var changedUplink = strings.NewReplacer("198.51.100.10", "198.51.100.20", "= 1\n", "= 2\n").Replace(twoUplinks)

// failsClosed has rules that stand in the file for lo.
const failsClosed = `
[uplink.isp1]
interface = "eth0"
addresses = ["192.0.2.10/24"]
gateways  = ["192.0.2.1"]
default-route = true

[uplink.vpn]
interface = "eth1"
table     = 5
addresses = ["198.51.100.10/24"]
gateways  = ["198.51.100.1"]
fallthrough = "unreachable"
`

// TestReload takes networkd from one spec to another: each is in effect when the command returns,
// and nothing of the one before is left.
func TestReload(t *testing.T) {
	t.Parallel()
	h := bootNetworkd(t, nil, provider1, provider2)
	// The first spec of a host whose networkd runs already.
	for _, spec := range []string{twoUplinks, changedUplink, twoUplinks[:strings.Index(twoUplinks, "[uplink.rt2]")], failsClosed, twoUplinks} {
		h.spec(spec)
		if h.reload() == "" {
			t.Error("nothing was written")
		}
		h.holds(spec)

		// Once more: nothing to do.
		before := h.reloads()
		start := time.Now()
		for _, args := range [][]string{nil, {"--if-changed"}} {
			if out := h.reload(args...); out != "" || h.reloads() != before {
				t.Errorf("%v: a second run: %s; %d reloads, were %d", args, out, h.reloads(), before)
			}
		}
		t.Logf("two runs with nothing to do: %v", time.Since(start))
	}
	if n := h.reloads(); n != 5 {
		t.Errorf("networkd was told %d times", n)
	}

	// The files are there, but networkd has not been told.
	h.spec(changedUplink)
	if a := h.run("render", "--output", "/"); a.code != 0 {
		t.Fatal(a.stderr)
	}
	if out := h.reload("--if-changed"); out != "" || h.reloads() != 5 {
		t.Errorf("%s; %d reloads", out, h.reloads())
	}
	if out := h.reload(); out != "" || h.reloads() != 6 {
		t.Errorf("%s; %d reloads", out, h.reloads())
	}
	h.holds(changedUplink)

	// Something was removed without networkd's knowledge.
	ip(h.ctx, t, h.Host, "route del default table 2")
	h.reload()
	h.holds(changedUplink)

	// The spec is gone.
	h.spec("")
	h.run("reload").expect(t, "no spec", 0, "^removed /run/systemd/network/10-uplink-isp1.network\n", "^uplinkctl: no spec: .*taken away\n$")
	h.holds("[uplink.x]\ninterface = \"eth0\"\nfrom = []\nto = []\n")
	h.run("reload").expect(t, "no spec again", 0, "", "^uplinkctl: no spec: ")
}

// TestReloadLosesNoPacket changes one uplink while packets leave by the other.
func TestReloadLosesNoPacket(t *testing.T) {
	t.Parallel()
	h := bootNetworkd(t, map[string]string{hostSpec: twoUplinks}, provider1, provider2)
	h.reload()
	if err := h.Host.WaitSettled(h.ctx); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var flows []*flow
	var wg sync.WaitGroup
	for _, source := range []string{"192.0.2.10", "2001:db8:1::10"} {
		from := netip.MustParseAddr(source)
		f := udpFlow(t, h.Lab, from, h.ClientAddr(from.Is6()))
		flows = append(flows, f)
		wg.Go(func() { f.send(stop) })
	}
	for i := range 12 {
		h.spec([]string{changedUplink, twoUplinks}[i%2])
		h.reload()
	}
	close(stop)
	wg.Wait()
	for _, f := range flows {
		f.finish(t)
	}
}

// TestReloadThatFailsChangesNothing gives networkd a spec that is wrong, one for which the host
// lacks links, and one that somebody else's rule defeats.
func TestReloadThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	h := bootNetworkd(t, map[string]string{hostSpec: twoUplinks}, provider1, provider2)
	h.reload()
	// networkd takes rules of others away while it configures links, but not the kernel's.
	ip(h.ctx, t, h.Host, "rule add priority 5 from 198.51.100.20 lookup 10000 protocol kernel")
	before, files, told := sorted(dump(h.ctx, t, h.Host)), h.rendered(), h.reloads()
	note := h.noted()

	h.spec(twoUplinks + "nonsense = 1\n")
	h.run("reload").expect(t, "a bad spec", 1, "", `uplink\.toml:\d+:1: unknown key "nonsense".*1 error; nothing was changed\n$`)
	h.spec(strings.Replace(twoUplinks, `interface = "eth1"`, `driver = "veth"`, 1))
	h.run("reload").expect(t, "an ambiguous match", 1, "", "matches more than one link .driver veth is eth0 and eth1.")
	if now := h.rendered(); now != files || h.reloads() != told {
		t.Errorf("%d reloads, were %d, the files are\n%s", h.reloads(), told, now)
	}

	h.spec(changedUplink)
	h.run("reload").expect(t, "a foreign rule comes first", 1, "^written .*rt2.network\n",
		"^WRONG  rt2 .*from 198.51.100.20 .*note   a rule of the kernel .* is asked before.*uplinkctl: packets would leave the wrong way\nuplinkctl: the old rendering is back in place\n$")
	if now := h.rendered(); now != files {
		t.Errorf("the files are\n%s, were\n%s", now, files)
	}
	if now := h.noted(); now != note {
		t.Errorf("noted as in effect:\n%s, was\n%s", now, note)
	}
	// networkd adds rules in any order.
	if now := sorted(dump(h.ctx, t, h.Host)); now != before {
		t.Errorf("the kernel holds\n%s, held\n%s", now, before)
	}

	// Without the bus nobody can tell networkd.
	ip(h.ctx, t, h.Host, "rule del priority 5")
	if err := h.networkd.Remove("/run/dbus/system_bus_socket"); err != nil {
		t.Fatal(err)
	}
	h.run("reload").expect(t, "no bus", 1, "^written ", "^uplinkctl: systemd-networkd is told of new files through the message bus, which does not answer: .*back in place")
	if now := h.rendered(); now != files {
		t.Errorf("the files are\n%s, were\n%s", now, files)
	}
}

// noted returns what the watch would keep in effect.
func (h *networkdHost) noted() string {
	h.t.Helper()
	data, err := os.ReadFile(h.networkd.Root() + "/run/uplink/in-effect.json")
	if err != nil {
		h.t.Fatal(err)
	}
	return string(data)
}

// rendered returns the files for networkd that are ours.
func (h *networkdHost) rendered() string {
	h.t.Helper()
	var b strings.Builder
	files, err := filepath.Glob(h.networkd.Root() + "/run/systemd/network/10-uplink-*")
	if err != nil || len(files) == 0 {
		h.t.Fatalf("no files: %v", err)
	}
	for _, f := range append(files, h.networkd.Root()+"/run/uplink/rt_tables.conf") {
		data, err := os.ReadFile(f)
		if err != nil {
			h.t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n%s\n", f, data)
	}
	return b.String()
}

// TestReloadFromOneBackEndToTheOther moves all links from networkd to netlink and back.
func TestReloadFromOneBackEndToTheOther(t *testing.T) {
	for _, journal := range []bool{false, true} {
		t.Run(fmt.Sprintf("journal=%t", journal), func(t *testing.T) {
			t.Parallel()
			h := bootNetworkd(t, map[string]string{hostSpec: twoUplinks}, provider1, provider2)
			h.journal = journal
			for range 2 {
				for _, backend := range []string{"networkd", "netlink", "auto"} {
					spec := "backend = \"" + backend + "\"\n" + twoUplinks
					h.spec(spec)
					stderr := ""
					if backend == "netlink" {
						stderr = "^uplinkctl: systemd-networkd reads its own settings when it starts: [^\n]*\n$"
					}
					h.run("reload").expect(t, backend, 0, ".*", stderr)
					h.holds(spec)
					if out := h.reload(); out != "" {
						t.Errorf("%s again: %s", backend, out)
					}
				}
			}
		})
	}
}

// TestReloadThroughNetlink is without networkd.
func TestReloadThroughNetlink(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	c.spec(twoUplinks)
	if out := c.ok("reload"); out != "written /run/uplink/rt_tables.conf\n" {
		t.Errorf("%s", out)
	}
	c.ok("diff")
	c.ok("verify")
	before := dump(ctx, t, l.Host)
	if out := c.ok("reload"); out != "" {
		t.Errorf("again: %s", out)
	}
	c.spec(twoUplinks + "x = 1\n")
	c.run("reload").expect(t, "a bad spec", 1, "", "1 error; nothing was changed\n$")
	// Somebody else's route is in the way: netlink is undone, and so are the names of the tables.
	ip(ctx, t, l.Host, "route add default via 192.0.2.9 dev eth0 table 2 proto static")
	c.spec(changedUplink)
	c.run("reload").expect(t, "in the way", 1, "^written /run/uplink/rt_tables.conf\n$", "is in the way .*\nuplinkctl: the old rendering is back in place\n$")
	ip(ctx, t, l.Host, "route del default via 192.0.2.9 dev eth0 table 2")
	if now := dump(ctx, t, l.Host); now != before {
		t.Errorf("something was changed:\n%s", now)
	}
	c.ok("reload")
	c.ok("diff")

	c.spec("backend = \"networkd\"\n" + twoUplinks)
	c.run("reload").expect(t, "for networkd, which does not run", 1, "written /run/systemd/network/10-uplink-isp1.network\n", "does not run.*systemctl start systemd-networkd")
	c.spec(twoUplinks)
	if out := c.ok("reload"); !strings.Contains(out, "removed /run/systemd/network/10-uplink-isp1.network\n") {
		t.Errorf("what networkd would have: %s", out)
	}

	// The marker for udev.
	marker := filepath.Join(c.root, "run/uplink/match")
	for _, command := range []string{"reload", "apply"} {
		c.spec(strings.Replace(twoUplinks, `"eth1"`, `"eth[1-9]"`, 1))
		c.ok(command)
		if _, err := os.Stat(marker); err != nil {
			t.Error(err)
		}
		c.spec(twoUplinks)
		c.ok(command)
		if _, err := os.Stat(marker); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the marker is there: %v", err)
		}
	}

	write(t, filepath.Join(c.root, "proc/cmdline"), "quiet uplink=0\n")
	c.spec(changedUplink)
	c.run("reload").expect(t, "switched off", 0, "", "^uplinkctl: the kernel command line says uplink=0: nothing is done\n$")
	if err := os.RemoveAll(filepath.Join(c.root, "proc")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(c.root, "etc")); err != nil {
		t.Fatal(err)
	}
	c.run("reload").expect(t, "no spec", 0, "removed /run/uplink/rt_tables.conf\n", "^uplinkctl: no spec: ")
	have, err := observe(ctx, l.Host)
	if err != nil || len(have.routes)+len(have.rules)+len(have.addresses) > 0 {
		t.Errorf("left: %v %v", have, err)
	}
}
