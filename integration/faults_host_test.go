package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// inTrouble runs a command of the host, with a /run of its own that a script makes, and returns
// the output and which files are in that /run afterwards, with their sizes.
func (c *cli) inTrouble(prepare string, command ...string) (a answer, run string) {
	c.t.Helper()
	dir, err := built()
	if err != nil {
		c.t.Fatal(err)
	}
	const script = `
mkdir -p "$1/run"; mount --make-rprivate /
dir=$1; eval "$2"; shift 2
(ulimit -n "${files:-1024}" && exec "$@"); status=$?
cd "$dir/run" && find . -type f -printf '%p %s\n' | grep -v filler | sort > /proc/self/fd/3
exit $status
`
	files, err := os.CreateTemp(c.t.TempDir(), "")
	if err != nil {
		c.t.Fatal(err)
	}
	defer files.Close()
	var out, errs strings.Builder
	argv := append([]string{"--mount", "sh", "-c", script, "sh", c.root, prepare, filepath.Join(dir, command[0])}, command[1:]...)
	cmd := c.host.Command(c.ctx, "unshare", argv...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &out, &errs, []*os.File{files}
	_ = cmd.Run()
	data, err := os.ReadFile(files.Name())
	if err != nil || cmd.ProcessState == nil {
		c.t.Fatal(err, errs.String())
	}
	return answer{cmd.ProcessState.ExitCode(), out.String(), errs.String()}, string(data)
}

// said checks that a program that failed has said why, in a few readable lines.
func (a answer) said(t *testing.T, what, program, why string) {
	t.Helper()
	if a.code != 1 || !strings.Contains(a.stderr, why) || !strings.Contains(a.stderr, program+": ") || strings.Count(a.stderr, "\n") > 8 {
		t.Errorf("%s: exit status %d, want 1 and %q: %.2000s", what, a.code, why, a.stderr)
	}
	for line := range strings.Lines(a.stderr) {
		if strings.HasPrefix(line, "goroutine ") || strings.ContainsFunc(strings.TrimSpace(line), func(c rune) bool { return !unicode.IsPrint(c) }) {
			t.Errorf("%s: it says %q", what, line)
		}
	}
}

// whole checks that no file is incomplete, and that none that was written aside is left.
func whole(t *testing.T, what, run string) {
	t.Helper()
	for line := range strings.Lines(run) {
		name, size, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, ".new") || size == "0" && name != "./uplink/lock" && name != "./uplink/applied" {
			t.Errorf("%s: %s is left, of %s bytes", what, name, size)
		}
	}
}

// everyChange are the commands that write, each with its purpose.
func (c *cli) everyChange() map[string][]string {
	root := []string{"--root", c.root}
	return map[string][]string{
		"uplink-generator --render": append([]string{programs.Generator, "--render"}, root...),
		"uplinkctl render":          append([]string{programs.Control, "render", "--output", c.root}, root...),
		"uplinkctl apply":           append([]string{programs.Control, "apply"}, root...),
		"uplinkctl reload":          append([]string{programs.Control, "reload"}, root...),
	}
}

// TestFullDiskAndReadOnlyRun has a /run without room, and one that cannot be written to. Each
// command says so and fails; what it has done to the kernel is undone, and no file is incomplete.
func TestFullDiskAndReadOnlyRun(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	c.spec(twoUplinks)
	before := dump(ctx, t, l.Host)
	const full = `mount -t tmpfs -o size=16k,nr_inodes=200 tmpfs "$dir/run"; mkdir -p "$dir/run/uplink" "$dir/run/systemd/network"; head -c 64k /dev/zero > "$dir/run/filler" 2>/dev/null || :`
	const readOnly = `mount -t tmpfs -o ro tmpfs "$dir/run"`
	for what, command := range c.everyChange() {
		program := command[0]
		a, run := c.inTrouble(full, command...)
		a.said(t, what+" with a full disk", program, "no space left on device")
		whole(t, what, run)
		if strings.Contains(run, ".network") || strings.Contains(run, "rt_tables") {
			t.Errorf("%s: with a full disk there is\n%s", what, run)
		}
		a, run = c.inTrouble(readOnly, command...)
		a.said(t, what+" in a /run that is read-only", program, "read-only file system")
		if run != "" {
			t.Errorf("%s: %s", what, run)
		}
		if after := dump(ctx, t, l.Host); after != before {
			t.Errorf("%s: the kernel was changed: %s", what, firstDifference(before, after))
		}
	}
}

