package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// input is one network of hosts, in the language of each of the compared programs: n uplinks,
// each with an address, its subnet and its default route in a table of its own, and a rule from
// and a rule to the address.
type input struct{ n int }

// uplink returns the numbers of the i-th uplink.
func (input) uplink(i int) (dev, subnet string, table int) {
	return fmt.Sprintf("eth%05d", i), fmt.Sprintf("10.%d.%d.", i/256, i%256), 10000 + i
}

// spec is the input in TOML.
func (in input) spec() string {
	var b strings.Builder
	for i := range in.n {
		dev, subnet, _ := in.uplink(i)
		fmt.Fprintf(&b, "[uplink.u%05d]\ninterface = %q\naddresses = [\"%s10/24\"]\ngateways = [\"%s1\"]\n\n", i, dev, subnet, subnet)
	}
	return b.String()
}

// netplan is the input in netplan's YAML.
func (in input) netplan() string {
	var b strings.Builder
	b.WriteString("network:\n  version: 2\n  renderer: networkd\n  ethernets:\n")
	for i := range in.n {
		dev, subnet, table := in.uplink(i)
		fmt.Fprintf(&b, "    %s:\n      addresses: [%s10/24]\n      routes:\n", dev, subnet)
		fmt.Fprintf(&b, "      - {to: %s0/24, scope: link, from: %s10, table: %d}\n", subnet, subnet, table)
		fmt.Fprintf(&b, "      - {to: 0.0.0.0/0, via: %s1, table: %d}\n      routing-policy:\n", subnet, table)
		fmt.Fprintf(&b, "      - {from: %s10/32, table: %d, priority: %d}\n", subnet, table, table)
		fmt.Fprintf(&b, "      - {to: %s10/32, table: %d, priority: %d}\n", subnet, table, table)
	}
	return b.String()
}

// commandLine is the part of the input that systemd-network-generator can express: addresses and
// gateways, no policy.
func (in input) commandLine() (words []string) {
	for i := range in.n {
		dev, subnet, _ := in.uplink(i)
		words = append(words, fmt.Sprintf("ip=%s10::%s1:255.255.255.0::%s:none", subnet, subnet, dev))
	}
	return words
}

// roots makes a root directory for each program below dir.
func (in input) roots(dir string) (ours, netplan, generator string, err error) {
	ours, netplan, generator = filepath.Join(dir, "ours"), filepath.Join(dir, "netplan"), filepath.Join(dir, "network-generator")
	for name, text := range map[string]string{
		ours + "/etc/uplink/uplink.toml": in.spec(),
		// Hosts have these, because the programs look for them.
		ours + "/proc/cmdline":                                   "root=/dev/vda1 ro quiet\n",
		ours + "/usr/lib/systemd/libsystemd-shared-257.so":       "",
		ours + "/usr/lib/systemd/system/uplink-networkd.service": "",
		ours + "/usr/lib/systemd/system/uplink-apply.service":    "",
		ours + "/usr/lib/systemd/system/uplink-apply@.service":   "",
		ours + "/usr/lib/systemd/system/uplink-reload.service":   "",
		netplan + "/etc/netplan/50-bench.yaml":                   in.netplan(),
		generator + "/run/":                                      "",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return "", "", "", err
		}
		if strings.HasSuffix(name, "/") {
			continue
		}
		// netplan warns of files that others can read.
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return "", "", "", err
		}
	}
	return ours, netplan, generator, nil
}
