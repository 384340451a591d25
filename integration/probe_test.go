package integration

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

const probedUplinks = `
[uplink.isp1]
interface     = "eth0"
addresses     = ["192.0.2.10/24", "2001:db8:1::10/64"]
gateways      = ["192.0.2.1", "2001:db8:1::1"]
default-route = true
metric        = 100

[uplink.isp1.probe]
targets  = ["203.0.113.10", "2001:db8:ffff::10"]
interval = 1
timeout  = 1
down     = 2
up       = 3

[uplink.rt2]
interface     = "eth1"
table         = 1
addresses     = ["198.51.100.10/24", "2001:db8:2::10/64"]
gateways      = ["198.51.100.1", "2001:db8:2::1"]
default-route = true
metric        = 200
`

// detection is how long the probe above may take, and a little for a busy machine.
const detection = 2*time.Second + time.Second + 500*time.Millisecond

// daemon is `uplinkctl watch` in the background.
type daemon struct {
	t   *testing.T
	cmd *exec.Cmd
	log lab.Buffer
}

// startWatch runs a command until stop.
func startWatch(t *testing.T, cmd *exec.Cmd) *daemon {
	t.Helper()
	d := &daemon{t: t, cmd: cmd}
	cmd.Stderr = &d.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return d
}

// stop ends it, well, and shows what it has said.
func (d *daemon) stop() {
	d.t.Helper()
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	if err := d.cmd.Wait(); err != nil {
		d.t.Errorf("watch: %v", err)
	}
	d.t.Logf("watch:\n%s", d.log.String())
}

// says waits until the log has so many lines with a text.
func (d *daemon) says(ctx context.Context, text string, times int) {
	d.t.Helper()
	eventually(ctx, d.t, func() (string, error) {
		if n := strings.Count(d.log.String(), text); n < times {
			return fmt.Sprintf("%d of %d times %q in:\n%s", n, times, text, d.log.String()), nil
		}
		return "", nil
	})
}

// stream sends numbered datagrams and notes which arrive.
type stream struct {
	name     string
	sender   net.PacketConn
	receiver *net.UDPConn
	stop     chan struct{}
	done     chan struct{}

	mu   sync.Mutex
	sent []time.Time
	got  map[uint32]netip.Addr // the source with which it arrived
}

const streamTick = 5 * time.Millisecond

// startStream sends to the client, from an address or, as most programs do, from none.
func startStream(t *testing.T, l *lab.Lab, from, to netip.Addr) *stream {
	t.Helper()
	s := &stream{name: fmt.Sprintf("from %s to %s", from, to), stop: make(chan struct{}), done: make(chan struct{}), got: map[uint32]netip.Addr{}}
	err := l.Client.Do(func() (err error) {
		s.receiver, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 0)))
		return err
	})
	if err == nil {
		err = l.Host.Do(func() (err error) {
			network, source := "udp4", ""
			if to.Is6() {
				network = "udp6"
			}
			if from.IsValid() {
				source = from.String()
			}
			s.sender, err = net.ListenPacket(network, net.JoinHostPort(source, "0"))
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.sender.Close(); s.receiver.Close() })
	go s.receive()
	go s.send()
	return s
}

func (s *stream) receive() {
	b := make([]byte, 8)
	for {
		_, from, err := s.receiver.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.got[binary.BigEndian.Uint32(b)] = from.Addr().Unmap()
		s.mu.Unlock()
	}
}

func (s *stream) send() {
	defer close(s.done)
	tick := time.NewTicker(streamTick)
	defer tick.Stop()
	for n := uint32(0); ; n++ {
		select {
		case <-s.stop:
			return
		case now := <-tick.C:
			s.mu.Lock()
			s.sent = append(s.sent, now)
			s.mu.Unlock()
		}
		// One that cannot be sent is lost.
		_, _ = s.sender.WriteTo(binary.BigEndian.AppendUint32(nil, n), s.receiver.LocalAddr())
	}
}

