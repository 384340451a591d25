package integration

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// learning is a host whose second card learns everything that it has.
const learning = `
[uplink.isp1]
interface = "eth0"
addresses = ["192.0.2.10/24", "2001:db8:1::10/64"]
gateways  = ["192.0.2.1", "2001:db8:1::1"]

[uplink.rt2]
interface = "eth1"
table     = 1
dhcp      = "yes"
accept-ra = "yes"
`

// background starts a command that lasts no longer than the test.
func background(t *testing.T, cmd *exec.Cmd) *lab.Buffer {
	t.Helper()
	log := &lab.Buffer{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", strings.Join(cmd.Args, " "), log)
		}
	})
	return log
}

// watched is a host on which uplinkctl watch runs.
type watched struct {
	*cli
	*lab.Lab
	watch  *exec.Cmd
	log    *lab.Buffer
	events *lab.Buffer // ip monitor, with the time of each
}

// bootWatched brings a spec about on a host with two cards, and starts a watch that keeps it.
func bootWatched(t *testing.T, spec string) *watched {
	t.Helper()
	require(t, lab.NeedDHCP, lab.NeedBus, lab.NeedNetworkd)
	_, l, c := bootHost(t, provider1, provider2)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	c.ctx = ctx
	w := &watched{cli: c, Lab: l}
	w.events = background(t, l.Host.Command(ctx, "ip", "-ts", "-o", "-N", "monitor", "address", "rule", "route"))
	c.spec(spec)
	w.ok("apply")
	w.start()
	return w
}

// start starts uplinkctl watch.
func (w *watched) start() {
	w.t.Helper()
	w.watch = w.command("watch")
	w.log = background(w.t, w.watch)
}

// leased are the rules and routes for a lease of the second provider.
func leased(a netip.Addr) []string {
	host, gateway, subnet := netip.PrefixFrom(a, a.BitLen()), "198.51.100.1", "198.51.100.0/24 dev eth1 src "+a.String()
	list := []string{"from " + host.String() + " lookup 1", "to " + host.String() + " lookup 1"}
	if a.Is4() {
		list = append(list, "table 1 "+subnet, "table 1 0.0.0.0/0 via "+gateway+" dev eth1")
	}
	return list
}

// advertised are the routes of table 1 that follow from what the second provider's router
// advertises.
func (w *watched) advertised() []string {
	w.t.Helper()
	return []string{"table 1 2001:db8:2::/64 dev eth1", "table 1 ::/0 via " + w.linkLocal("p2") + " dev eth1"}
}

