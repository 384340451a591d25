package boot_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/boot"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// The versions of the packages that the tests make: from the same sources, because there are no
// packages of older ones.
const (
	olderVersion = "0.9"
	newerVersion = "1.0"
)

// packagedSpec is one for which a program stays resident, and which never finds a provider dead
// because this computer is slow.
var packagedSpec = strings.Replace(probedSpec, "down = 2", "down = 100", 1)

// manager is a package manager, as its users call it. %s is a package's file.
type manager struct {
	pattern   string // of a package's file name
	version   string // of the one that is installed
	install   string
	upgrade   string
	remove    string
	installed string // fails where the package is not
}

var (
	dpkg = manager{
		"*.deb", "dpkg-query --show --showformat '${Version}' uplink-generator",
		"dpkg --install", "dpkg --install", "dpkg --remove uplink-generator", "test -e /usr/bin/uplinkctl",
	}
	// rpm here is Debian's, on a system whose packages it does not know.
	rpm = manager{
		"*.rpm", "rpm --query --queryformat '%{VERSION}-%{RELEASE}' uplink-generator",
		"rpm --install --nodeps", "rpm --upgrade --nodeps", "rpm --erase --nodeps uplink-generator", "rpm --query uplink-generator",
	}
)

// TestPackages installs, upgrades and removes the deb and the rpm on a running host, with either
// back end, while packets are sent from each address.
func TestPackages(t *testing.T) {
	t.Parallel()
	require(t)
	files := map[string]boot.File{}
	for _, version := range []string{olderVersion, newerVersion} {
		dir := t.TempDir()
		out, err := exec.CommandContext(t.Context(), "make", "-C", "../..", "packages", "ARCHES="+runtime.GOARCH, "FORMATS=deb rpm",
			"DIST="+dir, "VERSION="+version, "PKGVERSION="+version).CombinedOutput()
		if err != nil {
			t.Fatalf("make packages: %v\n%s", err, out)
		}
		for _, pattern := range []string{dpkg.pattern, rpm.pattern} {
			found, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil || len(found) != 1 {
				t.Fatalf("packages %v: %v", found, err)
			}
			data, err := os.ReadFile(found[0])
			if err != nil {
				t.Fatal(err)
			}
			files["/root/"+version+pattern[1:]] = boot.Text(string(data))
		}
	}
	for name, c := range map[string]struct {
		manager manager
		root    boot.Root
		enable  []string
	}{
		"deb, networkd": {dpkg, boot.Root{Suite: boot.Trixie}, []string{networkd}},
		"deb, netlink":  {dpkg, boot.Root{Suite: boot.Bookworm}, nil},
		"rpm, netlink":  {rpm, fat(boot.Trixie), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// None of the other programs of a fat root configures the network.
			h := booted(t, boot.Config{Root: c.root, Files: only(files), Enable: c.enable}, "running")
			p := packaged{h, c.manager, len(c.enable) > 0}
			p.installs()
			p.upgrades()
			p.removes()
			if c.manager == dpkg {
				p.purges()
			}
		})
	}
}

// packaged is a host on which the product is a package.
type packaged struct {
	*host
	manager
	networkd bool
}

// run runs a command line of the package manager's.
func (p packaged) run(command string) string {
	p.t.Helper()
	return p.must("sh", "-c", command+" 2>&1")
}

// file is the package of a version.
func (p packaged) file(version string) string { return " /root/" + version + p.pattern[1:] }

// installs checks that a package changes nothing where there is no spec, and is all that a spec
// needs.
func (p packaged) installs() {
	p.t.Helper()
	before := p.network()
	p.run(p.install + p.file(olderVersion))
	if after := p.network(); after != before {
		p.t.Errorf("before the package\n%s\nafter\n%s", before, after)
	}
	if found := p.find("/run"); found != "" {
		p.t.Errorf("without a spec there is\n%s", found)
	}
	p.clean()
	// ip knows the protocol by its name.
	if out := p.must("ip", "route", "show", "proto", "uplink"); out != "" {
		p.t.Errorf("ours is\n%s", out)
	}

	p.must("sh", "-c", `printf %s "$1" > `+specFile, "sh", packagedSpec)
	p.run("uplinkctl reload")
	p.settled()
	p.works()
	p.clean()
}

