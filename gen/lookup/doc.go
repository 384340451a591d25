// Package lookup finds the way of one packet as the kernel would: it walks the rules,
// looks tables up, chooses among a route's ways and picks a source, and says of each
// step why it went as it did.
//
// It stands beside the fork of the data's way. From a State alone it tells what the
// kernel would do once that is in place (gen/check and `uplinkctl explain --offline`);
// from what was observed on a host it explains what the kernel does (`uplinkctl
// explain`). It is pure: integration/lookup_test.go holds it to the running kernel,
// packet by packet.
//
// The functions bear the names of what they follow in net/core/fib_rules.c, net/ipv4
// and net/ipv6. Left out are VRFs (a rule with l3mdev selects nothing), routes for one
// TOS or one source, multicast, and what the kernel has learned about a destination
// (redirects, path MTU).
package lookup
