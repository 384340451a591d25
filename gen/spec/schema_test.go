package spec

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/rogpeppe/go-internal/txtar"
	// It passes the whole test suite of draft 2020-12, and has no dependency but x/text.
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "rewrite uplink.schema.json")

type object = map[string]any

// wrong reads a tree as the decoder does, and returns what it finds wrong.
func wrong(tree object) (messages []string) {
	d := &document{over: map[string]*source{}, sources: []*source{{name: "probe"}}, tree: tree}
	dec := decoder{doc: d}
	dec.spec(tree)
	for _, e := range d.errs {
		messages = append(messages, e.Msg)
	}
	return messages
}

// probe is a spec with one key of one table set.
func probe(table, key string, v any) object {
	uplink := func(o object) object { return object{"uplink": object{"u": o, "v": object{}}} }
	one := func(o object) []any { return []any{o} }
	switch table {
	case "":
		return object{key: v}
	case "multipath":
		return object{"multipath": object{key: v}}
	case "uplink":
		return uplink(object{key: v})
	case "route":
		o := object{"to": "default"}
		o[key] = v
		return uplink(object{"route": one(o)})
	case "route.multipath":
		return uplink(object{"route": one(object{"to": "default", "multipath": one(object{key: v})})})
	case "rule":
		return uplink(object{"rule": one(object{key: v})})
	}
	panic(table)
}

// maker makes the schema out of what the decoder says of values.
type maker struct {
	t     *testing.T
	help  map[string]map[string]manKey
	defs  object
	names map[string]string // by what the decoder wants: the definition
}

// never is a value that no key takes.
var never = time.Time{}

var (
	takes   = regexp.MustCompile("^`[a-z0-9-]+` takes (.*?)(?:, not a date or time)?$")
	numeric = regexp.MustCompile(`^a number from ([0-9]+) to ([0-9]+)$`)
	words   = regexp.MustCompile(`^"[^"]+"(?:, "[^"]+")* or "[^"]+"$`)
	word    = regexp.MustCompile(`"([^"]+)"`)
	needs   = regexp.MustCompile("^a [a-z]+ needs `([a-z]+)`$")
)

// value returns the schema of a key's value, or, wrapped in an array, of its entries.
func (m *maker) value(table, key string, wrap func(any) any) object {
	ok := func(v any) bool { return len(wrong(probe(table, key, wrap(v)))) == 0 }
	said := wrong(probe(table, key, wrap(never)))
	match := takes.FindStringSubmatch(strings.Join(said, "; "))
	if match == nil {
		m.t.Fatalf("[%s] %s: the decoder says %q", table, key, said)
	}
	want := match[1]
	switch {
	case want == "true or false":
		return object{"type": "boolean"}
	case numeric.MatchString(want):
		return integer(want, ok)
	case words.MatchString(want):
		enum := []string{}
		for _, w := range word.FindAllStringSubmatch(want, -1) {
			if ok(w[1]) {
				enum = append(enum, w[1])
			}
		}
		return object{"enum": enum}
	case strings.HasPrefix(want, "an array of "):
		return m.array(table, key, want, ok)
	case want == "a table":
		switch key {
		case "multipath":
			return object{"$ref": "#/$defs/multipath"}
		case "uplinks":
			weight := numeric.FindString(takes.FindStringSubmatch(wrong(probe(table, key, object{"u": never}))[0])[1])
			return object{"type": "object", "additionalProperties": integer(weight, func(any) bool { return true })}
		case "uplink":
			return object{"type": "object", "propertyNames": object{"$ref": "#/$defs/name"}, "additionalProperties": object{"$ref": "#/$defs/uplink"}}
		}
	}
	name := m.names[want]
	if want == "an interface name" && ok("eth*") {
		name = "interface-pattern"
	}
	if name == "" {
		m.t.Fatalf("[%s] %s: there is no definition for %q", table, key, want)
	}
	ref := object{"$ref": "#/$defs/" + name}
	if name == "prefix" && ok("default") {
		return object{"anyOf": []any{object{"const": "default"}, ref}}
	}
	return ref
}

