package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Error is one thing that is wrong with a spec, and where.
type Error struct {
	File string // as the host sees it; never empty
	Line int    // from 1; 0 where the error is the whole file's
	Col  int    // from 1, in characters; 0 with Line
	Msg  string // what is wrong
	Help string // what would be right; may be empty

	source string // the line's text
	width  int    // characters that the caret marks
}

// Error returns "FILE:LINE:COL: what is wrong (what would be right)".
func (e *Error) Error() string {
	s := e.Position() + ": " + e.Msg
	if e.Help != "" {
		s += " (" + e.Help + ")"
	}
	return s
}

// Position returns "FILE:LINE:COL", or "FILE" where the whole file is meant.
func (e *Error) Position() string {
	if e.Line == 0 {
		return e.File
	}
	return fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Col)
}

// Detail returns the error as people want it: the message, the source line with a
// caret under the place, and what would be right. It ends without a newline.
func (e *Error) Detail() string {
	var b strings.Builder
	b.WriteString(e.Position() + ": " + e.Msg)
	if e.Line != 0 && e.source != "" {
		number := fmt.Sprint(e.Line)
		blank := strings.Repeat(" ", len(number))
		line, before := excerpt(e.source, e.Col-1)
		width := min(max(e.width, 1), max(utf8.RuneCountInString(line)-before, 1))
		fmt.Fprintf(&b, "\n %s | %s\n %s | %s%s", number, line, blank, strings.Repeat(" ", before), strings.Repeat("^", width))
	}
	if e.Help != "" {
		b.WriteString("\n   help: " + e.Help)
	}
	return b.String()
}

// excerpt returns what a terminal can show of a line, and where in it the
// character at column col (from 0) then stands: control characters become
// spaces, and of a very long line only the neighbourhood is left.
func excerpt(line string, col int) (text string, at int) {
	const most, before = 120, 40
	r := []rune(line)
	for i, c := range r {
		if c < ' ' || c == 0x7f || c == utf8.RuneError {
			r[i] = ' '
		}
	}
	col = min(col, len(r))
	start := 0
	if len(r) > most {
		start = max(0, col-before)
		r = r[start:min(len(r), start+most)]
	}
	return strings.TrimRight(string(r), " "), col - start
}

// Errors is all that is wrong with a spec, in the order of its files.
type Errors []*Error

// Error returns one line an error.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Detail returns every error with its source line, and a blank line between.
func (es Errors) Detail() string {
	parts := make([]string, len(es))
	for i, e := range es {
		parts[i] = e.Detail()
	}
	return strings.Join(parts, "\n\n")
}

// sort puts the errors in the order of the files, then of the lines, and takes
// out what is said twice.
func (es Errors) sort(order func(file string) int) Errors {
	slices.SortStableFunc(es, func(a, b *Error) int {
		return cmp.Or(
			cmp.Compare(order(a.File), order(b.File)),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Col, b.Col),
			strings.Compare(a.Msg, b.Msg),
		)
	})
	return slices.CompactFunc(es, func(a, b *Error) bool {
		return a.File == b.File && a.Line == b.Line && a.Col == b.Col && a.Msg == b.Msg
	})
}

// didYouMean returns a suggestion for a misspelt word: the nearest of the known
// ones, if it is near enough that it may be a slip.
func didYouMean(word string, known []string) string {
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

// distance counts the edits between two words, a swap of neighbours being one
// (the optimal string alignment distance).
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
