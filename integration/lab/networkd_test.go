package lab_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

const eth0Network = `[Match]
Name=eth0
[Network]
Address=192.0.2.10/24
Address=2001:db8:1::10/64
Gateway=192.0.2.1
Gateway=2001:db8:1::1
IPv6AcceptRA=no
LinkLocalAddressing=no
`

const eth1Network = `[Match]
MACAddress=02:00:00:00:02:01
[Network]
Address=198.51.100.10/24
Address=2001:db8:2::10/64
IPv6AcceptRA=no
LinkLocalAddressing=no
[Route]
Gateway=198.51.100.1
Table=77
[Route]
Gateway=2001:db8:2::1
Table=77
[RoutingPolicyRule]
From=198.51.100.10
Table=77
Priority=100
[RoutingPolicyRule]
From=2001:db8:2::10
Table=77
Priority=100
`

func TestNetworkdConfiguresBothCards(t *testing.T) {
	t.Parallel()
	require(t, lab.NeedNetworkd)
	ctx, l := open(t, lab.TwoUplinks())
	d := startNetworkd(ctx, t, l, lab.NetworkdOptions{Files: map[string]string{
		"run/systemd/network/10-eth0.network": eth0Network,
		"run/systemd/network/10-eth1.network": eth1Network,
	}})
	if err := d.WaitConfigured(ctx, "eth0", "eth1"); err != nil {
		t.Fatal(err)
	}
	if err := l.Host.WaitAddresses(ctx, append(first, second...)...); err != nil {
		t.Error(err)
	}
	rules, err := l.Host.Rules(ctx)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "rules", rules, `
inet 0: from all lookup 255 proto 2
inet 100: from 198.51.100.10/32 lookup 77 proto 4
inet 32766: from all lookup 254 proto 2
inet 32767: from all lookup 253 proto 2
inet6 0: from all lookup 255 proto 2
inet6 100: from 2001:db8:2::10/128 lookup 77 proto 4
inet6 32766: from all lookup 254 proto 2
`)
	routes, err := l.Host.Routes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var static []lab.Route
	for _, r := range routes {
		if r.Protocol == 4 {
			static = append(static, r)
		}
	}
	diff(t, "routes", static, `
inet table 77 default via 198.51.100.1 dev eth1 proto 4
inet table 254 default via 192.0.2.1 dev eth0 proto 4
inet6 table 77 default via 2001:db8:2::1 dev eth1 proto 4 metric 1024
inet6 table 254 default via 2001:db8:1::1 dev eth0 proto 4 metric 1024
`)
	answers, err := l.TCPEcho(ctx, answerTime, append(first, second...)...)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range answers {
		if !a.Answered {
			t.Error(a)
		}
	}
	if warnings := d.Warnings(); len(warnings) > 0 {
		t.Errorf("warnings:\n%s", strings.Join(warnings, "\n"))
	}
}

func TestNetworkdReloads(t *testing.T) {
	t.Parallel()
	require(t, lab.NeedNetworkd, lab.NeedBus)
	ctx, l := open(t, lab.TwoUplinks())
	d := startNetworkd(ctx, t, l, lab.NetworkdOptions{
		Bus: true,
		// Each of systemd's directories counts, and so does iproute2's.
		Tree: fstest.MapFS{
			"etc/systemd/network/10-eth0.network":            {Data: []byte(eth0Network)},
			"usr/lib/systemd/network/10-eth1.network":        {Data: []byte(eth1Network)},
			"etc/iproute2/rt_tables.d/uplink.conf":           {Data: []byte("77 rt2\n")},
			"run/systemd/network/10-masked.network":          {Data: []byte("/dev/null"), Mode: os.ModeSymlink | 0o777},
			"usr/lib/systemd/network/10-masked.network":      {Data: []byte("[Match]\nName=eth0\n")},
			"etc/systemd/networkd.conf.d/foreign-rules.conf": {Data: []byte("[Network]\nManageForeignRoutingPolicyRules=no\n")},
		},
	})
	if err := d.WaitConfigured(ctx, "eth0", "eth1"); err != nil {
		t.Fatal(err)
	}
	out, err := d.Run(ctx, "ip", "route", "list", "table", "rt2")
	if err != nil || !strings.Contains(out, "default via 198.51.100.1") {
		t.Errorf("table rt2 by name: %q, %v", out, err)
	}

	err = d.Write(map[string]string{"/etc/systemd/network/10-eth1.network": strings.ReplaceAll(eth1Network, "Priority=100", "Priority=200")})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	err = lab.Poll(ctx, func() (bool, string) {
		rules, err := l.Host.Rules(ctx)
		if err != nil {
			return false, err.Error()
		}
		var text strings.Builder
		for _, r := range rules {
			text.WriteString(r.String() + "\n")
		}
		want := strings.Count(text.String(), " 200: ") == 2 && !strings.Contains(text.String(), " 100: ")
		return want, "rules:\n" + text.String()
	})
	if err != nil {
		t.Error(err)
	}
	if err := d.Remove("/etc/systemd/network/10-eth1.network"); err != nil {
		t.Error(err)
	}
	if err := d.Stop(); err != nil {
		t.Error(err)
	}
	if err := d.Stop(); err != nil {
		t.Error("second stop:", err)
	}
	// Everything above was seen by that networkd alone.
	for _, path := range []string{"/etc/iproute2/rt_tables.d/uplink.conf", "/usr/lib/systemd/network/10-eth1.network", "/etc/systemd/network/10-eth0.network"} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is on the machine", path)
		}
	}
}

func TestNetworkdThatDoesNotGetThereSaysWhy(t *testing.T) {
	t.Parallel()
	require(t, lab.NeedNetworkd)
	dir := t.TempDir()
	name := filepath.Join(dir, "run/systemd/network/10-eth0.network")
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(eth0Network+"Gateway=nonsense\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, l := open(t, lab.TwoUplinks())
	d := startNetworkd(ctx, t, l, lab.NetworkdOptions{Tree: os.DirFS(dir)})

	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err := d.WaitConfigured(ctx, "eth0", "eth1", "eth7")
	if err == nil {
		t.Fatal("configured")
	}
	for _, want := range []string{"eth1 is unmanaged", "eth7: no such link", "nonsense"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if w := d.Warnings(); len(w) != 1 || !strings.Contains(w[0], "nonsense") {
		t.Errorf("warnings: %q; want the one about the gateway", w)
	}
	if err := d.Stop(); err != nil {
		t.Error(err)
	}
	if err := d.WaitConfigured(t.Context(), "eth0"); err == nil || !strings.Contains(err.Error(), "networkd ended") {
		t.Errorf("after stop: %v", err)
	}
}

func TestNetworkdRefusesFilesThatCannotBePrivate(t *testing.T) {
	t.Parallel()
	require(t, lab.NeedNetworkd)
	ctx, l := open(t, lab.Options{})
	for _, path := range []string{"passwd", "proc/x", "/dev/../sys/x", "nowhere/x"} {
		if _, err := l.Host.StartNetworkd(ctx, lab.NetworkdOptions{Files: map[string]string{path: ""}}); err == nil {
			t.Errorf("%s was accepted", path)
		}
	}
	if _, err := l.Host.StartNetworkd(ctx, lab.NetworkdOptions{Root: t.TempDir()}); err == nil {
		t.Error("a root without networkd was accepted")
	}
}

func startNetworkd(ctx context.Context, t *testing.T, l *lab.Lab, opts lab.NetworkdOptions) *lab.Networkd {
	t.Helper()
	d, err := l.Host.StartNetworkd(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
