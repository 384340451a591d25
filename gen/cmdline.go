package gen

import (
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// CommandLine is what the kernel command line says to us.
type CommandLine struct {
	Off     bool         // uplink=0
	Backend spec.Backend // uplink.backend=; "" where it is not given
	Bad     string       // a word of ours that makes no sense; "" for none
}

// commandLineVariable holds a command line that counts instead of the kernel's
// (ENVIRONMENT.md of systemd).
const commandLineVariable = "SYSTEMD_PROC_CMDLINE"

// ReadCommandLine reads the kernel command line of the host at root; in a
// container that of its PID 1, as systemd does, because /proc/cmdline is then the
// outer host's. One that cannot be read says nothing.
func ReadCommandLine(root rootfs.Root) CommandLine {
	if s, given := os.LookupEnv(commandLineVariable); given && root.IsHost() {
		return parseCommandLine(s)
	}
	file := "/proc/cmdline"
	if inContainer(root) {
		file = "/proc/1/cmdline"
	}
	data, err := root.ReadFile(file, 1<<20)
	if err != nil {
		return CommandLine{}
	}
	return parseCommandLine(string(data))
}

// inContainer says whether the host at root is one, as systemd tells its generators (since
// 253) and everybody else.
func inContainer(root rootfs.Root) bool {
	return strings.HasPrefix(os.Getenv("SYSTEMD_VIRTUALIZATION"), "container:") || root.Exists("/run/systemd/container")
}

// parseCommandLine reads the words that are ours. As for systemd the last one counts.
func parseCommandLine(s string) (c CommandLine) {
	for _, word := range words(s) {
		key, value, given := strings.Cut(word, "=")
		switch key {
		case "uplink":
			switch strings.ToLower(value) {
			case "0", "no", "n", "f", "false", "off":
				c.Off = true
			case "1", "yes", "y", "t", "true", "on":
				c.Off = false
			default:
				if c.Off = false; given {
					c.Bad = shown(word)
				}
			}
		case "uplink.backend":
			if b, ok := spec.ParseBackend(value); ok {
				c.Backend = b
			} else {
				c.Bad = shown(word)
			}
		}
	}
	return c
}

// shown is as much of a word as a log can hold, without what a terminal would obey.
func shown(word string) string {
	const most = 64
	list := []rune(word[:min(len(word), utf8.UTFMax*most)])
	for i, c := range list {
		if !unicode.IsPrint(c) {
			list[i] = '?'
		}
	}
	if len(list) > most {
		return string(list[:most]) + "…"
	}
	return string(list)
}

// words splits a command line at its blanks, but not inside of double quotes, and
// takes these off.
func words(s string) (list []string) {
	var word strings.Builder
	quoted := false
	end := func() {
		if word.Len() > 0 {
			list = append(list, word.String())
		}
		word.Reset()
	}
	for _, c := range s {
		switch {
		case c == '"':
			quoted = !quoted
		case c <= ' ' && !quoted:
			end()
		default:
			word.WriteRune(c)
		}
	}
	end()
	return list
}
