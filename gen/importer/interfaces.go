package importer

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// InterfacesFile is ifupdown's configuration.
const InterfacesFile = "/etc/network/interfaces"

// HasInterfaces says whether ifupdown configures the host: more than lo.
func HasInterfaces(root rootfs.Root) bool {
	f, err := Interfaces(root, nil)
	return err == nil && len(f.Addresses)+len(f.Routes)+len(f.Rules)+len(f.Links) > 0
}

// Interfaces reads files in the form of interfaces(5), with all that they include: stanzas,
// and the ip(8) commands of their up lines. Without files it reads InterfacesFile.
func Interfaces(root rootfs.Root, names Names, files ...string) (*Found, error) {
	return readInterfaces(&ifupdown{root: root}, names, files)
}

// InterfacesElsewhere is Interfaces for files of a host with another root: it does not
// follow absolute paths that they include, and notes them as left.
func InterfacesElsewhere(root rootfs.Root, names Names, files ...string) (*Found, error) {
	return readInterfaces(&ifupdown{root: root, elsewhere: true}, names, files)
}

func readInterfaces(r *ifupdown, names Names, files []string) (*Found, error) {
	if len(files) == 0 {
		files = []string{InterfacesFile}
	}
	f := &Found{From: "ifupdown's configuration"}
	r.f, r.sh, r.seen, r.logical = f, newShell(f, names), map[string]bool{}, map[string][]string{}
	r.sh.stays = true
	r.down = newShell(&Found{}, names)
	for _, file := range files {
		if err := r.file(file); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		r.end()
	}
	r.finish()
	f.Left = append(f.Left, r.down.f.Left...)
	for _, a := range r.down.f.Addresses {
		f.left(a.Origin, a.text(), "it is added when the link goes down")
	}
	for _, x := range r.down.f.Routes {
		f.left(x.Origin, x.text(), "it is added when the link goes down")
	}
	for _, x := range r.down.f.Rules {
		f.left(x.Origin, x.text(), "it is added when the link goes down")
	}
	r.sh.removed = append(r.sh.removed, r.down.removed...)
	r.sh.finish()
	return f, nil
}

// ifupdown reads interfaces(5) line by line.
type ifupdown struct {
	f    *Found
	root rootfs.Root
	sh   *shell // of the up lines
	down *shell // of the down lines
	seen map[string]bool
	s    *stanza

	stanzas   []*stanza           // the finished ones
	logical   map[string][]string // interfaces by the stanza that `auto` configures them as
	elsewhere bool                // the files belong to a host with another root
}

// stanza is one `iface`.
type stanza struct {
	name, family, method string
	link                 string // the link that the stanza configures
	at                   fib.Origin
	options              []option
	address              netip.Prefix // the first one of method static
}

type option struct {
	name, value, text string
	at                fib.Origin
}

