package apply_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// unmarked is a kernel before 5.18: it does not keep the owner of an address.
type unmarked struct{ apply.Kernel }

func (u unmarked) Observe(scope apply.Scope) (apply.Snapshot, error) {
	s, err := u.Kernel.Observe(scope)
	for i := range s.Addresses {
		s.Addresses[i].Ours = false
	}
	return s, err
}

// TestJournal brings states about on a kernel that does not know whose an address is,
// each run as a process of its own.
func TestJournal(t *testing.T) {
	fake := kerneltest.NewFake(kerneltest.Links...)
	file := filepath.Join(t.TempDir(), "run", "uplink", "addresses")
	faulty := &kerneltest.Faulty{Kernel: unmarked{fake}}
	process := func() *apply.Applier {
		t.Helper()
		j, err := apply.OpenJournal(file)
		if err != nil {
			t.Fatal(err)
		}
		a := on(faulty)
		a.Journal = j
		return a
	}
	others := apply.Address{Address: fib.Address{Link: "card0", Prefix: netip.MustParsePrefix("192.0.2.99/24")}}
	fake.Addresses = append(fake.Addresses, others)
	has := func(what string, want ...string) {
		t.Helper()
		var have []string
		for _, a := range fake.Addresses {
			have = append(have, a.Prefix.String())
		}
		if got := strings.Join(have, " "); got != strings.Join(want, " ") {
			t.Errorf("%s: the addresses are %s, want %s", what, got, strings.Join(want, " "))
		}
	}
	bring(t, process(), recipe)
	has("recipe", "192.0.2.99/24", "192.0.2.10/24", "198.51.100.10/24")
	fake.Sent = 0
	bring(t, process(), recipe)
	if fake.Sent != 0 {
		t.Errorf("a second run sent %d changes", fake.Sent)
	}
	bring(t, process(), recipe[:strings.Index(recipe, "[uplink.rt2]")])
	has("one uplink", "192.0.2.99/24", "192.0.2.10/24")

	// An address that was removed and is added again by somebody else is somebody else's.
	fake.Addresses = append(fake.Addresses, apply.Address{Address: fib.Address{Link: "card1", Prefix: netip.MustParsePrefix("198.51.100.10/24")}})
	if _, err := process().Down(context.Background()); err != nil {
		t.Fatal(err)
	}
	has("down", "192.0.2.99/24", "198.51.100.10/24")

	// So is one that was added, and removed again because something was refused.
	faulty.Seen, faulty.At, faulty.Fault = nil, 4, kerneltest.Refuse
	if _, err := process().Apply(context.Background(), state(t, dualStack)); err == nil {
		t.Fatal("nothing was refused")
	}
	faulty.Fault = kerneltest.None
	has("undone", "192.0.2.99/24", "198.51.100.10/24")
	fake.Addresses = append(fake.Addresses, apply.Address{Address: fib.Address{Link: "card0", Prefix: netip.MustParsePrefix("192.0.2.10/24")}})
	if _, err := process().Down(context.Background()); err != nil {
		t.Fatal(err)
	}
	has("down after an undone run", "192.0.2.99/24", "198.51.100.10/24", "192.0.2.10/24")

	// A prefix of another length takes the place of the old one, and then goes.
	bring(t, process(), "")
	bring(t, process(), sourced)
	bring(t, process(), resized(sourced))
	data, err := os.ReadFile(file)
	if want := "card1 2001:db8:2::10/48 3\n"; err != nil || !strings.HasSuffix(string(data), want) || strings.Contains(string(data), "2001:db8:2::10/64") {
		t.Errorf("%v, the journal is\n%s", err, data)
	}

	// An address that goes away by itself, and is added by somebody else, is somebody else's,
	// also for those who still have the journal open.
	watch := process()
	bring(t, watch, sourced)
	fake.Addresses = slices.DeleteFunc(fake.Addresses, func(a apply.Address) bool { return a.Prefix.String() == "198.51.100.10/24" && a.Ours })
	bring(t, process(), recipe[:strings.Index(recipe, "[uplink.rt2]")])
	fake.Addresses = append(fake.Addresses, apply.Address{Address: fib.Address{Link: "card1", Prefix: netip.MustParsePrefix("198.51.100.10/24")}})
	bring(t, watch, "")
	has("down by the watch", "192.0.2.99/24", "198.51.100.10/24", "192.0.2.10/24", "198.51.100.10/24")
	fake.Addresses = fake.Addresses[:3]

	// So is an address that somebody else has taken over.
	heir := process()
	bring(t, heir, sourced)
	if err := heir.Journal.Forget([]fib.Address{{Link: "card1", Prefix: netip.MustParsePrefix("2001:db8:2::10/64")}}); err != nil {
		t.Fatal(err)
	}
	bring(t, heir, "")
	has("down by an heir", "192.0.2.99/24", "198.51.100.10/24", "192.0.2.10/24", "2001:db8:2::10/64")
	fake.Addresses = fake.Addresses[:3]

	// What another process has added meanwhile is ours.
	bring(t, process(), dualStack)
	bring(t, watch, "")
	has("down by the watch", "192.0.2.99/24", "198.51.100.10/24", "192.0.2.10/24")

	// Who looks may read it.
	defer syscall.Umask(syscall.Umask(0o077))
	bring(t, process(), dualStack)
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, the mode of the journal is %v", err, info.Mode())
	}

	// If it cannot be written at the end, everything is as it was.
	faulty.Before = func(_ int, o apply.Op) {
		if o.Verb == apply.AddressDel {
			_ = os.Mkdir(file+".tmp", 0o700)
		}
	}
	if r, err := process().Apply(context.Background(), fib.State{}); err == nil || len(r.Done) != 0 {
		t.Errorf("%v, and it says that this was done:\n%s", err, lines(r.Done))
	}
	faulty.Before = nil
	if err := os.Remove(file + ".tmp"); err != nil {
		t.Error(err)
	}
	if r := bring(t, process(), dualStack); len(r.Done) != 0 {
		t.Errorf("not as before:\n%s", lines(r.Done))
	}

	// If it cannot be written at the start, nothing is done.
	bring(t, process(), "")
	if err := os.Mkdir(file+".tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	fake.Sent = 0
	if _, err := process().Apply(context.Background(), state(t, dualStack)); err == nil || fake.Sent != 0 {
		t.Errorf("%v, and %d changes were sent", err, fake.Sent)
	}
	if err := os.Remove(file + ".tmp"); err != nil {
		t.Error(err)
	}

	// A kill between the journal and the kernel, and after the kernel.
	a := process()
	plan, _, err := a.Plan(state(t, dualStack))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Journal.Before(plan.Ops()); err != nil {
		t.Fatal(err)
	}
	fake.Execute(plan.Ops()[:1])
	bring(t, process(), dualStack)
	if _, err := process().Down(context.Background()); err != nil {
		t.Fatal(err)
	}
	has("down after a kill", "192.0.2.99/24", "198.51.100.10/24", "192.0.2.10/24")
}