// watchPID returns the process number of the only service that stays.
func (p packaged) watchPID() string {
	p.t.Helper()
	return p.must("systemctl", "show", "--property=MainPID", "--value", watch)
}

// upgrades checks that a newer package loses no packet and changes nothing in the kernel, and
// that the resident program is the new one. Then it boots the host with it.
func (p packaged) upgrades() {
	p.t.Helper()
	before, pid := p.network(), p.watchPID()
	if pid == "0\n" {
		p.t.Errorf("%s does not run", watch)
	}
	flows := p.flows(recipeAddrs...)
	p.run(p.upgrade + p.file(newerVersion))
	if err := lab.Poll(p.ctx, func() (bool, string) {
		out, err := p.Run(p.ctx, "systemctl", "is-active", watch)
		return err == nil, out
	}); err != nil {
		p.t.Error(err)
	}
	p.unbroken("the upgrade", flows)
	if after := p.network(); after != before {
		p.t.Errorf("before the upgrade\n%s\nafter\n%s", before, after)
	}
	if now := p.watchPID(); now == pid || now == "0\n" {
		p.t.Errorf("%s has process %s, and had %s", watch, now, pid)
	}
	if got, want := p.run(p.version), newerVersion+"-1"; got != want {
		p.t.Errorf("version %q is installed, want %q", got, want)
	}
	if got := p.must("uplinkctl", "--version"); !strings.HasPrefix(got, "uplinkctl "+newerVersion+" ") {
		p.t.Errorf("it says it is %q", got)
	}
	p.settled()
	p.works()
	p.clean()

	if err := p.Reboot(p.ctx); err != nil {
		p.t.Fatal(err)
	}
	p.wait("running")
	p.settled()
	p.works()
	p.clean()
	if ours := strings.Contains(p.network(), "proto 118"); ours == p.networkd {
		p.t.Errorf("through netlink: %t", ours)
	}
}

// removes checks that everything goes on as it is until the next boot, without anything of ours.
func (p packaged) removes() {
	p.t.Helper()
	before := p.network()
	flows := p.flows(recipeAddrs...)
	out := p.run(p.remove)
	if !strings.Contains(out, "the uplinks stay as they are until the next boot") {
		p.t.Errorf("it said\n%s", out)
	}
	if out, err := p.Run(p.ctx, "sh", "-c", p.installed); err == nil {
		p.t.Errorf("it is still there: %s", out)
	}
	if p.networkd {
		p.must("networkctl", "reload")
		p.must("networkctl", "list")
	}
	p.unbroken("the removal", flows)
	if after := p.network(); after != before {
		p.t.Errorf("before the removal\n%s\nafter\n%s", before, after)
	}
	p.works()
	p.clean()
	if found := p.find("/usr", "/run/systemd/generator"); found != "" {
		p.t.Errorf("left:\n%s", found)
	}
	if out, err := p.Run(p.ctx, "pgrep", "uplink"); err == nil {
		p.t.Errorf("there are processes %s", out)
	}
	p.must("test", "-s", specFile)
}

// purges checks that nothing of the package is left, but the administrator's own spec is: it came
// from nowhere else.
func (p packaged) purges() {
	p.t.Helper()
	const conf = "/etc/iproute2/rt_protos.d/uplink.conf"
	p.must("test", "-e", conf)
	p.run("dpkg --purge uplink-generator")
	if found := p.find("/etc", "/usr", "/var/lib/dpkg"); found != "/etc/uplink\n"+specFile+"\n" {
		p.t.Errorf("left:\n%s", found)
	}

	// What the README says of the next boot.
	if err := p.Reboot(p.ctx); err != nil {
		p.t.Fatal(err)
	}
	p.wait("running")
	if out := p.network(); strings.Contains(out, "192.0.2.") || strings.Contains(out, "proto 118") {
		p.t.Errorf("after a boot without the package there is\n%s", out)
	}
}