// integer makes a schema of a range, without the numbers in it that are not taken.
func integer(want string, ok func(any) bool) object {
	match := numeric.FindStringSubmatch(want)
	lo, _ := strconv.ParseInt(match[1], 10, 64)
	hi, _ := strconv.ParseInt(match[2], 10, 64)
	o := object{"type": "integer", "minimum": lo, "maximum": hi}
	last := min(hi, 400)
	var taken, refused []int64
	for n := lo; n <= last; n++ {
		if ok(n) {
			taken = append(taken, n)
		} else {
			refused = append(refused, n)
		}
	}
	switch {
	case len(refused) == 0:
	case len(refused) < 10:
		o["not"] = object{"enum": refused}
	default:
		o["multipleOf"] = taken[1] - taken[0]
	}
	return o
}

func (m *maker) array(table, key, want string, ok func(any) bool) object {
	o := object{"type": "array"}
	switch {
	case !strings.HasPrefix(want, "an array of tables: "):
		o["items"] = m.value(table, key, func(v any) any { return []any{v} })
	case table == "route":
		o["items"] = object{"$ref": "#/$defs/way"}
	default:
		o["items"] = object{"$ref": "#/$defs/" + key}
	}
	if !ok([]any{}) {
		o["minItems"] = 1
	}
	if ok([]any{"192.0.2.1"}) && !ok([]any{"192.0.2.1", "192.0.2.1"}) {
		o["uniqueItems"] = true
	}
	return o
}

// table returns the schema of a table of the spec.
func (m *maker) table(name string, keys []string) object {
	properties := object{}
	for _, key := range keys {
		o := m.value(name, key, func(v any) any { return v })
		help, known := m.help[name][key]
		if !known {
			m.t.Errorf("the page does not describe %s of [%s]", key, name)
		}
		o["description"] = help.text
		if help.def != nil {
			o["default"] = help.def
		}
		properties[key] = o
	}
	o := object{"type": "object", "additionalProperties": false, "properties": properties}
	if name == "route" {
		for _, msg := range wrong(object{"uplink": object{"u": object{"route": []any{object{}}}}}) {
			o["required"] = []string{needs.FindStringSubmatch(msg)[1]}
		}
	}
	return o
}

