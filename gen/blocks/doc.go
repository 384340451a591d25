// Package blocks lays many rules out so that the kernel tries few of them. It stands
// between Compile and the two back ends: a State goes in, and one comes out that sends
// every packet the same way.
//
// For each packet whose route it does not know, the kernel tries its rules one after the
// other until one matches (fib_rules_lookup in net/core/fib_rules.c). With one rule for
// each of a thousand sources it tries a thousand rules, for the traffic of all other
// sources too. So the sources are divided by common prefix, as one finds a word in a
// dictionary: `goto` rules lead to ever smaller prefixes, down to a block of a few rules. A
// packet that no rule of the block selects goes on behind the last block:
//
//	10801  from 192.0.0.0/4 goto 11258       the root: one for each sixteenth of the addresses
//	10803  from all goto 13556               what comes here is from none of them
//	11258  from 198.51.100.0/28 goto 12152   a node leads to up to 256 rules
//	11259  from all goto 13556
//	12152  from 198.51.100.10 lookup rt2     a block has up to 16 rules
//	12152  from 198.51.100.11 lookup rt3
//	12153  from all goto 13556
//	13556  nop                               the same for destinations begins here
//	16313  nop                               and here the rules go on
//
// Two things are promised. The layout sends every packet the way the flat rules do; where that is
// impossible, Lay leaves the State as it is and says why. And the place of a block depends on its
// prefix alone: a new uplink changes only the rules of its own block, and those that lead there.
package blocks
