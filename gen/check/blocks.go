package check

import (
	"fmt"

	"github.com/uplink-generator/uplink-generator/gen/blocks"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// inBlocks finds what keeps many rules from being laid out in blocks.
func (c *checker) inBlocks() {
	_, o := blocks.Examine(c.state, blocks.Threshold)
	if o == nil {
		return
	}
	w := Warning{
		ID: ManyRules, Origin: o.Origin, Help: o.Help,
		Text: "for each packet the kernel tries the rules of all uplinks one after the other: they are not laid out in blocks, because " + o.Why,
	}
	if w.Origin.File == "" { // no single line is the cause
		w.Origin = fib.Origin{File: c.spec.Files[0], Line: 1}
	}
	if u := c.origins[o.Origin]; u != nil {
		w.Uplink = u.Name
	}
	c.found = append(c.found, w)
}

// Flat returns the warning for a State whose many rules cannot be laid out because the
// systemd that has the links is too old for it; false where the rules are fewer, or
// something else keeps them from it.
func Flat(s *spec.Spec, state fib.State, systemd string) (Warning, bool) {
	if many, o := blocks.Examine(state, blocks.Threshold); !many || o != nil {
		return Warning{}, false
	}
	return Warning{
		ID: ManyRules, Origin: fib.Origin{File: s.Files[0], Line: 1},
		Text: fmt.Sprintf("for each packet the kernel tries the rules of all uplinks one after the other: systemd-networkd %s cannot lay them out in blocks", systemd),
		Help: "systemd 257 or later can, and so does `backend = \"netlink\"` on any",
	}, true
}
