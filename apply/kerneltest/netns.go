package kerneltest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/rtnl"
	"github.com/uplink-generator/uplink-generator/gen/need"
)

// Namespace is a network namespace that lasts as long as a test. It has no name, so
// that even a test that is killed leaves nothing behind.
type Namespace struct {
	t  testing.TB
	fd int
}

// NewNamespace makes a namespace in which only lo is up, and in which duplicate address
// detection, which takes seconds, is off. It needs a machine where that is possible (package
// need). `make arches` sets EMULATED, because the netlink of an emulated program is in the byte
// order of this machine, not in its own.
func NewNamespace(t testing.TB) *Namespace {
	t.Helper()
	if os.Getenv("EMULATED") != "" {
		need.Nil(t, errors.New("the kernel, by an emulated program"))
	}
	n := &Namespace{t: t, fd: -1}
	err := onOwnThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		if n.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		return os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0)
	})
	if err == nil {
		t.Cleanup(func() { unix.Close(n.fd) })
		_, err = exec.LookPath("ip")
	}
	if err != nil {
		need.Nil(t, fmt.Errorf("a network namespace: %w", err))
	}
	n.IP("link set lo up")
	return n
}

// onOwnThread runs f on a locked thread that ends with it, so that f may change the
// thread's namespace without ever changing it back.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errors.New("the function did not return")
		defer func() { done <- err }()
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread never ends, and the process shows its namespace.
			err = onOwnThread(f)
			runtime.UnlockOSThread()
			return
		}
		err = f()
	}()
	return <-done
}

