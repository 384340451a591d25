// Package units is one of the two back ends: it writes a State in systemd's formats.
// Render makes .network files, drop-ins to the .network files of others, and the names
// of the tables for networkd and iproute2. Tree.Write puts them below a directory,
// writes each one aside and renames it, and removes what an earlier run has left. The
// unit files that a package installs are here as well.
//
// It knows since which systemd each key exists, because networkd ignores a key that it
// does not know and applies the rest: a rule without its selector would select every
// packet. It does not know how the State came to be, and never reads TOML.
package units
