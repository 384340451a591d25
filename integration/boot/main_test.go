package boot_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/need"
	"github.com/uplink-generator/uplink-generator/integration/boot"
	"github.com/uplink-generator/uplink-generator/integration/internal/labtest"
)

// TestMain boots two machines at once: a boot is work for about one core.
func TestMain(m *testing.M) {
	groups := fmt.Sprintf("/uplink-boot-%d-*", os.Getpid())
	labtest.Suite{
		Parallel:    "2",
		Require:     boot.Require,
		RemoveStale: boot.RemoveStale,
		Close: func() {
			if made != nil {
				made.Close()
			}
		},
		Left: []string{"/sys/fs/cgroup" + groups, "/sys/fs/cgroup/*" + groups},
	}.Main(m)
}

// product builds and installs the project when the first test needs it.
var product = sync.OnceValues(func() (*boot.Product, error) {
	p, err := boot.BuildProduct(context.Background())
	if err == nil {
		made = p
	}
	return p, err
})

// made is the product, where a test has needed it.
var made *boot.Product

// installed returns the installed project.
func installed(t *testing.T) *boot.Product {
	t.Helper()
	p, err := product()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// require skips the test on a machine that cannot run it.
func require(t *testing.T) {
	t.Helper()
	need.Nil(t, boot.Require())
}
