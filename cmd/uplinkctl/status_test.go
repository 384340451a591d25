package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/probe"
	"github.com/uplink-generator/uplink-generator/cmd/internal/host"
	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/need"
)

// aStatus has one of everything that status shows.
func aStatus() *host.Status {
	rule := func(priority uint32, from string, table uint32) fib.Rule {
		p := netip.MustParsePrefix(from)
		return fib.Rule{Family: fib.FamilyOf(p.Addr()), Priority: priority, From: p, Action: fib.Lookup, Table: table}
	}
	all := func(f fib.Family, priority, table uint32) host.RuleStatus {
		return host.RuleStatus{Rule: apply.Rule{Rule: fib.Rule{Family: f, Priority: priority, Action: fib.Lookup, Table: table}, Protocol: 2}, Presence: host.Present}
	}
	of := func(uplink string, r fib.Rule, protocol uint8) host.RuleStatus {
		return host.RuleStatus{Rule: apply.Rule{Rule: r, Protocol: protocol}, Presence: host.Present, Wanted: uplink != "", Uplink: uplink}
	}
	four, six, late := rule(10000, "192.0.2.10/32", 10000), rule(10000, "2001:db8:1::10/128", 10000), rule(10001, "198.51.100.10/32", 1)
	mark := fib.Rule{Family: fib.Inet, Priority: 500, Mark: 7, Mask: 255, Action: fib.Lookup, Table: 10000}
	return &host.Status{
		Backend: "auto",
		Uplinks: []host.UplinkStatus{
			{
				Name: "isp1", Table: 10000, Charge: host.ByNetlink,
				Device:    apply.Link{Index: 2, Name: "eth0", Up: true, Carrier: true},
				Addresses: []host.AddressStatus{{Prefix: netip.MustParsePrefix("192.0.2.10/24"), Presence: host.Present}, {Prefix: netip.MustParsePrefix("2001:db8:1::10/64"), Presence: host.Duplicate}},
				Gateways:  []host.GatewayStatus{{Addr: netip.MustParseAddr("192.0.2.1"), Neighbour: "reachable"}, {Addr: netip.MustParseAddr("2001:db8:1::1"), Neighbour: "failed"}},
				Rules:     []host.UplinkRule{{Rule: mark, Presence: host.Missing}, {Rule: four, Presence: host.Present}, {Rule: six, Presence: host.Present}},
				Drift: []host.Drift{
					{Kind: host.Lacks, Text: "ip rule add priority 500 from all fwmark 0x7/0xff lookup isp1 protocol 118"},
					{Kind: host.Different, Text: "ip route replace default via 192.0.2.1 dev eth0 table isp1 proto 118", Have: "default via 192.0.2.9 dev eth0 table isp1 proto 118"},
				},
			},
			{
				Name: "rt2", Table: 1, Charge: host.ByNobody, Device: apply.Link{Index: 3, Name: "eth1", Up: true},
				Waiting:   []apply.Waiting{{Link: fib.Link{Name: "rt2"}, Device: "eth1", Why: "eth1 has no carrier"}},
				Addresses: []host.AddressStatus{{Prefix: netip.MustParsePrefix("198.51.100.10/24"), Presence: host.Pending}},
				Gateways:  []host.GatewayStatus{{Addr: netip.MustParseAddr("198.51.100.1"), Neighbour: "unknown"}},
				Rules:     []host.UplinkRule{{Rule: late, Presence: host.Pending}},
			},
		},
		Drift: []host.Drift{{Kind: host.Extra, Text: "ip rule del priority 9 from 203.0.113.9 lookup 77 protocol 118"}},
		Rules: []host.RuleStatus{
			all(fib.Inet, 0, 255), all(fib.Inet6, 0, 255), of("", rule(9, "203.0.113.9/32", 77), 118),
			{Rule: apply.Rule{Rule: mark}, Presence: host.Missing, Wanted: true, Uplink: "isp1"},
			of("", fib.Rule{Family: fib.Inet, Priority: 700, To: netip.MustParsePrefix("10.8.0.0/16"), Action: fib.Lookup, Table: 99}, 4),
			of("isp1", four, 118), of("isp1", six, 118),
			{Rule: apply.Rule{Rule: late}, Presence: host.Pending, Wanted: true, Uplink: "rt2"}, all(fib.Inet, 32766, 254), all(fib.Inet6, 32766, 254), all(fib.Inet, 32767, 253),
		},
		Notes: []string{"the kernel command line says uplink=0: nothing is done at boot"},
	}
}

