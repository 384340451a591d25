package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/integration/internal/labtest"
	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

var (
	killTimes = flag.Int("faults.kills", 60, "how many times uplinkctl apply is killed")
	killSeed  = flag.Uint64("faults.seed", 0, "what the moments of the kills are drawn from; 0 for another one each time")
)

// cli is uplinkctl on a lab's host, with a root directory of its own.
type cli struct {
	t    *testing.T
	ctx  context.Context
	host *lab.Namespace
	root string
}

func newCLI(ctx context.Context, t *testing.T, host *lab.Namespace) *cli {
	t.Helper()
	return &cli{t, ctx, host, t.TempDir()}
}

// spec writes the host's spec.
func (c *cli) spec(text string) {
	c.t.Helper()
	write(c.t, filepath.Join(c.root, "etc/uplink/uplink.toml"), text)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// command is `uplinkctl COMMAND --root ROOT ARGUMENT…` on the host.
func (c *cli) command(command string, args ...string) *exec.Cmd {
	c.t.Helper()
	dir, err := built()
	if err != nil {
		c.t.Fatal(err)
	}
	return c.host.Command(c.ctx, filepath.Join(dir, programs.Control), append([]string{command, "--root", c.root}, args...)...)
}

// answer is what a program said.
type answer struct {
	code           int
	stdout, stderr string
}

// run runs uplinkctl.
func (c *cli) run(command string, args ...string) answer {
	c.t.Helper()
	var out, errs strings.Builder
	cmd := c.command(command, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	return answer{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// ok runs uplinkctl, which must succeed without a complaint.
func (c *cli) ok(command string, args ...string) string {
	c.t.Helper()
	a := c.run(command, args...)
	if a.code != 0 || a.stderr != "" {
		c.t.Fatalf("uplinkctl %s %v: exit status %d, %s", command, args, a.code, a.stderr)
	}
	return a.stdout
}

// dump returns all that ip(8) shows of the host, without the seconds that are left.
func dump(ctx context.Context, t *testing.T, n *lab.Namespace) string {
	t.Helper()
	var b strings.Builder
	for _, family := range []string{"-4", "-6"} {
		for _, what := range []string{"rule show", "route show table all", "address show"} {
			out, err := n.Run(ctx, "ip", append([]string{"-d", "-N", family}, strings.Fields(what)...)...)
			if err != nil {
				t.Fatal(err)
			}
			b.WriteString(out)
		}
	}
	return b.String()
}

// manyUplinks is a spec of n uplinks on one card, different for each kind.
func manyUplinks(n, kind int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "[uplink.u%04d]\ninterface = \"eth0\"\naddresses = [\"10.%d.%d.%d/32\"]\ngateways = [\"192.0.2.%d\"]\nonlink = true\n",
			i, i%(kind+2), i/250, 1+i%250, 1+kind)
	}
	return b.String()
}

// TestKilledAtAnyPoint kills uplinkctl apply at random moments while it brings about one of three
// states of 1,000 uplinks. The next run converges each time, and everything that belongs to
// others is there.
func TestKilledAtAnyPoint(t *testing.T) {
	require(t)
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes a minute")
	}
	ctx, l := labtest.Open(t, 5*time.Minute, options(provider1))
	ip(ctx, t, l.Host, "link set eth0 up", "address add 172.20.0.1/24 dev eth0", "route add 172.21.0.0/16 via 172.20.0.9 dev eth0 table 10001 proto static",
		"route add 172.22.0.0/16 via 172.20.0.9 dev eth0", "rule add priority 10001 from 10.1.0.2 lookup 10001 protocol static", "rule add priority 7 from 172.23.0.0/16 lookup 10001")
	others := func() string {
		var b strings.Builder
		for _, c := range []string{"-4 -d -N rule show", "-4 -d -N route show table all", "-4 -d -N address show dev eth0"} {
			out, err := l.Host.Run(ctx, "ip", strings.Fields(c)...)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(out) {
				if !strings.Contains(line, "proto 118") && !strings.Contains(line, "proto 0x76") && !strings.Contains(line, "10.") && !strings.Contains(line, "valid_lft") {
					b.WriteString(line)
				}
				if strings.Contains(line, "10.1.0.2 ") && strings.Contains(line, "proto 4") {
					b.WriteString(line)
				}
			}
		}
		return b.String()
	}
	before := others()

	c := newCLI(ctx, t, l.Host)
	const n = 1000
	c.spec(manyUplinks(n, 0))
	c.ok("apply")
	c.spec(manyUplinks(n, 1))
	start := time.Now()
	c.ok("apply")
	takes := time.Since(start)

	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-faults.seed %d; a change takes %s", seed, takes)
	random := rand.New(rand.NewPCG(seed, 0))
	kind, killed, partly := 1, 0, 0
	for i := range *killTimes {
		kind = (kind + 1 + random.IntN(2)) % 3
		c.spec(manyUplinks(n, kind))
		cmd := c.command("apply")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		after := takes/4 + time.Duration(random.Int64N(int64(takes))*3/4) // it starts with reading the spec
		time.Sleep(after)
		_ = cmd.Process.Signal(syscall.SIGKILL)
		if cmd.Wait() != nil {
			killed++
		} else {
			takes = after // something else may have slowed the first run down
		}
		if a := c.run("diff"); a.code != 0 {
			if lines := strings.Count(a.stdout, "\n"); i > 0 && lines > 0 && lines < 3*n {
				partly++
			}
		}
		c.ok("apply")
		if a := c.run("diff"); a.code != 0 || a.stdout != "" {
			t.Fatalf("kill %d: the next run did not converge: %s\n%.1000s", i, a.stderr, a.stdout)
		}
		if now := others(); now != before {
			t.Fatalf("kill %d: others' are\n%s, were\n%s", i, now, before)
		}
	}
	t.Logf("killed %d of %d, %d with part of the change done", killed, *killTimes, partly)
	if killed < *killTimes/3 {
		t.Errorf("only %d were killed before they ended", killed)
	}
	c.ok("down")
	if now := others(); now != before {
		t.Errorf("after down others' are\n%s, were\n%s", now, before)
	}
}

// twoUplinks is the recipe's spec with gateways of both families.
const twoUplinks = `
[uplink.isp1]
interface = "eth0"
addresses = ["192.0.2.10/24", "2001:db8:1::10/64"]
gateways  = ["192.0.2.1", "2001:db8:1::1"]

[uplink.rt2]
interface = "eth1"
table     = 1
addresses = ["198.51.100.10/24", "2001:db8:2::10/64"]
gateways  = ["198.51.100.1", "2001:db8:2::1"]
`

// bootHost makes a lab of two uplinks, without duplicate address detection.
func bootHost(t *testing.T, providers ...lab.Provider) (context.Context, *lab.Lab, *cli) {
	t.Helper()
	opts := options(providers...)
	opts.HostSysctls = map[string]string{"net.ipv6.conf.default.accept_dad": "0"}
	ctx, l := open(t, opts)
	return ctx, l, newCLI(ctx, t, l.Host)
}

// TestNoPacketIsLost sends at a high rate from an uplink that does not change, by UDP in both
// families, while 100 runs change everything else: the other uplink, and more that come and go.
func TestNoPacketIsLost(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	c.spec(twoUplinks)
	c.ok("apply")
	if err := l.Host.WaitSettled(ctx); err != nil {
		t.Fatal(err)
	}

	var flows []*flow
	for _, source := range []string{"192.0.2.10", "2001:db8:1::10"} {
		from := netip.MustParseAddr(source)
		flows = append(flows, udpFlow(t, l, from, l.ClientAddr(from.Is6())))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, f := range flows {
		wg.Go(func() { f.send(stop) })
	}
	unchanged := twoUplinks[:strings.Index(twoUplinks, "[uplink.rt2]")]
	changes := []string{
		twoUplinks,
		unchanged,
		strings.Replace(twoUplinks, "= 1\n", "= 2\n", 1),
		strings.NewReplacer("198.51.100.10", "198.51.100.20", "2001:db8:2::10", "2001:db8:2::20").Replace(twoUplinks),
		strings.Replace(twoUplinks, "198.51.100.1\"", "198.51.100.2\"", 1),
		strings.Replace(twoUplinks, "table     = 1", "table = 1\nfallthrough = \"unreachable\"\nfwmark = 7\ndefault-route = true", 1),
		strings.Replace(twoUplinks, "[uplink.rt2]", "[uplink.rt2]\npriority = 500", 1),
		twoUplinks + "\n[uplink.c]\ninterface = \"eth1\"\naddresses = [\"198.51.100.30/24\"]\ngateways = [\"198.51.100.1\"]\ntable = 77\npriority = 99\n",
	}
	for i := range 100 {
		c.spec(changes[i*5%len(changes)])
		c.ok("apply")
		if i%10 == 0 {
			c.ok("apply") // nothing to do
		}
	}
	close(stop)
	wg.Wait()
	for _, f := range flows {
		f.finish(t)
	}
}

// flow is a stream of numbered packets.
type flow struct {
	sender   net.PacketConn
	receiver *net.UDPConn
	to       net.Addr
	sent     int
	err      error
	received atomic.Int64
	done     chan struct{}
}

// udpFlow opens the two ends: the sender has a source and nothing else, like a server.
func udpFlow(t *testing.T, l *lab.Lab, from, to netip.Addr) *flow {
	t.Helper()
	f := &flow{done: make(chan struct{})}
	err := l.Client.Do(func() (err error) {
		f.receiver, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 0)))
		return err
	})
	if err == nil {
		raw, rawErr := f.receiver.SyscallConn()
		if rawErr != nil {
			t.Fatal(rawErr)
		}
		// A receiver that is late to read loses nothing.
		err = errors.Join(raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20) }), err)
	}
	if err == nil {
		f.to = f.receiver.LocalAddr()
		err = l.Host.Do(func() (err error) {
			f.sender, err = net.ListenPacket("udp", netip.AddrPortFrom(from, 0).String())
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.sender.Close(); f.receiver.Close() })
	go func() {
		defer close(f.done)
		b := make([]byte, 100)
		for {
			if _, _, err := f.receiver.ReadFrom(b); err != nil {
				return
			}
			f.received.Add(1)
		}
	}()
	return f
}

