package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// statusSpec has on eth1 a gateway that does not exist.
var statusSpec = strings.Replace(twoUplinks, `"198.51.100.1"`, `"198.51.100.77"`, 1)

// statusFine is what status shows once statusSpec is in effect, and the kernel has asked for the
// IPv4 gateways.
const statusFine = `isp1: as the spec says (through netlink)
  link       eth0, up, carrier
  addresses  192.0.2.10/24, 2001:db8:1::10/64
  gateways   192.0.2.1 reachable, 2001:db8:1::1 ?
  table      isp1 (10000)
  rules      10000: to 192.0.2.10, from 192.0.2.10, to 2001:db8:1::10, from 2001:db8:1::10

rt2: as the spec says (through netlink)
  link       eth1, up, carrier
  addresses  198.51.100.10/24, 2001:db8:2::10/64
  gateways   198.51.100.77 failed, 2001:db8:2::1 ?
  table      rt2 (1)
  rules      10001: to 198.51.100.10, from 198.51.100.10, to 2001:db8:2::10, from 2001:db8:2::10

rules of the host, in the order in which they are asked
      0  both  from all lookup local                   the kernel (protocol kernel)
  10000  IPv4  from 192.0.2.10 lookup isp1             isp1
  10000  IPv4  from all to 192.0.2.10 lookup isp1      isp1
  10000  IPv6  from 2001:db8:1::10 lookup isp1         isp1
  10000  IPv6  from all to 2001:db8:1::10 lookup isp1  isp1
  10001  IPv4  from 198.51.100.10 lookup rt2           rt2
  10001  IPv4  from all to 198.51.100.10 lookup rt2    rt2
  10001  IPv6  from 2001:db8:2::10 lookup rt2          rt2
  10001  IPv6  from all to 2001:db8:2::10 lookup rt2   rt2
  32766  both  from all lookup main                    the kernel (protocol kernel)
  32767  IPv4  from all lookup default                 the kernel (protocol kernel)
`

// statusDrifted is the same with a rule and a route removed, a rule of somebody else's, and a
// link without carrier.
const statusDrifted = `isp1: differs from the spec (through netlink)
  link       eth0, up, carrier
  addresses  192.0.2.10/24, 2001:db8:1::10/64
  gateways   192.0.2.1 reachable, 2001:db8:1::1 ?
  table      isp1 (10000)
  rules      10000: to 192.0.2.10 missing, from 192.0.2.10, to 2001:db8:1::10,
             from 2001:db8:1::10
  missing    ip route add default via 192.0.2.1 dev eth0 table isp1 proto 118
  missing    ip rule add priority 10000 from all to 192.0.2.10 lookup isp1
             protocol 118

rt2: waits for its link (through netlink)
  link       eth1, up, no carrier
  waits      eth1 has no carrier
  addresses  198.51.100.10/24, 2001:db8:2::10/64
  gateways   198.51.100.77 ?, 2001:db8:2::1 ?
  table      rt2 (1)
  rules      10001: to 198.51.100.10, from 198.51.100.10, to 2001:db8:2::10,
             from 2001:db8:2::10

rules of the host, in the order in which they are asked
      0  both  from all lookup local                   the kernel
    500  IPv4  from all to 10.8.0.0/16 lookup 99       an administrator or
                                                       systemd-networkd
  10000  IPv4  from 192.0.2.10 lookup isp1             isp1
  10000  IPv4  from all to 192.0.2.10 lookup isp1      isp1 missing
  10000  IPv6  from 2001:db8:1::10 lookup isp1         isp1
  10000  IPv6  from all to 2001:db8:1::10 lookup isp1  isp1
  10001  IPv4  from 198.51.100.10 lookup rt2           rt2
  10001  IPv4  from all to 198.51.100.10 lookup rt2    rt2
  10001  IPv6  from 2001:db8:2::10 lookup rt2          rt2
  10001  IPv6  from all to 2001:db8:2::10 lookup rt2   rt2
  32766  both  from all lookup main                    the kernel
  32767  IPv4  from all lookup default                 the kernel
`

