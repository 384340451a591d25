package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen/check"
	"github.com/uplink-generator/uplink-generator/gen/need"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

const (
	controlPage   = "uplinkctl.8"
	generatorPage = "../uplink-generator/uplink-generator.8"
	specPage      = "../../gen/spec/uplink.toml.5"
)

// manSection is a section of a man page, or a subsection without what follows it.
type manSection struct {
	name     string   // "RULE", or "COMMANDS/check" for a subsection
	tags     []string // of its tagged paragraphs, each word: "--root", "from", "to"
	examples []string
	text     string // all of it, without the macros' names
}

// roff is what the pages write for characters that are special to roff.
var roff = strings.NewReplacer(`\-`, "-", `\(dq`, `"`, `\(aq`, "'", `\(ti`, "~", `\(ha`, "^", `\(ga`, "`", `\(bs`, `\`, `\~`, " ", `\&`, "", `\fR`, "")

// manArguments splits what follows a macro.
func manArguments(s string) (args []string) {
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		arg, rest, quoted := "", "", false
		if arg, quoted = strings.CutPrefix(s, `"`); quoted {
			arg, rest, _ = strings.Cut(arg, `"`)
		} else {
			arg, rest, _ = strings.Cut(s, " ")
		}
		args, s = append(args, roff.Replace(arg)), rest
	}
	return args
}

// readPage reads the source of a man page.
func readPage(t *testing.T, file string) []manSection {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var sections []manSection
	var example *strings.Builder
	top, tagged := "", false
	for line := range strings.Lines(string(data)) {
		macro, rest := "", strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, ".") {
			macro, rest, _ = strings.Cut(rest, " ")
		}
		if macro == ".SH" || macro == ".SS" {
			name := strings.Join(manArguments(rest), " ")
			if macro == ".SH" {
				top = name
			} else {
				name = top + "/" + name
			}
			sections = append(sections, manSection{name: name})
			continue
		}
		if len(sections) == 0 {
			continue
		}
		s := &sections[len(sections)-1]
		switch {
		case macro == ".EX":
			example = &strings.Builder{}
		case macro == ".EE" && example == nil:
			t.Fatalf("%s: .EE without .EX", file)
		case macro == ".EE":
			s.examples = append(s.examples, example.String())
			example = nil
		case example != nil:
			example.WriteString(roff.Replace(rest) + "\n")
		case tagged:
			text := strings.Join(manArguments(rest), "")
			tag, _, typed := strings.Cut(text, " (") // "from, to (prefix)"
			if !typed {
				tag, _, _ = strings.Cut(text, " ") // "--root DIR"
			}
			s.tags = append(s.tags, strings.Split(tag, ", ")...)
		}
		tagged = macro == ".TP"
		s.text += strings.Join(manArguments(rest), "") + "\n"
	}
	return sections
}

// below returns a section and its subsections.
func below(sections []manSection, name string) (list []manSection) {
	for _, s := range sections {
		if s.name == name || strings.HasPrefix(s.name, name+"/") {
			list = append(list, s)
		}
	}
	return list
}

// sameSet reports what only one of two sets has.
func sameSet(t *testing.T, what, one, other string, a, b []string) {
	t.Helper()
	for _, x := range a {
		if !slices.Contains(b, x) {
			t.Errorf("%s: %s is in %s and not in %s", what, x, one, other)
		}
	}
	for _, x := range b {
		if !slices.Contains(a, x) {
			t.Errorf("%s: %s is in %s and not in %s", what, x, other, one)
		}
	}
}

var option = regexp.MustCompile(`--[a-z][a-z-]*`)