// send sends some thousand packets a second until it is stopped.
func (f *flow) send(stop <-chan struct{}) {
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		for range 10 {
			if _, err := f.sender.WriteTo([]byte("a packet"), f.to); err != nil {
				f.err = err
				return
			}
			f.sent++
		}
	}
}

func (f *flow) finish(t *testing.T) {
	t.Helper()
	for range 200 {
		if int(f.received.Load()) == f.sent {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if f.err != nil || int(f.received.Load()) != f.sent || f.sent < 5000 {
		t.Errorf("%s: %d packets sent, %d received: %v", f.sender.LocalAddr(), f.sent, f.received.Load(), f.err)
	}
	t.Logf("%s: %d packets, none lost", f.sender.LocalAddr(), f.sent)
}

// TestTwoRunsAtOnce starts several runs at once, again and again: each waits for the others,
// succeeds, and has no complaint.
func TestTwoRunsAtOnce(t *testing.T) {
	t.Parallel()
	require(t)
	_, _, c := bootHost(t, provider1, provider2)
	c.spec(twoUplinks)
	for range 10 {
		var wg sync.WaitGroup
		answers := make([]answer, 6)
		for i := range answers {
			wg.Go(func() { answers[i] = c.run("apply") })
		}
		wg.Wait()
		for _, a := range answers {
			if a.code != 0 || a.stderr != "" {
				t.Fatalf("exit status %d: %s", a.code, a.stderr)
			}
		}
		if a := c.run("diff"); a.code != 0 {
			t.Fatalf("still to do: %s%s", a.stdout, a.stderr)
		}
		c.ok("down")
	}
}

// TestSpecChangesBetween changes the spec while a run is at work: the next one wins.
func TestSpecChangesBetween(t *testing.T) {
	t.Parallel()
	require(t)
	_, _, c := bootHost(t, provider1, provider2)
	for i := range 20 {
		c.spec([]string{twoUplinks, strings.Replace(twoUplinks, "= 1\n", "= 2\n", 1)}[i%2])
		first := c.command("apply")
		if err := first.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 300 * time.Microsecond)
		c.spec([]string{twoUplinks, strings.Replace(twoUplinks, "= 1\n", "= 3\n", 1)}[i/2%2])
		c.ok("apply")
		if err := first.Wait(); err != nil {
			t.Fatal(err)
		}
		c.ok("apply") // the first may have had its turn last
		if a := c.run("diff"); a.code != 0 {
			t.Fatalf("still to do: %s%s", a.stdout, a.stderr)
		}
	}
}

// TestTerminated ends a run with SIGTERM while it waits for duplicate address
// detection: it undoes what it did, says so, and exits 1.
func TestTerminated(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l := open(t, options(provider1, provider2))
	c := newCLI(ctx, t, l.Host)
	ip(ctx, t, l.Host, "link set eth0 up", "link set eth1 up")
	if err := l.Host.WaitSettled(ctx); err != nil {
		t.Fatal(err)
	}
	before := dump(ctx, t, l.Host)
	c.spec(twoUplinks)
	var errs strings.Builder
	cmd := c.command("apply")
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, func() (string, error) {
		have, err := l.Host.Addresses(ctx)
		if !slices.ContainsFunc(have, func(a lab.Address) bool { return a.Tentative() }) {
			return "a tentative address", err
		}
		return "", err
	})
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 || !strings.HasPrefix(errs.String(), "uplinkctl: ") || strings.Contains(errs.String(), "another host") {
		t.Errorf("%v: %s", err, errs.String())
	}
	t.Log(errs.String())
	if after := dump(ctx, t, l.Host); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}
