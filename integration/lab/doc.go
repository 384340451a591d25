// Package lab makes small networks out of Linux network namespaces, to see
// what policy routing really does on a host with several uplinks.
//
// A [Lab] is three namespaces. The host has the cards under test, as bare as
// after a boot. Behind them is a router that stands for all providers: each
// has an own link to the host, owns some prefixes, and drops what comes in
// from any other source, as real ones do (BCP 38). Behind the router is a
// client, far away from the host's point of view:
//
//	host            router                  client
//	eth0 ────────── p1  (provider 1) ──┐
//	eth1 ────────── p2  (provider 2) ──┴── client ── eth0
//
// A real systemd-networkd can be run inside ([Namespace.StartNetworkd]), or
// commands on a host without one ([Namespace.StartShell]), and so can every
// other program that gets addresses from the network
// ([Namespace.StartClient]); providers hand them out ([Lab.StartDHCPServer])
// and advertise themselves as routers ([Lab.StartAdvertiser]). The kernel's
// state can be read back ([Namespace.Rules], [Namespace.Routes],
// [Namespace.Addresses]), and packets sent to see which way they go
// ([Lab.TCPEcho], [Lab.UDPEcho], [Lab.LeavesBy]).
//
// Nothing here depends on a test framework: functions return errors. Start
// with [Require], which says what the machine lacks, then [New]. A lab shares
// nothing with the machine's own network or with another lab, so that many
// can run at once, and [Lab.Close] leaves nothing behind.
package lab
