package apply_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// noHardware is a host of which only rtnetlink's answers are known.
type noHardware struct{}

func (noHardware) Driver(apply.Link) string     { return "" }
func (noHardware) Path(apply.Link) string       { return "" }
func (noHardware) Sysctl(_, _, _ string) string { return "" }

// state compiles a spec. For links named card0 and so on, see kerneltest.Links.
func state(t testing.TB, text string) fib.State {
	t.Helper()
	if strings.TrimSpace(text) == "" {
		return fib.State{}
	}
	file := filepath.Join(t.TempDir(), "uplink.toml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := spec.LoadFiles(rootfs.At(""), file)
	if err != nil {
		t.Fatal(err)
	}
	st, err := gen.Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// on returns an Applier for a fake.
func on(k apply.Kernel) *apply.Applier { return &apply.Applier{Kernel: k, Hardware: noHardware{}} }

// bring makes a kernel hold a spec.
func bring(t testing.TB, a *apply.Applier, text string) apply.Result {
	t.Helper()
	r, err := a.Apply(context.Background(), state(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// lines is what ip(8) would be given for the operations.
func lines(ops []apply.Op) string {
	var b strings.Builder
	for _, o := range ops {
		fmt.Fprintln(&b, o.Batch())
	}
	return b.String()
}

// Specs that several tests use.
const (
	recipe = `
[uplink.isp1]
interface = "card0"
addresses = ["192.0.2.10/24"]
gateways  = ["192.0.2.1"]

[uplink.rt2]
interface = "card1"
table     = 1
addresses = ["198.51.100.10/24"]
gateways  = ["198.51.100.1"]
`
	dualStack = `
[uplink.isp1]
interface     = "card0"
addresses     = ["192.0.2.10/24", "2001:db8:1::10/64"]
gateways      = ["192.0.2.1", "2001:db8:1::1"]
default-route = true
metric        = 100

[uplink.rt2]
interface = "card1"
table     = 1
addresses = ["198.51.100.10/24", "2001:db8:2::10/64"]
gateways  = ["198.51.100.1", "2001:db8:2::1"]
`
	// sourced has a route that keeps its source while that gets another prefix length.
	sourced = dualStack + `
[[uplink.rt2.route]]
to  = "2001:db8:77::/48"
via = "2001:db8:2::2"
src = "2001:db8:2::10"
`
)

// resized is a spec whose addresses of rt2 have other prefix lengths.
func resized(spec string) string {
	return strings.NewReplacer("198.51.100.10/24", "198.51.100.10/25", "2001:db8:2::10/64", "2001:db8:2::10/48").Replace(spec)
}

// manyUplinks is a spec of n uplinks on one card.
func manyUplinks(n int, gateway func(i int) string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "[uplink.u%04d]\ninterface = \"card0\"\naddresses = [\"192.0.%d.%d/32\"]\ngateways = [%q]\nonlink = true\n", i, 3+i/250, 1+i%250, gateway(i))
	}
	return b.String()
}

// journal returns an empty Journal.
func journal(t testing.TB) *apply.Journal {
	t.Helper()
	j, err := apply.OpenJournal(filepath.Join(t.TempDir(), "run", "addresses"))
	if err != nil {
		t.Fatal(err)
	}
	return j
}
