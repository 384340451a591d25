package importer

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// keyfilePath is where NetworkManager keeps its profiles, in the order of precedence
// (nm-settings-keyfile(5), FILES).
var keyfilePath = []string{"/run/NetworkManager/system-connections", "/etc/NetworkManager/system-connections", "/usr/lib/NetworkManager/system-connections"}

const (
	keyfileSuffix   = ".nmconnection"
	tombstoneSuffix = ".nmmeta" // UUID.nmmeta is a link to /dev/null if that profile has been deleted
)

// tombstones returns the UUIDs of profiles that are masked.
func tombstones(root rootfs.Root) map[string]bool {
	gone := map[string]bool{}
	for _, dir := range keyfilePath {
		names, _ := root.ReadDir(dir)
		for _, n := range names {
			if uuid, ok := strings.CutSuffix(n, tombstoneSuffix); ok && root.IsMasked(path.Join(dir, n)) {
				gone[uuid] = true
			}
		}
	}
	return gone
}

// keyfiles returns NetworkManager's profiles. In /etc they may lack the suffix, as very old
// ones do (nm_keyfile_utils_ignore_filename).
func keyfiles(root rootfs.Root) (files []string) {
	for _, dir := range keyfilePath {
		names, _ := root.ReadDir(dir)
		for _, n := range names {
			if !isBackup(n) && path.Ext(n) != tombstoneSuffix && (strings.HasPrefix(dir, "/etc/") || strings.HasSuffix(n, keyfileSuffix)) {
				files = append(files, path.Join(dir, n))
			}
		}
	}
	return files
}

// isBackup says whether package managers or editors leave files of that name behind.
func isBackup(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || slices.Contains([]string{".bak", ".orig", ".rej", ".rpmnew", ".rpmorig", ".rpmsave"}, path.Ext(name))
}

// HasKeyfiles says whether NetworkManager has profiles.
func HasKeyfiles(root rootfs.Root) bool { return len(keyfiles(root)) > 0 }

// Keyfiles reads NetworkManager's profiles in the form of nm-settings-keyfile(5); without
// files it reads all of the host's.
func Keyfiles(root rootfs.Root, names Names, files ...string) (*Found, error) {
	f := &Found{From: "NetworkManager's profiles", Tables: names.Tables()}
	if len(files) == 0 {
		files = keyfiles(root)
	}
	var profiles []*profile
	uuids := tombstones(root)
	for _, name := range files {
		data, err := root.ReadFile(name, maxSize)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		f.Files = append(f.Files, name)
		list, err := sections(name, data)
		if err != nil {
			f.left(fib.Origin{File: name}, "the rest of the file", "%v", err)
		}
		p := &profile{file: name, sections: list}
		uuid := p.get("connection", "uuid").value
		if uuid != "" && uuids[uuid] {
			continue // the one in the earlier directory replaces it
		}
		uuids[uuid] = true
		profiles = append(profiles, p)
	}
	// Of several profiles for one link, NetworkManager activates the one with the highest priority.
	slices.SortStableFunc(profiles, func(a, b *profile) int { return b.priority() - a.priority() })
	k := &keyfileReader{f: f, names: names, defaults: defaultRoutes{}}
	for _, p := range profiles {
		k.profile(p)
	}
	return f, nil
}

// profile is one of NetworkManager's profiles.
type profile struct {
	file     string
	sections []section
}

// get returns the last setting of a key, as GKeyFile does, or the zero setting.
func (p *profile) get(name, key string) (found setting) {
	for _, s := range p.sections {
		for _, x := range s.settings {
			if s.name == name && x.key == key {
				found = x
			}
		}
	}
	return found
}

func (p *profile) priority() int {
	n, _ := strconv.Atoi(p.get("connection", "autoconnect-priority").value)
	return n
}

type keyfileReader struct {
	f        *Found
	names    Names
	defaults defaultRoutes
}

