package importer

import (
	"cmp"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// A fix removes from a guess what the spec does not accept, or expresses it differently.
type fix func(why string)

// mark is a place in the text, and what to do if an error is there.
type mark struct {
	col int // from 1
	fix fix
}

// document is TOML that is being written.
type document struct {
	lines []string
	marks map[int][]mark // by line, from 1
	parts []part
}

// part is the lines of an uplink, or of one of its routes or rules, up to the next part.
type part struct {
	line int // the last line before it
	of   *uplink
	sub  bool // a route or a rule
}

// begin begins a part.
func (d *document) begin(of *uplink, sub bool) {
	d.parts = append(d.parts, part{len(d.lines), of, sub})
}

// partAt returns the part that a line belongs to; its of is nil before the first uplink.
func (d *document) partAt(line int) part {
	i, _ := slices.BinarySearchFunc(d.parts, line, func(p part, line int) int { return cmp.Compare(p.line, line) })
	if i == 0 {
		return part{}
	}
	return d.parts[i-1]
}

func (d *document) line(s string) { d.lines = append(d.lines, s) }

// mark notes how to fix what the last line holds from a column on.
func (d *document) mark(col int, f fix) {
	n := len(d.lines)
	d.marks[n] = append(d.marks[n], mark{col, f})
}

// markAt returns the mark that an error at a place is about, or nil.
func (d *document) markAt(line, col int) *mark {
	var at *mark
	for i := range d.marks[line] {
		if m := &d.marks[line][i]; at == nil || m.col <= col {
			at = m
		}
	}
	return at
}

// fixes returns what to do about errors, each thing once. It leaves out what may follow
// from another error: errors in routes and rules of an uplink that is wrong itself, in the
// uplink's other lines, and, where something before the uplinks is wrong, in all uplinks.
func (d *document) fixes(list spec.Errors) (todo []func()) {
	heads, subs := map[*uplink]int{}, map[part]bool{}
	for _, e := range list {
		if p := d.partAt(e.Line); !p.sub && heads[p.of] == 0 && d.markAt(e.Line, e.Col) != nil {
			heads[p.of] = e.Line
		}
	}
	done := map[*mark]bool{}
	for _, e := range list {
		m, p := d.markAt(e.Line, e.Col), d.partAt(e.Line)
		head := heads[p.of]
		switch {
		case m == nil || done[m]:
			continue
		case heads[nil] != 0 && p.of != nil:
			continue
		case head != 0 && e.Line != head:
			continue
		case p.sub && subs[p]:
			continue
		}
		done[m], subs[p] = true, true
		todo = append(todo, func() { m.fix(e.Msg) })
	}
	return todo
}

// String returns the spec.
func (d *document) String() string { return strings.Join(d.lines, "\n") + "\n" }

// key writes `KEY = VALUE`.
func (d *document) key(key, value string, f fix) {
	d.line(key + " = " + value)
	d.mark(1, f)
}

// list writes an array whose elements can be fixed one by one.
func (d *document) list(key string, n int, element func(i int) (string, fix)) {
	s := key + " = ["
	type at struct {
		col int
		f   fix
	}
	var places []at
	for i := range n {
		if i > 0 {
			s += ", "
		}
		text, f := element(i)
		places = append(places, at{len([]rune(s)) + 1, f})
		s += text
	}
	d.line(s + "]")
	for _, p := range places {
		d.mark(p.col, p.f)
	}
}
