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

// ifcfgDir is where Red Hat's initscripts keep their files, which NetworkManager reads
// too (nm-settings-ifcfg-rh(5), and sysconfig.txt of initscripts).
const ifcfgDir = "/etc/sysconfig/network-scripts"

// ifcfgKinds are the files of an interface, by how their names begin.
var ifcfgKinds = []string{"ifcfg-", "route-", "route6-", "rule-", "rule6-"}

// ifcfgFiles returns the files of all interfaces except lo.
func ifcfgFiles(root rootfs.Root) (files []string) {
	names, _ := root.ReadDir(ifcfgDir)
	for _, n := range names {
		if _, name, ok := cutIfcfg(n); ok && name != "lo" && !isBackup(n) {
			files = append(files, path.Join(ifcfgDir, n))
		}
	}
	return files
}

// cutIfcfg takes "route-eth1" apart.
func cutIfcfg(base string) (kind, name string, ok bool) {
	for _, kind = range ifcfgKinds {
		if name, ok = strings.CutPrefix(base, kind); ok && name != "" {
			return kind, name, true
		}
	}
	return "", "", false
}

// IsIfcfg says whether a file has the name of one of initscripts' files.
func IsIfcfg(name string) bool {
	_, _, ok := cutIfcfg(path.Base(name))
	return ok
}

// HasIfcfg says whether there are initscripts' files for a link.
func HasIfcfg(root rootfs.Root) bool { return len(ifcfgFiles(root)) > 0 }

// Ifcfg reads the files that Red Hat's initscripts have for an interface: ifcfg-NAME,
// and beside it route-NAME, route6-NAME, rule-NAME and rule6-NAME. Without files it
// reads all of the host's files.
func Ifcfg(root rootfs.Root, names Names, files ...string) (*Found, error) {
	f := &Found{From: "initscripts' files", Tables: names.Tables()}
	named := len(files) > 0
	if !named {
		files = ifcfgFiles(root)
	}
	r := &ifcfgReader{f: f, root: root, names: names, defaults: defaultRoutes{}}
	r.global = r.variables("/etc/sysconfig/network")
	seen := map[string]bool{}
	for _, file := range files {
		_, name, ok := cutIfcfg(path.Base(file))
		if !ok {
			return nil, fmt.Errorf("%s: the name of such a file begins with %s", file, strings.Join(ifcfgKinds, ", "))
		}
		if _, err := root.ReadFile(file, maxSize); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if at := path.Join(path.Dir(file), name); !seen[at] {
			seen[at] = true
			r.iface(path.Dir(file), name)
		}
	}
	r.hostGateways()
	return f, nil
}

type ifcfgReader struct {
	f        *Found
	root     rootfs.Root
	names    Names
	defaults defaultRoutes
	global   ifcfg // /etc/sysconfig/network
}

// ifcfg is a file of variables, as sh sets them.
type ifcfg struct {
	file  string
	text  []string // its lines
	value map[string]string
	used  map[string]bool
}

// variables reads a file of variables; a file that does not exist sets none.
func (r *ifcfgReader) variables(file string) ifcfg {
	c := ifcfg{file: file, value: map[string]string{}, used: map[string]bool{}}
	data, err := r.root.ReadFile(file, maxSize)
	if err != nil {
		return c
	}
	r.f.Files = append(r.f.Files, file)
	sh := newShell(&Found{}, nil)
	sh.run(fib.Origin{File: file, Line: 1}, string(data))
	r.f.Left = append(r.f.Left, sh.f.Left...)
	c.text, c.value = strings.Split(string(data), "\n"), sh.vars
	for name := range sh.unset {
		x := c.setting(name)
		r.f.left(x.at, cmp.Or(x.value, name), "what it is set to is not known here")
	}
	return c
}

// get returns a variable's value.
func (c *ifcfg) get(name string) string {
	c.used[name] = true
	return c.value[name]
}

// setting returns the line that sets a variable.
func (c *ifcfg) setting(name string) setting {
	x := setting{name, "", fib.Origin{File: c.file}}
	for i, line := range c.text {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, name+"=") {
			x.value, x.at.Line = line, i+1
		}
	}
	return x
}

