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
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/rogpeppe/go-internal/txtar"

	// It passes the whole test suite of draft 2020-12, and has no dependency but x/text.
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "rewrite uplink.schema.json")

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
	sections := map[string]string{"TOP LEVEL": "", "UPLINK": "uplink", "ROUTE": "route", "RULE": "rule", "PROBE": "probe", "MULTIPATH": "multipath", "Ways of a multipath route": "route.multipath"}
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
	s, err := c.Compile("uplink.schema.json") // checked against the schema of schemas
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asJSON makes of a TOML library's tree one that a validator understands.
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

// single matches messages about a single value, which a schema can know too. Other
// errors are about values that do not fit together, or need arithmetic.
var single = regexp.MustCompile("^unknown key|` takes |is a key of an uplink|cannot be an uplink's name|needs `(?:to|targets)`$|`(?:multipath|targets)` is empty" +
	"|is not an IP address|is not a MAC address|is not the name of a link$|is not a name or a pattern$|is not a domain(?: for a link)?$|is longer than|is not an IP protocol|ECN bits|is the kernel's own|its subnet is everything")

// beyond matches those among them that a pattern cannot catch.
var beyond = regexp.MustCompile(`matches lo$|takes a port or a range .* not "[0-9-]+"$|takes a user id or a range .* not "[0-9-]+"$|takes a mark.* not "[0-9a-fx/]+"$`)

// TestSchemaFindsWhatItCan compares the schema with the golden specs: it must accept
// each file without an error, and refuse each with an error in a single value.
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

// TestSchemaOfSingleValues sets each key to each of many values: the schema must accept
// what the decoder accepts, and refuse most of what the decoder refuses.
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
		"80", "080", "80-81", "81-80", "0", "65535", "0-5", "65535-65536", "0-065535", "65534-65536", "1000-1999", "-5", "0x10", "0X1F/0xff", "010", "0b11", "0o17", "1_0", "0x1_f", "0x10/", "0x10/0", "ff", "x%y", "x$y", "x\ty", strings.Repeat("x", 64), strings.Repeat("x", 65), strings.Repeat("x", 127), strings.Repeat("x", 128), strings.Repeat("x", 1025),
	}
	both, late := 0, map[string][]string{}
	for table, keys := range keysByTable() {
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
