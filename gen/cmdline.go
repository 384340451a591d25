package gen

import (
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// CommandLine is what the kernel command line tells uplink-generator.
type CommandLine struct {
	Off     bool         // uplink=0
	Backend spec.Backend // uplink.backend=; "" where it is not given
	Bad     string       // a word for us that is not understood; "" for none
}

// commandLineVariable names the environment variable that replaces the kernel's
// command line (ENVIRONMENT.md of systemd).
const commandLineVariable = "SYSTEMD_PROC_CMDLINE"

// ReadCommandLine reads the kernel command line of the host at root. In a container
// it reads that of PID 1, as systemd does, because /proc/cmdline is the outer host's
// there. A command line that cannot be read counts as empty.
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

// parseCommandLine reads the words for us. As for systemd, the last one counts.
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

// shown cuts a word to what a log can hold, and replaces characters that a terminal
// would obey.
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

// words splits a command line at its blanks, except inside double quotes,
// and removes the quotes.
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
