package importer

import (
	"bytes"
	"cmp"
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

// ownFiles is how the names of our files begin: what uplink-generator renders is no source.
const ownFiles = "10-uplink-"

// networkdFiles returns an administrator's .network files. Of files with one name, that in
// the earlier directory counts.
func networkdFiles(root rootfs.Root) (files []string) {
	seen := map[string]bool{}
	for _, dir := range networkdPath[:3] { // the distribution's files are for links that nobody configures
		names, _ := root.ReadDir(dir)
		for _, n := range names {
			if strings.HasSuffix(n, ".network") && !strings.HasPrefix(n, ownFiles) && !seen[n] {
				seen[n] = true
				if !isEmpty(root, path.Join(dir, n)) {
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

// Networkd reads .network files and their drop-ins; without files it reads all of the host's.
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
	// Of several files that match a link, networkd uses the first in the order of the names.
	files = slices.Clone(files)
	slices.SortStableFunc(files, func(a, b string) int { return strings.Compare(path.Base(a), path.Base(b)) })
	var before []*networkFile
	of := map[string]string{}
	for _, name := range files {
		file, err := readNetworkFile(f, root, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		i := slices.IndexFunc(before, func(o *networkFile) bool { return o.comesBefore(file) })
		before = append(before, file)
		if i >= 0 {
			f.left(file.at, path.Base(name), "networkd takes %s, which comes before it and matches as well", before[i].name)
			continue
		}
		r := &networkReader{f: f, names: n, addresses: len(f.Addresses), noRA: map[string]bool{}, learned: map[string]setting{}}
		r.match(file)
		if r.link == nil {
			continue
		}
		if o := of[r.link.Name]; o != "" {
			f.left(file.at, path.Base(name), "networkd takes one file for %s, and %s comes first", r.link.Name, o)
			continue
		}
		of[r.link.Name] = name
		for _, s := range file.sections {
			r.section(s)
		}
		r.learn()
		*f.link(r.link.Name, r.link.Origin) = *r.link
	}
	for i := range f.Routes {
		if hops := f.Routes[i].Nexthops; len(hops) == 1 {
			hops[0].Weight = 0
		}
	}
	f.Tables = n.Tables()
	return f, nil
}

// routeTable reads the names in RouteTable= of networkd.conf(5).
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

// sections reads one file. go-systemd gives no line numbers. It returns the settings in the
// order of their lines, so sections counts the lines along with them.
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

// networkReader turns the sections of one link into Found.
type networkReader struct {
	f         *Found
	names     Names
	link      *Link
	dhcp, ra  string
	noRA      map[string]bool    // keys because of which networkd accepts no router advertisements by default
	addresses int                // how many of Found's come from other files
	learned   map[string]setting // RouteTable= and RouteMetric= by section
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
			if x.key == "RouteTable" || x.key == "RouteMetric" {
				r.learned[strings.Replace(s.name+" ", "DHCP ", "DHCPv4 ", 1)+x.key] = x
				continue
			}
			r.own(x)
		}
	default:
		for _, x := range s.settings {
			r.own(x)
		}
	}
}

func (r *networkReader) own(x setting) {
	if x.value == "" { // this clears the earlier ones
		r.link.Own = slices.DeleteFunc(r.link.Own, func(l Left) bool { return strings.HasPrefix(l.Text, x.key+"=") })
		return
	}
	r.link.Own = append(r.link.Own, Left{x.at, oneLine(x.text()), "no spec has it"})
}

// ignored notes a value that networkd does not accept: an earlier value stays in effect.
func (r *networkReader) ignored(x setting) {
	r.link.Own = append(r.link.Own, Left{x.at, oneLine(x.text()), "networkd has no such value, and ignores it"})
}

func (r *networkReader) network(x setting) {
	switch x.key {
	case "Address":
		if x.value == "" { // this clears all, including those of [Address]
			r.f.Addresses = r.f.Addresses[:r.addresses]
			r.own(x)
			return
		}
		r.address(x)
	case "Gateway":
		if x.value != "" {
			r.route(section{settings: []setting{x}})
		}
	case "DHCP":
		old := map[string]string{"both": "yes", "none": "no", "v4": "ipv4", "v6": "ipv6"} // deprecated, but accepted
		v := cmp.Or(old[x.value], x.value)
		if v != "ipv4" && v != "ipv6" && !isTrue(v) && !isFalse(v) {
			r.ignored(x)
			return
		}
		r.dhcp = v
	case "IPv6AcceptRA":
		if x.value != "" && !isTrue(x.value) && !isFalse(x.value) {
			r.ignored(x)
			return
		}
		r.ra = x.value
	case "DNS":
		if x.value == "" {
			r.link.DNS = nil
		}
		r.link.addDNS(x.at, strings.Fields(x.value)...)
	case "Domains":
		if x.value == "" {
			r.link.Domains = nil
		}
		r.link.addDomains(strings.Fields(x.value)...)
	case "Description":
	case "LinkLocalAddressing":
		r.noRA[x.key] = x.value == "ipv4" || isFalse(x.value)
		r.own(x)
	case "IPForward", "IPv6Forwarding":
		r.noRA[x.key] = x.value == "ipv6" || isTrue(x.value)
		r.own(x)
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
	if !strings.Contains(x.value, "/") {
		// PREFIXLEN_LEGACY in src/basic/in-addr-util.c, until systemd 253 dropped it.
		old := 0
		if p.Addr().Is4() {
			old = defaultLength(p.Addr())
			p = netip.PrefixFrom(p.Addr(), old)
		}
		r.link.Own = append(r.link.Own, Left{x.at, x.text(), fmt.Sprintf(
			"without a length it is /%d up to systemd 252, and /%d since: the spec has /%d", old, p.Addr().BitLen(), p.Bits())})
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

func isFalse(s string) bool {
	switch strings.ToLower(s) {
	case "0", "no", "n", "false", "f", "off":
		return true
	}
	return false
}

// learn settles what the link learns. If the file does not mention router advertisements,
// networkd accepts them (IPv6AcceptRA= in systemd.network(5)). With DHCPv6, which brings no
// gateway, they are needed. Otherwise nobody has asked for them, and the comparison reports
// that they are no longer accepted.
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
	switch {
	case r.ra != "":
		l.RA = isTrue(r.ra)
	case r.noRA["LinkLocalAddressing"] || r.noRA["IPForward"] || r.noRA["IPv6Forwarding"]:
	default:
		l.RA, r.link.DefaultRA = l.DHCP6, !l.DHCP6
	}
	if x := r.oneOf("RouteTable"); x.value != "" {
		t, ok := r.names.table(x.value)
		switch {
		case !ok:
			r.f.left(x.at, x.text(), "no table is called so")
		case t != fib.TableMain:
			l.Table = t
		}
	}
	if x := r.oneOf("RouteMetric"); x.value != "" {
		n, err := strconv.ParseUint(x.value, 10, 32)
		if err != nil {
			r.own(x)
		}
		l.Metric = uint32(n)
	}
}

// oneOf returns a setting that DHCP and router advertisements have separately, where
// a spec has one for both.
func (r *networkReader) oneOf(key string) (one setting) {
	var all []setting
	if r.link.Learn.DHCP4 {
		all = append(all, r.learned["DHCPv4 "+key])
	}
	if r.link.Learn.RA {
		all = append(all, r.learned["IPv6AcceptRA "+key])
	}
	for _, x := range all {
		if one.value == "" {
			one = x
		}
	}
	for _, x := range all {
		if x.value != one.value {
			x = setting{key, cmp.Or(x.value, one.value), cmp.Or(x.at, one.at)}
			r.link.Own = append(r.link.Own, Left{x.at, oneLine(x.text()), "a spec has one for all that a link learns"})
		}
	}
	return one
}