// TestJournalOfARenamedLink renames a link that bears an address of ours, and gives its old name
// to another, with a journal of this version and with one of the versions that had no index.
func TestJournalOfARenamedLink(t *testing.T) {
	for name, old := range map[string]bool{"by index": false, "from an old journal": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := kerneltest.NewNamespace(t)
			n.Card("card0", "card1")
			kernel, file := unmarked{n.Kernel()}, filepath.Join(t.TempDir(), "addresses")
			process := func() *apply.Applier {
				j, err := apply.OpenJournal(file)
				if err != nil {
					t.Fatal(err)
				}
				return &apply.Applier{Kernel: kernel, Hardware: noHardware{}, Journal: j}
			}
			uplink := func(link string) string {
				return "[uplink.a]\ninterface = \"" + link + "\"\naddresses = [\"192.0.2.10/24\"]\n"
			}
			bring(t, process(), uplink("card1"))
			if old {
				if err := os.WriteFile(file, []byte("card1 192.0.2.10/24\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				bring(t, process(), uplink("card1")) // it learns the index
			}
			n.IP("link set card1 down", "link set card1 name wan1", "link set wan1 up", "link set card0 down", "link set card0 name card1", "link set card1 up")
			n.IP("address add 192.0.2.10/24 dev card1") // somebody else's, on the other card
			bring(t, process(), uplink("wan1"))
			data, err := os.ReadFile(file)
			if err != nil || !strings.HasPrefix(string(data), "wan1 192.0.2.10/24 ") || strings.Count(string(data), "\n") != 1 {
				t.Errorf("%v, the journal is\n%s", err, data)
			}
			bring(t, process(), "")
			out, err := n.Run("", "ip", "-4", "-o", "address")
			if err != nil || strings.Contains(out, "wan1") || !strings.Contains(out, "card1") {
				t.Errorf("%v: the addresses are\n%s", err, out)
			}
		})
	}
}

// TestLock checks that there is one holder at a time, that the lock is free after the first, and
// that nobody waits for it longer than its context says.
func TestLock(t *testing.T) {
	file := filepath.Join(t.TempDir(), "run", "uplink", "lock")
	unlock, err := apply.Lock(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	var second atomic.Bool
	done := make(chan error)
	go func() {
		unlock, err := apply.Lock(t.Context(), file)
		second.Store(true)
		if err == nil {
			unlock()
		}
		done <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := apply.Lock(ctx, file); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("interrupted: %v", err)
	}
	if second.Load() {
		t.Error("two have the lock")
	}
	unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
	// Nor has a run that was interrupted.
	if unlock, err = apply.Lock(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	unlock()
}
