package boot_test

import (
	"io/fs"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/boot"
)

// TestCredential has the spec in a credential and nowhere else, for networkd and for
// netlink: the generator sees it, and the services must as well.
func TestCredential(t *testing.T) {
	t.Parallel()
	text, err := fs.ReadFile(recipe, specFile[1:])
	if err != nil {
		t.Fatal(err)
	}
	for name, units := range map[string][]string{"networkd": {networkd}, "netlink": nil} {
		t.Run(name, func(t *testing.T) {
			eachSuite(t, func(t *testing.T, suite boot.Suite) {
				h := booted(t, boot.Config{
					Root: boot.Root{Suite: suite}, Product: installed(t), Enable: units,
					Credentials: map[string]string{"uplink.toml": string(text)},
				}, "running")
				h.works()
				h.clean()
			})
		})
	}
}
