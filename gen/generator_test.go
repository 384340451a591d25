package gen

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/need"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

var rootfsHost rootfs.Root

const (
	good = "[uplink.a]\ninterface = \"eth0\"\n[uplink.b]\ninterface = \"en-p1.2\"\n[uplink.c]\ninterface = \"eth0\"\n[uplink.d]\ninterface = \"wl*\"\n[uplink.e]\nmac = \"02:00:00:00:00:01\"\n"

	networkdLink = "systemd-networkd.service.wants/uplink-networkd.service -> /usr/lib/systemd/system/uplink-networkd.service"
	takeOverLink = "systemd-networkd.service.wants/uplink-reload.service -> /usr/lib/systemd/system/uplink-reload.service"
	applyLink    = "multi-user.target.wants/uplink-apply.service -> /usr/lib/systemd/system/uplink-apply.service"
	backendFile  = "uplink-.service.d/10-uplink-backend.conf: [Service]\nEnvironment=SYSTEMD_PROC_CMDLINE=uplink.backend=networkd\n"
	eth0Link     = `sys-subsystem-net-devices-eth0.device.wants/uplink-apply@eth0.service -> /usr/lib/systemd/system/uplink-apply@.service`
	enp1Link     = `sys-subsystem-net-devices-en\x2dp1.2.device.wants/uplink-apply@en\x2dp1.2.service -> /usr/lib/systemd/system/uplink-apply@.service`
)

