package integration

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/gen/need"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// trial is an `uplinkctl try` at work.
type trial struct {
	t         *testing.T
	ctx       context.Context
	cmd       *exec.Cmd
	ended     chan error
	out, errs *lab.Buffer
	run       string // the directory that tries are written down in
}

// startTry starts `uplinkctl try` below root and waits until the spec is in effect.
func startTry(ctx context.Context, t *testing.T, cmd *exec.Cmd, root string) *trial {
	t.Helper()
	r := &trial{t: t, ctx: ctx, cmd: cmd, ended: make(chan error, 1), out: &lab.Buffer{}, errs: &lab.Buffer{}, run: filepath.Join(root, "run/uplink")}
	cmd.Stdout, cmd.Stderr = r.out, r.errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.ended <- cmd.Wait() }()
	err := lab.Poll(ctx, func() (bool, string) {
		return len(r.ended) > 0 || strings.Contains(r.out.String(), "within "), r.out.String()
	})
	if err != nil || len(r.ended) > 0 {
		t.Fatalf("it is not in effect: %v\n%s%s", err, r.out, r.errs)
	}
	return r
}

// end waits for the process.
func (r *trial) end() answer {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-r.ctx.Done():
		r.t.Fatalf("it does not end: %s%s", r.out, r.errs)
	}
	return answer{r.cmd.ProcessState.ExitCode(), r.out.String(), r.errs.String()}
}

// signal sends the process a signal, and waits for its end.
func (r *trial) signal(s os.Signal) answer {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
	return r.end()
}

// isPending says whether there is something to decide, or something is left of it.
func (r *trial) isPending() bool {
	left, err := filepath.Glob(filepath.Join(r.run, "try*"))
	if err != nil {
		r.t.Fatal(err)
	}
	return len(left) > 0
}

// decided waits until nothing is pending any more, and nothing of the try is left.
func (r *trial) decided() {
	r.t.Helper()
	if err := lab.Poll(r.ctx, func() (bool, string) { return !r.isPending(), "the try is pending" }); err != nil {
		r.t.Fatal(err)
	}
}

// What a try says in the end.
const (
	inEffect = `in effect for now; verified: (\d+) of \d+ ways are right\nkeep it with .uplinkctl try --confirm. within \d+ seconds, or it goes back\n`
	wentBack = "all is as it was before; the spec still says the new: change it before the next reboot or reload\n$"
)

// tries are the ways in which a try ends, for a host of either back end. Each gets a try that is
// in effect, and returns whether it was kept.
var tries = map[string]func(t *testing.T, r *trial, uplinkctl func(args ...string) answer) (kept bool){
	"the time is over": func(t *testing.T, r *trial, _ func(...string) answer) bool {
		r.end().expect(t, "the time is over", 1, inEffect+"$", "^uplinkctl: "+wentBack)
		return false
	},
	"kept": func(t *testing.T, r *trial, uplinkctl func(...string) answer) bool {
		uplinkctl("try", "--confirm").expect(t, "--confirm", 0, "^kept\n$", "")
		r.end().expect(t, "kept", 0, inEffect+"kept\n$", "")
		uplinkctl("try", "--confirm").expect(t, "--confirm again", 1, "", "^uplinkctl: no try is pending\n$")
		return true
	},
	"cancelled": func(t *testing.T, r *trial, uplinkctl func(...string) answer) bool {
		uplinkctl("try", "--cancel").expect(t, "--cancel", 0, "^"+wentBack, "")
		r.end().expect(t, "cancelled", 1, inEffect+"$", "^uplinkctl: "+wentBack)
		uplinkctl("try", "--cancel").expect(t, "--cancel again", 1, "", "^uplinkctl: no try is pending\n$")
		return false
	},
	"interrupted": func(t *testing.T, r *trial, _ func(...string) answer) bool {
		r.signal(os.Interrupt).expect(t, "interrupted", 1, inEffect+"$", "^uplinkctl: "+wentBack)
		return false
	},
	"the session is lost": func(t *testing.T, r *trial, _ func(...string) answer) bool {
		r.signal(syscall.SIGHUP).expect(t, "hung up", 1, inEffect+"$", "the session has ended: it goes back by itself")
		if !r.isPending() {
			t.Error("it has gone back at once")
		}
		return false
	},
	"told to end": func(t *testing.T, r *trial, _ func(...string) answer) bool {
		r.signal(syscall.SIGTERM).expect(t, "told to end", 1, inEffect+"$", "told to end: it goes back by itself")
		if !r.isPending() {
			t.Error("it has gone back at once")
		}
		return false
	},
	"the session is lost and it is kept from another": func(t *testing.T, r *trial, uplinkctl func(...string) answer) bool {
		r.signal(syscall.SIGHUP)
		uplinkctl("try", "--confirm").expect(t, "--confirm", 0, "^kept\n$", "")
		return true
	},
	"killed": func(t *testing.T, r *trial, _ func(...string) answer) bool {
		r.signal(syscall.SIGKILL)
		if !r.isPending() {
			t.Error("nothing is pending")
		}
		return false
	},
}

