package apply_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
)

// refusing is a kernel that refuses operations.
type refusing struct {
	apply.Kernel
	so func(apply.Op) bool
}

// Execute implements apply.Kernel.
func (k *refusing) Execute(ops []apply.Op) []error {
	var answers []error
	for _, o := range ops {
		if k.so != nil && k.so(o) {
			answers = append(answers, &apply.OpError{Op: o, Msg: "refused by the test", Err: kerneltest.ErrRefused})
			continue
		}
		answers = append(answers, k.Kernel.Execute([]apply.Op{o})...)
	}
	return answers
}

// threeLinks are on cards whose addresses are somebody else's.
func threeLinks(t *testing.T) (*kerneltest.Fake, string) {
	t.Helper()
	f := kerneltest.NewFake("card0", "card1", "card2")
	var b strings.Builder
	for i := range 3 {
		learnt(f, fmt.Sprintf("card%d", i), fmt.Sprintf("198.51.%d.10/24", 100+i), apply.Address{})
		fmt.Fprintf(&b, "[uplink.u%d]\ninterface = \"card%[1]d\"\ndhcp = \"ipv4\"\n", i)
		gateway(f, fmt.Sprintf("card%d", i), fmt.Sprintf("198.51.%d.1", 100+i), apply.Route{Protocol: apply.ProtocolDHCP})
	}
	return f, b.String()
}

// TestKeepGoesOnWithoutOneLink refuses an operation of one link or of two: the others are done,
// and these too once they are not refused any more.
func TestKeepGoesOnWithoutOneLink(t *testing.T) {
	for _, c := range []struct {
		name string
		so   func(apply.Op) bool
		off  []string // parts of the addresses that are not done
	}{
		{"a rule", func(o apply.Op) bool { return o.Verb == apply.RuleAdd && strings.Contains(o.String(), "198.51.101.10") }, []string{"198.51.101"}},
		{"a gateway", func(o apply.Op) bool {
			return o.Verb == apply.RouteAdd && strings.Contains(o.String(), "via 198.51.100.1 ")
		}, []string{"198.51.100"}},
		{"two gateways", func(o apply.Op) bool { return o.Verb == apply.RouteAdd && !strings.Contains(o.String(), "card2") }, []string{"198.51.100", "198.51.101"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, spec := threeLinks(t)
			k := &refusing{f, c.so}
			a := on(k)
			a.Watching = true
			keep := func() apply.Result {
				t.Helper()
				r, err := a.Keep(context.Background(), state(t, spec))
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			has := func(subnet string) bool {
				n := 0
				for _, r := range f.Rules {
					if r.Ours() && (strings.HasPrefix(r.From.String(), subnet) || strings.HasPrefix(r.To.String(), subnet)) {
						n++
					}
				}
				for _, r := range f.Routes {
					if r.Ours() && (strings.HasPrefix(r.Dst.String(), subnet) || strings.HasPrefix(r.Nexthops[0].Via.String(), subnet)) {
						n++
					}
				}
				if n != 0 && n != 4 {
					t.Errorf("%s: %d of its 4 rules and routes", subnet, n)
				}
				return n == 4
			}
			for round := range 3 {
				r := keep()
				if len(r.Refused) != len(c.off) {
					t.Fatalf("round %d: refused: %v", round, r.Refused)
				}
				var refused *apply.OpError
				if !errors.As(r.Refused[0], &refused) || !errors.Is(r.Refused[0], kerneltest.ErrRefused) {
					t.Errorf("%v", r.Refused[0])
				}
				for i := range 3 {
					subnet := fmt.Sprintf("198.51.%d", 100+i)
					if off := strings.Contains(strings.Join(c.off, " "), subnet); has(subnet) == off {
						t.Errorf("round %d: %s is done: %v", round, subnet, !off)
					}
				}
				if round > 0 && len(r.Done) != 0 {
					t.Errorf("round %d: the others were changed:\n%s", round, lines(r.Done))
				}
			}
			k.so = nil
			if r := keep(); len(r.Refused) != 0 || len(r.Done) != 4*len(c.off) {
				t.Errorf("refused no more: %v\n%s", r.Refused, lines(r.Done))
			}
			if r := keep(); len(r.Done) != 0 {
				t.Errorf("not the same again:\n%s", lines(r.Done))
			}
		})
	}
}

// TestKeepWithTwoLinksForOne plugs in a second link that fits an uplink's glob, while another
// uplink lacks something: that is added, and nothing of the first uplink is added or removed
// until there is one link again.
func TestKeepWithTwoLinksForOne(t *testing.T) {
	for name, uplink := range map[string]string{
		"static":  "[uplink.u0]\ninterface = \"card0*\"\naddresses = [\"198.51.100.10/24\"]\ngateways = [\"198.51.100.1\"]\n",
		"learned": "[uplink.u0]\ninterface = \"card0*\"\ndhcp = \"ipv4\"\n",
	} {
		t.Run(name, func(t *testing.T) {
			f, spec := threeLinks(t)
			spec = uplink + spec[strings.Index(spec, "[uplink.u1]"):]
			if name == "static" {
				f.Addresses = f.Addresses[1:]
			}
			a := on(f)
			bring(t, a, spec)
			lose := func(subnet string) {
				f.Rules = slices.DeleteFunc(f.Rules, func(r apply.Rule) bool { return strings.HasPrefix(r.From.String(), subnet) })
			}
			f.Links = append(f.Links, apply.Link{Index: 9, Name: "card0b", MTU: 1500, Up: true, Carrier: true})
			lose("198.51.100")
			lose("198.51.101")
			a.Watching = true
			for round, want := range []string{"rule add priority 10001 from 198.51.101.10 lookup 10001 protocol 118\n", "", "rule add priority 10000 from 198.51.100.10 lookup 10000 protocol 118\n", ""} {
				if round == 2 {
					f.Links = f.Links[:len(f.Links)-1]
				}
				r, err := a.Keep(context.Background(), state(t, spec))
				if got := lines(r.Done); err != nil || got != want {
					t.Errorf("round %d: %v, done:\n%s, want\n%s", round, err, got, want)
				}
				var e *apply.AmbiguousError
				if two := len(r.Refused) == 1 && errors.As(r.Refused[0], &e); two != (round < 2) {
					t.Errorf("round %d: %v", round, r.Refused)
				}
			}
		})
	}
}

// TestKeepCannotTellWhose refuses a rule that belongs to no link: that is an error.
func TestKeepCannotTellWhose(t *testing.T) {
	f, spec := threeLinks(t)
	a := on(&refusing{f, func(o apply.Op) bool { return o.Verb == apply.RuleAdd && o.Rule.Link == "" }})
	a.Watching = true
	r, err := a.Keep(context.Background(), state(t, "main-routes-first = true\n"+spec))
	if !errors.Is(err, kerneltest.ErrRefused) || len(r.Done) != 0 {
		t.Errorf("%v, %s", err, lines(r.Done))
	}
}

// watcher runs a Watcher on looks that a test answers, one after the other.
func watcher(t *testing.T, look func(n int) (apply.Result, error)) (kernel chan<- struct{}, log func() []string, stop func()) {
	t.Helper()
	changed, said, done := make(chan struct{}, 1), make(chan string, 1000), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	w := apply.Watcher{
		Kernel: changed, State: make(chan struct{}), Alive: func() {}, Log: func(line string) { said <- line },
		Look: func(context.Context) (apply.Result, error) { n++; return look(n) },
	}
	go func() { done <- w.Run(ctx) }()
	return changed, func() (list []string) {
			for len(said) > 0 {
				list = append(list, <-said)
			}
			return list
		}, func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
}

// TestWatcherRetries fails a look, and refuses a link: the watcher tries again by itself, and
// reports it once.
func TestWatcherRetries(t *testing.T) {
	for name, answer := range map[string]func() (apply.Result, error){
		"error":   func() (apply.Result, error) { return apply.Result{}, syscall.EPERM },
		"refused": func() (apply.Result, error) { return apply.Result{Refused: []error{syscall.EPERM}}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			looks := make(chan time.Time, 100)
			_, log, stop := watcher(t, func(n int) (apply.Result, error) {
				looks <- time.Now()
				if n < 3 {
					return answer()
				}
				return apply.Result{}, nil
			})
			first, second, third := <-looks, <-looks, <-looks
			time.Sleep(50 * time.Millisecond)
			stop()
			if a, b := second.Sub(first), third.Sub(second); a < time.Second || a > 2*time.Second || b < 2*time.Second || b > 3*time.Second {
				t.Errorf("tried again after %v and %v", a, b)
			}
			if got := log(); len(got) != 1 || got[0] != syscall.EPERM.Error() || len(looks) != 0 {
				t.Errorf("%q, %d more looks", got, len(looks))
			}
		})
	}
}

