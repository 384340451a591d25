package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/lookup"
	"github.com/uplink-generator/uplink-generator/units"
)

// TestLookupOfASpecAgreesWithTheKernel checks that what gen/lookup says from a State alone is
// what the kernel says once `uplinkctl apply` has brought the State about.
func TestLookupOfASpecAgreesWithTheKernel(t *testing.T) {
	t.Parallel()
	require(t)
	seed := *lookupSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-lookup.seed=%d", seed)
	specs := *lookupPackets / 1500
	dir := t.TempDir()
	for number := uint64(0); specs > 0; number++ {
		d := draw(seed, number)
		s, err := d.valid(dir, units.Version{Major: 257})
		if err != nil || len(s.others.addresses) > 0 {
			continue // not a spec, or one that leaves the links to others
		}
		specs--
		state, err := s.state()
		if err != nil {
			t.Fatal(err)
		}
		for i := range state.Links {
			state.Links[i].Match = fib.Match{Name: s.device(state.Links[i])}
		}
		if wrong := lookupDiffers(t, state, rand.New(rand.NewPCG(seed, number))); wrong != "" {
			t.Fatalf("spec %d:\n%s\n%s", number, state.Text(), wrong)
		}
	}
}

// lookupDiffers brings a State about and says for which packet the answers differ.
func lookupDiffers(t *testing.T, state fib.State, g *rand.Rand) string {
	n := kerneltest.NewNamespace(t)
	for _, l := range state.Links {
		n.Card(l.Match.Name)
	}
	n.IP("rule add priority 1 lookup main", "rule del priority 1")
	a := asker{TB: t, n: n, kernel: n.Kernel()}
	applier := apply.Applier{Kernel: a.kernel, Hardware: n.Hardware()}
	if r, err := applier.Apply(context.Background(), state); err != nil || len(r.Waiting) > 0 {
		return "" // a second link on a subnet, an MTU without IPv6: tested elsewhere
	}
	n.Settle()
	host := lookup.FromState(state)
	k := lookup.New(host)
	for range 100 {
		p := packetFor(g, host)
		if wrong := a.differs(k, p); wrong != "" {
			return fmt.Sprintf("%+v\n%s", p, wrong)
		}
		if p.To.Is4() || p.From.IsValid() {
			continue
		}
		p.IPProto, p.SPort, p.DPort = unix.IPPROTO_UDP, 3000, 9
		res := k.Lookup(p)
		want := []netip.Addr{res.Final().Packet.From}
		for _, w := range res.Final().Ways() {
			want = append(want, w.Src)
		}
		have, err := a.connect(p)
		switch {
		case err != nil && !res.Final().OK():
		case err == nil && slices.Contains(want, have):
		default:
			return fmt.Sprintf("connect %+v: %s, %v, want one of %s: %+v", p, have, err, want, res.Final())
		}
	}
	return ""
}

// connect connects a socket, so that the kernel chooses a source, and returns that.
func (a *asker) connect(p lookup.Packet) (src netip.Addr, err error) {
	err = a.n.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), // the last one's port may not be free yet
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(p.Mark)),
			unix.Bind(fd, &unix.SockaddrInet6{Port: int(p.SPort)}),
			unix.Connect(fd, &unix.SockaddrInet6{Addr: p.To.As16(), Port: int(p.DPort)}),
		)
		if err != nil {
			return err
		}
		name, err := unix.Getsockname(fd)
		if six, ok := name.(*unix.SockaddrInet6); ok {
			src = netip.AddrFrom16(six.Addr)
		}
		return err
	})
	return src, err
}

// packetFor draws a packet that a host's rules and routes may be for.
func packetFor(g *rand.Rand, h lookup.Host) lookup.Packet {
	near := func(p netip.Prefix) netip.Addr {
		if next := p.Addr().Next(); g.IntN(2) == 0 && p.Contains(next) {
			return next
		}
		return p.Addr()
	}
	f := fib.Families[g.IntN(2)]
	to := []netip.Addr{netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("2001:4860:4860::8888")}
	var p lookup.Packet
	for _, a := range h.Addresses {
		to = append(to, near(a.Prefix))
	}
	for _, r := range h.Routes {
		if r.Dst.Bits() > 0 {
			to = append(to, near(r.Dst))
		}
	}
	for _, r := range h.Rules {
		if r.To.Bits() > 0 {
			to = append(to, near(r.To))
		}
		if r.Mask != 0 && g.IntN(8) == 0 {
			p.Mark = r.Mark
		}
	}
	for !p.To.IsValid() || fib.FamilyOf(p.To) != f || p.To.IsMulticast() || p.To.IsUnspecified() {
		p.To = to[g.IntN(len(to))]
	}
	for range 10 {
		a := h.Addresses[g.IntN(len(h.Addresses))].Prefix.Addr()
		if fib.FamilyOf(a) == f && !a.IsLoopback() && g.IntN(3) > 0 {
			p.From = a
		}
	}
	if g.IntN(2) == 0 {
		p.From = netip.Addr{}
	}
	return p
}
