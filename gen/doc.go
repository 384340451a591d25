// Package gen is the left side of the fork: it compiles a spec into the State
// that the kernel must hold, and it is the systemd generator, which decides at
// boot which back ends are hooked in.
//
//	TOML files ── spec.Load ──► spec.Spec ── Compile ──► fib.State ──┬─ units ──► systemd-networkd
//	                                                                └─ apply ──► netlink
//
// Its parts: gen/rootfs reads files below any root directory, gen/spec turns TOML
// into checked values, gen/fib is the State and its words, and this package ties
// them together. Beside them, gen/blocks lays out many rules of a State, gen/lookup
// says which way a State sends a packet, gen/check warns of what nobody wants, and
// gen/importer writes a spec from what a host has. Nothing here knows of netlink or
// D-Bus, and only the generator writes files.
package gen
