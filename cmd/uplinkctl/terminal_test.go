package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
)

// shown is a command that shows something, with its exit status if the kernel holds the spec, and
// if it does not.
type shown struct {
	args           string
	fine, defeated int
	fits           bool // lines are no wider than the terminal
}

func shownCommands() []shown {
	list := []shown{
		{"status", 0, 1, true}, {"check", 0, 0, true}, {"verify", 0, 1, true}, {"diff", 0, 1, false},
		{"explain rt2 8.8.8.8 --all", 0, 0, true}, {"explain isp1 2001:4860:4860::8888", 0, 0, true}, {"explain - 8.8.8.8", 0, 0, true},
		{"explain rt2 8.8.8.8 --offline", 0, 0, true}, {"explain - 8.8.8.8 --oif eth9", 1, 1, true},
		{"export", 0, 0, false}, {"export --format json", 0, 0, false}, {"names", 0, 0, false}, {"graph", 0, 0, false},
		{"render --systemd-version 257", 0, 0, false}, {"schema", 0, 0, false},
		{"help", 0, 0, true}, {"watch --help", 0, 0, true}, {"try --help", 0, 0, true}, {"import --help", 0, 0, true},
	}
	for _, c := range commands() {
		list = append(list, shown{"help " + c.name, 0, 0, true})
	}
	return list
}

// screens are where a command may be run.
var screens = []struct {
	name    string
	columns uint16 // 0 for a pipe
	env     []string
	colour  bool
	nobody  bool
}{
	{"80 columns", 80, []string{"TERM=xterm"}, true, false},
	{"200 columns", 200, []string{"TERM=xterm"}, true, false},
	{"without colours", 80, []string{"TERM=xterm", "NO_COLOR=1"}, false, false},
	{"a dumb terminal", 80, []string{"TERM=dumb"}, false, false},
	{"a pipe", 0, []string{"TERM=xterm"}, false, false},
	{"another user", 80, []string{"TERM=xterm"}, true, true},
	{"another user, a pipe", 0, []string{"TERM=xterm"}, false, true},
}

// shower runs the program in a namespace, for a host's root directory.
type shower struct {
	n             *kerneltest.Namespace
	program, root string
}

// readableDir returns a directory that every user may read.
func readableDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "uplink-terminal-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// newShower has the program and an example where every user may read them, and a
// namespace that holds the example.
func newShower(t *testing.T, example string) shower {
	t.Helper()
	dir := readableDir(t)
	s := shower{kerneltest.NewNamespace(t), filepath.Join(dir, "uplinkctl"), filepath.Join(dir, "root")}
	program, err := exec.LookPath("uplinkctl") // testscript.Main has put it there
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(s.program, data, 0o755), os.CopyFS(s.root, os.DirFS(examples+example+"/root"))); err != nil {
		t.Fatal(err)
	}
	s.n.Card("eth0", "eth1")
	_, state, err := run.Check(s.root)
	if err != nil {
		t.Fatal(err)
	}
	applier := apply.Applier{Kernel: s.n.Kernel(), Hardware: s.n.Hardware()}
	if _, err := applier.Apply(context.Background(), state); err != nil {
		t.Fatal(err)
	}
	s.n.Settle()
	return s
}

// spec is the file that the commands read.
func (s shower) spec() string { return filepath.Join(s.root, "etc/uplink/uplink.toml") }

// show runs a command, and returns what a user sees of it, errors too.
func (s shower) show(t *testing.T, columns uint16, env []string, nobody bool, args string) (code int, text string) {
	t.Helper()
	argv := append([]string{s.program}, strings.Fields(args)...)
	if first := argv[1]; first != "help" && first != "schema" && argv[len(argv)-1] != "--help" {
		argv = append(argv, "--root", s.root)
	}
	if nobody {
		argv = append([]string{"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0"}, env...)
	var pipe bytes.Buffer
	end := pipe.String
	if cmd.Stdout, cmd.Stderr = &pipe, &pipe; columns > 0 {
		tty, shown := terminal(t, columns)
		cmd.Stdout, cmd.Stderr, end = tty, tty, shown
	}
	if err := s.n.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	if columns == 0 {
		done <- cmd.Wait()
	} else { // a terminal holds little: it is read while the program runs
		go func() { done <- cmd.Wait() }()
	}
	text = end()
	var exit *exec.ExitError
	if err := <-done; err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), text
}

