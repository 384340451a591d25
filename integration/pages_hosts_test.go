package integration

import (
	"net/netip"
	"strings"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// pageHosts are the hosts of the pages, by the name that they have there.
var pageHosts = map[string]pageFault{
	"all is well": {start: func(h *pageHost) {
		h.withoutNetworkd(map[string]string{hostSpec: recipeSpec(h.t)})
		h.inEffect()
	}},
	"a spec that nobody has reloaded": {defeated: "198.51.100.10", start: func(h *pageHost) {
		text := recipeSpec(h.t)
		h.withoutNetworkd(map[string]string{hostSpec: replaced(h.t, text, "gateways  = [\"198.51.100.1\"]\n", "")})
		h.sh("uplinkctl reload")
		h.sh("cat > " + hostSpec + " <<'EOF'\n" + text + "EOF")
	}},
	"somebody took it away": {defeated: "198.51.100.10", start: func(h *pageHost) {
		h.withoutNetworkd(map[string]string{hostSpec: recipeSpec(h.t)})
		h.inEffect()
		ip(h.ctx, h.t, h.Host, "rule del from 198.51.100.10 priority 10001")
	}},
	"a foreign rule":                  {defeated: "198.51.100.10", start: foreignRule},
	"a foreign rule that has to stay": {defeated: "198.51.100.10", start: foreignRule},
	"a foreign rule without a priority": {defeated: "198.51.100.10", start: func(h *pageHost) {
		h.withoutNetworkd(map[string]string{hostSpec: recipeSpec(h.t)})
		h.inEffect()
		ip(h.ctx, h.t, h.Host, "rule add from 198.51.100.0/24 lookup main")
	}},
	"a foreign route in the uplink's table": {defeated: "198.51.100.10", start: func(h *pageHost) {
		h.withoutNetworkd(map[string]string{hostSpec: recipeSpec(h.t)})
		h.inEffect()
		ip(h.ctx, h.t, h.Host, "route add 203.0.113.0/25 via 192.0.2.1 dev eth0 table 1")
	}},
	"an address that its owner lost": {defeated: "198.51.100.10", start: func(h *pageHost) {
		ip(h.ctx, h.t, h.Host, "link set eth1 up", "address add 198.51.100.10/24 dev eth1")
		h.withoutNetworkd(map[string]string{hostSpec: recipeSpec(h.t) + "manage = \"policy\"\n"})
		h.inEffect()
		ip(h.ctx, h.t, h.Host, "address del 198.51.100.10/24 dev eth1")
	}},
	"strict rp_filter": {defeated: "192.0.2.10", start: func(h *pageHost) {
		h.withoutNetworkd(map[string]string{hostSpec: recipeSpec(h.t)})
		h.inEffect()
		if err := h.Host.Sysctl("net.ipv4.conf.all.rp_filter", "1"); err != nil {
			h.t.Fatal(err)
		}
		// The packets for the first address come in by the second card.
		ip(h.ctx, h.t, h.Router, "route add 192.0.2.10/32 via 198.51.100.10 dev p2")
	}},
	"two cards on one subnet": {
		providers: []lab.Provider{{Gateways: prefixes("192.0.2.1/24"), Cards: []lab.Card{{Name: "eth0"}, {Name: "eth1"}}}},
		start: func(h *pageHost) {
			h.withoutNetworkd(map[string]string{hostSpec: replaced(h.t, replaced(h.t, recipeSpec(h.t), "198.51.100.10/24", "192.0.2.11/24"), "198.51.100.1", "192.0.2.1")})
			h.inEffect()
		},
	},
	"a gateway that nobody is": {defeated: "198.51.100.10", start: func(h *pageHost) {
		ip(h.ctx, h.t, h.Host, "ntable change name arp_cache dev eth1 retrans 50")
		h.withoutNetworkd(map[string]string{hostSpec: replaced(h.t, recipeSpec(h.t), `"198.51.100.1"`, `"198.51.100.77"`)})
		h.inEffect()
	}},
	"no gateway": {defeated: "198.51.100.10", start: func(h *pageHost) {
		h.withoutNetworkd(map[string]string{hostSpec: replaced(h.t, recipeSpec(h.t), "gateways  = [\"198.51.100.1\"]\n", "")})
		h.inEffect()
	}},
	"no carrier": {start: func(h *pageHost) {
		h.withoutNetworkd(map[string]string{hostSpec: recipeSpec(h.t)})
		h.inEffect()
		h.loseCarrier("p2", "eth1")
	}},
	"no carrier on the first of two": {start: func(h *pageHost) {
		text := replaced(h.t, recipeSpec(h.t), "default-route = true             # traffic that asks for no address leaves here\n", "default-route = true\nmetric        = 100\n")
		h.withoutNetworkd(map[string]string{hostSpec: text + "default-route = true\nmetric        = 200\n"})
		h.inEffect()
		h.loseCarrier("p1", "eth0")
	}},
	"a machine that builds images": {start: func(h *pageHost) {
		text := replaced(h.t, recipeSpec(h.t), "198.51.100.10", "198.51.100.97") + "\n[[uplink.rt2.rule]]\npriority = 900\nl3mdev   = true\n"
		h.withoutNetworkd(map[string]string{"/srv/image/usr/lib/uplink/uplink.toml": text})
	}},
	"a provider that is dead": {start: func(h *pageHost) {
		text := replaced(h.t, recipeSpec(h.t), "default-route = true             # traffic that asks for no address leaves here\n",
			"default-route = true\nmetric        = 100\n\n[uplink.isp1.probe]\ntargets  = [\"203.0.113.10\"]\ninterval = 1\ntimeout  = 1\ndown     = 1\n")
		h.withoutNetworkd(map[string]string{hostSpec: text + "default-route = true\nmetric        = 200\n"})
		h.inEffect()
		watch := h.shell("-c", "exec uplinkctl watch")
		if err := watch.Start(); err != nil {
			h.t.Fatal(err)
		}
		h.t.Cleanup(func() {
			_ = watch.Process.Kill()
			_ = watch.Wait() // it was killed
		})
		// The gateway answers, and nothing behind it.
		die(h.ctx, h.t, h.Lab, 1)
		eventually(h.ctx, h.t, func() (string, error) {
			out, err := h.Host.Run(h.ctx, "ip", "rule")
			if !strings.Contains(out, "32765:") {
				return out, err
			}
			return "", err
		})
	}},
	"another file wins": {needs: []lab.Need{lab.NeedNetworkd, lab.NeedBus}, defeated: "198.51.100.10", start: func(h *pageHost) {
		h.withNetworkd(map[string]string{
			hostSpec:                               recipeSpec(h.t),
			"/etc/systemd/network/05-eth1.network": "[Match]\nName=eth1\n\n[Network]\nAddress=198.51.100.10/24\nLinkLocalAddressing=no\n",
		})
		h.run("uplinkctl reload --wait 2")
	}},
	"a container": {start: func(h *pageHost) {
		ip(h.ctx, h.t, h.Host, "link add docker0 type bridge", "address add 172.17.0.1/16 dev docker0", "link set docker0 up")
		h.withoutNetworkd(map[string]string{hostSpec: recipeSpec(h.t)})
		h.inEffect()
	}},
	"a published port": {needs: []lab.Need{lab.NeedNftables}, defeated: "198.51.100.10", held: "192.0.2.10", start: publishedPort},
	"two leases and one default route": {needs: []lab.Need{lab.NeedDHCP}, defeated: "198.51.100.10", start: func(h *pageHost) {
		h.withoutNetworkd(map[string]string{hostSpec: "[uplink.isp1]\ninterface = \"eth0\"\nmanage    = \"policy\"\ndhcp      = \"ipv4\"\n\n[uplink.rt2]\ninterface = \"eth1\"\nmanage    = \"policy\"\ndhcp      = \"ipv4\"\ntable     = 1\n"})
		for i, address := range []string{"192.0.2.10", "198.51.100.10"} {
			if _, err := h.StartDHCPServer(h.ctx, i+1, lab.Offer{First: netip.MustParseAddr(address)}); err != nil {
				h.t.Fatal(err)
			}
			card := []string{"eth0", "eth1"}[i]
			if _, err := h.Host.StartClient(h.ctx, lab.ClientOptions{Program: lab.ClientDhclient, Links: []string{card}, IPv4: true}); err != nil {
				h.t.Fatal(err)
			}
			if err := h.Host.WaitAddresses(h.ctx, netip.MustParseAddr(address)); err != nil {
				h.t.Fatal(err)
			}
		}
		h.run("uplinkctl reload --wait 2")
	}},
	"the recipe, by hand": {held: "198.51.100.10", start: func(h *pageHost) {
		h.withoutNetworkd(map[string]string{
			"/etc/network/interfaces": interfaces,
			"/etc/iproute2/rt_tables": "255\tlocal\n254\tmain\n253\tdefault\n0\tunspec\n1\trt2\n",
		})
		h.sh(strings.Join(ifup, "\n"))
	}},
}

// loseCarrier sets a port of the providers' down, and waits until the routes by the card show it.
func (h *pageHost) loseCarrier(port, card string) {
	ip(h.ctx, h.t, h.Router, "link set "+port+" down")
	eventually(h.ctx, h.t, func() (string, error) {
		out, err := h.Host.Run(h.ctx, "ip", "route", "show", "table", "all", "dev", card)
		if !strings.Contains(out, "linkdown") {
			return "no route is down:\n" + out, err
		}
		return "", err
	})
}

// foreignRule is a host with a rule of somebody else's before ours.
func foreignRule(h *pageHost) {
	h.withoutNetworkd(map[string]string{hostSpec: recipeSpec(h.t)})
	h.inEffect()
	ip(h.ctx, h.t, h.Host, "rule add priority 100 from 198.51.100.0/24 lookup main")
}

// interfaces is the recipe as Debian's ifupdown has it.
const interfaces = `auto eth0
iface eth0 inet static
    address 192.0.2.10/24
    gateway 192.0.2.1

auto eth1
iface eth1 inet static
    address 198.51.100.10/24
    post-up ip route add 198.51.100.0/24 dev eth1 src 198.51.100.10 table rt2
    post-up ip route add default via 198.51.100.1 dev eth1 table rt2
    post-up ip rule add from 198.51.100.10 table rt2
    post-up ip rule add to 198.51.100.10 table rt2
`

// ifup is what ifup runs for it.
var ifup = []string{
	"ip address add 192.0.2.10/24 dev eth0",
	"ip link set dev eth0 up",
	"ip route add default via 192.0.2.1 dev eth0 onlink",
	"ip address add 198.51.100.10/24 dev eth1",
	"ip link set dev eth1 up",
	"ip route add 198.51.100.0/24 dev eth1 src 198.51.100.10 table rt2",
	"ip route add default via 198.51.100.1 dev eth1 table rt2",
	"ip rule add from 198.51.100.10 table rt2",
	"ip rule add to 198.51.100.10 table rt2",
}
