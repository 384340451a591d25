package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Advertisement is the content of an [Advertiser]'s router advertisements.
type Advertisement struct {
	// Lifetime is how long this router may be used as a default router. 0 means not at all;
	// otherwise it is 4 s or more.
	Lifetime time.Duration

	// Preference is "low", "medium" or "high"; medium if empty.
	Preference string

	// Managed says that addresses come by DHCPv6.
	Managed bool

	// Prefixes are those on this link.
	Prefixes []AdvertisedPrefix

	// Statements are more lines of radvd.conf(5) for the link, such as
	// "route 2001:db8:9::/48 { AdvRouteLifetime 30; };".
	Statements []string
}

// AdvertisedPrefix is a prefix in an [Advertisement]. Hosts give themselves an
// address in it, unless the advertisement is Managed.
type AdvertisedPrefix struct {
	Prefix netip.Prefix

	// Valid and Preferred are its lifetimes, a day and four hours if Valid is
	// 0. A prefix with Preferred 0 is deprecated.
	Valid, Preferred time.Duration
}

// Advertiser is a radvd on one provider's link. It runs until Stop or Kill, or
// until the lab is closed.
type Advertiser struct {
	ns     *Namespace
	link   string
	source netip.Addr
	daemon *process
}

// radvdConf is where each radvd has its configuration, in its own file system.
const radvdConf = "run/lab/radvd.conf"

// StartAdvertiser starts to advertise at the Nth provider, counted from 1. Several advertisers on
// one link are separate routers: source is the link-local address of this one, which is added.
// Without a source it uses the address that the link has. Advertisements are sent every three to
// four seconds, and to everyone who asks.
func (l *Lab) StartAdvertiser(ctx context.Context, provider int, source netip.Addr, what Advertisement) (*Advertiser, error) {
	a := &Advertiser{ns: l.Router, link: fmt.Sprintf("p%d", provider), source: source}
	if err := a.start(ctx, what); err != nil {
		return nil, fmt.Errorf("advertiser of provider %d: %w", provider, errors.Join(err, a.Stop()))
	}
	l.Router.adopt(a)
	return a, nil
}

func (a *Advertiser) start(ctx context.Context, what Advertisement) error {
	if a.source.IsValid() {
		if err := a.ns.addAddress(a.link, netip.PrefixFrom(a.source, 64)); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	err := a.ns.Do(func() error {
		files := []file{{path: radvdConf, mode: 0o644, data: []byte(a.conf(what))}}
		if err := privateMounts("/", files); err != nil {
			return err
		}
		var err error
		a.daemon, err = startProcess("/", nil, "radvd", "--nodaemon", "--debug=3", "--logmethod=stderr",
			"--config=/"+radvdConf, "--pidfile=/run/radvd.pid")
		return err
	})
	if err != nil {
		return err
	}
	return a.daemon.waitLog(ctx, "polling for")
}

// Advertise changes the advertisements, and sends one at once.
func (a *Advertiser) Advertise(what Advertisement) error {
	conf := filepath.Join(fmt.Sprintf("/proc/%d/root", a.daemon.cmd.Process.Pid), radvdConf)
	if err := os.WriteFile(conf, []byte(a.conf(what)), 0o644); err != nil {
		return err
	}
	return a.daemon.cmd.Process.Signal(unix.SIGHUP)
}

// conf writes the configuration of a radvd.
func (a *Advertiser) conf(what Advertisement) string {
	onOff := map[bool]string{true: "on", false: "off"}
	var b strings.Builder
	fmt.Fprintf(&b, "interface %s {\n  AdvSendAdvert on;\n  MinRtrAdvInterval 3;\n  MaxRtrAdvInterval 4;\n", a.link)
	fmt.Fprintf(&b, "  AdvDefaultLifetime %d;\n", int(what.Lifetime/time.Second))
	fmt.Fprintf(&b, "  AdvManagedFlag %s;\n", onOff[what.Managed])
	if what.Preference != "" {
		fmt.Fprintf(&b, "  AdvDefaultPreference %s;\n", what.Preference)
	}
	if a.source.IsValid() {
		fmt.Fprintf(&b, "  AdvRASrcAddress { %s; };\n", a.source)
	}
	for _, p := range what.Prefixes {
		if p.Valid == 0 {
			p.Valid, p.Preferred = 24*time.Hour, 4*time.Hour
		}
		fmt.Fprintf(&b, "  prefix %s {\n    AdvAutonomous %s;\n", p.Prefix, onOff[!what.Managed])
		fmt.Fprintf(&b, "    AdvValidLifetime %d;\n    AdvPreferredLifetime %d;\n  };\n", int(p.Valid/time.Second), int(p.Preferred/time.Second))
	}
	for _, statement := range what.Statements {
		fmt.Fprintf(&b, "  %s\n", statement)
	}
	b.WriteString("};\n")
	return b.String()
}

// Stop ends the advertiser as an orderly router does: the last thing it sends is that it is no
// default router any more.
func (a *Advertiser) Stop() error { return a.daemon.stop() }

// Kill ends it without notice, as a power cut does.
func (a *Advertiser) Kill() { a.daemon.kill() }

// Log returns all that radvd has logged so far.
func (a *Advertiser) Log() string { return a.daemon.log.String() }
