// Package blocks lays many rules out so that the kernel tries few of them. It stands
// between Compile and the two back ends: a State goes in, and one comes out that sends
// every packet the same way.
//
// The kernel tries its rules one after the other for each packet whose route it does not
// know, until one matches (fib_rules_lookup in net/core/fib_rules.c): with a rule for
// each of a thousand sources it tries a thousand, for traffic of all other sources too.
// So the sources are divided by common prefix, as a page of a dictionary is found: rules
// with `goto` lead to ever smaller prefixes, until a block of a few rules is left, and
// the way ends behind the last block for those that it is not for:
//
//	10801  from 192.0.0.0/4 goto 11258       the root: one for each sixteenth of the addresses
//	10803  from all goto 13556               who comes here is none of them
//	11258  from 198.51.100.0/28 goto 12152   a node leads to up to 256 rules
//	11259  from all goto 13556
//	12152  from 198.51.100.10 lookup rt2     a block has up to 16 rules
//	12152  from 198.51.100.11 lookup rt3
//	12153  from all goto 13556
//	13556  nop                               the same for destinations begins here
//	16313  nop                               and here the rules go on
//
// Two things are promised. The layout sends every packet as the flat one does; where that
// cannot be had, Lay leaves the State as it is and says why. And it is a function of each
// prefix alone where a block stands: a new uplink changes the rules of its own block, and
// what leads there.
package blocks