// linkLocal returns the address that the router has on a link by itself.
func (w *watched) linkLocal(link string) string {
	w.t.Helper()
	list, err := w.Router.Addresses(w.ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, a := range list {
		if ip := a.Prefix.Addr(); a.Link == link && ip.Is6() && ip.IsLinkLocalUnicast() {
			return ip.String()
		}
	}
	w.t.Fatal("no link-local address on ", link)
	return ""
}

// ours returns what bears our protocol number and is about the second uplink, without
// metrics: these are the client's choice.
func (w *watched) ours() (list []string, err error) {
	rules, err := w.Host.Rules(w.ctx)
	if err != nil {
		return nil, err
	}
	routes, err := w.Host.Routes(w.ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range rules {
		if r.Protocol != fib.Protocol || r.Table != 1 {
			continue
		}
		if r.To.IsValid() {
			list = append(list, fmt.Sprintf("to %s lookup 1", r.To))
		} else {
			list = append(list, fmt.Sprintf("from %s lookup 1", r.From))
		}
	}
	for _, r := range routes {
		if r.Protocol != fib.Protocol || r.Table != 1 {
			continue
		}
		line := "table 1 " + r.Dst.String()
		if r.Gateway.IsValid() {
			line += " via " + r.Gateway.String()
		}
		line += " dev " + r.Dev
		if r.PrefSrc.IsValid() && !r.Gateway.IsValid() {
			line += " src " + r.PrefSrc.String()
		}
		list = append(list, line)
	}
	slices.Sort(list)
	return list, nil
}

// becomes waits until the second uplink has just these rules and routes.
func (w *watched) becomes(what string, want ...string) {
	w.t.Helper()
	slices.Sort(want)
	var have []string
	start := time.Now()
	limit, cancel := context.WithTimeout(w.ctx, 70*time.Second)
	defer cancel()
	err := lab.Poll(limit, func() (bool, string) {
		var err error
		if have, err = w.ours(); err != nil {
			return false, err.Error()
		}
		return slices.Equal(have, want), ""
	})
	if err != nil {
		w.t.Fatalf("%s: %v: the second uplink has\n%s\nwant\n%s", what, err, strings.Join(have, "\n"), strings.Join(want, "\n"))
	}
	w.t.Logf("%s: after %v", what, time.Since(start).Round(time.Millisecond))
}

// answers checks that each address is answered by the second card, and that verify agrees.
func (w *watched) answers(addrs ...netip.Addr) {
	w.t.Helper()
	if err := w.Host.WaitSettled(w.ctx); err != nil {
		w.t.Fatal(err)
	}
	got, err := w.TCPEcho(w.ctx, answerTime, addrs...)
	for range 2 {
		// A link that has just come up may take a second or two to carry anything, and the
		// clients have to look up its address once more.
		if err == nil && slices.ContainsFunc(got, func(a lab.Answer) bool { return !a.Answered }) {
			got, err = w.TCPEcho(w.ctx, answerTime, addrs...)
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
	for _, a := range got {
		if !a.Answered || a.Card != "eth1" {
			w.t.Errorf("%s; want an answer by eth1", a)
		}
	}
	v := w.run("verify")
	if v.code != 0 || strings.Contains(v.stdout, "\nwait") {
		w.t.Errorf("verify: exit status %d\n%s%s", v.code, v.stdout, v.stderr)
	}
	for _, a := range addrs {
		if !strings.Contains(v.stdout, "from "+a.String()+" to ") {
			w.t.Errorf("verify does not ask from %s:\n%s", a, v.stdout)
		}
	}
	w.run("diff").expect(w.t, "diff", 0, "", "")
}

// delay is the time from the kernel's report of an address to its report of the rule for it.
func (w *watched) delay(a netip.Addr) time.Duration {
	w.t.Helper()
	var address, rule time.Time
	for line := range strings.Lines(w.events.String()) {
		stamp, rest, ok := strings.Cut(strings.TrimPrefix(line, "["), "] ")
		at, err := time.Parse("2006-01-02T15:04:05.999999", stamp)
		if !ok || err != nil || strings.HasPrefix(rest, "Deleted") {
			continue
		}
		switch {
		case strings.Contains(rest, " "+a.String()+"/") && strings.Contains(rest, " inet"):
			if address.IsZero() {
				address = at
			}
		case strings.Contains(rest, "from "+a.String()+" lookup 1"):
			if rule.IsZero() {
				rule = at
			}
		}
	}
	if address.IsZero() || rule.IsZero() {
		w.t.Errorf("no address or no rule of %s among the events:\n%s", a, w.events)
		return 0
	}
	return rule.Sub(address)
}

// lease is how long an address is lent in these tests.
const lease = 12 * time.Second

// TestWatchFollowsEachClient makes each DHCP client get a lease, get another address when it
// renews, and lose everything when there is no server any more. The uplink's rules and table
// follow, and nothing is left.
func TestWatchFollowsEachClient(t *testing.T) {
	for _, program := range lab.Programs() {
		t.Run(string(program), func(t *testing.T) {
			t.Parallel()
			v6 := program != lab.ClientUdhcpc
			spec := learning
			if !v6 {
				spec = strings.NewReplacer("\"yes\"\naccept", "\"ipv4\"\naccept", "accept-ra = \"yes\"", "").Replace(learning)
			}
			w := bootWatched(t, spec)
			first, second := netip.MustParseAddr("198.51.100.50"), netip.MustParseAddr("198.51.100.60")
			six := netip.MustParseAddr("2001:db8:2::50")
			dhcp := w.serve(first, lease)
			var stay []string
			if v6 {
				w.serve(six, time.Hour)
				w.advertise(lab.Advertisement{Lifetime: time.Hour, Managed: true, Prefixes: []lab.AdvertisedPrefix{{Prefix: netip.MustParsePrefix("2001:db8:2::/64")}}})
				stay = append(w.advertised(), leased(six)...)
			}
			of := func(a netip.Addr) []string {
				list := append(leased(a), stay...)
				if program == lab.ClientNetworkd { // a route of its own to the gateway
					list = append(list, "table 1 198.51.100.1/32 dev eth1 src "+a.String())
				}
				return list
			}
			c, err := w.Host.StartClient(w.ctx, lab.ClientOptions{Program: program, Links: []string{"eth1"}, IPv4: true, IPv6: v6})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if t.Failed() {
					t.Logf("%s:\n%s", program, c.Log())
				}
			}()
			w.becomes("lease", of(first)...)
			all := []netip.Addr{first}
			if v6 {
				all = append(all, six)
			}
			w.answers(all...)

			// It asks for the address that it has, and the server refuses.
			if err := dhcp.Change(w.ctx, lab.Offer{First: second, Lease: lease}); err != nil {
				t.Fatal(err)
			}
			if program == lab.ClientNetworkManager {
				// It asks again only after a minute or more by itself.
				w.becomes("no address", stay...)
				if _, err := c.Run(w.ctx, "nmcli", "connection", "up", "eth1"); err != nil {
					t.Fatal(err)
				}
			}
			w.becomes("another address", of(second)...)
			all[0] = second
			w.answers(all...)

			if err := dhcp.Stop(); err != nil {
				t.Fatal(err)
			}
			w.becomes("no server", stay...)
			for _, a := range all {
				t.Logf("rule of %s: %v after its address", a, w.delay(a))
			}
		})
	}
}

// serve has the second provider give an address away.
func (w *watched) serve(a netip.Addr, lease time.Duration) *lab.DHCPServer {
	w.t.Helper()
	s, err := w.StartDHCPServer(w.ctx, 2, lab.Offer{First: a, Lease: lease})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// advertise has the second provider's router say what it is.
func (w *watched) advertise(what lab.Advertisement) *lab.Advertiser {
	w.t.Helper()
	a, err := w.StartAdvertiser(w.ctx, 2, netip.Addr{}, what)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}
