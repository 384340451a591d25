package boot_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/gen/need"
	"github.com/uplink-generator/uplink-generator/integration/boot"
	"github.com/uplink-generator/uplink-generator/integration/internal/labtest"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

const (
	// limit is for everything that one machine does, once its root exists.
	limit = 3 * time.Minute

	networkd = "systemd-networkd.service"

	// specFile is where the recipe has its spec.
	specFile = "/etc/uplink/uplink.toml"

	// badSpec has two errors, in what was the recipe.
	badSpec = "[uplink.isp1]\ninterface = \"eth0\"\naddresses = [\"192.0.2.10\"]\ngatways = [\"192.0.2.1\"]\n"

	// answerTime is long enough for any answer that comes.
	answerTime = 500 * time.Millisecond
)

// recipe has the example that the product is about, and the cards of its addresses.
var (
	recipe      = os.DirFS("../examples/recipe/root")
	recipeCards = map[netip.Addr]string{
		netip.MustParseAddr("192.0.2.10"):    "eth0",
		netip.MustParseAddr("198.51.100.10"): "eth1",
	}
	recipeAddrs = slices.SortedFunc(maps.Keys(recipeCards), netip.Addr.Compare)
)

// host is a machine, with what the tests ask it.
type host struct {
	*boot.Machine
	lab *lab.Lab
	ctx context.Context
	t   *testing.T
}

// onSuites is for looking at one suite, or at one that a test does not boot in every run.
var onSuites = flag.String("suites", "", "the suites that tests of several boot, such as jammy,noble")

// eachSuite runs a test on each of Debian's suites.
func eachSuite(t *testing.T, f func(t *testing.T, suite boot.Suite)) {
	onEach(t, boot.Debian, f)
}

// everySuite runs a test on each of Debian's and Ubuntu's suites.
func everySuite(t *testing.T, f func(t *testing.T, suite boot.Suite)) {
	onEach(t, slices.Concat(boot.Debian, boot.Ubuntu), f)
}

func onEach(t *testing.T, suites []boot.Suite, f func(t *testing.T, suite boot.Suite)) {
	require(t)
	t.Parallel()
	if *onSuites != "" {
		suites = nil
		for _, name := range strings.Split(*onSuites, ",") {
			suites = append(suites, boot.Suite(name))
		}
	}
	for _, suite := range suites {
		t.Run(string(suite), func(t *testing.T) {
			t.Parallel()
			f(t, suite)
		})
	}
}

