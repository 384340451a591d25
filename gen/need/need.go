// Package need is for tests that need more of a machine than Go: a program, root, a kernel
// that has something. It is for tests alone, of all packages.
package need

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Nil skips the test where err says that this machine cannot run it. Where CI is set it
// fails instead: a test that is skipped there is one that nobody runs. An emulated program
// (`make arches` sets EMULATED) is skipped there too: the same test runs as itself.
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

// Program returns where a program is that the test needs. What more is to be said is how one
// comes by it, where that is not plain.
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