// since says how many were lost of those sent since a moment, the time from the first
// to the last of these, and from which addresses the others came.
func (s *stream) since(start time.Time) (lost int, outage time.Duration, sources map[netip.Addr]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sources = map[netip.Addr]int{}
	var first, last time.Time
	// Those of the last moment are under way.
	end := time.Now().Add(-100 * time.Millisecond)
	for n, at := range s.sent {
		if at.Before(start) || at.After(end) {
			continue
		}
		if from, ok := s.got[uint32(n)]; ok {
			sources[from]++
			continue
		}
		if lost++; first.IsZero() {
			first = at
		}
		last = at
	}
	if lost > 0 {
		outage = last.Sub(first) + streamTick
	}
	return lost, outage, sources
}

// wantOutage checks what was lost since a moment.
func (s *stream) wantOutage(t *testing.T, what string, start time.Time, least, most time.Duration) {
	t.Helper()
	lost, outage, sources := s.since(start)
	t.Logf("%s: %s: %d lost, within %v; sources %v", what, s.name, lost, outage, sources)
	if outage < least || outage > most {
		t.Errorf("%s: %s: %d lost, within %v; want %v to %v", what, s.name, lost, outage, least, most)
	}
}

// die makes a provider drop everything that it should forward, and revive ends that. Its link and
// its gateway are as before.
func die(ctx context.Context, t *testing.T, l *lab.Lab, provider int) {
	t.Helper()
	ip(ctx, t, l.Router, fmt.Sprintf("-4 rule add priority 50 iif p%d blackhole", provider), fmt.Sprintf("-6 rule add priority 50 iif p%d blackhole", provider))
}

func revive(ctx context.Context, t *testing.T, l *lab.Lab, provider int) {
	t.Helper()
	ip(ctx, t, l.Router, fmt.Sprintf("-4 rule del priority 50 iif p%d blackhole", provider), fmt.Sprintf("-6 rule del priority 50 iif p%d blackhole", provider))
}

// TestProviderDiesSilently measures fail-over and fail-back, through netlink.
func TestProviderDiesSilently(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	c.spec(probedUplinks)
	c.ok("apply")
	if err := l.Host.WaitSettled(ctx); err != nil {
		t.Fatal(err)
	}
	d := startWatch(t, c.command("watch"))
	defer d.stop()
	failOverAndBack(ctx, t, l, d, func() string {
		c.ok("diff")
		c.ok("apply")
		return c.run("status").stdout
	})
}

// TestProviderDiesSilentlyUnderNetworkd is the same with systemd-networkd, whose routes
// and rules are not touched.
func TestProviderDiesSilentlyUnderNetworkd(t *testing.T) {
	t.Parallel()
	h := bootNetworkd(t, map[string]string{hostSpec: probedUplinks}, provider1, provider2)
	h.reload()
	h.holds(probedUplinks)
	if err := h.Host.WaitSettled(h.ctx); err != nil {
		t.Fatal(err)
	}
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	d := startWatch(t, h.networkd.Command(h.ctx, filepath.Join(dir, programs.Control), "watch"))
	defer d.stop()
	failOverAndBack(h.ctx, t, h.Lab, d, func() string {
		h.reload()
		// What it has found is the provider's fault, and verify and status both report it.
		verify := h.run("verify")
		if verify.code != 0 || !strings.Contains(verify.stdout, "\nnote   isp1 is dead for IPv4 since ") || strings.Count(verify.stdout, "not answered 2 times): led around\n") != 2 {
			t.Errorf("verify: %+v", verify)
		}
		return h.run("status").stdout
	})
}

