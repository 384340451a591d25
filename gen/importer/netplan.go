package importer

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// netplanFiles returns netplan's files in the order in which they are merged: by name. A
// file in /run or /etc replaces one of the same name (netplan(5)).
func netplanFiles(root rootfs.Root) (files []string) {
	by := map[string]string{}
	for _, dir := range []string{"/lib/netplan", "/etc/netplan", "/run/netplan"} {
		names, _ := root.ReadDir(dir)
		for _, n := range names {
			if strings.HasSuffix(n, ".yaml") {
				by[n] = path.Join(dir, n)
			}
		}
	}
	for _, f := range by {
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(path.Base(a), path.Base(b)) })
	return files
}

// HasNetplan says whether netplan has files.
func HasNetplan(root rootfs.Root) bool { return len(netplanFiles(root)) > 0 }

// Netplan reads netplan's YAML, merged in the order of the files; without files it
// reads all of the host's.
func Netplan(root rootfs.Root, names Names, files ...string) (*Found, error) {
	f := &Found{From: "netplan's YAML", Tables: names.Tables()}
	if len(files) == 0 {
		files = netplanFiles(root)
	}
	merged := &value{}
	for _, name := range files {
		data, err := root.ReadFile(name, maxSize)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		f.Files = append(f.Files, name)
		var doc yaml.Node
		if err := yaml.Unmarshal(data, &doc); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(doc.Content) > 0 && doc.Content[0].Kind != yaml.MappingNode {
			f.left(fib.Origin{File: name}, "the whole file", "no YAML of netplan: it has no keys")
		} else if len(doc.Content) > 0 {
			m := merger{file: name}
			m.merge(merged, doc.Content[0], 0)
			if m.aliased > maxAliased {
				return nil, fmt.Errorf("%s: its aliases come to more than %d values", name, maxAliased)
			}
		}
	}
	for _, e := range merged.entries() {
		if e.key != "network" {
			f.left(e.at, e.text(), "netplan's keys are below `network`")
		}
	}
	n := &netplanReader{f: f, names: names, vrfs: map[string]string{}}
	for _, d := range merged.get("network").get("vrfs").entries() {
		n.vrfs[d.key] = d.get("table").str()
	}
	for _, e := range merged.get("network").entries() {
		switch e.key {
		case "version", "renderer":
		case "ethernets", "bonds", "bridges", "vlans", "wifis", "modems", "tunnels", "dummy-devices", "vrfs", "virtual-ethernets":
			for _, d := range e.entries() {
				n.device(e.key, d)
			}
		default:
			f.left(e.at, e.key, "not of a link")
		}
	}
	return f, nil
}

// value is a part of netplan's YAML after merging: mappings are merged key by key,
// sequences are appended, anything else comes from the last file.
type value struct {
	key    string
	at     fib.Origin
	scalar string
	keys   []*value // of a mapping, in order
	items  []*value // of a sequence
}

// maxDepth bounds the depth: netplan's own YAML has no more than seven levels.
const maxDepth = 16

// maxAliased bounds how many values aliases stand for: an alias of aliases multiplies them.
const maxAliased = 1 << 18

// merger merges one file into those before it.
type merger struct {
	file    string
	inAlias bool
	aliased int // values that an alias stands for
}

func (m *merger) merge(v *value, n *yaml.Node, depth int) {
	if m.inAlias {
		m.aliased++
	}
	if depth > maxDepth || m.aliased > maxAliased {
		return
	}
	v.at = fib.Origin{File: m.file, Line: n.Line}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i].Value
			at := slices.IndexFunc(v.keys, func(o *value) bool { return o.key == k })
			if at < 0 {
				at = len(v.keys)
				v.keys = append(v.keys, &value{key: k})
			}
			m.merge(v.keys[at], n.Content[i+1], depth+1)
			v.keys[at].at = fib.Origin{File: m.file, Line: n.Content[i].Line}
		}
	case yaml.SequenceNode:
		for _, c := range n.Content {
			item := &value{}
			m.merge(item, c, depth+1)
			v.items = append(v.items, item)
		}
	case yaml.ScalarNode:
		v.scalar = n.Value
	case yaml.AliasNode:
		was := m.inAlias
		m.inAlias = true
		m.merge(v, n.Alias, depth+1)
		m.inAlias = was
		v.at = fib.Origin{File: m.file, Line: n.Line}
	}
}