// TestGenerator runs the generator on a root and looks at all that it has written.
func TestGenerator(t *testing.T) {
	both := []string{applyLink, enp1Link, eth0Link, networkdLink, takeOverLink}
	for name, c := range map[string]struct {
		files map[string]string // besides the units in /usr/lib
		want  []string
		err   string
		log   []string // "PRIORITY line"
	}{
		"no spec: nothing":                 {nil, nil, "", nil},
		"both back ends":                   {map[string]string{"etc/uplink/uplink.toml": good}, both, "", nil},
		"networkd alone":                   {map[string]string{"etc/uplink/uplink.toml": "backend = \"networkd\"\n" + good}, []string{networkdLink}, "", nil},
		"netlink alone":                    {map[string]string{"etc/uplink/uplink.toml": "backend = \"netlink\"\n" + good}, []string{applyLink, enp1Link, eth0Link, networkdLink}, "", nil},
		"the initrd":                       {map[string]string{"etc/uplink/uplink.toml": good, "etc/initrd-release": "ID=debian\n"}, nil, "", nil},
		"uplink=0":                         {map[string]string{"etc/uplink/uplink.toml": "?", "proc/cmdline": "quiet uplink=0\n"}, nil, "", nil},
		"uplink.backend= overrides":        {map[string]string{"etc/uplink/uplink.toml": "backend = \"netlink\"\n" + good, "proc/cmdline": "uplink.backend=networkd"}, []string{networkdLink}, "", nil},
		"a wrong word is logged":           {map[string]string{"etc/uplink/uplink.toml": good, "proc/cmdline": "uplink.backend=iproute2"}, both, "", []string{"4 kernel command line: uplink.backend=iproute2 is not understood"}},
		"the command line of a container":  {map[string]string{"etc/uplink/uplink.toml": good, "run/systemd/container": "lxc", "proc/cmdline": "uplink=0", "proc/1/cmdline": "/sbin/init\x00uplink.backend=networkd\x00"}, []string{networkdLink, backendFile}, "", nil},
		"a container without a spec":       {map[string]string{"run/systemd/container": "lxc", "proc/1/cmdline": "/sbin/init\x00uplink.backend=networkd\x00"}, []string{backendFile}, "", nil},
		"a container that is switched off": {map[string]string{"etc/uplink/uplink.toml": good, "run/systemd/container": "lxc", "proc/1/cmdline": "/sbin/init\x00uplink.backend=networkd\x00uplink=off\x00"}, nil, "", nil},
		"a bad spec is hooked in all the same": {map[string]string{"etc/uplink/uplink.toml": "backend = \"networkd\"\nbackened = 1\n"}, []string{applyLink, networkdLink, takeOverLink},
			"/etc/uplink/uplink.toml:2:1: unknown key", []string{"3 /etc/uplink/uplink.toml:2:1: unknown key \"backened\" (did you mean `backend`?)"}},
		"a bad spec and an override": {map[string]string{"etc/uplink/uplink.toml": "x", "proc/cmdline": "uplink.backend=netlink"}, []string{applyLink, networkdLink},
			"/etc/uplink/uplink.toml:1", []string{"3 /etc/uplink/uplink.toml:1:1: expected '.' or '=', but got '\\n' instead"}},
	} {
		t.Run(name, func(t *testing.T) {
			root, normal := t.TempDir(), filepath.Join(t.TempDir(), "normal")
			for _, unit := range []string{renderService, applyService, applyTemplate, reloadService} {
				writeFile(t, filepath.Join(root, "usr/lib/systemd/system", unit), "")
			}
			for file, data := range c.files {
				writeFile(t, filepath.Join(root, file), data)
			}
			g, log := logged(root)
			err := g.Run(normal)
			if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			if c.err != "" && len(*log) == len(c.log) && len(c.log) == 1 && strings.HasPrefix((*log)[0], "3 /etc/uplink/uplink.toml:1:") {
				c.log = *log // the TOML library words them
			}
			if !slices.Equal(*log, c.log) {
				t.Errorf("logged %q, want %q", *log, c.log)
			}
			if got := links(t, normal); !slices.Equal(got, c.want) {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// logged returns a generator for a root, and what it logs.
func logged(root string) (Generator, *[]string) {
	var log []string
	return Generator{Root: rootfs.At(root), Log: func(priority int, line string) {
		log = append(log, fmt.Sprint(priority, " ", line))
	}}, &log
}

// links returns "NAME -> TARGET" of all links below dir, and "NAME: TEXT" of files, sorted.
func links(t *testing.T, dir string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, file)
		if e.Type().IsRegular() {
			text, err := os.ReadFile(file)
			found = append(found, name+": "+string(text))
			return err
		}
		target, err := os.Readlink(file)
		found = append(found, name+" -> "+target)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	slices.Sort(found)
	return found
}

// TestInstalledUnit checks that links point to the unit that systemd would take.
func TestInstalledUnit(t *testing.T) {
	t.Parallel()
	for at, want := range map[string]string{
		"usr/lib": "/usr/lib", "lib": "/lib", "usr/local/lib": "/usr/local/lib", "etc usr/lib": "/etc", "lib run": "/run",
	} {
		root, normal := t.TempDir(), t.TempDir()
		for _, dir := range strings.Fields(at) {
			writeFile(t, filepath.Join(root, dir, "systemd/system", renderService), "")
		}
		writeFile(t, filepath.Join(root, "etc/uplink/uplink.toml"), "backend = \"networkd\"")
		g, log := logged(root)
		if err := g.Run(normal); err != nil {
			t.Error(err, *log)
		}
		want = "systemd-networkd.service.wants/" + renderService + " -> " + want + "/systemd/system/" + renderService
		if got := links(t, normal); len(got) != 1 || got[0] != want {
			t.Errorf("%s: got %q, want %q", at, got, want)
		}
		if err := g.Run(normal); err != nil {
			t.Errorf("a second run: %v", err)
		}
	}
}

func TestNotInstalled(t *testing.T) {
	t.Parallel()
	root, normal := t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(root, "etc/uplink/uplink.toml"), "")
	writeFile(t, filepath.Join(root, "usr/lib/systemd/system", applyService), "")
	writeFile(t, filepath.Join(root, "usr/lib/systemd/system", reloadService), "")
	g, log := logged(root)
	err := g.Run(normal)
	if err == nil || err.Error() != renderService+" is not installed" || !slices.Equal(*log, []string{"3 " + renderService + " is not installed"}) {
		t.Error(err, *log)
	}
	if got := links(t, normal); !slices.Equal(got, []string{applyLink, takeOverLink}) {
		t.Errorf("the other is hooked in all the same, but got %q", got)
	}
	writeFile(t, filepath.Join(root, "etc/uplink/uplink.toml"), "[uplink.a]\ninterface = \"eth0\"\n[uplink.b]\ninterface = \"eth1\"\n")
	writeFile(t, filepath.Join(root, "usr/lib/systemd/system", renderService), "")
	g, log = logged(root)
	if err := g.Run(normal); err == nil || !slices.Equal(*log, []string{"3 " + applyTemplate + " is not installed"}) {
		t.Error(err, *log)
	}
}

func TestFolderThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	root, normal := t.TempDir(), filepath.Join(t.TempDir(), "file")
	writeFile(t, normal, "")
	writeFile(t, filepath.Join(root, "etc/uplink/uplink.toml"), "backend = \"networkd\"")
	writeFile(t, filepath.Join(root, "usr/lib/systemd/system", renderService), "")
	if g, log := logged(root); g.Run(normal) == nil || len(*log) != 1 {
		t.Error(*log)
	}
}

// TestLogHasAnEnd checks that a spec of many errors does not flood the kernel log.
func TestLogHasAnEnd(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	var b strings.Builder
	for i := range 20 {
		fmt.Fprintf(&b, "key%d = 1\n", i)
	}
	writeFile(t, filepath.Join(root, "etc/uplink/uplink.toml"), b.String())
	g, log := logged(root)
	err := g.Run(t.TempDir())
	var list spec.Errors
	if !errors.As(err, &list) || len(list) != 20 {
		t.Error(err)
	}
	want := "3 and 12 more errors: see uplinkctl check"
	if spec := slices.DeleteFunc(*log, func(l string) bool { return strings.HasSuffix(l, "is not installed") }); len(spec) != 9 || spec[8] != want {
		t.Errorf("%d lines, the last: %s", len(spec), spec[len(spec)-1])
	}
}

func TestLogOfAnErrorThatIsNoSpecs(t *testing.T) {
	t.Parallel()
	g, log := logged(t.TempDir())
	g.logErrors(errors.New("x"))
	if !slices.Equal(*log, []string{"3 x"}) {
		t.Error(*log)
	}
}

// TestUnitNames holds names of units against systemd's own tool.
func TestUnitNames(t *testing.T) {
	t.Parallel()
	tool := need.Program(t, "systemd-escape")
	for _, dev := range []string{"eth0", "en-p1", "eth0.100", "br_lan", "wg@x", ".x", "a+b~c", `x\y`, "ünï", "-", "a..b"} {
		out, err := exec.Command(tool, "--path", "--suffix=device", "/sys/subsystem/net/devices/"+dev).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := deviceUnit(dev), strings.TrimSpace(string(out)); got != want {
			t.Errorf("%s: device unit %s, want %s", dev, got, want)
		}
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]CommandLine{
		"":                         {},
		"quiet root=/dev/sda1":     {},
		"uplink=0":                 {Off: true},
		"uplink=no\n":              {Off: true},
		"uplink=OFF":               {Off: true},
		"uplink=0 uplink=1":        {},
		"uplink=1 uplink=false":    {Off: true},
		"uplink=0 uplink":          {},
		"uplink=maybe":             {Bad: "uplink=maybe"},
		"uplink=":                  {Bad: "uplink="},
		"\"uplink=0\"":             {Off: true},
		"uplink=\"0\"":             {Off: true},
		"uplinks=0 xuplink=0":      {},
		"init=\"/bin/x uplink=0\"": {},
		"a\x00uplink=0\x00b":       {Off: true},
		"uplink.backend=networkd":  {Backend: spec.Networkd},
		"x=\"a uplink.backend=x":   {},
		"uplink.backend=netlink uplink.backend=auto": {Backend: spec.Auto},
		"uplink.backend=x":                           {Bad: "uplink.backend=x"},
		"uplink.backend":                             {Bad: "uplink.backend"},
		"uplink=\"\x1b[31m\xff\u202e\"":              {Bad: "uplink=?[31m\ufffd?"},
		"uplink=" + strings.Repeat("x", 1<<20):       {Bad: "uplink=" + strings.Repeat("x", 57) + "…"},
		"UPLINK=0":                                   {},
	} {
		if got := parseCommandLine(in); got != want {
			t.Errorf("%q: %+v, want %+v", in, got, want)
		}
	}
}

// TestCommandLineOfAContainer checks what systemd tells a generator by its
// environment.
func TestCommandLineOfAContainer(t *testing.T) {
	root := t.TempDir()
	writeFile(t, filepath.Join(root, "proc/cmdline"), "uplink=0")
	writeFile(t, filepath.Join(root, "proc/1/cmdline"), "/sbin/init")
	for virtualization, off := range map[string]bool{"container:lxc": false, "vm:kvm": true, "": true} {
		t.Setenv("SYSTEMD_VIRTUALIZATION", virtualization)
		if got := ReadCommandLine(rootfs.At(root)); got.Off != off {
			t.Errorf("%q: %+v", virtualization, got)
		}
	}
	if got := ReadCommandLine(rootfs.At(t.TempDir())); got != (CommandLine{}) {
		t.Errorf("without one: %+v", got)
	}
}

// TestCredential has the spec in a credential. systemd hides it from services that have
// a file system of their own and do not load it.
func TestCredential(t *testing.T) {
	t.Parallel()
	root, normal := t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(root, "run/credentials/@system/uplink.toml"), "[uplink.a]\ninterface = \"eth0\"\n")
	services := []string{renderService, applyService, applyTemplate, hotplugTemplate, reloadService}
	for _, unit := range services {
		writeFile(t, filepath.Join(root, "usr/lib/systemd/system", unit), "")
	}
	g, log := logged(root)
	if err := g.Run(normal); err != nil || len(*log) > 0 {
		t.Fatal(err, *log)
	}
	for _, unit := range services {
		text, err := os.ReadFile(filepath.Join(normal, unit+".d/10-uplink-credential.conf"))
		if want := "[Service]\nLoadCredential=uplink.toml:/run/credentials/@system/uplink.toml\n"; err != nil || string(text) != want {
			t.Errorf("%s: %v %q, want %q", unit, err, text, want)
		}
	}
}