func failOverAndBack(ctx context.Context, t *testing.T, l *lab.Lab, d *daemon, status func() string) {
	t.Helper()
	d.says(ctx, "isp1: alive (IPv4): 203.0.113.10 has answered once", 1)
	d.says(ctx, "isp1: alive (IPv6): 2001:db8:ffff::10 has answered once", 1)
	before := dump(ctx, t, l.Host)

	none := netip.Addr{}
	plain := []*stream{startStream(t, l, none, l.ClientAddr(false)), startStream(t, l, none, l.ClientAddr(true))}
	bound := []*stream{
		startStream(t, l, netip.MustParseAddr("198.51.100.10"), l.ClientAddr(false)),
		startStream(t, l, netip.MustParseAddr("2001:db8:2::10"), l.ClientAddr(true)),
	}
	all := append(append([]*stream{}, plain...), bound...)
	start := time.Now()
	time.Sleep(500 * time.Millisecond)
	for _, s := range all {
		s.wantOutage(t, "before", start, 0, 0)
	}

	start = time.Now()
	die(ctx, t, l, 1)
	d.says(ctx, "isp1: dead (IPv4): 203.0.113.10 has not answered 2 times\n", 1)
	d.says(ctx, "isp1: dead (IPv6): 2001:db8:ffff::10 has not answered 2 times\n", 1)
	time.Sleep(500 * time.Millisecond)
	for _, s := range plain {
		s.wantOutage(t, "fail-over", start, time.Second, detection)
	}
	after := time.Now()
	if text := status(); !strings.Contains(text, "dead since") {
		t.Errorf("status does not tell:\n%s", text)
	}
	time.Sleep(300 * time.Millisecond)
	for _, s := range plain {
		s.wantOutage(t, "failed over", after, 0, 0)
	}

	start = time.Now()
	revive(ctx, t, l, 1)
	d.says(ctx, "isp1: alive (IPv4): 203.0.113.10 has answered 3 times\n", 1)
	d.says(ctx, "isp1: alive (IPv6): 2001:db8:ffff::10 has answered 3 times\n", 1)
	if took := time.Since(start); took < 2*time.Second {
		t.Errorf("alive again after %v: not damped", took)
	}
	time.Sleep(500 * time.Millisecond)
	for _, s := range plain {
		s.wantOutage(t, "fail-back", start, 0, 0)
	}
	for _, s := range bound {
		s.wantOutage(t, "all the time", time.Time{}, 0, 0)
	}
	if now := dump(ctx, t, l.Host); now != before {
		t.Errorf("not as before:\n%s", diffText(before, now))
	}
	for _, s := range all {
		close(s.stop)
		<-s.done
	}
}

// TestOneOfThreeDies has three uplinks share the traffic, one of which dies: the others go on
// sharing it by their weights. It tests with TCP.
func TestOneOfThreeDies(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2, provider("eth2", "100.64.0.1/24", "2001:db8:3::1/64"))
	var to []netip.Addr
	for i := range 40 {
		for _, p := range prefixes(fmt.Sprintf("203.0.113.%d/24", 100+i), fmt.Sprintf("2001:db8:ffff::1:%x/64", i)) {
			ip(ctx, t, l.Client, "address add "+p.String()+" dev eth0")
			to = append(to, p.Addr())
		}
	}
	server := listen(t, l.Client)
	spec := "[multipath]\nuplinks = { a = 1, b = 2, c = 1 }\n"
	for i, u := range []string{"a", "b", "c"} {
		net4, net6 := []string{"192.0.2", "198.51.100", "100.64.0"}[i], fmt.Sprintf("2001:db8:%d::", i+1)
		spec += fmt.Sprintf("[uplink.%s]\ninterface = \"eth%d\"\naddresses = [\"%s.10/24\", \"%s10/64\"]\ngateways = [\"%s.1\", \"%s1\"]\n", u, i, net4, net6, net4, net6)
		spec += fmt.Sprintf("probe = { targets = [\"203.0.113.10\", \"2001:db8:ffff::10\"], port = %d, interval = 1, down = 2, up = 2 }\n", server)
	}
	c.spec(spec)
	c.ok("apply")
	if err := l.Host.WaitSettled(ctx); err != nil {
		t.Fatal(err)
	}
	d := startWatch(t, c.command("watch"))
	defer d.stop()
	d.says(ctx, ": alive (IPv", 6)
	use := spread(ctx, t, l, to)
	t.Logf("all three: %v", use)
	if use["eth0"] == 0 || use["eth1"] == 0 || use["eth2"] == 0 {
		t.Errorf("%v; want it shared by all three", use)
	}

	die(ctx, t, l, 1)
	d.says(ctx, "a: dead (IPv4)", 1)
	d.says(ctx, "a: dead (IPv6)", 1)
	d.says(ctx, "protocol 118\n", 4)
	use = spread(ctx, t, l, to)
	t.Logf("without a: %v", use)
	if use["eth0"] != 0 || use["eth1"] <= use["eth2"] || use["eth2"] == 0 {
		t.Errorf("%v; want it shared by eth1 and eth2, two to one", use)
	}

	// All dead: main is as good as anything.
	die(ctx, t, l, 2)
	die(ctx, t, l, 3)
	d.says(ctx, ": dead (IPv", 6)
	eventually(ctx, t, func() (string, error) {
		rules, err := l.Host.Run(ctx, "ip", "rule", "show", "priority", "32765")
		return rules, err
	})
	for i := range 3 {
		revive(ctx, t, l, i+1)
	}
	d.says(ctx, ": alive (IPv", 12)
	use = spread(ctx, t, l, to)
	if use["eth0"] == 0 || use["eth1"] == 0 || use["eth2"] == 0 {
		t.Errorf("%v; want it shared by all three again", use)
	}
}