const statusAt80 = `note: the kernel command line says uplink=0: nothing is done at boot

isp1: differs from the spec (through netlink)
  link       eth0, up, carrier
  addresses  192.0.2.10/24, 2001:db8:1::10/64 duplicate
  gateways   192.0.2.1 reachable, 2001:db8:1::1 failed
  table      isp1 (10000)
  rules      500: fwmark 0x7/0xff missing; 10000: from 192.0.2.10,
             from 2001:db8:1::10
  missing    ip rule add priority 500 from all fwmark 0x7/0xff lookup isp1
             protocol 118
  different  ip route replace default via 192.0.2.1 dev eth0 table isp1 proto
             118
  instead of default via 192.0.2.9 dev eth0 table isp1 proto 118

rt2: waits for its link (not brought about yet)
  link       eth1, up, no carrier
  waits      eth1 has no carrier
  addresses  198.51.100.10/24 waits
  gateways   198.51.100.1 unknown
  table      rt2 (1)
  rules      10001: from 198.51.100.10 waits

of no uplink: differs from the spec
  extra      ip rule del priority 9 from 203.0.113.9 lookup 77 protocol 118

rules of the host, in the order in which they are asked
      0  both  from all lookup local                 the kernel
      9  IPv4  from 203.0.113.9 lookup 77            extra, of uplink-generator
    500  IPv4  from all fwmark 0x7/0xff lookup isp1  isp1 missing
    700  IPv4  from all to 10.8.0.0/16 lookup 99     an administrator or
                                                     systemd-networkd
  10000  IPv4  from 192.0.2.10 lookup isp1           isp1
  10000  IPv6  from 2001:db8:1::10 lookup isp1       isp1
  10001  IPv4  from 198.51.100.10 lookup rt2         rt2 waits
  32766  both  from all lookup main                  the kernel
  32767  IPv4  from all lookup default               the kernel
`

const statusAt200 = `note: the kernel command line says uplink=0: nothing is done at boot

isp1: differs from the spec (through netlink)
  link       eth0, up, carrier
  addresses  192.0.2.10/24, 2001:db8:1::10/64 duplicate
  gateways   192.0.2.1 reachable, 2001:db8:1::1 failed
  table      isp1 (10000)
  rules      500: fwmark 0x7/0xff missing; 10000: from 192.0.2.10, from 2001:db8:1::10
  missing    ip rule add priority 500 from all fwmark 0x7/0xff lookup isp1 protocol 118
  different  ip route replace default via 192.0.2.1 dev eth0 table isp1 proto 118
  instead of default via 192.0.2.9 dev eth0 table isp1 proto 118

rt2: waits for its link (not brought about yet)
  link       eth1, up, no carrier
  waits      eth1 has no carrier
  addresses  198.51.100.10/24 waits
  gateways   198.51.100.1 unknown
  table      rt2 (1)
  rules      10001: from 198.51.100.10 waits

of no uplink: differs from the spec
  extra      ip rule del priority 9 from 203.0.113.9 lookup 77 protocol 118

rules of the host, in the order in which they are asked
      0  both  from all lookup local                 the kernel (protocol kernel)
      9  IPv4  from 203.0.113.9 lookup 77            extra, of uplink-generator (protocol uplink)
    500  IPv4  from all fwmark 0x7/0xff lookup isp1  isp1 missing
    700  IPv4  from all to 10.8.0.0/16 lookup 99     an administrator or systemd-networkd (protocol static)
  10000  IPv4  from 192.0.2.10 lookup isp1           isp1
  10000  IPv6  from 2001:db8:1::10 lookup isp1       isp1
  10001  IPv4  from 198.51.100.10 lookup rt2         rt2 waits
  32766  both  from all lookup main                  the kernel (protocol kernel)
  32767  IPv4  from all lookup default               the kernel (protocol kernel)
`

