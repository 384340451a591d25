package boot_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/boot"
)

// manySources is the recipe with so many addresses on the second card that its rules are
// laid out in blocks.
func manySources(backend string) (text string, cards map[netip.Addr]string) {
	cards = map[netip.Addr]string{netip.MustParseAddr("192.0.2.10"): "eth0"}
	var addresses []string
	for i := range 60 {
		a := netip.AddrFrom4([4]byte{198, 51, 100, byte(10 + i)})
		addresses = append(addresses, fmt.Sprintf("%q", a.String()+"/24"))
		if i%20 == 0 || i == 59 {
			cards[a] = "eth1"
		}
	}
	return fmt.Sprintf(`
backend = %q
[uplink.isp1]
interface     = "eth0"
addresses     = ["192.0.2.10/24"]
gateways      = ["192.0.2.1"]
default-route = true
[uplink.rt2]
interface = "eth1"
table     = 1
addresses = [%s]
gateways  = ["198.51.100.1"]
`, backend, strings.Join(addresses, ", ")), cards
}

// TestManySources boots hosts with many sources by either back end: where systemd can, the
// rules are laid out in blocks, and they are the same whoever brings them about. Before 257
// networkd has the flat ones.
func TestManySources(t *testing.T) {
	t.Parallel()
	require(t)
	for _, suite := range []boot.Suite{boot.Bookworm, boot.Trixie} {
		t.Run(string(suite), func(t *testing.T) {
			t.Parallel()
			rules := map[string]string{}
			for _, backend := range []string{"networkd", "netlink"} {
				text, cards := manySources(backend)
				c := boot.Config{Root: boot.Root{Suite: suite}, Product: installed(t), Files: map[string]boot.File{specFile: boot.Text(text)}}
				if backend == "networkd" {
					c.Enable = []string{networkd}
				}
				h := booted(t, c, "running")
				h.settled()
				h.worksAt(cards)
				h.clean()
				// In which order rules of one priority stand makes no difference to these, nor
				// does the table that networkd 257 gives to rules which look none up.
				rules[backend] = h.must("sh", "-c", "ip rule | sed -E 's/ proto [a-z0-9]*//; s/ lookup main (goto|nop)/ \\1/' | sort")
			}
			if !strings.Contains(rules["netlink"], "goto") {
				t.Errorf("through netlink there are no blocks:\n%s", rules["netlink"])
			}
			switch same := rules["networkd"] == rules["netlink"]; {
			case suite == boot.Trixie && !same:
				t.Errorf("networkd has\n%s\nand through netlink there is\n%s", rules["networkd"], rules["netlink"])
			case suite == boot.Bookworm && strings.Contains(rules["networkd"], "goto"):
				t.Errorf("networkd 252 has\n%s", rules["networkd"])
			}
		})
	}
}
