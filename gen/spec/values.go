package spec

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// decoder turns the merged tree into typed values. It goes on after an error, so that one
// run finds all errors; what it returns for a wrong value does not matter.
type decoder struct {
	doc  *document
	path []string // of the value that is being read
}

func (d *decoder) push(key string) { d.path = append(d.path, key) }
func (d *decoder) pop()            { d.path = d.path[:len(d.path)-1] }

func (d *decoder) fail(help, format string, args ...any) {
	d.doc.fail(d.path, fmt.Sprintf(format, args...), help)
}

// key returns the name of the key whose value is being read, cut to what a message can
// hold: some tables accept any key.
func (d *decoder) key() string {
	for i := len(d.path) - 1; i >= 0; i-- {
		if !strings.HasPrefix(d.path[i], elementMark) {
			return short(d.path[i])
		}
	}
	return ""
}

// unknown reports a key that does not exist, with the one that may be meant.
func (d *decoder) unknown(where string, known []string) {
	key := d.key()
	help := DidYouMean(key, known)
	if help == "" {
		help = "known here are " + strings.Join(known, ", ")
	}
	d.doc.failKey(d.path, fmt.Sprintf("unknown key %s%s", quote(key), where), help)
}

func (d *decoder) wrongType(v any, want string) {
	d.fail("", "`%s` takes %s, not %s", d.key(), want, typeName(v))
}

func typeName(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64:
		return "a number"
	case float64:
		return "a fraction"
	case bool:
		return "true or false"
	case time.Time:
		return "a date or time"
	case []any, []map[string]any:
		return "an array"
	case map[string]any:
		return "a table"
	}
	return fmt.Sprintf("%T", v)
}

// str reads a string that may stand in a unit file: without control characters, and
// without % and $, which systemd would expand.
func (d *decoder) str(v any, want string) (string, bool) {
	s, ok := v.(string)
	if !ok {
		d.wrongType(v, want)
		return "", false
	}
	if len(s) > 1024 {
		d.fail("", "`%s` is too long: %d bytes", d.key(), len(s))
		return "", false
	}
	for _, c := range s {
		if unicode.IsControl(c) {
			d.fail("", "`%s` must not hold the control character %U", d.key(), c)
			return "", false
		}
		if c == '%' || c == '$' {
			d.fail("", "`%s` must not hold %q", d.key(), c)
			return "", false
		}
	}
	return s, true
}

// number reads an integer from lo to hi.
func (d *decoder) number(v any, lo, hi uint32) uint32 {
	n, ok := v.(int64)
	want := fmt.Sprintf("a number from %d to %d", lo, hi)
	switch {
	case !ok:
		d.wrongType(v, want)
	case n < int64(lo) || n > int64(hi):
		d.fail("", "`%s` takes %s, not %d", d.key(), want, n)
	default:
		return uint32(n)
	}
	return 0
}

func (d *decoder) boolean(v any) bool {
	b, ok := v.(bool)
	if !ok {
		d.wrongType(v, "true or false")
	}
	return b
}

// word reads one of a few words, and returns its index, or -1.
func (d *decoder) word(v any, words ...string) int {
	want := "\"" + strings.Join(words[:len(words)-1], "\", \"") + "\" or \"" + words[len(words)-1] + "\""
	s, ok := v.(string)
	if !ok {
		d.wrongType(v, want)
		return -1
	}
	for i, w := range words {
		if s == w {
			return i
		}
	}
	d.fail(DidYouMean(s, words), "`%s` takes %s, not %s", d.key(), want, quote(s))
	return -1
}

// list calls read for each entry of an array.
func (d *decoder) list(v any, want string, read func(v any)) {
	entries, ok := v.([]any)
	if !ok {
		if tables, isTables := v.([]map[string]any); isTables {
			for _, t := range tables {
				entries = append(entries, t)
			}
			ok = true
		}
	}
	if !ok {
		help := ""
		if _, single := v.(string); single {
			help = "put it in brackets: [ … ]"
		}
		d.fail(help, "`%s` takes an array of %s, not %s", d.key(), want, typeName(v))
		return
	}
	for i, e := range entries {
		d.push(element(i))
		read(e)
		d.pop()
	}
}