// listen has the client take TCP connections, and returns the port.
func listen(t *testing.T, n *lab.Namespace) int {
	t.Helper()
	var l net.Listener
	if err := n.Do(func() (err error) {
		l, err = net.Listen("tcp", ":0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// TestCarrierIsLost checks that the host fails over at once when a link goes that main, left to
// itself, still uses; and that a restart of watch does not forget that.
func TestCarrierIsLost(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	c.spec(strings.Replace(probedUplinks, "interval = 1\n", "interval = 2\n", 1))
	c.ok("apply")
	d := startWatch(t, c.command("watch"))
	d.says(ctx, ": alive (IPv", 2)
	flow := startStream(t, l, netip.Addr{}, l.ClientAddr(false))
	start := time.Now()
	ip(ctx, t, l.Router, "link set p1 down")
	d.says(ctx, "isp1: dead (IPv4): eth0 has no carrier\n", 1)
	d.says(ctx, "isp1: dead (IPv6): eth0 has no carrier\n", 1)
	time.Sleep(300 * time.Millisecond)
	flow.wantOutage(t, "without a carrier", start, 0, 300*time.Millisecond)
	d.stop()

	text := c.run("status").stdout
	if strings.Count(text, "eth0 has no carrier") < 2 {
		t.Errorf("status does not tell why:\n%s", text)
	}
	c.run("diff").expect(t, "diff while failed over", 0, "", "^uplinkctl: uplink isp1: eth0 has no carrier")
	start = time.Now()
	d = startWatch(t, c.command("watch"))
	defer d.stop()
	time.Sleep(time.Second)
	if d.log.String() != "" {
		t.Errorf("a restart brings this about:\n%s", d.log.String())
	}
	flow.wantOutage(t, "a restart", start, 0, 0)
	start = time.Now()
	ip(ctx, t, l.Router, "link set p1 up")
	d.says(ctx, "isp1: alive (IPv4): 203.0.113.10 has answered 3 times\n", 1)
	if took := time.Since(start); took < 4*time.Second {
		t.Errorf("alive again after %v: not damped", took)
	}
	time.Sleep(300 * time.Millisecond)
	flow.wantOutage(t, "fail-back", start, 0, 0)
}

// diffText returns the lines that only one of two texts has.
func diffText(a, b string) string {
	var out strings.Builder
	for _, x := range []struct{ sign, text, other string }{{"-", a, b}, {"+", b, a}} {
		for line := range strings.Lines(x.text) {
			if !strings.Contains(x.other, line) {
				out.WriteString(x.sign + line)
			}
		}
	}
	return out.String()
}