// timeout is for a try that should run out.
const timeout = 3 * time.Second

// TestTryThroughNetlink ends a try in each possible way.
func TestTryThroughNetlink(t *testing.T) {
	t.Parallel()
	require(t)
	for name, end := range tries {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, l, c := bootHost(t, provider1, provider2)
			c.spec(twoUplinks)
			c.ok("reload")
			before, files := dump(ctx, t, l.Host), c.files()
			c.spec(changedUplink)
			r := startTry(ctx, t, c.command("try", "--timeout", "3"), c.root)
			began := time.Now()
			c.ok("diff")
			kept := end(t, r, func(args ...string) answer { return c.run(args[0], args[1:]...) })
			r.decided()
			if took := time.Since(began); !kept && took > timeout+2*time.Second {
				t.Errorf("it went back after %v", took)
			}
			if kept {
				time.Sleep(max(0, timeout+time.Second-time.Since(began)))
				c.ok("diff")
				c.ok("reload")
				return
			}
			if now := dump(ctx, t, l.Host); now != before {
				t.Errorf("the kernel holds\n%s, held\n%s", now, before)
			}
			if now := c.files(); now != files {
				t.Errorf("the files are\n%s, were\n%s", now, files)
			}
		})
	}
}

// files returns what there is below the host's /run, but for locks.
func (c *cli) files() string {
	c.t.Helper()
	return filesBelow(c.t, filepath.Join(c.root, "run"))
}

func filesBelow(t *testing.T, dirs ...string) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() || e.Name() == "lock" {
				return err
			}
			data, err := os.ReadFile(path)
			b.WriteString(strings.TrimPrefix(path, dir) + "\n" + string(data) + "\n")
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return b.String()
}

// TestTryOfOtherChanges goes back from a first spec, from none, and from changes of all
// kinds.
func TestTryOfOtherChanges(t *testing.T) {
	t.Parallel()
	require(t)
	firstOnly := twoUplinks[:strings.Index(twoUplinks, "[uplink.rt2]")]
	for name, specs := range map[string][2]string{
		"the first spec":         {"", twoUplinks},
		"no spec":                {twoUplinks, ""},
		"an uplink less":         {twoUplinks, firstOnly},
		"an uplink more":         {firstOnly, twoUplinks},
		"another priority":       {twoUplinks, strings.Replace(twoUplinks, "[uplink.rt2]", "[uplink.rt2]\npriority = 500", 1)},
		"it fails closed":        {twoUplinks, failsClosed},
		"a link by its pattern":  {twoUplinks, strings.Replace(changedUplink, `"eth1"`, `"eth[1-9]"`, 1)},
		"another MTU":            {twoUplinks, strings.Replace(twoUplinks, "[uplink.rt2]", "[uplink.rt2]\nmtu = 1400", 1)},
		"from another MTU":       {strings.Replace(twoUplinks, "[uplink.rt2]", "[uplink.rt2]\nmtu = 1400", 1), strings.Replace(twoUplinks, "[uplink.rt2]", "[uplink.rt2]\nmtu = 1300", 1)},
		"rules of one priority":  {"[uplink.z]\ninterface = \"eth1\"\naddresses = [\"198.51.100.30/24\"]\ngateways = [\"198.51.100.1\"]\nfrom = [\"198.51.100.30/32\", \"203.0.113.0/24\"]\n" + twoUplinks, twoUplinks},
		"a second address first": {strings.Replace(twoUplinks, `"198.51.100.10/24"`, `"198.51.100.10/24", "198.51.100.11/24"`, 1), strings.Replace(twoUplinks, `"198.51.100.10/24"`, `"198.51.100.11/24", "198.51.100.10/24"`, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, l, c := bootHost(t, provider1, provider2)
			ip(ctx, t, l.Host, "link set eth0 up", "link set eth1 up")
			if err := l.Host.WaitSettled(ctx); err != nil {
				t.Fatal(err)
			}
			put := func(spec string) {
				if spec != "" {
					c.spec(spec)
				} else if err := os.RemoveAll(filepath.Join(c.root, "etc")); err != nil {
					t.Fatal(err)
				}
			}
			if specs[0] != "" {
				put(specs[0])
				c.ok("reload")
			}
			before, files := dump(ctx, t, l.Host), c.files()
			put(specs[1])
			r := startTry(ctx, t, c.command("try"), c.root)
			if now := dump(ctx, t, l.Host); now == before {
				t.Error("nothing is tried")
			}
			c.run("try", "--cancel").expect(t, "--cancel", 0, "^"+wentBack, "")
			r.end()
			if now := dump(ctx, t, l.Host); now != before {
				t.Errorf("the kernel holds\n%s, held\n%s", now, before)
			}
			if now := c.files(); now != files {
				t.Errorf("the files are\n%s, were\n%s", now, files)
			}
		})
	}
}

