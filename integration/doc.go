// Package integration has the tests that need a whole host: the built programs, real
// systemd-networkd, the kernel, and packets. Each runs in a network of its own (package lab),
// over the examples of the documentation.
//
// The tests need root. Without root or networkd they skip and say so, unless CI is set: there
// they fail, because nobody would notice a skip.
package integration