// numbered returns the variables with a name, and with that name followed by a number, in
// the order of the numbers.
func (c *ifcfg) numbered(name string) (list []string) {
	for v := range c.value {
		if n, ok := strings.CutPrefix(v, name); ok && strings.Trim(n, "0123456789") == "" {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
	return list
}

// iface reads the files of one interface.
func (r *ifcfgReader) iface(dir, name string) {
	file := path.Join(dir, "ifcfg-"+name)
	c := r.variables(file)
	at := fib.Origin{File: file}
	device := withoutLabel(cmp.Or(c.get("DEVICE"), name))
	switch {
	case isFalse(c.get("ONBOOT")):
		r.f.left(c.setting("ONBOOT").at, path.Base(file), "it is not brought up by itself: ONBOOT=%s", c.get("ONBOOT"))
		return
	case c.get("MASTER")+c.get("BRIDGE")+c.get("TEAM_MASTER") != "":
		return // a port has no addresses
	}
	l := *r.f.link(device, at)
	if mac := c.get("HWADDR"); mac != "" {
		l.Match = fib.Match{Name: c.value["DEVICE"], MAC: strings.ToLower(mac)}
	}
	if kind := c.get("TYPE"); kind != "" && kind != "Ethernet" {
		l.Own = append(l.Own, Left{c.setting("TYPE").at, "TYPE=" + kind, "a spec makes no links"})
	}
	if n, err := strconv.ParseUint(c.get("MTU"), 10, 32); err == nil {
		l.MTU = uint32(n)
	}
	r.ipv4(&l, &c)
	r.ipv6(&l, &c)
	for _, v := range c.numbered("DNS") {
		l.addDNS(c.setting(v).at, strings.Fields(c.get(v))...)
	}
	l.addDomains(strings.Fields(c.get("DOMAIN"))...)
	for i, f := range fib.Families {
		for _, v := range c.numbered([]string{"ROUTING_RULE_", "ROUTING_RULE6_"}[i]) {
			r.line("rule", device, f, c.get(v), c.setting(v).at)
		}
	}
	r.rest(&l, &c)
	*r.f.link(device, at) = l
	for _, kind := range ifcfgKinds[1:] {
		r.lines(path.Join(dir, kind+name), device)
	}
}

// meaningless are variables that need no report if nothing has read them.
var meaningless = []string{
	"NAME", "UUID", "NM_CONTROLLED", "USERCTL", "DEFROUTE", "PEERDNS", "PEERROUTES", "NETWORK", "BROADCAST", "IPV4_FAILURE_FATAL", "IPV6_FAILURE_FATAL",
	"IPV6INIT", "PROXY_METHOD", "BROWSER_ONLY", "IPV6_ADDR_GEN_MODE", "IPV6_DEFROUTE", "IPV6_PEERDNS", "IPV6_PEERROUTES", "METRIC", "IPV4_ROUTE_METRIC", "IPV6_ROUTE_METRIC",
}

// rest notes the part of the link's configuration that no spec can express.
func (r *ifcfgReader) rest(l *Link, c *ifcfg) {
	var list []string
	for v := range c.value {
		ignores := strings.HasSuffix(v, "PEERROUTES") && isFalse(c.value[v])
		if !c.used[v] && (ignores || !slices.Contains(meaningless, v)) {
			list = append(list, v)
		}
	}
	slices.Sort(list)
	for _, v := range list {
		x := c.setting(v)
		l.Own = append(l.Own, Left{x.at, oneLine(x.value), "no spec has it"})
	}
}

// table returns what IPV4_ROUTE_TABLE= or IPV6_ROUTE_TABLE= says, or main.
func (r *ifcfgReader) table(c *ifcfg, name string) uint32 {
	if s := c.get(name); s != "" && s != "0" {
		if n, ok := r.names.table(s); ok {
			return n
		}
		r.f.left(c.setting(name).at, c.setting(name).value, "no such table")
	}
	return fib.TableMain
}

func (r *ifcfgReader) ipv4(l *Link, c *ifcfg) {
	table := r.table(c, "IPV4_ROUTE_TABLE")
	metric, _ := strconv.ParseUint(cmp.Or(c.get("IPV4_ROUTE_METRIC"), c.get("METRIC")), 10, 32)
	switch proto := strings.ToLower(c.get("BOOTPROTO")); proto {
	case "dhcp", "bootp":
		l.Learn.DHCP4, l.Learn.Metric = true, uint32(metric)
		if table != fib.TableMain {
			l.Learn.Table = table
		}
		l.learnsDefault(fib.Inet, c.setting("DEFROUTE"), isFalse(c.get("DEFROUTE")))
	case "", "none", "static":
	default:
		l.Own = append(l.Own, Left{c.setting("BOOTPROTO").at, "BOOTPROTO=" + proto, "no spec has it"})
	}
	for _, v := range c.numbered("IPADDR") {
		n := strings.TrimPrefix(v, "IPADDR")
		length := cmp.Or(c.get("PREFIX"+n), c.get("NETMASK"+n))
		text := c.get(v)
		if length != "" {
			text += "/" + length
		}
		p, ok := parsePrefix(text)
		if !ok || !p.Addr().Is4() {
			r.f.left(c.setting(v).at, text, "no IPv4 address")
			continue
		}
		if length == "" {
			p = netip.PrefixFrom(p.Addr(), defaultLength(p.Addr()))
		}
		r.address(l, p, table, c.setting(v))
	}
	for _, v := range c.numbered("GATEWAY") {
		r.gateway(l, c, v, c.get(v), table, uint32(metric), isFalse(c.value["DEFROUTE"]))
	}
}

// hostGateways reads the gateways of the host as a whole. Without a device, a gateway
// belongs to the link whose subnet has it.
func (r *ifcfgReader) hostGateways() {
	for _, v := range [][2]string{{"GATEWAY", "GATEWAYDEV"}, {"IPV6_DEFAULTGW", "IPV6_DEFAULTDEV"}} {
		gw, dev, _ := strings.Cut(r.global.value[v[0]], "%")
		x := r.global.setting(v[0])
		if dev = cmp.Or(dev, r.global.value[v[1]]); dev == "" {
			if a, err := netip.ParseAddr(gw); err == nil {
				dev = r.f.linkOf(a)
			}
		}
		switch {
		case gw == "" && dev != "":
			r.f.left(r.global.setting(v[1]).at, r.global.setting(v[1]).value, "a default route without a gateway")
		case gw == "":
		case dev == "":
			r.f.left(x.at, x.value, "no address here reaches the gateway")
		default:
			r.gateway(r.f.link(dev, x.at), &r.global, v[0], gw, fib.TableMain, 0, false)
		}
	}
	for _, v := range []string{"IPV6_AUTOCONF", "IPV6FORWARDING"} {
		if r.global.value[v] != "" {
			r.f.left(r.global.setting(v).at, r.global.setting(v).value, "it is said for all links: no spec has it")
		}
	}
}

func (r *ifcfgReader) ipv6(l *Link, c *ifcfg) {
	table := r.table(c, "IPV6_ROUTE_TABLE")
	metric, _ := strconv.ParseUint(c.get("IPV6_ROUTE_METRIC"), 10, 32)
	dhcp, auto := isTrue(c.get("DHCPV6C")), c.get("IPV6_AUTOCONF")
	if isFalse(c.value["IPV6INIT"]) {
		for _, v := range []string{"IPV6ADDR", "IPV6_DEFAULTGW"} {
			if c.get(v) != "" {
				r.f.left(c.setting(v).at, c.setting(v).value, "IPV6INIT=%s", c.value["IPV6INIT"])
			}
		}
		return
	}
	if dhcp || isTrue(auto) { // an alias, which has a file of its own, does not say so
		l.Learn.DHCP6, l.Learn.RA = dhcp, true
		if table != fib.TableMain {
			l.Learn.Table = table
		}
		l.learnsDefault(fib.Inet6, c.setting("IPV6_DEFROUTE"), isFalse(c.get("IPV6_DEFROUTE")))
	}
	l.DefaultRA = !l.Learn.RA && (l.DefaultRA || auto == "" && isTrue(c.value["IPV6INIT"]))
	for _, v := range []string{"IPV6ADDR", "IPV6ADDR_SECONDARIES"} {
		for _, s := range strings.FieldsFunc(c.get(v), isListSeparator) {
			p, ok := parsePrefix(s)
			if !ok || p.Addr().Is4() {
				r.f.left(c.setting(v).at, s, "no IPv6 address")
				continue
			}
			if !strings.Contains(s, "/") {
				p = netip.PrefixFrom(p.Addr(), 64)
			}
			r.address(l, p, table, c.setting(v))
		}
	}
	if gw, dev, _ := strings.Cut(c.get("IPV6_DEFAULTGW"), "%"); gw != "" && (dev == "" || dev == l.Name) {
		r.gateway(l, c, "IPV6_DEFAULTGW", gw, table, uint32(metric), isFalse(c.value["IPV6_DEFROUTE"]))
	}
}

func (r *ifcfgReader) address(l *Link, p netip.Prefix, table uint32, x setting) {
	r.f.Addresses = append(r.f.Addresses, Address{Address: fib.Address{Link: l.Name, Prefix: p, Origin: x.at}, Stays: true, Text: x.value})
	r.f.connected(l.Name, p, table, x.at, x.value)
}

// connected adds the route to an address's subnet in a table other than main, as
// NetworkManager does.
func (f *Found) connected(link string, p netip.Prefix, table uint32, at fib.Origin, text string) {
	if table == fib.TableMain {
		return
	}
	args := []string{familyOption(fib.FamilyOf(p.Addr())), "route", "add", p.Masked().String(), "dev", link, "src", p.Addr().String(), "table", fmt.Sprint(table)}
	if r, ok := f.routeOf(link, args, nil, at, text); ok {
		f.Routes = append(f.Routes, r)
	}
}

func (r *ifcfgReader) gateway(l *Link, c *ifcfg, name, text string, table, metric uint32, never bool) {
	x := c.setting(name)
	gw, err := netip.ParseAddr(text)
	switch {
	case text == "" || never:
	case err != nil || gw.Zone() != "":
		r.f.left(x.at, x.value, "%q is not a gateway", text)
	default:
		if metric == 0 && table == fib.TableMain {
			metric = uint32(defaultMetrics["ethernet"])
		}
		r.defaults.add(r.f, l.Name, gw, table, metric, x.at, x.value)
	}
}

// lines reads a file of routes or rules: arguments of `ip route add` or `ip rule add` on
// each line, or routes as ADDRESS0=, NETMASK0= and GATEWAY0=.
func (r *ifcfgReader) lines(file, device string) {
	data, err := r.root.ReadFile(file, maxSize)
	if err != nil {
		return
	}
	kind, _, _ := cutIfcfg(path.Base(file))
	object, family := strings.TrimRight(kind, "6-"), fib.Inet
	if strings.Contains(kind, "6") {
		family = fib.Inet6
	}
	text := string(data)
	if object == "route" && slices.ContainsFunc(strings.Split(text, "\n"), func(s string) bool {
		rest, ok := strings.CutPrefix(strings.TrimSpace(s), "ADDRESS")
		return ok && strings.HasPrefix(strings.TrimLeft(rest, "0123456789"), "=")
	}) {
		r.numberedRoutes(file, device)
		return
	}
	r.f.Files = append(r.f.Files, file)
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			r.line(object, device, family, line, fib.Origin{File: file, Line: i + 1})
		}
	}
}