func TestStatusFitsTheScreen(t *testing.T) {
	for columns, want := range map[string]string{"80": statusAt80, "200": statusAt200, "": statusAt200} {
		t.Setenv("COLUMNS", columns)
		var b bytes.Buffer
		if err := printStatus(&b, aStatus(), false); err != nil {
			t.Fatal(err)
		}
		if b.String() != want {
			t.Errorf("%s columns:\n%swant\n%s", columns, &b, want)
		}
	}
	// Nothing is lost, however narrow.
	words := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	for width := 1; width <= 200; width++ {
		t.Setenv("COLUMNS", fmt.Sprint(width))
		var b bytes.Buffer
		if err := printStatus(&b, aStatus(), false); err != nil {
			t.Fatal(err)
		}
		got, _, _ := strings.Cut(words(b.String()), "rules of the host")
		want, _, _ := strings.Cut(words(statusAt200), "rules of the host")
		if got != want {
			t.Errorf("%d columns:\n%s", width, &b)
		}
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > width && width >= 68 {
				t.Errorf("%d columns, and a line of %d: %s", width, n, line)
			}
		}
	}
}

// TestStatusOfAnAddressThatIsLost has a link that is ready except for an address that others have
// to bring.
func TestStatusOfAnAddressThatIsLost(t *testing.T) {
	s := aStatus()
	u := &s.Uplinks[1]
	u.Device.Carrier = true
	u.Waiting = []apply.Waiting{{Why: "eth1 does not have the address 198.51.100.10", Lacks: netip.MustParseAddr("198.51.100.10")}}
	var b bytes.Buffer
	if err := printStatus(&b, s, false); err != nil || !strings.Contains(b.String(), "\nrt2: waits for its address (not brought about yet)\n") {
		t.Errorf("%v:\n%s", err, &b)
	}
}

// terminal opens a new one. The function that is returned reads its other end until that ends
// (pts(4)).
func terminal(t *testing.T, columns uint16) (tty *os.File, shown func() string) {
	t.Helper()
	master, tty := openTerminal(t, columns)
	return tty, func() string {
		var b bytes.Buffer
		tty.Close()
		_, _ = b.ReadFrom(master) // which ends with EIO
		return strings.ReplaceAll(b.String(), "\r\n", "\n")
	}
}

// openTerminal returns a terminal, and the end of whoever sits at it.
func openTerminal(t *testing.T, columns uint16) (master, tty *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	need.Nil(t, err)
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	if tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return master, tty
}

func TestStatusHasColoursOnATerminalOnly(t *testing.T) {
	for _, test := range []struct {
		noColor, term string
		colour        bool
	}{{"", "xterm", true}, {"1", "xterm", false}, {"", "dumb", false}} {
		t.Setenv("COLUMNS", "200") // which the terminal knows better
		t.Setenv("NO_COLOR", test.noColor)
		t.Setenv("TERM", test.term)
		tty, shown := terminal(t, 80)
		if err := printStatus(tty, aStatus(), false); err != nil {
			t.Fatal(err)
		}
		got := shown()
		if !test.colour && got != statusAt80 {
			t.Errorf("%+v:\n%s", test, got)
		}
		if test.colour {
			for _, want := range []string{
				"\x1b[1misp1\x1b[0m: \x1b[31mdiffers from the spec\x1b[0m", "\x1b[33mwaits for its link\x1b[0m",
				"\x1b[32m192.0.2.1 reachable,\x1b[0m \x1b[31m2001:db8:1::1 failed\x1b[0m", "\x1b[2m    700  IPv4  from all to 10.8.0.0/16 lookup 99     \x1b[0m", "\x1b[31m    500  IPv4  from all fwmark 0x7/0xff lookup isp1  \x1b[0m\x1b[31misp1 missing\x1b[0m",
				"\n  10000  IPv4  from 192.0.2.10 lookup isp1           isp1\n",
			} {
				if !strings.Contains(got, want) {
					t.Errorf("%q is not in\n%q", want, got)
				}
			}
		}
	}
}

