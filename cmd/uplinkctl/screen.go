package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// screen writes lines that are no wider than the terminal.
type screen struct {
	*bufio.Writer
	width  int // 0 for no limit
	colour bool
}

// descriptor is what may be a terminal.
type descriptor interface{ Fd() uintptr }

// newScreen finds out what w can show. Anything but a terminal has no limit, unless COLUMNS sets
// one.
func newScreen(w io.Writer) *screen {
	s := &screen{Writer: bufio.NewWriter(w)}
	s.width, _ = strconv.Atoi(os.Getenv("COLUMNS"))
	if f, ok := w.(descriptor); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			s.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
			if size.Col > 0 {
				s.width = int(size.Col)
			}
		}
	}
	return s
}

// style is how something looks in colour (ECMA-48, SGR).
type style string

const (
	plain  style = ""
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
)

func (s *screen) paint(how style, text string) string {
	if !s.colour || how == plain || text == "" {
		return text
	}
	return "\x1b[" + string(how) + "m" + text + "\x1b[0m"
}

// item is a text that should stay on one line.
type item struct {
	text string
	how  style
}

// items writes items after a head, each on the current line if there is room, or else on the next
// one, from the column where the first began. An item that is too long for any line is broken
// between words.
func (s *screen) items(head string, how style, list ...item) {
	fmt.Fprint(s, s.paint(how, head))
	indent := utf8.RuneCountInString(head)
	at := indent
	put := func(text string, how style, space bool) {
		n := utf8.RuneCountInString(text)
		if at > indent && space {
			if n++; s.width > 0 && at+n > s.width {
				fmt.Fprint(s, "\n", strings.Repeat(" ", indent))
				at, n = indent, n-1
			} else {
				fmt.Fprint(s, " ")
			}
		}
		fmt.Fprint(s, s.paint(how, text))
		at += n
	}
	for _, it := range list {
		if s.width > 0 && indent+utf8.RuneCountInString(it.text) > s.width {
			for _, word := range strings.Fields(it.text) {
				put(word, it.how, true)
			}
			continue
		}
		put(it.text, it.how, true)
	}
	fmt.Fprintln(s)
}

// row writes the items of one kind.
func (s *screen) row(label string, how style, list ...item) {
	if len(list) > 0 {
		s.items(fmt.Sprintf("  %-10s ", label), how, list...)
	}
}

// commas puts commas behind all items but the last.
func commas(list []item) []item {
	for i := range list[:max(len(list)-1, 0)] {
		list[i].text += ","
	}
	return list
}

// words makes items of a sentence.
func words(text string) (list []item) {
	for _, w := range strings.Fields(text) {
		list = append(list, item{w, plain})
	}
	return list
}
