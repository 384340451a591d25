package boot_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/boot"
)

// parallel is how many machines boot at once: a boot is work for about one core.
const parallel = "2"

// TestMain runs the tests and fails when they leave something behind.
func TestMain(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		if err := flag.Set("test.parallel", parallel); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	if boot.Require() == nil {
		if err := boot.RemoveStale(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "before the tests:", err)
		}
	}
	code := m.Run()
	if p, err := product(); err == nil {
		p.Close()
	}
	left, _ := filepath.Glob(fmt.Sprintf("/run/netns/uplink-%d-*", os.Getpid()))
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		groups, _ := filepath.Glob(fmt.Sprintf("%s/uplink-boot-%d-*", dir, os.Getpid()))
		left = append(left, groups...)
	}
	if len(left) > 0 {
		fmt.Fprintln(os.Stderr, "left behind:", strings.Join(left, ", "))
		code = 1
	}
	os.Exit(code)
}

// product builds and installs the project when the first test needs it.
var product = sync.OnceValues(func() (*boot.Product, error) {
	return boot.BuildProduct(context.Background())
})

// installed returns the installed project.
func installed(t *testing.T) *boot.Product {
	t.Helper()
	p, err := product()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// require skips the test on a machine that cannot run it. Where CI is set it fails
// instead: a test that is skipped there is one that nobody runs.
func require(t *testing.T) {
	t.Helper()
	switch err := boot.Require(); {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatal(err)
	default:
		t.Skip("NOT TESTED: ", err)
	}
}