// showStatus runs uplinkctl status as it would be on a screen of so many columns.
func showStatus(t *testing.T, cmd *exec.Cmd, columns int) answer {
	t.Helper()
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, fmt.Sprint("COLUMNS=", columns))
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return answer{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// expectStatus checks an exit status and a text. The kernel keeps rules of one priority in the
// order of adding, which differs between the back ends, and asks for gateways when it likes:
// where the text has "?" their state is not compared.
func (a answer) expectStatus(t *testing.T, what string, code int, want string) {
	t.Helper()
	got := a.stdout
	for _, m := range regexp.MustCompile(`(\S+) \?`).FindAllStringSubmatch(want, -1) {
		got = regexp.MustCompile(regexp.QuoteMeta(m[1])+` \w+`).ReplaceAllLiteralString(got, m[0])
	}
	if got = inFamilies(got); a.code != code || a.stderr != "" || got != want {
		t.Errorf("%s: exit status %d, want %d; %s\n%s\nwant\n%s", what, a.code, code, a.stderr, got, want)
	}
}

// inFamilies sorts rules of the same priority and family, which are on lines that begin
// with both.
func inFamilies(text string) string {
	lines := slices.Collect(strings.Lines(text))
	same := regexp.MustCompile(`^ +\d+  (IPv4|IPv6)  `).FindString
	for i := 0; i < len(lines); {
		n := 1
		for key := same(lines[i]); key != "" && i+n < len(lines) && same(lines[i+n]) == key; {
			n++
		}
		slices.Sort(lines[i : i+n])
		i += n
	}
	return strings.Join(lines, "")
}

// neighbour returns the state of a gateway in status --json.
func neighbour(t *testing.T, a answer, gateway string) string {
	t.Helper()
	var s struct {
		Uplinks []struct {
			Gateways []struct{ Address, Neighbour string }
		}
	}
	if err := json.Unmarshal([]byte(a.stdout), &s); err != nil {
		t.Fatalf("%v: %s%s", err, a.stdout, a.stderr)
	}
	for _, u := range s.Uplinks {
		for _, g := range u.Gateways {
			if g.Address == gateway {
				return g.Neighbour
			}
		}
	}
	return ""
}

// askGateways makes the kernel ask for both IPv4 gateways, and waits until it knows the result.
func askGateways(ctx context.Context, t *testing.T, n *lab.Namespace, status func() answer) {
	t.Helper()
	// It gives up after three requests, a second apart by default.
	ip(ctx, t, n, "ntable change name arp_cache dev eth1 retrans 50")
	eventually(ctx, t, func() (string, error) {
		err := n.Do(func() error {
			for _, to := range []string{"192.0.2.1:9", "198.51.100.77:9"} {
				c, err := net.Dial("udp", to)
				if err != nil {
					return err
				}
				_, _ = c.Write([]byte("x")) // the answer to the first may be here already
				c.Close()
			}
			return nil
		})
		a := status()
		if one, two := neighbour(t, a, "192.0.2.1"), neighbour(t, a, "198.51.100.77"); one != "reachable" || two != "failed" {
			return fmt.Sprintf("192.0.2.1 %s, 198.51.100.77 %s", one, two), err
		}
		return "", err
	})
}

func TestStatusThroughNetlink(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	c.run("status").expect(t, "no spec", 1, "", "^uplinkctl: no spec: .*uplinkctl help")
	c.spec(statusSpec)
	c.run("status").expect(t, "nothing done", 1, `^isp1: differs from the spec \(not brought about yet: .uplinkctl reload.\)\n  link       eth0, down\n  addresses  192.0.2.10/24 missing, .*\n  missing    ip link set dev eth0 up\n`, "")
	c.ok("apply")
	if err := l.Host.WaitSettled(ctx); err != nil {
		t.Fatal(err)
	}
	askGateways(ctx, t, l.Host, func() answer { return c.run("status", "--json") })
	before := sorted(dump(ctx, t, l.Host))
	showStatus(t, c.command("status"), 200).expectStatus(t, "in effect", 0, statusFine)

	ip(ctx, t, l.Host, "rule del priority 10000 to 192.0.2.10", "route del default table 10000", "rule add priority 500 to 10.8.0.0/16 lookup 99 protocol static")
	ip(ctx, t, l.Router, "link set p2 down")
	noCarrier := func() (string, error) {
		if a := c.run("status"); !strings.Contains(a.stdout, "eth1, up, no carrier") {
			return a.stdout, nil
		}
		return "", nil
	}
	eventually(ctx, t, noCarrier)
	a := showStatus(t, c.command("status"), 80)
	a.expectStatus(t, "drifted", 1, statusDrifted)
	for line := range strings.Lines(a.stdout) {
		if len(line) > 81 {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}

	// What is extra, different, or in the way; and what belongs to no uplink.
	ip(ctx, t, l.Host, "rule add priority 9 to 203.0.113.9 lookup 78 protocol 118", "rule add priority 10000 from 192.0.2.99 lookup 10000 protocol 118",
		"route add default via 192.0.2.1 dev eth0 table 10000 proto boot", "route replace 192.0.2.0/24 dev eth0 table 10000 proto 118 scope link src 192.0.2.10 mtu 1400")
	c.run("status").expect(t, "more drift", 1, "  different  ip route replace 192.0.2.0/24 dev eth0 table isp1 .*\n  instead of 192.0.2.0/24 dev eth0 .* mtu 1400\n", "")
	c.run("status").expect(t, "more drift", 1, `  in the way ip route add default via 192.0.2.1 .*: a route of boot scripts \(protocol boot\) is in the way .*\n  missing `, "")
	c.run("status").expect(t, "more drift", 1, "  extra      ip rule del priority 10000 from 192.0.2.99 lookup isp1 protocol 118\n\nrt2: .*\n\nof no uplink: differs from the spec\n  extra      ip rule del priority 9 from all to 203.0.113.9 lookup 78 protocol 118\n", "")
	c.run("status").expect(t, "more drift", 1, `\n +9  IPv4  from all to 203.0.113.9 lookup 78 +extra, of uplink-generator \(protocol uplink\)\n`, "")

	// Looking changes nothing, and everything can be corrected.
	ip(ctx, t, l.Router, "link set p2 up")
	ip(ctx, t, l.Host, "route del default table 10000", "rule del priority 500")
	eventually(ctx, t, func() (string, error) {
		a := c.run("apply", "--wait", "5")
		return a.stderr, nil
	})
	if err := l.Host.WaitSettled(ctx); err != nil {
		t.Fatal(err)
	}
	if now := sorted(dump(ctx, t, l.Host)); now != before {
		t.Errorf("before:\n%s\nnow:\n%s", before, now)
	}
	c.run("status").expect(t, "put right", 0, "^isp1: as the spec says .*\nrt2: as the spec says ", "")
}

func TestStatusUnderNetworkd(t *testing.T) {
	t.Parallel()
	h := bootNetworkd(t, nil, provider1, provider2)
	h.spec(statusSpec)
	h.reload()
	if err := h.Host.WaitSettled(h.ctx); err != nil {
		t.Fatal(err)
	}
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	status := func() *exec.Cmd { return h.networkd.Command(h.ctx, filepath.Join(dir, programs.Control)) }
	askGateways(h.ctx, t, h.Host, func() answer { return h.run("status", "--json") })
	networkds := func(s string) string { return strings.ReplaceAll(s, "through netlink", "by systemd-networkd") }
	showStatus(t, status(), 200).expectStatus(t, "in effect", 0, networkds(statusFine))

	ip(h.ctx, t, h.Host, "rule del priority 10000 to 192.0.2.10", "route del default table 10000", "rule add priority 500 to 10.8.0.0/16 lookup 99 protocol static")
	ip(h.ctx, t, h.Router, "link set p2 down")
	eventually(h.ctx, t, func() (string, error) {
		// networkd takes all of it away with the carrier.
		a := h.run("status")
		if !strings.Contains(a.stdout, "rules      10001: to 198.51.100.10 waits, from 198.51.100.10 waits, to 2001:db8:2::10 waits, from 2001:db8:2::10 waits\n") {
			return a.stdout, nil
		}
		return "", nil
	})
	a := showStatus(t, status(), 80)
	isp1, rest, _ := strings.Cut(a.stdout, "\nrt2: ")
	want, _, _ := strings.Cut(networkds(statusDrifted), "\nrt2: ")
	answer{a.code, isp1, a.stderr}.expectStatus(t, "drifted", 1, want)
	answer{a.code, rest, a.stderr}.expect(t, "drifted", 1, `^waits for its link \(by systemd-networkd\)\n.*  addresses  198.51.100.10/24 waits, 2001:db8:2::10/64 waits\n.*\n +500  IPv4  from all to 10.8.0.0/16 lookup 99 +an administrator or\n +systemd-networkd\n`, "")
}

// TestStatusNeedsNoRoot shows what the user may see, and says what the user may not.
func TestStatusNeedsNoRoot(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	c.spec(twoUplinks)
	c.ok("apply")
	if err := l.Host.WaitSettled(ctx); err != nil {
		t.Fatal(err)
	}
	// Where others may read.
	dir, err := os.MkdirTemp("", "uplink-status-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(filepath.Join(bin, programs.Control))
	if err != nil {
		t.Fatal(err)
	}
	spec := filepath.Join(dir, "etc/uplink/uplink.toml")
	write(t, spec, twoUplinks)
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "ctl"), program, 0o755)); err != nil {
		t.Fatal(err)
	}
	nobody := func(args ...string) answer {
		args = append([]string{"--reuid", "65534", "--regid", "65534", "--clear-groups", filepath.Join(dir, "ctl")}, args...)
		return showStatus(t, l.Host.Command(ctx, "setpriv", append(args, "--root", dir)...), 80)
	}
	status := func() answer { return nobody("status") }
	for _, command := range []string{"apply", "down", "reload"} {
		nobody(command).expect(t, command, 1, "", "^uplinkctl: .*permission denied\nuplinkctl: only root may do this: run it with sudo\n$")
	}
	for _, command := range []string{"check", "verify", "explain isp1 8.8.8.8", "render", "export", "names", "graph"} {
		if a := nobody(strings.Fields(command)...); a.code != 0 {
			t.Errorf("%s: exit status %d: %s%s", command, a.code, a.stdout, a.stderr)
		}
	}
	status().expect(t, "for everybody to read", 0, `^isp1: as the spec says \(through netlink\)\n.*\nrt2: as the spec says \(through netlink\)\n.*\n  10000  IPv4  from .* lookup isp1 +isp1\n`, "")
	if err := os.Chmod(spec, 0o600); err != nil {
		t.Fatal(err)
	}
	status().expect(t, "for root to read", 1, `^note: /etc/uplink/uplink.toml: only root may read it: the uplinks are not known\n\nrules of the host, .*\n  10000  IPv4  from .* lookup 10000 +uplink-generator`, "")
}

