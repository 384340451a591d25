// Package importer makes a spec of what there is: the running kernel, ifupdown's
// interfaces(5), netplan's YAML, .network files, NetworkManager's profiles, the ifcfg files
// of initscripts, a script of ip(8) commands.
//
//	reader (one file each) ──► Found ── Make ──► TOML ── spec.Parse, gen.Compile ──► State
//	                             └──────────────── compared ───────────────────────────┘
//
// Each reader yields the same form, Found, in the kernel's terms, and what it did not
// understand with its place. Make writes the spec, compiles what it has written, and
// compares: whatever the State lacks, has otherwise or has in addition is listed. So
// nothing is lost or added in silence, however wrong a guess about the uplinks may be.
//
// Nothing here knows of netlink; reading files below a root is the only I/O.
package importer
