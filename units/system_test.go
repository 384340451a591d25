package units_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/need"
)

var placeholder = regexp.MustCompile(`@[a-z]+@`)

// exposures returns how much of the host each service can reach at most, in tenths, as
// systemd-analyze(1) counts it and SECURITY.md says. A service that changes the host's
// network cannot have a network or users of its own (0.7), and is root (0.4): each unit
// says why. uplink-watch.service may also send to anybody (0.5), for probes.
func exposures(t *testing.T) map[string]int {
	text, err := os.ReadFile("../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]int{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`uplink-.*) \\| ([0-9])\\.([0-9]) \\|$").FindAllStringSubmatch(string(text), -1) {
		most, err := strconv.Atoi(row[2] + row[3])
		if err != nil {
			t.Fatal(err)
		}
		names, _, _ := strings.Cut(row[1], " | ")
		for name := range strings.SplitSeq(names, ", ") {
			list[strings.Trim(name, "`")] = most
		}
	}
	return list
}

// sandbox is the first line of the part that all services have in common.
const sandbox = "# The sandbox. What follows is the same in all of these units.\n"

func TestServicesAreConfined(t *testing.T) {
	dir, paths := installUnits(t)
	exposure := exposures(t)
	same := ""
	for _, path := range paths {
		name := strings.Replace(filepath.Base(path), "@eth0.", "@.", 1)
		if !strings.HasSuffix(name, ".service") {
			continue
		}
		most, known := exposure[name]
		if !known {
			t.Errorf("%s: SECURITY.md does not say how exposed it may be", name)
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, found := strings.Cut(string(text), sandbox)
		if same == "" {
			same = rest
		}
		if !found || rest != same || rest == "" {
			t.Errorf("%s: the sandbox is not that of the others", name)
		}
		t.Run(name, func(t *testing.T) {
			analyze := need.Program(t, "systemd-analyze")
			// An instance has no file of its own: it reads the template's.
			out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold="+strconv.Itoa(most), filepath.Join(dir, name)).CombinedOutput()
			if bytes.Contains(out, []byte("unrecognized option")) {
				need.Nil(t, errors.New("systemd-analyze before 250 cannot look at a file"))
			}
			if err != nil {
				t.Errorf("%v:\n%s", err, out)
			}
		})
	}
}

// TestSystemdTakesTheUnitFilesWithoutAWord checks that systemd reads the installed unit
// files without a warning.
func TestSystemdTakesTheUnitFilesWithoutAWord(t *testing.T) {
	analyze := need.Program(t, "systemd-analyze")
	dir, paths := installUnits(t)
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			cmd := exec.Command(analyze, "verify", "--man=no", path)
			cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
			out, err := cmd.CombinedOutput()
			if err != nil || len(bytes.TrimSpace(out)) != 0 {
				t.Errorf("%v:\n%s", err, out)
			}
		})
	}
}

// TestVarOnTheNetwork checks that none of our services, installed or hooked in, waits for /var
// before the network is online: systemd breaks such a cycle by leaving out a unit, often networkd.
func TestVarOnTheNetwork(t *testing.T) {
	analyze := need.Program(t, "systemd-analyze")
	dir, paths := installUnits(t)
	link := func(unit, wants string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, wants), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(unit, filepath.Join(dir, wants, filepath.Base(unit))); err != nil {
			t.Fatal(err)
		}
	}
	const mount = "[Unit]\nBefore=remote-fs.target\n[Mount]\nWhat=/dev/sdz1\nWhere=/var\nType=ext4\nOptions=_netdev\n"
	if err := os.WriteFile(filepath.Join(dir, "var.mount"), []byte(mount), 0o644); err != nil {
		t.Fatal(err)
	}
	link("../var.mount", "remote-fs.target.requires")
	// If a mount below /var counts as local, local-fs.target waits for /var.
	if err := os.Symlink("/dev/null", filepath.Join(dir, "var-lib-machines.mount")); err != nil {
		t.Fatal(err)
	}
	var system string
	for _, system = range []string{"/usr/lib/systemd/system", "/lib/systemd/system"} {
		if _, err := os.Stat(system + "/systemd-networkd-wait-online.service"); err == nil {
			break
		}
	}
	link(system+"/remote-fs.target", "multi-user.target.wants")
	link(system+"/systemd-networkd.service", "multi-user.target.wants")
	link(system+"/systemd-networkd-wait-online.service", "network-online.target.wants")
	verify := func() string {
		cmd := exec.Command(analyze, "verify", "--man=no", "multi-user.target")
		cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":"+system)
		out, _ := cmd.CombinedOutput() // verify may also complain about the machine's own units
		return string(out)
	}
	if out := verify(); strings.Contains(out, "cycle") {
		need.Nil(t, fmt.Errorf("without a unit of ours there is a circle:\n%s", out))
	}
	for _, p := range paths {
		if name := filepath.Base(p); strings.HasSuffix(name, ".service") && !strings.Contains(name, "@") {
			link("../"+name, "multi-user.target.wants")
		}
	}
	if out := verify(); strings.Contains(out, "cycle") {
		t.Errorf("%s", out)
	}
}

// TestRenderingComesAfterWhoWritesNetworkFiles: a file that is written later would be
// neither extended, nor reported as one that comes before ours.
func TestRenderingComesAfterWhoWritesNetworkFiles(t *testing.T) {
	text, err := os.ReadFile("system/uplink-networkd.service.in")
	if err != nil {
		t.Fatal(err)
	}
	after := ""
	for line := range strings.Lines(string(text)) {
		if units, ok := strings.CutPrefix(line, "After="); ok {
			after += " " + strings.TrimSpace(units) + " "
		}
	}
	for _, writer := range []string{"cloud-init-local", "netplan-configure", "systemd-network-generator", "systemd-sysext", "systemd-confext"} {
		if !strings.Contains(after, " "+writer+".service ") {
			t.Errorf("not after %s.service", writer)
		}
	}
}

// TestOnePackageIsStagedInAFolderOfItsOwn asks make what it would do: make first
// removes what is staged.
func TestOnePackageIsStagedInAFolderOfItsOwn(t *testing.T) {
	path := need.Program(t, "make")
	for argument, want := range map[string]string{
		"GOARCH=s390x": "rm -rf dist/build/s390x/tree dist/build/s390x/deb\n",
		"GOARCH=":      "GOARCH is empty: name an architecture, as in GOARCH=s390x",
	} {
		out, err := exec.Command(path, "-n", "-C", "..", "package", "FORMATS=tar", argument).CombinedOutput()
		if failed := strings.HasSuffix(argument, "="); failed != (err != nil) || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s", argument, err, out)
		}
	}
}

// installUnits writes the unit files into a directory, and returns it and their paths
// there. A template is there as an instance of it.
func installUnits(t *testing.T) (dir string, paths []string) {
	t.Helper()
	files, err := filepath.Glob("system/*.in")
	if err != nil || len(files) == 0 {
		t.Fatalf("no unit files: %v", err)
	}
	// systemd only checks that the programs exist.
	dir = t.TempDir()
	for _, name := range []string{"uplink-generator", "uplinkctl"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(f), ".in")
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, placeholder.ReplaceAll(text, []byte(dir)), 0o644); err != nil {
			t.Fatal(err)
		}
		// systemd-analyze reads a template as an instance of it.
		if strings.Contains(name, "@.") {
			path = strings.Replace(path, "@.", "@eth0.", 1)
		}
		paths = append(paths, path)
	}
	return dir, paths
}
