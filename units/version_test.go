package units

import (
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

var (
	newest   = Version{Major: 999}
	allOnes  = uint32(4294967295)
	signBit  = uint32(2147483648)
	testLine = fib.Origin{File: "/etc/uplink/uplink.toml", Line: 7}
)

func oneLink(change func(*fib.State)) fib.State {
	s := fib.State{
		Tables: []fib.Table{{ID: 100, Name: "a"}},
		Links:  []fib.Link{{Name: "a", Match: fib.Match{Name: "eth0"}, Uplinks: []fib.Named{{Name: "a", Origin: testLine}}}},
	}
	change(&s)
	return s
}

func withLink(change func(*fib.Link)) fib.State {
	return oneLink(func(s *fib.State) { change(&s.Links[0]) })
}

func withRoute(change func(*fib.Route)) fib.State {
	return oneLink(func(s *fib.State) {
		r := fib.Route{
			Family: fib.Inet, Table: 100, Dst: netip.MustParsePrefix("203.0.113.0/24"), Type: fib.Unicast,
			Nexthops: []fib.Nexthop{{Link: "a", Via: netip.MustParseAddr("192.0.2.1")}}, Link: "a", Origin: testLine,
		}
		change(&r)
		s.Routes = []fib.Route{r}
	})
}

func withRule(change func(*fib.Rule)) fib.State {
	return oneLink(func(s *fib.State) {
		r := fib.Rule{Family: fib.Inet, Priority: 5, From: netip.MustParsePrefix("192.0.2.10/32"), Action: fib.Lookup, Table: 100, Link: "a", Origin: testLine}
		change(&r)
		s.Rules = []fib.Rule{r}
	})
}

// everything is a State in which nothing is left out, with the largest numbers.
func everything() fib.State {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	from := []fib.Named{{Name: "x", Origin: testLine}}
	s := fib.State{
		Tables: []fib.Table{{ID: 100, Name: "a"}, {ID: allOnes, Name: "b"}},
		Links: []fib.Link{
			{
				Name: "a", Uplinks: from, Match: fib.Match{Name: "eth0", MAC: "02:00:00:00:00:01", Driver: "igb", Path: "pci-*"},
				MTU: 1500, DNS: []netip.Addr{addr("192.0.2.53")}, Domains: []string{"example.net"}, RequiredForOnline: "routable",
				Learn: fib.Learn{DHCP4: true, DHCP6: true, RA: true, Table: signBit, DefaultRoute: true, Metric: signBit},
			},
			{Name: "b", Uplinks: from, Match: fib.Match{MAC: "02:00:00:00:00:02"}, Learn: fib.Learn{DHCP4: true, RA: true, Table: allOnes}},
			{Name: "c", Uplinks: from, Match: fib.Match{Name: "eth2"}, Learn: fib.Learn{DHCP6: true, Table: allOnes}},
		},
		Addresses: []fib.Address{{Link: "a", Prefix: prefix("192.0.2.10/24")}},
		Routes: []fib.Route{
			{
				Family: fib.Inet, Table: allOnes, Dst: prefix("203.0.113.0/24"), Type: fib.Unicast, Metric: allOnes, Src: addr("192.0.2.10"),
				MTU: 1400, AdvMSS: 1360, InitCwnd: 20, InitRwnd: 30, Link: "a",
				Nexthops: []fib.Nexthop{{Link: "a", Via: addr("192.0.2.1"), OnLink: true}},
			},
			{
				Family: fib.Inet, Table: signBit, Dst: prefix("198.51.100.0/24"), Type: fib.Unicast, Link: "a",
				Nexthops: []fib.Nexthop{{Link: "a", Via: addr("192.0.2.1"), Weight: 256}, {Link: "c", Via: addr("192.0.2.2"), Weight: 1}},
			},
			{Family: fib.Inet, Table: 100, Dst: fib.Inet.Any(), Type: fib.Unicast, Scope: fib.ScopeLink, Nexthops: []fib.Nexthop{{Link: "a"}}, Link: "a"},
			{Family: fib.Inet6, Table: 100, Dst: fib.Inet6.Any(), Type: fib.RouteUnreachable, Metric: allOnes},
		},
		Rules: []fib.Rule{
			{
				Family: fib.Inet, Priority: allOnes, Not: true, From: prefix("192.0.2.0/24"), To: prefix("203.0.113.0/24"), Mark: signBit, Mask: allOnes,
				IIF: "eth0", OIF: "eth2", TOS: 16, IPProto: 6, SPort: fib.Range[uint16]{Lo: 1000, Hi: 2000}, DPort: fib.Range[uint16]{Lo: 65535, Hi: 65535},
				UIDRange: fib.Some(fib.Range[uint32]{Lo: signBit, Hi: allOnes - 1}), Action: fib.Lookup, Table: allOnes,
				SuppressPrefixLength: fib.Some[uint32](0), SuppressIfGroup: fib.Some(signBit), Link: "a",
			},
			{Family: fib.Inet6, Priority: signBit, Action: fib.Prohibit},
			{Family: fib.Inet, Priority: signBit, Action: fib.Goto, Goto: allOnes, Link: "a"},
			{Family: fib.Inet, Priority: 7, Action: fib.Nop, Link: "a"},
			{Family: fib.Inet6, Priority: 8, Action: fib.Lookup, L3MDev: true, Link: "a"},
		},
	}
	return s
}

// keysOf lists the keys of a tree as "Section.Key", as the version table does.
func keysOf(tree Tree) map[string]bool {
	keys := map[string]bool{}
	for _, f := range tree {
		section := ""
		for line := range strings.Lines(string(f.Data)) {
			if strings.HasPrefix(line, "[") {
				section = strings.Trim(line, "[]\n")
				if f.Path == networkdConf {
					section = "networkd.conf/" + section
				}
			} else if key, _, ok := strings.Cut(line, "="); ok && section != "" {
				keys[section+"."+key] = true
			}
		}
	}
	return keys
}

func textOf(tree Tree) string {
	var b strings.Builder
	for _, f := range tree {
		b.WriteString(f.Path + "\n" + string(f.Data))
	}
	return b.String()
}

func TestEveryKeyThatIsWrittenIsInTheVersionTableAndTheOtherWayRound(t *testing.T) {
	tree, _, err := Render(everything(), Target{Version: newest, Root: rootfs.At(t.TempDir()), KeepForeign: true})
	if err != nil {
		t.Fatal(err)
	}
	written := keysOf(tree)
	written["Match.Type"] = true // only where Kind= is not known: see below
	for _, key := range slices.Sorted(maps.Keys(written)) {
		if since[key] == (Version{}) {
			t.Errorf("%s is written and not in the table", key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(since)) {
		if !written[key] {
			t.Errorf("%s is in the table and never written", key)
		}
	}
}

// A file must not have what its version does not know: networkd ignores such a
// key, and applies the rest.
func TestNoKeyIsWrittenForASystemdThatDoesNotKnowIt(t *testing.T) {
	states := map[string]fib.State{"everything": everything()}
	for _, part := range []string{"247", "248", "249", "250", "251", "252", "255", "256", "257", "260", "261"} {
		v, err := ParseVersion(part)
		if err != nil {
			t.Fatal(err)
		}
		for name, s := range states {
			tree, _, err := Render(s, Target{Version: v, Root: rootfs.At(t.TempDir())})
			if err == nil {
				for key := range keysOf(tree) {
					if v.Before(since[key]) {
						t.Errorf("%s for %s: %s is written", name, v, key)
					}
				}
				continue
			}
			if tree != nil {
				t.Errorf("%s for %s: files beside the refusal", name, v)
			}
			joined, ok := err.(interface{ Unwrap() []error })
			if !ok {
				t.Fatalf("%T", err)
			}
			for _, e := range joined.Unwrap() {
				var u *UnsupportedError
				var link *LinkError
				if errors.As(e, &link) && v.Major < awaitsGateways6Since {
					continue
				}
				if !errors.As(e, &u) || !v.Before(u.Since) || u.Version != v {
					t.Errorf("%s for %s: %v", name, v, e)
				}
			}
		}
	}
}

func TestWhatASystemdCannotExpressIsRefusedByNameOrLowered(t *testing.T) {
	mac := func(l *fib.Link) { l.Match = fib.Match{MAC: "02:00:00:00:00:01"} }
	dhcp6 := func(l *fib.Link) { l.Learn = fib.Learn{DHCP6: true, Table: 100} }
	ra := func(l *fib.Link) { l.Learn = fib.Learn{RA: true, Table: 100, DefaultRoute: true, Metric: 50} }
	zero := func(r *fib.Rule) { r.Mark, r.Mask = 0, 255 }
	tests := []struct {
		name    string
		state   fib.State
		version Version
		refused string // what the refusal names; "" for none
		has     string // a line that is then written
		lacks   string // and one that is not
	}{
		{"goto before 257", withRule(func(r *fib.Rule) { r.Action, r.Goto = fib.Goto, 9 }), Version{256, 9}, "GoTo= needs systemd 257", "", ""},
		{"goto from 257 on", withRule(func(r *fib.Rule) { r.Action, r.Goto = fib.Goto, 9 }), Version{257, 0}, "", "GoTo=9", "Table="},
		{"l3mdev before 256", withRule(func(r *fib.Rule) { r.L3MDev = true }), Version{255, 0}, "L3MasterDevice= needs systemd 256", "", ""},
		{"l3mdev from 256 on", withRule(func(r *fib.Rule) { r.L3MDev = true }), Version{256, 0}, "", "L3MasterDevice=yes", "Table="},
		{"a rule that refuses before 248", withRule(func(r *fib.Rule) { r.Action = fib.Unreachable }), Version{247, 3}, "Type= needs systemd 248", "", ""},
		{"a rule that refuses from 248 on", withRule(func(r *fib.Rule) { r.Action = fib.Unreachable }), Version{248, 0}, "", "Type=unreachable", "Table="},
		{"blackhole", withRule(func(r *fib.Rule) { r.Action = fib.Blackhole }), Version{252, 0}, "", "Type=blackhole", "Table="},
		{"nop before 257", withRule(func(r *fib.Rule) { r.Action = fib.Nop }), Version{252, 0}, "Type=nop needs systemd 257", "", ""},
		{"nop from 257 on", withRule(func(r *fib.Rule) { r.Action = fib.Nop }), Version{257, 0}, "", "Type=nop", ""},
		{"suppress-ifgroup before 250", withRule(func(r *fib.Rule) { r.SuppressIfGroup = fib.Some[uint32](0) }), Version{249, 0}, "SuppressInterfaceGroup= needs systemd 250", "", ""},
		{"suppress-ifgroup from 250 on", withRule(func(r *fib.Rule) { r.SuppressIfGroup = fib.Some[uint32](0) }), Version{250, 0}, "", "SuppressInterfaceGroup=0", ""},
		{"a mark of 0 on 247", withRule(zero), Version{247, 0}, "FirewallMark=0/255 needs systemd 257.13", "", ""},
		{"a mark of 0 on a 257 of unknown point release", withRule(zero), Version{257, 0}, "FirewallMark=0/255 needs systemd 257.13", "", ""},
		{"a mark of 0 just before the fix", withRule(zero), Version{257, 12}, "FirewallMark=0/255 needs systemd 257.13", "", ""},
		{"a mark of 0 with the fix", withRule(zero), Version{257, 13}, "", "FirewallMark=0/255", ""},
		{"a mark of 0 later", withRule(zero), Version{262, 0}, "", "FirewallMark=0/255", ""},
		{"any other mark", withRule(func(r *fib.Rule) { r.Mark, r.Mask = 1, 255 }), Version{247, 0}, "", "FirewallMark=1/255", ""},
		{"a source in the lower half before 249", withRule(func(r *fib.Rule) { r.From = netip.MustParsePrefix("0.0.0.0/1") }), Version{248, 0}, "From=0.0.0.0/1 needs systemd 249", "", ""},
		{"a source in the lower half from 249 on", withRule(func(r *fib.Rule) { r.From = netip.MustParsePrefix("0.0.0.0/1") }), Version{249, 0}, "", "From=0.0.0.0/1", ""},
		{"a destination in the lower half before 249", withRule(func(r *fib.Rule) { r.To = netip.MustParsePrefix("0.0.0.0/1") }), Version{247, 0}, "To=0.0.0.0/1 needs systemd 249", "", ""},
		{"advmss before 248", withRoute(func(r *fib.Route) { r.AdvMSS = 1360 }), Version{247, 0}, "TCPAdvertisedMaximumSegmentSize= needs systemd 248", "", ""},
		{"advmss from 248 on", withRoute(func(r *fib.Route) { r.AdvMSS = 1360 }), Version{248, 0}, "", "TCPAdvertisedMaximumSegmentSize=1360", ""},
		{"a metric of learned routes before 249", withLink(ra), Version{248, 0}, "RouteMetric= needs systemd 249", "", ""},
		{"a metric of learned routes from 249 on", withLink(ra), Version{249, 0}, "", "RouteMetric=50", ""},
		{"a link by its MAC before 252 goes without Kind", withLink(mac), Version{251, 0}, "", "Type=!vlan bridge bond team macvlan macvtap ipvlan ipvtap macsec hsr dsa vrf", "Kind="},
		{"a link by its MAC from 252 on goes by Kind", withLink(mac), Version{252, 0}, "", "Kind=!vlan bridge bond team macvlan macvtap ipvlan ipvtap macsec hsr dsa vrf", "Type="},
		{"a link by its name needs neither", withLink(func(*fib.Link) {}), Version{252, 0}, "", "Name=eth0", "Kind="},
		{"networkd's table names before 248 are left out", withLink(func(*fib.Link) {}), Version{247, 0}, "", "Name=eth0", "RouteTable="},
		{"networkd's table names from 248 on", withLink(func(*fib.Link) {}), Version{248, 0}, "", "RouteTable=a:100", ""},
		{"DHCPv6 before 261 has no table", withLink(dhcp6), Version{260, 0}, "", "WithoutRA=solicit", "RouteTable=100"},
		{"DHCPv6 from 261 on has", withLink(dhcp6), Version{261, 0}, "", "RouteTable=100", ""},
		{"DHCPv6 beside advertisements before 261 has no section", withLink(func(l *fib.Link) { l.Learn = fib.Learn{DHCP6: true, RA: true, Table: 100} }), Version{260, 0}, "", "DHCP=ipv6", "[DHCPv6]"},
		{"a default route that is learned goes to both tables", withLink(func(l *fib.Link) { l.Learn = fib.Learn{DHCP4: true, Table: 100, DefaultRoute: true} }), Version{247, 0}, "", "Gateway=_dhcp4", "RouteTable=100"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tree, _, err := Render(tt.state, Target{Version: tt.version, Root: rootfs.At(t.TempDir())})
			if tt.refused != "" {
				var u *UnsupportedError
				if !errors.As(err, &u) || !strings.Contains(err.Error(), tt.refused) || tree != nil {
					t.Fatalf("got %v, want a refusal with %q", err, tt.refused)
				}
				if !strings.HasPrefix(err.Error(), "/etc/uplink/uplink.toml:7: ") || strings.Contains(err.Error(), "\n") {
					t.Errorf("one line with its place is wanted: %q", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := "\n" + textOf(tree)
			if !strings.Contains(got, "\n"+tt.has+"\n") {
				t.Errorf("no line %q in:\n%s", tt.has, got)
			}
			if tt.lacks != "" && strings.Contains(got, "\n"+tt.lacks) {
				t.Errorf("a line %q in:\n%s", tt.lacks, got)
			}
		})
	}
}

// networkd 247 fails a link for its rules once it has a lease.
func TestRulesBesideDHCPv4AreRefusedBefore248(t *testing.T) {
	for _, tt := range []struct {
		learn   fib.Learn
		rule    bool
		version Version
		refused bool
	}{
		{fib.Learn{DHCP4: true, Table: 100}, true, Version{247, 0}, true},
		{fib.Learn{DHCP4: true, Table: 100}, true, Version{248, 0}, false},
		{fib.Learn{DHCP4: true, Table: 100}, false, Version{247, 0}, false},
		{fib.Learn{RA: true, Table: 100}, true, Version{247, 0}, false},
		{fib.Learn{}, true, Version{247, 0}, false},
	} {
		origin := fib.Origin{File: "/etc/uplink/uplink.toml", Line: 7}
		state := fib.State{Links: []fib.Link{{Name: "a", Match: fib.Match{Name: "eth0"}, Learn: tt.learn, Uplinks: []fib.Named{{Name: "a", Origin: origin}}}}}
		if tt.rule {
			state.Rules = []fib.Rule{{Origin: origin, Link: "a", Family: fib.Inet, Priority: 1, Mark: 1, Mask: 255, Action: fib.Lookup, Table: 100}}
		}
		_, _, err := Render(state, Target{Version: tt.version, Root: rootfs.At(t.TempDir())})
		var rules *LinkError
		if errors.As(err, &rules) != tt.refused || !tt.refused && err != nil {
			t.Errorf("%+v, a rule %t, systemd %s: %v", tt.learn, tt.rule, tt.version, err)
		}
		if tt.refused && !strings.HasPrefix(err.Error(), "/etc/uplink/uplink.toml:7: uplink `a` has a rule ") {
			t.Errorf("it is not said where: %v", err)
		}
	}
}

func TestAllThatIsRefusedIsSaidAtOnce(t *testing.T) {
	_, _, err := Render(everything(), Target{Version: Oldest, Root: rootfs.At(t.TempDir())})
	if err == nil {
		t.Fatal("not refused")
	}
	for _, key := range []string{"TCPAdvertisedMaximumSegmentSize=", "SuppressInterfaceGroup=", "Type=", "GoTo=", "L3MasterDevice=", "Type=nop", "RouteMetric="} {
		if !strings.Contains(err.Error(), ": "+key+" needs systemd ") {
			t.Errorf("%s is not named in:\n%v", key, err)
		}
	}
}

func TestNumbersFromTwoToThe31AreUnsigned(t *testing.T) {
	tree, _, err := Render(everything(), Target{Version: newest, Root: rootfs.At(t.TempDir()), KeepForeign: true})
	if err != nil {
		t.Fatal(err)
	}
	got := textOf(tree)
	for _, line := range []string{
		"Table=4294967295", "Table=2147483648", "Metric=4294967295", "Priority=4294967295", "Priority=2147483648", "FirewallMark=2147483648/4294967295",
		"User=2147483648-4294967294", "GoTo=4294967295", "SuppressInterfaceGroup=2147483648", "RouteMetric=2147483648", "RouteTable=a:100 b:4294967295",
		"DestinationPort=65535", "MultiPathRoute=192.0.2.1@eth0 256",
	} {
		if !strings.Contains(got, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	if strings.Contains(got, "=-") || strings.Contains(got, "/-") {
		t.Errorf("a negative number in:\n%s", got)
	}
}

func TestEveryRuleHasAPriorityAndAFamilyThatNeedNotBeGuessed(t *testing.T) {
	tree, _, err := Render(everything(), Target{Version: newest, Root: rootfs.At(t.TempDir()), KeepForeign: true})
	if err != nil {
		t.Fatal(err)
	}
	for section := range strings.SplitSeq(textOf(tree), "\n\n") {
		if !strings.HasPrefix(section, "[RoutingPolicyRule]") {
			continue
		}
		if !strings.Contains(section, "\nPriority=") {
			t.Errorf("no Priority=:\n%s", section)
		}
		family, address := strings.Contains(section, "\nFamily="), strings.Contains(section, "\nFrom=") || strings.Contains(section, "\nTo=")
		if family == address {
			t.Errorf("Family= is wanted without an address, and only there:\n%s", section)
		}
		if strings.Contains(section, "Family=both") {
			t.Errorf("networkd drops it beside an address:\n%s", section)
		}
	}
}

func TestAMultipathRouteNeedsTheNamesOfItsLinks(t *testing.T) {
	s := everything()
	s.Links[0].Match.Name = "eth*"
	_, _, err := Render(s, Target{Version: newest, Root: rootfs.At(t.TempDir())})
	var nameless *MultipathError
	if !errors.As(err, &nameless) || nameless.Link != "a" || !strings.Contains(err.Error(), "give `interface` without a pattern") {
		t.Errorf("got %v", err)
	}
}

func TestAStateWithoutLinksRendersToNothing(t *testing.T) {
	tree, notes, err := Render(fib.State{}, Target{Version: newest, Root: rootfs.At(t.TempDir())})
	if len(tree) != 0 || len(notes) != 0 || err != nil {
		t.Errorf("%v %v %v", tree, notes, err)
	}
}

func TestWithoutNetworkdOnlyTheTablesNamesAreLeft(t *testing.T) {
	tree, _, err := Render(everything(), Target{Version: Oldest, Root: rootfs.At(t.TempDir()), WithoutNetworkd: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(tree) != 1 || tree[0].Path != tablesFile || !strings.HasSuffix(string(tree[0].Data), "\n\n100\ta\n4294967295\tb\n") {
		t.Errorf("%s", textOf(tree))
	}
}

func TestManyTablesAreNamedOnLinesThatNetworkdCanRead(t *testing.T) {
	s := withLink(func(*fib.Link) {})
	s.Tables = nil
	for i := range 1000 {
		s.Tables = append(s.Tables, fib.Table{ID: uint32(10000 + i), Name: strings.Repeat("x", 20)})
	}
	tree, _, err := Render(s, Target{Version: newest, Root: rootfs.At(t.TempDir())})
	if err != nil {
		t.Fatal(err)
	}
	names := 0
	for _, f := range tree {
		for line := range strings.Lines(string(f.Data)) {
			if len(line) > 2048 {
				t.Errorf("a line of %d bytes", len(line))
			}
			if words, ok := strings.CutPrefix(line, "RouteTable="); ok {
				names += len(strings.Fields(words))
			}
		}
	}
	if names != 1000 {
		t.Errorf("%d names", names)
	}
}

func TestParseVersion(t *testing.T) {
	tests := []struct {
		in, out string
		err     string // a part of the error; "" for none
	}{
		{"257", "257", ""},
		{"257.13", "257.13", ""},
		{"247.3-7+deb11u5", "247.3", ""},
		{"252.39-1~deb12u2", "252.39", ""},
		{"257.13-1.fc42", "257.13", ""},
		{"258~rc1", "258", ""},
		{"257.", "257", ""},
		{"247", "247", ""},
		{"246", "", "systemd 246 is older than 247, the oldest that is supported"},
		{"239-82.el8", "", "older than 247"},
		{"", "", "not a version"},
		{"v257", "", "not a version"},
		{"-1", "", "not a version"},
		{"0", "", "not a version"},
		{"257.x", "", "not a version"},
		{"latest", "", `"latest" is not a version of systemd, like 257 or 257.13`},
		{"99999999999999999999", "", "not a version"},
	}
	for _, tt := range tests {
		v, err := ParseVersion(tt.in)
		switch {
		case tt.err != "":
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: got %v, %v; want an error with %q", tt.in, v, err, tt.err)
			}
		case err != nil || v.String() != tt.out:
			t.Errorf("%q: got %v, %v; want %s", tt.in, v, err, tt.out)
		}
	}
}

func TestVersionsAreOrderedByTheirPointReleasesToo(t *testing.T) {
	for _, tt := range []struct {
		a, b   Version
		before bool
	}{
		{Version{252, 0}, Version{257, 0}, true},
		{Version{257, 12}, Version{257, 13}, true},
		{Version{257, 13}, Version{257, 13}, false},
		{Version{258, 0}, Version{257, 13}, false},
	} {
		if got := tt.a.Before(tt.b); got != tt.before {
			t.Errorf("%v before %v: %v", tt.a, tt.b, got)
		}
	}
}

func TestDetectVersionReadsTheNameOfSystemdsLibrary(t *testing.T) {
	tests := []struct {
		name  string
		files []string
		want  string // "" for none
	}{
		{"Debian 13, Ubuntu", []string{"usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-257.so"}, "257"},
		{"Debian 12", []string{"usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-252.so"}, "252"},
		{"Debian 11 without merged /usr", []string{"lib/systemd/libsystemd-shared-247.so"}, "247"},
		{"Ubuntu without merged /usr", []string{"lib/aarch64-linux-gnu/systemd/libsystemd-shared-249.so"}, "249"},
		{"Fedora", []string{"usr/lib/systemd/libsystemd-shared-257.13-1.fc42.so"}, "257.13"},
		{"RHEL", []string{"usr/lib/systemd/libsystemd-shared-252-46.el9.so"}, "252"},
		{"openSUSE", []string{"usr/lib64/systemd/libsystemd-shared-256.so"}, "256"},
		{"Arch", []string{"usr/lib/systemd/libsystemd-shared-258.1-1.so"}, "258.1"},
		{"two, in the midst of an upgrade", []string{"usr/lib/systemd/libsystemd-shared-252.so", "usr/lib/systemd/libsystemd-shared-257.so"}, "257"},
		{"an older systemd than is supported", []string{"usr/lib/systemd/libsystemd-shared-239.so"}, "239"},
		{"another library", []string{"usr/lib/systemd/libsystemd-core-257.so"}, ""},
		{"none", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range tt.files {
				putFile(t, dir, "/"+f, "")
			}
			v, known := DetectVersion(rootfs.At(dir))
			if known != (tt.want != "") || known && v.String() != tt.want {
				t.Errorf("got %v, %v", v, known)
			}
		})
	}
}

// putFile writes a file below dir; content that begins with "-> " makes a link.
func putFile(t testing.TB, dir, name, content string) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	if target, link := strings.CutPrefix(content, "-> "); link {
		err = os.Symlink(target, file)
	} else {
		err = os.WriteFile(file, []byte(content), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
