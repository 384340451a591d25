// Package labtest is what the tests that run in a lab share.
package labtest

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// Suite is the tests of a package.
type Suite struct {
	// Parallel is how many tests run at once, unless the command line says otherwise.
	Parallel string
	// Require says whether this machine can run them.
	Require func() error
	// RemoveStale removes what killed processes have left behind.
	RemoveStale func(context.Context) error
	// Close removes what the tests shared.
	Close func()
	// Left are patterns of files that must be gone at the end.
	Left []string
}

// Main runs the tests and ends the process. The tests fail if they leave something behind.
func (s Suite) Main(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		if err := flag.Set("test.parallel", s.Parallel); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	if s.Require() == nil {
		if err := s.RemoveStale(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "before the tests:", err)
		}
	}
	code := m.Run()
	s.Close()
	var left []string
	for _, pattern := range append(s.Left, fmt.Sprintf("/run/netns/uplink-%d-*", os.Getpid())) {
		found, _ := filepath.Glob(pattern) // the patterns are right
		left = append(left, found...)
	}
	if len(left) > 0 {
		fmt.Fprintln(os.Stderr, "left behind:", strings.Join(left, ", "))
		code = 1
	}
	os.Exit(code)
}

// Open makes a lab that lasts as long as the test, and a context for it that ends when
// limit is over.
func Open(t *testing.T, limit time.Duration, opts lab.Options) (context.Context, *lab.Lab) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	l, err := lab.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	Close(t, l)
	return ctx, l
}

// Close closes c when the test has ended; an error fails the test.
func Close(t *testing.T, c io.Closer) {
	t.Cleanup(func() {
		t.Helper()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}
