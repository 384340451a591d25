package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen/lookup"
)

const examples = "../../integration/examples/"

// runCommand runs a command as main does.
func runCommand(c *command, args ...string) (code int, stdout, stderr string) {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	c.flags(flags)
	if err := flags.Parse(args); err != nil {
		return run.ExitUsage, "", err.Error()
	}
	var out, errs bytes.Buffer
	code = c.run(flags.Args(), &out, &errs)
	return code, out.String(), errs.String()
}

func explain(args ...string) (code int, stdout, stderr string) {
	return runCommand(explainCommand(), args...)
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestExplainOfARuleWithEverything(t *testing.T) {
	code, stdout, stderr := explain("-", "8.8.8.8", "--offline", "--root", examples+"reference/root")
	if !strings.Contains(stdout, "\n   900  not from 192.0.2.0/24 to 203.0.113.0/24 fwmark 0x1/0xffffffff iif eth0\n            oif eth1 ") {
		t.Errorf("a long rule:\n%s", stdout)
	}
	for line := range strings.Lines(stdout) {
		if n := len([]rune(line)); n > usual+1 {
			t.Errorf("%d columns: %s", n-1, line)
		}
	}
	if want := "\nnot evaluated: whether the packet is of a VRF, which the rule at 903 asks\n"; code != run.ExitOK || !strings.Contains(stdout, want) {
		t.Errorf("exit status %d, %s%s", code, stdout, stderr)
	}
}

func TestExplainOffline(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		want []string // regular expressions, in this order
	}{
		{"rt2 8.8.8.8 --offline --root recipe", 0, []string{
			`(?m)^     0  from all lookup local +the kernel$`, `no route: goes on`, `3 rules do not match`,
			`(?m)^ 10001  from 198\.51\.100\.10 lookup rt2 +/etc/uplink/uplink\.toml:10$`,
			`(?m)^        → default via 198\.51\.100\.1 dev eth1 +/etc/uplink/uplink\.toml:10$`,
			`(?m)^leaves by eth1 via 198\.51\.100\.1, table rt2$`,
		}},
		{"- 8.8.8.8 --offline --root recipe --all", 0, []string{`does not match: from`, `main`, `leaves by eth0 via 192\.0\.2\.1, table main, with source 192\.0\.2\.10`}},
		{"- 8.8.8.8 --offline --root recipe --json", 0, []string{`"way": \{\s+"type": "unicast",\s+"table": 254,\s+"dev": "eth0",\s+"via": "192\.0\.2\.1",\s+"src": "192\.0\.2\.10"\s+\}`}},
		{"- 224.0.0.5 --offline --root recipe", 1, []string{`^\nnot evaluated, this is no address of one host: `}},
		{"isp1 192.0.2.77 --offline --root containers", 0, []string{`suppress_prefixlength 0`, `leaves by eth0, table isp1`}},
		{"- 8.8.8.8 --mark 0x66 --offline --root vpn-fail-closed", 0, []string{`fwmark 0x66/0xffffffff`, `leaves by wg0, table tunnel`}},
		{"- 2a00::1 --mark 0x66 --offline --root vpn-fail-closed", 1, []string{`unreachable default`, `not sent: unreachable`, `source 2001:db8:1::10`, `unreachable: refused`}},
		{"203.0.113.7 8.8.8.8 --offline --root recipe", 1, []string{`unreachable: this host does not have the source`}},
		{"2001:db8:77::1 2a00::1 --offline --root dual-stack", 1, []string{`leaves by eth0 .*\nthis host does not have 2001:db8:77::1: no program can send from it\n$`}},
		{"2001:db8:2::10 2a00::1 --offline --root dual-stack", 0, []string{`leaves by eth1 via 2001:db8:2::1, table rt2\n$`}},
		{"- 8.8.8.8 --offline --root three-providers", 0, []string{`leaves by eth1`, `or leaves by eth0`}},
	} {
		args := strings.Fields(c.args)
		for i := range args {
			if i > 0 && args[i-1] == "--root" {
				args[i] = examples + args[i] + "/root"
			}
		}
		code, stdout, stderr := explain(args...)
		rest := stdout
		for _, want := range c.want {
			at := regexp.MustCompile(want).FindStringIndex(rest)
			if at == nil {
				t.Errorf("%s: no %q in\n%s", c.args, want, stdout)
				break
			}
			rest = rest[at[1]:]
		}
		if code != c.code || stderr != "" {
			t.Errorf("%s: exit status %d, want %d: %s", c.args, code, c.code, stderr)
		}
		for line := range strings.Lines(stdout) {
			if n := len([]rune(line)); n > usual+1 {
				t.Errorf("%s: %d columns: %s", c.args, n-1, line)
			}
		}
	}
}

