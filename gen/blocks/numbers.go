package blocks

import (
	"hash/fnv"
	"net/netip"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// The priorities at which things stand. The flat layout begins at fib.FirstNumber; rules
// that stay as they are take up to most numbers from there on. The rest is as large as
// main-routes-first leaves room for (below fib.FullLookupOffset).
const (
	most  = 800
	first = fib.FirstNumber + most // the root of the sources
)

// limits is how many rules may lie in a prefix of each kind, unless it cannot be divided.
var limits = [...]int{inline: 2, block: 16, node: 256, group: 4096}

// kind is what becomes of a prefix, by how many rules lie in it.
type kind int

const (
	inline kind = iota // its rules stand with what would lead to it: a goto is not worth it
	block              // rules that look tables up
	node               // leads to blocks
	group              // leads to nodes and blocks
	root               // leads to all of these
)

// A place takes one number for each kind that it leads to, and one for its end. The kernel
// takes two gotos for one prefix at one priority for the same rule, wherever they lead
// (rule_exists in net/core/fib_rules.c), and a prefix that gains rules changes its kind.
const blockWidth, nodeWidth, groupWidth, rootWidth = 2, 2, 3, 4

var widths = [...]uint32{block: blockWidth, node: nodeWidth, group: groupWidth, root: rootWidth}

// slots is how many places of a kind exist. Prefixes that fall on the same place share it,
// which costs a few rules and sends no packet another way.
const blockSlots, nodeSlots, groupSlots = 1024, 256, 64

var slots = [...]uint32{block: blockSlots, node: nodeSlots, group: groupSlots}

// half is how many numbers the sources take, and the destinations again: a root, the
// places, and the number behind them.
const half = rootWidth + groupSlots*groupWidth + nodeSlots*nodeWidth + blockSlots*blockWidth + 1

// end is the last number of the blocks, from which the rules go on.
const end = first + 2*half - 1

// place returns the first number of a prefix's place. It depends on its arguments alone, and
// must never change: two versions of this program would not recognize each other's rules.
func place(base uint32, k kind, p netip.Prefix) uint32 {
	at := base + widths[root]
	for larger := group; larger > k; larger-- {
		at += slots[larger] * widths[larger]
	}
	h := fnv.New32a()
	// The Write of a hash never fails.
	_, _ = h.Write(append(p.Addr().AsSlice(), byte(p.Bits())))
	return at + h.Sum32()%slots[k]*widths[k]
}

// entry returns the number, within a place of one kind, of what leads to another kind.
func entry(of, to kind) uint32 {
	return uint32(of - 1 - max(to, block)) // what is inline stands with the blocks
}
