package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Journal remembers which addresses are ours. Routes and rules bear our protocol
// number, and so do addresses since Linux 5.18 (IFA_PROTO); before, a file that
// lives as long as the addresses, in /run, has to know. An address is written
// there before it is added, so that none of ours is ever taken for another's.
//
// Who changes the kernel holds the lock from the look at it on. Others write the file
// between two looks, so each look reads it again.
type Journal struct {
	path    string
	entries map[string]bool // "LINK ADDRESS/LENGTH"
	file    string          // what it holds
}

// OpenJournal reads the journal at path; one that is not there is empty.
func OpenJournal(path string) (*Journal, error) {
	j := &Journal{path: path}
	if err := j.read(); err != nil {
		return nil, err
	}
	return j, nil
}

func (j *Journal) read() error {
	data, err := os.ReadFile(j.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	j.file, j.entries = string(data), map[string]bool{}
	for line := range strings.Lines(j.file) {
		if e := strings.TrimSuffix(line, "\n"); e != "" {
			j.entries[e] = true
		}
	}
	return nil
}

func entry(link string, p netip.Prefix) string { return link + " " + p.String() }

// mark sets Ours on the addresses of a snapshot that are in the journal, and forgets
// those that are gone: one that comes back is somebody else's. That is for whoever has the
// lock to save.
func (j *Journal) mark(s *Snapshot) error {
	if err := j.read(); err != nil {
		return err
	}
	there := make(map[string]bool, len(j.entries))
	for i := range s.Addresses {
		a := &s.Addresses[i]
		if e := entry(a.Link, a.Prefix); j.entries[e] {
			a.Ours, there[e] = true, true
		}
	}
	j.entries = there
	return nil
}

// before writes the addresses that are about to be added.
func (j *Journal) before(ops []Op) error {
	for _, o := range ops {
		if o.Verb == AddressAdd {
			j.entries[entry(o.Address.Link, o.Address.Prefix)] = true
		}
	}
	return j.save()
}

// after forgets the addresses that were removed.
func (j *Journal) after(p Plan) error {
	for _, o := range p.Ops() {
		if o.Verb == AddressDel {
			delete(j.entries, entry(o.Address.Link, o.Address.Prefix))
		}
	}
	return j.save()
}

// Forget has addresses be somebody else's from now on.
func (j *Journal) Forget(addresses []fib.Address) error {
	if err := j.read(); err != nil {
		return err
	}
	for _, a := range addresses {
		delete(j.entries, entry(a.Link, a.Prefix))
	}
	return j.save()
}

// save writes the file if it holds something else. Whoever looks may read it, whatever the
// umask.
func (j *Journal) save() error {
	var b strings.Builder
	for _, e := range slices.Sorted(maps.Keys(j.entries)) {
		b.WriteString(e + "\n")
	}
	text := b.String()
	if text == j.file {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(j.path), 0o755); err != nil {
		return err
	}
	temp := j.path + ".tmp"
	if err := os.WriteFile(temp, []byte(text), 0o644); err != nil {
		return err
	}
	if err := os.Chmod(temp, 0o644); err != nil {
		return err
	}
	if err := os.Rename(temp, j.path); err != nil {
		return err
	}
	j.file = text
	return nil
}

// Lock keeps other runs out: it waits for the lock file at path until it has it, or ctx
// is done.
func Lock(ctx context.Context, path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	// flock(2) cannot be called off, and asking again and again would have no turn.
	answer := make(chan error, 1)
	go func() {
		err := error(syscall.EINTR)
		for errors.Is(err, syscall.EINTR) {
			err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		}
		answer <- err
	}()
	select {
	case err := <-answer:
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		return func() { f.Close() }, nil
	case <-ctx.Done():
		go func() {
			<-answer
			f.Close()
		}()
		return nil, interrupted(ctx)
	}
}

// isGone says whether an answer to a removal means that it was not there.
func isGone(o Op, err error) bool {
	switch o.Verb {
	case RuleDel:
		return errors.Is(err, syscall.ENOENT)
	case RouteDel:
		return errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.ENODEV)
	case AddressDel:
		return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.ENODEV)
	}
	return false
}
