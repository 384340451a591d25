// Package need is for tests that need more of a machine than Go: a program, root, a
// feature of the kernel. Only tests use it, of all packages.
package need

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Nil skips the test where err says that this machine cannot run it. Where CI is set it
// fails instead, because nobody would run a test that is skipped there. Under emulation
// (`make arches` sets EMULATED) it skips even there: the same test runs natively as well.
func Nil(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("CI") != "" && os.Getenv("EMULATED") == "":
		t.Fatal("this machine cannot run it:", err)
	default:
		t.Skip("NOT TESTED:", err)
	}
}

// Optional skips the test, also where CI is set: for what not every machine that runs all tests has
// to have.
func Optional(t testing.TB, err error) {
	t.Helper()
	t.Skip("NOT TESTED:", err)
}

// Program returns the path of a program that the test needs. more says how to get it,
// where that is not obvious.
func Program(t testing.TB, name string, more ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && len(more) > 0 {
		err = fmt.Errorf("%w (%s)", err, more[0])
	}
	Nil(t, err)
	return path
}

// Root is for tests of what only root may do.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Nil(t, errors.New("it takes root"))
	}
}