func (v *value) get(key string) *value {
	if v != nil {
		for _, k := range v.keys {
			if k.key == key {
				return k
			}
		}
	}
	return nil
}

func (v *value) entries() []*value {
	if v == nil {
		return nil
	}
	return v.keys
}

func (v *value) list() []*value {
	if v == nil {
		return nil
	}
	return v.items
}

func (v *value) str() string {
	if v == nil {
		return ""
	}
	return v.scalar
}

// text is a value in one line.
func (v *value) text() string {
	s := v.scalar
	switch {
	case len(v.keys) > 0:
		var all []string
		for _, k := range v.keys {
			all = append(all, k.text())
		}
		s = "{" + strings.Join(all, ", ") + "}"
	case len(v.items) > 0:
		var all []string
		for _, i := range v.items {
			all = append(all, i.text())
		}
		s = "[" + strings.Join(all, ", ") + "]"
	}
	if v.key != "" {
		s = v.key + ": " + s
	}
	return oneLine(s)
}

type netplanReader struct {
	f     *Found
	names Names
	vrfs  map[string]string // the tables of VRFs; a VRF's routes and rules are for its table
}

func (n *netplanReader) device(kind string, d *value) {
	name := d.key
	l := *n.f.link(name, d.at)
	if m := d.get("match"); m != nil {
		l.Match = fib.Match{Name: m.get("name").str(), MAC: strings.ToLower(m.get("macaddress").str()), Driver: m.get("driver").str()}
		for _, i := range m.get("driver").list() {
			n.f.left(i.at, d.key+": driver: "+i.text(), "a spec matches one driver")
		}
		if to := d.get("set-name").str(); to != "" {
			l.Own = append(l.Own, Left{d.get("set-name").at, d.get("set-name").text(), "a spec gives no names to links"})
			l.Match = fib.Match{Name: to, MAC: l.Match.MAC}
		}
	}
	if kind != "ethernets" {
		l.Own = append(l.Own, Left{d.at, oneLine(kind + ": " + name), "a spec makes no links"})
	}
	for _, k := range d.entries() {
		switch k.key {
		case "match", "set-name", "renderer":
		case "dhcp4":
			l.Learn.DHCP4 = isTrue(k.scalar)
		case "dhcp6":
			l.Learn.DHCP6 = isTrue(k.scalar)
		case "accept-ra":
			l.Learn.RA = isTrue(k.scalar)
		case "dhcp4-overrides", "dhcp6-overrides":
			n.overrides(&l, k)
		case "mtu":
			mtu, _ := strconv.ParseUint(k.scalar, 10, 32)
			l.MTU = uint32(mtu)
		case "addresses":
			for _, a := range k.list() {
				n.address(name, a)
			}
		case "gateway4", "gateway6":
			n.route(name, k.at, k.text(), []string{"default", "via", k.scalar})
		case "nameservers":
			for _, a := range k.get("addresses").list() {
				l.addDNS(a.at, a.scalar)
			}
			for _, s := range k.get("search").list() {
				l.addDomains(s.scalar)
			}
		case "routes":
			for _, r := range k.list() {
				n.routes(name, r)
			}
		case "routing-policy":
			for _, r := range k.list() {
				n.rule(name, r)
			}
		default:
			l.Own = append(l.Own, Left{k.at, oneLine(name + ": " + k.text()), "no spec has it"})
		}
	}
	linkLocal := d.get("link-local")
	hasIPv6 := linkLocal == nil || slices.ContainsFunc(linkLocal.list(), func(v *value) bool { return v.scalar == "ipv6" })
	if d.get("accept-ra") == nil && hasIPv6 && kind != "vrfs" && kind != "dummy-devices" {
		l.Learn.RA, l.DefaultRA = l.Learn.DHCP6, !l.Learn.DHCP6 // as networkd does
	}
	*n.f.link(name, d.at) = l
}