// defaultMetrics are the metrics of a device's routes if the profile gives none
// (nm_device_get_route_metric_default).
var defaultMetrics = map[string]int{
	"ethernet": 100, "802-3-ethernet": 100, "infiniband": 150, "team": 350, "bond": 300, "vlan": 400, "macvlan": 410,
	"bridge": 425, "tun": 450, "wifi": 600, "802-11-wireless": 600, "wireguard": 50, "vpn": 50, "gsm": 700, "cdma": 700, "ip-tunnel": 675, "vxlan": 500, "dummy": 550, "loopback": 30,
}

func (k *keyfileReader) profile(p *profile) {
	at := fib.Origin{File: p.file}
	kind, base := p.get("connection", "type"), path.Base(p.file)
	if x := p.get("connection", "autoconnect"); isFalse(x.value) && x.value != "" {
		k.f.left(x.at, base, "it is not brought up by itself: %s", x.text())
		return
	}
	for _, key := range []string{"controller", "master"} {
		if x := p.get("connection", key); x.value != "" {
			return // a port has no addresses, and its own profile names its controller
		}
	}
	l, ok := k.match(p, at)
	if !ok {
		return
	}
	if kind.value != "ethernet" && kind.value != "802-3-ethernet" && kind.value != "loopback" {
		l.Own = append(l.Own, Left{kind.at, oneLine(kind.text()), "a spec makes no links"})
	}
	for _, s := range p.sections {
		switch s.name {
		case "connection", "match", "user":
		case "ipv4", "ipv6":
			k.family(p, &l, s)
		case "ethernet", "802-3-ethernet":
			for _, x := range s.settings {
				switch x.key {
				case "mac-address":
				case "mtu":
					n, _ := strconv.ParseUint(x.value, 10, 32)
					l.MTU = uint32(n)
				default:
					l.own(x)
				}
			}
		default:
			for _, x := range s.settings {
				l.own(setting{s.name + "." + x.key, x.value, x.at})
			}
		}
	}
	*k.f.link(l.Name, l.Origin) = l
}

// learnsDefault notes whether what the link learns of a family may never become a default
// route. A spec says so of both families at once.
func (l *Link) learnsDefault(f fib.Family, x setting, never bool) {
	other := l.Learn.DHCP4
	if f == fib.Inet {
		other = l.Learn.RA || l.Learn.DHCP6
	}
	if other && never != l.NoDefault {
		l.Own = append(l.Own, Left{cmp.Or(x.at, l.Origin), oneLine(x.key), "a spec has default routes of both families or of none"})
	}
	l.NoDefault = l.NoDefault || never
}

func (l *Link) own(x setting) { l.Own = append(l.Own, Left{x.at, oneLine(x.text()), "no spec has it"}) }

// match finds what a spec can select the link by.
func (k *keyfileReader) match(p *profile, at fib.Origin) (l Link, ok bool) {
	name := p.get("connection", "interface-name")
	m := fib.Match{Name: name.value, Driver: listed(p.get("match", "driver")), Path: listed(p.get("match", "path"))}
	for _, s := range []string{"ethernet", "802-3-ethernet"} {
		m.MAC = cmp.Or(m.MAC, strings.ToLower(p.get(s, "mac-address").value))
	}
	m.Name = cmp.Or(m.Name, listed(p.get("match", "interface-name")))
	key := cmp.Or(name.value, strings.TrimSuffix(path.Base(p.file), keyfileSuffix))
	switch {
	case m == (fib.Match{}):
		k.f.left(at, path.Base(p.file), "it is for any link: a spec wants a name, a MAC address, a driver or a path")
		return l, false
	case strings.ContainsAny(m.Name+m.Driver+m.Path, ";!&|"):
		k.f.left(at, path.Base(p.file), "it matches several")
		return l, false
	}
	for _, have := range k.f.Links {
		if have.Name == key {
			k.f.left(at, path.Base(p.file), "another profile of %s comes before it: %s", key, have.Origin.File)
			return l, false
		}
	}
	if name.value != "" {
		at = name.at
	}
	l = *k.f.link(key, at)
	if m != (fib.Match{Name: key}) {
		l.Match = m
	}
	return l, true
}

// listed is the value of a list, which ends with a semicolon.
func listed(x setting) string { return strings.TrimSuffix(x.value, ";") }

