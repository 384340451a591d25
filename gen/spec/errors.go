package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Error is one error in a spec, and where it is.
type Error struct {
	File string // as the host sees it; never empty
	Line int    // from 1; 0 where the error is about the whole file
	Col  int    // from 1, in characters; 0 with Line
	Msg  string // what is wrong
	Help string // what would be right; may be empty
	Err  error  // why the file cannot be read; nil where something in it is wrong

	src    *source // nil where the error is about the whole file
	at     span
	source string // the line's text
	before int    // how many of its bytes are before the place
	width  int    // characters that the caret marks
}

// maxErrors bounds how many errors are reported: nobody reads more, and a file full of
// errors must not cost more than any other.
const maxErrors = 1000

// Error returns "FILE:LINE:COL: what is wrong (what would be right)".
func (e *Error) Error() string {
	s := e.Position() + ": " + e.Msg
	if e.Help != "" {
		s += " (" + e.Help + ")"
	}
	return s
}

// Unwrap returns why the file cannot be read, if that is the error.
func (e *Error) Unwrap() error { return e.Err }

// Position returns "FILE:LINE:COL", or "FILE" where the whole file is meant.
func (e *Error) Position() string {
	if e.Line == 0 {
		return printable(e.File)
	}
	return fmt.Sprintf("%s:%d:%d", printable(e.File), e.Line, e.Col)
}

// Detail returns the error in the form for people: the message, the source line with a
// caret under the place, and what would be right. It ends without a newline.
func (e *Error) Detail() string {
	var b strings.Builder
	b.WriteString(e.Position() + ": " + e.Msg)
	if e.Line != 0 && e.source != "" {
		number := fmt.Sprint(e.Line)
		blank := strings.Repeat(" ", len(number))
		line, before := excerpt(e.source, e.before)
		width := min(max(e.width, 1), max(utf8.RuneCountInString(line)-before, 1))
		fmt.Fprintf(&b, "\n %s | %s\n %s | %s%s", number, line, blank, strings.Repeat(" ", before), strings.Repeat("^", width))
	}
	if e.Help != "" {
		b.WriteString("\n   help: " + e.Help)
	}
	return b.String()
}

// excerpt returns the part of a line that a terminal can show, and how many characters of
// it come before the byte at offset. Of a very long line it keeps only what is near offset.
func excerpt(line string, offset int) (text string, before int) {
	const most, ahead = 120, 40
	offset = min(offset, len(line))
	start, end := 0, len(line)
	if len(line) > most*utf8.UTFMax || utf8.RuneCountInString(line) > most {
		start = offset
		for n := 0; n < ahead && start > 0; n++ {
			_, size := utf8.DecodeLastRuneInString(line[:start])
			start -= size
		}
		end = start
		for n := 0; n < most && end < len(line); n++ {
			_, size := utf8.DecodeRuneInString(line[end:])
			end += size
		}
	}
	return strings.TrimRight(printable(line[start:end]), " "), utf8.RuneCountInString(line[start:offset])
}

// printable replaces with spaces what a terminal or a log would not show as one
// character: an error quotes words of the file, and the file may hold anything.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c == utf8.RuneError || !unicode.IsPrint(c) {
			return ' '
		}
		return c
	}, s)
}

// quote shows in a message what the user wrote, on one line and shortened.
func quote(s string) string { return strconv.Quote(short(s)) }

// short cuts what is too long for a message.
func short(s string) string {
	const most = 48
	n := 0
	for i := range s {
		if n++; n > most {
			return s[:i] + "…"
		}
	}
	return s
}

// Errors is all that is wrong with a spec, in the order of its files.
type Errors []*Error

// Error returns one line for each error.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors.
func (es Errors) Unwrap() []error {
	list := make([]error, len(es))
	for i, e := range es {
		list[i] = e
	}
	return list
}

// Detail returns every error with its source line, and a blank line between.
func (es Errors) Detail() string {
	parts := make([]string, len(es))
	for i, e := range es {
		parts[i] = e.Detail()
	}
	return strings.Join(parts, "\n\n")
}

// sort orders the errors by file, then by place, removes duplicates, and finds each one's line.
func (es Errors) sort(order func(file string) int) Errors {
	compare := func(a, b *Error) int {
		return cmp.Or(
			cmp.Compare(order(a.File), order(b.File)),
			cmp.Compare(bool2int(a.src != nil), bool2int(b.src != nil)),
			cmp.Compare(a.at.start, b.at.start),
			strings.Compare(a.Msg, b.Msg),
			strings.Compare(a.Help, b.Help),
			strings.Compare(a.File, b.File),
		)
	}
	fib.SortStable(es, func(a, b **Error) int { return compare(*a, *b) })
	es = slices.CompactFunc(es, func(a, b *Error) bool {
		return a.File == b.File && a.src == b.src && a.at.start == b.at.start && a.Msg == b.Msg
	})
	if len(es) > maxErrors {
		es = append(es[:maxErrors:maxErrors], &Error{File: es[maxErrors].File, Msg: fmt.Sprintf("more than %d errors: the rest is not shown", maxErrors)})
	}
	for _, e := range es {
		if e.src != nil {
			e.place()
		}
	}
	return es
}

// place finds the line and the column of the error.
func (e *Error) place() {
	text := e.src.text
	start := min(max(e.at.start, 0), len(text))
	line := strings.LastIndexByte(text[:start], '\n') + 1
	e.source, _, _ = strings.Cut(text[line:], "\n")
	e.source = strings.TrimSuffix(e.source, "\r")
	e.Line = 1 + strings.Count(text[:line], "\n")
	e.Col = 1 + utf8.RuneCountInString(text[line:start])
	e.before = start - line
	end := min(max(e.at.end, start), len(text), line+len(e.source))
	e.width = utf8.RuneCountInString(text[start:max(start, end)])
}

// DidYouMean returns a suggestion for a misspelt word: the nearest known one, if it is
// so near that the word may be a slip.
func DidYouMean(word string, known []string) string {
	best, least := "", 1+max(1, len(word)/3)
	for _, k := range known {
		if d := distance(strings.ToLower(strings.ReplaceAll(word, "_", "-")), k); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return "did you mean `" + best + "`?"
}

// distance counts the edits between two words; to swap two neighbours is one edit (the
// optimal string alignment distance).
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
