package importer

import (
	"path"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// networkFile is a .network file with its drop-ins, and what it matches.
type networkFile struct {
	name     string
	sections []section
	at       fib.Origin        // of its first match
	by       map[string]string // of [Match], "NAME NAME…" by key
}

// isEmpty says whether a file masks others of its name: it is a link to /dev/null, or empty.
func isEmpty(root rootfs.Root, name string) bool {
	if root.IsMasked(name) {
		return true
	}
	data, err := root.ReadFile(name, maxSize)
	return err == nil && len(data) == 0
}

// dropIns returns the drop-ins of a .network file in the order of their names, each from
// the first directory that has it.
func dropIns(root rootfs.Root, name string) (files []string) {
	dirs := networkdPath
	if !slices.Contains(dirs, path.Dir(name)) {
		dirs = slices.Insert(slices.Clone(dirs), 0, path.Dir(name))
	}
	seen := map[string]bool{}
	for _, dir := range dirs {
		dir = path.Join(dir, path.Base(name)+".d")
		names, _ := root.ReadDir(dir)
		for _, n := range names {
			if strings.HasSuffix(n, ".conf") && !strings.HasPrefix(n, ownFiles) && !seen[n] {
				if seen[n] = true; !isEmpty(root, path.Join(dir, n)) {
					files = append(files, path.Join(dir, n))
				}
			}
		}
	}
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(path.Base(a), path.Base(b)) })
	return files
}

// readNetworkFile reads one .network file with its drop-ins.
func readNetworkFile(f *Found, root rootfs.Root, name string) (*networkFile, error) {
	n := &networkFile{name: name, at: fib.Origin{File: name}, by: map[string]string{}}
	for _, file := range append([]string{name}, dropIns(root, name)...) {
		data, err := root.ReadFile(file, maxSize)
		if err != nil {
			return nil, err
		}
		f.Files = append(f.Files, file)
		list, err := sections(file, data)
		if err != nil {
			f.left(fib.Origin{File: file}, "the rest of the file", "%v", err)
		}
		n.sections = append(n.sections, list...)
	}
	for _, s := range n.sections {
		if s.name != "Match" {
			continue
		}
		for _, x := range s.settings {
			if n.at.Line == 0 {
				n.at = x.at
			}
			if n.by[x.key] = strings.TrimSpace(n.by[x.key] + " " + x.value); x.value == "" {
				delete(n.by, x.key)
			}
		}
	}
	return n, nil
}

// comesBefore says whether networkd uses this file for all links that the other, later file
// matches.
func (n *networkFile) comesBefore(o *networkFile) bool {
	for key, value := range n.by {
		if value == o.by[key] {
			continue
		}
		name := o.by["Name"]
		if key != "Name" || name == "" || strings.ContainsAny(name, "*?[! ") || !matchesName(value, name) {
			return false
		}
	}
	return len(n.by) > 0
}

// matchesName says whether one of several patterns matches a name or, after a leading
// "!", none of them does.
func matchesName(patterns, name string) bool {
	patterns, not := strings.CutPrefix(patterns, "!")
	return not != slices.ContainsFunc(strings.Fields(patterns), func(p string) bool {
		is, _ := path.Match(p, name)
		return is
	})
}

// match finds what a spec can select the link by.
func (r *networkReader) match(n *networkFile) {
	file := path.Base(n.name)
	m := fib.Match{Name: n.by["Name"], Driver: n.by["Driver"], Path: n.by["Path"]}
	for _, key := range []string{"MACAddress", "PermanentMACAddress"} {
		if mac := n.by[key]; mac != "" {
			m.MAC = strings.ToLower(strings.ReplaceAll(mac, "-", ":"))
		}
	}
	for _, s := range n.sections {
		for _, x := range s.settings {
			switch x.key {
			case "Name", "MACAddress", "PermanentMACAddress", "Driver", "Path", "Type", "Kind":
			default:
				if s.name == "Match" && n.by[x.key] != "" {
					r.f.left(x.at, x.text(), "no spec matches by it")
				}
			}
		}
	}
	name := m.Name
	switch {
	case m == (fib.Match{}):
		r.f.left(n.at, file, "it matches no link by name, MAC address, driver or path")
		return
	case strings.ContainsAny(m.Name+m.MAC+m.Driver+m.Path, " !"):
		r.f.left(n.at, file, "it matches several")
		return
	case name == "lo":
		return
	case name == "":
		name = strings.TrimPrefix(strings.TrimSuffix(file, ".network"), "10-netplan-")
	}
	l := *r.f.link(name, n.at)
	l.Match, r.link = m, &l
}
