package units_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/BurntSushi/toml"

	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

// hostile are words that mean something to a shell, a terminal, a path or systemd.
var hostile = []string{
	"", ".", "..", "/", "../../../etc/passwd", "/etc/passwd", "a/b", "a/../b", "a\nb", "a\rb", "eth0\n[Service]\nExecStart=/bin/sh", "a\x00b", "a\tb", "a\x1b[31mb", "a\x7fb", "a\u0085b",
	"a\u202eb", "a\u2028b", "%", "%n", "%%", "$", "$HOME", "${HOME}", "`id`", "$(id)", "a b", " a", "a ", "a;b", "#a", ";a", "\"a", "'a", "a\\", "\\n", "[Match]", "=", "a=b", "-", "--", "-a", "!", "!a", "~", "~.", "*", "?", "[a", "[!a]*", "ü", "a,b",
	strings.Repeat("x", 1<<20), strings.Repeat("../", 1<<16), strings.Repeat("\n", 1<<17), strings.Repeat("\u202e", 1<<16),
}

// long are the places, one for each way of reading a string, at which the very long words
// are tried.
var long = []string{"backend", "uplink *", "uplink * interface", "uplink * domains []", "uplink * addresses []", "uplink * route []", "multipath uplinks *"}

// schema is the part of a JSON Schema that says which keys there are.
type schema struct {
	Ref        string             `json:"$ref"`
	Properties map[string]*schema `json:"properties"`
	Additional json.RawMessage    `json:"additionalProperties"`
	Items      *schema            `json:"items"`
	AnyOf      []*schema          `json:"anyOf"`
	OneOf      []*schema          `json:"oneOf"`
	Defs       map[string]*schema `json:"$defs"`
}

// element and anyName stand in a path for a list's entry and for a table's free key.
const element, anyName = "[]", "*"

// paths returns the path of every value that the schema knows.
func (s *schema) paths(defs map[string]*schema, at []string, found map[string][]string) {
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		defs[name].paths(defs, at, found)
		return
	}
	found[strings.Join(at, " ")] = at
	below := func(key string, s *schema) { s.paths(defs, append(slices.Clone(at), key), found) }
	for key, v := range s.Properties {
		below(key, v)
	}
	if more := new(schema); json.Unmarshal(s.Additional, more) == nil {
		below(anyName, more)
	}
	if s.Items != nil {
		below(element, s.Items)
	}
	for _, alternative := range slices.Concat(s.AnyOf, s.OneOf) {
		alternative.paths(defs, at, found)
	}
}

// with returns a tree with a value at a path, beside what is there already.
func with(tree any, at []string, name string, v any) any {
	if len(at) == 0 {
		return v
	}
	if at[0] == element {
		if list, ok := tree.([]any); ok && len(list) > 0 {
			return []any{with(list[0], at[1:], name, v)}
		}
		return []any{with(nil, at[1:], name, v)}
	}
	m, ok := tree.(map[string]any)
	if !ok {
		m = map[string]any{}
	}
	m = maps.Clone(m)
	key := at[0]
	if key == anyName {
		key = name
	}
	m[key] = with(m[key], at[1:], name, v)
	return m
}

// base is a spec in which each value can stand.
func base() any {
	return map[string]any{
		"uplink": map[string]any{
			"isp1": map[string]any{"interface": "eth0", "addresses": []any{"192.0.2.10/24"}, "gateways": []any{"192.0.2.1"}},
			"rt2":  map[string]any{"interface": "eth1", "addresses": []any{"198.51.100.10/24"}, "gateways": []any{"198.51.100.1"}},
		},
	}
}

// TestHostileWordsGoNowhere puts words that mean something elsewhere into every place of a
// spec that takes a value, and each as the name of a key. The result must be an error,
// short and in characters that a terminal shows as they are, or files that say what was
// written, and nothing more.
func TestHostileWordsGoNowhere(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../gen/spec/uplink.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var whole schema
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	places := map[string][]string{}
	whole.paths(whole.Defs, nil, places)
	if len(places) < 70 {
		t.Fatalf("only %d places are known: %v", len(places), places)
	}
	for _, place := range long {
		if places[place] == nil {
			t.Errorf("the schema has no %s", place)
		}
	}
	accepted := 0
	start := time.Now()
	for place, at := range places {
		for _, word := range hostile {
			if len(word) > 100 && !slices.Contains(long, place) {
				word = word[:1100] // to read a megabyte takes long
			}
			trees := []any{with(base(), at, "isp1", word), with(base(), append(slices.Clone(at), word), "isp1", "x")}
			if i := slices.Index(at, anyName); i >= 0 {
				trees = append(trees, with(base(), at, word, "x"))
				if i == 1 && len(at) == 2 { // an uplink's name
					uplink := base().(map[string]any)["uplink"].(map[string]any)["isp1"]
					trees = append(trees, map[string]any{"uplink": map[string]any{word: uplink}})
				}
			}
			for _, tree := range trees {
				var b bytes.Buffer
				if m, ok := tree.(map[string]any); !ok || toml.NewEncoder(&b).Encode(m) != nil {
					continue // what TOML cannot say
				}
				if tryHostile(t, fmt.Sprintf("%.30q at %s", word, place), b.Bytes()) {
					accepted++
					if testing.Verbose() && len(word) < 100 {
						t.Logf("accepted: %q at %s", word, place)
					}
				}
			}
		}
	}
	t.Logf("%d places, %d words, %d specs accepted, in %v", len(places), len(hostile), accepted, time.Since(start))
	if accepted < 20 {
		t.Errorf("only %d were accepted: nothing was tested", accepted)
	}
}