// widest returns the longest line, by what is seen of it.
func widest(text string) (line string, columns int) {
	for l := range strings.Lines(text) {
		l = strings.TrimRight(l, "\n")
		if n := utf8.RuneCountInString(withoutColours(l)); n > columns {
			line, columns = l, n
		}
	}
	return line, columns
}

// withoutColours takes SGR sequences out.
func withoutColours(s string) string {
	for {
		at := strings.Index(s, "\x1b[")
		if at < 0 {
			return s
		}
		end := strings.IndexByte(s[at:], 'm')
		s = s[:at] + s[at+end+1:]
	}
}

// TestEveryCommandOnEveryScreen runs all that show something, with a kernel that holds the spec
// and with one that does not.
func TestEveryCommandOnEveryScreen(t *testing.T) {
	s := newShower(t, "dual-stack")
	all := func(t *testing.T, defeated bool) {
		for _, sc := range screens {
			for _, c := range shownCommands() {
				code, text := s.show(t, sc.columns, sc.env, sc.nobody, c.args)
				want := c.fine
				if defeated {
					want = c.defeated
				}
				what := fmt.Sprintf("%s, %s", sc.name, c.args)
				if code != want || text == "" && c.args != "diff" {
					t.Errorf("%s: exit status %d, want %d\n%s", what, code, want, text)
				}
				if line, n := widest(text); c.fits && sc.columns > 0 && n > int(sc.columns) {
					t.Errorf("%s: %d columns: %s", what, n, line)
				} else if strings.HasPrefix(c.args, "explain rt2") && sc.columns == 200 && n != 200 {
					t.Errorf("%s: only %d columns are used\n%s", what, n, text)
				}
				coloured := strings.Contains(text, "\x1b")
				if want := sc.colour && (c.args == "status" || c.args == "verify"); coloured != want {
					t.Errorf("%s: colours: %v\n%q", what, coloured, text)
				}
				if sc.nobody && strings.Contains(text, "denied") && !strings.Contains(text, "root") {
					t.Errorf("%s: it is not said what root is needed for\n%s", what, text)
				}
			}
		}
	}
	t.Run("in effect", func(t *testing.T) { all(t, false) })
	s.n.IP("rule del priority 10001 from 198.51.100.10", "rule add priority 9 to 203.0.113.0/24 lookup 77 protocol 118",
		"-6 rule add priority 5 from 2001:db8:2::10 prohibit", "route add default via 198.51.100.77 dev eth1 table 77 metric 7 proto 118")
	t.Run("defeated", func(t *testing.T) { all(t, true) })

	t.Run("a spec that only root may read", func(t *testing.T) {
		if err := os.Chmod(s.spec(), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, c := range shownCommands() {
			code, text := s.show(t, 80, []string{"TERM=dumb"}, true, c.args)
			reads := code != 0 || c.args == "status"
			if reads && !strings.Contains(text, "only root may ") && !strings.Contains(text, "there is no link") {
				t.Errorf("%s: exit status %d, and it is not said what root is needed for\n%s", c.args, code, text)
			}
		}
	})
}

// TestStatusOfALinkWithoutIPv6 checks that the IPv6 part is left out, and does not wait.
func TestStatusOfALinkWithoutIPv6(t *testing.T) {
	s := newShower(t, "dual-stack")
	s.n.Sysctl("net/ipv6/conf/eth1/disable_ipv6", "1")
	s.n.IP("-6 rule del priority 10001", "-6 rule del priority 10001")
	code, text := s.show(t, 0, []string{"COLUMNS=80"}, false, "status")
	for _, want := range []string{
		"\nrt2: as the spec says (through netlink)\n", "\n  left out   eth1 has IPv6 switched off (net.ipv6.conf.eth1.disable_ipv6)\n",
		"198.51.100.10/24, 2001:db8:2::10/64 left out\n", "from 2001:db8:2::10 left out\n", "from 2001:db8:2::10 lookup rt2          rt2 left out\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
	if code != 0 || strings.Contains(text, "waits") || t.Failed() {
		t.Errorf("exit status %d\n%s", code, text)
	}
	code, text = s.show(t, 0, nil, false, "diff")
	if want := "uplinkctl: uplink rt2: eth1 has IPv6 switched off (net.ipv6.conf.eth1.disable_ipv6): its IPv6 part is left out\n"; code != 0 || text != want {
		t.Errorf("diff: exit status %d\n%s", code, text)
	}
}

// TestDownIfNeeded stops the oneshot with each back end in effect.
func TestDownIfNeeded(t *testing.T) {
	s := newShower(t, "dual-stack")
	note := filepath.Join(s.root, "run/uplink/in-effect.json")
	if err := os.MkdirAll(filepath.Dir(note), 0o755); err != nil {
		t.Fatal(err)
	}
	before := s.n.Dump()
	for _, c := range []struct {
		what, note string
		stays      bool
	}{
		{"networkd has it all", `{"Backend":"networkd"}`, true},
		{"networkd may have some", `{"Backend":"auto"}`, false},
	} {
		if err := os.WriteFile(note, []byte(c.note), 0o644); err != nil {
			t.Fatal(err)
		}
		code, text := s.show(t, 0, nil, false, "down --if-needed")
		_, err := os.Stat(note)
		if code != 0 || text != "" || (err == nil) != c.stays || (s.n.Dump() == before) != c.stays {
			t.Errorf("%s: exit status %d %s; the note: %v\n%s", c.what, code, text, err, kerneltest.Diff(before, s.n.Dump()))
		}
	}
}

// TestApplyForceIsKept checks that the watch keeps what is applied to networkd's links.
func TestApplyForceIsKept(t *testing.T) {
	s := newShower(t, "dual-stack")
	for args, want := range map[string]string{"apply": `{"Backend":"auto",`, "apply --force": `{"Backend":"netlink",`} {
		code, text := s.show(t, 0, nil, false, args)
		note, err := os.ReadFile(filepath.Join(s.root, "run/uplink/in-effect.json"))
		if code != 0 || err != nil || !strings.HasPrefix(string(note), want) {
			t.Errorf("%s: exit status %d %s; noted %.40q, want %q: %v", args, code, text, note, want, err)
		}
	}
}

// TestWithoutAnUplink removes what is in effect, first by a spec that has been cut short and then
// by none at all, and says so.
func TestWithoutAnUplink(t *testing.T) {
	s := newShower(t, "dual-stack")
	for _, c := range []struct{ what, spec, want string }{
		{"a comment", "# [uplink.isp1]\n", "uplinkctl: the spec has no uplink: all that is there of an earlier one is taken away\n"},
		{"no spec", "", " below " + s.root + ": all that is there of an earlier one is taken away\n"},
	} {
		err := os.WriteFile(s.spec(), []byte(c.spec), 0o644)
		if c.spec == "" {
			err = os.Remove(s.spec())
		}
		if err != nil {
			t.Fatal(err)
		}
		if code, text := s.show(t, 0, nil, false, "apply --dry-run"); c.spec != "" && (code != 0 || !strings.HasPrefix(text, c.want)) {
			t.Errorf("apply --dry-run of %s: exit status %d\n%s", c.what, code, text)
		}
		if code, text := s.show(t, 0, nil, false, "reload"); code != 0 || !strings.Contains(text, c.want) {
			t.Errorf("%s: exit status %d\n%s", c.what, code, text)
		}
		// There is nothing left to be taken away.
		none, _, _ := strings.Cut(strings.TrimPrefix(c.want, "uplinkctl: "), ": all that")
		code, text := s.show(t, 0, nil, false, "try")
		if code != 1 || !strings.HasPrefix(text, "uplinkctl: there is nothing to try: ") || !strings.Contains(text, none+"\n") || strings.Contains(text, "uplink.toml(5) says ") != (c.spec == "") {
			t.Errorf("try of %s: exit status %d\n%s", c.what, code, text)
		}
	}
}

// TestRenderWhereOneMayNotWrite checks that the error names the real path, and does not suggest
// sudo for the user's own directory.
func TestRenderWhereOneMayNotWrite(t *testing.T) {
	s := newShower(t, "dual-stack")
	code, text := s.show(t, 0, nil, true, "render --systemd-version 257 --output "+s.root)
	if want := "uplinkctl: " + s.root + "/run/systemd/network: permission denied\n"; code != 1 || !strings.HasSuffix(text, want) {
		t.Errorf("exit status %d\n%s\nwant %s", code, text, want)
	}
}
