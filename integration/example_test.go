package integration

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// example is a host of integration/examples and the network that it is made for.
type example struct {
	name string
	lab  lab.Options

	// router has lines of ip(8) and sysctls that the providers need in addition.
	router  []string
	sysctls map[string]string // of the router

	// foreign is what is on the host in addition to the State, because others configure it: lines
	// as in a snapshot.
	foreign snapshot

	// notes are what the rendering must report.
	notes []string

	// duplicates leaves duplicate address detection on, as it is on a real host. It
	// takes about two seconds, so that not every example has it.
	duplicates bool
}

// Networks that several of the examples are connected to.
var (
	provider1 = provider("eth0", "192.0.2.1/24", "2001:db8:1::1/64")
	provider2 = provider("eth1", "198.51.100.1/24", "2001:db8:2::1/64")
)

// examples are all the directories of integration/examples.
var examples = []example{
	{name: "recipe", lab: options(provider1, provider2)},
	{name: "dual-stack", lab: options(provider1, provider2), duplicates: true},
	{name: "containers", lab: options(provider1, provider2)},
	{name: "three-providers", lab: options(provider1, provider2, provider("eth2", "100.64.0.1/24"))},
	{name: "failover", lab: options(provider1, provider2)},
	{
		name: "cloud-init",
		lab:  options(withMAC(provider1, 1), withMAC(provider2, 2)),
		foreign: snapshot{
			addresses: []string{"eth0 inet 192.0.2.10/24 brd 192.0.2.255", "eth1 inet 198.51.100.10/24 brd 198.51.100.255"},
			routes:    []string{"inet table 254 default via 192.0.2.1 dev eth0"},
		},
		notes: []string{
			"/etc/uplink/uplink.toml:4: /etc/systemd/network/10-cloud-init-eth0.network is extended because it may match name eth0 (MACAddress= cannot be told here)",
			"/etc/uplink/uplink.toml:10: /etc/systemd/network/10-cloud-init-eth1.network is extended because it may match name eth1 (MACAddress= cannot be told here)",
		},
	},
	{
		name: "cloud-four-cards",
		lab: clientAt(options(
			// Not in the order of the names: only the MAC addresses count.
			withMAC(provider("ens7", "10.0.1.1/26", "2001:db8:a:1::1/64", "fe80::1/64"), 1),
			withMAC(provider("ens5", "10.0.2.1/26"), 2),
			withMAC(provider("ens6", "10.0.3.1/26"), 3),
			withMAC(withSource(provider("ens8", "10.0.4.1/24"), "203.0.113.200/32"), 4),
		), "198.18.0.10/24", "2001:db8:ffff::10/64"),
		router: []string{"route add 203.0.113.200/32 dev p4"},
	},
	{
		name: "vpn-fail-closed",
		// A card stands in for the tunnel: packets that leave by it need no gateway, because the
		// other end answers for everybody.
		lab:     options(provider1, provider("wg0", "10.66.0.1/24")),
		sysctls: map[string]string{"net.ipv4.conf.p2.proxy_arp": "1", "net.ipv4.neigh.p2.proxy_delay": "0"},
	},
	{name: "reference", lab: options(withMAC(provider1, 1), provider2, provider("eth2", "100.64.0.1/24"))},
}

// find returns the example of that name.
func find(t *testing.T, name string) example {
	t.Helper()
	for _, e := range examples {
		if e.name == name {
			return e
		}
	}
	t.Fatalf("no example %q", name)
	return example{}
}

// root is the example's root directory.
func (e example) root() string { return filepath.Join("examples", e.name, "root") }

// compile returns the State of the spec below a root directory.
func compile(t *testing.T, root string) fib.State {
	t.Helper()
	s, err := spec.Load(rootfs.At(root))
	if err != nil {
		t.Fatal(err)
	}
	state, err := gen.Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// TestExamplesAreAllHere keeps the list above complete.
func TestExamplesAreAllHere(t *testing.T) {
	dirs, err := os.ReadDir("examples")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		find(t, d.Name())
	}
	if len(dirs) != len(examples) {
		t.Errorf("%d directories, %d examples", len(dirs), len(examples))
	}
}

func options(p ...lab.Provider) lab.Options { return lab.Options{Providers: p} }

func provider(card string, gateways ...string) lab.Provider {
	return lab.Provider{Gateways: prefixes(gateways...), Cards: []lab.Card{{Name: card}}}
}

func withMAC(p lab.Provider, last byte) lab.Provider {
	p.Cards = []lab.Card{{Name: p.Cards[0].Name, MAC: net.HardwareAddr{2, 0, 0, 0, 0, last}}}
	return p
}

func withSource(p lab.Provider, sources ...string) lab.Provider {
	p.Sources = prefixes(sources...)
	return p
}

func clientAt(o lab.Options, addresses ...string) lab.Options {
	o.Client = prefixes(addresses...)
	return o
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}
