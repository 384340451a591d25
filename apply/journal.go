package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Journal remembers which addresses are ours. Routes and rules bear our protocol number, and
// since Linux 5.18 so do addresses (IFA_PROTO). On older kernels a file in /run, which lives as
// long as the addresses, keeps track of them. An address is written there before it is added, so
// that none of ours is ever taken for another's.
//
// Whoever changes the kernel holds the lock from its first look on. Others may write the file
// between two looks, so each look reads it again.
type Journal struct {
	path    string
	entries map[entry]int  // the value is the link's index; 0 where it is not known
	indexes map[string]int // of the links, as last seen
	file    string         // its content
}

// entry is an address on a link. The link's index tells a link that was renamed from another that
// has taken its name. A boot changes indexes, but it removes the file too.
type entry struct {
	link   string
	prefix netip.Prefix
}

func entryOf(a fib.Address) entry { return entry{a.Link, a.Prefix} }

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
	j.file, j.entries = string(data), map[entry]int{}
	for line := range strings.Lines(j.file) {
		// "LINK ADDRESS/LENGTH INDEX"; earlier versions wrote no index.
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		prefix, err := netip.ParsePrefix(fields[1])
		if err != nil {
			continue // no version has written such a line
		}
		index := 0
		if len(fields) > 2 {
			index, _ = strconv.Atoi(fields[2])
		}
		j.entries[entry{fields[0], prefix}] = index
	}
	return nil
}

// mark sets Ours on the addresses of a snapshot that are in the journal, and forgets those that
// are gone: one that comes back is somebody else's. Saving that is up to whoever holds the lock.
func (j *Journal) mark(s *Snapshot) error {
	if err := j.read(); err != nil {
		return err
	}
	if len(s.Links) > 0 {
		j.indexes = make(map[string]int, len(s.Links))
		for _, l := range s.Links {
			j.indexes[l.Name] = l.Index
		}
	}
	type place struct {
		index  int
		prefix netip.Prefix
	}
	known := make(map[place]bool, len(j.entries))
	for e, index := range j.entries {
		if index != 0 {
			known[place{index, e.prefix}] = true
		}
	}
	there := make(map[entry]int, len(j.entries))
	for i := range s.Addresses {
		a := &s.Addresses[i]
		e := entryOf(a.Address)
		index := j.indexes[a.Link]
		was, named := j.entries[e]
		if known[place{index, a.Prefix}] || named && (was == 0 || index == 0) {
			a.Ours, there[e] = true, cmp.Or(index, was)
		}
	}
	j.entries = there
	return nil
}

// before writes the addresses that are about to be added.
func (j *Journal) before(ops []Op) error {
	for _, o := range ops {
		if o.Verb == AddressAdd {
			j.entries[entryOf(*o.Address)] = j.indexes[o.Address.Link]
		}
	}
	return j.save()
}

// after forgets the addresses that were removed.
func (j *Journal) after(p Plan) error {
	for _, o := range p.Ops() {
		if o.Verb == AddressDel {
			delete(j.entries, entryOf(*o.Address))
		}
	}
	return j.save()
}

// Forget makes addresses somebody else's from now on.
func (j *Journal) Forget(addresses []fib.Address) error {
	if err := j.read(); err != nil {
		return err
	}
	for _, a := range addresses {
		at := j.indexes[a.Link]
		maps.DeleteFunc(j.entries, func(e entry, index int) bool {
			return e == entryOf(a) || e.prefix == a.Prefix && index == at && at != 0
		})
	}
	return j.save()
}

// save writes the file if its content has changed. Everybody may read it, whatever the umask.
func (j *Journal) save() error {
	lines := make([]string, 0, len(j.entries))
	for e, index := range j.entries {
		lines = append(lines, fmt.Sprintf("%s %s %d\n", e.link, e.prefix, index))
	}
	slices.Sort(lines)
	text := strings.Join(lines, "")
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

// Lock keeps other runs out: it waits until it holds the lock file at path, or ctx is done.
func Lock(ctx context.Context, path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	// flock(2) cannot be cancelled, and polling would have no place in the queue.
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

// isGone says whether the answer to a removal means that there was nothing to remove.
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
