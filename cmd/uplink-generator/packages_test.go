package main

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/uplink-generator/uplink-generator"

// goList returns what each package is built from, by its import path; nil if there is no such
// package yet.
func goList(t *testing.T, pattern string) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Deps \" \"}}", pattern)
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v\n%s", pattern, err, &stderr)
	}
	packages := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		packages[words[0]] = words[1:]
	}
	return packages
}

// within says whether an import path is one of the packages, or below it.
func within(path string, packages []string) bool {
	return slices.ContainsFunc(packages, func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") })
}

// What starts at boot, for each of systemd's generators' runs, and before anything
// else is up, must be small and talk to no one.
func TestTheGeneratorIsBuiltWithoutTheNetwork(t *testing.T) {
	for path, deps := range goList(t, "./cmd/uplink-generator") {
		for _, d := range deps {
			if d == "net" || within(d, []string{"net/http", "os/exec", "os/user", "crypto/tls", "github.com/vishvananda", "github.com/godbus", "github.com/coreos/go-systemd/v22/dbus", module + "/apply", module + "/gen/lookup", module + "/gen/check"}) {
				t.Errorf("%s is built with %s", path, d)
			}
		}
	}
}

// The rules of the design: one way, no cycles, and neither back end knows of TOML or
// of the other.
func TestNoPackageKnowsWhatItMustNot(t *testing.T) {
	const (
		netlink = "github.com/vishvananda"
		dbus    = "github.com/godbus"
		sdDBus  = "github.com/coreos/go-systemd/v22/dbus"
		toml    = "github.com/BurntSushi/toml"
		systemd = "github.com/coreos/go-systemd/v22/unit"
	)
	rules := []struct {
		packages string
		not      []string
		but      []string // exceptions
	}{
		{"./gen/...", []string{module + "/units", module + "/apply", module + "/cmd", module + "/integration", netlink, dbus, sdDBus}, nil},
		{"./gen/fib/...", []string{module + "/gen", toml, systemd}, []string{module + "/gen/fib"}},
		{"./gen/rootfs/...", []string{module + "/gen", toml, systemd}, []string{module + "/gen/rootfs"}},
		{"./gen/spec/...", []string{module + "/gen"}, []string{module + "/gen/spec", module + "/gen/fib", module + "/gen/rootfs"}},
		{"./gen/lookup/...", []string{module + "/gen", toml, systemd}, []string{module + "/gen/lookup", module + "/gen/fib"}},
		{"./gen/blocks/...", []string{module + "/gen", toml, systemd}, []string{module + "/gen/blocks", module + "/gen/fib"}},
		{"./gen/check/...", []string{systemd}, nil},
		{"./gen", []string{module + "/gen/importer"}, nil},
		{"./gen/importer/...", []string{module + "/gen/lookup", module + "/gen/check"}, nil},
		{"./units/...", []string{module + "/gen", module + "/apply", module + "/cmd", module + "/integration", netlink, dbus, sdDBus, toml}, []string{module + "/gen/fib", module + "/gen/rootfs"}},
		{"./apply/...", []string{module + "/gen", module + "/units", module + "/cmd", module + "/integration", toml, systemd, dbus, sdDBus}, []string{module + "/gen/fib", module + "/gen/rootfs", module + "/gen/lookup", module + "/gen/need"}},
		{"./cmd/...", []string{module + "/integration", module + "/gen/need", "testing"}, nil},
	}
	for _, r := range rules {
		packages := goList(t, r.packages)
		if len(packages) == 0 {
			t.Errorf("there is no package %s", r.packages)
		}
		for path, deps := range packages {
			for _, d := range deps {
				if within(d, r.not) && !within(d, r.but) {
					t.Errorf("%s is built with %s", path, d)
				}
			}
		}
	}
}
