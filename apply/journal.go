package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Journal remembers which addresses are ours. Routes and rules bear our protocol
// number, and so do addresses since Linux 5.18 (IFA_PROTO); before, a file that
// lives as long as the addresses, in /run, has to know. An address is written
// there before it is added, so that none of ours is ever taken for another's.
type Journal struct {
	path    string
	entries []string // "LINK ADDRESS/LENGTH"
}

// OpenJournal reads the journal at path; one that is not there is empty.
func OpenJournal(path string) (*Journal, error) {
	j := &Journal{path: path}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		if e := strings.TrimSuffix(line, "\n"); e != "" {
			j.entries = append(j.entries, e)
		}
	}
	return j, nil
}

func entry(link string, p netip.Prefix) string { return link + " " + p.String() }

// mark sets Ours on the addresses of a snapshot that are in the journal, and forgets
// those that are gone: one that comes back is somebody else's.
func (j *Journal) mark(s *Snapshot) {
	there := make(map[string]bool, len(s.Addresses))
	for i := range s.Addresses {
		a := &s.Addresses[i]
		e := entry(a.Link, a.Prefix)
		there[e] = true
		a.Ours = a.Ours || slices.Contains(j.entries, e)
	}
	j.entries = slices.DeleteFunc(j.entries, func(e string) bool { return !there[e] })
}

// before writes the addresses that are about to be added.
func (j *Journal) before(ops []Op) error {
	n := len(j.entries)
	for _, o := range ops {
		if o.Verb != AddressAdd {
			continue
		}
		if e := entry(o.Address.Link, o.Address.Prefix); !slices.Contains(j.entries, e) {
			j.entries = append(j.entries, e)
		}
	}
	if len(j.entries) == n {
		return nil
	}
	return j.write()
}

// after forgets the addresses that were removed.
func (j *Journal) after(p Plan) error {
	n := len(j.entries)
	for _, o := range p.Ops() {
		if o.Verb == AddressDel {
			j.entries = slices.DeleteFunc(j.entries, func(e string) bool { return e == entry(o.Address.Link, o.Address.Prefix) })
		}
	}
	if len(j.entries) == n {
		return nil
	}
	return j.write()
}

func (j *Journal) write() error {
	if err := os.MkdirAll(filepath.Dir(j.path), 0o755); err != nil {
		return err
	}
	temp := j.path + ".tmp"
	if err := os.WriteFile(temp, []byte(strings.Join(j.entries, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	return os.Rename(temp, j.path)
}

// Lock keeps other runs out: it waits for the lock file at path until it has it.
func Lock(path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
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
