package main

import (
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/need"
)

// docs returns README.md, CONTRIBUTING.md, SECURITY.md and the pages of doc, by path.
func docs(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("doc/*.md")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d pages: %v", len(files), err)
	}
	texts := map[string]string{}
	for _, file := range append(files, "../../README.md", "../../CONTRIBUTING.md", "../../SECURITY.md") {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[file] = string(data)
	}
	return texts
}

// fence is a fenced block: its language, what else stands in that line, and its text.
var fence = regexp.MustCompile("(?ms)^```(\\w*) ?([^\n]*)\n(.*?)^```$")

// TestTheSpecsOfTheDocsAreRight checks each TOML block as strictly as `check` can. One
// that is marked as a fragment is a drop-in to the recipe.
func TestTheSpecsOfTheDocsAreRight(t *testing.T) {
	const recipe = "../../integration/examples/recipe/root/etc/uplink/uplink.toml"
	specs, fragments := 0, 0
	for file, text := range docs(t) {
		for i, m := range fence.FindAllStringSubmatch(text, -1) {
			if m[1] != "toml" {
				continue
			}
			block := filepath.Join(t.TempDir(), "block.toml")
			if err := os.WriteFile(block, []byte(m[3]), 0o644); err != nil {
				t.Fatal(err)
			}
			args := []string{"--strict", block}
			switch m[2] {
			case "":
				specs++
			case "fragment":
				args = []string{"--strict", recipe, block}
				fragments++
			default:
				t.Errorf("%s: a TOML block is either whole or a fragment, not %q", file, m[2])
			}
			if runCheck(t, args...); t.Failed() {
				t.Fatalf("%s: block %d:\n%s", file, i, m[3])
			}
		}
	}
	if specs < 4 || fragments == 0 {
		t.Errorf("found %d specs and %d fragments", specs, fragments)
	}
}

// commandLines returns what follows "uplinkctl" wherever a text has it as code: in
// fenced and indented blocks, and between backquotes.
func commandLines(text string) (list []string) {
	line := regexp.MustCompile(`(?m)^(?:\$ |    )?(?:sudo )?uplinkctl ([a-z-].*)$`)
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		for _, c := range line.FindAllStringSubmatch(m[3], -1) {
			if !regexp.MustCompile(`(?m)^uplinkctl: `).MatchString(c[0]) {
				list = append(list, c[1])
			}
		}
	}
	text = fence.ReplaceAllString(text, "")
	for _, c := range line.FindAllStringSubmatch(text, -1) {
		list = append(list, c[1])
	}
	for _, c := range regexp.MustCompile("`[^`\n]*\\buplinkctl ([^`]*)`").FindAllStringSubmatch(text, -1) {
		list = append(list, c[1])
	}
	return list
}

// TestTheCommandsOfTheDocsExist checks that every command of the docs exists and has the options
// used, and that a value in small letters is in its usage.
func TestTheCommandsOfTheDocsExist(t *testing.T) {
	found := 0
	for file, text := range docs(t) {
		for _, line := range commandLines(text) {
			words := strings.Fields(line)
			if i := slices.IndexFunc(words, func(w string) bool { return strings.ContainsAny(w, "|><&;#()") }); i >= 0 {
				words = words[:i]
			}
			if len(words) == 0 || words[0] == "help" || words[0] == "--version" || strings.ToUpper(words[0]) == words[0] {
				continue
			}
			found++
			i := slices.IndexFunc(commands(), func(c *command) bool { return c.name == strings.TrimSuffix(words[0], ",") })
			if i < 0 {
				t.Errorf("%s: `uplinkctl %s`: there is no such command", file, line)
				continue
			}
			c := commands()[i]
			flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
			c.flags(flags)
			for j, word := range words[1:] {
				if len(word) < 2 || word[0] != '-' {
					continue
				}
				name, value, given := strings.Cut(strings.TrimPrefix(word, "--"), "=")
				f := flags.Lookup(name)
				if f == nil || !strings.HasPrefix(word, "--") {
					t.Errorf("%s: `uplinkctl %s`: %s has no option %s", file, line, c.name, word)
					continue
				}
				if b, ok := f.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
					continue
				}
				if !given && j+2 < len(words) {
					value = words[j+2]
				}
				if regexp.MustCompile(`^[a-z]+$`).MatchString(value) && !strings.Contains(c.usage, value) {
					t.Errorf("%s: `uplinkctl %s`: %s has no value %s", file, line, word, value)
				}
			}
		}
	}
	if found < 60 {
		t.Errorf("found %d commands", found)
	}
}

// TestTheLinksOfTheDocsLead checks that each link leads to a file, and to a heading in it. The
// pages are installed beside each other, so they link only to each other.
func TestTheLinksOfTheDocsLead(t *testing.T) {
	texts := docs(t)
	anchors := func(text string) (list []string) {
		text = fence.ReplaceAllString(text, "")
		for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
			slug := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
			list = append(list, strings.ReplaceAll(slug, " ", "-"))
		}
		return list
	}
	found := 0
	for file, text := range texts {
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			if strings.HasPrefix(m[1], "https://") {
				continue
			}
			found++
			path, anchor, _ := strings.Cut(m[1], "#")
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			if filepath.Dir(file) == "doc" && filepath.Dir(target) != "doc" {
				t.Errorf("%s: %s is not installed beside it", file, m[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			if anchor != "" && !slices.Contains(anchors(texts[target]), anchor) {
				t.Errorf("%s: %s: there is no such heading", file, m[1])
			}
		}
	}
	if found < 20 {
		t.Errorf("found %d links", found)
	}
}

// TestTheLinksOfTheInstalledReadmeLead makes README.md as packages do, and checks that each link
// leads to what they have beside it: the pages, and the examples by their names.
func TestTheLinksOfTheInstalledReadmeLead(t *testing.T) {
	const change = "sed -E -f units/packaging/readme.sed README.md"
	if out, err := exec.Command(need.Program(t, "make"), "-n", "-C", "../..", "stage").CombinedOutput(); err != nil || !strings.Contains(string(out), change+" > ") {
		t.Errorf("make stage does not run %s: %v\n%s", change, err, out)
	}
	words := strings.Fields(change)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = "../.."
	readme, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	text, found := string(readme), 0
	for _, m := range regexp.MustCompile(`\]\(([^)]*)\)`).FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		found++
		target := "doc/" + m[1]
		if m[1] == "examples" {
			continue
		} else if name, is := strings.CutPrefix(m[1], "examples/"); is {
			target = "../../integration/examples/" + strings.TrimSuffix(name, ".toml") + "/root/etc/uplink/uplink.toml"
		}
		if _, err := os.Stat(target); err != nil && !strings.HasPrefix(m[1], "https://") {
			t.Errorf("%s leads nowhere", m[0])
		}
	}
	if found < 15 || strings.Contains(text, "![") || strings.Contains(text, "](integration") {
		t.Errorf("%d links, or something is left that is not installed:\n%s", found, text)
	}
}

// TestTheTestsOfTheDocsExist checks that each test that the docs name as evidence exists.
func TestTheTestsOfTheDocsExist(t *testing.T) {
	declared := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(data, -1) {
			declared[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for file, text := range docs(t) {
		for _, name := range regexp.MustCompile("`(Test[A-Z]\\w*)`").FindAllStringSubmatch(text, -1) {
			found++
			if !declared[name[1]] {
				t.Errorf("%s: there is no test %s", file, name[1])
			}
		}
	}
	if found < 15 {
		t.Errorf("found %d tests", found)
	}
}
