package lab

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Route is a route as the kernel has it. It can be compared with ==. What a
// route does not have is its type's zero value.
type Route struct {
	Family Family
	Table  uint32

	// Type is the name of the route's type: "unicast", "local", "blackhole"
	// and so on.
	Type string

	// Dst is the destination; all of the family for a default route.
	Dst  netip.Prefix
	From netip.Prefix
	TOS  string

	// Gateway may be of the other family than the route.
	Gateway netip.Addr
	Dev     string

	Protocol uint32
	Scope    string // "global", "link", "host", ...
	PrefSrc  netip.Addr
	Metric   uint32 // in IPv6 the kernel makes 1024 out of none

	// Flags such as onlink and linkdown, sorted, with a space between.
	Flags string
	// Metrics such as "mtu 1400", sorted, with a space between.
	Metrics string
	// Preference is that of router advertisements, for IPv6.
	Preference string
	// Expires says that the route ends some time.
	Expires bool
	// NextHops has the hops of a multipath route, as "via ADDRESS dev NAME
	// weight N" with a comma between, in the kernel's order.
	NextHops string
	// NextHopID is the number of the nexthop object that Gateway and Dev, or
	// NextHops, were resolved from.
	NextHopID uint32

	// Other has what else iproute2 says of the route.
	Other string
}

// String returns the route much as `ip route` shows it, with its family and
// table first.
func (r Route) String() string {
	w := words{string(r.Family)}
	add(&w, "table", r.Table)
	if r.Type != "unicast" {
		add(&w, "", r.Type)
	}
	if r.Dst == r.Family.anywhere() {
		add(&w, "", "default")
	} else {
		add(&w, "", r.Dst)
	}
	add(&w, "from", r.From)
	add(&w, "tos", r.TOS)
	add(&w, "nhid", r.NextHopID)
	add(&w, "via", r.Gateway)
	add(&w, "dev", r.Dev)
	if r.NextHops != "" {
		add(&w, "nexthops", "["+r.NextHops+"]")
	}
	add(&w, "proto", r.Protocol)
	if r.Scope != "global" {
		add(&w, "scope", r.Scope)
	}
	add(&w, "src", r.PrefSrc)
	add(&w, "metric", r.Metric)
	add(&w, "", r.Metrics)
	add(&w, "", r.Flags)
	if r.Preference != "medium" {
		add(&w, "pref", r.Preference)
	}
	w.flag("expires", r.Expires)
	add(&w, "", r.Other)
	return w.String()
}

// Routes returns the routes of both families in all tables, those of the
// kernel included, sorted by family, table, destination, metric and content.
func (n *Namespace) Routes(ctx context.Context) ([]Route, error) {
	var routes []Route
	for _, f := range families {
		objects, err := n.show(ctx, "-family", string(f), "route", "show", "table", "all")
		if err != nil {
			return nil, err
		}
		for _, o := range objects {
			route := parseRoute(f, o)
			if o.err != nil {
				return nil, fmt.Errorf("%s route to %s: %w", f, route.Dst, o.err)
			}
			routes = append(routes, route)
		}
	}
	slices.SortFunc(routes, func(a, b Route) int {
		return cmp.Or(
			cmp.Compare(a.Family, b.Family),
			cmp.Compare(a.Table, b.Table),
			a.Dst.Addr().Compare(b.Dst.Addr()),
			cmp.Compare(a.Dst.Bits(), b.Dst.Bits()),
			cmp.Compare(a.Metric, b.Metric),
			cmp.Compare(a.String(), b.String()))
	})
	return routes, nil
}

func parseRoute(f Family, o *object) Route {
	r := Route{
		Family:     f,
		Table:      o.number("table"),
		Type:       o.named("type", typeNames),
		Dst:        o.prefix("dst", f),
		From:       o.prefix("from", f),
		TOS:        o.text("tos"),
		Gateway:    o.gateway(),
		Dev:        o.text("dev"),
		Protocol:   o.number("protocol"),
		Scope:      o.named("scope", scopeNames),
		PrefSrc:    o.addr("prefsrc"),
		Metric:     o.number("metric"),
		Flags:      o.list("flags"),
		Preference: o.text("pref"),
		Expires:    o.has("expires"),
		NextHopID:  o.number("nhid"),
	}
	var metrics []string
	for _, m := range o.objects("metrics") {
		metrics = append(metrics, m.rest())
	}
	r.Metrics = strings.Join(metrics, " ")

	var hops []string
	for _, hop := range o.objects("nexthops") {
		var w words
		add(&w, "via", hop.gateway())
		add(&w, "dev", hop.text("dev"))
		add(&w, "weight", hop.number("weight"))
		add(&w, "", hop.list("flags"))
		add(&w, "", hop.rest())
		if hop.err != nil {
			o.fail("nexthops", hop.err)
		}
		hops = append(hops, w.String())
	}
	r.NextHops = strings.Join(hops, ", ")

	// For a nexthop object, ip repeats what Gateway and Dev say.
	o.take("nh_info")
	r.Other = o.rest()
	return r
}

// gateway takes a gateway, which is called differently when it is not of the
// route's own family.
func (o *object) gateway() netip.Addr {
	if raw, ok := o.take("via"); ok {
		list, err := parseObjects("[" + string(raw) + "]")
		o.fail("via", err)
		if err == nil {
			return list[0].addr("host")
		}
	}
	return o.addr("gateway")
}
