package importer

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// change is the effect of one `ip` command. At most one of the pointers is set; with none
// set, the command changes nothing that counts here.
type change struct {
	verb    string // "add", "append", "replace", "del" or "flush"
	address *Address
	route   *Route
	rule    *Rule
	link    *linkChange
	lost    []string // arguments that are understood but cannot be carried over

	family fib.Family         // the one that an option asks for
	typ    fib.RouteType      // of a route, as far as the command says it
	scope  fib.Opt[fib.Scope] // likewise
}

type linkChange struct {
	name string
	mtu  uint32
}

// ipArgs goes through the arguments of one `ip` command.
type ipArgs struct {
	args   []string
	names  Names
	family fib.Family // from an option or an address; 0 if neither gives it
	asked  fib.Family // from an option alone
	c      change
}

// errIP says why a command cannot be carried over.
type errIP string

// Error says why.
func (e errIP) Error() string { return string(e) }

func unknownWord(s string) error { return errIP(fmt.Sprintf("%q is not understood", s)) }

// parseIP reads the arguments of `ip` as ip(8) does: a word may be shortened, and if
// several fit, the first in ip's own list counts.
func parseIP(args []string, names Names) (change, error) {
	p := &ipArgs{args: args, names: names}
	for len(p.args) > 0 && strings.HasPrefix(p.args[0], "-") {
		o := strings.TrimPrefix(strings.TrimPrefix(p.next(), "-"), "-")
		switch {
		case o == "4":
			p.family = fib.Inet
		case o == "6":
			p.family = fib.Inet6
		case o != "" && strings.HasPrefix("family", o):
			switch p.next() {
			case "inet":
				p.family = fib.Inet
			case "inet6":
				p.family = fib.Inet6
			default:
				return p.c, errIP("a family other than inet and inet6")
			}
		case o != "" && (strings.HasPrefix("oneline", o) || strings.HasPrefix("statistics", o) || strings.HasPrefix("details", o) ||
			strings.HasPrefix("resolve", o) || strings.HasPrefix("force", o) || o == "br" || o == "N" || o == "Numeric" || o == "j" || o == "json" || o == "p"):
		case strings.HasPrefix("netns", o):
			return p.c, errIP("it works in another network namespace")
		default:
			return p.c, unknownWord("-" + o)
		}
	}
	p.asked, p.c.family = p.family, p.family
	var err error
	switch object := p.word("address", "addrlabel", "maddress", "route", "rule", "neighbor", "neighbour", "ntable", "link"); object {
	case "address":
		err = p.address()
	case "route":
		err = p.route()
	case "rule":
		err = p.rule()
	case "link":
		err = p.link()
	case "":
		if len(p.args) > 0 {
			return p.c, errIP("`ip " + p.args[0] + "` is not part of a spec")
		}
	default:
		if v := p.word("add", "del", "change", "replace", "show", "list", "get"); v == "show" || v == "list" || v == "get" || v == "" {
			return change{}, nil
		}
		return p.c, errIP("`ip " + object + "` is not part of a spec")
	}
	return p.c, err
}

// familyOption is the option of ip(8) for a family.
func familyOption(f fib.Family) string {
	if f == fib.Inet6 {
		return "-6"
	}
	return "-4"
}

// next takes the next argument, "" where there is none.
func (p *ipArgs) next() string {
	if len(p.args) == 0 {
		return ""
	}
	s := p.args[0]
	p.args = p.args[1:]
	return s
}

// device reads the next argument as a link.
func (p *ipArgs) device() string { return withoutLabel(p.next()) }

// withoutLabel makes eth1 of eth1:1, which is a label of its addresses, as the kernel does
// (dev_ioctl, net/core/dev_ioctl.c).
func withoutLabel(name string) string {
	name, _, _ = strings.Cut(name, ":")
	return name
}

// word takes the next argument if it is one of the words, which may be shortened.
func (p *ipArgs) word(words ...string) string {
	if len(p.args) == 0 || p.args[0] == "" {
		return ""
	}
	for _, w := range words {
		if strings.HasPrefix(w, p.args[0]) {
			p.next()
			return w
		}
	}
	return ""
}

// verb reads what to do; done is true if there is nothing more to read.
func (p *ipArgs) verb() (done bool, err error) {
	switch v := p.word("add", "append", "change", "chg", "prepend", "replace", "delete", "show", "lst", "list", "get", "flush", "save", "restore", "help"); v {
	case "add":
		p.c.verb = "add"
	case "append", "prepend":
		p.c.verb = "append"
	case "change", "chg", "replace":
		p.c.verb = "replace"
	case "delete":
		p.c.verb = "del"
	case "flush":
		p.c.verb = "flush"
	case "restore":
		return true, errIP("what is restored is not to be seen here")
	case "":
		if len(p.args) > 0 {
			return true, unknownWord(p.args[0])
		}
		return true, nil
	default:
		return true, nil
	}
	return false, nil
}

// see sets the family from an address if it is not known yet, and says whether the address fits it.
func (p *ipArgs) see(a netip.Addr) error {
	f := fib.FamilyOf(a)
	if p.family == 0 {
		p.family = f
	}
	if a.Is4In6() || a.Zone() != "" || p.family != f {
		return errIP(fmt.Sprintf("%s is not an address of %s", a, p.family))
	}
	return nil
}

func (p *ipArgs) addr() (netip.Addr, error) {
	s := p.next()
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, unknownWord(s)
	}
	return a, p.see(a)
}

