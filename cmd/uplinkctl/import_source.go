package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/cmd/internal/host"
	"github.com/uplink-generator/uplink-generator/gen/importer"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

var errImportUsage = errors.New("wrong usage")

// source is what an import reads.
type source struct {
	kind  string
	root  rootfs.Root
	files []string // if empty, everything of that kind on the host
	names importer.Names
	alone bool // the files do not belong to the host's root
}

// String says what is read, for people.
func (s source) String() string {
	switch {
	case len(s.files) > 0:
		return strings.Join(s.files, ", ")
	case s.kind == "kernel":
		return "the running kernel"
	case s.kind == "interfaces":
		return importer.InterfacesFile
	case s.kind == "netplan":
		return "netplan's files"
	case s.kind == "networkmanager":
		return "NetworkManager's profiles"
	case s.kind == "ifcfg":
		return "initscripts' files"
	}
	return "systemd-networkd's files"
}

// source says what to read: what the option or the files' names say, or else what configures the
// host.
func (o *importing) source(files []string) (source, error) {
	root := rootfs.At(o.root)
	s := source{kind: o.from, root: root, files: files, names: importer.ReadNames(root)}
	if s.kind == "" && len(files) > 0 {
		s.kind = kindOfFile(files[0])
		for _, f := range files[1:] {
			if k := kindOfFile(f); k != s.kind {
				return s, fmt.Errorf("%w: %s is for %s and %s for %s: import one kind, or say --from", errImportUsage, files[0], s.kind, f, k)
			}
		}
	}
	if err := s.place(); err != nil {
		return s, err
	}
	switch {
	case s.kind == "kernel" && len(files) > 0:
		return s, fmt.Errorf("%w: the kernel is in no FILE", errImportUsage)
	case s.kind == "script" && len(files) == 0:
		return s, fmt.Errorf("%w: name the script", errImportUsage)
	case s.kind != "":
	case importer.HasNetplan(root):
		s.kind = "netplan"
	case importer.HasNetworkd(root):
		s.kind = "networkd"
	case importer.HasInterfaces(root):
		s.kind = "interfaces"
	case importer.HasKeyfiles(root):
		s.kind = "networkmanager"
	case importer.HasIfcfg(root):
		s.kind = "ifcfg"
	case root.IsHost():
		s.kind = "kernel"
	default:
		return s, fmt.Errorf("nothing below %s configures a network in a way that is known here: name a FILE", root)
	}
	return s, nil
}

// place names FILEs as the host that has them sees them: the host below --root if all are there,
// or else this one. A script names no other files, and keeps its name.
func (s *source) place() error {
	if len(s.files) == 0 {
		return nil
	}
	here, below := slices.Clone(s.files), []string{}
	for i, f := range here {
		abs, err := filepath.Abs(f)
		if err != nil {
			return err
		}
		if s.kind != "script" {
			here[i] = abs
		}
		if rel, err := filepath.Rel(s.root.String(), abs); err == nil && filepath.IsLocal(rel) {
			below = append(below, "/"+rel)
		}
	}
	switch {
	case s.root.IsHost():
		s.files = here
	case len(below) == len(here):
		s.files = below
	default:
		s.root, s.files, s.alone = rootfs.At(""), here, true
	}
	return nil
}

// kindOfFile tells the kind of a file from its name.
func kindOfFile(name string) string {
	switch base := filepath.Base(name); {
	case strings.HasSuffix(base, ".yaml") || strings.HasSuffix(base, ".yml"):
		return "netplan"
	case strings.HasSuffix(base, ".network"):
		return "networkd"
	case strings.HasSuffix(base, ".nmconnection") || filepath.Base(filepath.Dir(name)) == "system-connections":
		return "networkmanager"
	case importer.IsIfcfg(base):
		return "ifcfg"
	case base == "interfaces" || filepath.Base(filepath.Dir(name)) == "interfaces.d":
		return "interfaces"
	}
	return "script"
}

// read reads the source. The snapshot is that of the kernel, if the kernel was read.
func (s source) read() (*importer.Found, *apply.Snapshot, error) {
	switch s.kind {
	case "kernel":
		h, err := host.Open(context.Background(), s.root.String(), 0, false)
		if err != nil {
			return nil, nil, err
		}
		defer h.Close()
		f, have, err := h.Found()
		return f, &have, err
	case "interfaces":
		read := importer.Interfaces
		if s.alone {
			read = importer.InterfacesElsewhere
		}
		f, err := read(s.root, s.names, s.files...)
		return f, nil, err
	case "networkd":
		f, err := importer.Networkd(s.root, s.names, s.files...)
		return f, nil, err
	case "netplan":
		f, err := importer.Netplan(s.root, s.names, s.files...)
		return f, nil, err
	case "networkmanager":
		f, err := importer.Keyfiles(s.root, s.names, s.files...)
		return f, nil, err
	case "ifcfg":
		f, err := importer.Ifcfg(s.root, s.names, s.files...)
		return f, nil, err
	}
	f, err := importer.Scripts(s.root, s.names, s.files...)
	return f, nil, err
}

// handOverText says how to make ours what the kernel holds.
func handOverText(ops []apply.Op) string {
	if len(ops) == 0 {
		return ""
	}
	// A link may be called `$(reboot)`: the quoted delimiter keeps the shell from expanding it.
	const inet4, inet6 = "ip -batch - <<'END'", "ip -6 -batch - <<'END'"
	batch := map[string][]string{}
	for _, op := range ops {
		line, command := op.Batch(), inet4
		if l, is6 := strings.CutPrefix(line, "-6 "); is6 {
			line, command = l, inet6
		}
		batch[command] = append(batch[command], line)
	}
	var b strings.Builder
	b.WriteString("\n# The kernel holds what this spec says, and whoever added it still owns it: apply would find it\n" +
		"# in the way. Take out the lines that add it at boot; then this hands it over in place, and\n" +
		"# `uplinkctl apply` changes nothing:\n#\n")
	for _, command := range []string{inet4, inet6} {
		if lines := batch[command]; lines != nil {
			b.WriteString("#~ " + command + "\n")
			for _, l := range lines {
				b.WriteString("#~ " + l + "\n")
			}
			b.WriteString("#~ END\n")
		}
	}
	b.WriteString("#\n# sed -n 's/^#~ //p' THIS-FILE | sh -e\n")
	return b.String()
}
