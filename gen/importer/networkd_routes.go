package importer

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// route turns a [Route] into arguments of ip(8), so that one parser reads all sources.
func (r *networkReader) route(s section) {
	words := map[string]string{
		"Metric": "metric", "Table": "table", "Scope": "scope", "MTUBytes": "mtu", "TCPAdvertisedMaximumSegmentSize": "advmss",
		"InitialCongestionWindow": "initcwnd", "InitialAdvertisedReceiveWindow": "initrwnd",
	}
	args := []string{"route", "add"}
	to, typ := "default", ""
	var tail []string
	var ways []string
	onlink := false
	learned := false
	inet6 := false
	for _, x := range s.given() {
		switch x.key {
		case "Destination":
			to = masked(x.value)
			inet6 = inet6 || strings.Contains(to, ":")
		case "Gateway":
			learned = strings.HasPrefix(x.value, "_")
			if x.value != "0.0.0.0" && x.value != "::" { // these stand for no gateway
				tail = append(tail, "via", x.value)
			}
			inet6 = inet6 || strings.Contains(x.value, ":")
		case "MultiPathRoute":
			way, ok := r.way(x.value)
			if !ok {
				r.f.left(x.at, x.text(), "it is not understood")
				return
			}
			ways = append(ways, way...)
			inet6 = inet6 || strings.Contains(x.value, ":")
		case "GatewayOnLink", "GatewayOnlink":
			onlink = isTrue(x.value)
		case "PreferredSource":
			tail = append(tail, "src", x.value)
			inet6 = inet6 || strings.Contains(x.value, ":")
		case "Type":
			typ = x.value
		case "Protocol":
		case "Source", "NextHop":
			// Without that key the route would be for other packets, or lead elsewhere.
			r.f.left(x.at, s.texts(), "no route of a spec has `%s=`", x.key)
			return
		default:
			if w := words[x.key]; w != "" {
				tail = append(tail, w, x.value)
				continue
			}
			r.f.left(x.at, x.text(), "no route of a spec has it")
		}
	}
	if len(s.settings) == 0 {
		return
	}
	at, text := s.settings[0].at, s.texts()
	if !slices.ContainsFunc(s.given(), func(x setting) bool {
		return slices.Contains([]string{"Gateway", "Destination", "Source", "PreferredSource", "MultiPathRoute"}, x.key)
	}) {
		r.f.left(at, text, "networkd ignores a route without Gateway=, Destination= and PreferredSource=")
		return
	}
	if learned {
		r.f.left(at, text, "its gateway is learned")
		return
	}
	if typ != "" {
		args = append(args, typ)
	}
	args = append(args, to)
	if t, _ := fib.ParseRouteType(typ); ways == nil && (typ == "" || t.HasDevice()) {
		args = append(args, "dev", r.link.Name)
	}
	args = append(args, tail...)
	switch {
	case onlink && ways != nil:
		for _, w := range ways {
			if args = append(args, w); w == "nexthop" {
				args = append(args, "onlink")
			}
		}
	case ways != nil:
		args = append(args, ways...)
	case onlink:
		args = append(args, "onlink")
	}
	if inet6 {
		args = slices.Insert(args, 0, "-6")
	}
	x, ok := r.f.routeOf(r.link.Name, args, r.names, at, text)
	if !ok {
		return
	}
	if len(x.Nexthops) == 1 && len(ways) > 0 && ways[len(ways)-2] == "weight" {
		// It may be one way of an IPv6 route whose other ways are in other sections.
		n, _ := strconv.ParseUint(ways[len(ways)-1], 0, 16)
		x.Nexthops[0].Weight = uint16(n)
	}
	if !r.f.appendWay(x) { // as the kernel does
		r.f.Routes = append(r.f.Routes, x)
	}
}

// way turns the value of MultiPathRoute=, "ADDRESS[@LINK] [WEIGHT]", into arguments of ip(8).
func (r *networkReader) way(value string) (words []string, ok bool) {
	w := strings.Fields(value)
	if len(w) == 0 || len(w) > 2 {
		return nil, false
	}
	via, link, _ := strings.Cut(w[0], "@")
	words = []string{"nexthop", "via", via, "dev", cmp.Or(link, r.link.Name)}
	if len(w) == 2 {
		words = append(words, "weight", w[1])
	}
	return words, true
}

// given returns the settings that count. An empty one does not, but it clears earlier ways.
func (s section) given() (list []setting) {
	for _, x := range s.settings {
		switch {
		case x.value != "":
			list = append(list, x)
		case x.key == "MultiPathRoute" || x.key == "Gateway":
			list = slices.DeleteFunc(list, func(o setting) bool { return o.key == x.key })
		}
	}
	return list
}

// hexByte writes a number in the form that ip(8) reads for `tos`; ip(8) is left to refuse
// anything else.
func hexByte(s string) string {
	n, err := strconv.ParseUint(s, 0, 8)
	if err != nil {
		return "?" + s
	}
	return strconv.FormatUint(n, 16)
}

// masked masks a destination, as networkd does: the kernel would refuse bits beyond its length.
func masked(to string) string {
	if p, ok := parsePrefix(to); ok {
		return p.Masked().String()
	}
	return to
}

func (s section) texts() string {
	var all []string
	for _, x := range s.settings {
		all = append(all, x.text())
	}
	return strings.Join(all, " ")
}

// rule turns a [RoutingPolicyRule] into arguments of ip(8). Without addresses the rule is
// IPv4's unless Family= says otherwise, and without Table= it looks up main.
func (r *networkReader) rule(s section) {
	words := map[string]string{
		"From": "from", "To": "to", "FirewallMark": "fwmark", "Table": "table", "Priority": "priority", "IncomingInterface": "iif",
		"OutgoingInterface": "oif", "SourcePort": "sport", "DestinationPort": "dport", "IPProtocol": "ipproto", "User": "uidrange",
		"SuppressPrefixLength": "suppress_prefixlength", "SuppressInterfaceGroup": "suppress_ifgroup", "Type": "type", "GoTo": "goto",
	}
	args := []string{"rule", "add"}
	family := ""
	for _, x := range s.given() {
		switch w := words[x.key]; {
		case x.key == "Type" && x.value == "table", x.key == "Type" && x.value == "goto":
		case w != "":
			args = append(args, w, x.value)
			if (w == "from" || w == "to") && strings.Contains(x.value, ":") {
				family = "ipv6"
			}
		case x.key == "Family":
			family = x.value
		case x.key == "InvertRule":
			if isTrue(x.value) {
				args = slices.Insert(args, 2, "not")
			}
		case x.key == "L3MasterDevice":
			if isTrue(x.value) {
				args = append(args, "l3mdev")
			}
		case x.key == "TypeOfService":
			args = append(args, "tos", hexByte(x.value))
		default:
			// Without one of its selectors the rule would select every packet.
			r.f.left(x.at, s.texts(), "no rule of a spec has `%s=`", x.key)
			return
		}
	}
	if len(s.settings) == 0 {
		return
	}
	at, text := s.settings[0].at, s.texts()
	for _, o := range [...]struct {
		option string
		is     bool
	}{{"-4", family != "ipv6"}, {"-6", family == "ipv6" || family == "both"}} {
		if o.is {
			r.f.addRule(append([]string{o.option}, args...), r.names, at, text)
		}
	}
}