// family reads [ipv4] or [ipv6].
func (k *keyfileReader) family(p *profile, l *Link, s section) {
	r := &ipSection{k, p, l, fib.Inet, s.name, uint32(fib.TableMain), 0, false}
	if s.name == "ipv6" {
		r.family = fib.Inet6
	}
	if x := p.get(s.name, "route-table"); x.value != "" && x.value != "0" {
		n, err := strconv.ParseUint(x.value, 0, 32)
		if err != nil {
			k.f.left(x.at, x.text(), "no table")
		}
		r.table = uint32(n)
	}
	if n, err := strconv.ParseUint(p.get(s.name, "route-metric").value, 10, 32); err == nil {
		r.metric, r.given = uint32(n), true
	}
	method, gateway := p.get(s.name, "method"), setting{}
	r.method(method)
	for _, x := range s.settings {
		switch key := strings.TrimRight(x.key, "0123456789"); {
		case key == "address" || key == "addresses":
			if gw := r.address(x); gateway.value == "" {
				gateway = gw
			}
		case key == "route" || key == "routes":
			r.route(x)
		case key == "routing-rule":
			k.f.addRule(append([]string{familyOption(r.family), "rule", "add"}, strings.Fields(x.value)...), k.names, x.at, x.text())
		case x.key == "dns":
			r.l.addDNS(x.at, strings.FieldsFunc(x.value, isListSeparator)...)
		case x.key == "dns-search":
			l.addDomains(strings.FieldsFunc(x.value, isListSeparator)...)
		case slices.Contains([]string{"method", "gateway", "route-table", "route-metric", "never-default"}, x.key), strings.HasSuffix(x.key, "_options"):
		default:
			l.own(x)
		}
	}
	if x := p.get(s.name, "gateway"); x.value != "" {
		gateway = x
	}
	if gateway.value != "" && !isTrue(p.get(s.name, "never-default").value) {
		r.gateway(gateway)
	}
}

// ipSection reads [ipv4] or [ipv6] of a profile.
type ipSection struct {
	*keyfileReader
	p      *profile
	l      *Link
	family fib.Family
	name   string
	table  uint32 // route-table=
	metric uint32 // route-metric=
	given  bool   // otherwise NetworkManager chooses one
}

func isListSeparator(c rune) bool { return c == ';' || c == ',' || c == ' ' }

func (r *ipSection) method(x setting) {
	learn := &r.l.Learn
	switch x.value {
	case "auto":
		if r.family == fib.Inet {
			learn.DHCP4 = true
		} else {
			learn.RA = true
		}
	case "dhcp":
		learn.DHCP6 = true
	case "manual", "disabled", "", "ignore", "link-local":
		if x.value == "link-local" && r.family == fib.Inet {
			r.l.own(x)
		}
		return
	default:
		r.l.own(x)
		return
	}
	never := r.p.get(r.name, "never-default")
	r.l.learnsDefault(r.family, never, isTrue(never.value))
	if r.table != fib.TableMain {
		learn.Table = r.table
	}
	if r.metric != 0 {
		learn.Metric = r.metric
	}
}

// address reads "192.0.2.10/24", and returns the gateway that may follow after a comma.
func (r *ipSection) address(x setting) (gateway setting) {
	w := strings.FieldsFunc(x.value, isListSeparator)
	if len(w) == 0 {
		return gateway
	}
	p, ok := parsePrefix(w[0])
	if len(w) > 1 && !strings.Contains(w[0], "/") { // as in very old profiles: "192.0.2.10;24;192.0.2.1;"
		p, ok = parsePrefix(w[0] + "/" + w[1])
		w = w[1:]
	}
	if !ok || !strings.Contains(x.value, "/") && p.IsSingleIP() || fib.FamilyOf(p.Addr()) != r.family {
		r.f.left(x.at, x.text(), "no address with a length")
		return gateway
	}
	r.f.Addresses = append(r.f.Addresses, Address{Address: fib.Address{Link: r.l.Name, Prefix: p, Origin: x.at}, Stays: true, Text: x.text()})
	r.f.connected(r.l.Name, p, r.table, x.at, x.text())
	if len(w) > 1 {
		gateway = setting{x.key, w[1], x.at}
	}
	return gateway
}