// TestTryLosesNoPacket tries one change of an uplink after the other while packets leave
// by another uplink.
func TestTryLosesNoPacket(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	c.spec(twoUplinks)
	c.ok("reload")
	if err := l.Host.WaitSettled(ctx); err != nil {
		t.Fatal(err)
	}
	unbroken(t, l, func() {
		for range 5 {
			c.spec(changedUplink)
			r := startTry(ctx, t, c.command("try"), c.root)
			c.run("try", "--cancel").expect(t, "--cancel", 0, "^"+wentBack, "")
			r.end()
		}
	})
}

// unbroken runs f while packets leave by the first uplink of twoUplinks.
func unbroken(t *testing.T, l *lab.Lab, f func()) {
	t.Helper()
	stop := make(chan struct{})
	var flows []*flow
	var wg sync.WaitGroup
	for _, source := range []string{"192.0.2.10", "2001:db8:1::10"} {
		from := netip.MustParseAddr(source)
		f := udpFlow(t, l, from, l.ClientAddr(from.Is6()))
		flows = append(flows, f)
		wg.Go(func() { f.send(stop) })
	}
	f()
	close(stop)
	wg.Wait()
	for _, f := range flows {
		f.finish(t)
	}
}

// TestWhileATryIsPending checks that everything else refuses to change anything, except what
// serves a card that is plugged in.
func TestWhileATryIsPending(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	c.spec(twoUplinks)
	c.ok("reload")
	c.run("try").expect(t, "nothing to try", 1, "", "^uplinkctl: there is nothing to try: ")
	before := dump(ctx, t, l.Host)
	c.spec(changedUplink + "x = 1\n")
	c.run("try").expect(t, "a bad spec", 1, "", "1 error; nothing was changed\n$")
	// Of another's in the way: what was done is undone.
	ip(ctx, t, l.Host, "route add default via 192.0.2.9 dev eth0 table 2 proto static")
	c.spec(changedUplink)
	c.run("try").expect(t, "in the way", 1, "", "is in the way .*\nuplinkctl: all is as it was before\n$")
	ip(ctx, t, l.Host, "route del default via 192.0.2.9 dev eth0 table 2")
	// A rule of somebody else's defeats the spec.
	ip(ctx, t, l.Host, "rule add priority 5 from 198.51.100.20 lookup 10000 protocol kernel")
	c.run("try").expect(t, "defeated", 1, "", "^WRONG  rt2 .*packets would leave the wrong way\nuplinkctl: all is as it was before\n$")
	ip(ctx, t, l.Host, "rule del priority 5")
	if now := dump(ctx, t, l.Host); now != before {
		t.Errorf("the kernel holds\n%s, held\n%s", now, before)
	}

	r := startTry(ctx, t, c.command("try"), c.root)
	tried := dump(ctx, t, l.Host)
	const refusal = "^uplinkctl: a try is pending for 1[12]\\d more seconds, then it goes back: `uplinkctl try --confirm` keeps it, `uplinkctl try --cancel` goes back now\n$"
	for _, args := range [][]string{{"try"}, {"reload"}, {"apply"}, {"apply", "--force"}, {"down"}} {
		c.run(args[0], args[1:]...).expect(t, strings.Join(args, " "), 1, "", refusal)
	}
	c.run("reload", "--if-changed").expect(t, "reload --if-changed", 0, "", "^uplinkctl: nothing is done: a try is pending")
	c.run("apply", "--dry-run").expect(t, "apply --dry-run", 0, "", "")
	c.ok("diff")
	c.run("status").expect(t, "status", 0, "^note: a try is pending for 1[12]\\d more seconds", "")
	if now := dump(ctx, t, l.Host); now != tried {
		t.Errorf("the kernel holds\n%s, held\n%s", now, tried)
	}
	if info, err := os.Stat(filepath.Join(r.run, "try")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info, err)
	}

	// A card is pulled, and plugged in again.
	ip(ctx, t, l.Host, "address flush dev eth1 scope global", "route flush table 2")
	c.ok("apply", "--if-needed", "--link", "eth1")
	if now := sorted(dump(ctx, t, l.Host)); now != sorted(tried) {
		t.Errorf("the kernel holds\n%s, held\n%s", now, tried)
	}
	c.run("try", "--cancel").expect(t, "--cancel", 0, "^"+wentBack, "")
	r.end()
	if now := sorted(dump(ctx, t, l.Host)); now != sorted(before) {
		t.Errorf("the kernel holds\n%s, held\n%s", now, before)
	}
	c.spec(twoUplinks)
	c.ok("reload")
}