// table calls read for each key of a table, in their order.
func (d *decoder) table(v any, read func(key string, v any)) {
	m, ok := v.(map[string]any)
	if !ok {
		d.wrongType(v, "a table")
		return
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		d.push(key)
		read(key, m[key])
		d.pop()
	}
}

// addr reads an IP address without length or zone.
func (d *decoder) addr(v any) (netip.Addr, bool) {
	s, ok := d.str(v, "an IP address")
	if !ok {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		help := ""
		if p, err := netip.ParsePrefix(s); err == nil {
			help = "without a length: " + p.Addr().String()
		}
		d.fail(help, "%s is not an IP address", quote(s))
		return netip.Addr{}, false
	}
	return a, d.plain(a)
}

// plain refuses an IPv4 address in IPv6 form, for which the kernel has no route.
func (d *decoder) plain(a netip.Addr) bool {
	if a.Is4In6() {
		d.fail("write "+a.Unmap().String(), "%s is an IPv4 address in IPv6 form", a)
		return false
	}
	return true
}

// prefix reads an address with a length, as given.
func (d *decoder) prefix(v any) (netip.Prefix, bool) {
	s, ok := d.str(v, "an IP address with a length, like \"192.0.2.10/24\"")
	if !ok {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		help := ""
		if a, err := netip.ParseAddr(s); err == nil {
			help = fmt.Sprintf("give the length of its subnet, like %s/%d", a, 24+40*bool2int(a.Is6()))
		}
		d.fail(help, "%s is not an IP address with a length", quote(s))
		return netip.Prefix{}, false
	}
	return p, d.plain(p.Addr())
}

func bool2int(b bool) int {
	if b {
		return 1
	}
	return 0
}

// network reads a prefix with no bits beyond its length; an address alone is a host.
func (d *decoder) network(v any) (netip.Prefix, bool) {
	s, ok := d.str(v, "a prefix, like \"192.0.2.0/24\"")
	if !ok {
		return netip.Prefix{}, false
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), d.plain(a)
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		d.fail("", "%s is not a prefix", quote(s))
		return netip.Prefix{}, false
	}
	if p != p.Masked() {
		d.fail(fmt.Sprintf("did you mean %s, or the host %s?", p.Masked(), p.Addr()), "%s has bits beyond its length", p)
		return netip.Prefix{}, false
	}
	return p, d.plain(p.Addr())
}

// networks reads an array of prefixes; it never returns nil.
func (d *decoder) networks(v any) []netip.Prefix {
	list, seen := []netip.Prefix{}, map[netip.Prefix]bool{}
	d.list(v, "prefixes", func(v any) {
		p, ok := d.network(v)
		if !ok {
			return
		}
		if seen[p] {
			d.fail("", "%s is given twice", p)
			return
		}
		seen[p] = true
		list = append(list, p)
	})
	return list
}

// families reads "no", "ipv4", "ipv6" or "yes".
func (d *decoder) families(v any) Families {
	switch d.word(v, "no", "ipv4", "ipv6", "yes") {
	case 1:
		return Families{Inet: true}
	case 2:
		return Families{Inet6: true}
	case 3:
		return Families{true, true}
	}
	return Families{}
}

// mark reads a firewall mark: a number, "0x10" or "0x10/0xff".
func (d *decoder) mark(v any) Mark {
	const want = "a mark: a number, \"0x10\" or \"0x10/0xff\""
	m := Mark{Mask: 0xffffffff}
	switch v := v.(type) {
	case int64:
		m.Value = d.number(v, 0, 0xffffffff)
	case string:
		value, mask, hasMask := strings.Cut(v, "/")
		n, err := strconv.ParseUint(value, 0, 32)
		k, maskErr := uint64(m.Mask), error(nil)
		if hasMask {
			k, maskErr = strconv.ParseUint(mask, 0, 32)
		}
		if err != nil || maskErr != nil {
			d.fail("", "`%s` takes %s, not %s", d.key(), want, quote(v))
			return m
		}
		m = Mark{uint32(n), uint32(k)}
	default:
		d.wrongType(v, want)
		return m
	}
	switch {
	case m.Mask == 0:
		d.fail("", "a mask of 0 selects nothing")
		m.Mask = 1
	case m.Value&^m.Mask != 0:
		d.fail(fmt.Sprintf("did you mean 0x%x/0x%x?", m.Value&m.Mask, m.Mask), "the mark 0x%x has bits outside its mask 0x%x", m.Value, m.Mask)
	}
	return m
}

