package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// profiles are NetworkManager profiles, by link: hosts that real NetworkManager configures. All
// routes in tables have metrics: without one it uses 100 there too, where it means nothing.
var profiles = map[string]map[string]string{
	"routes and rules": {
		"eth0": `
[ipv4]
address1=192.0.2.10/24,192.0.2.1
method=manual
route1=198.18.7.0/24,192.0.2.1
[ipv6]
address1=2001:db8:1::10/64
gateway=2001:db8:1::1
method=manual
`,
		"eth1": `
[ipv4]
address1=198.51.100.10/24
address2=198.51.100.11/24
method=manual
never-default=true
gateway=198.51.100.1
route1=198.51.100.0/24,0.0.0.0,7
route1_options=scope=253,src=198.51.100.10,table=1
route2=0.0.0.0/0,198.51.100.1,7
route2_options=table=1,mtu=1300
route3=203.0.113.0/24,,9
route3_options=type=blackhole,table=1
routing-rule1=priority 5 from 198.51.100.10 table 1
routing-rule2=priority 6 to 198.51.100.10 table 1
routing-rule3=priority 7 fwmark 0x10/0xff iif eth1 table 1
routing-rule4=priority 8 not from 198.51.100.0/24 ipproto 6 dport 25-26 suppress_prefixlength 0 table 254
[ipv6]
address1=2001:db8:2::10/64
method=manual
route1=::/0,2001:db8:2::1,1024
route1_options=table=1
routing-rule1=priority 5 from 2001:db8:2::10 table 1
`,
	},
	"tables of their own": {
		"eth0": `
[ipv4]
address1=192.0.2.10/24,192.0.2.1
method=manual
route-metric=300
[ipv6]
method=disabled
`,
		"eth1": `
[ipv4]
address1=198.51.100.10/24,198.51.100.1
method=manual
route-table=1
route-metric=5
routing-rule1=priority 100 from 198.51.100.10 table 1
[ipv6]
method=disabled
`,
	},
}

// TestImportOfProfilesIsThatOfTheKernel has real NetworkManager configure links, and imports
// its profiles and what the kernel then holds: both specs compile to the same State.
func TestImportOfProfilesIsThatOfTheKernel(t *testing.T) {
	for name, links := range profiles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require(t)
			ctx, l, c := bootHost(t, provider1, provider2)
			opts := lab.ClientOptions{Program: lab.ClientNetworkManager, Files: map[string]string{}}
			for link, text := range links {
				opts.Links = append(opts.Links, link)
				file := "etc/NetworkManager/system-connections/" + link + ".nmconnection"
				opts.Files[file] = "[connection]\nid=" + link + "\nuuid=00000000-0000-4000-8000-0000000000f" + link[3:] + "\ntype=ethernet\ninterface-name=" + link + "\n" + text
				write(t, filepath.Join(c.root, file), opts.Files[file])
			}
			nm, err := l.Host.StartClient(ctx, opts)
			if err != nil {
				t.Fatal(err)
			}
			states := map[string]string{}
			for _, from := range []string{"networkmanager", "kernel"} {
				for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
					a := c.run("import", "--from", from, "--manage", "link")
					c.spec(a.stdout)
					check := c.run("check", "--state")
					states[from] = check.stdout
					if from == "networkmanager" && a.code != 0 || check.code != 0 && a.code == 0 {
						t.Fatalf("from %s: %s%s", from, a.stderr, check.stderr)
					}
					settled := from != "kernel" || states[from] == states["networkmanager"]
					if !settled && time.Since(start) > 20*time.Second {
						out, _ := nm.Run(ctx, "sh", "-c", "ip rule; ip route show table all; nmcli device; nmcli connection")
						t.Errorf("of the kernel\n%s%s%s\nof the profiles\n%s\n%s", a.stdout, a.stderr, states[from], states["networkmanager"], out)
						return
					}
					if settled {
						t.Logf("from %s:\n%s", from, a.stdout)
						break
					}
				}
				_ = os.Remove(filepath.Join(c.root, "etc/uplink/uplink.toml"))
			}
			if !strings.Contains(states["kernel"], "198.51.100.10") {
				t.Error(states["kernel"])
			}
		})
	}
}
