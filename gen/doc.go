// Package gen is the left side of the fork: it compiles a spec into the State
// that the kernel must hold, and it is the systemd generator, which decides at
// boot which back ends are hooked in.
//
//	TOML files ── spec.Load ──► spec.Spec ── Compile ──► fib.State ──┬─ units ──► systemd-networkd
//	                                                                └─ apply ──► netlink
//
// Its parts: gen/rootfs reads files below any root directory, gen/spec turns TOML
// into checked values, gen/fib is the State and its words, and this package ties
// them together. Beside this way, gen/blocks lays many rules of a State out,
// gen/lookup says which way it sends a packet, gen/check warns of what nobody wants,
// and gen/importer writes a spec of what is there. Nothing here knows of netlink or
// D-Bus, and nothing but the generator writes a file.
package gen
