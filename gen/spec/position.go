package spec

import (
	"bytes"
	"strconv"
	"strings"
)

// The TOML library tells where a syntax error is, but not where a key or a value stands
// once it has been read. The scanner here finds that out: it walks the same text and
// calls visit for every key, table header and array element. It assumes text that the
// library accepts; on any other it ends early, without a panic or an endless loop.

// maxDepth bounds how deep arrays, inline tables and dotted keys may nest. The spec
// needs five. The library's parser recurses without a bound, and a file full of
// opening brackets would end the program.
const maxDepth = 32

// span is a piece of the source, in bytes.
type span struct{ start, end int }

// place is where a key and its value stand. A table header is its own value, and also
// that of the tables above it as long as they have no header (implicit).
type place struct {
	key, value span
	implicit   bool
}

// Bytes that no key can hold, because TOML is UTF-8. The first marks an element of an
// array in a path, the second joins the parts of a path into a map's key.
const (
	elementMark = "\xfe"
	separator   = "\xff"
)

// element is the path element of the i-th entry of an array.
func element(i int) string { return elementMark + strconv.Itoa(i) }

// joinPath makes one string of a path, to be used as a map's key.
func joinPath(path []string) string { return strings.Join(path, separator) }

type scanner struct {
	data   []byte
	i      int
	path   []string       // of what is being read
	arrays map[string]int // the last index of each array of tables
	visit  func(path []string, p place)
	deep   int // offset of what nests deeper than maxDepth; -1
}

// scan walks data and calls visit with each path; path is only valid during the call. It
// returns the offset of the first value or key that nests deeper than maxDepth, or -1.
func scan(data []byte, visit func(path []string, p place)) (tooDeep int) {
	s := scanner{data: data, arrays: map[string]int{}, visit: visit, deep: -1}
	s.document()
	return s.deep
}

// document reads the top level: headers, and key = value lines below each.
func (s *scanner) document() {
	header := 0 // how much of s.path is the current table's
	for s.deep < 0 {
		s.space(true)
		if s.i >= len(s.data) {
			return
		}
		if s.data[s.i] == '[' {
			s.path = s.path[:0]
			if !s.header() {
				return
			}
			header = len(s.path)
		} else {
			if !s.pair() {
				return
			}
			s.path = s.path[:header]
		}
		s.line()
	}
}

// header reads `[a.b]` or `[[a.b]]` into s.path, where a table inside an array of
// tables is found under the array's newest element.
func (s *scanner) header() bool {
	start := s.i
	open, end := "[", "]"
	array := bytes.HasPrefix(s.data[s.i:], []byte("[["))
	if array {
		open, end = "[[", "]]"
	}
	s.i += len(open)
	keys, at := s.key(nil)
	if keys == nil || len(keys) > maxDepth || !bytes.HasPrefix(s.data[s.i:], []byte(end)) {
		s.tooDeep(start, len(keys))
		return false
	}
	for n, k := range keys {
		s.path = append(s.path, k)
		joined := joinPath(s.path)
		last, isArray := s.arrays[joined]
		if array && n == len(keys)-1 {
			if isArray {
				last++
			}
			s.arrays[joined] = last
			isArray = true
		}
		if n < len(keys)-1 || array {
			s.visit(s.path, place{at, at, true})
		}
		if isArray {
			s.path = append(s.path, element(last))
		}
	}
	s.i += len(end)
	s.visit(s.path, place{at, at, false})
	return true
}

// pair reads `a.b = value`, and leaves the key's parts on s.path.
func (s *scanner) pair() bool {
	before := len(s.path)
	keys, at := s.key(nil)
	s.path = append(s.path, keys...)
	if keys == nil || len(s.path) > maxDepth {
		s.tooDeep(at.start, len(s.path))
		return false
	}
	s.space(false)
	if s.i >= len(s.data) || s.data[s.i] != '=' {
		return false
	}
	s.i++
	s.space(false)
	// The parts of a dotted key are tables; each is placed at the whole key.
	for n := before + 1; n < len(s.path); n++ {
		s.visit(s.path[:n], place{at, at, false})
	}
	return s.value(at)
}

