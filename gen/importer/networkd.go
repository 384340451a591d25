package importer

import (
	"bytes"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// networkdPath is where networkd looks for its files (systemd.network(5)).
var networkdPath = []string{"/etc/systemd/network", "/run/systemd/network", "/usr/local/lib/systemd/network", "/usr/lib/systemd/network"}

// ownFiles begin so: what uplink-generator renders is no source.
const ownFiles = "10-uplink-"

// networkdFiles returns an administrator's .network files, a name in an earlier directory
// before the same in a later one.
func networkdFiles(root rootfs.Root) (files []string) {
	seen := map[string]bool{}
	for _, dir := range networkdPath[:3] { // what the distribution ships is for links that nobody configures
		names, _ := root.ReadDir(dir)
		for _, n := range names {
			if strings.HasSuffix(n, ".network") && !strings.HasPrefix(n, ownFiles) && !seen[n] {
				seen[n] = true
				if !root.IsMasked(path.Join(dir, n)) {
					files = append(files, path.Join(dir, n))
				}
			}
		}
	}
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(path.Base(a), path.Base(b)) })
	return files
}

// HasNetworkd says whether there are .network files of an administrator.
func HasNetworkd(root rootfs.Root) bool { return len(networkdFiles(root)) > 0 }

// Networkd reads .network files and their drop-ins; without files all of the host's.
func Networkd(root rootfs.Root, names Names, files ...string) (*Found, error) {
	f := &Found{From: "systemd-networkd's files"}
	n := Names{}
	for k, v := range names {
		n[k] = v
	}
	if data, err := root.ReadFile("/etc/systemd/networkd.conf", maxSize); err == nil {
		n.routeTable(data)
	}
	for _, dir := range []string{"/usr/lib", "/run", "/etc"} {
		confs, _ := root.ReadDir(dir + "/systemd/networkd.conf.d")
		for _, c := range confs {
			if data, err := root.ReadFile(path.Join(dir, "systemd/networkd.conf.d", c), maxSize); err == nil && strings.HasSuffix(c, ".conf") {
				n.routeTable(data)
			}
		}
	}
	if len(files) == 0 {
		files = networkdFiles(root)
	}
	for _, name := range files {
		if err := networkFile(f, root, n, name); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	for i := range f.Routes {
		if hops := f.Routes[i].Nexthops; len(hops) == 1 {
			hops[0].Weight = 0
		}
	}
	f.Tables = n.Tables()
	return f, nil
}

// routeTable takes the names of RouteTable= in networkd.conf(5).
func (n Names) routeTable(data []byte) {
	opts, _ := unit.DeserializeOptions(bytes.NewReader(data))
	for _, o := range opts {
		if o.Section != "Network" || o.Name != "RouteTable" {
			continue
		}
		for _, w := range strings.Fields(o.Value) {
			name, id, _ := strings.Cut(w, ":")
			if v, err := strconv.ParseUint(id, 0, 32); err == nil && v != 0 {
				n[name] = uint32(v)
			}
		}
	}
}

// section is a section of a .network file; setting a line of it.
type section struct {
	name     string
	settings []setting
}

type setting struct {
	key, value string
	at         fib.Origin
}

func (s setting) text() string { return s.key + "=" + s.value }

// sections reads one file. go-systemd says no line numbers: the settings come in the
// order of the lines that have them, so these are counted along.
func sections(file string, data []byte) (list []section, err error) {
	parsed, err := unit.DeserializeSections(bytes.NewReader(data))
	var lines []int
	continued, inSection := false, false
	for i, line := range strings.Split(string(data), "\n") {
		was := continued
		continued = strings.HasSuffix(line, `\`)
		if line = strings.TrimSpace(line); was || line == "" {
			continue
		}
		switch line[0] {
		case '[':
			inSection, continued = true, false
		case '#', ';':
		default:
			if inSection {
				lines = append(lines, i+1)
			}
		}
	}
	n := 0
	for _, p := range parsed {
		s := section{name: p.Section}
		for _, e := range p.Entries {
			at := fib.Origin{File: file}
			if n < len(lines) {
				at.Line = lines[n]
			}
			n++
			s.settings = append(s.settings, setting{e.Name, strings.TrimSpace(strings.ReplaceAll(e.Value, "\\\n", " ")), at})
		}
		list = append(list, s)
	}
	return list, err
}

// networkFile reads one .network file with its drop-ins.
func networkFile(f *Found, root rootfs.Root, names Names, name string) error {
	var all []section
	drops := map[string]string{}
	for _, dir := range append([]string{path.Dir(name)}, networkdPath...) {
		confs, _ := root.ReadDir(path.Join(dir, path.Base(name)+".d"))
		for _, c := range confs {
			if strings.HasSuffix(c, ".conf") && !strings.HasPrefix(c, ownFiles) && drops[c] == "" {
				drops[c] = path.Join(dir, path.Base(name)+".d", c)
			}
		}
	}
	files := []string{name}
	var order []string
	for c := range drops {
		order = append(order, c)
	}
	slices.Sort(order)
	for _, c := range order {
		files = append(files, drops[c])
	}
	for _, file := range files {
		data, err := root.ReadFile(file, maxSize)
		if err != nil {
			return err
		}
		f.Files = append(f.Files, file)
		list, err := sections(file, data)
		if err != nil {
			f.left(fib.Origin{File: file}, "the rest of the file", "%v", err)
		}
		all = append(all, list...)
	}
	r := &networkReader{f: f, names: names}
	r.match(name, all)
	if r.link == nil {
		return nil
	}
	for _, s := range all {
		r.section(s)
	}
	r.learn()
	*f.link(r.link.Name, r.link.Origin) = *r.link
	return nil
}

// networkReader turns the sections of one link into Found.
type networkReader struct {
	f          *Found
	names      Names
	link       *Link
	dhcp, ra   string
	routeTable setting
}

func (r *networkReader) match(file string, all []section) {
	var m fib.Match
	at := fib.Origin{File: file}
	for _, s := range all {
		if s.name != "Match" {
			continue
		}
		for _, x := range s.settings {
			if at.Line == 0 {
				at = x.at
			}
			switch x.key {
			case "Name":
				m.Name = x.value
			case "MACAddress", "PermanentMACAddress":
				m.MAC = strings.ToLower(strings.ReplaceAll(x.value, "-", ":"))
			case "Driver":
				m.Driver = x.value
			case "Path":
				m.Path = x.value
			case "Type", "Kind":
			default:
				r.f.left(x.at, x.text(), "no spec matches by it")
			}
		}
	}
	name := m.Name
	switch {
	case m == (fib.Match{}):
		r.f.left(at, path.Base(file), "it matches no link by name, MAC address, driver or path")
		return
	case strings.ContainsAny(m.Name+m.MAC+m.Driver+m.Path, " !"):
		r.f.left(at, path.Base(file), "it matches several")
		return
	case name == "lo":
		return
	case name == "":
		name = strings.TrimPrefix(strings.TrimSuffix(path.Base(file), ".network"), "10-netplan-")
	}
	l := *r.f.link(name, at)
	l.Match, r.link = m, &l
}

func (r *networkReader) section(s section) {
	switch s.name {
	case "Match":
	case "Network":
		for _, x := range s.settings {
			r.network(x)
		}
	case "Link":
		for _, x := range s.settings {
			if x.key == "MTUBytes" {
				if n, err := strconv.ParseUint(x.value, 10, 32); err == nil {
					r.link.MTU = uint32(n)
					continue
				}
			}
			r.own(x)
		}
	case "Address":
		for _, x := range s.settings {
			if x.key == "Address" {
				r.address(x)
			} else {
				r.own(x)
			}
		}
	case "Route":
		r.route(s)
	case "RoutingPolicyRule":
		r.rule(s)
	case "DHCPv4", "DHCP", "DHCPv6", "IPv6AcceptRA":
		for _, x := range s.settings {
			switch x.key {
			case "RouteTable":
				r.routeTable = x
			case "RouteMetric":
				n, _ := strconv.ParseUint(x.value, 10, 32)
				r.link.Learn.Metric = uint32(n)
			default:
				r.own(x)
			}
		}
	default:
		for _, x := range s.settings {
			r.own(x)
		}
	}
}

func (r *networkReader) own(x setting) {
	r.link.Own = append(r.link.Own, Left{x.at, oneLine(x.text()), "no spec has it"})
}

func (r *networkReader) network(x setting) {
	switch x.key {
	case "Address":
		r.address(x)
	case "Gateway":
		r.route(section{settings: []setting{x}})
	case "DHCP":
		r.dhcp = x.value
	case "IPv6AcceptRA":
		r.ra = x.value
	case "DNS":
		for _, w := range strings.Fields(x.value) {
			if a, err := netip.ParseAddr(w); err == nil {
				r.link.DNS = append(r.link.DNS, a)
			} else {
				r.own(setting{x.key, w, x.at})
			}
		}
	case "Domains":
		r.link.Domains = append(r.link.Domains, strings.Fields(x.value)...)
	case "Description":
	default:
		r.own(x)
	}
}

func (r *networkReader) address(x setting) {
	p, ok := parsePrefix(x.value)
	if !ok {
		r.f.left(x.at, x.text(), "no address")
		return
	}
	r.f.Addresses = append(r.f.Addresses, Address{Address: fib.Address{Link: r.link.Name, Prefix: p, Origin: x.at}, Stays: true, Text: x.text()})
}

func isTrue(s string) bool {
	switch strings.ToLower(s) {
	case "1", "yes", "y", "true", "t", "on":
		return true
	}
	return false
}

// learn settles what the link learns. Without a word about router advertisements networkd
// accepts them, which is asked for by nobody and so not said.
func (r *networkReader) learn() {
	l := &r.link.Learn
	switch {
	case r.dhcp == "ipv4":
		l.DHCP4 = true
	case r.dhcp == "ipv6":
		l.DHCP6 = true
	case isTrue(r.dhcp):
		l.DHCP4, l.DHCP6 = true, true
	}
	l.RA = isTrue(r.ra)
	if r.routeTable.value == "" {
		return
	}
	t, ok := r.names.table(r.routeTable.value)
	switch {
	case !ok:
		r.f.left(r.routeTable.at, r.routeTable.text(), "no table is called so")
	case t != fib.TableMain:
		l.Table = t
	}
}