// TestWatcherCoalesces makes the kernel report a thousand changes: a few looks cover them, and
// the last look comes after the last change.
func TestWatcherCoalesces(t *testing.T) {
	var last time.Time
	looks := 0
	kernel, _, stop := watcher(t, func(int) (apply.Result, error) {
		looks, last = looks+1, time.Now()
		return apply.Result{}, nil
	})
	start := time.Now()
	for range 1000 {
		select {
		case kernel <- struct{}{}:
		default:
		}
		time.Sleep(100 * time.Microsecond)
	}
	end := time.Now()
	time.Sleep(100 * time.Millisecond)
	stop()
	if most := int(end.Sub(start)/(5*time.Millisecond)) + 3; looks < 3 || looks > most {
		t.Errorf("%d looks in %v", looks, end.Sub(start))
	}
	if last.Before(end.Add(-time.Millisecond)) {
		t.Errorf("the last look was %v before the last change", end.Sub(last))
	}
}

// TestWatcherGoesDeaf closes what tells of changes.
func TestWatcherGoesDeaf(t *testing.T) {
	kernel := make(chan struct{})
	close(kernel)
	w := apply.Watcher{Kernel: kernel, Alive: func() {}, Look: func(context.Context) (apply.Result, error) { return apply.Result{}, nil }}
	if err := w.Run(t.Context()); !errors.Is(err, apply.ErrDeaf) {
		t.Error(err)
	}
}

// TestSpared takes nothing away of what somebody else is taking over, and adds nothing.
func TestSpared(t *testing.T) {
	fake := kerneltest.NewFake(kerneltest.Links...)
	a := on(fake)
	bring(t, a, dualStack)
	fake.Sent = 0
	a.Spared = state(t, dualStack)
	if r := bring(t, a, ""); fake.Sent != 0 {
		t.Errorf("%d changes:\n%s", fake.Sent, lines(r.Done))
	}
	a.Spared = state(t, recipe)
	if r := bring(t, a, ""); len(r.Done) == 0 || strings.Contains(lines(r.Done), "198.51.100.") {
		t.Errorf("what is spared is but a part:\n%s", lines(r.Done))
	}
	bring(t, on(fake), "")
	if r := bring(t, a, ""); len(r.Done) > 0 {
		t.Errorf("added:\n%s", lines(r.Done))
	}
}