// gateway adds the default route. If the profile gives no metric, the kind of link determines it.
func (r *ipSection) gateway(x setting) {
	gw, err := netip.ParseAddr(x.value)
	if err != nil || gw.Zone() != "" || fib.FamilyOf(gw) != r.family {
		r.f.left(x.at, x.text(), "%q is not a gateway", x.value)
		return
	}
	r.defaults.add(r.f, r.l.Name, gw, r.table, r.metricIn(r.table), x.at, x.text())
}

// metricIn returns the metric of routes that have none themselves. In main, if the profile
// gives none, the kind of link determines it; in a table of its own it does not matter.
func (r *ipSection) metricIn(table uint32) uint32 {
	if r.given || table != fib.TableMain {
		return r.metric
	}
	return uint32(cmp.Or(defaultMetrics[r.p.get("connection", "type").value], 550))
}

// defaultRoutes are the default routes that NetworkManager has added to main so far.
type defaultRoutes map[fib.RouteKey]bool

// add adds the default route through a gateway of a link. In main it gets the next metric
// that no other route has; in a table of its own the metric does not matter.
func (d defaultRoutes) add(f *Found, link string, gw netip.Addr, table, metric uint32, at fib.Origin, text string) {
	if gw.IsUnspecified() {
		return
	}
	reached := gw.IsLinkLocalUnicast() || slices.ContainsFunc(f.Addresses, func(a Address) bool { return a.Link == link && a.Prefix.Contains(gw) })
	r := plainDefault(fib.FamilyOf(gw), table, metric, fib.Nexthop{Link: link, Via: gw, OnLink: !reached})
	for table == fib.TableMain && d[r.Key()] {
		r.Metric++
	}
	d[r.Key()] = true
	r.Link, r.Origin = link, at
	f.Routes = append(f.Routes, Route{Route: *r, Stays: table == fib.TableMain, Text: text})
}

// route reads "10.0.0.0/8,192.0.2.1,100", and its options from the setting beside it.
func (r *ipSection) route(x setting) {
	w := strings.Split(strings.TrimRight(x.value, ",; "), ",")
	if !strings.Contains(x.value, ",") && strings.Contains(x.value, ";") {
		r.f.left(x.at, x.text(), "routes in the form of NetworkManager 0.8")
		return
	}
	to := masked(strings.TrimSpace(w[0]))
	args := []string{to}
	if len(w) > 1 && w[1] != "" && w[1] != "0.0.0.0" && w[1] != "::" {
		args = append(args, "via", strings.TrimSpace(w[1]))
	}
	if len(w) > 2 {
		args = append(args, "metric", strings.TrimSpace(w[2]))
	}
	table, typ, device := r.table, "", true
	options := r.p.get(r.name, x.key+"_options")
	for _, o := range strings.FieldsFunc(options.value, isListSeparator) {
		name, value, _ := strings.Cut(o, "=")
		switch name {
		case "table":
			if n, ok := r.names.table(value); ok {
				table = n
			} else if value != "0" {
				r.f.left(options.at, options.text(), "no table is called %q", value)
				return
			}
		case "src", "mtu", "initcwnd", "initrwnd", "advmss", "scope":
			args = append(args, name, value)
		case "onlink":
			if isTrue(value) {
				args = append(args, "onlink")
			}
		case "type":
			typ = value
			if t, ok := fib.ParseRouteType(value); ok {
				device = t.HasDevice()
			}
		case "from", "tos":
			r.f.left(options.at, x.text(), "no route of a spec has `%s`", name)
			return
		default:
			r.f.left(options.at, o, "no route of a spec has it")
		}
	}
	if typ != "" {
		args = slices.Insert(args, 0, typ)
	}
	if metric := r.metricIn(table); len(w) < 3 && metric != 0 {
		args = append(args, "metric", fmt.Sprint(metric))
	}
	args = append([]string{familyOption(r.family), "route", "add"}, args...)
	if device {
		args = append(args, "dev", r.l.Name)
	}
	if route, ok := r.f.routeOf(r.l.Name, append(args, "table", fmt.Sprint(table)), r.names, x.at, x.text()); ok {
		r.f.Routes = append(r.f.Routes, route)
	}
}
