package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
)

// arguments are what the program is called with. It parses them itself because package flag would
// make the program, which each boot reads, a hundredth larger.
type arguments struct {
	root                  string
	render, version, help bool
	dirs                  []string // NORMAL, EARLY and LATE
}

var errDirectories = errors.New("one to three directories are expected, or --render")

// parseArguments takes options before directories, as --NAME or -NAME, a value after "=" or as
// the next argument, and "--" as the end of the options.
func parseArguments(args []string) (a arguments, err error) {
	if err := run.CheckArguments(args); err != nil {
		return a, err
	}
	rooted := false
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		option, value, given := strings.Cut(args[0], "=")
		args = args[1:]
		if option == "--" && !given {
			break
		}
		switch name := strings.TrimPrefix(option[1:], "-"); {
		case name == "root" && !given && len(args) == 0:
			return a, errors.New("--root needs a directory")
		case name == "root" && given:
			a.root, rooted = value, true
		case name == "root":
			a.root, rooted, args = args[0], true, args[1:]
		case given:
			return a, fmt.Errorf("unexpected %q", option+"="+value)
		case name == "render":
			a.render = true
		case name == "version":
			a.version = true
		case name == "help" || name == "h":
			a.help = true
			return a, nil
		default:
			return a, fmt.Errorf("unexpected %q", option)
		}
	}
	if rooted {
		if err := run.CheckRoot(a.root); err != nil {
			return a, fmt.Errorf("--root %s: %w", a.root, err)
		}
	}
	a.dirs = args
	if n := len(args); !a.version && (a.render != (n == 0) || n > 3) || slices.Contains(args, "") {
		return a, errDirectories
	}
	return a, nil
}