// class is the set of the ASCII characters that are taken, for a regular expression of
// any kind: ranges of punctuation are not the same everywhere.
func class(ok func(string) bool) string {
	var b strings.Builder
	for _, group := range []string{"0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"} {
		taken := slices.DeleteFunc(strings.Split(group, ""), func(c string) bool { return !ok(c) })
		if len(taken) == len(group) {
			b.WriteString(taken[0] + "-" + taken[len(taken)-1])
		} else {
			b.WriteString(strings.Join(taken, ""))
		}
	}
	for _, c := range " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~" {
		if !ok(string(c)) {
			continue
		}
		if strings.ContainsRune(`\]^-[`, c) {
			b.WriteString(`\`)
		}
		b.WriteString(string(c))
	}
	return "[" + b.String() + "]"
}

// word returns a pattern for the strings that a key takes, from its characters.
func (m *maker) word(table, key string, wrap func(any) any, longest int) object {
	ok := func(s string) bool { return len(wrong(probe(table, key, wrap(s)))) == 0 }
	rest := class(func(c string) bool { return ok("x"+c) || ok("x"+c+"a]") || ok("x[a"+c) })
	first := class(func(c string) bool { return ok(c) || ok(c+"x") || ok(c+"x]") })
	o := object{"type": "string", "pattern": "^" + first + rest + "*$", "maxLength": longest}
	if first == rest {
		o["pattern"] = "^" + rest + "+$"
	}
	var not []string
	for _, s := range []string{".", "..", "all", "default", "lo"} {
		if !ok(s) {
			not = append(not, s)
		}
	}
	if not != nil {
		o["not"] = object{"enum": not}
	}
	return o
}

func (m *maker) schema() object {
	const (
		octet   = `(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])`
		inet    = `(?:` + octet + `\.){3}` + octet
		inet6   = `(?:[0-9A-Fa-f]{0,4}:){2,8}(?:[0-9A-Fa-f]{0,4}|` + inet + `)`
		length  = `/(?:3[0-2]|[12][0-9]|[1-9])`
		length6 = `/(?:12[0-8]|1[01][0-9]|[1-9][0-9]|[1-9])`
		number  = `(?:0[xX][0-9A-Fa-f_]+|0[bB][01_]+|0[oO][0-7_]+|[0-9][0-9_]*)`
		numbers = `^[0-9]+(?:-[0-9]+)?$`
	)
	text := func(pattern string) object { return object{"type": "string", "pattern": "^(?:" + pattern + ")$"} }
	plain, entry := func(v any) any { return v }, func(v any) any { return []any{v} }
	between := func(key string) object {
		ok := func(v any) bool { return len(wrong(probe("rule", key, v))) == 0 }
		said, _, _ := strings.Cut(takes.FindStringSubmatch(wrong(probe("rule", key, int64(-1)))[0])[1], ", not ")
		return integer(said, ok)
	}
	protocols := []any{}
	for name := range ipProtocols {
		protocols = append(protocols, name)
	}
	for _, n := range ipProtocols {
		protocols = append(protocols, n)
	}
	slices.SortFunc(protocols, func(a, b any) int { return strings.Compare(fmt.Sprintf("%T%4v", a, a), fmt.Sprintf("%T%4v", b, b)) })
	reserved := []string{}
	for _, s := range []string{"all", "default", "lo", "local", "main", "unspec"} {
		if len(wrong(object{"uplink": object{s: object{}}})) == 0 {
			m.t.Errorf("%s can be an uplink's name", s)
		}
		reserved = append(reserved, s)
	}
	states := "(?:" + strings.Join(operStates, "|") + ")"
	m.names = map[string]string{
		"an IP address":                                       "address",
		"a prefix, like \"192.0.2.0/24\"":                     "prefix",
		"a mark: a number, \"0x10\" or \"0x10/0xff\"":         "mark",
		"an IP address with a length, like \"192.0.2.10/24\"": "subnet",
		"a number, \"main\", \"default\" or an uplink's name": "table",
		"the name of an uplink":                               "name",
		"an interface name":                                   "interface",
		"a name or a pattern":                                 "pattern",
		"a MAC address, like \"02:00:00:00:00:01\"":           "mac",
		"a port or a range like \"8000-8100\"":                "ports",
		"a user id or a range like \"1000-1999\"":             "uids",
		"an IP protocol by name or number":                    "ipproto",
		"a domain":                                            "domain",
		"true, false or an operational state":                 "online",
	}
	m.defs = object{
		"name": object{
			"type": "string", "pattern": `^[A-Za-z0-9_][A-Za-z0-9_.\-]*$`, "maxLength": 64,
			"not": object{"anyOf": []any{object{"enum": reserved}, object{"pattern": `^(?:0|[1-9][0-9]{0,18}|0[xX][0-9A-Fa-f]{1,16})$`}}},
		},
		"address":           text(inet + "|" + inet6),
		"subnet":            text(inet + length + "|" + inet6 + length6),
		"prefix":            text(inet + "(?:/0|" + length + ")?|" + inet6 + "(?:/0|" + length6 + ")?"),
		"mark":              object{"anyOf": []any{object{"type": "integer", "minimum": 0, "maximum": 0xffffffff}, text(number + "(?:/" + number + ")?")}},
		"table":             object{"anyOf": []any{between("table"), object{"enum": []string{"main", "default"}}, object{"$ref": "#/$defs/name"}}},
		"mac":               text(`[0-9A-Fa-f]{2}(?:[:\-][0-9A-Fa-f]{2}){5}`),
		"interface":         m.word("rule", "iif", plain, 15),
		"interface-pattern": m.word("uplink", "interface", plain, 127),
		"pattern":           m.word("uplink", "driver", plain, 1024),
		"domain":            m.word("uplink", "domains", entry, 1024),
		"ports":             object{"anyOf": []any{between("dport"), object{"type": "string", "pattern": numbers}}},
		"uids":              object{"anyOf": []any{between("uidrange"), object{"type": "string", "pattern": numbers}}},
		"ipproto":           object{"enum": protocols},
		"online": object{"anyOf": []any{
			object{"type": "boolean"},
			object{"enum": append([]string{"yes", "no"}, operStates...)},
			text(states + ":" + states),
		}},
	}
	keys := Keys()
	for table, def := range map[string]string{"uplink": "uplink", "route": "route", "route.multipath": "way", "rule": "rule", "multipath": "multipath"} {
		m.defs[def] = m.table(table, keys[table])
	}
	top := m.table("", keys[""])
	top["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	top["title"] = "uplink.toml"
	top["description"] = "Uplinks of a host with several network cards: uplink.toml(5). One file, or a drop-in; `uplinkctl check` finds more."
	top["$defs"] = m.defs
	return top
}

// manKey is what uplink.toml(5) says of a key.
type manKey struct {
	text string
	def  any
}

// readManual returns what the page says of the keys, by table.
func readManual(t *testing.T) map[string]map[string]manKey {
	t.Helper()
	data, err := os.ReadFile("uplink.toml.5")
	if err != nil {
		t.Fatal(err)
	}
	roff := strings.NewReplacer(`\-`, "-", `\(dq`, "\x01", `\(aq`, "'", `\(ti`, "~", `\(ha`, "^", `\~`, " ", `\&`, "", `\fR`, "", `\[u2026]`, "…")
	arguments := func(s string) string {
		s = roff.Replace(s)
		var b strings.Builder
		for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
			arg := ""
			if rest, quoted := strings.CutPrefix(s, `"`); quoted {
				arg, s, _ = strings.Cut(rest, `"`)
			} else {
				arg, s, _ = strings.Cut(s, " ")
			}
			b.WriteString(arg)
		}
		return strings.ReplaceAll(b.String(), "\x01", `"`)
	}
	sections := map[string]string{"TOP LEVEL": "", "UPLINK": "uplink", "ROUTE": "route", "RULE": "rule", "MULTIPATH": "multipath", "Ways of a multipath route": "route.multipath"}
	defaults := regexp.MustCompile(`default (\S+)\)$`)
	manual := map[string]map[string]manKey{}
	section, known := "", false
	var keys []string
	var key manKey
	store := func() {
		for _, k := range keys {
			key.text = strings.TrimSpace(key.text)
			manual[section][k] = key
		}
		keys, key = nil, manKey{}
	}
	tag := false
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		macro, rest := "", line
		if strings.HasPrefix(line, ".") {
			macro, rest, _ = strings.Cut(line, " ")
		}
		s := arguments(rest)
		if macro == "" {
			s = strings.ReplaceAll(roff.Replace(line), "\x01", `"`)
		}
		switch {
		case macro == ".SH" || macro == ".SS":
			store()
			rest = strings.ReplaceAll(roff.Replace(rest), `"`, "")
			if to, is := sections[rest]; is {
				section, known = to, true
			} else if macro == ".SH" {
				known = false
			}
			if known && manual[section] == nil {
				manual[section] = map[string]manKey{}
			}
		case !known:
		case macro == ".TP" || macro == ".PP":
			store()
			tag = macro == ".TP"
		case tag:
			tag = false
			name, typed, _ := strings.Cut(s, " (")
			keys = strings.Split(name, ", ")
			if match := defaults.FindStringSubmatch(typed); match != nil && json.Unmarshal([]byte(match[1]), &key.def) != nil {
				key.def = nil // "none", "unset"
			}
		case keys != nil && (macro == "" || macro == ".B" || macro == ".I" || strings.HasPrefix(macro, ".B") || strings.HasPrefix(macro, ".RB") || strings.HasPrefix(macro, ".I")):
			if macro == ".IP" {
				continue
			}
			if macro == ".B" || macro == ".I" {
				s = strings.ReplaceAll(strings.ReplaceAll(roff.Replace(rest), `"`, ""), "\x01", `"`)
			}
			key.text += " " + s
		}
	}
	store()
	return manual
}

// TestSchema makes the schema anew, and compares it with the one that is shipped.
func TestSchema(t *testing.T) {
	m := &maker{t: t, help: readManual(t)}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(m.schema()); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("uplink.schema.json", b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if b.String() != Schema {
		t.Error("uplink.schema.json is not what the decoder takes: go test ./gen/spec -run TestSchema -update")
	}
}

func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("uplink.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("uplink.schema.json") // held against the schema of schemas
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asJSON makes a tree of the TOML library one that a validator knows.
func asJSON(v any) any {
	switch v := v.(type) {
	case []map[string]any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = asJSON(e)
		}
		return list
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = asJSON(e)
		}
		return list
	case map[string]any:
		o := object{}
		for key, e := range v {
			o[key] = asJSON(e)
		}
		return o
	case time.Time:
		return v.Format(time.RFC3339)
	}
	return v
}

func TestSchemaTakesTheExamples(t *testing.T) {
	s := compileSchema(t)
	files, err := filepath.Glob("../../integration/examples/*/root/etc/uplink/uplink.toml")
	if err != nil || len(files) < 8 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		tree := object{}
		if _, err := toml.DecodeFile(f, &tree); err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(asJSON(tree)); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}

// single are the beginnings and middles of messages about a single value: what a schema
// can know as well. The others are about what stands together, or need arithmetic.
var single = regexp.MustCompile("^unknown key|` takes |is a key of an uplink|cannot be an uplink's name|needs `to`$|`multipath` is empty" +
	"|is not an IP address|is not a MAC address|is not an interface name$|is not a name or a pattern$|is not a domain$|is longer than|is not an IP protocol|ECN bits|is the kernel's own|its subnet is everything")

// beyond are messages of those that a pattern cannot know all the same.
var beyond = regexp.MustCompile(`matches lo$|takes a port or a range .* not "[0-9-]+"$|takes a user id or a range .* not "[0-9-]+"$|takes a mark.* not "[0-9a-fx/]+"$`)

// TestSchemaFindsWhatItCan holds the schema against the golden specs: it takes each file
// without an error, and refuses each that has one in a single value.
func TestSchemaFindsWhatItCan(t *testing.T) {
	s := compileSchema(t)
	cases, err := filepath.Glob("../testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	refused, accepted := 0, 0
	for _, c := range cases {
		a, err := txtar.ParseFile(c)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files {
			if !strings.HasSuffix(f.Name, ".toml") {
				continue
			}
			tree := object{}
			if _, err := toml.Decode(string(f.Data), &tree); err != nil {
				continue
			}
			// References to other uplinks may be to those of another file.
			said := strings.Join(slices.DeleteFunc(wrong(tree), func(msg string) bool { return strings.HasPrefix(msg, "no uplink is called") }), "\n")
			knows := slices.ContainsFunc(strings.Split(said, "\n"), func(msg string) bool { return single.MatchString(msg) && !beyond.MatchString(msg) })
			err := s.Validate(asJSON(tree))
			switch {
			case err == nil && knows:
				t.Errorf("%s: %s: not found:\n%s", c, f.Name, said)
			case err != nil && said == "":
				t.Errorf("%s: %s: %v", c, f.Name, err)
			case err != nil:
				refused++
			default:
				accepted++
			}
		}
	}
	if refused < 10 || accepted < 50 {
		t.Errorf("only %d refused, %d accepted", refused, accepted)
	}
}

// TestSchemaOfSingleValues sets each key to each of many values: what the decoder takes
// the schema takes, and most of what the decoder refuses it refuses.
func TestSchemaOfSingleValues(t *testing.T) {
	s := compileSchema(t)
	values := []any{
		true, false, int64(-1), int64(0), int64(1), int64(4), int64(5), int64(16), int64(67), int64(68), int64(253), int64(255), int64(256), int64(32765), int64(32766),
		int64(65534), int64(65535), int64(65536), int64(4294967294), int64(4294967295), int64(4294967296), 1.5, []any{}, object{},
		"", "no", "yes", "ipv4", "ipv6", "both", "main", "default", "local", "u", "v", "w", "auto", "networkd", "netlink", "link", "policy",
		"unreachable", "blackhole", "prohibit", "throw", "unicast", "nop", "global", "universe", "host", "nowhere", "routable", "degraded:routable", "routable:degraded",
		"192.0.2.1", "192.0.2.256", "192.0.2.01", "192.0.2.0/24", "192.0.2.1/24", "0.0.0.0/0", "192.0.2.1/33", "192.0.2.1/032", "2001:db8::1", "::", "::/0", "1:2:3:4:5:6:7::", "::1:2:3:4:5:6:7",
		"1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:9", "::ffff:192.0.2.1", "64:ff9b::192.0.2.1", "64:ff9b::192.0.2.1/128", "2001:db8::/32", "2001:db8::1/64", "2001:DB8::/129", "fe80::1%eth0",
		"eth0", "eth*", "eth[0-9]", "eth[", "eth0.10", "eth0:1", "eth 0", "!eth0", "a!", "lo", "l*", "veryveryverylongname", "wörld", ".", "..", "a-b", "a_b", "<a>", "a`b", "a|b", "a]b", "a\\b", "a^b", "a\\*", "[!a]b", "~", "~example.org", "example.org.",
		"02:00:00:00:00:01", "02-00-00-00-00-0A", "02:00-00:00:00:01", "02:00:00:00:00", "pci-0000:00:1f.6", "pci-*/x", "tcp", "ipv6-icmp", "tcpp",
		"80", "080", "80-81", "81-80", "0", "65535", "0-5", "1000-1999", "-5", "0x10", "0X1F/0xff", "010", "0b11", "0o17", "1_0", "0x1_f", "0x10/", "0x10/0", "ff", "x%y", "x$y", "x\ty", strings.Repeat("x", 64), strings.Repeat("x", 65), strings.Repeat("x", 127), strings.Repeat("x", 128), strings.Repeat("x", 1025),
	}
	both, late := 0, map[string][]string{}
	for table, keys := range Keys() {
		for _, key := range keys {
			for _, v := range values {
				for _, v := range []any{v, []any{v}, []any{v, v}, object{"u": v}} {
					tree := probe(table, key, v)
					said, err := wrong(tree), s.Validate(asJSON(tree))
					switch {
					case len(said) == 0 && err != nil:
						t.Errorf("[%s] %s = %#v: %v", table, key, v, err)
					case len(said) > 0 && err == nil:
						late[table+"."+key] = append(late[table+"."+key], fmt.Sprintf("%v: %s", v, said[0]))
					case len(said) > 0:
						both++
					}
				}
			}
		}
	}
	missed := 0
	for _, l := range late {
		missed += len(l)
	}
	if missed*100 > both {
		t.Errorf("%d are refused by both, %d by the decoder alone:\n%v", both, missed, late)
	}
	for _, name := range []string{"u", "a.b-c", "9x", "1_", "all", "0x1f", "12", "lo", "-a", ".a", "ö", "", strings.Repeat("9", 64), strings.Repeat("a", 65)} {
		tree := object{"uplink": object{name: object{}}}
		said, err := wrong(tree), s.Validate(tree)
		if (len(said) == 0) != (err == nil) {
			t.Errorf("[uplink.%q]: %q, %v", name, said, err)
		}
	}
}
