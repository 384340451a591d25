package units

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// networkPath is where networkd looks for .network files and their drop-ins
// (systemd.network(5)). Of files with one name, the one in the first directory counts.
var networkPath = []string{
	"/etc/systemd/network", "/run/systemd/network", "/usr/local/lib/systemd/network", "/usr/lib/systemd/network", "/lib/systemd/network",
}

// maxUnitSize bounds the files of others that we read.
const maxUnitSize = 1 << 20

// networkFile is a .network file of somebody else.
type networkFile struct {
	name      string // "10-cloud-init-eth1.network"
	path      string
	match     []*unit.UnitOption // of [Match], including its drop-ins
	unmanaged bool
	broken    error

	// The result of patterns for match.
	keys  []string
	lists map[string][]string
}

// networkFiles reads the .network files below root that are not ours, in the order
// in which networkd tries them.
func networkFiles(root rootfs.Root) (*networks, error) {
	where := map[string]string{}
	drops := map[string]map[string]string{} // file name → drop-in name → path
	for _, dir := range networkPath {
		names, err := root.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		for _, n := range names {
			if strings.HasPrefix(n, ".") {
				continue // hidden from networkd too
			}
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
		data, err := root.ReadFile(where[n], maxUnitSize)
		switch {
		case errors.Is(err, rootfs.ErrNotRegular), errors.Is(err, rootfs.ErrDangling), errors.Is(err, fs.ErrNotExist):
			// An empty file or a device, as at the end of a link to /dev/null, masks
			// the name. networkd ignores any other file that it cannot read, and that
			// file hides others of its name too.
			continue
		case err == nil && (len(data) == 0 || isOurs(data)):
			continue
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
		f.keys, f.lists = f.patterns()
		files = append(files, f)
	}
	return newNetworks(files), nil
}

// read takes from a .network file or a drop-in of it what matters here.
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
			if b, ok := parseBoolean(o.Value); ok {
				f.unmanaged = b
			}
		}
	}
}

// parseBoolean reads a boolean as systemd does, which ignores a line with any other value.
func parseBoolean(s string) (value, ok bool) {
	switch strings.ToLower(s) {
	case "1", "yes", "y", "true", "t", "on":
		return true, true
	case "0", "no", "n", "false", "f", "off":
		return false, true
	}
	return false, false
}

// verdict is whether a file matches a link.
type verdict int

const (
	no verdict = iota
	unknown
	yes
)

