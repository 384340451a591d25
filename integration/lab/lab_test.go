package lab_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/gen/need"
	"github.com/uplink-generator/uplink-generator/integration/internal/labtest"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// answerTime is long enough for any answer that comes, which takes about a
// millisecond; the tests that expect none wait for all of it.
const answerTime = 500 * time.Millisecond

// TestMain fails the run when labs leave something behind.
func TestMain(m *testing.M) {
	if lab.Require() == nil {
		if err := lab.RemoveStale(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "before the tests:", err)
		}
	}
	mounts := countMounts()
	code := m.Run()
	if left := leftovers(); len(left) > 0 {
		fmt.Fprintln(os.Stderr, "left behind:", strings.Join(left, ", "))
		code = 1
	}
	if now := countMounts(); now != mounts {
		fmt.Fprintf(os.Stderr, "%d mounts of labs before the tests, %d after\n", mounts, now)
		code = 1
	}
	os.Exit(code)
}

// leftovers lists the namespaces and child processes of this process.
func leftovers() []string {
	left, _ := filepath.Glob(fmt.Sprintf("/run/netns/uplink-%d-*", os.Getpid()))
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	for _, task := range tasks {
		data, _ := os.ReadFile(task)
		for _, pid := range strings.Fields(string(data)) {
			name, _ := os.ReadFile(filepath.Join("/proc", pid, "comm"))
			left = append(left, "process "+pid+" "+strings.TrimSpace(string(name)))
		}
	}
	return left
}

// countMounts counts the mounts that a lab of this process would leave where
// everyone sees them.
func countMounts() int {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	count := 0
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, "uplink-"+strconv.Itoa(os.Getpid())+"-") || strings.Contains(line, " - overlay overlay ") {
			count++
		}
	}
	return count
}

// require skips the test on a machine without what a lab needs.
func require(t *testing.T, needs ...lab.Need) {
	t.Helper()
	need.Nil(t, lab.Require(needs...))
}

// open makes a lab that lasts as long as the test, and a context for it.
func open(t *testing.T, opts lab.Options) (context.Context, *lab.Lab) {
	t.Helper()
	return labtest.Open(t, 30*time.Second, opts)
}

// quick returns two uplinks on a host that does not take two seconds to make
// sure that nobody else has its addresses.
func quick() lab.Options {
	opts := lab.TwoUplinks()
	opts.HostSysctls = map[string]string{"net.ipv6.conf.default.accept_dad": "0"}
	return opts
}

// settle waits until a host configured by hand is ready to send.
func settle(ctx context.Context, t *testing.T, n *lab.Namespace) {
	t.Helper()
	if err := n.WaitSettled(ctx); err != nil {
		t.Fatal(err)
	}
}

// ip runs `ip` in a namespace, once for each line.
func ip(ctx context.Context, t *testing.T, n *lab.Namespace, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		if _, err := n.Run(ctx, "ip", strings.Fields(line)...); err != nil {
			t.Fatal(err)
		}
	}
}

func addrs(list ...string) []netip.Addr {
	out := make([]netip.Addr, len(list))
	for i, s := range list {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}

// diff compares the texts of items with the wanted ones, one in a line.
func diff[T fmt.Stringer](t *testing.T, what string, items []T, want string) {
	t.Helper()
	var got strings.Builder
	for _, item := range items {
		fmt.Fprintln(&got, item)
	}
	want = strings.TrimLeft(want, "\n")
	if got.String() != want {
		t.Errorf("%s: got\n%swant\n%s", what, got.String(), want)
	}
}
