package probe

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

var (
	target1, target2 = netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("203.0.113.1")
	eth0             = Path{Device: "eth0", Source: netip.MustParseAddr("192.0.2.10")}
)

func probe(uplink string) fib.Probe {
	return fib.Probe{
		Verdict: fib.Verdict{Uplink: uplink, Family: fib.Inet}, Targets: []netip.Addr{target1, target2},
		Interval: 5 * time.Second, Timeout: 2 * time.Second, Down: 3, Up: 2, Reliability: 1,
	}
}

// bench runs probes against targets that answer, or do not, as a test wants.
type bench struct {
	Runner
	silent  atomic.Int32 // how many of the targets are
	rounds  atomic.Int32
	changes atomic.Int32
	lines   []string
}

func newBench() *bench {
	b := &bench{}
	b.Changed = func() { b.changes.Add(1) }
	b.Log = func(line string) { b.lines = append(b.lines, line) }
	b.ask = func(ctx context.Context, p fib.Probe, _ Path) ([]netip.Addr, error) {
		b.rounds.Add(1)
		silent := p.Targets[:b.silent.Load()]
		if len(silent) == len(p.Targets) {
			select {
			case <-ctx.Done():
			case <-time.After(p.Timeout):
			}
			return silent, unix.EHOSTUNREACH
		}
		return silent, nil
	}
	return b
}

// wait lets time pass until everything that is due has happened.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (b *bench) said(t *testing.T, want ...string) {
	t.Helper()
	b.mu.Lock() // under which Log is called
	defer b.mu.Unlock()
	if got := strings.Join(b.lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("said\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	b.lines = nil
}

func TestRunner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		defer b.Stop()
		one := probe("isp1")
		b.Set([]Task{{one, eth0}})
		wait(5 * time.Second)
		b.said(t, "isp1: alive (IPv4): 198.51.100.1 and 203.0.113.1 have answered once")

		// One of two is enough.
		b.silent.Store(1)
		wait(time.Minute)
		b.said(t)
		if n := b.rounds.Load(); n < 12 || n > 14 {
			t.Errorf("%d rounds in 65 seconds", n)
		}

		b.silent.Store(2)
		start := time.Now()
		for b.Judgements()[one.Verdict].Dead == false {
			wait(100 * time.Millisecond)
		}
		if took := time.Since(start); took > 3*one.Interval+one.Timeout {
			t.Errorf("it took %v", took)
		}
		b.said(t, "isp1: dead (IPv4): 198.51.100.1 and 203.0.113.1 have not answered 3 times (no route to host)")

		// The verdict stays, whether it asks in the same way or in another.
		for range 2 {
			b.Set([]Task{{one, eth0}})
			if !b.Judgements()[one.Verdict].Dead {
				t.Error("the verdict has not stayed")
			}
			one.Timeout += time.Second
		}
		one.Timeout -= time.Second
		b.silent.Store(1)
		wait(2 * one.Interval)
		b.said(t, "isp1: alive (IPv4): 203.0.113.1 has answered 2 times")

		// Without a path there is nothing to wait for, and nobody wakes up.
		rounds := b.rounds.Load()
		b.Set([]Task{{one, Path{None: "eth0 has no carrier"}}})
		b.said(t, "isp1: dead (IPv4): eth0 has no carrier")
		wait(time.Hour)
		if n := b.rounds.Load(); n != rounds {
			t.Errorf("%d rounds without a path", n-rounds)
		}
		b.Set([]Task{{one, eth0}})
		wait(2 * one.Interval)
		b.said(t, "isp1: alive (IPv4): 203.0.113.1 has answered 2 times")

		b.Set(nil)
		rounds = b.rounds.Load()
		wait(time.Minute)
		if n := b.rounds.Load(); len(b.Judgements()) != 0 || n != rounds {
			t.Errorf("it goes on: %d rounds", n-rounds)
		}
		if n := b.changes.Load(); n != 4 {
			t.Errorf("%d changes by rounds, want 4", n)
		}
	})
}

// TestRunnerKnows starts from what an earlier run has found. When that was is only for people: it
// is by the time of day, which may have been set since, so it does not count.
func TestRunnerKnows(t *testing.T) {
	t.Parallel()
	for _, ago := range []time.Duration{time.Hour, 0, -365 * 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) { testRunnerKnows(t, ago) })
	}
}

func testRunnerKnows(t *testing.T, ago time.Duration) {
	b := newBench()
	defer b.Stop()
	since := time.Now().Add(-ago)
	one := probe("isp1")
	b.Known = map[fib.Verdict]Judgement{one.Verdict: {Dead: true, Judged: true, Since: since, Why: "then"}}
	b.Set([]Task{{one, eth0}, {probe("rt2"), eth0}})
	if j := b.Judgements()[one.Verdict]; !j.Dead || !j.Since.Equal(since) || b.changes.Load() != 0 {
		t.Errorf("%+v, %d changes", j, b.changes.Load())
	}
	wait(4 * time.Second)
	if b.Judgements()[one.Verdict].Dead != true {
		t.Error("one round was enough")
	}
	wait(10 * time.Second)
	if b.Judgements()[one.Verdict].Dead {
		t.Error("it is still dead")
	}
}

