package importer

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/need"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

const interfacesText = `auto lo
iface lo inet loopback

auto eth0
iface eth0 inet static
    address 192.0.2.10
    netmask 255.255.255.0
    gateway 192.0.2.1
    metric 5
    mtu 1400

auto eth1
iface eth1 inet static
    address 198.51.100.10/24
    gateway 203.0.113.1
    post-up ip route add 198.51.100.0/24 dev $IFACE src 198.51.100.10 table 1 \
       || true
    up ip rule add from 198.51.100.10 table 1 pref 100
iface eth1 inet6 static
    address 2001:db8:2::10/64
    gateway fe80::1
    up ip -6 route add default via 2001:db8:2::1 dev eth1 table 1
    up ip -6 rule add from 2001:db8:2::10 table 1 pref 100
    pre-down ip -6 route del default table 1

auto eth1:1
iface eth1:1 inet static
    address 198.51.100.11
    netmask 24

auto eth3
iface eth3 inet static
    address 172.16.1.2
iface eth3 inet static
    address 10.1.2.3/24
    netmask 255.255.0.0
iface eth3 inet6 static
    address 2001:db8:4::10

iface home inet static
    address 203.0.113.10/24
    gateway 203.0.113.254
    metric 7
    up ip rule add from 203.0.113.10 iif $IFACE table 1 pref 101
auto eth4=home

auto eth2
iface eth2 inet6 static
    address 2001:db8:3::10
    netmask 64
    gateway 2001:db8:3::1
`

// TestInterfacesAreWhatIfupWouldRun asks Debian's ifup(8) which commands it would run:
// imported as a script, they must give the same State as the file.
func TestInterfacesAreWhatIfupWouldRun(t *testing.T) {
	ifup := need.Program(t, "ifup", "Debian's ifupdown: `apt-get download ifupdown`, `dpkg -x` and PATH suffice")
	dir := t.TempDir()
	file, script := filepath.Join(dir, "interfaces"), filepath.Join(dir, "script")
	if err := os.WriteFile(file, []byte(interfacesText), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), ifup, "--no-act", "--force", "--verbose", "--state-dir", dir, "-i", file, "-a").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var b strings.Builder
	for line := range strings.Lines(string(out)) {
		if _, name, is := strings.Cut(line, "configuring interface "); is {
			name, _, _ = strings.Cut(name, "=")
			b.WriteString("IFACE=" + name + "\n")
			continue
		}
		// A label does not belong to an address, and a gateway in the subnet need not be onlink.
		line, _, _ = strings.Cut(strings.TrimSpace(line), " label ")
		line = strings.ReplaceAll(line, "dev eth1:1", "dev eth1")
		if !strings.Contains(line, "203.0.113.1") {
			line = strings.ReplaceAll(line, " onlink", "")
		}
		if strings.HasPrefix(line, "ip ") && !strings.Contains(line, "dev lo") && !strings.Contains(line, "flush") {
			b.WriteString(line + "\n")
		}
	}
	if err := os.WriteFile(script, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	made := func(f *Found, err error) *Result {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		r, err := Make(f, Options{Manage: ByLink})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	root := rootfs.At("")
	direct, run := made(Interfaces(root, nil, file)), made(Scripts(root, nil, script))
	for _, l := range run.Lost {
		t.Errorf("not carried over of what ifup runs: %s", l)
	}
	if direct.State.Text() != run.State.Text() {
		t.Errorf("of the file\n%s\n%s\nof what ifup would run\n%s\n%s", direct.State.Text(), direct.TOML, run.State.Text(), b.String())
	}
}
