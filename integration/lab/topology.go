package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Options says what a lab looks like. The zero value is a host without cards.
type Options struct {
	// Providers are the networks that the host has cards in. The router's end
	// of the Nth is called pN, counted from 1.
	Providers []Provider

	// Client has the client's addresses with their prefix lengths; the router
	// takes the first address of each prefix. Without any the client has
	// 203.0.113.10/24 and 2001:db8:ffff::10/64.
	Client []netip.Prefix

	// HostSysctls are set in the host before it gets its cards, over the
	// kernel's own defaults. Keys are as in [Namespace.Sysctl].
	HostSysctls map[string]string
}

// Provider is one network that the host is connected to.
type Provider struct {
	// Gateways are the addresses of the router's end with their prefix
	// lengths, of either family or both.
	Gateways []netip.Prefix

	// Sources are prefixes that packets from the host may come from, beside
	// those of Gateways. From any other source they are dropped.
	Sources []netip.Prefix

	// Unfiltered lets packets pass from any source.
	Unfiltered bool

	// Cards are the host's cards in this network. Where there are several,
	// the router's end is a bridge over pNc1, pNc2 and so on.
	Cards []Card
}

// Card is a network card of the host.
type Card struct {
	// Name is the card's name in the host, such as eth0.
	Name string

	// MAC is the card's hardware address. Without one it is
	// 02:00:00:00:NN:CC, the numbers of the provider and of the card in it.
	MAC net.HardwareAddr

	// Up sets the card up. Otherwise it is down as on a fresh boot.
	Up bool
}

// TwoUplinks returns the smallest lab that needs policy routing: eth0 and eth1
// at two providers, whose gateways are 192.0.2.1/24, 2001:db8:1::1/64 and
// 198.51.100.1/24, 2001:db8:2::1/64.
func TwoUplinks() Options {
	return Options{Providers: []Provider{
		{
			Gateways: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8:1::1/64")},
			Cards:    []Card{{Name: "eth0"}},
		},
		{
			Gateways: []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24"), netip.MustParsePrefix("2001:db8:2::1/64")},
			Cards:    []Card{{Name: "eth1"}},
		},
	}}
}

// Lab is a small network; the package comment has a picture of it. Close it
// after use.
type Lab struct {
	// Host is the host under test.
	Host *Namespace
	// Router stands for all the providers.
	Router *Namespace
	// Client is a machine behind the router.
	Client *Namespace

	clientAddrs []netip.Addr
	gateways    [][]netip.Prefix // by provider
	ports       map[int]port     // by the number of the router's link
	cables      int
}

// port is the router's end of one card's cable.
type port struct {
	card     string
	provider int
}

const (
	// clientLink is the router's link towards the client.
	clientLink = "client"

	// firstPort is the number of the router's first link, beyond those of all
	// the other ends.
	firstPort = 1 << 16
)

// New makes a lab. On error nothing is left of it.
func New(opts Options) (*Lab, error) {
	l := &Lab{ports: make(map[int]port)}
	err := l.build(opts)
	if err == nil {
		err = l.settle(context.Background())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lab: %w", err), l.Close())
	}
	return l, nil
}

// Close stops every networkd that was started in the lab and removes the lab.
// It may be called more than once.
func (l *Lab) Close() error {
	var errs []error
	for _, n := range []**Namespace{&l.Host, &l.Client, &l.Router} {
		if *n != nil {
			errs = append(errs, (*n).close())
			*n = nil
		}
	}
	return errors.Join(errs...)
}

// ClientAddr returns the client's first IPv4 address, or its first IPv6
// address if v6 is true; the zero Addr if it has none.
func (l *Lab) ClientAddr(v6 bool) netip.Addr {
	i := slices.IndexFunc(l.clientAddrs, func(a netip.Addr) bool { return a.Is6() == v6 })
	if i < 0 {
		return netip.Addr{}
	}
	return l.clientAddrs[i]
}

