// Package integration has the tests that need a whole host: the built programs,
// real systemd-networkd, the kernel, and packets. Each runs in a network of its own
// (package lab), over the examples that are also the documentation's.
//
// The tests need root. Without, or without networkd, they skip and say so, unless
// CI is set: there they fail, since nobody would notice.
package integration
