package units_test

import (
	"fmt"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

// readBack reads .network files by what systemd.network(5) says, without any of the code that
// wrote them, and returns a line for each address, route and rule that networkd would be
// asked for.
func readBack(t *testing.T, tree units.Tree) (lines []string) {
	t.Helper()
	for _, f := range tree {
		if !strings.HasSuffix(f.Path, ".network") {
			continue
		}
		name, section, keys := path.Base(f.Path), "", map[string][]string{}
		end := func() {
			switch section {
			case "Network", "Address":
				for _, a := range keys["Address"] {
					lines = append(lines, "address "+a)
				}
			case "Route":
				lines = append(lines, readRoute(keys)...)
			case "RoutingPolicyRule":
				lines = append(lines, readRule(keys)...)
			}
			keys = map[string][]string{}
		}
		for line := range strings.Lines(string(f.Data)) {
			line = strings.TrimSpace(line)
			key, value, ok := strings.Cut(line, "=")
			switch {
			case line == "" || line[0] == '#' || line[0] == ';':
			case line[0] == '[' && strings.HasSuffix(line, "]"):
				end()
				section = line[1 : len(line)-1]
			case !ok || section == "":
				t.Fatalf("%s: %q is no setting", name, line)
			default:
				keys[key] = append(keys[key], value)
			}
		}
		end()
	}
	slices.Sort(lines)
	return lines
}

// value returns the last of a key's values, or otherwise if it has none.
func value(keys map[string][]string, key, otherwise string) string {
	if v := keys[key]; len(v) > 0 {
		return v[len(v)-1]
	}
	return otherwise
}

// split makes a line for each way of an IPv6 route. The kernel, to which each is a route of
// its own, joins them again, so a file may have one of them, with or without a weight of 1.
func split(line, dst string, hops []string) (lines []string) {
	if !strings.Contains(dst, ":") {
		return []string{line + fmt.Sprint(hops)}
	}
	for _, h := range hops {
		words := strings.Fields(h)
		weight := "1"
		if len(words) == 4 {
			weight = words[3]
		}
		lines = append(lines, line+strings.Join(append(words[:2:2], weight), " "))
	}
	if len(hops) == 0 {
		lines = []string{line}
	}
	return lines
}

func readRoute(keys map[string][]string) []string {
	get := func(key string) string { return value(keys, key, "-") }
	dst, hops := get("Destination"), []string{}
	if gateway := value(keys, "Gateway", ""); gateway != "" {
		if hops = append(hops, gateway+" "+value(keys, "GatewayOnLink", "no")); dst == "-" {
			if dst = "0.0.0.0/0"; strings.Contains(gateway, ":") {
				dst = "::/0"
			}
		}
	}
	for _, m := range keys["MultiPathRoute"] {
		via, rest, _ := strings.Cut(m, "@")
		dev, weight, _ := strings.Cut(rest, " ")
		hops = append(hops, via+" no "+dev+" "+weight)
	}
	slices.Sort(hops)
	metric, scope := value(keys, "Metric", "0"), "-"
	if strings.Contains(dst, ":") {
		metric = value(keys, "Metric", "1024")
	} else if scope = value(keys, "Scope", ""); scope == "" {
		// systemd.network(5), Scope=.
		switch kind := value(keys, "Type", "unicast"); {
		case kind == "local":
			scope = "host"
		case kind == "broadcast" || kind == "anycast" || kind == "multicast" || kind == "unicast" && len(hops) == 0:
			scope = "link"
		default:
			scope = "global"
		}
	}
	if strings.HasPrefix(value(keys, "Gateway", ""), "_") {
		return nil // the gateway is learned
	}
	return split(fmt.Sprint("route ", dst, " type ", value(keys, "Type", "unicast"), " table ", value(keys, "Table", "254"), " src ", get("PreferredSource"), " metric ", metric, " scope ", scope,
		" mtu ", get("MTUBytes"), " ", get("TCPAdvertisedMaximumSegmentSize"), " ", get("InitialCongestionWindow"), " ", get("InitialAdvertisedReceiveWindow"), " via "), dst, hops)
}

func meantRoute(s *fib.State, r fib.Route) []string {
	number := func(n uint32) string {
		if n == 0 {
			return "-"
		}
		return fmt.Sprint(n)
	}
	src, scope, hops := "-", "-", []string{}
	if r.Src.IsValid() {
		src = r.Src.String()
	}
	if r.Family == fib.Inet {
		scope = r.Scope.String()
	}
	for _, n := range r.Nexthops {
		onlink := "no"
		if n.OnLink {
			onlink = "yes"
		}
		switch dev, _ := mustLink(s, n.Link).Match.Device(); {
		case n.Weight > 0:
			hops = append(hops, fmt.Sprint(n.Via, " ", onlink, " ", dev, " ", n.Weight))
		case n.Via.IsValid():
			hops = append(hops, n.Via.String()+" "+onlink)
		}
	}
	slices.Sort(hops)
	return split(fmt.Sprint("route ", r.Dst, " type ", r.Type, " table ", r.Table, " src ", src, " metric ", r.Metric, " scope ", scope,
		" mtu ", number(r.MTU), " ", number(r.AdvMSS), " ", number(r.InitCwnd), " ", number(r.InitRwnd), " via "), r.Dst.String(), hops)
}

func mustLink(s *fib.State, name string) fib.Link {
	l, _ := s.Link(name)
	return l
}

var ruleKeys = []string{"From", "To", "FirewallMark", "IncomingInterface", "OutgoingInterface", "TypeOfService", "IPProtocol", "SourcePort", "DestinationPort", "User", "InvertRule", "L3MasterDevice", "Type", "GoTo", "Table", "SuppressPrefixLength", "SuppressInterfaceGroup"}

func readRule(keys map[string][]string) (lines []string) {
	// systemd.network(5), Family=: by the prefixes, else IPv4.
	families := []string{value(keys, "Family", "ipv4")}
	for _, key := range []string{"From", "To"} {
		if p, err := netip.ParsePrefix(value(keys, key, "")); err == nil && p.Addr().Is6() {
			families = []string{"ipv6"}
		}
	}
	if families[0] == "both" {
		families = []string{"ipv4", "ipv6"}
	}
	for _, f := range families {
		line := "rule " + f + " " + value(keys, "Priority", "none")
		for _, k := range ruleKeys {
			if v := value(keys, k, ""); v != "" {
				line += " " + k + "=" + v
			}
		}
		lines = append(lines, line)
	}
	return lines
}

func meantRule(r fib.Rule) string {
	line := "rule " + map[fib.Family]string{fib.Inet: "ipv4", fib.Inet6: "ipv6"}[r.Family] + " " + fmt.Sprint(r.Priority)
	add := func(key string, given bool, v any) {
		if given {
			line += " " + key + "=" + fmt.Sprint(v)
		}
	}
	add("From", r.From.Bits() > 0, r.From)
	add("To", r.To.Bits() > 0, r.To)
	add("FirewallMark", r.Mask != 0, fmt.Sprint(r.Mark, "/", r.Mask))
	add("IncomingInterface", r.IIF != "", r.IIF)
	add("OutgoingInterface", r.OIF != "", r.OIF)
	add("TypeOfService", r.TOS != 0, r.TOS)
	add("IPProtocol", r.IPProto != 0, r.IPProto)
	add("SourcePort", r.SPort.Hi != 0, r.SPort)
	add("DestinationPort", r.DPort.Hi != 0, r.DPort)
	add("User", r.UIDRange.Set, r.UIDRange.Value)
	add("InvertRule", r.Not, "yes")
	add("L3MasterDevice", r.L3MDev, "yes")
	add("Type", !r.L3MDev && r.Action != fib.Lookup && r.Action != fib.Goto, r.Action)
	add("GoTo", r.Action == fib.Goto, r.Goto)
	add("Table", r.Action == fib.Lookup && !r.L3MDev, r.Table)
	add("SuppressPrefixLength", r.SuppressPrefixLength.Set, r.SuppressPrefixLength.Value)
	add("SuppressInterfaceGroup", r.SuppressIfGroup.Set, r.SuppressIfGroup.Value)
	return line
}

// FuzzRendered checks that networkd reads in the files what the State means: all of it, and
// nothing else.
func FuzzRendered(f *testing.F) {
	files, _ := filepath.Glob(examples + "/*/root/etc/uplink/uplink.toml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	cases, _ := filepath.Glob("../gen/testdata/*.txtar")
	for _, file := range cases {
		a, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if len(a.Files) == 2 && a.Files[1].Name == "state" {
			f.Add(a.Files[0].Data)
		}
	}
	version, err := units.ParseVersion("262")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := spec.Parse("f", data)
		if err != nil || s.Backend == spec.Netlink || slices.ContainsFunc(s.Uplinks, func(u spec.Uplink) bool { return u.PolicyOnly }) {
			return // which drop-ins are rendered depends on others' files
		}
		state, err := gen.Compile(s)
		if err != nil {
			return
		}
		tree, _, err := units.Render(state, units.Target{Version: version})
		if err != nil {
			return // networkd cannot express it, and Render refuses it by name
		}
		var meant []string
		for _, a := range state.Addresses {
			meant = append(meant, "address "+a.Prefix.String())
		}
		for _, r := range state.Routes {
			meant = append(meant, meantRoute(&state, r)...)
		}
		for _, r := range state.Rules {
			meant = append(meant, meantRule(r))
		}
		slices.Sort(meant)
		if read := readBack(t, tree); !slices.Equal(read, meant) {
			t.Errorf("networkd reads\n%s\nmeant is\n%s", only(read, meant), only(meant, read))
		}
	})
}

// only returns what is in a and not in b.
func only(a, b []string) string {
	var list []string
	for _, l := range a {
		if !slices.Contains(b, l) {
			list = append(list, l)
		}
	}
	return strings.Join(list, "\n")
}