// prepared returns the directory of a root.
func prepared(t *testing.T, r boot.Root) string {
	t.Helper()
	dir, err := boot.Prepare(t.Context(), r)
	if errors.Is(err, boot.ErrUnreachable) {
		need.Optional(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// booted boots a machine in a network of two providers, which lasts as long as the
// test, and waits until it is in a state. c.Lab is set here.
func booted(t *testing.T, c boot.Config, state string) *host {
	t.Helper()
	return bootedWith(t, c, state, func(context.Context, *lab.Lab) error { return nil })
}

// bootedWith is booted, with what the providers must have ready before the machine starts.
func bootedWith(t *testing.T, c boot.Config, state string, provide func(context.Context, *lab.Lab) error) *host {
	t.Helper()
	// The root may have to be made first, and that must not count against the limit.
	prepared(t, c.Root)
	opts := lab.TwoUplinks()
	// The tests look at IPv4: without this, each boot would wait for the second or more for which
	// link-local addresses are tentative.
	opts.HostSysctls = map[string]string{"net.ipv6.conf.default.accept_dad": "0"}
	ctx, l := labtest.Open(t, limit, opts)
	if err := provide(ctx, l); err != nil {
		t.Fatal(err)
	}
	c.Lab = l
	m, err := boot.Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	labtest.Close(t, m)
	h := &host{m, l, ctx, t}
	h.wait(state)
	return h
}

// on returns h for a subtest.
func (h *host) on(t *testing.T) *host { return &host{h.Machine, h.lab, h.ctx, t} }

// wait waits until the machine has booted into a state; "" is any.
func (h *host) wait(state string) {
	h.t.Helper()
	got, err := h.WaitBooted(h.ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	if state != "" && got != state {
		failed, err := h.FailedUnits(h.ctx)
		h.t.Errorf("the machine is %s, want %s; failed: %v %v\n%s", got, state, failed, err, h.journal("--priority=warning"))
	}
}

// must runs a command that has to succeed.
func (h *host) must(name string, args ...string) string {
	h.t.Helper()
	out, err := h.Run(h.ctx, name, args...)
	if err != nil {
		h.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

func (h *host) journal(args ...string) string {
	h.t.Helper()
	text, err := h.Journal(h.ctx, args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return text
}

// find returns the files whose name begins with ours below directories, one a line.
func (h *host) find(dirs ...string) string {
	h.t.Helper()
	const script = `find "$@" '(' -name 'uplink*' -o -name '10-uplink*' ')' 2>/dev/null | sort`
	return h.must("sh", append([]string{"-c", script, "sh"}, dirs...)...)
}

// settled waits until nothing differs between the spec and the kernel, and then has it verified,
// because networkd goes on with the links after it has been started.
func (h *host) settled() {
	h.t.Helper()
	err := lab.Poll(h.ctx, func() (bool, string) {
		out, err := h.Run(h.ctx, "uplinkctl", "diff")
		return err == nil, fmt.Sprint(err, "\n", out)
	})
	if err != nil {
		h.t.Fatalf("uplinkctl diff: %v\n%s", err, h.journal())
	}
	if err := h.lab.Host.WaitSettled(h.ctx); err != nil {
		h.t.Fatal(err)
	}
	if out, err := h.Run(h.ctx, "uplinkctl", "verify"); err != nil || !strings.Contains(out, "ok ") {
		h.t.Errorf("uplinkctl verify: %v\n%s", err, out)
	}
}

// answers asks each address from outside.
func (h *host) answers() []lab.Answer {
	h.t.Helper()
	answers, err := h.lab.TCPEcho(h.ctx, answerTime, recipeAddrs...)
	if err != nil {
		h.t.Fatal(err)
	}
	return answers
}

// works checks that each address answers by its own card, and that what is sent from it, or from
// none, leaves by the right one.
func (h *host) works() {
	h.t.Helper()
	h.worksAt(recipeCards)
}

// worksAt is works for a host with other addresses.
func (h *host) worksAt(cards map[netip.Addr]string) {
	h.t.Helper()
	addrs := slices.SortedFunc(maps.Keys(cards), netip.Addr.Compare)
	answers, err := h.lab.TCPEcho(h.ctx, answerTime, addrs...)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, a := range answers {
		if !a.Answered || a.Card != cards[a.Addr] {
			h.t.Errorf("%s; want an answer by %s", a, cards[a.Addr])
		}
	}
	for _, source := range append([]netip.Addr{{}}, addrs...) {
		flow, card := lab.Flow{}, "eth0" // that of the default route
		if source.IsValid() {
			flow, card = lab.Flow{Source: netip.AddrPortFrom(source, 0)}, cards[source]
		}
		d, err := h.lab.LeavesBy(h.ctx, answerTime, flow)
		if err != nil {
			h.t.Fatal(err)
		}
		if d.Card != card || !d.Arrived {
			h.t.Errorf("from %v: %s; want it to arrive by %s", source, d, card)
		}
	}
}

// network returns all of the kernel's state that matters here, a line for each thing.
func (h *host) network() string {
	h.t.Helper()
	var b strings.Builder
	rules, err := h.lab.Host.Rules(h.ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, r := range rules {
		fmt.Fprintln(&b, "rule", r)
	}
	routes, err := h.lab.Host.Routes(h.ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, r := range routes {
		fmt.Fprintln(&b, "route", r)
	}
	addresses, err := h.lab.Host.Addresses(h.ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, a := range addresses {
		fmt.Fprintln(&b, "address", a)
	}
	return b.String()
}

// clean checks that no unit has failed, that there is no cycle among units, and that nothing is
// wrong with ours: what is wrong with the units of a Debian in a container does not concern us.
func (h *host) clean() {
	h.t.Helper()
	failed, err := h.FailedUnits(h.ctx)
	if err != nil || len(failed) > 0 {
		h.t.Errorf("failed units: %v %v", failed, err)
	}
	// PID 1 checks the order of units before there is a journal.
	for what, text := range map[string]string{"journal": h.journal(), "console": h.Console()} {
		if strings.Contains(strings.ToLower(text), "ordering cycle") {
			h.t.Errorf("there is an ordering cycle; %s:\n%s", what, text)
		}
	}
	for line := range strings.Lines(h.journal("--priority=warning")) {
		if strings.Contains(line, "Failed to read pids.max") {
			continue // there is no such controller where this computer has cgroups of version 1
		}
		if strings.Contains(line, "code=killed, status=9/KILL") || strings.Contains(line, "Failed with result 'signal'") {
			continue // a test kills it
		}
		if strings.Contains(line, "Could not drop routing policy rule: No such file or directory") {
			continue // 252, which drops others' rules for each link that it configures
		}
		if strings.Contains(line, "uplink") || strings.Contains(line, "systemd-networkd[") {
			h.t.Errorf("logged: %s", line)
		}
	}
}
