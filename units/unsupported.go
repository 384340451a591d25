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

// unsupported lists everything that a systemd cannot express.
type unsupported []*UnsupportedError

// Error returns one line for each key with the places where it is needed, and the remedy once.
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

// refuseUnreached refuses a route, on a link that learns its addresses, with a gateway
// that no address of the spec reaches.
func (r *renderer) refuseUnreached(e *fib.Route, l *fib.Link) {
	first := awaitsGatewaysSince
	if e.Family == fib.Inet6 {
		first = awaitsGateways6Since
	}
	if r.Version.Major >= first {
		return
	}
	for i := range e.Nexthops {
		n := &e.Nexthops[i]
		if n.Via.IsValid() && !n.OnLink && n.Link == l.Name && !r.reaches(n) {
			r.errs = append(r.errs, &LinkError{e.Origin, l.Name, fmt.Sprintf("a gateway in no subnet of its `addresses`, %s: systemd-networkd before %d does not always wait until one is learned that reaches it, and fails the link; set onlink = true, or take backend = \"netlink\"", n.Via, first)})
			return
		}
	}
}

// reaches says whether a gateway is link-local, or in the subnet of an address in the spec.
// Each subnet has a route in a table of its uplink, even if others configure the address.
func (r *renderer) reaches(n *fib.Nexthop) bool {
	for i := range r.state.Routes {
		s := &r.state.Routes[i]
		if s.Src.IsValid() && len(s.Nexthops) == 1 && !s.Nexthops[0].Via.IsValid() && s.Nexthops[0].Link == n.Link && s.Dst.Contains(n.Via) {
			return true
		}
	}
	return n.Via.Is6() && n.Via.IsLinkLocalUnicast()
}
