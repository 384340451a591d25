package gen

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// The installed unit files that the generator hooks in.
const (
	renderService = "uplink-networkd.service"
	applyService  = "uplink-apply.service"
	reloadService = "uplink-reload.service"
	watchService  = "uplink-watch.service"
	applyTemplate = "uplink-apply@.service"

	hotplugTemplate = "uplink-hotplug@.service" // hooked in by a udev rule
)

// unitPath is where an installed unit file may be (systemd.unit(5)).
var unitPath = []string{
	"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system",
}

// Generator is the systemd generator, as in systemd.generator(7). It decides nothing that
// is only known later: another generator that runs beside it may enable networkd. So it
// hooks in a service for each back end, and each service runs only where it is right.
type Generator struct {
	Root rootfs.Root
	// Log takes one line for people, with a priority as in syslog(3).
	Log func(priority int, line string)

	found map[string]string // unit files, by name; "" for one that is not installed
}

// The priorities that are used, as in syslog(3).
const (
	LogErr     = 3
	LogWarning = 4
)

// Run hooks the back ends in below normal, the first of the three directories that
// systemd gives; the other two are not needed. Without a spec it does nothing. It logs
// the errors of a spec, and hooks the services in all the same: they then fail, so that
// systemctl --failed shows it, and leave everything as it is.
func (g Generator) Run(normal string) error {
	g.found = map[string]string{}
	line := ReadCommandLine(g.Root)
	if line.Bad != "" {
		g.Log(LogWarning, "kernel command line: "+line.Bad+" is not understood")
	}
	if line.Off || inInitrd(g.Root) {
		return nil
	}
	if line.Backend != "" && inContainer(g.Root) {
		// Even without a spec, which may come late.
		if err := passBackend(normal, line.Backend); err != nil {
			g.Log(LogErr, err.Error())
			return err
		}
	}
	s, err := spec.Load(g.Root)
	if errors.Is(err, spec.ErrNone) {
		return nil
	}
	if err != nil {
		g.logErrors(err)
		s = &spec.Spec{Backend: spec.Auto}
	}
	if line.Backend != "" {
		s.Backend = line.Backend
	}
	return errors.Join(err, g.hook(normal, s))
}

// inInitrd says whether this is the initrd, as systemd decides (in_initrd(),
// src/basic/initrd-util.c): the uplinks' services belong to the host, and the initrd
// does not have them. Systemd says so itself since 251.
func inInitrd(root rootfs.Root) bool {
	if said := os.Getenv("SYSTEMD_IN_INITRD"); said != "" && root.IsHost() {
		return said == "1"
	}
	return root.Exists("/etc/initrd-release")
}

// logErrors logs the first errors, and how many more there are: the kernel drops what a
// process writes too fast into its log.
func (g Generator) logErrors(err error) {
	var list spec.Errors
	if !errors.As(err, &list) {
		g.Log(LogErr, err.Error())
		return
	}
	const most = 8
	for _, e := range list[:min(len(list), most)] {
		g.Log(LogErr, e.Error())
	}
	if len(list) > most {
		g.Log(LogErr, fmt.Sprintf("and %d more errors: see uplinkctl check", len(list)-most))
	}
}

// hook links the services below the units that pull them in.
func (g Generator) hook(normal string, s *spec.Spec) error {
	var errs []error
	missing := map[string]bool{} // reported already: there may be thousands of devices
	link := func(puller, name, installed string) {
		if _, ok := g.installed(installed); !ok {
			if missing[installed] {
				return
			}
			missing[installed] = true
		}
		if err := g.link(filepath.Join(normal, puller+".wants"), name, installed); err != nil {
			g.Log(LogErr, err.Error())
			errs = append(errs, err)
		}
	}
	if name := spec.CredentialFile(g.Root); name != "" {
		if err := g.passCredential(normal, name); err != nil {
			g.Log(LogErr, err.Error())
			errs = append(errs, err)
		}
	}
	// Even if netlink does it all: a networkd that has other links must be told to
	// leave alone what it did not make.
	link("systemd-networkd.service", renderService, renderService)
	if s.Backend == spec.Auto {
		// A networkd that is started by hand later takes over from the oneshot.
		link("systemd-networkd.service", reloadService, reloadService)
	}
	if fib.Any(s.Uplinks, func(u *spec.Uplink) bool { return u.Learns(fib.Inet) || u.Learns(fib.Inet6) || u.Probe != nil }) {
		link("multi-user.target", watchService, watchService)
	}
	if s.Backend != spec.Networkd {
		link("multi-user.target", applyService, applyService)
		linked := map[string]bool{}
		for _, u := range s.Uplinks {
			// A link that is known by its name is served whenever its device appears.
			// An alternative name, which may be longer, has no device unit.
			const longest = 15 // IFNAMSIZ - 1
			if dev, literal := u.Match.Device(); literal && len(dev) <= longest && !linked[dev] {
				linked[dev] = true
				link(deviceUnit(dev), "uplink-apply@"+unit.UnitNameEscape(dev)+".service", applyTemplate)
			}
		}
	}
	return errors.Join(errs...)
}

// passCredential makes the services that read the spec load the credential that holds
// it. systemd 247 knows LoadCredential= with a path already, but not yet that the
// credential may be missing.
func (g Generator) passCredential(normal, name string) error {
	const dropIn = "10-uplink-credential.conf"
	for _, service := range [...]string{renderService, applyService, applyTemplate, hotplugTemplate, reloadService} {
		dir := filepath.Join(normal, service+".d")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		text := "[Service]\nLoadCredential=" + path.Base(name) + ":" + name + "\n"
		if err := os.WriteFile(filepath.Join(dir, dropIn), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// passBackend tells all our services, whoever starts them, what the command line says:
// in a container it is that of PID 1, which ProtectProc= hides from them. Since systemd
// 239 the directory of a drop-in may be named after the beginning of the units' names.
func passBackend(normal string, b spec.Backend) error {
	dir := filepath.Join(normal, "uplink-.service.d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text := "[Service]\nEnvironment=" + commandLineVariable + "=uplink.backend=" + string(b) + "\n"
	return os.WriteFile(filepath.Join(dir, "10-uplink-backend.conf"), []byte(text), 0o644)
}

// deviceUnit returns the unit that stands for an interface (systemd.device(5)).
func deviceUnit(dev string) string {
	return unit.UnitNamePathEscape("/sys/subsystem/net/devices/"+dev) + ".device"
}

// link makes dir/name a link to an installed unit file.
func (g Generator) link(dir, name, installed string) error {
	target, ok := g.installed(installed)
	if !ok {
		return fmt.Errorf("%s is not installed", installed)
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.Symlink(target, filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// installed finds a unit file, and looks for each only once.
func (g Generator) installed(name string) (file string, ok bool) {
	if file, ok = g.found[name]; ok {
		return file, file != ""
	}
	for _, d := range unitPath {
		if f := filepath.Join(d, name); g.Root.Exists(f) {
			file = f
			break
		}
	}
	g.found[name] = file
	return file, file != ""
}
