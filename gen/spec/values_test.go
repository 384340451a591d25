package spec

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

// contexts is what stands before the line of a case: inside a table that is right.
var contexts = map[string]string{
	"top":    "",
	"uplink": "[uplink.a]\ndriver = \"x\"\n",
	"route":  "[uplink.a]\ndriver = \"x\"\n[[uplink.a.route]]\nto = \"10.0.0.0/8\"\n",
	"rule":   "[uplink.a]\ndriver = \"x\"\n[[uplink.a.rule]]\npriority = 7\n",
}

// TestValueErrors reads one wrong line a case. What the caret must mark stands
// between « and ».
func TestValueErrors(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 128)
	for _, c := range []struct{ in, line, want string }{
		// Types.
		{"top", `backend = «7»`, "`backend` takes \"auto\", \"networkd\" or \"netlink\", not a number"},
		{"top", `backend = «"auto "»`, "`backend` takes \"auto\", \"networkd\" or \"netlink\", not \"auto \" (did you mean `auto`?)"},
		{"top", `main-routes-first = «"true"»`, "`main-routes-first` takes true or false, not a string"},
		{"top", `main-routes-first = «1979-05-27»`, "`main-routes-first` takes true or false, not a date or time"},
		{"top", `multipath = «[1]»`, "`multipath` takes a table, not an array"},
		{"uplink", `metric = «1.5»`, "`metric` takes a number from 1 to 4294967295, not a fraction"},
		{"uplink", `metric = «true»`, "`metric` takes a number from 1 to 4294967295, not true or false"},
		{"uplink", `metric = «{}»`, "`metric` takes a number from 1 to 4294967295, not a table"},
		{"uplink", `addresses = «"192.0.2.10/24"»`, "`addresses` takes an array of addresses, not a string (put it in brackets: [ … ])"},
		{"uplink", `addresses = «7»`, "`addresses` takes an array of addresses, not a number"},
		{"uplink", `route = [«7»]`, "`route` takes a table, not a number"},
		{"uplink", `[«uplink.a.route»]`, "`route` takes an array of tables: [[uplink.NAME.route]], not a table"},
		// Numbers.
		{"uplink", `metric = «0»`, "`metric` takes a number from 1 to 4294967295, not 0"},
		{"uplink", `metric = «4294967296»`, "`metric` takes a number from 1 to 4294967295, not 4294967296"},
		{"uplink", `metric = «-1»`, "`metric` takes a number from 1 to 4294967295, not -1"},
		{"uplink", `metric = «0x1_0000_0000»`, "`metric` takes a number from 1 to 4294967295, not 4294967296"},
		{"uplink", `metric = «9223372036854775808»`, "9223372036854775808 is out of range for int64"},
		{"uplink", `priority = «32766»`, "`priority` takes a number from 1 to 32765, not 32766"},
		{"uplink", `table = «0»`, "`table` takes a number from 1 to 4294967295, not 0"},
		{"uplink", `table = «253»`, "table 253 is the kernel's own (253 is default, 254 main and 255 local; leave `table` out for a free number)"},
		{"uplink", `table = «255»`, "table 255 is the kernel's own (253 is default, 254 main and 255 local; leave `table` out for a free number)"},
		{"uplink", `table = «"main"»`, "`table` takes a number from 1 to 4294967295, not a string"},
		{"uplink", `mtu = «67»`, "`mtu` takes a number from 68 to 65535, not 67"},
		{"route", `initcwnd = «1024»`, "`initcwnd` takes a number from 1 to 1023, not 1024"},
		{"route", `initrwnd = «0»`, "`initrwnd` takes a number from 1 to 1023, not 0"},
		{"route", `advmss = «65496»`, "`advmss` takes a number from 1 to 65495, not 65496"},
		{"route", `mtu = «65521»`, "`mtu` takes a number from 68 to 65520, not 65521"},
		{"rule", `goto = «1»`, "`goto` takes a number from 2 to 4294967295, not 1"},
		{"rule", `tos = «256»`, "`tos` takes a number from 4 to 255, not 256"},
		{"rule", `suppress-ifgroup = «-1»`, "`suppress-ifgroup` takes a number from 0 to 2147483647, not -1"},
		{"rule", `suppress-prefixlength = «129»`, "`suppress-prefixlength` takes a number from 0 to 128, not 129"},
		// Strings that go into unit files.
		{"uplink", `path = «"a\nb"»`, "`path` must not hold the control character U+000A"},
		{"uplink", `path = «"a\u0000b"»`, "`path` must not hold the control character U+0000"},
		{"uplink", `path = «"a\u0085b"»`, "`path` must not hold the control character U+0085"},
		{"uplink", `path = «"%i"»`, "`path` must not hold '%'"},
		{"uplink", `path = «"$HOME"»`, "`path` must not hold '$'"},
		{"uplink", `path = «"a b"»`, "\"a b\" is not a name or a pattern"},
		{"uplink", `path = «"é"»`, "\"é\" is not a name or a pattern"},
		{"uplink", `path = «""»`, "\"\" is not a name or a pattern"},
		{"uplink", `path = «3»`, "`path` takes a name or a pattern, not a number"},
		{"uplink", `path = «"a["»`, "\"a[\" is not a name or a pattern"},
		// Interface names.
		{"uplink", `interface = «""»`, `"" is not the name of a link`},
		{"uplink", `interface = «".."»`, `".." is not the name of a link`},
		{"uplink", `interface = «"12"»`, `"12" is not the name of a link (systemd takes it for the index of a link: call it otherwise)`},
		{"rule", `iif = «"0x1f"»`, `"0x1f" is not the name of a link (systemd takes it for the index of a link: call it otherwise)`},
		{"rule", `oif = «"099"»`, `"099" is not the name of a link (systemd takes it for the index of a link: call it otherwise)`},
		{"uplink", `interface = «"a/b"»`, `"a/b" is not the name of a link`},
		{"uplink", `interface = «"eth0 eth1"»`, `"eth0 eth1" is not the name of a link`},
		{"uplink", `interface = «"!eth0"»`, `"!eth0" is not the name of a link`},
		{"uplink", `interface = «"eth0:1"»`, "\"eth0:1\" is not the name of a link (an alias like eth0:1 is an address of eth0: put the address into `addresses`)"},
		{"uplink", `interface = «"eth]"»`, `"eth]" is not the name of a link`},
		{"uplink", `interface = «"eth["»`, `"eth[" is not a pattern: a bracket is not closed`},
		{"uplink", `interface = «"` + long + `"»`, `"` + long[:48] + `…" is longer than the name of a link can be (127)`},
		{"rule", `iif = «"` + long[:16] + `"»`, `"` + long[:16] + `" is longer than the name of a link can be (15)`},
		{"rule", `oif = «"eth*"»`, `"eth*" is not the name of a link`},
		{"rule", `oif = «7»`, "`oif` takes the name of a link, not a number"},
		{"uplink", `mac = «"02:00:00:00:00"»`, `"02:00:00:00:00" is not a MAC address (six pairs of hexadecimal digits, like 02:00:00:00:00:01)`},
		{"uplink", `mac = «"02:00:00:00:00:0g"»`, `"02:00:00:00:00:0g" is not a MAC address (six pairs of hexadecimal digits, like 02:00:00:00:00:01)`},
		{"uplink", `mac = «1»`, "`mac` takes a MAC address, like \"02:00:00:00:00:01\", not a number"},
		// Addresses.
		{"uplink", `addresses = [«"192.0.2.10"»]`, `"192.0.2.10" is not an IP address with a length (give the length of its subnet, like 192.0.2.10/24)`},
		{"uplink", `addresses = [«"2001:db8::1"»]`, `"2001:db8::1" is not an IP address with a length (give the length of its subnet, like 2001:db8::1/64)`},
		{"uplink", `addresses = [«"192.0.2.10/33"»]`, `"192.0.2.10/33" is not an IP address with a length`},
		{"uplink", `addresses = [«"192.0.2.010/24"»]`, `"192.0.2.010/24" is not an IP address with a length`},
		{"uplink", `addresses = [«7»]`, "`addresses` takes an IP address with a length, like \"192.0.2.10/24\", not a number"},
		{"uplink", `addresses = [«"192.0.2.10/0"»]`, "192.0.2.10/0 cannot be on a link: its subnet is everything"},
		{"uplink", `addresses = [«"192.0.2.0/24"»]`, "192.0.2.0/24 is the network itself (give an address inside the network)"},
		{"uplink", `addresses = [«"192.0.2.127/25"»]`, "192.0.2.127/25 is the network's broadcast address (give an address inside the network)"},
		{"uplink", `addresses = [«"127.0.0.1/8"»]`, "127.0.0.1/8 is not an address that a host can have on a network"},
		{"uplink", `addresses = [«"ff02::1/64"»]`, "ff02::1/64 is not an address that a host can have on a network"},
		{"uplink", `addresses = [«"::/64"»]`, "::/64 is not an address that a host can have on a network"},
		{"uplink", `addresses = [«"::ffff:192.0.2.1/120"»]`, "::ffff:192.0.2.1 is an IPv4 address in IPv6 form (write 192.0.2.1)"},
		{"uplink", `addresses = [«"fe80::1%eth0/64"»]`, "`addresses` must not hold '%'"},
		{"uplink", `gateways = [«"192.0.2.1/24"»]`, `"192.0.2.1/24" is not an IP address (without a length: 192.0.2.1)`},
		{"uplink", `gateways = [«"router"»]`, `"router" is not an IP address`},
		{"uplink", `gateways = [«true»]`, "`gateways` takes an IP address, not true or false"},
		{"uplink", `gateways = [«"::ffff:192.0.2.1"»]`, "::ffff:192.0.2.1 is an IPv4 address in IPv6 form (write 192.0.2.1)"},
		{"uplink", `dns = [«"dns.example"»]`, `"dns.example" is not an IP address`},
		{"uplink", `from = [«"192.0.2.10/24"»]`, "192.0.2.10/24 has bits beyond its length (did you mean 192.0.2.0/24, or the host 192.0.2.10?)"},
		{"uplink", `from = [«"all"»]`, `"all" is not a prefix`},
		{"uplink", `to = [«7»]`, "`to` takes a prefix, like \"192.0.2.0/24\", not a number"},
		{"uplink", `to = [ "10.0.0.0/8", «"10.0.0.0/8"» ]`, "10.0.0.0/8 is given twice"},
		{"uplink", `to = ["10.0.0.1", «"10.0.0.1/32"»]`, "10.0.0.1/32 is given twice"},
		// Marks.
		{"uplink", `fwmark = «-1»`, "`fwmark` takes a number from 0 to 4294967295, not -1"},
		{"uplink", `fwmark = «"mark"»`, "`fwmark` takes a mark: a number, \"0x10\" or \"0x10/0xff\", not \"mark\""},
		{"uplink", `fwmark = «"1/x"»`, "`fwmark` takes a mark: a number, \"0x10\" or \"0x10/0xff\", not \"1/x\""},
		{"uplink", `fwmark = «"0x100000000"»`, "`fwmark` takes a mark: a number, \"0x10\" or \"0x10/0xff\", not \"0x100000000\""},
		{"uplink", `fwmark = «"1/0"»`, "a mask of 0 selects nothing"},
		{"uplink", `fwmark = «"0x110/0xff"»`, "the mark 0x110 has bits outside its mask 0xff (did you mean 0x10/0xff?)"},
		{"uplink", `fwmark = «[]»`, "`fwmark` takes a mark: a number, \"0x10\" or \"0x10/0xff\", not an array"},
		// Words.
		{"uplink", `dhcp = «"v4"»`, "`dhcp` takes \"no\", \"ipv4\", \"ipv6\" or \"yes\", not \"v4\""},
		{"uplink", `dhcp = «"ipv5"»`, "`dhcp` takes \"no\", \"ipv4\", \"ipv6\" or \"yes\", not \"ipv5\" (did you mean `ipv4`?)"},
		{"uplink", `dhcp = «true»`, "`dhcp` takes \"no\", \"ipv4\", \"ipv6\" or \"yes\", not true or false"},
		{"uplink", `accept-ra = «"ipv4"»`, "router advertisements are IPv6 only (did you mean \"ipv6\"?)"},
		{"uplink", `fallthrough = «"block"»`, "`fallthrough` takes \"main\", \"unreachable\", \"blackhole\" or \"prohibit\", not \"block\""},
		{"uplink", `manage = «"polcy"»`, "`manage` takes \"link\" or \"policy\", not \"polcy\" (did you mean `policy`?)"},
		{"uplink", `required-for-online = «"online"»`, "\"online\" is not an operational state (one of missing, off, no-carrier, dormant, degraded-carrier, carrier, degraded, enslaved, routable, or two of them as \"degraded:routable\")"},
		{"uplink", `required-for-online = «"routable:degraded"»`, "\"routable:degraded\" is not an operational state (one of missing, off, no-carrier, dormant, degraded-carrier, carrier, degraded, enslaved, routable, or two of them as \"degraded:routable\")"},
		{"uplink", `required-for-online = «1»`, "`required-for-online` takes true, false or an operational state, not a number"},
		{"uplink", `domains = ["example.net", «"a b"»]`, `"a b" is not a domain`},
		{"uplink", `domains = [«""»]`, `"" is not a domain`},
		{"uplink", `domains = ["a.", ".", "~.", "~", "*", "~a_b.c-", "localhost.example.net", «"a..b"»]`, `"a..b" is not a domain`},
		{"uplink", `domains = [«".a"»]`, `".a" is not a domain`},
		{"uplink", `domains = [«"a.."»]`, `"a.." is not a domain`},
		{"uplink", `domains = ["` + strings.Repeat("x", 63) + `.net", «"~` + strings.Repeat("x", 64) + `.net"»]`, "\"~" + strings.Repeat("x", 47) + "…\" is not a domain"},
		{"uplink", `domains = ["` + strings.Repeat("x.", 126) + `x.", «"` + strings.Repeat("x.", 126) + `xx"»]`, "\"" + strings.Repeat("x.", 24) + "…\" is not a domain"},
		{"uplink", `domains = [«"LocalHost"»]`, `"LocalHost" is not a domain for a link (leave it out: systemd-resolved answers it by itself)`},
		{"uplink", `domains = [«"~a.localhost."»]`, `"~a.localhost." is not a domain for a link (leave it out: systemd-resolved answers it by itself)`},
		{"uplink", `domains = [«"localhost.localdomain"»]`, `"localhost.localdomain" is not a domain for a link (leave it out: systemd-resolved answers it by itself)`},
		{"uplink", `domains = [«1»]`, "`domains` takes a domain, not a number"},
		{"route", `type = «"nat"»`, "`type` takes \"unicast\", \"local\", \"broadcast\", \"anycast\", \"multicast\", \"blackhole\", \"unreachable\", \"prohibit\" or \"throw\", not \"nat\""},
		{"route", `scope = «"nowhere"»`, "`scope` takes \"global\", \"site\", \"link\", \"host\" or \"universe\", not \"nowhere\""},
		{"route", `onlink = «0»`, "`onlink` takes true or false, not a number"},
		{"rule", `type = «"lookup"»`, "`type` takes \"blackhole\", \"unreachable\", \"prohibit\" or \"nop\", not \"lookup\""},
		{"rule", `family = «"inet"»`, "`family` takes \"ipv4\", \"ipv6\" or \"both\", not \"inet\""},
		// Selectors.
		{"rule", `ipproto = «"tpc"»`, "\"tpc\" is not an IP protocol that a rule can select here (did you mean `tcp`?)"},
		{"rule", `ipproto = «256»`, "256 is not an IP protocol that a rule can select here (known are those of tcp, udp, icmp, ipv6-icmp, sctp, dccp, udplite, gre, esp, ah, ipip, ipv6, comp, igmp, pim)"},
		{"rule", `ipproto = «true»`, "`ipproto` takes an IP protocol by name or number, not true or false"},
		{"rule", `sport = «0»`, "`sport` takes a number from 1 to 65534, not 0"},
		{"rule", `sport = «"1024-65535"»`, "the kernel refuses port 65535 in a rule: 65534 is the last"},
		{"rule", `sport = «"0"»`, "`sport` takes a port or a range like \"8000-8100\", not \"0\""},
		{"rule", `dport = «"80-"»`, "`dport` takes a port or a range like \"8000-8100\", not \"80-\""},
		{"rule", `dport = «"90-80"»`, "`dport` takes a port or a range like \"8000-8100\", not \"90-80\""},
		{"rule", `dport = «"80-65536"»`, "`dport` takes a port or a range like \"8000-8100\", not \"80-65536\""},
		{"rule", `dport = «[80]»`, "`dport` takes a port or a range like \"8000-8100\", not an array"},
		{"rule", `uidrange = «"root"»`, "`uidrange` takes a user id or a range like \"1000-1999\", not \"root\""},
		{"rule", `uidrange = «4294967295»`, "`uidrange` takes a number from 0 to 4294967294, not 4294967295"},
		{"rule", `uidrange = «"0-4294967295"»`, "`uidrange` takes a user id or a range like \"1000-1999\", not \"0-4294967295\""},
		{"rule", `uidrange = «65535»`, "65535 is no user id for systemd (it is the -1 of 16 bits; a range may end at 65534 or begin at 65536)"},
		{"rule", `uidrange = «"1000-65535"»`, "65535 is no user id for systemd (it is the -1 of 16 bits; a range may end at 65534 or begin at 65536)"},
		{"rule", `uidrange = «"65535-70000"»`, "65535 is no user id for systemd (it is the -1 of 16 bits; a range may end at 65534 or begin at 65536)"},
		{"rule", `uidrange = «false»`, "`uidrange` takes a user id or a range like \"1000-1999\", not true or false"},
		{"rule", `table = «"mian"»`, "no uplink is called \"mian\" (did you mean `main`?)"},
		{"rule", `table = «0»`, "`table` takes a number from 1 to 4294967295, not 0"},
		{"rule", `table = «"local"»`, "table local is the kernel's own"},
		// Keys.
		{"top", `«table» = 7`, "`table` is a key of an uplink (put it below [uplink.NAME])"},
		{"top", `«"main_routes_first"» = true`, "unknown key \"main_routes_first\" (did you mean `main-routes-first`?)"},
		{"top", `«"#"» = 1`, `unknown key "#" (known here are backend, main-routes-first, multipath, uplink)`},
		{"top", `«"a\nb"» = 1`, `unknown key "a\nb" (known here are backend, main-routes-first, multipath, uplink)`},
		{"top", "[uplink]\n«interface» = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\ngatways = 1\ntable = 5\nroute = [{ to = \"default\" }]", "`interface` is a key of an uplink (give the uplink a name: write [uplink.NAME])"},
		{"uplink", "[uplink]\n«mtu» = 1400", "`mtu` is a key of an uplink (give the uplink a name: write [uplink.NAME])"},
		{"uplink", "«uplink.b.gateways» = []", "what stands below [uplink.a] is of that uplink (write [uplink.NAME], a header of its own)"},
		{"uplink", "«backend» = \"auto\"", "`backend` is no key of an uplink (put it above the first [uplink.NAME])"},
		{"uplink", `«Gateways» = []`, "unknown key \"Gateways\" in an uplink (did you mean `gateways`?)"},
		{"uplink", `«gatewayss.x» = 1`, "unknown key \"gatewayss\" in an uplink (did you mean `gateways`?)"},
		{"route", `«gateway» = "192.0.2.1"`, "unknown key \"gateway\" in a route (known here are advmss, initcwnd, initrwnd, metric, mtu, multipath, onlink, scope, src, table, to, type, via)"},
		{"rule", `«suppress_prefixlenght» = 0`, "unknown key \"suppress_prefixlenght\" in a rule (did you mean `suppress-prefixlength`?)"},
		{"route", `multipath = [{ via = "192.0.2.1", onlink = true, «wieght» = 3 }]`, "unknown key \"wieght\" in a multipath route (did you mean `weight`?)"},
		// Places: characters, not bytes; in strings of many lines; far to the right.
		{"top", `backend = «"é→"» # ü`, "`backend` takes \"auto\", \"networkd\" or \"netlink\", not \"é→\""},
		{"top", `«"bäckend" . x» = 1`, "unknown key \"bäckend\" (did you mean `backend`?)"},
		{"uplink", "addresses = [ # the first\n  \"192.0.2.1/24\",\n\t«7», ]", "`addresses` takes an IP address with a length, like \"192.0.2.10/24\", not a number"},
		{"uplink", `domains = [` + strings.Repeat(`"example.net", `, 40) + `«7»]`, "`domains` takes a domain, not a number"},
		{"top", "uplink.a = { driver = \"x\",\n  mtu = «1» }", "`mtu` takes a number from 68 to 65535, not 1"},
	} {
		t.Run(c.line[:min(len(c.line), 60)], func(t *testing.T) {
			t.Parallel()
			marked := contexts[c.in] + c.line
			before, rest, _ := strings.Cut(marked, "«")
			caret, after, ok := strings.Cut(rest, "»")
			if !ok {
				t.Fatal("the case marks nothing")
			}
			_, err := Parse("f", []byte(before+caret+after+"\n"))
			var list Errors
			if !errors.As(err, &list) || len(list) != 1 {
				t.Fatalf("got %v, want one error", err)
			}
			e := list[0]
			line := 1 + strings.Count(before, "\n")
			col := 1 + utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:])
			if e.Line != line || e.Col != col || e.width != utf8.RuneCountInString(caret) {
				t.Errorf("at %d:%d, %d wide; want %d:%d, %d wide", e.Line, e.Col, e.width, line, col, utf8.RuneCountInString(caret))
			}
			if got := strings.TrimPrefix(e.Error(), e.Position()+": "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			lines := strings.Split(e.Detail(), "\n")
			if len(lines) < 3 {
				t.Fatal(e.Detail())
			}
			at := strings.IndexByte(lines[2], '^')
			shown := string([]rune(lines[1])[at:][:strings.Count(lines[2], "^")])
			if !strings.HasPrefix(strings.ReplaceAll(caret, "\t", " "), strings.TrimRight(shown, " ")) {
				t.Errorf("the caret is under %q:\n%s", shown, e.Detail())
			}
		})
	}
}
