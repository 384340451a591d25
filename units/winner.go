package units

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

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
				if errors.Is(err, syscall.ENOTDIR) {
					continue
				}
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

// sysfs is what the running kernel says of its links, where root is a running host's.
type sysfs struct {
	root  rootfs.Root
	links map[string]bool
	byMAC map[string]string // made when it is first needed
}

const sysClassNet = "/sys/class/net"

func newSysfs(root rootfs.Root) *sysfs {
	s := &sysfs{root: root, links: map[string]bool{}}
	// In an image there is none, and none is known then.
	names, _ := root.ReadDir(sysClassNet)
	for _, n := range names {
		s.links[n] = true
	}
	return s
}

// attribute reads a file of a link; "" where it has none.
func (s *sysfs) attribute(dev, file string) string {
	data, err := s.root.ReadFile(path.Join(sysClassNet, dev, file), 4096)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// device finds the interface that a match is about, if it is there.
func (s *sysfs) device(m fib.Match) (dev string, ok bool) {
	if dev, ok := m.Device(); ok {
		return dev, s.links[dev]
	}
	if s.byMAC == nil {
		s.byMAC = map[string]string{}
		for n := range s.links {
			// What is stacked on a card bears its address too, and has no device.
			if mac := s.attribute(n, "address"); s.byMAC[mac] == "" || s.root.Exists(path.Join(sysClassNet, n, "device")) {
				s.byMAC[mac] = n
			}
		}
	}
	dev, ok = s.byMAC[m.MAC]
	return dev, ok && m.MAC != ""
}

// facts gathers what the spec says of a link, and what the kernel adds.
func (s *sysfs) facts(m fib.Match) facts {
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
		// The same on every host; no value at all is known as well.
		return facts{"Name": {"lo"}, "MACAddress": {"00:00:00:00:00:00"}, "Type": {"loopback"}, "Driver": {}, "Path": {}, "Kind": {}}
	}
	dev, ok := s.device(m)
	if !ok {
		return k
	}
	put("Name", dev)
	put("MACAddress", s.attribute(dev, "address"))
	if target, err := s.root.Readlink(path.Join(sysClassNet, dev, "device/driver")); err == nil {
		put("Driver", path.Base(target))
	}
	put("Type", linkType(s.attribute(dev, "uevent"), s.attribute(dev, "type")))
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

// patterns returns the keys of [Match] that have any value, in their order, with
// their patterns. As for networkd a key that comes again adds to its list, an empty
// value clears it, and a leading "!" inverts each word of its line.
func (f *networkFile) patterns() (keys []string, lists map[string][]string) {
	lists = map[string][]string{}
	for _, o := range f.match {
		if o.Value == "" {
			delete(lists, o.Name)
			continue
		}
		words, invert := strings.CutPrefix(o.Value, "!")
		for _, w := range strings.Fields(words) {
			if invert {
				w = "!" + w
			}
			lists[o.Name] = append(lists[o.Name], w)
		}
		if !slices.Contains(keys, o.Name) {
			keys = append(keys, o.Name)
		}
	}
	return slices.DeleteFunc(keys, func(k string) bool { return lists[k] == nil }), lists
}

// matches says whether the file's [Match] holds for a link, and where that is
// unknown, because of which key. All keys must match; networkd ignores a file
// without any.
func (f *networkFile) matches(k facts) (v verdict, because string) {
	keys, lists := f.patterns()
	if len(keys) > 0 {
		v = yes
	}
	if f.broken != nil {
		// What could be read of it still holds.
		v, because = unknown, f.broken.Error()
	}
	for _, key := range keys {
		list, fact := lists[key], key
		if key == "PermanentMACAddress" {
			fact = "MACAddress" // the same but for links whose address was changed
		}
		if fact == "MACAddress" {
			for i := range list {
				list[i] = colonMAC(list[i])
			}
		}
		values, known := k[fact]
		switch {
		case key == "Name" && slices.Contains(list, "*"):
		case !known || slices.ContainsFunc(list, func(p string) bool { return strings.Contains(p, "%") }):
			if v == yes {
				v, because = unknown, key+"="
			}
		case !listMatches(list, values):
			return no, ""
		}
	}
	return v, because
}

// colonMAC brings the forms of a hardware address that networkd takes to one:
// "AA-BB-CC-DD-EE-FF" and "aabb.ccdd.eeff" to "aa:bb:cc:dd:ee:ff".
func colonMAC(s string) string {
	s = strings.ReplaceAll(strings.ToLower(s), "-", ":")
	if len(s) == len("aabb.ccdd.eeff") && s[4] == '.' && s[9] == '.' {
		s = s[0:2] + ":" + s[2:4] + ":" + s[5:7] + ":" + s[7:9] + ":" + s[10:12] + ":" + s[12:14]
	}
	return s
}

// listMatches matches the patterns of a [Match] key, of which one must fit, and
// none of those that begin with "!".
func listMatches(patterns, values []string) bool {
	hit, positive := false, false
	for _, p := range patterns {
		p, invert := strings.CutPrefix(p, "!")
		positive = positive || !invert
		fits := slices.ContainsFunc(values, func(value string) bool {
			ok, err := fib.MatchGlob(p, value)
			return err == nil && ok
		})
		if fits && invert {
			return false
		}
		hit = hit || fits
	}
	return hit || !positive
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
