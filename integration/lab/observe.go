package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Family is an address family: "inet" or "inet6", as iproute2 calls them.
type Family string

const (
	// Inet is IPv4.
	Inet Family = "inet"
	// Inet6 is IPv6.
	Inet6 Family = "inet6"
)

// families are those that rules and routes are read for, in order.
var families = []Family{Inet, Inet6}

func (f Family) anywhere() netip.Prefix {
	if f == Inet {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// show runs `ip -json` with numbers instead of names, for those depend on the
// files in /etc/iproute2, and returns the objects that it prints.
func (n *Namespace) show(ctx context.Context, args ...string) ([]*object, error) {
	args = append([]string{"-json", "-details", "-Numeric"}, args...)
	out, err := n.Run(ctx, "ip", args...)
	if err != nil {
		return nil, err
	}
	objects, err := parseObjects(out)
	if err != nil {
		return nil, fmt.Errorf("ip %s: %w", strings.Join(args, " "), err)
	}
	return objects, nil
}

// object is one JSON object out of which the known members are taken, so that
// the unknown ones remain and can be shown as well. The first error is kept.
type object struct {
	members map[string]json.RawMessage
	err     error
}

func parseObjects(text string) ([]*object, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var list []map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, err
	}
	objects := make([]*object, len(list))
	for i, members := range list {
		objects[i] = &object{members: members}
	}
	return objects, nil
}

func (o *object) fail(key string, err error) {
	if o.err == nil && err != nil {
		o.err = fmt.Errorf("%s: %w", key, err)
	}
}

// take removes a member and returns its JSON.
func (o *object) take(key string) (json.RawMessage, bool) {
	raw, ok := o.members[key]
	delete(o.members, key)
	return raw, ok
}

// has takes a member that stands for true by being there.
func (o *object) has(key string) bool {
	raw, ok := o.take(key)
	return ok && string(raw) != "false"
}

// text takes a string, or a number as one.
func (o *object) text(key string) string {
	raw, ok := o.take(key)
	if !ok {
		return ""
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// number takes an unsigned number, which iproute2 may have put in a string;
// 0 if it is not there.
func (o *object) number(key string) uint32 {
	v, _ := o.optional(key)
	return v
}

// optional takes a number that can be there and be 0.
func (o *object) optional(key string) (uint32, bool) {
	s := o.text(key)
	if s == "" {
		return 0, false
	}
	v, err := strconv.ParseUint(s, 0, 32)
	o.fail(key, err)
	return uint32(v), true
}

// addr takes an address.
func (o *object) addr(key string) netip.Addr {
	s := o.text(key)
	if s == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	o.fail(key, err)
	return a
}

// prefix takes a prefix as routes have it: with a length, without one for a
// single address, or by name for all of the family.
func (o *object) prefix(key string, f Family) netip.Prefix {
	s := o.text(key)
	switch {
	case s == "":
		return netip.Prefix{}
	case s == "default" || s == "all":
		return f.anywhere()
	case strings.Contains(s, "/"):
		p, err := netip.ParsePrefix(s)
		o.fail(key, err)
		return p
	}
	a, err := netip.ParseAddr(s)
	o.fail(key, err)
	return netip.PrefixFrom(a, a.BitLen())
}

// list takes a list of strings and returns them sorted, with a space between.
func (o *object) list(key string) string {
	raw, ok := o.take(key)
	if !ok {
		return ""
	}
	var words []string
	o.fail(key, json.Unmarshal(raw, &words))
	slices.Sort(words)
	return strings.Join(words, " ")
}

// objects takes a list of objects.
func (o *object) objects(key string) []*object {
	raw, ok := o.take(key)
	if !ok {
		return nil
	}
	list, err := parseObjects(string(raw))
	o.fail(key, err)
	return list
}

// rest returns what nothing has been taken of, sorted: nothing that iproute2
// shows is left out only because it is not known here.
func (o *object) rest() string {
	var words []string
	for _, key := range slices.Sorted(maps.Keys(o.members)) {
		if value := string(o.members[key]); value == "null" || value == "true" {
			words = append(words, key)
		} else {
			words = append(words, key+" "+strings.Trim(value, `"`))
		}
	}
	return strings.Join(words, " ")
}

// typeNames are the route types, which rules use as actions, by number.
var typeNames = map[uint32]string{
	unix.RTN_UNICAST:     "unicast",
	unix.RTN_LOCAL:       "local",
	unix.RTN_BROADCAST:   "broadcast",
	unix.RTN_ANYCAST:     "anycast",
	unix.RTN_MULTICAST:   "multicast",
	unix.RTN_BLACKHOLE:   "blackhole",
	unix.RTN_UNREACHABLE: "unreachable",
	unix.RTN_PROHIBIT:    "prohibit",
	unix.RTN_THROW:       "throw",
	unix.RTN_NAT:         "nat",
}

var scopeNames = map[uint32]string{
	unix.RT_SCOPE_UNIVERSE: "global",
	unix.RT_SCOPE_SITE:     "site",
	unix.RT_SCOPE_LINK:     "link",
	unix.RT_SCOPE_HOST:     "host",
	unix.RT_SCOPE_NOWHERE:  "nowhere",
}

// named takes a number and returns its name.
func (o *object) named(key string, names map[uint32]string) string {
	s := o.text(key)
	v, err := strconv.ParseUint(s, 0, 32)
	if err != nil {
		return s
	}
	if name, ok := names[uint32(v)]; ok {
		return name
	}
	return s
}

// words builds an item's text.
type words []string

// add appends a key and its value, unless the value is its type's zero.
func add[T comparable](w *words, key string, value T) {
	var zero T
	if value == zero {
		return
	}
	if key != "" {
		*w = append(*w, key)
	}
	*w = append(*w, fmt.Sprint(value))
}

// flag appends a word if it holds.
func (w *words) flag(word string, holds bool) {
	if holds {
		*w = append(*w, word)
	}
}

// String returns the line.
func (w *words) String() string { return strings.Join(*w, " ") }