// TestStatusIsFastWithManyUplinks measures the whole process.
func TestStatusIsFastWithManyUplinks(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1)
	const uplinks, devices = 1000, 100
	var spec, batch strings.Builder
	for i := range devices {
		fmt.Fprintf(&batch, "link add many%d type veth peer name peer%[1]d\nlink set many%[1]d up\nlink set peer%[1]d up\n", i)
	}
	for i := range uplinks {
		subnet, dev := fmt.Sprintf("10.%d.%d", i/256, i%256), fmt.Sprint("many", i%devices)
		fmt.Fprintf(&spec, "[uplink.u%05d]\ninterface = %q\nmanage = \"policy\"\naddresses = [\"%s.2/24\"]\ngateways = [\"%[3]s.1\"]\n", i, dev, subnet)
		fmt.Fprintf(&batch, "address add %s.2/24 dev %s\n", subnet, dev)
	}
	lines := filepath.Join(c.root, "batch")
	write(t, lines, batch.String())
	ip(ctx, t, l.Host, "-batch "+lines)
	c.spec(spec.String())
	c.ok("apply")
	best := time.Hour
	for range 3 {
		start := time.Now()
		out := c.ok("status")
		best = min(best, time.Since(start))
		if n := strings.Count(out, "\n"); n > uplinks+20 {
			t.Errorf("%d lines for %d uplinks", n, uplinks)
		}
		if want := "  10800-16313        2000 rules of 1000 uplinks, in blocks (276 more lead to them)  u00864 … u00991\n"; !strings.HasPrefix(out, "1000 uplinks: 1000 as the spec says\n") || !strings.Contains(out, want) {
			t.Errorf("%.200s…%s", out, out[max(0, len(out)-400):])
		}
	}
	if t.Logf("%v", best); best > time.Second {
		t.Errorf("it takes %v", best)
	}
}
