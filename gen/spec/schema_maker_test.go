package spec

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

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
	case "probe":
		o := object{"targets": []any{"192.0.2.1"}}
		o[key] = v
		return uplink(object{"probe": o})
	}
	panic(table)
}

// maker makes the schema from what the decoder's errors say about values.
type maker struct {
	t     *testing.T
	help  map[string]map[string]manKey
	defs  object
	names map[string]string // by what the decoder wants: the name of the definition
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
		case "multipath", "probe":
			return object{"$ref": "#/$defs/" + key}
		case "uplinks":
			weight := numeric.FindString(takes.FindStringSubmatch(wrong(probe(table, key, object{"u": never}))[0])[1])
			return object{"type": "object", "additionalProperties": integer(weight, func(any) bool { return true })}
		case "uplink":
			return object{"type": "object", "propertyNames": object{"$ref": "#/$defs/name"}, "additionalProperties": object{"$ref": "#/$defs/uplink"}}
		}
	}
	name := m.names[want]
	if want == "the name of a link" && ok("eth*") {
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

// integer makes a schema of a range, without the numbers in it that the decoder refuses.
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
	if empty, ok := map[string]any{"route": []any{object{}}, "probe": object{}}[name]; ok {
		for _, msg := range wrong(object{"uplink": object{"u": object{name: empty}}}) {
			o["required"] = []string{needs.FindStringSubmatch(msg)[1]}
		}
	}
	return o
}

// class returns the set of ASCII characters that are accepted, for a regular expression
// in any dialect: ranges of punctuation do not mean the same in all.
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
func (m *maker) word(table, key string, longest int) object {
	ok := func(s string) bool { return len(wrong(probe(table, key, s))) == 0 }
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
	if !ok("7") {
		o["not"] = object{"anyOf": []any{o["not"], object{"pattern": `^\+?(?:[0-9]+|0[xX][0-9A-Fa-f]{1,13}|0[bB][01]{1,13}|0[oO][0-7]{1,13})$`}}}
	}
	return o
}

// domain returns the schema of a domain.
func (m *maker) domain() object {
	label := class(func(c string) bool { return c != "." && len(wrong(probe("uplink", "domains", []any{"x" + c}))) == 0 }) + "{1,63}"
	localhost := ""
	for _, c := range "localhost" {
		localhost += "[" + strings.ToUpper(string(c)) + string(c) + "]"
	}
	return object{
		"type": "string", "pattern": `^(?:~?(?:` + label + `(?:\.` + label + `)*\.?|\.)|~)$`, "maxLength": 255,
		"not": object{"pattern": `^~?(?:.*\.)?` + localhost + `(?:\.localdomain)?\.?$`},
	}
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
	between := func(key string) object {
		ok := func(v any) bool { return len(wrong(probe("rule", key, v))) == 0 }
		said, _, _ := strings.Cut(takes.FindStringSubmatch(wrong(probe("rule", key, int64(-1)))[0])[1], ", not ")
		return integer(said, ok)
	}
	protocols := []any{}
	for name := range IPProtocols {
		protocols = append(protocols, name)
	}
	for _, n := range IPProtocols {
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
		"the name of a link":                                  "interface",
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
		"mark":              object{"anyOf": []any{object{"type": "integer", "minimum": 0, "maximum": int64(0xffffffff)}, text(number + "(?:/" + number + ")?")}},
		"table":             object{"anyOf": []any{between("table"), object{"enum": []string{"main", "default"}}, object{"$ref": "#/$defs/name"}}},
		"mac":               text(`[0-9A-Fa-f]{2}(?:[:\-][0-9A-Fa-f]{2}){5}`),
		"interface":         m.word("rule", "iif", 15),
		"interface-pattern": m.word("uplink", "interface", 127),
		"pattern":           m.word("uplink", "driver", 1024),
		"domain":            m.domain(),
		"ports":             object{"anyOf": []any{between("dport"), object{"type": "string", "pattern": numbers}}},
		"uids": object{
			"anyOf": []any{between("uidrange"), object{"type": "string", "pattern": numbers}},
			"not":   object{"anyOf": []any{object{"const": 65535}, object{"type": "string", "pattern": `^0*65535(?:-|$)|-0*65535$`}}},
		},
		"ipproto": object{"enum": protocols},
		"online": object{"anyOf": []any{
			object{"type": "boolean"},
			object{"enum": append([]string{"yes", "no"}, operStates...)},
			text(states + ":" + states),
		}},
	}
	keys := keysByTable()
	for table, def := range map[string]string{"uplink": "uplink", "route": "route", "route.multipath": "way", "rule": "rule", "probe": "probe", "multipath": "multipath"} {
		m.defs[def] = m.table(table, keys[table])
	}
	top := m.table("", keys[""])
	top["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	top["title"] = "uplink.toml"
	top["description"] = "Uplinks of a host with several network links: uplink.toml(5). One file, or a drop-in; `uplinkctl check` finds more."
	top["$defs"] = m.defs
	return top
}

// keysByTable returns the keys that a spec may have, by the table in which they stand: ""
// for the top level, "uplink", "probe", "route", "route.multipath", "rule" and "multipath".
func keysByTable() map[string][]string {
	return map[string][]string{
		"": topKeys, "uplink": uplinkKeys, "probe": probeKeys, "route": routeKeys, "route.multipath": nexthopKeys, "rule": ruleKeys, "multipath": multipathKeys,
	}
}