// prefix reads an address with or without a length; the zero Prefix is everything.
func (p *ipArgs) prefix() (netip.Prefix, error) {
	s := p.next()
	if s == "default" || s == "all" || s == "any" {
		return netip.Prefix{}, nil
	}
	x, ok := parsePrefix(s)
	if !ok {
		return x, unknownWord(s)
	}
	return x, p.see(x.Addr())
}

// parsePrefix reads "192.0.2.0/24", "192.0.2.0/255.255.255.0", "10/8", or a host.
func parsePrefix(s string) (netip.Prefix, bool) {
	addr, length, hasLength := strings.Cut(s, "/")
	if dots := strings.Count(addr, "."); hasLength && !strings.Contains(addr, ":") && dots < 3 {
		addr += strings.Repeat(".0", 3-dots) // which ip(8) fills in
	}
	a, err := netip.ParseAddr(addr)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Prefix{}, false
	}
	if !hasLength {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	n, err := strconv.Atoi(length)
	if err != nil {
		n = maskBits(length)
	}
	p := netip.PrefixFrom(a, n)
	return p, p.IsValid()
}

// maskBits returns the length of an IPv4 netmask, or -1.
func maskBits(s string) int {
	m, err := netip.ParseAddr(s)
	if err != nil || !m.Is4() {
		return -1
	}
	for n := range 33 {
		if p, err := netip.AddrFrom4([4]byte{255, 255, 255, 255}).Prefix(n); err == nil && p.Addr() == m {
			return n
		}
	}
	return -1
}

// number reads a number in any base that ip(8) knows.
func (p *ipArgs) number(bits int) (uint32, error) {
	s := p.next()
	n, err := strconv.ParseUint(s, 0, bits)
	if err != nil {
		return 0, unknownWord(s)
	}
	return uint32(n), nil
}

func (p *ipArgs) table() (uint32, error) {
	s := p.next()
	id, ok := p.names.table(s)
	if !ok {
		return 0, errIP(fmt.Sprintf("no table is called %q in rt_tables", s))
	}
	return id, nil
}

// lose notes an argument and its value that no spec can express.
func (p *ipArgs) lose(words ...string) { p.c.lost = append(p.c.lost, strings.Join(words, " ")) }

func (p *ipArgs) link() error {
	switch v := p.word("add", "set", "change", "replace", "delete", "show", "list"); v {
	case "show", "list":
		return nil
	case "set", "change":
	case "":
		return nil
	default:
		return errIP("a spec makes no links")
	}
	c := &linkChange{}
	for len(p.args) > 0 {
		switch w := p.next(); w {
		case "up":
		case "down":
			return errIP("a spec sets its links up")
		case "mtu":
			n, err := p.number(32)
			if err != nil {
				return err
			}
			c.mtu = n
		case "dev":
			c.name = p.device()
		default:
			if c.name != "" {
				p.lose(append([]string{w}, p.args...)...)
				p.args = nil
				continue
			}
			c.name = withoutLabel(w)
		}
	}
	if c.name == "" {
		return errIP("it names no link")
	}
	p.c.verb, p.c.link = "replace", c
	return nil
}

func (p *ipArgs) address() error {
	done, err := p.verb()
	if done {
		return err
	}
	a := &Address{}
	p.c.address = a
	for len(p.args) > 0 {
		switch {
		case p.word("peer") != "", p.args[0] == "remote" && p.word("remote") != "":
			p.lose("peer", p.next())
		case p.word("broadcast") != "", p.args[0] == "brd" && p.word("brd") != "":
			if s := p.next(); s == "-" {
				p.lose("broadcast", s)
			}
		case p.word("anycast") != "":
			p.lose("anycast", p.next())
		case p.word("scope") != "":
			if s := p.next(); s != "global" && s != "universe" && s != "0" {
				p.lose("scope", s)
			}
		case p.word("dev") != "":
			a.Link = p.device()
		case p.word("label") != "":
			p.lose("label", p.next())
		case p.word("metric", "priority", "preference") != "":
			p.lose("metric", p.next())
		case p.word("valid_lft") != "":
			if s := p.next(); s != "forever" {
				p.lose("valid_lft", s)
			}
		case p.word("preferred_lft") != "":
			if s := p.next(); s != "forever" {
				p.lose("preferred_lft", s)
			}
		case p.args[0] == "home" || p.args[0] == "nodad" || p.args[0] == "mngtmpaddr" || p.args[0] == "noprefixroute" || p.args[0] == "autojoin" || p.args[0] == "optimistic":
			p.lose(p.next())
		case p.c.verb == "flush" && (p.args[0] == "to" || p.args[0] == "permanent" || p.args[0] == "dynamic"):
			return errIP("a flush of some addresses only")
		default:
			if p.args[0] == "local" {
				p.next()
			}
			if a.Prefix.IsValid() && p.c.verb != "flush" {
				return unknownWord(p.next())
			}
			if p.c.verb == "flush" {
				a.Link = p.device()
				continue
			}
			x, err := p.prefix()
			if err != nil {
				return err
			}
			if !x.IsValid() {
				return errIP("no address")
			}
			a.Prefix = x
		}
	}
	if p.c.verb == "flush" {
		return nil
	}
	if a.Link == "" || !a.Prefix.IsValid() {
		return errIP("no address, or no `dev`")
	}
	return nil
}