// TestTryOnATerminal answers the question.
func TestTryOnATerminal(t *testing.T) {
	t.Parallel()
	require(t)
	need.Program(t, "script")
	for name, test := range map[string]struct {
		typed string
		code  int
		says  string
	}{
		"ENTER":  {"\n", 0, `\(q: now\) \r?\n?kept\r\n`},
		"q":      {"q\n", 1, `\(q: now\) .*uplinkctl: all is as it was before; `},
		"n":      {"n\n", 1, `uplinkctl: all is as it was before; `},
		"EOF":    {"\x04", 1, `uplinkctl: all is as it was before; `},
		"Ctrl-C": {"\x03", 1, `uplinkctl: all is as it was before; `},
		"hm":     {"hm\n\n", 0, `kept\r\n`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, l, c := bootHost(t, provider1, provider2)
			c.spec(twoUplinks)
			try := c.command("try")
			// exec: a $SHELL that waits for it would get the Ctrl-C too, and give its own exit status.
			line := "exec " + strings.Join(try.Args[len(try.Args)-4:], " ")
			cmd := l.Host.Command(ctx, "script", "--quiet", "--return", "--command", line, "/dev/null")
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			r := startTry(ctx, t, cmd, c.root)
			time.Sleep(1200 * time.Millisecond) // a second is counted
			if _, err := in.Write([]byte(test.typed)); err != nil {
				t.Fatal(err)
			}
			a := r.end()
			if a.code != test.code || !regexp.MustCompile("(?s)"+test.says).MatchString(a.stdout) {
				t.Errorf("exit status %d, want %d: %q, want %q", a.code, test.code, a.stdout, test.says)
			}
			if !strings.Contains(a.stdout, "\rKeep this? Press ENTER within 120 seconds, or it goes back (q: now) \rKeep this? Press ENTER within 119 seconds") {
				t.Errorf("it does not count: %q", a.stdout)
			}
			r.decided()
			if diff := c.run("diff"); diff.code != test.code {
				t.Errorf("diff: %v", diff)
			}
		})
	}
}

// TestTryThatCannotBeArmed runs a program whose file is gone, so that nothing could go back.
func TestTryThatCannotBeArmed(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	before := dump(ctx, t, l.Host)
	c.spec(twoUplinks)
	cmd := c.command("try")
	i := len(cmd.Args) - 4
	data, err := os.ReadFile(cmd.Args[i])
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "uplinkctl")
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	cmd.Args[i], cmd.ExtraFiles = "/proc/self/fd/3", []*os.File{f}
	out, err := cmd.CombinedOutput()
	if want := "uplinkctl: nothing was changed, because nothing would go back by itself: stat "; err == nil || !strings.HasPrefix(string(out), want) {
		t.Errorf("%v: %s", err, out)
	}
	if now := dump(ctx, t, l.Host); now != before || c.files() != "" {
		t.Errorf("the kernel holds\n%s, held\n%s\nfiles: %s", now, before, c.files())
	}
}

// TestTryThatEndsBeforeItIsInEffect stops and kills the process while it brings the spec about
// and holds the lock.
func TestTryThatEndsBeforeItIsInEffect(t *testing.T) {
	t.Parallel()
	require(t)
	for _, test := range []struct {
		name    string
		signal  syscall.Signal
		timeout string
	}{
		{"stopped", syscall.SIGSTOP, "1"},
		{"killed", syscall.SIGKILL, "100"}, // nothing waits for that
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx, l, c := bootHost(t, provider1, provider2)
			before := dump(ctx, t, l.Host)
			c.spec(manyUplinks(3000, 0))
			cmd := c.command("try", "--timeout", test.timeout, "--wait", "0")
			var out, errs lab.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			err := lab.Poll(ctx, func() (bool, string) {
				rules, err := l.Host.Run(ctx, "ip", "rule")
				return err == nil && strings.Contains(rules, "lookup 1"), rules
			})
			if err := errors.Join(err, cmd.Process.Signal(test.signal)); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // it is killed
			r := &trial{t: t, ctx: ctx, run: filepath.Join(c.root, "run/uplink")}
			r.decided()
			if out.String() != "" {
				t.Errorf("it was in effect: %s%s", &out, &errs)
			}
			if now := dump(ctx, t, l.Host); strings.Contains(now, "118") || strings.Count(now, "\n") > strings.Count(before, "\n")+20 {
				t.Errorf("the kernel holds\n%.2000s, held\n%s", now, before)
			}
		})
	}
}
