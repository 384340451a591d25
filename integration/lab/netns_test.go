package lab_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// linkNames lists the links of whichever namespace it runs in.
func linkNames() (string, error) {
	links, err := net.Interfaces()
	var names []string
	for _, l := range links {
		names = append(names, l.Name)
	}
	return strings.Join(names, " "), err
}

func TestHostStartsBare(t *testing.T) {
	t.Parallel()
	require(t)
	opts := lab.TwoUplinks()
	opts.Providers[1].Cards[0] = lab.Card{Name: "lan.7", MAC: net.HardwareAddr{2, 1, 2, 3, 4, 5}, Up: true}
	opts.HostSysctls = map[string]string{"net.ipv4.conf.default.rp_filter": "2"}
	ctx, l := open(t, opts)

	addresses, err := l.Host.Addresses(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		// A card that is up has at most the link-local address it made itself.
		if a.Link != "lo" && a.Link != "lan.7" {
			t.Errorf("address on a fresh host: %s", a)
		}
	}
	err = l.Host.Do(func() error {
		for name, want := range map[string]struct {
			mac string
			up  bool
		}{
			"eth0":  {"02:00:00:00:01:01", false},
			"lan.7": {"02:01:02:03:04:05", true},
		} {
			link, err := net.InterfaceByName(name)
			if err != nil {
				return err
			}
			if up := link.Flags&net.FlagUp != 0; link.HardwareAddr.String() != want.mac || up != want.up {
				t.Errorf("%s: %s, up %t; want %s, %t", name, link.HardwareAddr, up, want.mac, want.up)
			}
		}
		data, err := os.ReadFile("/proc/sys/net/ipv4/conf/lan.7/rp_filter")
		if strings.TrimSpace(string(data)) != "2" {
			t.Errorf("rp_filter is %q, want what the options say", data)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := l.Host.Sysctl("net/ipv4/conf/lan.7/rp_filter", "0"); err != nil {
		t.Error(err)
	}
	if err := l.Host.Sysctl("net.ipv4.no_such", "0"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("sysctl that does not exist: %v", err)
	}
}

func TestDoLeavesTheCallerWhereItWas(t *testing.T) {
	t.Parallel()
	require(t)
	before, err := linkNames()
	if err != nil {
		t.Fatal(err)
	}
	_, l := open(t, lab.TwoUplinks())
	// Many at once, so that one of them is given the main thread to run on.
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			err := l.Host.Do(func() error {
				names, err := linkNames()
				if names != "lo eth0 eth1" {
					return fmt.Errorf("links inside: %q, %w", names, err)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		wg.Go(func() {
			if names, _ := linkNames(); names != before {
				t.Errorf("links outside: %q, before %q", names, before)
			}
			if ns, _ := os.Readlink("/proc/thread-self/ns/net"); ns != own {
				t.Errorf("a thread stayed in %s", ns)
			}
		})
	}
	wg.Wait()

	want := errors.New("own error")
	if err := l.Host.Do(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("error of the function: got %v", err)
	}
	if err := l.Host.Do(func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("a function that did not return gave no error")
	}
}

func TestCommandErrorsSayWhatRan(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l := open(t, lab.Options{})
	_, err := l.Host.Run(ctx, "ip", "link", "show", "nosuch0")
	if err == nil || !strings.Contains(err.Error(), "ip link show nosuch0") || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("got %v", err)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Errorf("%v has no exit status", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := l.Host.Command(ctx, "sleep", "60").Run(); err == nil {
		t.Error("a command outlived its context")
	}
}

func TestFailedNewLeavesNothing(t *testing.T) {
	// Not parallel: it counts the namespaces of all labs.
	require(t)
	before := len(leftovers())
	for name, opts := range map[string]lab.Options{
		"name too long": {Providers: []lab.Provider{{Cards: []lab.Card{{Name: "eth0"}, {Name: "far-too-long-a-name"}}}}},
		"name twice":    {Providers: []lab.Provider{{Cards: []lab.Card{{Name: "eth0"}}}, {Cards: []lab.Card{{Name: "eth0"}}}}},
		"sysctl":        {HostSysctls: map[string]string{"net.no.such": "1"}},
		"bad gateway":   {Providers: []lab.Provider{{Gateways: []netip.Prefix{{}}, Cards: []lab.Card{{Name: "eth0"}}}}},
	} {
		l, err := lab.New(opts)
		if err == nil {
			t.Errorf("%s: no error", name)
			_ = l.Close()
		}
		t.Log(err)
	}
	if left := leftovers(); len(left) != before {
		t.Errorf("left: %v", left)
	}
}

func TestCloseTwice(t *testing.T) {
	require(t)
	_, l := open(t, lab.TwoUplinks())
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestRemoveStaleSparesTheLiving(t *testing.T) {
	// Not parallel: it would remove what another process's test made just now.
	require(t)
	ctx, l := open(t, lab.Options{})

	// The number of a process that has ended stands for a lab that crashed.
	ended := exec.CommandContext(ctx, "true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	stale := fmt.Sprintf("uplink-%d-1-host", ended.Process.Pid)
	if out, err := exec.CommandContext(ctx, "ip", "netns", "add", stale).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	inside := exec.CommandContext(ctx, "ip", "netns", "exec", stale, "sleep", "60")
	if err := inside.Start(); err != nil {
		t.Fatal(err)
	}
	err := lab.Poll(ctx, func() (bool, string) {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", inside.Process.Pid))
		return string(comm) == "sleep\n", fmt.Sprintf("process is %q, %v", comm, err)
	})
	if err != nil {
		t.Fatal(err)
	}

	if err := lab.RemoveStale(ctx); err != nil {
		t.Error(err)
	}
	if err := inside.Wait(); err == nil {
		t.Error("the process inside was not killed")
	}
	if _, err := os.Stat("/run/netns/" + stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the stale namespace is still there: %v", err)
	}
	if _, err := os.Stat(l.Host.Path()); err != nil {
		t.Errorf("the namespace of a living process is gone: %v", err)
	}
}

func TestPollTellsTheLastReason(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	calls := 0
	err := lab.Poll(ctx, func() (bool, string) {
		calls++
		return false, fmt.Sprintf("call %d", calls)
	})
	if !errors.Is(err, context.DeadlineExceeded) || calls < 2 || !strings.Contains(err.Error(), fmt.Sprintf("call %d", calls)) {
		t.Errorf("after %d calls: %v", calls, err)
	}
	if err := lab.Poll(ctx, func() (bool, string) { return true, "" }); err != nil {
		t.Errorf("a condition that holds: %v", err)
	}
}

func TestRequireSaysWhatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := lab.Require()
	if !errors.Is(err, lab.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	if unix.Geteuid() == 0 && !strings.Contains(err.Error(), `"ip"`) {
		t.Errorf("%v does not name the tool", err)
	}
}
