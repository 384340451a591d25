package lab

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Forever is the lifetime of an address that does not end.
const Forever = 1<<32 - 1

// Address is an address of a link as the kernel has it. It can be compared
// with ==, if need be after setting the lifetimes of leased ones to 0.
type Address struct {
	Link      string
	Family    Family
	Prefix    netip.Prefix // the address with its prefix length
	Peer      netip.Addr
	Broadcast netip.Addr
	Scope     string // "global", "link", "host"
	Label     string
	Metric    uint32 // of the route to the prefix
	Protocol  string

	// Valid and Preferred are the seconds left, or Forever.
	Valid     uint32
	Preferred uint32

	// Other has the flags, such as tentative and noprefixroute, and what else
	// iproute2 says, sorted, with a space between.
	Other string
}

// Tentative says whether duplicate address detection still runs for the
// address, or has failed: nothing can be sent from it.
func (a Address) Tentative() bool {
	flags := strings.Fields(a.Other)
	return slices.Contains(flags, "tentative") || slices.Contains(flags, "dadfailed")
}

// String returns the address much as `ip address` shows it, link first.
func (a Address) String() string {
	w := words{a.Link, string(a.Family)}
	add(&w, "", a.Prefix)
	add(&w, "peer", a.Peer)
	add(&w, "brd", a.Broadcast)
	if a.Scope != "global" {
		add(&w, "scope", a.Scope)
	}
	add(&w, "metric", a.Metric)
	add(&w, "proto", a.Protocol)
	if a.Label != a.Link {
		add(&w, "label", a.Label)
	}
	if a.Valid != Forever {
		add(&w, "valid_lft", a.Valid)
	}
	if a.Preferred != Forever {
		add(&w, "preferred_lft", a.Preferred)
	}
	add(&w, "", a.Other)
	return w.String()
}

// Addresses returns the addresses of all links, lo included, sorted by link,
// family and address.
func (n *Namespace) Addresses(ctx context.Context) ([]Address, error) {
	links, err := n.show(ctx, "address", "show")
	if err != nil {
		return nil, err
	}
	var addresses []Address
	for _, link := range links {
		name := link.text("ifname")
		for _, o := range link.objects("addr_info") {
			// A tunnel's or a deleted link's list can have an empty object.
			if len(o.members) == 0 {
				continue
			}
			address := parseAddress(name, o)
			if o.err != nil {
				return nil, fmt.Errorf("%s: address: %w", name, o.err)
			}
			addresses = append(addresses, address)
		}
		if link.err != nil {
			return nil, fmt.Errorf("%s: %w", name, link.err)
		}
	}
	slices.SortFunc(addresses, func(a, b Address) int {
		return cmp.Or(
			cmp.Compare(a.Link, b.Link),
			cmp.Compare(a.Family, b.Family),
			a.Prefix.Addr().Compare(b.Prefix.Addr()),
			cmp.Compare(a.String(), b.String()))
	})
	return addresses, nil
}

func parseAddress(link string, o *object) Address {
	a := Address{
		Link:      link,
		Family:    Family(o.text("family")),
		Prefix:    netip.PrefixFrom(o.addr("local"), int(o.number("prefixlen"))),
		Peer:      o.addr("address"),
		Broadcast: o.addr("broadcast"),
		Scope:     o.named("scope", scopeNames),
		Label:     o.text("label"),
		Metric:    o.number("metric"),
		Protocol:  o.text("protocol"),
		Valid:     o.number("valid_life_time"),
		Preferred: o.number("preferred_life_time"),
	}
	a.Other = o.rest()
	return a
}
