package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/gen/need"
	"github.com/uplink-generator/uplink-generator/integration/internal/labtest"
	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// TestMain runs four tests at once: they mostly wait.
func TestMain(m *testing.M) {
	if os.Getenv(supervisedEnv) != "" {
		fmt.Fprintln(os.Stderr, runSupervised()) // which does not return but with an error
		os.Exit(1)
	}
	labtest.Suite{
		Parallel:    "4",
		Require:     func() error { return lab.Require() },
		RemoveStale: lab.RemoveStale,
		Close: func() {
			if builtIn != "" {
				os.RemoveAll(builtIn)
			}
		},
	}.Main(m)
}

// built builds the programs when the first test needs them, and returns where they are.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "uplink-programs-")
	if err != nil {
		return "", err
	}
	builtIn = dir
	return dir, programs.Build(context.Background(), dir)
})

// builtIn is where they are, where a test has needed them.
var builtIn string

// run runs one of the built programs, which must succeed, and returns what it wrote.
func run(ctx context.Context, t *testing.T, program string, args ...string) (stdout, stderr string) {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(dir, program), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, errs.String())
	}
	return out.String(), errs.String()
}

// require skips the test on a machine that cannot run it.
func require(t *testing.T, needs ...lab.Need) {
	t.Helper()
	need.Nil(t, lab.Require(needs...))
}

// open makes a lab that lasts as long as the test, and a context for it.
func open(t *testing.T, opts lab.Options) (context.Context, *lab.Lab) {
	t.Helper()
	return labtest.Open(t, 3*time.Minute, opts)
}

// ip runs `ip` in a namespace, once for each line.
func ip(ctx context.Context, t *testing.T, n *lab.Namespace, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if _, err := n.Run(ctx, "ip", strings.Fields(line)...); err != nil {
			t.Fatal(err)
		}
	}
}

// eventually waits until nothing is missing any more. What cond returns says what
// still is; it is shown where the wait is in vain.
func eventually(ctx context.Context, t *testing.T, cond func() (missing string, err error)) {
	t.Helper()
	var broken error
	err := lab.Poll(ctx, func() (bool, string) {
		missing, err := cond()
		broken = err
		return missing == "" || err != nil, "\n" + missing
	})
	if err := errors.Join(broken, err); err != nil {
		t.Fatal(err)
	}
}
