package boot_test

import (
	"io/fs"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/boot"
)

// TestNobodyElse is on a host on which nothing else configures the network, and the spec has
// everything.
func TestNobodyElse(t *testing.T) {
	spec, err := fs.ReadFile(recipe, specFile[1:])
	if err != nil {
		t.Fatal(err)
	}
	other{
		root: func(suite boot.Suite) boot.Root { return boot.Root{Suite: suite} },
		each: eachSuite, some: eachSuite, spec: string(spec),
		files: map[string]boot.File{},
	}.test(t)
}
