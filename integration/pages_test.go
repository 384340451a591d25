package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/internal/labtest"
	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

var update = flag.Bool("update", false, "rewrite the sessions in the pages of cmd/uplinkctl/doc")

// pageHost is the host that a page's sessions run on.
type pageHost struct {
	t   *testing.T
	ctx context.Context
	*lab.Lab
	// seat returns a command in the host's network and file system.
	seat func(ctx context.Context, name string, args ...string) *exec.Cmd
	// path is where its programs are.
	path string
	// asks asks an address from outside in its own way.
	asks func(netip.Addr) error
}

// session is what a page shows of one host: all blocks from one `<!-- host: NAME -->`
// to the next.
type session struct {
	host   string
	blocks []block
}

// block is a fenced block of a page: commands, and what they print.
type block struct {
	from, to int // of the text between the fences
	text     string
}

var (
	hostMark = regexp.MustCompile(`(?m)^<!-- host: (.*) -->$`)
	fenced   = regexp.MustCompile("(?ms)^```console\n(.*?)^```$")
)

// sessions finds those of a page.
func sessions(t *testing.T, page string) (list []session) {
	t.Helper()
	marks := hostMark.FindAllStringSubmatchIndex(page, -1)
	for _, m := range fenced.FindAllStringSubmatchIndex(page, -1) {
		b := block{m[2], m[3], page[m[2]:m[3]]}
		for len(marks) > 0 && marks[0][0] < b.from {
			list = append(list, session{host: page[marks[0][2]:marks[0][3]]})
			marks = marks[1:]
		}
		if len(list) == 0 {
			t.Fatalf("no host is named before\n%s", b.text)
		}
		s := &list[len(list)-1]
		s.blocks = append(s.blocks, b)
	}
	return list
}

// TestThePagesShowWhatHappens makes each host that the pages show, with its fault, runs every
// command that they show there, and compares the output. Where the fault defeats an address, that
// does not answer before, and answers afterwards.
func TestThePagesShowWhatHappens(t *testing.T) {
	pages, err := filepath.Glob("../cmd/uplinkctl/doc/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	shown := map[string]bool{}
	for _, file := range pages {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		list := sessions(t, string(data))
		results := make([][]string, len(list))
		for _, s := range list {
			if _, ok := pageHosts[s.host]; !ok || len(s.blocks) == 0 {
				t.Fatalf("%s: host %q: %d blocks, and the tests know it: %t", file, s.host, len(s.blocks), ok)
			}
			shown[s.host] = true
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			for i, s := range list {
				t.Run(s.host, func(t *testing.T) {
					t.Parallel()
					results[i] = pageHosts[s.host].play(t, s)
				})
			}
		})
		if *update {
			rewrite(t, file, string(data), list, results)
		}
	}
	for name := range pageHosts {
		if !shown[name] {
			t.Errorf("no page shows the host %q", name)
		}
	}
}

// rewrite puts what was printed into a page.
func rewrite(t *testing.T, file, page string, list []session, results [][]string) {
	t.Helper()
	var b strings.Builder
	at := 0
	for i, s := range list {
		for j, block := range s.blocks {
			if j < len(results[i]) {
				b.WriteString(page[at:block.from] + results[i][j])
				at = block.to
			}
		}
	}
	if b.WriteString(page[at:]); b.String() != page {
		write(t, file, b.String())
	}
}

// pageFault is a host of the pages.
type pageFault struct {
	needs     []lab.Need
	providers []lab.Provider
	// start brings the host up, fault included.
	start func(h *pageHost)
	// defeated does not answer the client until the session has put it right.
	defeated string
	// held answers the client before the session, and after each block of it.
	held string
}

// play runs a session and returns its blocks as they really are.
func (f pageFault) play(t *testing.T, s session) (real []string) {
	require(t, f.needs...)
	opts := options(provider1, provider2)
	if f.providers != nil {
		opts = options(f.providers...)
	}
	opts.HostSysctls = map[string]string{"net.ipv6.conf.default.accept_dad": "0"}
	ctx, l := labtest.Open(t, 3*time.Minute, opts)
	h := &pageHost{t: t, ctx: ctx, Lab: l, path: programPath(t)}
	f.start(h)
	if f.defeated != "" {
		h.answers(f.defeated, false)
	}
	if f.held != "" {
		h.answers(f.held, true)
	}
	for _, b := range s.blocks {
		var text strings.Builder
		for _, c := range commandsOf(b.text) {
			text.WriteString("$ " + strings.ReplaceAll(c, "\n", "\n> ") + "\n" + h.print(c))
		}
		real = append(real, text.String())
		if f.held != "" {
			h.answers(f.held, true)
		}
		if steady(text.String()) != steady(b.text) && !*update {
			t.Errorf("the page shows\n%s\nand this is printed\n%s", b.text, text.String())
		}
	}
	if f.defeated != "" {
		h.answers(f.defeated, true)
	}
	return real
}

// commandsOf returns the commands of a block, each with the lines that go on with it.
func commandsOf(text string) (list []string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if c, ok := strings.CutPrefix(line, "$ "); ok {
			list = append(list, c)
		} else if c, ok := strings.CutPrefix(line, "> "); ok && len(list) > 0 {
			list[len(list)-1] += "\n" + c
		}
	}
	return list
}

