package apply

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// FuzzJournal reads a journal of arbitrary bytes: what it reads is the same after writing and
// reading it again.
func FuzzJournal(f *testing.F) {
	for _, s := range []string{"", "eth0 192.0.2.10/24\n", "eth0 192.0.2.10/24\neth1 2001:db8::1/64", "\n\n", "\x00\xff\r\n", " "} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		name := filepath.Join(t.TempDir(), "addresses")
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := OpenJournal(name)
		if err != nil {
			return
		}
		if err := j.save(); err != nil {
			t.Fatal(err)
		}
		again, err := OpenJournal(name)
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(j.entries, again.entries) {
			t.Errorf("%v was written, and %v read", j.entries, again.entries)
		}
	})
}