func TestThePageHasTheCommandsAndOptionsOfTheUsage(t *testing.T) {
	page := readPage(t, controlPage)
	inUsage, inPage := []string{}, []string{}
	for _, m := range regexp.MustCompile(`(?m)^  (\S+) `).FindAllStringSubmatch(usage, -1) {
		inUsage = append(inUsage, m[1])
	}
	options := map[string][]string{}
	for _, s := range below(page, "COMMANDS")[1:] {
		name := strings.TrimPrefix(s.name, "COMMANDS/")
		inPage, options[name] = append(inPage, name), s.tags
	}
	sameSet(t, "commands", "the usage", controlPage, inUsage, inPage)

	synopses := map[string]string{}
	for _, s := range strings.Split(below(page, "SYNOPSIS")[0].text, "uplinkctl ")[1:] {
		name, rest, _ := strings.Cut(s, "\n")
		synopses[name] = rest
	}
	sameSet(t, "synopsis", "the commands", "the synopsis", inUsage, slices.Collect(maps.Keys(synopses)))

	for _, c := range commands() {
		flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
		c.flags(flags)
		var known []string
		flags.VisitAll(func(f *flag.Flag) { known = append(known, "--"+f.Name) })
		sameSet(t, c.name, "its flags", "its usage", known, option.FindAllString(c.usage, -1))
		sameSet(t, c.name, "its flags", controlPage, known, options[c.name])
		sameSet(t, c.name, "its flags", "its synopsis", known, option.FindAllString(synopses[c.name], -1))
	}
}

// jsonMembers returns the names of all members of a type's JSON.
func jsonMembers(v reflect.Type) (names []string) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice:
		return jsonMembers(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name != "" {
				names = append(names, name)
			}
			if name != "" || f.Anonymous {
				names = append(names, jsonMembers(f.Type)...)
			}
		}
	}
	return names
}

// TestThePageHasWhatProgramsRead checks that the page has every member of what is printed as
// JSON, every kind of warning, and the exit status of every command.
func TestThePageHasWhatProgramsRead(t *testing.T) {
	page := readPage(t, controlPage)
	word := regexp.MustCompile(`[a-z0-9_]+(-[a-z0-9_]+)*`)
	has := func(what, text string, words []string) {
		known := word.FindAllString(text, -1)
		for _, w := range words {
			if !slices.Contains(known, w) {
				t.Errorf("%s: %s is not in %s", what, w, controlPage)
			}
		}
	}
	objects := strings.Split(below(page, "JSON OUTPUT")[0].text, "printsoneobject") // blanks are no part of a text
	for i, v := range []any{jsonStatus{}, jsonVerification{}, jsonExplanation{}, exportedState{}} {
		if len(objects) != 5 {
			t.Fatalf("%d objects are described", len(objects)-1)
		}
		has(reflect.TypeOf(v).Name(), objects[i+1], jsonMembers(reflect.TypeOf(v)))
	}
	text := below(page, "COMMANDS/check")[0].text
	has("check", text, jsonMembers(reflect.TypeFor[jsonFindings]()))
	for _, k := range check.Kinds {
		has("check", text, []string{string(k.ID)})
	}
	names := []string{"0", "1", "2"}
	for _, c := range commands() {
		names = append(names, c.name)
	}
	sameSet(t, "exit status", "the commands", controlPage, names, below(page, "EXIT STATUS")[0].tags)
}