func TestExplainUsage(t *testing.T) {
	for args, want := range map[string]string{
		"":                          "0 arguments, want SRC and DST",
		"rt2":                       "1 arguments, want SRC and DST",
		"rt2 8.8.8.8 x":             "3 arguments",
		"rt2 example.org":           `DST is "example.org" and has to be an address`,
		"192.0.2.1 2001:db8::1":     "different families",
		"- 8.8.8.8 --mark x":        "invalid value",
		"- 8.8.8.8 --proto gre":     "tcp, udp, icmp",
		"- 8.8.8.8 --sport 5":       "ports need --proto",
		"- 8.8.8.8 --iif a --oif b": "give one of",
	} {
		code, stdout, stderr := explain(strings.Fields(args)...)
		if code != run.ExitUsage || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit status %d: %s, want %q", args, code, stderr, want)
		}
	}
	if code, stdout, _ := explain("-", "8.8.8.8", "--help"); code != 0 || stdout != explainUsage {
		t.Errorf("help: %d %s", code, stdout)
	}
	code, _, stderr := explain("nobody", "8.8.8.8", "--offline", "--root", examples+"recipe/root")
	if code != 1 || !strings.Contains(stderr, `SRC is "nobody" and has to be an address, "-", or an uplink of the spec: isp1, rt2`) {
		t.Errorf("an unknown uplink: %d %s", code, stderr)
	}
}

