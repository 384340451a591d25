package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
)

// TestUsagesFitATerminal is for those who ask for help in 80 columns.
func TestUsagesFitATerminal(t *testing.T) {
	texts := map[string]string{"uplinkctl": usage}
	for _, c := range commands() {
		texts[c.name] = c.usage
	}
	for name, text := range texts {
		for line := range strings.Lines(text) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
				t.Errorf("%s: %d columns: %s", name, n, line)
			}
		}
	}
}

// TestTheReadmeHasTheCommandsOfTheUsage compares README's table with what help lists.
func TestTheReadmeHasTheCommandsOfTheUsage(t *testing.T) {
	data, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(data), "\n## Commands\n")
	table, _, _ = strings.Cut(table, "\n## ")
	var listed, helped, known []string
	for line := range strings.Lines(table) {
		cells := strings.SplitN(line, " | ", 2)
		if !strings.HasPrefix(line, "| `uplinkctl ") {
			continue
		}
		for _, m := range regexp.MustCompile("`(?:uplinkctl )?([a-z]+)[^`]*`").FindAllStringSubmatch(cells[0], -1) {
			listed = append(listed, m[1])
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+)\b.*`).FindAllStringSubmatch(usage, -1) {
		helped = append(helped, m[1])
	}
	for _, c := range commands() {
		known = append(known, c.name)
	}
	listed = slices.DeleteFunc(listed, func(s string) bool { return s == "uplinkctl" }) // (or just `uplinkctl`)
	sameSet(t, "command", "README.md", "commands()", listed, known)
	sameSet(t, "command", "uplinkctl help", "commands()", slices.DeleteFunc(helped, func(s string) bool { return s == "help" }), known)
}

// TestARootThatIsNone gives each command that takes --root something that is no directory:
// nothing is read, removed or made.
func TestARootThatIsNone(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, "file", fine)
	tried := 0
	for _, c := range commands() {
		flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
		if c.flags(flags); flags.Lookup("root") == nil {
			continue
		}
		tried++
		for root, want := range map[string]string{"typo": "no such directory", "file": "not a directory", "": "no such directory"} {
			var stdout, stderr bytes.Buffer
			args := []string{c.name, "--root", root}
			if c.name == "explain" {
				args = []string{c.name, "-", "8.8.8.8", "--root", root}
			}
			if code := uplinkctl(args, &stdout, &stderr); code != run.ExitUsage || stdout.Len() > 0 || !strings.Contains(stderr.String(), fmt.Sprintf("%q", root)) || !strings.Contains(stderr.String(), want) {
				t.Errorf("%q: exit status %d\n%s%s", args, code, stdout.String(), stderr.String())
			}
		}
	}
	if tried < 15 {
		t.Errorf("%d commands take --root", tried)
	}
	if _, err := os.Lstat("typo"); err == nil {
		t.Error("the directory was made")
	}
}
