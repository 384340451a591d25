// Package fib holds the State: the links, addresses, routes, rules and table
// names that the kernel must hold for a spec, in the kernel's own terms (fib
// is its word for routes and rules: the forwarding information base).
//
// It stands where the way of the data forks: gen.Compile makes a State, units writes
// it for systemd-networkd, apply applies it through netlink. The two back ends see
// nothing else, so whatever both must agree on is here: the numbers, the defaults
// that the kernel would fill in (an IPv6 metric of 1024), and the canonical order.
// Values are plain and comparable; nothing in this package does I/O.
//
// Links are named by the uplink that brings them in, not by interface index:
// which card a Match selects is only known on the host.
package fib
