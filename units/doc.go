// Package units is one of the two back ends: it writes a State in systemd's
// formats. Render makes .network files, drop-ins to the .network files of others,
// networkd's table names and iproute2's; Tree.Write puts them below a directory,
// each written aside and renamed, and takes away what is left of an earlier run.
// The unit files that a package installs are here as well.
//
// It knows which key exists since which systemd, because networkd ignores a key
// that it does not know and applies the rest: a rule without its selector would
// catch everybody. It does not know how the State came to be, and never reads TOML.
package units