// value reads a value whose key is at the span at, and visits it after its elements.
func (s *scanner) value(at span) bool {
	start := s.i
	if s.i >= len(s.data) {
		return false
	}
	if len(s.path) > maxDepth {
		s.tooDeep(start, len(s.path))
		return false
	}
	ok := true
	switch s.data[s.i] {
	case '[':
		ok = s.array()
	case '{':
		ok = s.inline()
	case '"', '\'':
		s.str()
	default:
		for s.i < len(s.data) && !strings.ContainsRune(",]}#\r\n", rune(s.data[s.i])) {
			s.i++
		}
		s.i -= len(s.data[start:s.i]) - len(bytes.TrimRight(s.data[start:s.i], " \t"))
	}
	if at.end == 0 { // an element of an array is its own key
		at = span{start, s.i}
	}
	s.visit(s.path, place{at, span{start, s.i}, false})
	return ok
}

func (s *scanner) array() bool {
	s.i++
	for n := 0; ; n++ {
		s.space(true)
		if s.i >= len(s.data) {
			return false
		}
		if s.data[s.i] == ']' {
			s.i++
			return true
		}
		before := s.i
		s.path = append(s.path, element(n))
		ok := s.value(span{})
		s.path = s.path[:len(s.path)-1]
		s.space(true)
		if s.i < len(s.data) && s.data[s.i] == ',' {
			s.i++
		}
		if !ok || s.i == before {
			return false
		}
	}
}

func (s *scanner) inline() bool {
	s.i++
	for {
		s.space(true)
		if s.i >= len(s.data) {
			return false
		}
		switch s.data[s.i] {
		case '}':
			s.i++
			return true
		case ',':
			s.i++
			continue
		}
		before := len(s.path)
		ok := s.pair()
		s.path = s.path[:before]
		if !ok {
			return false
		}
	}
}

// str skips a string of any of the four kinds.
func (s *scanner) str() {
	quote := s.data[s.i]
	if long := []byte{quote, quote, quote}; bytes.HasPrefix(s.data[s.i:], long) {
		s.i += 3
		for s.i < len(s.data) && !bytes.HasPrefix(s.data[s.i:], long) {
			s.skipEscaped(quote)
		}
		// Up to two quotes may stand right before the closing three.
		for s.i = min(s.i+3, len(s.data)); s.i < len(s.data) && s.data[s.i] == quote; {
			s.i++
		}
		return
	}
	for s.i++; s.i < len(s.data) && s.data[s.i] != quote && s.data[s.i] != '\n'; {
		s.skipEscaped(quote)
	}
	s.i = min(s.i+1, len(s.data))
}

func (s *scanner) skipEscaped(quote byte) {
	if quote == '"' && s.data[s.i] == '\\' {
		s.i++
	}
	s.i = min(s.i+1, len(s.data))
}

// key reads a dotted key, and returns its parts and where it stands.
func (s *scanner) key(keys []string) ([]string, span) {
	s.space(false)
	at := span{s.i, s.i}
	for s.i < len(s.data) {
		start := s.i
		switch s.data[s.i] {
		case '"':
			s.str()
			k, err := unquote(string(s.data[start:s.i]))
			if err != nil {
				return nil, at
			}
			keys = append(keys, k)
		case '\'':
			s.str()
			keys = append(keys, strings.Trim(string(s.data[start:s.i]), "'"))
		default:
			for s.i < len(s.data) && !strings.ContainsRune(" \t\r\n.=[]{},#\"'", rune(s.data[s.i])) {
				s.i++
			}
			if s.i == start {
				return nil, at
			}
			keys = append(keys, string(s.data[start:s.i]))
		}
		at.end = s.i
		s.space(false)
		if s.i >= len(s.data) || s.data[s.i] != '.' || len(keys) > maxDepth {
			break
		}
		s.i++
		s.space(false)
	}
	return keys, at
}

// unquote reads a basic string. TOML's escapes are Go's except \e, and \x, which is a
// character and not a byte.
func unquote(s string) (string, error) { return strconv.Unquote(toGo.Replace(s)) }

var toGo = strings.NewReplacer(`\\`, `\\`, `\e`, `\u001b`, `\x`, `\u00`)

// space skips blanks, and also newlines and comments where they are allowed.
func (s *scanner) space(newlines bool) {
	for s.i < len(s.data) {
		switch c := s.data[s.i]; {
		case c == ' ' || c == '\t':
		case newlines && (c == '\n' || c == '\r'):
		case newlines && c == '#':
			s.line()
			continue
		default:
			return
		}
		s.i++
	}
}

// line skips to the end of the line.
func (s *scanner) line() {
	if n := bytes.IndexByte(s.data[s.i:], '\n'); n >= 0 {
		s.i += n
	} else {
		s.i = len(s.data)
	}
}

func (s *scanner) tooDeep(at, depth int) {
	if depth > maxDepth && s.deep < 0 {
		s.deep = at
	}
}