// ifname reads an interface name, or a pattern where glob allows one.
func (d *decoder) ifname(v any, glob bool) string {
	s, ok := d.str(v, "the name of a link")
	if !ok {
		return ""
	}
	isGlob := glob && fib.IsGlob(s)
	longest := 15 // IFNAMSIZ - 1
	if glob {
		longest = 127 // ALTIFNAMSIZ - 1: a link is also matched by its alternative names
	}
	switch {
	case s == "" || s == "." || s == ".." || s == "all" || s == "default":
		d.fail("", "%s is not the name of a link", quote(s))
	case isNumber(s):
		d.fail("systemd takes it for the index of a link: call it otherwise", "%s is not the name of a link", quote(s))
	case len(s) > longest:
		d.fail("", "%s is longer than the name of a link can be (%d)", quote(s), longest)
	case strings.Contains(s, ":"):
		d.fail("an alias like eth0:1 is an address of eth0: put the address into `addresses`", "%s is not the name of a link", quote(s))
	case s[0] == '!' || !isWord(s, "/\"'\\;,#") || !isGlob && strings.ContainsAny(s, "*?[]"):
		d.fail("", "%s is not the name of a link", quote(s))
	case isGlob && !globOK(s):
		d.fail("", "%s is not a pattern: a bracket is not closed", quote(s))
	case glob && matchesLoopback(s):
		d.fail("lo has rules of its own in networkd's files, and is no way out", "%s matches lo", quote(s))
	default:
		return s
	}
	return ""
}

// isNumber says whether networkd takes a link's name for a number, and skips the whole
// section that has it (ifname_valid_full in src/basic/socket-util.c of systemd).
func isNumber(s string) bool {
	s = strings.TrimPrefix(s, "+")
	_, err := strconv.ParseUint(s, 0, 64)
	return err == nil && !strings.Contains(s, "_") || s != "" && strings.Trim(s, "0123456789") == ""
}

// pattern reads a driver's or a path's name, or a glob.
func (d *decoder) pattern(v any) string {
	s, ok := d.str(v, "a name or a pattern")
	if !ok {
		return ""
	}
	if s == "" || s[0] == '!' || !isWord(s, "\"'\\;") || !globOK(s) {
		d.fail("", "%s is not a name or a pattern", quote(s))
		return ""
	}
	return s
}

// isWord says whether s is printable ASCII without blanks or one of those chars.
func isWord(s, without string) bool {
	for _, c := range s {
		if c <= ' ' || c >= 0x7f || strings.ContainsRune(without, c) {
			return false
		}
	}
	return true
}

func matchesLoopback(s string) bool {
	ok, err := fib.MatchGlob(s, "lo")
	return ok && err == nil
}

func globOK(s string) bool {
	_, err := fib.MatchGlob(s, "")
	return err == nil
}

// mac reads an Ethernet address and returns it in lower case with colons.
func (d *decoder) mac(v any) string {
	s, ok := d.str(v, "a MAC address, like \"02:00:00:00:00:01\"")
	if !ok {
		return ""
	}
	m := strings.ToLower(strings.ReplaceAll(s, "-", ":"))
	parts := strings.Split(m, ":")
	good := len(parts) == 6
	for _, p := range parts {
		_, err := strconv.ParseUint(p, 16, 8)
		good = good && len(p) == 2 && err == nil
	}
	if !good {
		d.fail("six pairs of hexadecimal digits, like 02:00:00:00:00:01", "%s is not a MAC address", quote(s))
		return ""
	}
	return m
}