func TestStatusFoldsManyUplinks(t *testing.T) {
	t.Setenv("COLUMNS", "80")
	s := aStatus()
	s.Notes, s.Drift = nil, nil
	bad := s.Uplinks[0]
	bad.Drift = append(bad.Drift, bad.Drift...)
	bad.Drift = append(bad.Drift, bad.Drift...)
	s.Uplinks, s.Rules = nil, []host.RuleStatus{s.Rules[0], s.Rules[1]}
	for i := range 20 {
		u := bad
		if u.Name, u.Table = fmt.Sprintf("u%02d", i), uint32(i+1); i != 7 {
			u.Drift = nil
		}
		s.Uplinks = append(s.Uplinks, u)
		for range 2 {
			r := host.RuleStatus{Rule: apply.Rule{Rule: u.Rules[1].Rule, Protocol: 118}, Presence: host.Present, Wanted: true, Uplink: u.Name}
			r.Priority = uint32(1000 + i)
			if i == 15 || i == 16 {
				r.Presence = host.Missing
			}
			s.Rules = append(s.Rules, r)
		}
		if i == 9 || i == 10 {
			s.Rules = append(s.Rules, host.RuleStatus{Rule: apply.Rule{Rule: fib.Rule{Family: fib.Inet, Priority: uint32(1000 + i), Action: fib.Unreachable}, Protocol: 4}, Presence: host.Present})
		}
	}
	var b, all bytes.Buffer
	if err := printStatus(&b, s, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"20 uplinks: 19 as the spec says, 1 differs from the spec\n\nu00  eth0      1  192.0.2.10/24, 2001:db8:1::10/64 duplicate via\n",
		"\nu07: differs from the spec (through netlink)\n", "\n             and 5 more: see --all\n",
		"\n          0  both  from all lookup local   the kernel (protocol kernel)\n  1000-1009        20 rules of 10 uplinks  u00 … u09\n       1009  IPv4  from all unreachable    an administrator or systemd-networkd\n",
		"\n       1010        2 rules                 u10\n", "\n  1011-1014        8 rules of 4 uplinks    u11 … u14\n  1015-1016        4 rules of 2 uplinks    u15 … u16 missing\n  1017-1019        6 rules of 3 uplinks    u17 … u19\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s\nis not in\n%s", want, &b)
		}
	}
	if err := printStatus(&all, s, true); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(all.String(), "\n  link "); n != 20 || strings.Contains(all.String(), "see --all") {
		t.Errorf("%d uplinks with --all:\n%s", n, &all)
	}
}

// TestStatusFoldsNoDeadUplink checks that a dead uplink is visible among many that are not.
func TestStatusFoldsNoDeadUplink(t *testing.T) {
	t.Setenv("COLUMNS", "80")
	s := &host.Status{}
	for i := range 18 {
		u := host.UplinkStatus{Name: fmt.Sprintf("u%02d", i), Table: uint32(i + 1), Device: apply.Link{Index: i + 2, Name: fmt.Sprintf("eth%d", i), Up: true, Carrier: true}, Charge: host.ByNetlink}
		h := host.Health{Verdict: fib.Verdict{Uplink: u.Name, Family: fib.Inet}, Judgement: probe.Judgement{Judged: true, Dead: i == 5, Why: "203.0.113.9 has not answered 3 times"}}
		u.Health = []host.Health{h}
		s.Uplinks = append(s.Uplinks, u)
	}
	var b bytes.Buffer
	if err := printStatus(&b, s, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"18 uplinks: 17 as the spec says, 1 dead\n\n", "\nu05: as the spec says, but dead (through netlink)\n", "IPv4 dead since "} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, &b)
		}
	}
	if strings.Contains(b.String(), "u05  ") || !strings.Contains(b.String(), "u06  ") {
		t.Errorf("folded:\n%s", &b)
	}
}

