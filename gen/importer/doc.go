// Package importer makes a spec from what a host has: the running kernel, ifupdown's
// interfaces(5), netplan's YAML, .network files, NetworkManager's profiles, the ifcfg
// files of initscripts, a script of ip(8) commands.
//
//	reader (one file each) ──► Found ── Make ──► TOML ── spec.Parse, gen.Compile ──► State
//	                             └──────────────── compared ───────────────────────────┘
//
// Each reader returns the same form, Found, in the kernel's terms, and lists with its
// place what it did not understand. Make writes the spec, compiles it, and compares: it
// lists whatever the State lacks, has differently or has in addition. So nothing is lost
// or added in silence, however wrong a guess about the uplinks may be.
//
// Nothing here knows of netlink; reading files below a root is the only I/O.
package importer
