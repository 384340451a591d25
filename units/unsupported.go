package units

import (
	"fmt"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// UnsupportedError says that a systemd cannot express a part of the State.
type UnsupportedError struct {
	Origin  fib.Origin
	What    string  // the key, "GoTo=" or "FirewallMark=0/255"
	Since   Version // the first systemd that can
	Version Version // the one that is rendered for
}

// Error returns "FILE:LINE: KEY needs systemd N: …" in one line, with the remedy.
func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s: %s: %s", e.Origin, e.needs(), e.remedy("it"))
}

func (e *UnsupportedError) needs() string {
	return fmt.Sprintf("%s needs systemd %s", e.What, e.Since)
}

func (e *UnsupportedError) remedy(what string) string {
	return fmt.Sprintf("systemd %s, which this is rendered for, would ignore %s and apply the rest; leave %[2]s out of the spec, or take backend = \"netlink\"",
		e.Version, what)
}

// unsupported is all that a systemd cannot express.
type unsupported []*UnsupportedError

// Error returns a line for each key with its places, and the remedy once.
func (list unsupported) Error() string {
	var keys []string // in the order in which they were refused
	places, seen := map[string][]string{}, map[[2]string]bool{}
	for _, e := range list {
		key, at := e.needs(), e.Origin.String()
		if places[key] == nil {
			keys = append(keys, key)
		}
		if place := [2]string{key, at}; !seen[place] {
			seen[place] = true
			places[key] = append(places[key], at)
		}
	}
	if len(seen) == 1 {
		return list[0].Error()
	}
	const most = 8 // places
	var b strings.Builder
	for _, key := range keys {
		at := places[key]
		if more := len(at) - most; more > 0 {
			at = append(at[:most:most], fmt.Sprintf("and %d more", more))
		}
		fmt.Fprintf(&b, "%s: %s\n", strings.Join(at, ", "), key)
	}
	return b.String() + list[0].remedy("them")
}

// Unwrap returns each as an UnsupportedError.
func (list unsupported) Unwrap() []error {
	errs := make([]error, len(list))
	for i, e := range list {
		errs[i] = e
	}
	return errs
}