// TestFewFileDescriptors gives each command no file descriptors beyond its first three, then one,
// and so on until it works. Whenever it fails it says so.
func TestFewFileDescriptors(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	c.spec(twoUplinks)
	before := dump(ctx, t, l.Host)
	for what, command := range c.everyChange() {
		done := -1
		for n := 3; n < 40 && done < 0; n++ {
			a, run := c.inTrouble(fmt.Sprintf(`mount -t tmpfs tmpfs "$dir/run"; files=%d`, n), command...)
			here := fmt.Sprintf("%s with %d file descriptors", what, n)
			whole(t, here, run)
			if a.code == 0 {
				done = n
				continue
			}
			a.said(t, here, command[0], "too many open files")
			if after := dump(ctx, t, l.Host); after != before {
				t.Errorf("%s: the kernel was changed: %s", here, firstDifference(before, after))
			}
		}
		t.Logf("%s works with %d file descriptors", what, done)
		if done < 4 {
			t.Errorf("%s: it was not tested, or it never works", what)
		}
		c.inTrouble(`mount -t tmpfs tmpfs "$dir/run"`, programs.Control, "down", "--root", c.root)
		dropAll(ctx, t, l.Host)
		before = dump(ctx, t, l.Host)
	}
}

// dropAll removes what apply has left, so that the next command starts afresh.
func dropAll(ctx context.Context, t *testing.T, n *lab.Namespace) {
	t.Helper()
	for _, card := range []string{"eth0", "eth1"} {
		ip(ctx, t, n, "address flush dev "+card, "link set "+card+" down")
	}
}

// TestTerminatedInEveryPhase ends apply, reload and render with SIGTERM at moments spread over a
// whole run. Afterwards everything is old, or everything is new.
func TestTerminatedInEveryPhase(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	const n = 300
	specs := []string{manyUplinks(n, 0), manyUplinks(n, 1)}
	ip(ctx, t, l.Host, "link set eth0 up")
	rules := func() string {
		t.Helper()
		out, err := l.Host.Run(ctx, "ip", "-4", "rule", "show")
		if err != nil {
			t.Fatal(err)
		}
		routes, err := l.Host.Run(ctx, "ip", "-4", "route", "show", "table", "all", "proto", "118")
		if err != nil {
			t.Fatal(err)
		}
		addresses, err := l.Host.Run(ctx, "ip", "-4", "-o", "address", "show", "dev", "eth0")
		if err != nil {
			t.Fatal(err)
		}
		// In a block the order of the rules of one priority means nothing, and depends on what
		// was there before.
		return sortedLines(out) + sortedLines(routes) + sortedLines(addresses)
	}
	for _, command := range []string{"apply", "reload"} {
		var whole [2]string
		var longest time.Duration
		for i, s := range specs {
			c.spec(s)
			start := time.Now()
			c.ok(command)
			longest = max(longest, time.Since(start))
			whole[i] = rules()
		}
		at, ended := 1, map[string]int{}
		const times = 24
		for i := range times {
			c.spec(specs[1-at])
			cmd := c.command(command)
			var errs strings.Builder
			cmd.Stderr = &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(longest * time.Duration(i) / times)
			_ = cmd.Process.Signal(syscall.SIGTERM)
			err := cmd.Wait()
			now, code := rules(), cmd.ProcessState.ExitCode()
			switch {
			case now == whole[at] && code == 1:
				ended["undone"]++
				if !strings.HasPrefix(errs.String(), "uplinkctl: ") {
					t.Errorf("%s: exit status 1, and it says %q", command, errs.String())
				}
			case now == whole[at] && code < 0:
				ended["not begun"]++
			case now == whole[1-at] && (code == 0 || code == 1):
				ended["done"]++
				at = 1 - at
			default:
				t.Fatalf("%s: SIGTERM after %v: %v, %s\n%s", command, longest*time.Duration(i)/times, err, errs.String(), firstDifference(whole[at], now))
			}
			tmp, _ := filepath.Glob(filepath.Join(c.root, "run/uplink/*.tmp"))
			if hooks, _ := filepath.Glob(filepath.Join(c.root, "run/uplink/hooks-*")); len(tmp)+len(hooks) > 0 && code >= 0 {
				t.Errorf("%s: left behind %v %v", command, tmp, hooks)
			}
		}
		t.Logf("%s takes %v; SIGTERM: %v", command, longest, ended)
		if len(ended) < 2 {
			t.Errorf("%s: all ended in the same way: %v", command, ended)
		}
	}
}

func sortedLines(s string) string {
	out, _ := exec.Command("sh", "-c", `printf %s "$1" | sort`, "sh", s).Output()
	return string(out)
}

func firstDifference(a, b string) string {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range as {
		if i >= len(bs) || as[i] != bs[i] {
			return strconv.Itoa(i) + ": " + as[i] + "\n" + strings.Join(bs[min(i, len(bs)):min(i+3, len(bs))], "\n")
		}
	}
	return "more lines"
}
