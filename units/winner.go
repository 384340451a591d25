package units

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// networkPath is where networkd looks for .network files and their drop-ins
// (systemd.network(5)); for one name the first directory counts.
var networkPath = []string{
	"/etc/systemd/network", "/run/systemd/network", "/usr/local/lib/systemd/network", "/usr/lib/systemd/network", "/lib/systemd/network",
}

// maxUnitSize bounds the files of others that are read.
const maxUnitSize = 1 << 20

// networkFile is a .network file of somebody else.
type networkFile struct {
	name      string // "10-cloud-init-eth1.network"
	path      string
	match     []*unit.UnitOption // of [Match], its drop-ins' included
	unmanaged bool
	broken    error
}

// networkFiles reads the .network files below root that are not ours, in the order
// in which networkd tries them.
func networkFiles(root rootfs.Root) ([]networkFile, error) {
	where := map[string]string{}
	drops := map[string]map[string]string{} // file name → drop-in name → path
	for _, dir := range networkPath {
		names, err := root.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		for _, n := range names {
			if strings.HasSuffix(n, ".network") && where[n] == "" {
				where[n] = path.Join(dir, n)
			}
			if base, ok := strings.CutSuffix(n, ".d"); ok && strings.HasSuffix(base, ".network") {
				confs, err := root.ReadDir(path.Join(dir, n))
				if err != nil {
					return nil, fmt.Errorf("%s: %w", path.Join(dir, n), err)
				}
				for _, c := range confs {
					if drops[base] == nil {
						drops[base] = map[string]string{}
					}
					if strings.HasSuffix(c, ".conf") && drops[base][c] == "" {
						drops[base][c] = path.Join(dir, n, c)
					}
				}
			}
		}
	}
	names := make([]string, 0, len(where))
	for n := range where {
		names = append(names, n)
	}
	slices.Sort(names)
	var files []networkFile
	for _, n := range names {
		if root.IsMasked(where[n]) {
			continue
		}
		data, err := root.ReadFile(where[n], maxUnitSize)
		if err == nil && (len(data) == 0 || isOurs(data)) {
			continue // an empty file masks the name as well
		}
		f := networkFile{name: n, path: where[n], broken: err}
		f.read(data)
		confs := make([]string, 0, len(drops[n]))
		for c := range drops[n] {
			confs = append(confs, c)
		}
		slices.Sort(confs)
		for _, c := range confs {
			if data, err := root.ReadFile(drops[n][c], maxUnitSize); err == nil && !isOurs(data) {
				f.read(data)
			}
		}
		files = append(files, f)
	}
	return files, nil
}

// read takes what matters here from a .network file or a drop-in of it.
func (f *networkFile) read(data []byte) {
	opts, err := unit.DeserializeOptions(bytes.NewReader(data))
	if err != nil && f.broken == nil {
		f.broken = err
	}
	for _, o := range opts {
		switch {
		case o.Section == "Match":
			f.match = append(f.match, o)
		case o.Section == "Link" && o.Name == "Unmanaged":
			b, err := strconv.ParseBool(yesNo(o.Value))
			f.unmanaged = err == nil && b
		}
	}
}

func yesNo(s string) string {
	switch strings.ToLower(s) {
	case "yes", "y", "on":
		return "true"
	}
	return s
}

// facts is what is known of a link: for each key of [Match] its values. A key that
// is missing is not known.
type facts map[string][]string

// factsOf gathers what the spec says of a link, and what the running kernel adds
// where root is a running host's.
func factsOf(m fib.Match, root rootfs.Root) facts {
	k := facts{}
	put := func(key, value string) {
		if value != "" && !fib.IsGlob(value) && k[key] == nil {
			k[key] = []string{value}
		}
	}
	put("Name", m.Name)
	put("MACAddress", m.MAC)
	put("Driver", m.Driver)
	put("Path", m.Path)
	if m.Name == "lo" {
		put("Type", "loopback")
	}

	const sys = "/sys/class/net"
	read := func(dev, file string) string {
		data, err := root.ReadFile(path.Join(sys, dev, file), 4096)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(data))
	}
	dev, known := m.Device()
	if !known && m.MAC != "" {
		names, _ := root.ReadDir(sys)
		for _, n := range names {
			if read(n, "address") == m.MAC {
				dev, known = n, true
				break
			}
		}
	}
	if !known {
		return k
	}
	put("Name", dev)
	put("MACAddress", read(dev, "address"))
	if target, err := root.Readlink(path.Join(sys, dev, "device/driver")); err == nil {
		put("Driver", path.Base(target))
	}
	put("Type", linkType(read(dev, "uevent"), read(dev, "type")))
	return k
}

// linkType names a link's type as networkd does: udev's DEVTYPE, or else the
// hardware type (ARPHRD_*, include/uapi/linux/if_arp.h).
func linkType(uevent, arphrd string) string {
	for line := range strings.Lines(uevent) {
		if t, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVTYPE="); ok {
			return t
		}
	}
	switch arphrd {
	case "1":
		return "ether"
	case "772":
		return "loopback"
	case "65534":
		return "none"
	}
	return ""
}

// verdict is whether a file matches a link.
type verdict int

const (
	no verdict = iota
	unknown
	yes
)

// matches says whether the file's [Match] holds for a link, and where that is
// unknown, because of which key. All keys must match; networkd ignores a file
// without any.
func (f *networkFile) matches(k facts) (v verdict, because string) {
	v = no
	if len(f.match) > 0 {
		v = yes
	}
	if f.broken != nil {
		return unknown, f.broken.Error()
	}
	for _, o := range f.match {
		key := o.Name
		if key == "PermanentMACAddress" {
			key = "MACAddress" // the same but for links whose address was changed
		}
		values, known := k[key]
		switch {
		case o.Value == "" || o.Name == "Name" && o.Value == "*":
		case !known || strings.Contains(o.Value, "%"):
			if v == yes {
				v, because = unknown, o.Name+"="
			}
		case !listMatches(o.Value, values, key == "MACAddress"):
			return no, ""
		}
	}
	return v, because
}

// listMatches matches the patterns of a [Match] key, of which one must fit; a
// leading "!" inverts the whole.
func listMatches(list string, values []string, foldCase bool) bool {
	list, invert := strings.CutPrefix(list, "!")
	if foldCase {
		list = strings.ToLower(list)
	}
	hit := slices.ContainsFunc(strings.Fields(list), func(pattern string) bool {
		return slices.ContainsFunc(values, func(value string) bool {
			ok, err := path.Match(strings.ReplaceAll(pattern, "[!", "[^"), value)
			return err == nil && ok
		})
	})
	return hit != invert
}

// winner returns the first of files that matches the link: networkd uses that one
// and no other (systemd.network(5)). One of which that is not known counts, with
// the reason; nil means that none matches.
func winner(files []networkFile, k facts) (f *networkFile, because string) {
	for i := range files {
		if v, because := files[i].matches(k); v != no {
			return &files[i], because
		}
	}
	return nil, ""
}