// steady is a text without the time, and without what depends on the kernel's timing: whether a
// gateway that answers has been asked recently.
func steady(text string) string {
	text = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`).ReplaceAllString(text, "?")
	return regexp.MustCompile(`(?m)^(  gateways .*) (unknown|reachable|stale|delay|probe)`).ReplaceAllString(inOrder(text), "$1 ?")
}

// inOrder sorts rules of one priority: the kernel keeps them in the order of adding, which varies
// under networkd.
func inOrder(text string) string {
	text = inFamilies(text)
	lines := strings.SplitAfter(text, "\n")
	same := regexp.MustCompile(`^\d+:\t`).FindString
	for i := 1; i < len(lines); i++ {
		for j := i; j > 0 && same(lines[j]) != "" && same(lines[j]) == same(lines[j-1]) && lines[j] < lines[j-1]; j-- {
			lines[j], lines[j-1] = lines[j-1], lines[j]
		}
	}
	return strings.Join(lines, "")
}

// programPath makes a directory with uplinkctl, and a sudo for who is root already.
func programPath(t *testing.T) string {
	t.Helper()
	built, err := built()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := errors.Join(
		os.Symlink(filepath.Join(built, programs.Control), filepath.Join(dir, programs.Control)),
		os.WriteFile(filepath.Join(dir, "sudo"), []byte("#!/bin/sh\nexec \"$@\"\n"), 0o755),
	); err != nil {
		t.Fatal(err)
	}
	return dir
}

// print runs a line of shell and returns what it prints. A line that ends with & goes on: print
// returns what it prints until it waits for somebody.
func (h *pageHost) print(line string) string {
	h.t.Helper()
	out := filepath.Join(h.t.TempDir(), "out") // not a pipe: a process that goes on would hold it open
	f, err := os.Create(out)
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	cmd := h.shell("-c", line)
	cmd.Stdout, cmd.Stderr = f, f
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		h.t.Fatalf("%s: %v", line, err)
	}
	text := ""
	eventually(h.ctx, h.t, func() (string, error) {
		data, err := os.ReadFile(out)
		if text = string(data); strings.HasSuffix(line, "&") && !strings.Contains(text, "within ") {
			return "it waits for nobody yet: " + text, err
		}
		return "", err
	})
	// iproute2 ends many lines with a space.
	return regexp.MustCompile(`(?m) +$`).ReplaceAllString(inOrder(text), "")
}

// run runs a line of shell that is not shown.
func (h *pageHost) run(line string) (string, error) {
	out, err := h.shell("-ec", line).CombinedOutput()
	return string(out), err
}

// shell returns a shell on the host, on a screen of 96 columns without colours.
func (h *pageHost) shell(args ...string) *exec.Cmd {
	env := []string{"PATH=" + h.path + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "COLUMNS=96", "LC_ALL=C.UTF-8", "sh"}
	return h.seat(h.ctx, "env", append(env, args...)...)
}

// sh is run for a line that must succeed.
func (h *pageHost) sh(line string) {
	h.t.Helper()
	if out, err := h.run(line); err != nil {
		h.t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// answers checks that an address is answered from outside soon, or that it is not.
func (h *pageHost) answers(address string, want bool) {
	h.t.Helper()
	if h.asks != nil {
		eventually(h.ctx, h.t, func() (string, error) {
			err := h.asks(netip.MustParseAddr(address))
			switch {
			case err == nil && !want:
				h.t.Errorf("%s answers: the fault is none", address)
			case err != nil && want:
				return err.Error(), nil
			}
			return "", nil
		})
		return
	}
	eventually(h.ctx, h.t, func() (string, error) {
		answers, err := h.TCPEcho(h.ctx, 500*time.Millisecond, netip.MustParseAddr(address))
		if err != nil || answers[0].Answered == want {
			return "", err
		}
		if !want {
			h.t.Errorf("%s: the fault is none", answers[0])
			return "", nil
		}
		return answers[0].String(), nil
	})
}

// installed is what a package installs beside the programs.
func installed(t *testing.T) string {
	t.Helper()
	tree := t.TempDir()
	protocols, err := os.ReadFile("../units/iproute2/rt_protos.conf")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(tree, "etc/iproute2/rt_protos.d/uplink.conf"), string(protocols))
	names := filepath.Join(tree, "etc/iproute2/rt_tables.d")
	if err := errors.Join(os.MkdirAll(names, 0o755), os.Symlink("/run/uplink/rt_tables.conf", filepath.Join(names, "uplink.conf"))); err != nil {
		t.Fatal(err)
	}
	return tree
}

// withoutNetworkd is a host that only netlink reaches.
func (h *pageHost) withoutNetworkd(files map[string]string) {
	h.t.Helper()
	s, err := h.Host.StartShell(os.DirFS(installed(h.t)), files)
	if err != nil {
		h.t.Fatal(err)
	}
	h.seat = s.Command
}

// withNetworkd is a host on which networkd runs.
func (h *pageHost) withNetworkd(files map[string]string) {
	h.t.Helper()
	files["/run/systemd/README"] = ""
	d, err := h.Host.StartNetworkd(h.ctx, lab.NetworkdOptions{Bus: true, Tree: os.DirFS(installed(h.t)), Files: files})
	if err != nil {
		h.t.Fatal(err)
	}
	h.seat = d.Command
}

// inEffect brings the spec into effect.
func (h *pageHost) inEffect() {
	h.t.Helper()
	h.sh("uplinkctl reload")
	if err := h.Host.WaitSettled(h.ctx); err != nil {
		h.t.Fatal(err)
	}
}

// recipeSpec is the example's.
func recipeSpec(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("examples/recipe/root/etc/uplink/uplink.toml")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// replaced is text with old replaced, which must be there.
func replaced(t *testing.T, text, old, with string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatal(fmt.Errorf("%q is not in\n%s", old, text))
	}
	return strings.Replace(text, old, with, 1)
}