// settle waits for the links of all three, see [Namespace.settleLinks].
func (l *Lab) settle(ctx context.Context) error {
	for _, n := range []*Namespace{l.Host, l.Router, l.Client} {
		if err := n.settleLinks(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) build(opts Options) error {
	if len(opts.Client) == 0 {
		opts.Client = []netip.Prefix{netip.MustParsePrefix("203.0.113.10/24"), netip.MustParsePrefix("2001:db8:ffff::10/64")}
	}
	id := fmt.Sprintf("%s%d-%d-", namePrefix, os.Getpid(), labCount.Add(1))
	for _, n := range []struct {
		to      **Namespace
		role    string
		sysctls []map[string]string
	}{
		{&l.Host, "host", []map[string]string{neutral, opts.HostSysctls}},
		{&l.Router, "router", []map[string]string{neutral, noDAD, forwarding}},
		{&l.Client, "client", []map[string]string{neutral, noDAD}},
	} {
		var err error
		if *n.to, err = newNamespace(id + n.role); err != nil {
			return err
		}
		for _, values := range n.sysctls {
			if err := (*n.to).sysctls(values); err != nil {
				return fmt.Errorf("%s: %w", n.role, err)
			}
		}
	}
	if err := l.addClient(opts.Client); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	for i, p := range opts.Providers {
		l.gateways = append(l.gateways, p.Gateways)
		if err := l.addProvider(i+1, p); err != nil {
			return fmt.Errorf("provider %d: %w", i+1, err)
		}
	}
	return nil
}

var (
	// neutral undoes what a new namespace takes over from the machine, whose IPv4 settings come
	// from its own distribution.
	neutral = map[string]string{
		"net.ipv4.ip_forward":                 "0",
		"net.ipv4.conf.all.rp_filter":         "0",
		"net.ipv4.conf.default.rp_filter":     "0",
		"net.ipv4.conf.all.arp_filter":        "0",
		"net.ipv4.conf.default.arp_filter":    "0",
		"net.ipv4.conf.all.arp_ignore":        "0",
		"net.ipv4.conf.default.arp_ignore":    "0",
		"net.ipv4.conf.all.arp_announce":      "0",
		"net.ipv4.conf.default.arp_announce":  "0",
		"net.ipv6.conf.all.disable_ipv6":      "0",
		"net.ipv6.conf.default.disable_ipv6":  "0",
		"net.ipv6.conf.default.accept_dad":    "1",
		"net.ipv6.conf.default.addr_gen_mode": "0",
	}

	// noDAD saves the second or more for which an address would be tentative.
	noDAD = map[string]string{
		"net.ipv6.conf.default.accept_dad": "0",
		"net.ipv6.conf.default.accept_ra":  "0",
	}

	forwarding = map[string]string{
		"net.ipv4.ip_forward":          "1",
		"net.ipv6.conf.all.forwarding": "1",
		// A host that sends by the wrong card must not be told the right one.
		"net.ipv4.conf.all.send_redirects":     "0",
		"net.ipv4.conf.default.send_redirects": "0",
	}
)

// addClient lays the cable between router and client.
func (l *Lab) addClient(addrs []netip.Prefix) error {
	if err := l.cable(clientLink, l.Client, Card{Name: "eth0", Up: true}); err != nil {
		return err
	}
	if err := l.Router.up(clientLink); err != nil {
		return err
	}
	for _, p := range addrs {
		gateway := p.Masked().Addr().Next()
		if err := l.Router.addAddress(clientLink, netip.PrefixFrom(gateway, p.Bits())); err != nil {
			return err
		}
		if err := l.Client.addAddress("eth0", p); err != nil {
			return err
		}
		if err := l.Client.nl.RouteAdd(&netlink.Route{Dst: ipNet(anywhere(gateway)), Gw: gateway.AsSlice()}); err != nil {
			return fmt.Errorf("default route via %s: %w", gateway, err)
		}
		l.clientAddrs = append(l.clientAddrs, p.Addr())
	}
	return nil
}

// addProvider makes the Nth provider with all the host's cards in it.
func (l *Lab) addProvider(number int, p Provider) error {
	name := fmt.Sprintf("p%d", number)
	bridged := len(p.Cards) != 1
	if bridged {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		noSnooping := false
		if err := l.Router.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &noSnooping}); err != nil {
			return fmt.Errorf("%s: add bridge: %w", name, err)
		}
		if err := l.Router.up(name); err != nil {
			return err
		}
	}
	for i, card := range p.Cards {
		end := name
		if bridged {
			end = fmt.Sprintf("%sc%d", name, i+1)
		}
		if card.MAC == nil {
			card.MAC = net.HardwareAddr{2, 0, 0, 0, byte(number), byte(i + 1)}
		}
		if err := l.cable(end, l.Host, card); err != nil {
			return err
		}
		link, err := l.Router.nl.LinkByName(end)
		if err != nil {
			return fmt.Errorf("%s: %w", end, err)
		}
		l.ports[link.Attrs().Index] = port{card.Name, number}
		if bridged {
			bridge, err := l.Router.nl.LinkByName(name)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if err := l.Router.nl.LinkSetMaster(link, bridge); err != nil {
				return fmt.Errorf("%s: add to %s: %w", end, name, err)
			}
		}
		if err := l.Router.up(end); err != nil {
			return err
		}
	}
	for _, gateway := range p.Gateways {
		if err := l.Router.addAddress(name, gateway); err != nil {
			return err
		}
	}
	if p.Unfiltered {
		return nil
	}
	return l.filter(name, append(slices.Clone(p.Gateways), p.Sources...))
}

