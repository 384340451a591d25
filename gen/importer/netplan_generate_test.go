package importer

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/need"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// netplanYAML is what hosts with two uplinks have.
var netplanYAML = map[string]string{
	"the recipe": `
    eth0:
      addresses: [192.0.2.10/24]
      routes:
      - {to: default, via: 192.0.2.1}
    eth1:
      addresses: [198.51.100.10/24]
      routes:
      - {to: default, via: 198.51.100.1, table: 1}
      - {to: 198.51.100.0/24, via: 0.0.0.0, scope: link, from: 198.51.100.10, table: 1}
      routing-policy:
      - {from: 198.51.100.10, table: 1, priority: 100}
      - {to: 198.51.100.10/32, table: 1, priority: 100}
`,
	"both families": `
    eth0:
      addresses: [192.0.2.10/24, "2001:db8:1::10/64"]
      routes:
      - {to: 0.0.0.0/0, via: 192.0.2.1, metric: 50}
      - {to: "::/0", via: "2001:db8:1::1", metric: 50}
      - {to: default, via: "2001:db8:1::1", table: 7}
      - {to: default, via: 192.0.2.1, table: 7}
      routing-policy:
      - {from: 192.0.2.10, table: 7, priority: 5}
      - {from: "2001:db8:1::10", table: 7, priority: 5}
    eth1:
      addresses: [198.51.100.10/24, "2001:db8:2::10/64"]
      routes:
      - {to: default, via: 198.51.100.1, table: 1}
      - {to: default, via: "fe80::1", table: 1}
      routing-policy:
      - {from: 198.51.100.10, table: 1, priority: 6}
      - {from: "2001:db8:2::/64", table: 1, priority: 6}
`,
	"keys of routes": `
    eth1:
      addresses: [198.51.100.10/24]
      routes:
      - {to: default, via: 203.0.113.1, on-link: true, table: 1}
      - {to: 10.0.0.0/8, via: 198.51.100.1, metric: 7, mtu: 1400, table: 1}
      - {to: 10.1.0.0/16, via: 198.51.100.1, from: 198.51.100.10, table: 1}
      - {to: 10.2.0.0/16, type: unreachable, table: 1}
      - {to: 10.3.0.0/16, type: blackhole, table: 1}
      - {to: 10.4.0.0/16, type: prohibit, table: 1}
      - {to: 10.5.0.0/16, scope: link, table: 1}
      - {to: 10.6.0.0/16, via: 198.51.100.1, congestion-window: 20, advertised-receive-window: 30, table: 1}
      - {to: 10.7.0.0/16, via: 198.51.100.1, table: 254}
      - {to: 10.8.0.0/16, via: 0.0.0.0, table: 1}
      routing-policy:
      - {from: 198.51.100.10, table: 1, priority: 100}
`,
	"keys of rules": `
    eth1:
      addresses: [198.51.100.10/24]
      routes:
      - {to: default, via: 198.51.100.1, table: 1}
      routing-policy:
      - {from: 198.51.100.10, to: 10.0.0.0/8, table: 1, priority: 100}
      - {from: 198.51.100.10, mark: 16, table: 1, priority: 101}
      - {to: 10.1.0.0/16, type-of-service: 16, table: 1, priority: 102}
      - {from: 198.51.100.0/24, table: 254, priority: 103}
      - {from: 198.51.100.10, table: 1}
`,
	"the link's own": `
    eth1:
      match: {macaddress: "02:00:00:00:00:01"}
      mtu: 1400
      addresses: [198.51.100.10/24]
      nameservers: {addresses: [198.51.100.53, "2001:db8::53"], search: [example.org, example.net]}
      routes:
      - {to: default, via: 198.51.100.1, table: 1}
      routing-policy:
      - {from: 198.51.100.10, table: 1, priority: 100}
    eth2:
      dhcp4: true
      dhcp4-overrides: {route-metric: 300}
      accept-ra: false
`,
	"aliases": `
    eth0:
      addresses: [192.0.2.10/24]
      nameservers: &dns {addresses: [192.0.2.53]}
      routes: &routes
      - &isp {to: default, via: 192.0.2.1, table: &table 7}
      - {to: 10.0.0.0/8, via: 192.0.2.1, table: *table}
      routing-policy:
      - {from: 192.0.2.10, table: *table, priority: 5}
    eth1:
      addresses: [198.51.100.10/24]
      nameservers: *dns
      routes:
      - {to: default, via: 198.51.100.1, table: 1}
      routing-policy:
      - {from: 198.51.100.10, table: 1, priority: 6}
`,
	"a gateway by its old key": `
    eth0:
      addresses: [192.0.2.10/24, "2001:db8:1::10/64"]
      gateway4: 192.0.2.1
      gateway6: "2001:db8:1::1"
`,
}

// TestNetplanIsWhatNetplanMakesOfIt lets netplan itself make .network files of its YAML:
// imported, they must give the same State as the YAML.
func TestNetplanIsWhatNetplanMakesOfIt(t *testing.T) {
	netplan := need.Program(t, "netplan", "netplan.io")
	for name, text := range netplanYAML {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "etc/netplan"), 0o755); err != nil {
				t.Fatal(err)
			}
			yaml := "network:\n  version: 2\n  renderer: networkd\n  ethernets:" + text
			if err := os.WriteFile(filepath.Join(dir, "etc/netplan/a.yaml"), []byte(yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), netplan, "generate", "--root-dir", dir).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			root := rootfs.At(dir)
			made := func(f *Found, err error) *Result {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				if len(f.Files) == 0 {
					t.Fatal("nothing is read")
				}
				r, err := Make(f, Options{Manage: ByLink})
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			direct, files := made(Netplan(root, nil)), made(Networkd(root, nil))
			for _, l := range direct.Lost {
				t.Errorf("not carried over from YAML: %s", l)
			}
			if direct.State.Text() != files.State.Text() {
				t.Errorf("of the YAML\n%s\n%s\nof the files\n%s\n%s", direct.State.Text(), direct.TOML, files.State.Text(), files.TOML)
			}
		})
	}
}
