package boot_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/boot"
)

// fat is a root with all programs that configure the network of a Debian, and rpm on one.
func fat(suite boot.Suite) boot.Root {
	dhcp := "dhcpcd-base"
	if suite.Systemd() < 255 {
		dhcp = "isc-dhcp-client"
	}
	packages := []string{"network-manager", "netplan.io", "cloud-init", "ifupdown", dhcp}
	if suite == boot.Trixie {
		packages = append(packages, "rpm")
	}
	return boot.Root{Suite: suite, Packages: packages}
}

// eachFat runs a test on each of Debian's suites that there is a fat root of.
func eachFat(t *testing.T, f func(t *testing.T, suite boot.Suite)) {
	onEach(t, boot.Debian[1:], f)
}

// everyFat runs a test on Ubuntu 24.04 as well. A fat root takes a minute to make.
func everyFat(t *testing.T, f func(t *testing.T, suite boot.Suite)) {
	onEach(t, append(slices.Clone(boot.Debian[1:]), boot.Noble), f)
}

// oneFat runs a test on one systemd, if its difference from a test with [eachFat] does not depend
// on systemd.
func oneFat(t *testing.T, f func(t *testing.T, suite boot.Suite)) {
	require(t)
	t.Parallel()
	f(t, boot.Trixie)
}

// The units of a fat root that configure the network.
const (
	networkManager = "NetworkManager.service"
	ifupdown       = "networking.service"
	netplan        = "netplan-configure.service"
)

// only has the files of a fat root in which only the given units configure the network, and the
// other files that are given.
func only(files map[string]boot.File, units ...string) map[string]boot.File {
	all := map[string]boot.File{
		"/etc/cloud/cloud-init.disabled": boot.Text(""),
		// Ubuntu's NetworkManager has no Ethernet card without it.
		"/etc/NetworkManager/conf.d/10-globally-managed-devices.conf": boot.Text(""),
	}
	mask := []string{networkManager, ifupdown, netplan}
	for _, unit := range mask {
		if !slices.Contains(units, unit) {
			all["/etc/systemd/system/"+unit] = boot.Masked
		}
	}
	maps.Copy(all, files)
	return all
}

// ours says whether the oneshot has added what a line of network says.
func ours(line string) bool { return strings.Contains(line, "proto 118") }

// without returns the lines of a text that are not of a kind.
func without(text string, kind func(line string) bool) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !kind(line) {
			b.WriteString(line)
		}
	}
	return b.String()
}