func (r *ifupdown) file(name string) error {
	if r.seen[name] {
		return nil
	}
	r.seen[name] = true
	data, err := r.root.ReadFile(name, maxSize)
	if err != nil {
		return err
	}
	r.f.Files = append(r.f.Files, name)
	lines := strings.Split(string(data), "\n")
	for i := 0; i < len(lines); i++ {
		at := fib.Origin{File: name, Line: i + 1}
		line := strings.TrimSpace(lines[i])
		if strings.HasPrefix(line, "#") {
			continue // a comment does not go on on the next line
		}
		var joined strings.Builder
		for strings.HasSuffix(line, `\`) && i+1 < len(lines) {
			i++
			joined.WriteString(strings.TrimSuffix(line, `\`))
			line = strings.TrimSpace(lines[i])
		}
		joined.WriteString(line)
		line = joined.String()
		if line != "" {
			r.line(at, line)
		}
	}
	return nil
}

func (r *ifupdown) line(at fib.Origin, line string) {
	word, rest := cutWord(line)
	switch {
	case word == "iface":
		r.end()
		w := strings.Fields(rest)
		if len(w) < 1 {
			r.f.left(at, line, "it names no link")
			return
		}
		r.s = &stanza{name: w[0], at: at}
		if len(w) > 2 && w[1] != "inherits" {
			r.s.family, r.s.method = w[1], w[2]
		}
		if i := slices.Index(w, "inherits"); i >= 0 {
			r.f.left(at, line, "what it inherits is not looked up")
		}
	case word == "auto" || strings.HasPrefix(word, "allow-"):
		r.end()
		r.auto(at, line, strings.Fields(rest))
	case word == "no-auto-down" || word == "no-scripts":
		r.end()
	case word == "source":
		r.end()
		for _, p := range strings.Fields(rest) {
			r.source(at, line, p)
		}
	case word == "source-directory":
		r.end()
		if dir, ok := r.included(at, line, rest); ok {
			r.directory(at, line, dir)
		}
	case word == "mapping" || word == "rename" || word == "template":
		r.end()
		r.f.left(at, line, "`%s` depends on the running host", word)
		if word == "mapping" {
			r.s = &stanza{at: at} // its lines follow
		}
	case r.s == nil:
		r.f.left(at, line, "it stands in no stanza")
	default:
		r.s.options = append(r.s.options, option{strings.ReplaceAll(word, "_", "-"), rest, line, at})
	}
}

// auto notes which interfaces are configured as which stanza: "eth0=home" is eth0 as home.
func (r *ifupdown) auto(at fib.Origin, line string, words []string) {
	for _, w := range words {
		iface, name, mapped := strings.Cut(w, "=")
		if !mapped {
			name = iface
		} else if strings.ContainsAny(iface, "/*?[") {
			r.f.left(at, line, "which interfaces %s are depends on the running host", iface)
			continue
		}
		if !slices.Contains(r.logical[name], iface) {
			r.logical[name] = append(r.logical[name], iface)
		}
	}
}

func cutWord(line string) (word, rest string) {
	i := strings.IndexAny(line, " \t")
	if i < 0 {
		return line, ""
	}
	return line[:i], strings.TrimSpace(line[i:])
}

// included returns the path of a file that another includes, relative to the including one.
func (r *ifupdown) included(at fib.Origin, line, name string) (string, bool) {
	switch {
	case !path.IsAbs(name):
		return path.Join(path.Dir(at.File), name), true
	case r.elsewhere:
		r.f.left(at, line, "it is not read: this file is not below --root")
		return "", false
	}
	return name, true
}

// source reads the files that a pattern names.
func (r *ifupdown) source(at fib.Origin, line, pattern string) {
	pattern, ok := r.included(at, line, pattern)
	if !ok {
		return
	}
	files := []string{pattern}
	if strings.ContainsAny(pattern, "*?[") {
		files = r.root.Glob(pattern)
	} else if names, err := r.root.ReadDir(pattern); err == nil && len(names) > 0 {
		r.directory(at, line, pattern)
		return
	}
	for _, name := range files {
		if err := r.file(name); err != nil {
			r.f.left(at, line, "%v", err)
		}
	}
}

// directory reads those files of a directory whose names ifupdown accepts.
func (r *ifupdown) directory(at fib.Origin, line, dir string) {
	names, err := r.root.ReadDir(dir)
	if err != nil {
		r.f.left(at, line, "%v", err)
	}
	for _, n := range names {
		plain := strings.TrimFunc(n, func(c rune) bool {
			return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
		}) == ""
		if !plain {
			continue
		}
		if err := r.file(path.Join(dir, n)); err != nil {
			r.f.left(at, line, "%s: %v", n, err)
		}
	}
}

// end stores the stanza that has just ended.
func (r *ifupdown) end() {
	if r.s != nil && r.s.name != "" {
		r.stanzas = append(r.stanzas, r.s)
	}
	r.s = nil
}

// finish applies the stanzas, once it is known which interfaces are configured as which.
func (r *ifupdown) finish() {
	as := map[string]string{}
	for name, ifaces := range r.logical {
		for _, iface := range ifaces {
			if name != iface {
				as[iface] = name
			}
		}
	}
	for _, s := range r.stanzas {
		ifaces := r.logical[s.name]
		if ifaces == nil && as[s.name] != "" {
			r.f.left(s.at, "iface "+s.name, "it is configured as %s", as[s.name])
			continue
		}
		if ifaces == nil {
			ifaces = []string{s.name}
		}
		for _, iface := range ifaces {
			r.take(s, iface)
		}
	}
}

// take applies a stanza to one interface.
func (r *ifupdown) take(of *stanza, iface string) {
	s := *of
	s.link = withoutLabel(iface)
	if s.link == "lo" && s.method == "loopback" {
		r.commands(iface, &s)
		return
	}
	l := *r.f.link(s.link, s.at)
	switch s.family + " " + s.method {
	case "inet static", "inet6 static", " ": // the last one as ifupdown2 and ifupdown-ng read it
		r.static(&l, &s)
	case "inet dhcp":
		l.Learn.DHCP4 = true
	case "inet6 dhcp":
		l.Learn.DHCP6, l.Learn.RA = true, true
	case "inet6 auto":
		l.Learn.RA = true
	case "inet manual", "inet6 manual", "inet loopback", "inet6 loopback":
	default:
		l.Own = append(l.Own, Left{s.at, fmt.Sprintf("iface %s %s %s", iface, s.family, s.method), "no spec has this method"})
	}
	r.settings(&l, &s)
	*r.f.link(s.link, s.at) = l
	r.commands(iface, &s)
}

// static reads addresses and a gateway. ifupdown uses the first of each, ifupdown2 and
// ifupdown-ng use all addresses.
func (r *ifupdown) static(l *Link, s *stanza) {
	var addresses, gateways []option
	netmask, metric := "", uint32(0)
	for _, o := range s.options {
		switch o.name {
		case "address":
			addresses = append(addresses, o)
		case "netmask":
			netmask = cmp.Or(netmask, o.value)
			if i := slices.IndexFunc(addresses, func(a option) bool { return !strings.Contains(a.value, "/") }); i >= 0 {
				addresses[i].value += "/" + o.value
			}
		case "gateway":
			if o.value != "" && o.value != "none" {
				gateways = append(gateways, o)
			}
		case "metric":
			n, _ := strconv.ParseUint(o.value, 0, 32)
			metric = uint32(n)
		}
	}
	if len(addresses) == 0 && s.method == "static" {
		r.f.left(s.at, "iface "+s.link, "it has no address")
		return
	}
	fits := func(a netip.Addr) bool { return s.family == "" || (s.family == "inet") == a.Is4() }
	var subnets []netip.Prefix
	for _, o := range addresses {
		text, length, _ := strings.Cut(o.value, "/")
		if length = cmp.Or(length, netmask); len(addresses) == 1 {
			length = cmp.Or(netmask, length)
		}
		if length != "" {
			text += "/" + length
		}
		p, ok := parsePrefix(text)
		if !ok || !fits(p.Addr()) {
			r.f.left(o.at, o.text, "%q is not an address", text)
			continue
		}
		if length == "" && s.family != "" { // without one, ifupdown itself has not read it
			p = netip.PrefixFrom(p.Addr(), defaultLength(p.Addr()))
		}
		if subnets = append(subnets, p); !s.address.IsValid() {
			s.address = p
		}
		r.f.Addresses = append(r.f.Addresses, Address{
			Address: fib.Address{Link: l.Name, Prefix: p, Origin: o.at}, Stays: true, Text: o.text,
		})
	}
	have := map[fib.Family]bool{}
	for _, o := range gateways {
		gw, err := netip.ParseAddr(o.value)
		switch {
		case err != nil || gw.Zone() != "" || !fits(gw):
			r.f.left(o.at, o.text, "%q is not a gateway", o.value)
		case have[fib.FamilyOf(gw)]:
			r.f.left(o.at, o.text, "%s has a gateway before it", l.Name)
		default:
			have[fib.FamilyOf(gw)] = true
			r.gateway(l, s, o, gw, metric, subnets)
		}
	}
}

func (r *ifupdown) gateway(l *Link, s *stanza, o option, gw netip.Addr, metric uint32, subnets []netip.Prefix) {
	onlink := gw.Is4() && !slices.ContainsFunc(subnets, func(p netip.Prefix) bool { return p.Contains(gw) })
	x := plainDefault(fib.FamilyOf(gw), fib.TableMain, metric, fib.Nexthop{Link: l.Name, Via: gw, OnLink: onlink})
	x.Link, x.Origin = l.Name, o.at
	if s.family == "inet6" { // ifup runs `ip -6 route replace`, but `route add` for IPv4
		r.f.Routes = slices.DeleteFunc(r.f.Routes, func(o Route) bool {
			same := o.Key() == x.Key()
			if same {
				r.f.left(o.Origin, o.text(), "the gateway of %s replaces it", l.Name)
			}
			return same
		})
	}
	r.f.Routes = append(r.f.Routes, Route{Route: *x, Stays: true, Text: o.text})
}

// defaultLength is the length that ifupdown, and for IPv4 networkd, gives an address: by
// the class of the address.
func defaultLength(a netip.Addr) int {
	switch first := a.AsSlice()[0]; {
	case !a.Is4():
		return 128
	case first < 128:
		return 8
	case first < 192:
		return 16
	case first < 224:
		return 24
	}
	return 32
}

// settings reads the options about the link.
func (r *ifupdown) settings(l *Link, s *stanza) {
	for _, o := range s.options {
		switch o.name {
		case "mtu":
			if n, err := strconv.ParseUint(o.value, 10, 32); err == nil {
				l.MTU = uint32(n)
			}
		case "dns-nameservers", "dns-nameserver":
			l.addDNS(o.at, strings.Fields(o.value)...)
		case "dns-search", "dns-domain":
			l.addDomains(strings.Fields(o.value)...)
		case "metric":
			if n, err := strconv.ParseUint(o.value, 10, 32); err == nil && s.method == "dhcp" {
				l.Learn.Metric = uint32(n)
			}
		case "address", "netmask", "gateway", "broadcast", "network":
			if s.method != "static" && s.method != "" {
				l.Own = append(l.Own, Left{o.at, o.text, "it has no meaning with method " + s.method})
			}
		case "pre-up", "up", "post-up", "down", "pre-down", "post-down":
		default:
			l.Own = append(l.Own, Left{o.at, o.text, "no spec has `" + o.name + "`"})
		}
	}
}

// commands runs the command lines of a stanza, with the variables that ifupdown sets for them.
func (r *ifupdown) commands(iface string, s *stanza) {
	vars := map[string]string{"IFACE": iface, "LOGICAL": s.name, "ADDRFAM": s.family, "METHOD": s.method}
	for _, o := range s.options {
		if !isCommand(o.name) {
			name := strings.Map(func(c rune) rune {
				switch {
				case c == '-', c == '_':
					return '_'
				case c >= 'a' && c <= 'z':
					return c - 'a' + 'A'
				case c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
					return c
				}
				return -1
			}, o.name)
			vars["IF_"+name] = o.value
		}
	}
	if p := s.address; p.IsValid() { // however it is written
		vars["IF_ADDRESS"] = p.Addr().String()
		vars["IF_NETMASK"] = strconv.Itoa(p.Bits())
		if p.Addr().Is4() {
			vars["IF_NETMASK"] = net.IP(net.CIDRMask(p.Bits(), 32)).String()
			if vars["IF_BROADCAST"] == "" || vars["IF_BROADCAST"] == "+" {
				vars["IF_BROADCAST"] = fib.BroadcastOf(p).String()
			}
		}
	}
	for _, o := range s.options {
		if !isCommand(o.name) {
			continue
		}
		sh := r.sh
		vars["MODE"], vars["PHASE"] = "start", map[string]string{"up": "post-up", "down": "pre-down"}[o.name]
		if vars["PHASE"] == "" {
			vars["PHASE"] = o.name
		}
		if strings.HasSuffix(o.name, "down") {
			sh = r.down
			vars["MODE"] = "stop"
		}
		sh.vars, sh.unset, sh.sourced, sh.iface = maps.Clone(vars), map[string]bool{}, false, s.link
		sh.run(o.at, o.value)
	}
}

func isCommand(name string) bool {
	switch name {
	case "pre-up", "up", "post-up", "down", "pre-down", "post-down":
		return true
	}
	return false
}