// TestWaitingUplinksDrownNothing has a thousand of them.
func TestWaitingUplinksDrownNothing(t *testing.T) {
	t.Setenv("COLUMNS", "80")
	s, v := &host.Status{}, apply.Verification{}
	for i := range 1001 {
		u := host.UplinkStatus{Name: fmt.Sprintf("u%04d", i), Table: uint32(i + 1), Charge: host.ByNobody}
		if i < 1000 {
			w := apply.Waiting{Link: fib.Link{Name: u.Name}, Why: "there is no link with name e" + u.Name}
			u.Waiting, v.Waiting = []apply.Waiting{w}, append(v.Waiting, w)
		}
		s.Uplinks = append(s.Uplinks, u)
	}
	const more = "984 more wait: `uplinkctl status --all` lists them\n"
	show := func(print func(io.Writer) error) string {
		t.Helper()
		var b bytes.Buffer
		if err := print(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	status := show(func(w io.Writer) error { return printStatus(w, s, false) })
	if !strings.HasPrefix(status, "1001 uplinks: 1 as the spec says, 1000 wait for their link\n") || strings.Count(status, "\n  waits ") != 16 || !strings.Contains(status, "\n\n"+more+"\n") {
		t.Errorf("status:\n%s", status)
	}
	if all := show(func(w io.Writer) error { return printStatus(w, s, true) }); strings.Count(all, "\n  waits ") != 1000 || strings.Contains(all, "more wait") {
		t.Errorf("status --all:\n%s", all)
	}
	if verify := show(func(w io.Writer) error { return printVerification(w, v, nil) }); strings.Count(verify, "waits  uplink u") != 16 || !strings.HasSuffix(verify, "\nwaits  "+more) {
		t.Errorf("verify:\n%s", verify)
	}
	if asJSON := show(func(w io.Writer) error { return printVerificationJSON(w, v, nil, nil) }); strings.Count(asJSON, `"uplink u`) != 1000 {
		t.Errorf("verify --json:\n%s", asJSON)
	}
	if said := show(func(w io.Writer) error { host.SayWaiting(w, v.Waiting); return nil }); strings.Count(said, ": it waits\n") != 16 || !strings.HasSuffix(said, "\nuplinkctl: "+more) {
		t.Errorf("other commands:\n%s", said)
	}
}

func TestStatusAsJSON(t *testing.T) {
	var b bytes.Buffer
	if err := printStatusJSON(&b, aStatus()); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"version": "1", "ok": "false", "backend": "auto", "notes.0": "the kernel command line says uplink=0: nothing is done at boot",
		"uplinks.0.name": "isp1", "uplinks.0.state": "differs", "uplinks.0.backend": "netlink", "uplinks.0.table": "10000",
		"uplinks.0.link.dev": "eth0", "uplinks.0.link.up": "true", "uplinks.0.link.carrier": "true", "uplinks.1.waiting.0": "eth1 has no carrier",
		"uplinks.0.addresses.1.address": "2001:db8:1::10/64", "uplinks.0.addresses.1.state": "duplicate",
		"uplinks.0.gateways.1.address": "2001:db8:1::1", "uplinks.0.gateways.1.neighbour": "failed",
		"uplinks.0.rules.0.family": "ipv4", "uplinks.0.rules.0.priority": "500", "uplinks.0.rules.0.rule": "from all fwmark 0x7/0xff lookup isp1", "uplinks.0.rules.0.state": "missing",
		"uplinks.0.drift.1.kind": "different", "uplinks.0.drift.1.have": "default via 192.0.2.9 dev eth0 table isp1 proto 118",
		"drift.0.kind": "extra", "drift.0.text": "ip rule del priority 9 from 203.0.113.9 lookup 77 protocol 118",
		"rules.3.priority": "500", "rules.3.state": "missing", "rules.3.wanted": "true", "rules.3.owner": "", "rules.4.state": "present", "rules.7.state": "waiting",
		"rules.4.family": "ipv4", "rules.4.priority": "700", "rules.4.rule": "from all to 10.8.0.0/16 lookup 99", "rules.4.protocol": "4",
		"rules.4.owner": "an administrator or systemd-networkd (protocol static)", "rules.4.wanted": "false", "rules.5.uplink": "isp1", "rules.5.wanted": "true",
	} {
		var at any = got
		for key := range strings.SplitSeq(path, ".") {
			switch v := at.(type) {
			case map[string]any:
				at = v[key]
			case []any:
				var i int
				if _, err := fmt.Sscan(key, &i); err != nil || i >= len(v) {
					t.Fatalf("%s: there are %d", path, len(v))
				}
				at = v[i]
			}
		}
		if fmt.Sprint(at) != want {
			t.Errorf("%s is %v, want %s", path, at, want)
		}
	}
	// What is empty is there.
	b.Reset()
	if err := printStatusJSON(&b, &host.Status{Uplinks: []host.UplinkStatus{{Name: "a"}}}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "null") {
		t.Error(b.String())
	}
}

func TestWithoutACommandItIsStatus(t *testing.T) {
	var want, got, wantErr, gotErr bytes.Buffer
	status := uplinkctl([]string{"status"}, &want, &wantErr)
	if uplinkctl(nil, &got, &gotErr) != status || got.String() != want.String() || gotErr.String() != wantErr.String() || status == run.ExitUsage {
		t.Errorf("exit status %d, %s%s\nwant %s%s", status, &got, &gotErr, &want, &wantErr)
	}
}
