package integration

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/lookup"
)

// gen/lookup says what the kernel would answer. This asks the kernel.

var (
	lookupPackets = flag.Int("lookup.packets", 60000, "how many packets are asked for, of the kernel and of gen/lookup")
	lookupSeed    = flag.Uint64("lookup.seed", 0, "what the states and packets are drawn from; 0 for another one each time")
)

// lookupSettings are the namespaces in which the states are tried, with settings of a host on
// which a lookup depends.
var lookupSettings = []struct {
	name    string
	sysctls map[string]string // "net/" is left out
	lines   []string          // of ip(8)
}{
	{"Plain", nil, nil},
	{"Forwarding", map[string]string{"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}, []string{"link set card1 group 7", "link set card2 group 8"}},
	{"StrictReversePath", map[string]string{"ipv4/ip_forward": "1", "ipv4/conf/all/rp_filter": "1"}, []string{"link set card0 group 7"}},
	{"LooseReversePath", map[string]string{"ipv4/ip_forward": "1", "ipv4/conf/all/rp_filter": "2"}, nil},
	{"NoCarrier", map[string]string{"ipv4/ip_forward": "1"}, []string{"link set card1.peer down"}},
	{"NoCarrierIgnored", map[string]string{
		"ipv4/conf/all/ignore_routes_with_linkdown": "1", "ipv6/conf/all/ignore_routes_with_linkdown": "1", "ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1",
	}, []string{"link set card1.peer down"}},
	{"SilentGateways", nil, nil},
}

// TestLookupAgreesWithTheKernel asks the kernel and gen/lookup for the way of packets in random
// states, and expects the same answers. It prints a disagreement with the smallest state that has
// it.
func TestLookupAgreesWithTheKernel(t *testing.T) {
	t.Parallel()
	require(t)
	seed := *lookupSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-lookup.seed=%d", seed)
	for i, s := range lookupSettings {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			n := kerneltest.NewNamespace(t)
			n.Card(kerneltest.Links...)
			k := n.Kernel()
			a := asker{TB: t, n: n, kernel: k, g: routing{rand.New(rand.NewPCG(seed, uint64(i)))}}
			a.setUp(s.name == "SilentGateways")
			for key, value := range s.sysctls {
				n.Sysctl("net/"+key, value)
			}
			n.IP(s.lines...)
			if strings.HasPrefix(s.name, "NoCarrier") {
				a.waitForLoss("card1")
			}
			const perState = 250
			for asked := 0; asked < *lookupPackets/len(lookupSettings); asked += perState {
				ops := a.g.state()
				a.bring(ops)
				resolver := a.resolver()
				for range perState {
					p := a.g.packet()
					if wrong := a.differs(resolver, p); wrong != "" {
						a.clear()
						a.report(ops, p, wrong)
						return
					}
				}
				a.clear()
			}
		})
	}
}

// asker asks the kernel of a namespace.
type asker struct {
	testing.TB
	n      *kerneltest.Namespace
	kernel apply.Kernel
	g      routing
	failed map[lookup.Neighbour]bool
}

// setUp gives the cards the addresses that random routes need, and makes some gateways stop
// answering.
func (a *asker) setUp(silent bool) {
	for i, link := range kerneltest.Links {
		for _, p := range kerneltest.Setup(i) {
			line := fmt.Sprintf("address add %s dev %s", p, link)
			if p.Addr().Is4() {
				line += " brd +"
			}
			a.n.IP(line)
		}
	}
	a.n.Settle()
	// Until there is a first rule of somebody's, IPv4 has one table for local and main, and
	// says main of what it finds there (fib_unmerge in net/ipv4/fib_frontend.c).
	a.n.IP("rule add priority 1 lookup main", "rule del priority 1", "-6 rule add priority 1 lookup main", "-6 rule del priority 1")
	if !silent {
		return
	}
	a.failed = map[lookup.Neighbour]bool{}
	for i, link := range kerneltest.Links[:2] {
		gateway := a.g.gateway(fib.Inet6, i, 0)
		a.failed[lookup.Neighbour{Link: link, Addr: gateway}] = true
		a.n.IP(fmt.Sprintf("-6 neighbour add %s dev %s nud failed", gateway, link))
	}
}

// waitForLoss waits until the kernel has acted on the loss of a carrier.
func (a *asker) waitForLoss(link string) {
	for range 1000 {
		if out, err := a.n.Run("", "ip", "-6", "route", "show", "table", "all", "dev", link); err == nil && strings.Contains(out, "linkdown") {
			return
		}
	}
	a.Fatal("the kernel does not see that the carrier is lost")
}

// bring executes operations, some of which the kernel may refuse.
func (a *asker) bring(ops []apply.Op) {
	for _, err := range a.kernel.Execute(ops) {
		var refused *apply.OpError
		if err != nil && !errors.As(err, &refused) {
			a.Fatal(err)
		}
	}
}