// TestAPathThatIsGoneSaysNothing changes the path in the middle of a round.
func TestAPathThatIsGoneSaysNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		defer b.Stop()
		one := probe("isp1")
		one.Down, one.Interval = 1, time.Second
		one.Timeout = time.Second
		b.silent.Store(2)
		b.Set([]Task{{one, eth0}})
		for b.rounds.Load() == 0 {
			wait(10 * time.Millisecond)
		}
		b.silent.Store(0)
		b.Set([]Task{{one, Path{Device: "eth0", Source: netip.MustParseAddr("192.0.2.11")}}})
		wait(5 * time.Second)
		b.said(t, "isp1: alive (IPv4): 198.51.100.1 and 203.0.113.1 have answered once")
	})
}

// TestAPathThatComesBack loses the path for a moment, as while a DHCP client replaces an address:
// it counts when the moment is over, and not before, and two moments are not added up.
func TestAPathThatComesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		defer b.Stop()
		one := probe("isp1")
		gap := Path{None: "eth0 has no address", Grace: time.Second}
		next := Path{Device: "eth0", Source: netip.MustParseAddr("192.0.2.11")}
		b.Set([]Task{{one, eth0}})
		wait(5 * time.Second)
		b.said(t, "isp1: alive (IPv4): 198.51.100.1 and 203.0.113.1 have answered once")
		for range 5 {
			b.Set([]Task{{one, gap}})
			wait(900 * time.Millisecond)
			b.Set([]Task{{one, next}})
			wait(200 * time.Millisecond)
		}
		wait(time.Minute)
		b.said(t)

		// Looking again, for whatever reason, gives no more time.
		b.Set([]Task{{one, gap}})
		wait(600 * time.Millisecond)
		b.Set([]Task{{one, gap}})
		wait(300 * time.Millisecond)
		b.said(t)
		wait(200 * time.Millisecond)
		b.said(t, "isp1: dead (IPv4): eth0 has no address")
		if n := b.changes.Load(); n != 2 {
			t.Errorf("%d changes, want 2", n)
		}
		b.Set([]Task{{one, gap}})
		wait(time.Hour)
		b.said(t)
		b.Set([]Task{{one, next}})
		wait(time.Minute)
		b.said(t, "isp1: alive (IPv4): 198.51.100.1 and 203.0.113.1 have answered 2 times")

		// More time, and none.
		b.Set([]Task{{one, gap}})
		wait(500 * time.Millisecond)
		b.Set([]Task{{one, Path{None: "eth0 has a tentative address", Grace: 3 * time.Second}}})
		wait(2 * time.Second)
		b.said(t)
		b.Set([]Task{{one, Path{None: "eth0 has no carrier"}}})
		b.said(t, "isp1: dead (IPv4): eth0 has no carrier")
		wait(time.Hour)
		b.said(t)

		// Nobody asks any more.
		b.Set([]Task{{one, next}})
		wait(time.Minute)
		b.said(t, "isp1: alive (IPv4): 198.51.100.1 and 203.0.113.1 have answered 2 times")
		b.Set([]Task{{one, gap}})
		b.Set(nil)
		wait(time.Hour)
		b.said(t)
	})
}

// TestARefusalIsNotSilence has the kernel refuse to send while a route is missing.
func TestARefusalIsNotSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		defer b.Stop()
		var refusals atomic.Int32
		answer := b.ask
		b.ask = func(ctx context.Context, p fib.Probe, path Path) ([]netip.Addr, error) {
			if refusals.Add(-1) >= 0 {
				return p.Targets, unix.ENETUNREACH
			}
			return answer(ctx, p, path)
		}
		one := probe("isp1")
		one.Down = 1
		b.Set([]Task{{one, eth0}})
		wait(5 * time.Second)
		b.said(t, "isp1: alive (IPv4): 198.51.100.1 and 203.0.113.1 have answered once")
		refusals.Store(1)
		wait(time.Minute)
		b.said(t)
		refusals.Store(1000)
		wait(one.Interval + refusedAgain)
		b.said(t, "isp1: dead (IPv4): 198.51.100.1 and 203.0.113.1 have not answered once (network is unreachable)")
	})
}

func TestNotSilence(t *testing.T) {
	t.Parallel()
	for _, err := range []error{context.DeadlineExceeded, unix.ETIMEDOUT, errors.New("x")} {
		if got := notSilence(err); got != nil {
			t.Errorf("%v: %v", err, got)
		}
	}
	if got := notSilence(&netError{unix.ECONNREFUSED}); !errors.Is(got, unix.ECONNREFUSED) {
		t.Errorf("refused: %v", got)
	}
}

type netError struct{ error }

func (e *netError) Unwrap() error { return e.error }