// overrides reads what to do with what DHCP offers.
func (n *netplanReader) overrides(l *Link, v *value) {
	for _, k := range v.entries() {
		switch k.key {
		case "route-metric":
			m, _ := strconv.ParseUint(k.scalar, 10, 32)
			l.Learn.Metric = uint32(m)
		default:
			l.Own = append(l.Own, Left{k.at, oneLine(v.key + ": " + k.text()), "no spec has it"})
		}
	}
}

// address reads "192.0.2.10/24", or a mapping of an address to its options.
func (n *netplanReader) address(link string, v *value) {
	s := v.scalar
	if len(v.keys) == 1 {
		s = v.keys[0].key
		n.f.left(v.at, v.text(), "only the address is carried over")
	}
	p, ok := parsePrefix(s)
	if !ok {
		n.f.left(v.at, v.text(), "no address")
		return
	}
	n.f.Addresses = append(n.f.Addresses, Address{Address: fib.Address{Link: link, Prefix: p, Origin: v.at}, Stays: true, Text: v.text()})
}

// routes turns one of `routes` into arguments of ip(8), so that one parser reads all sources.
func (n *netplanReader) routes(link string, v *value) {
	to, typ := "default", ""
	var tail []string
	inet6, hasTable := false, false
	for _, k := range v.entries() {
		switch k.key {
		case "to":
			to = masked(k.scalar)
		case "type":
			typ = k.scalar
		case "on-link":
			if isTrue(k.scalar) {
				tail = append(tail, "onlink")
			}
		case "via", "metric", "table", "scope", "mtu":
			if k.key == "via" && (k.scalar == "0.0.0.0" || k.scalar == "::") { // these stand for no gateway
				inet6 = inet6 || k.scalar == "::"
				continue
			}
			hasTable = hasTable || k.key == "table"
			tail = append(tail, k.key, k.scalar)
		case "from":
			tail = append(tail, "src", k.scalar)
		case "congestion-window":
			tail = append(tail, "initcwnd", k.scalar)
		case "advertised-receive-window":
			tail = append(tail, "initrwnd", k.scalar)
		case "advertised-mss":
			tail = append(tail, "advmss", k.scalar)
		default:
			n.f.left(k.at, k.text(), "no route of a spec has it")
		}
	}
	if t := n.vrfs[link]; t != "" && !hasTable {
		tail = append(tail, "table", t)
	}
	if inet6 && to == "default" {
		to = "::/0"
	}
	args := append([]string{to}, tail...)
	if typ != "" {
		args = slices.Insert(args, 0, typ)
	}
	n.route(link, v.at, v.text(), args)
}

func (n *netplanReader) route(link string, at fib.Origin, text string, args []string) {
	family := "-4"
	for _, a := range args {
		if strings.Contains(a, ":") {
			family = "-6"
		}
	}
	full := append([]string{family, "route", "add"}, args...)
	if t, ok := fib.ParseRouteType(args[0]); !ok || t.HasDevice() {
		full = append(full, "dev", link)
	}
	if x, ok := n.f.routeOf(link, full, n.names, at, text); ok {
		n.f.Routes = append(n.f.Routes, x)
	}
}

// rule reads one of `routing-policy`.
func (n *netplanReader) rule(link string, v *value) {
	args := []string{"-4", "rule", "add"}
	if t := n.vrfs[link]; t != "" && v.get("table") == nil {
		args = append(args, "table", t)
	}
	for _, k := range v.entries() {
		switch k.key {
		case "from", "to", "table", "priority":
			args = append(args, k.key, k.scalar)
			if strings.Contains(k.scalar, ":") {
				args[0] = "-6"
			}
		case "mark":
			args = append(args, "fwmark", k.scalar)
		case "type-of-service":
			args = append(args, "tos", hexByte(k.scalar))
		default:
			// Without one of its selectors the rule would select every packet.
			n.f.left(k.at, v.text(), "`%s` is not understood", k.key)
			return
		}
	}
	n.f.addRule(args, n.names, v.at, v.text())
}