// clear removes what was brought about, until nothing is left: where rules differ only in `not`,
// the kernel may delete another one than was meant.
func (a *asker) clear() {
	for range 10 {
		s, err := a.kernel.Observe(apply.Scope{})
		if err != nil {
			a.Fatal(err)
		}
		var ops []apply.Op
		for _, r := range s.Rules {
			if r.Ours() {
				ops = append(ops, apply.Op{Verb: apply.RuleDel, Rule: &r.Rule})
			}
		}
		for _, r := range s.Routes {
			ops = append(ops, apply.Op{Verb: apply.RouteDel, Route: &r.Route})
		}
		if len(ops) == 0 {
			return
		}
		a.kernel.Execute(ops)
	}
	a.Fatal("something is left")
}

// resolver observes the kernel.
func (a *asker) resolver() *lookup.Resolver {
	s, err := a.kernel.Observe(apply.Scope{Foreign: true, Local: true})
	if err != nil {
		a.Fatal(err)
	}
	return lookup.New(hostOf(s, a.n.Hardware(), a.failed))
}

// hostOf makes what gen/lookup takes of what was observed.
func hostOf(s apply.Snapshot, hw apply.Hardware, failed map[lookup.Neighbour]bool) lookup.Host {
	h := lookup.Host{Forwarding6: hw.Sysctl("ipv6", "all", "forwarding") == "1", Failed: failed}
	for _, l := range s.Links {
		sysctl := func(name string) string { return max(hw.Sysctl("ipv4", "all", name), hw.Sysctl("ipv4", l.Name, name)) }
		h.Links = append(h.Links, lookup.Link{
			Name: l.Name, Up: l.Up, Carrier: l.Carrier, Loopback: l.Loopback, Group: l.Group,
			Forwarding: hw.Sysctl("ipv4", l.Name, "forwarding") == "1", ReversePath: sysctl("rp_filter")[0] - '0',
			IgnoreLinkDown: sysctl("ignore_routes_with_linkdown") == "1",
		})
	}
	for _, a := range s.Addresses {
		h.Addresses = append(h.Addresses, a.Address)
	}
	for _, r := range s.Routes {
		h.Routes = append(h.Routes, r.Route)
	}
	for _, r := range s.Rules {
		h.Rules = append(h.Rules, r.Rule)
	}
	return h
}

// differs says in what the answers to a packet differ, or "".
func (a *asker) differs(k *lookup.Resolver, p lookup.Packet) string {
	res := k.Trace(p)
	if quick := k.Lookup(p); fmt.Sprint(quick.Ways(), quick.Reason) != fmt.Sprint(res.Ways(), res.Reason) {
		return fmt.Sprintf("Trace says %+v, and Lookup %+v", res.Ways(), quick.Ways())
	}
	have, err := a.kernel.RouteGet(apply.Packet(p))
	if errors.Is(err, syscall.EXDEV) { // what rp_filter answers
		have, err = apply.Way{Type: fib.RouteBlackhole}, nil
	}
	for _, w := range res.Ways() {
		if err == nil && sameWay(have, apply.Way(w), p) {
			return ""
		}
	}
	return fmt.Sprintf("the kernel says %+v, %v\nlookup says     %+v, %s\n%s", have, err, res.Ways(), res.Reason, stepsOf(&res))
}

// sameWay compares what both sides say: for a packet that has a source, or comes in, the kernel
// names no other source.
func sameWay(have, want apply.Way, p lookup.Packet) bool {
	if !want.Type.HasDevice() {
		return have.Type == want.Type
	}
	if p.From.IsValid() || p.IIF != "" {
		have.Src, want.Src = netip.Addr{}, netip.Addr{}
	}
	return have == want
}

func stepsOf(r *lookup.Result) string {
	var b strings.Builder
	for _, s := range r.Steps {
		fmt.Fprintf(&b, "  %s: %s %s%s", fib.Syntax{Device: identity}.Rule("", *s.Rule), s.Outcome, s.Selector, s.Why)
		if s.Route != nil {
			fmt.Fprintf(&b, ": %s", fib.Syntax{Device: identity}.Route("", *s.Route))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func identity(link string) string { return link }

// report removes what the disagreement does not need, and prints the rest.
func (a *asker) report(ops []apply.Op, p lookup.Packet, wrong string) {
	for i := 0; i < len(ops); {
		fewer := slices.Delete(slices.Clone(ops), i, i+1)
		a.bring(fewer)
		still := a.differs(a.resolver(), p)
		a.clear()
		if still == "" {
			i++
		} else {
			ops, wrong, i = fewer, still, 0
		}
	}
	var b strings.Builder
	for _, o := range ops {
		fmt.Fprintf(&b, "ip %s\n", o.Batch())
	}
	a.Errorf("packet %+v\n%s%s", p, b.String(), wrong)
}