// TestExplainAsksTheKernel explains in a namespace that holds an example and something of
// somebody else's.
func TestExplainAsksTheKernel(t *testing.T) {
	n := kerneltest.NewNamespace(t)
	n.Card("eth0", "eth1")
	root := examples + "dual-stack/root"
	_, state, err := run.Check(root)
	if err != nil {
		t.Fatal(err)
	}
	applier := apply.Applier{Kernel: n.Kernel(), Hardware: n.Hardware()}
	if _, err := applier.Apply(context.Background(), state); err != nil {
		t.Fatal(err)
	}
	n.Settle()
	n.IP("rule add priority 5 to 9.9.9.9 prohibit protocol boot", "route add 203.0.113.0/24 via 192.0.2.7 table 1000 protocol static onlink dev eth0",
		"rule add priority 6 to 203.0.113.0/24 lookup 1000 protocol static", "route add local 100.64.0.0/10 dev lo table 1000", "-6 route add local 2001:db8:78::/48 dev lo")
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"rt2 8.8.8.8", 0, `lookup rt2 +/etc/uplink/uplink\.toml:\d+\n.*default via.*uplink\.toml:\d+\n(?s:.*)\nleaves by eth1 via 198\.51\.100\.1, table rt2\nthe kernel says the same`},
		{"rt2 2a00::1", 0, `leaves by eth1 via 2001:db8:2::1, table rt2\nthe kernel says the same`},
		{"- 2a00::1", 0, `leaves by eth0 via 2001:db8:1::1, table main, with source 2001:db8:1::10\nthe kernel says the same`},
		{"2001:db8:77::1 2a00::1", 1, `leaves by eth0 via 2001:db8:1::1, table main\nthis host does not have 2001:db8:77::1: no program can send from it\nthe kernel says the same\n$`},
		{"2001:db8:78::1 2a00::1", 0, `leaves by eth0 via 2001:db8:1::1, table main\nthe kernel says the same\n$`},
		{"2001:db8:77::1 2a00::1 --iif eth0", 0, `leaves by eth0 via 2001:db8:1::1, table main\nthe kernel says the same\n$`},
		{"- 9.9.9.9", 1, `(?m)^     5  from all to 9\.9\.9\.9 prohibit +boot scripts\n(?s:.*)prohibit: refused\nthe kernel says the same`},
		{"isp1 203.0.113.5", 0, `an administrator or systemd-networkd\n(?s:.*)leaves by eth0 via 192\.0\.2\.7, table 1000\nthe kernel`},
		{"- 192.0.2.10", 0, `is for this host, table local, with source 192\.0\.2\.10\nthe kernel says the same`},
		{"- 224.0.0.5", 1, `not evaluated, .*\nthe kernel says: multicast by eth0, table main, with source 192\.0\.2\.10\n$`},
		{"- 8.8.8.8 --oif eth1 --uid 1000 --proto tcp --dport 443", 0, `the kernel says the same`},
	} {
		var code int
		var stdout, stderr string
		err := n.Do(func() error {
			code, stdout, stderr = explain(append(strings.Fields(c.args), "--root", root)...)
			return nil
		})
		if err != nil || code != c.code || stderr != "" || !regexp.MustCompile(c.want).MatchString(stdout) {
			t.Errorf("%s: %v, exit status %d, want %d: %s\n%s\nwant %s", c.args, err, code, c.code, stderr, stdout, c.want)
		}
		var out jsonExplanation
		_ = n.Do(func() error {
			_, stdout, _ = explain(append(strings.Fields(c.args), "--root", root, "--json")...)
			return nil
		})
		if err := json.Unmarshal([]byte(stdout), &out); err != nil || out.OK != (c.code == 0) {
			t.Errorf("%s --json: %v\n%s", c.args, err, stdout)
		}
		if out.Unheld != strings.Contains(c.want, "does not have") {
			t.Errorf("%s --json: %s", c.args, stdout)
		}
		if evaluated := out.Reason != string(lookup.NotADirectWay); evaluated != (out.Agrees != nil && *out.Agrees) || evaluated != (len(out.Steps) > 0) {
			t.Errorf("%s --json: %v\n%s", c.args, err, stdout)
		}
	} // One of another's comes before the spec's, with the same key.
	n.IP("route prepend default via 192.0.2.1 dev eth0 table 1")
	err = n.Do(func() error {
		_, stdout, _ := explain("rt2", "8.8.8.8", "--root", root)
		if want := `→ default via 192\.0\.2\.1 dev eth0 +boot scripts\n`; !regexp.MustCompile(want).MatchString(stdout) {
			t.Errorf("%s\nwant %s", stdout, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	n.Sysctl("net/ipv6/ip_nonlocal_bind", "1")
	err = n.Do(func() error {
		if code, stdout, _ := explain("2001:db8:77::1", "2a00::1", "--root", root); code != 0 || strings.Contains(stdout, "does not have") {
			t.Errorf("with ip_nonlocal_bind: exit status %d\n%s", code, stdout)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestExplainSaysWhichUplinksWait checks that those that concern the packet are named after its
// way, and no others.
func TestExplainSaysWhichUplinksWait(t *testing.T) {
	n := kerneltest.NewNamespace(t)
	n.Card("eth0")
	var text strings.Builder
	text.WriteString("[uplink.isp1]\ninterface = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.1\"]\ndefault-route = true\nmetric = 100\n")
	text.WriteString("[uplink.vpn]\ninterface = \"wg0\"\naddresses = [\"10.66.0.2/32\"]\nfwmark = 0x66\nfallthrough = \"unreachable\"\n[[uplink.vpn.route]]\nto = \"default\"\n")
	text.WriteString("[uplink.spare]\ninterface = \"eth9\"\naddresses = [\"198.51.100.10/24\"]\ngateways = [\"198.51.100.1\"]\ndefault-route = true\nmetric = 200\n[[uplink.spare.route]]\nto = \"203.0.113.0/24\"\nvia = \"198.51.100.1\"\ntable = \"main\"\n")
	for i := range 200 {
		fmt.Fprintf(&text, "[uplink.u%04d]\ninterface = \"many%d\"\naddresses = [\"10.0.%d.2/24\"]\ngateways = [\"10.0.%d.1\"]\n", i, i, i, i)
	}
	root := t.TempDir()
	if err := os.MkdirAll(root+"/etc/uplink", 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, root+"/etc/uplink/uplink.toml", text.String())
	_, state, err := run.Check(root)
	if err != nil {
		t.Fatal(err)
	}
	applier := apply.Applier{Kernel: n.Kernel(), Hardware: n.Hardware()}
	if _, err := applier.Apply(context.Background(), state); err != nil {
		t.Fatal(err)
	}
	waits := func(uplink, link string) string {
		return "uplinkctl: uplink " + uplink + ": there is no link with name " + link + ": it waits\n"
	}
	for args, want := range map[string]string{
		"- 8.8.8.8":             "",
		"isp1 8.8.8.8":          "",
		"u0150 8.8.8.8":         waits("u0150", "many150"),
		"10.0.7.2 8.8.8.8":      waits("u0007", "many7"),
		"- 8.8.8.8 --mark 0x66": waits("vpn", "wg0"),
		"- 203.0.113.5":         waits("spare", "eth9"),
	} {
		var stderr string
		err := n.Do(func() error {
			_, _, stderr = explain(append(strings.Fields(args), "--root", root)...)
			return nil
		})
		if err != nil || stderr != want {
			t.Errorf("%s: %v: %q, want %q", args, err, stderr, want)
		}
	}
}