// line reads one line of such a file; if it names no device, the file's device counts.
func (r *ifcfgReader) line(object, device string, f fib.Family, line string, at fib.Origin) {
	args := []string{familyOption(f), object, "add"}
	words := strings.Fields(line)
	if object == "rule" {
		r.f.addRule(append(args, words...), r.names, at, line)
		return
	}
	hasDevice := slices.ContainsFunc(words, func(w string) bool { return w == "dev" || w == "oif" || w == "nexthop" })
	if t, ok := fib.ParseRouteType(words[0]); !hasDevice && (!ok || t.HasDevice()) {
		words = append([]string{"dev", device}, words...)
	}
	if x, ok := r.f.routeOf(device, append(args, words...), r.names, at, line); ok {
		r.f.Routes = append(r.f.Routes, x)
	}
}

// numberedRoutes reads routes that are given as variables.
func (r *ifcfgReader) numberedRoutes(file, device string) {
	c := r.variables(file)
	for _, v := range c.numbered("ADDRESS") {
		n := strings.TrimPrefix(v, "ADDRESS")
		to := c.get(v)
		if length := cmp.Or(c.get("PREFIX"+n), c.get("NETMASK"+n)); length != "" {
			to += "/" + length
		}
		if to == "" {
			r.f.left(c.setting(v).at, c.setting(v).value, "it has no destination")
			continue
		}
		line := masked(to)
		if gw := c.get("GATEWAY" + n); gw != "" {
			line += " via " + gw
		}
		if m := c.get("METRIC" + n); m != "" {
			line += " metric " + m
		}
		r.line("route", device, fib.Inet, line+" "+c.get("OPTIONS"+n), c.setting(v).at)
	}
}
