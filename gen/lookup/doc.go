// Package lookup finds the way of one packet as the kernel would: it walks the
// rules, looks tables up, chooses among the ways of a route and picks a source, and
// gives a reason for each step.
//
// From a State alone it tells what the kernel would do once that State is in place
// (gen/check and `uplinkctl explain --offline`); from what was observed on a host it
// explains what the kernel does (`uplinkctl explain`). It does no I/O:
// integration/lookup_test.go compares it with the running kernel, packet by packet.
//
// The functions bear the names of what they follow in net/core/fib_rules.c, net/ipv4 and
// net/ipv6. Left out are VRFs (a rule with l3mdev selects nothing), routes for one TOS or one
// source, multicast, and what the kernel has learned about a destination (redirects, path MTU).
package lookup
