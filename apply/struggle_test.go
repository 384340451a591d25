package apply_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
)

// quarrel is a spec that a watch keeps in a namespace, with what the watch has said.
type quarrel struct {
	*kerneltest.Namespace
	mu   sync.Mutex
	said []string
}

// startQuarrel has a Watcher keep two uplinks.
func startQuarrel(t *testing.T) *quarrel {
	t.Helper()
	q := &quarrel{Namespace: kerneltest.NewNamespace(t)}
	q.Card("card0", "card1")
	const spec = "[uplink.a]\ninterface = \"card0\"\naddresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.1\"]\ntable = 7\n" +
		"[uplink.b]\ninterface = \"card1\"\naddresses = [\"198.51.100.10/24\"]\ngateways = [\"198.51.100.1\"]\ntable = 8\n"
	s := state(t, spec)
	bring(t, &apply.Applier{Kernel: q.Kernel(), Hardware: noHardware{}}, spec)
	a := &apply.Applier{Kernel: q.Kernel(), Hardware: noHardware{}, Watching: true}
	events := make(chan struct{})
	w := apply.Watcher{
		Kernel: events, State: make(chan struct{}), Alive: func() {},
		Look: func(ctx context.Context) (apply.Result, error) { return a.Keep(ctx, s) },
		Log: func(line string) {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.said = append(q.said, line)
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(5 * time.Millisecond):
			}
			select {
			case events <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return q
}

// names returns what was said of who takes things away.
func (q *quarrel) names() (list []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, line := range q.said {
		if !strings.HasPrefix(line, "ip ") && !strings.HasPrefix(line, "and ") {
			list = append(list, line)
		}
	}
	return list
}

// shows is what ip(8) shows; nothing of a table that is empty.
func (q *quarrel) shows(command string) string {
	out, _ := q.Run("", append([]string{"ip"}, strings.Fields(command)...)...)
	return out
}

// comesBack waits until ip(8) shows something, no longer than limit.
func (q *quarrel) comesBack(command, what string, limit time.Duration) bool {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if strings.Contains(q.shows(command), what) {
			return true
		}
	}
	return false
}

// TestOneQuarrelHoldsUpNothingElse removes a rule whenever it comes back: this is reported, and
// then the rule comes back seldom; a rule of another uplink comes back at once.
func TestOneQuarrelHoldsUpNothingElse(t *testing.T) {
	t.Parallel()
	q := startQuarrel(t)
	taken, start := 0, time.Now()
	for time.Since(start) < 3*time.Second {
		if !q.comesBack("rule", "from 192.0.2.10 lookup 7", time.Second) {
			break
		}
		q.IP("rule del from 192.0.2.10 lookup 7")
		taken++
	}
	if taken < 8 || taken > 10 {
		t.Errorf("it came back %d times", taken)
	}
	const want = "something else keeps taking away: ip rule add priority 10000 from 192.0.2.10 lookup a protocol 118; it comes back at most every 5s"
	if said := q.names(); !slices.Equal(said, []string{want}) {
		t.Errorf("said %q", said)
	}
	q.IP("rule del from 198.51.100.10 lookup 8")
	q.IP("route flush table 7")
	if !q.comesBack("rule", "from 198.51.100.10 lookup 8", 500*time.Millisecond) || !q.comesBack("route show table 7", "default", 500*time.Millisecond) {
		t.Error("others do not come back")
	}
	if strings.Contains(q.shows("rule"), "from 192.0.2.10 lookup 7") {
		t.Error("it is back already")
	}
	if !q.comesBack("rule", "from 192.0.2.10 lookup 7", 6*time.Second) {
		t.Error("it does not come back")
	}
}

// TestALinkThatFlapsHoldsUpNothingElse sets a link down and up again and again: its routes then
// come back seldom, and the report names the link.
func TestALinkThatFlapsHoldsUpNothingElse(t *testing.T) {
	t.Parallel()
	q := startQuarrel(t)
	for range 12 {
		q.IP("link set card0 down")
		q.IP("link set card0 up")
		q.comesBack("route show table 7", "default", 300*time.Millisecond)
	}
	const want = "card0 goes down and up: its routes come back at most every 5s"
	if said := q.names(); !slices.Equal(said, []string{want}) {
		t.Errorf("said %q", said)
	}
	q.IP("rule del from 192.0.2.10 lookup 7")
	q.IP("route flush table 8")
	if !q.comesBack("route show table 8", "default", 500*time.Millisecond) || !q.comesBack("rule", "from 192.0.2.10 lookup 7", 500*time.Millisecond) {
		t.Error("others do not come back")
	}
	if !q.comesBack("route show table 7", "default", 6*time.Second) {
		t.Error("its routes do not come back")
	}
}
