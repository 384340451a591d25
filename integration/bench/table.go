package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// table is what is printed: Markdown, padded so that it can be read as it is.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// write prints the table, with the first column aligned left and the others right.
func (t *table) write(w io.Writer) error {
	width := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell), 2)
		}
	}
	var b strings.Builder
	line := func(row []string) {
		for i := range t.head {
			cell := ""
			if i < len(row) {
				cell = row[i]
			}
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString("| " + cell + pad + " ")
			} else {
				b.WriteString("| " + pad + cell + " ")
			}
		}
		b.WriteString("|\n")
	}
	line(t.head)
	for i := range t.head {
		if i == 0 {
			b.WriteString("|" + strings.Repeat("-", width[i]+2))
		} else {
			b.WriteString("|" + strings.Repeat("-", width[i]+1) + ":")
		}
	}
	b.WriteString("|\n")
	for _, row := range t.rows {
		line(row)
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// spread sums up one figure over many rounds: its median, and the quartiles between which half of
// the rounds lie.
type spread struct{ lower, median, upper float64 }

// ratios compares two lists of the same rounds, pair by pair: what slows the machine
// down during a round slows both down, and does not show.
func ratios(ours, theirs []time.Duration) spread {
	var list []float64
	for i := range min(len(ours), len(theirs)) {
		list = append(list, float64(ours[i])/float64(theirs[i]))
	}
	return spreadOf(list)
}

func spreadOf(list []float64) spread {
	if len(list) == 0 {
		return spread{}
	}
	s := slices.Sorted(slices.Values(list))
	at := func(part float64) float64 { return s[int(part*float64(len(s)-1)+0.5)] }
	return spread{at(0.25), median(s), at(0.75)}
}

// String is the median, and the quartiles behind it.
func (s spread) String() string {
	if s == (spread{}) {
		return "-"
	}
	return fmt.Sprintf("%.2f (%.2f-%.2f)", s.median, s.lower, s.upper)
}