// Do runs f inside the namespace, on a thread of its own. f must not end the test.
func (n *Namespace) Do(f func() error) error {
	return onOwnThread(func() error {
		if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// Kernel opens the real kernel in the namespace.
func (n *Namespace) Kernel() *rtnl.Kernel {
	n.t.Helper()
	k := n.open()
	n.t.Cleanup(k.Close)
	return k
}

func (n *Namespace) open() *rtnl.Kernel {
	n.t.Helper()
	var k *rtnl.Kernel
	err := n.Do(func() (err error) {
		k, err = rtnl.New()
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return k
}

// Hardware answers for the namespace what rtnl.Hardware answers for the thread's.
func (n *Namespace) Hardware() apply.Hardware { return hardware{n} }

type hardware struct{ n *Namespace }

func (h hardware) ask(f func() string) (answer string) {
	_ = h.n.Do(func() error {
		answer = f()
		return nil
	})
	return answer
}

// Driver asks the driver, in the namespace.
func (h hardware) Driver(l apply.Link) string {
	return h.ask(func() string { return rtnl.Hardware{}.Driver(l) })
}

// Path asks udev's database, which is that of the machine.
func (h hardware) Path(l apply.Link) string {
	return h.ask(func() string { return rtnl.Hardware{}.Path(l) })
}

// Sysctl reads a setting of the namespace.
func (h hardware) Sysctl(family, link, name string) string {
	return h.ask(func() string { return rtnl.Hardware{}.Sysctl(family, link, name) })
}

// IP runs ip(8) with each of the lines, and fails the test where one is refused.
func (n *Namespace) IP(lines ...string) {
	n.t.Helper()
	for _, line := range lines {
		if _, err := n.Run("", append([]string{"ip"}, strings.Fields(line)...)...); err != nil {
			n.t.Fatalf("ip %s: %v", line, err)
		}
	}
}

// Run runs a command inside the namespace and returns its standard output.
func (n *Namespace) Run(stdin string, argv ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := n.Do(cmd.Run)
	if err != nil {
		err = errors.New(err.Error() + ": " + strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), err
}

// Sysctl sets a parameter of the kernel, with slashes: "net/ipv4/ip_forward".
func (n *Namespace) Sysctl(key, value string) {
	n.t.Helper()
	err := n.Do(func() error { return os.WriteFile("/proc/sys/"+key, []byte(value), 0) })
	if err != nil {
		n.t.Fatal(err)
	}
}

// Card makes links that are up and have a carrier. Each is a veth, whose other end,
// NAME.peer, is up as well.
func (n *Namespace) Card(names ...string) {
	n.t.Helper()
	for _, name := range names {
		n.IP("link add "+name+" type veth peer name "+name+".peer",
			"link set "+name+".peer addrgenmode none up", "link set "+name+" addrgenmode none up")
	}
	n.Carrier(names...)
}

// Carrier waits until the kernel has acted on the carrier of links, a moment after both ends are
// up. Their multicast route is the last thing it adds.
func (n *Namespace) Carrier(names ...string) {
	n.t.Helper()
	var missing []string
	for range 1000 {
		routes, err := n.Run("", "ip", "-6", "route", "show", "table", "local", "type", "multicast")
		if err != nil {
			n.t.Fatal(err)
		}
		links, err := n.Run("", "ip", "-o", "link", "show", "up")
		if err != nil {
			n.t.Fatal(err)
		}
		missing = slices.DeleteFunc(slices.Clone(names), func(name string) bool {
			return strings.Contains(routes, " dev "+name+" ") && strings.Contains(routes, " dev "+name+".peer ") && strings.Contains(links, ": "+name+"@") &&
				strings.Count(links, "LOWER_UP") == strings.Count(links, "\n")
		})
		if len(missing) == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	n.t.Fatalf("no carrier: %v", missing)
}

// HasRoute waits until a line of `ip -6 route show table local` begins with text: the kernel
// adds an address's own route a moment after the address.
func (n *Namespace) HasRoute(text string) {
	n.t.Helper()
	for range 1000 {
		routes, err := n.Run("", "ip", "-6", "route", "show", "table", "local")
		if err != nil {
			n.t.Fatal(err)
		}
		if strings.Contains("\n"+routes, "\n"+text+" ") {
			return
		}
		time.Sleep(time.Millisecond)
	}
	n.t.Fatalf("no route %s", text)
}

// Settle waits until no address is tentative: an IPv6 one is for a moment, even without duplicate
// address detection.
func (n *Namespace) Settle() {
	n.t.Helper()
	k := n.open()
	defer k.Close()
	if err := settle(k); err != nil {
		n.t.Fatal(err)
	}
}

func settle(k apply.Kernel) error {
	for range 3000 {
		have, err := k.Observe(apply.Scope{})
		if err != nil || !slices.ContainsFunc(have.Addresses, func(a apply.Address) bool { return a.Tentative }) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("an address is tentative for ever")
}

// Dump returns all that ip(8) shows of the namespace's rules, routes and addresses.
func (n *Namespace) Dump() string {
	n.t.Helper()
	var b strings.Builder
	// One process for each family: ip knows its families by option only.
	for _, c := range []struct{ family, batch string }{
		{"-4", "rule show\nroute show table all\naddress show\n"},
		{"-6", "rule show\nroute show table all\naddress show\n"},
	} {
		out, err := n.Run(c.batch, "ip", "-d", "-N", c.family, "-batch", "-")
		if err != nil {
			n.t.Fatal(err)
		}
		b.WriteString(out)
	}
	return b.String()
}

// Diff returns what changed from one text to another, line by line: "-" for a line only in the
// first, "+" for one only in the second. It says so where only the order differs.
func Diff(before, after string) string {
	if before == after {
		return ""
	}
	count := map[string]int{}
	for line := range strings.Lines(after) {
		count[line]++
	}
	for line := range strings.Lines(before) {
		count[line]--
	}
	var lines []string
	for line, c := range count {
		for range max(c, -c) {
			sign := "+ "
			if c < 0 {
				sign = "- "
			}
			lines = append(lines, sign+line)
		}
	}
	if len(lines) == 0 {
		return "the same lines in another order:\n" + otherOrder(before, after)
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[2:], b[2:]) })
	return strings.Join(lines, "")
}

// otherOrder returns the part of two texts in which they differ.
func otherOrder(before, after string) string {
	b, a := strings.SplitAfter(before, "\n"), strings.SplitAfter(after, "\n")
	for b[0] == a[0] {
		b, a = b[1:], a[1:]
	}
	for b[len(b)-1] == a[len(a)-1] {
		b, a = b[:len(b)-1], a[:len(a)-1]
	}
	return "- " + strings.Join(b, "- ") + "+ " + strings.Join(a, "+ ")
}