func TestTheGeneratorsPageHasTheOptionsOfItsUsage(t *testing.T) {
	source, err := os.ReadFile("../uplink-generator/main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, usage, _ := strings.Cut(string(source), "const usage = `")
	usage, _, ok := strings.Cut(usage, "`")
	if !ok {
		t.Fatal("there is no usage in main.go")
	}
	page := readPage(t, generatorPage)
	sameSet(t, "options", "the usage", generatorPage, option.FindAllString(usage, -1), below(page, "OPTIONS")[0].tags)
	sameSet(t, "options", "the usage", "the synopsis", option.FindAllString(usage, -1), option.FindAllString(below(page, "SYNOPSIS")[0].text, -1))
}

func TestThePageHasEveryKeyOfTheSpec(t *testing.T) {
	page := readPage(t, specPage)
	const hops = "ROUTE/Ways of a multipath route"
	described := map[string][]string{"route.multipath": below(page, hops)[0].tags}
	for table, section := range map[string]string{"": "TOP LEVEL", "uplink": "UPLINK", "route": "ROUTE", "rule": "RULE", "probe": "PROBE", "multipath": "MULTIPATH"} {
		for _, s := range below(page, section) {
			if s.name != hops {
				described[table] = append(described[table], s.tags...)
			}
		}
	}
	keys := keysOfTheSchema(t)
	sameSet(t, "tables", "the schema", "the page", slices.Collect(maps.Keys(keys)), slices.Collect(maps.Keys(described)))
	for table, known := range keys {
		sameSet(t, "["+table+"]", "the schema", specPage, known, described[table])
	}
}

// keysOfTheSchema returns the keys that a spec may have, by their table: those of the schema,
// which is made from what the decoder accepts.
func keysOfTheSchema(t *testing.T) map[string][]string {
	t.Helper()
	type table struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	var schema struct {
		table
		Tables map[string]table `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(spec.Schema), &schema); err != nil {
		t.Fatal(err)
	}
	keys := map[string][]string{"": slices.Collect(maps.Keys(schema.Properties))}
	for name, d := range schema.Tables {
		if name == "way" {
			name = "route.multipath"
		}
		if len(d.Properties) > 0 {
			keys[name] = slices.Collect(maps.Keys(d.Properties))
		}
	}
	return keys
}

// runCheck runs uplinkctl check on files and returns what it prints.
func runCheck(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if status := uplinkctl(append([]string{"check"}, args...), &stdout, &stderr); status != run.ExitOK {
		t.Errorf("exit status %d:\n%s", status, &stderr)
	}
	return stdout.String()
}

func TestTheExamplesOfTheSpecsPageAreRight(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	first, last, specs, states, dropIns := "", "", 0, 0, 0
	for _, s := range readPage(t, specPage) {
		for _, e := range s.examples {
			switch {
			case strings.HasSuffix(s.name, "/Merging"):
				dropIns++
				runCheck(t, first, write("drop-in.toml", e))
			case strings.Contains(e, "[uplink."):
				specs++
				last = write("example.toml", e)
				if runCheck(t, last); first == "" {
					first = write("first.toml", e)
				}
			case strings.HasPrefix(e, "address add "):
				states++
				_, state, _ := strings.Cut(runCheck(t, "--state", last), "address add ")
				if state = "address add " + state; state != e {
					t.Errorf("%s: the state of the example is\n%s", s.name, state)
				}
			}
		}
	}
	if specs < 8 || states != 1 || dropIns != 1 {
		t.Errorf("found %d examples, %d states, %d drop-ins", specs, states, dropIns)
	}
}

func TestTheExamplesOfThePageAreCommands(t *testing.T) {
	found := 0
	for _, s := range below(readPage(t, controlPage), "EXAMPLES") {
		for line := range strings.Lines(strings.Join(s.examples, "")) {
			words := strings.Fields(line)
			if len(words) < 2 || words[0] != "uplinkctl" {
				continue
			}
			if i := slices.Index(words, "|"); i >= 0 {
				words = words[:i]
			}
			i := slices.IndexFunc(commands(), func(c *command) bool { return c.name == words[1] })
			if i < 0 {
				t.Errorf("there is no command %q", words[1])
				continue
			}
			flags := flag.NewFlagSet(words[1], flag.ContinueOnError)
			flags.SetOutput(io.Discard)
			commands()[i].flags(flags)
			for i, word := range words {
				if word == "/srv/image" {
					words[i] = t.TempDir() // which has to be there
				}
			}
			if err := flags.Parse(words[2:]); err != nil {
				t.Errorf("%s: %v", strings.TrimSpace(line), err)
			}
			found++
		}
	}
	if found < 5 {
		t.Errorf("found %d commands in the examples", found)
	}
}

func TestThePagesRenderWithoutAWarning(t *testing.T) {
	renderers := [][]string{
		{"man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"},
		{"groff", "-man", "-ww", "-z"},
		{"mandoc", "-Tlint", "-W", "warning"},
	}
	for _, page := range []string{controlPage, generatorPage, specPage} {
		for _, r := range renderers {
			t.Run(r[0]+"/"+filepath.Base(page), func(t *testing.T) {
				need.Program(t, r[0])
				cmd := exec.Command(r[0], append(r[1:len(r):len(r)], page)...)
				cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANROFFOPT=", "MANROFFSEQ=")
				var stdout, stderr bytes.Buffer
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				err := cmd.Run()
				if r[0] == "mandoc" {
					_, _ = stdout.WriteTo(&stderr) // its messages
				}
				if err != nil || stderr.Len() > 0 {
					t.Errorf("%v\n%s", err, &stderr)
				}
			})
		}
	}
}
