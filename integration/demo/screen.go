package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// screen is what the show is printed on.
type screen struct {
	out   io.Writer
	color bool
}

// isTerminal says whether a file is a terminal that may be given colours
// (https://no-color.org).
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// Codes of ECMA-48 (SGR).
const (
	bold  = "1"
	faint = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

func (s *screen) paint(code, text string) string {
	if !s.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// title begins a part of the show.
func (s *screen) title(text string) {
	fmt.Fprintf(s.out, "%s\n%s\n\n", s.paint(bold, text), s.paint(faint, strings.Repeat("─", len(text))))
}

// say prints a remark.
func (s *screen) say(format string, args ...any) {
	fmt.Fprintf(s.out, format+"\n\n", args...)
}

// command prints what one would type.
func (s *screen) command(text string) {
	fmt.Fprintf(s.out, "  %s\n", s.paint(cyan, "$ "+text))
}

// text prints what a command writes.
func (s *screen) text(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		line = strings.TrimRight(line, " \n")
		if strings.HasPrefix(line, "#") {
			line = s.paint(faint, line)
		}
		fmt.Fprintln(s.out, strings.TrimRight("  "+line, " "))
	}
	fmt.Fprintln(s.out)
}

// result prints one of the lines that all of it is for.
func (s *screen) result(good bool, format string, args ...any) {
	mark := s.paint(green, "✓")
	if !good {
		mark = s.paint(red, "✗")
	}
	fmt.Fprintf(s.out, "  %s %s\n", mark, fmt.Sprintf(format, args...))
}
