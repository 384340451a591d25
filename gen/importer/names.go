package importer

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// maxSize bounds every file that is read.
const maxSize = 4 << 20

// Names are the names of routing tables.
type Names map[string]uint32

var kernelTables = Names{"default": fib.TableDefault, "main": fib.TableMain, "local": fib.TableLocal}

// ReadNames reads the names of tables below root, as iproute2 does: /etc/iproute2/rt_tables,
// or where it is absent the same file in /usr/share or /usr/lib, and rt_tables.d of all.
func ReadNames(root rootfs.Root) Names {
	n := Names{}
	dirs := []string{"/usr/lib/iproute2", "/usr/share/iproute2", "/etc/iproute2"}
	for i := len(dirs) - 1; i >= 0; i-- {
		if data, err := root.ReadFile(path.Join(dirs[i], "rt_tables"), maxSize); err == nil {
			n.read(string(data))
			break
		}
	}
	for _, d := range dirs {
		list, _ := root.ReadDir(path.Join(d, "rt_tables.d"))
		for _, f := range list {
			if !strings.HasSuffix(f, ".conf") || strings.HasPrefix(f, ".") {
				continue
			}
			if data, err := root.ReadFile(path.Join(d, "rt_tables.d", f), maxSize); err == nil {
				n.read(string(data))
			}
		}
	}
	// Needed if rt_tables.d has no link to it, as in a root that is no host's.
	if data, err := root.ReadFile("/run/uplink/rt_tables.conf", maxSize); err == nil {
		n.read(string(data))
	}
	return n
}

// read reads lines of rt_tables: a number, hexadecimal after "0x", and a name.
func (n Names) read(text string) {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		w := strings.Fields(line)
		if len(w) < 2 {
			continue
		}
		if id, err := strconv.ParseUint(w[0], 0, 32); err == nil && id != 0 {
			n[w[1]] = uint32(id)
		}
	}
}

// table reads a table as ip(8) does: by name, or by number.
func (n Names) table(s string) (uint32, bool) {
	if id, ok := kernelTables[s]; ok {
		return id, true
	}
	if id, ok := n[s]; ok {
		return id, true
	}
	id, err := strconv.ParseUint(s, 0, 32)
	return uint32(id), err == nil && id != 0
}

// Tables returns the names in the order of the numbers.
func (n Names) Tables() (list []fib.Table) {
	for name, id := range n {
		if kernelTables[name] == 0 && (id < fib.TableDefault || id > fib.TableLocal) {
			list = append(list, fib.Table{ID: id, Name: name})
		}
	}
	slices.SortFunc(list, func(a, b fib.Table) int {
		if a.ID != b.ID {
			return int(int64(a.ID) - int64(b.ID))
		}
		return strings.Compare(a.Name, b.Name)
	})
	return list
}
