package boot_test

import (
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/boot"
)

// connection is a file of NetworkManager's.
func connection(card, address1 string) boot.File {
	return boot.File{Mode: 0o600, Data: "[connection]\nid=" + card + "\ntype=ethernet\ninterface-name=" + card +
		"\n[ipv4]\nmethod=manual\naddress1=" + address1 + "\n[ipv6]\nmethod=link-local\naddr-gen-mode=eui64\n"}
}

var byNetworkManager = other{
	root: fat, each: eachFat, some: oneFat, spec: policySpec, has: true,
	files: only(map[string]boot.File{
		"/etc/NetworkManager/system-connections/eth0.nmconnection": connection("eth0", "192.0.2.10/24,192.0.2.1"),
		"/etc/NetworkManager/system-connections/eth1.nmconnection": connection("eth1", "198.51.100.10/24"),
		// In a container it leaves alone what udev has not told it of.
		"/etc/NetworkManager/conf.d/container.conf": boot.Text("[main]\nno-auto-default=*\n[device]\nmatch-device=*\nmanaged=1\n"),
	}, networkManager),
}

// TestNetworkManager is on a host whose links are NetworkManager's.
func TestNetworkManager(t *testing.T) { byNetworkManager.test(t) }

// TestNetworkManagerLater has NetworkManager configure links anew.
func TestNetworkManagerLater(t *testing.T) {
	eachFat(t, func(t *testing.T, suite boot.Suite) {
		h := booted(t, byNetworkManager.config(t, suite, policySpec), "running")
		h.servedByNetlink()
		for _, args := range [][]string{
			{"device", "reapply", "eth1"},
			{"device", "modify", "eth1", "+ipv4.addresses", "198.51.100.11/24"},
			{"connection", "up", "eth1"},
			{"connection", "up", "eth0"},
			{"networking", "off"},
		} {
			h.disturbed("nmcli "+strings.Join(args, " "), func() {
				h.must("nmcli", args...)
				if args[0] == "networking" {
					h.must("nmcli", "networking", "on")
				}
				h.must("nm-online", "-s", "-q")
			})
		}
		h.disturbed("NetworkManager is restarted", func() {
			h.must("systemctl", "restart", networkManager)
			h.must("nm-online", "-s", "-q")
		})
	})
}
