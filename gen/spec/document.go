package spec

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// source is one file that has been read.
type source struct {
	name string // path as the host sees it
	data []byte
	text string // the same; without a byte order mark, once it is parsed

	index   map[string]place // by joinPath; made when the first error needs it
	origins map[string]int   // line where each uplink is first named
}

// parse decodes the source into a tree of maps, arrays and values. On a syntax
// error the tree is nil.
func (s *source) parse() (map[string]any, *Error) {
	s.data = bytes.TrimPrefix(s.data, []byte("\ufeff"))
	for _, mark := range []string{"\ufeff", "\xff\xfe", "\xfe\xff"} {
		// The library would skip it, and the scanner's positions would be off.
		if bytes.HasPrefix(s.data, []byte(mark)) {
			return nil, &Error{File: s.name, Msg: "the file is not UTF-8, or begins with two byte order marks"}
		}
	}
	s.text = string(s.data)
	s.origins = map[string]int{}
	line, counted := 1, 0
	deep := scan(s.data, func(path []string, p place) {
		if len(path) >= 2 && path[0] == "uplink" {
			if _, seen := s.origins[path[1]]; !seen {
				if p.key.start > counted {
					line += bytes.Count(s.data[counted:p.key.start], []byte("\n"))
					counted = p.key.start
				}
				s.origins[path[1]] = line
			}
		}
	})
	if deep >= 0 {
		return nil, s.errorAt(span{deep, deep + 1}, "nested too deeply", "")
	}
	tree := map[string]any{}
	if _, err := toml.Decode(s.text, &tree); err != nil {
		return nil, s.syntaxError(err)
	}
	return tree, nil
}

func (s *source) syntaxError(err error) *Error {
	var pe toml.ParseError
	if !errors.As(err, &pe) {
		return &Error{File: s.name, Msg: printable(err.Error())}
	}
	at := span{pe.Position.Start, pe.Position.Start + pe.Position.Len}
	msg := strings.TrimSuffix(pe.Message, ".")
	if msg == "" {
		msg = strings.TrimPrefix(pe.Error(), "toml: ")
	}
	// For a character that is not text, the library gives the position before it, or the
	// start of the word that has it.
	at.start = min(max(at.start, 0), len(s.text))
	isBad := func(c rune) bool { return c < ' ' && c != '\t' && c != '\n' || c == 0x7f }
	if strings.HasPrefix(msg, "invalid UTF-8") {
		isBad = func(c rune) bool { return c == utf8.RuneError }
	} else if !strings.Contains(msg, "cannot contain control characters") {
		isBad = func(rune) bool { return true }
	}
	if n := strings.IndexFunc(s.text[at.start:], isBad); n > 0 {
		at = span{at.start + n, at.start + n + 1}
	}
	help := ""
	if strings.HasSuffix(msg, "has already been defined") {
		help = "a key may be given once; for more of one kind use an array"
	}
	return s.errorAt(at, msg, help)
}

func (s *source) errorAt(at span, msg, help string) *Error {
	return &Error{File: s.name, Msg: printable(msg), Help: printable(help), src: s, at: at}
}

// place finds where a path stands in this source, or else the nearest key or table above it.
func (s *source) place(path []string) (p place, exact bool) {
	if s.index == nil {
		s.index = map[string]place{}
		scan(s.data, func(path []string, p place) {
			// A path that is named twice is a table that several headers or dotted keys
			// extend. It begins at the first of them, but its own header is the better place.
			key := joinPath(path)
			if old, seen := s.index[key]; !seen || old.implicit && !p.implicit {
				s.index[key] = p
			}
		})
	}
	for n := len(path); n > 0; n-- {
		if p, ok := s.index[joinPath(path[:n])]; ok {
			return p, n == len(path)
		}
	}
	return place{}, false
}

// document is all the sources, merged.
type document struct {
	sources []*source // in the order in which they were merged
	tree    map[string]any
	over    map[string]*source // path → the later source that it comes from
	errs    Errors
}

// add merges a further source, which overrides the earlier ones key by key.
func (d *document) add(s *source) {
	d.sources = append(d.sources, s)
	tree, err := s.parse()
	switch {
	case err != nil:
		d.errs = append(d.errs, err)
	case d.tree == nil:
		d.tree = tree
		if len(d.sources) > 1 {
			for key := range tree {
				d.over[key] = s
			}
		}
	default:
		d.merge(d.tree, tree, nil, s)
	}
}

func (d *document) merge(to, from map[string]any, path []string, s *source) {
	for key, v := range from {
		at := append(path[:len(path):len(path)], key)
		if old, ok := to[key].(map[string]any); ok {
			if table, ok := v.(map[string]any); ok {
				d.merge(old, table, at, s)
				continue
			}
		}
		joined := joinPath(at)
		if _, wasTable := to[key].(map[string]any); wasTable {
			// This removes what an earlier drop-in said below the path.
			maps.DeleteFunc(d.over, func(k string, _ *source) bool { return strings.HasPrefix(k, joined+separator) })
		}
		to[key] = v
		d.over[joined] = s
	}
}

// source returns the file that the value at path comes from.
func (d *document) source(path []string) *source {
	if len(d.over) > 0 {
		for n := len(path); n > 0; n-- {
			if s, ok := d.over[joinPath(path[:n])]; ok {
				return s
			}
		}
	}
	return d.sources[0]
}

// fail records that the value at path is wrong.
func (d *document) fail(path []string, msg, help string) { d.failAt(path, false, msg, help) }

// failKey records that the key at path is wrong, not its value.
func (d *document) failKey(path []string, msg, help string) { d.failAt(path, true, msg, help) }

func (d *document) failAt(path []string, key bool, msg, help string) {
	if len(d.errs) > 10*maxErrors {
		return
	}
	s := d.source(path)
	p, exact := s.place(path)
	at := p.value
	if key || !exact {
		at = p.key
	}
	d.errs = append(d.errs, s.errorAt(at, msg, help))
}

// origin returns where an uplink is first named, in the file that its table comes from.
func (d *document) origin(uplink string) fib.Origin {
	s := d.source([]string{"uplink", uplink})
	return fib.Origin{File: s.name, Line: s.origins[uplink]}
}

// sorted returns the errors in the order of the files. It leaves d.errs as they are: more
// may be added, and sorted be called again.
func (d *document) sorted() Errors {
	order := make(map[string]int, len(d.sources))
	for i, s := range d.sources {
		if _, twice := order[s.name]; !twice {
			order[s.name] = i
		}
	}
	return slices.Clone(d.errs).sort(func(file string) int {
		if i, ok := order[file]; ok {
			return i
		}
		return len(d.sources)
	})
}