// tryHostile reads and renders a spec, and says whether it was accepted.
func tryHostile(t *testing.T, what string, text []byte) bool {
	t.Helper()
	start := time.Now()
	defer func() {
		if took := time.Since(start); took > time.Minute { // it takes a few seconds, on a machine that does much else
			t.Errorf("%s takes %v", what, took)
		}
	}()
	s, err := spec.Parse("f", text)
	var state fib.State
	if err == nil {
		state, err = gen.Compile(s)
	}
	if err != nil {
		var list spec.Errors
		if !errors.As(err, &list) {
			t.Errorf("%s: no error of the spec: %.300q", what, err)
		}
		for _, e := range list {
			shown(t, what, strings.ReplaceAll(e.Detail(), "\n", " "))
			shown(t, what, e.Error())
		}
		return false
	}
	for _, version := range goldenVersions[len(text)%len(goldenVersions):][:1] {
		v, err := units.ParseVersion(version)
		if err != nil {
			t.Fatal(err)
		}
		tree, notes, err := units.Render(state, units.Target{Version: v})
		if err != nil {
			shown(t, what, strings.ReplaceAll(err.Error(), "\n", " "))
			continue
		}
		for _, n := range notes {
			shown(t, what, n.String())
		}
		values := ""
		for _, f := range tree {
			if path.Clean(f.Path) != f.Path || !strings.HasPrefix(f.Path, "/run/") {
				t.Errorf("%s is written to %q", what, f.Path)
			}
			values += checkRendered(t, what, f)
		}
		for _, u := range s.Uplinks {
			for _, word := range slices.Concat(u.Domains, []string{u.Match.Name, u.Match.MAC, u.Match.Driver, u.Match.Path}) {
				if !u.PolicyOnly && !strings.Contains(" "+values, " "+word) {
					t.Errorf("%s: %q is not in what is rendered:\n%s", what, word, values)
				}
			}
		}
	}
	return true
}

// shown checks that a message is one that people can read, of a limited number of lines.
func shown(t *testing.T, what, message string) {
	t.Helper()
	if len(message) > 1500 {
		t.Errorf("%s: the message has %d bytes: %.200q…", what, len(message), message)
	}
	if i := strings.IndexFunc(message, func(c rune) bool { return !unicode.IsPrint(c) }); i >= 0 {
		t.Errorf("%s: the message has %q in %.300q", what, message[i:min(i+4, len(message))], message)
	}
}

// checkRendered reads a file as systemd does, line by line, and returns its values. No value
// may continue on the next line, be expanded, or become a key that networkd does not have.
func checkRendered(t *testing.T, what string, f units.File) (values string) {
	t.Helper()
	section := ""
	for line := range strings.Lines(string(f.Data)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.ContainsFunc(line, func(c rune) bool { return unicode.IsControl(c) && c != '\t' }):
			t.Errorf("%s: %s has %q", what, f.Path, line)
		case line == "" || line[0] == '#':
		case strings.HasSuffix(f.Path, "rt_tables.conf"):
			if fields := strings.Fields(line); len(fields) != 2 {
				t.Errorf("%s: %s has %q", what, f.Path, line)
			}
		case line[0] == '[':
			if section = strings.Trim(line, "[]"); !slices.Contains([]string{"Match", "Link", "Network", "Address", "Route", "RoutingPolicyRule", "DHCPv4", "DHCPv6", "DHCP", "IPv6AcceptRA"}, section) {
				t.Errorf("%s: %s has the section %q", what, f.Path, line)
			}
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok || section == "" || strings.HasSuffix(line, "\\") || strings.ContainsAny(value, "%$\"'") || strings.TrimSpace(value) != value || strings.ContainsFunc(key, func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) }) {
				t.Errorf("%s: %s has %q", what, f.Path, line)
			}
			values += " " + value
		}
	}
	return values
}