// patterns returns the keys of [Match] that have any value, in their order, with their
// patterns. As for networkd, a key that comes again adds to its list, an empty value
// clears the list, and a leading "!" inverts each word of its line. patterns converts
// hardware addresses to one form.
func (f *networkFile) patterns() (keys []string, lists map[string][]string) {
	lists = map[string][]string{}
	for _, o := range f.match {
		if o.Value == "" {
			delete(lists, o.Name)
			continue
		}
		words, invert := strings.CutPrefix(o.Value, "!")
		for _, w := range strings.Fields(words) {
			if strings.HasSuffix(o.Name, "MACAddress") {
				w = colonMAC(w)
			}
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

// matches says whether the file's [Match] holds for a link and, if that is unknown,
// because of which key or error. All keys must match; networkd ignores a file without any.
func (f *networkFile) matches(k facts) (v verdict, because string) {
	if len(f.keys) > 0 {
		v = yes
	}
	if f.broken != nil {
		// The keys that could be read still count.
		v, because = unknown, f.broken.Error()
	}
	for _, key := range f.keys {
		list := f.lists[key]
		values, known := k[key]
		switch {
		case key == "Name" && slices.Contains(list, "*") && !slices.ContainsFunc(list, inverted):
		case !known || slices.ContainsFunc(list, func(p string) bool { return strings.Contains(p, "%") }):
			if v == yes {
				v, because = unknown, key+"="
			}
		case key == "Name":
			// One of the link's names must pass the list. If the link has other names,
			// `!eth0` therefore matches eth0.
			if !slices.ContainsFunc(values, func(name string) bool { return listMatches(list, []string{name}) }) {
				return no, ""
			}
		case !listMatches(list, values):
			return no, ""
		}
	}
	return v, because
}

// colonMAC converts the forms of a hardware address that networkd accepts to one:
// "AA-BB-CC-DD-EE-FF" and "aabb.ccdd.eeff" to "aa:bb:cc:dd:ee:ff".
func colonMAC(s string) string {
	s = strings.ReplaceAll(strings.ToLower(s), "-", ":")
	if len(s) == len("aabb.ccdd.eeff") && s[4] == '.' && s[9] == '.' {
		s = s[0:2] + ":" + s[2:4] + ":" + s[5:7] + ":" + s[7:9] + ":" + s[10:12] + ":" + s[12:14]
	}
	return s
}

func inverted(pattern string) bool { return strings.HasPrefix(pattern, "!") }

// isLiteral says whether a pattern is a plain value.
func isLiteral(pattern string) bool {
	return !inverted(pattern) && !fib.IsGlob(pattern) && !strings.Contains(pattern, "%")
}

// listMatches matches the patterns of a [Match] key: one must fit, and none of
// those that begin with "!".
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

// networks are .network files in the order in which networkd tries them. An index finds
// them by what they match, because with thousands of links each has a file of its own.
type networks struct {
	files []networkFile
	// A file is in the index of only one key, the first of indexKeys for which it lists
	// plain values. The files of a key are in every as well, and those without such a
	// key in rest. All lists are in order.
	index map[string]map[string][]int
	every map[string][]int
	rest  []int
}

// indexKeys are the keys of [Match] that have a value of their own for each link.
var indexKeys = [...]string{"Name", "MACAddress", "PermanentMACAddress"}

func newNetworks(files []networkFile) *networks {
	n := &networks{files: files, index: map[string]map[string][]int{}, every: map[string][]int{}}
	for _, key := range indexKeys {
		n.index[key] = map[string][]int{}
	}
	for i := range files {
		key := literalKey(&files[i])
		if key == "" {
			n.rest = append(n.rest, i)
			continue
		}
		n.every[key] = append(n.every[key], i)
		for _, value := range files[i].lists[key] {
			n.index[key][value] = append(n.index[key][value], i)
		}
	}
	return n
}

// literalKey returns the first of indexKeys for which a file lists only plain values;
// "" for none.
func literalKey(f *networkFile) string {
	for _, key := range indexKeys {
		list := f.lists[key]
		if len(list) > 0 && !slices.ContainsFunc(list, func(p string) bool { return !isLiteral(p) }) {
			return key
		}
	}
	return ""
}

// candidates goes through the files that match a link or may match it, in networkd's
// order, and says why a match is uncertain. networkd uses the first file that matches,
// and no other (systemd.network(5)).
type candidates struct {
	networks *networks
	facts    facts
	lists    [][]int

	file    *networkFile
	because string
}

func (n *networks) candidates(k facts) *candidates {
	c := &candidates{networks: n, facts: k, lists: [][]int{n.rest}}
	for _, key := range indexKeys {
		values, known := k[key]
		if !known {
			c.lists = append(c.lists, n.every[key])
		}
		for _, v := range values {
			c.lists = append(c.lists, n.index[key][v])
		}
	}
	return c
}

// next goes on to the next file, if there is one.
func (c *candidates) next() bool {
	for {
		var next *[]int
		for i := range c.lists {
			if l := &c.lists[i]; len(*l) > 0 && (next == nil || (*l)[0] < (*next)[0]) {
				next = l
			}
		}
		if next == nil {
			return false
		}
		c.file = &c.networks.files[(*next)[0]]
		*next = (*next)[1:]
		var v verdict
		if v, c.because = c.file.matches(c.facts); v != no {
			return true
		}
	}
}