// cable connects the router, under the name end, with a card in another
// namespace. Both ends are made where they belong, so that no name is ever
// taken in the machine's own namespace.
func (l *Lab) cable(end string, to *Namespace, card Card) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = end
	// The kernel takes a veth that has the same number as its peer for a link without a peer, and
	// then waits up to a second before it acts on the carrier. The other ends are numbered from
	// 2.
	attrs.Index = firstPort + l.cables
	l.cables++
	veth := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         card.Name,
		PeerNamespace:    netlink.NsFd(to.handle),
		PeerHardwareAddr: card.MAC,
	}
	if err := l.Router.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("%s: add veth with peer %s: %w", end, card.Name, err)
	}
	if !card.Up {
		return nil
	}
	return to.up(card.Name)
}

// filter makes the router drop what comes in on a link from any source outside the given
// prefixes. It uses rules, so that no packet filter is needed; table local comes before them, and
// has what is for the router itself.
func (l *Lab) filter(name string, sources []netip.Prefix) error {
	// Neighbour discovery uses these two as sources.
	sources = append(sources, netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("::/128"))
	for _, source := range sources {
		rule := netlink.NewRule()
		rule.Family = family(source.Addr())
		rule.IifName = name
		rule.Src = ipNet(source.Masked())
		rule.Table = unix.RT_TABLE_MAIN
		rule.Priority = 100
		// Two gateways in one prefix need the rule once.
		if err := l.Router.nl.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("%s: rule from %s: %w", name, source, err)
		}
	}
	for _, f := range []int{unix.AF_INET, unix.AF_INET6} {
		rule := netlink.NewRule()
		rule.Family = f
		rule.IifName = name
		rule.Type = unix.RTN_BLACKHOLE
		rule.Priority = 200
		if err := l.Router.nl.RuleAdd(rule); err != nil {
			return fmt.Errorf("%s: blackhole rule: %w", name, err)
		}
	}
	return nil
}

// addAddress gives a link an address that can be used at once.
func (n *Namespace) addAddress(name string, addr netip.Prefix) error {
	link, err := n.nl.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	a := &netlink.Addr{IPNet: &net.IPNet{IP: addr.Addr().AsSlice(), Mask: ipNet(addr).Mask}}
	if addr.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := n.nl.AddrAdd(link, a); err != nil {
		return fmt.Errorf("%s: address %s: %w", name, addr, err)
	}
	return nil
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// anywhere returns the default destination of an address's family.
func anywhere(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
