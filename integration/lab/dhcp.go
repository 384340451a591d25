package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Offer is what a [DHCPServer] gives to those who ask.
type Offer struct {
	// First and Last bound the addresses, both included, and determine the family. If they are
	// equal, the only card gets that address. Without Last there is only First.
	First, Last netip.Addr

	// Subnet is the prefix that First and Last are in; by default that of the provider's gateway.
	Subnet netip.Prefix

	// Router is the gateway that goes with an IPv4 address; by default the provider's. For IPv6,
	// router advertisements announce it.
	Router netip.Addr

	// Lease is how long an address may be used; by default an hour. Clients ask again after half
	// of it.
	Lease time.Duration

	// Statements are more lines of dhcpd.conf(5) for the subnet, such as
	// "option rfc3442 24, 10, 0, 0, 192, 0, 2, 1;".
	Statements []string
}

// DHCPServer is a dhcpd that answers the cards of one provider, for one family. It runs until
// Stop, or until the lab is closed.
//
// It is ISC's rather than dnsmasq, whose leases are never shorter than two minutes.
type DHCPServer struct {
	lab      *Lab
	provider int
	daemon   *process
	offered  []Offer         // all that it ever offered
	log      strings.Builder // of the processes that ran before
}

// StartDHCPServer starts a server for the Nth provider, counted from 1. It
// returns when the server listens.
func (l *Lab) StartDHCPServer(ctx context.Context, provider int, offer Offer) (*DHCPServer, error) {
	s := &DHCPServer{lab: l, provider: provider}
	if err := s.Change(ctx, offer); err != nil {
		return nil, err
	}
	l.Router.adopt(s)
	return s, nil
}

// Change makes the server offer something else: other addresses, other lifetimes. A client that
// asks for an address it had, and that is not offered any more, is answered NAK (IPv4), or is
// given another one beside it (IPv6).
func (s *DHCPServer) Change(ctx context.Context, offer Offer) error {
	if err := s.Stop(); err != nil {
		return err
	}
	if err := s.start(ctx, offer); err != nil {
		return fmt.Errorf("DHCP server of provider %d: %w", s.provider, errors.Join(err, s.Stop()))
	}
	return nil
}

func (s *DHCPServer) start(ctx context.Context, offer Offer) error {
	conf, err := s.lab.dhcpdConf(s.provider, offer, s.offered)
	if err != nil {
		return err
	}
	s.offered = append(s.offered, offer)
	family := "-4"
	if offer.First.Is6() {
		family = "-6"
	}
	link := fmt.Sprintf("p%d", s.provider)
	const (
		confFile = "run/lab/dhcpd.conf"
		leases   = "run/lab/dhcpd.leases"
	)
	err = s.lab.Router.Do(func() error {
		files := []file{
			{path: confFile, mode: 0o644, data: []byte(conf)},
			{path: leases, mode: 0o644},
		}
		if err := privateMounts("/", files, "var"); err != nil {
			return err
		}
		s.daemon, err = startProcess("/", nil, "dhcpd", family, "-f", "-d", "--no-pid",
			"-cf", "/"+confFile, "-lf", "/"+leases, link)
		return err
	})
	if err != nil {
		return err
	}
	return s.daemon.waitLog(ctx, "Server starting service")
}

// dhcpdConf writes the configuration of a dhcpd that has made other offers before.
func (l *Lab) dhcpdConf(provider int, o Offer, before []Offer) (string, error) {
	if !o.First.IsValid() {
		return "", errors.New("an offer without an address")
	}
	v6 := o.First.Is6()
	gateway, err := l.gateway(provider, v6)
	if err != nil {
		return "", err
	}
	if !o.Subnet.IsValid() {
		o.Subnet = gateway.Masked()
	}
	if !o.Router.IsValid() {
		o.Router = gateway.Addr()
	}
	if o.Lease == 0 {
		o.Lease = time.Hour
	}
	seconds := int(o.Lease / time.Second)

	var b strings.Builder
	fmt.Fprintf(&b, "authoritative;\nping-check false;\nddns-update-style none;\n")
	// Clients would not ask a server with another identity to renew.
	fmt.Fprintf(&b, "server-duid LL ethernet 02:00:00:00:00:01;\n")
	// Otherwise a lease that is renewed early would not start again.
	fmt.Fprintf(&b, "dhcp-cache-threshold 0;\n")
	fmt.Fprintf(&b, "default-lease-time %d;\nmin-lease-time %[1]d;\nmax-lease-time %[1]d;\n", seconds)
	fmt.Fprintf(&b, "option rfc3442 code 121 = array of unsigned integer 8;\n")
	if v6 {
		fmt.Fprintf(&b, "preferred-lifetime %d;\noption dhcp-renewal-time %d;\noption dhcp-rebinding-time %d;\n", seconds, seconds/2, seconds*7/8)
		fmt.Fprintf(&b, "subnet6 %s {\n  range6 %s %s;\n", o.Subnet, o.First, o.last())
	} else {
		mask := ipNet(o.Subnet).Mask
		fmt.Fprintf(&b, "subnet %s netmask %d.%d.%d.%d {\n  pool { range %s %s; }\n", o.Subnet.Addr(), mask[0], mask[1], mask[2], mask[3], o.First, o.last())
		// The server would not answer about addresses that it does not know.
		for a := range gone(o, before) {
			fmt.Fprintf(&b, "  pool { deny all clients; range %s; }\n", a)
		}
		fmt.Fprintf(&b, "  option routers %s;\n", o.Router)
	}
	for _, statement := range o.Statements {
		fmt.Fprintf(&b, "  %s\n", statement)
	}
	b.WriteString("}\n")
	return b.String(), nil
}

// last returns the last address of an offer.
func (o Offer) last() netip.Addr {
	if o.Last.IsValid() {
		return o.Last
	}
	return o.First
}

// gone lists the addresses of the subnet that were offered before and are not
// now. An offer's Subnet must be set.
func gone(now Offer, before []Offer) map[netip.Addr]bool {
	addrs := make(map[netip.Addr]bool)
	for _, o := range before {
		for a := o.First; a.Compare(o.last()) <= 0; a = a.Next() {
			if now.Subnet.Contains(a) && (a.Less(now.First) || now.last().Less(a)) {
				addrs[a] = true
			}
		}
	}
	return addrs
}

// gateway returns the router's first address of a family on a provider's link.
func (l *Lab) gateway(provider int, v6 bool) (netip.Prefix, error) {
	if provider >= 1 && provider <= len(l.gateways) {
		for _, p := range l.gateways[provider-1] {
			if p.Addr().Is6() == v6 {
				return p, nil
			}
		}
	}
	return netip.Prefix{}, fmt.Errorf("provider %d has no gateway of this family", provider)
}

// Stop makes the server fall silent. Its leases run out. [DHCPServer.Change] starts it again.
func (s *DHCPServer) Stop() error {
	if s.daemon == nil {
		return nil
	}
	err := s.daemon.stop()
	s.log.WriteString(s.daemon.log.String())
	s.daemon = nil
	return err
}

// Log returns all that the server has logged so far, each message of the
// clients among it.
func (s *DHCPServer) Log() string {
	if s.daemon == nil {
		return s.log.String()
	}
	return s.log.String() + s.daemon.log.String()
}
