package boot_test

import (
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/boot"
)

// interfaces is a host of the kind that the recipe is written for.
const interfaces = `
auto lo
iface lo inet loopback

auto eth0
iface eth0 inet static
	address 192.0.2.10/24
	gateway 192.0.2.1

auto eth1
iface eth1 inet static
	address 198.51.100.10/24
`

var byIfupdown = other{
	root: fat, each: eachFat, some: oneFat, spec: policySpec, has: true,
	files: only(map[string]boot.File{"/etc/network/interfaces": boot.Text(interfaces)}, ifupdown),
}

// TestIfupdown is on a host whose links are set up by ifupdown.
func TestIfupdown(t *testing.T) { byIfupdown.test(t) }

// TestIfupdownLater has ifupdown take a link down and up again.
func TestIfupdownLater(t *testing.T) {
	eachFat(t, func(t *testing.T, suite boot.Suite) {
		h := booted(t, byIfupdown.config(t, suite, policySpec), "running")
		h.servedByNetlink()
		for _, card := range []string{"eth1", "eth0"} {
			h.disturbed("ifdown "+card+"; ifup "+card, func() {
				h.must("ifdown", card)
				h.must("ifup", card)
			})
		}
		h.disturbed("networking.service is restarted", func() { h.must("systemctl", "restart", ifupdown) })
	})
}
