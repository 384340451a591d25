package spec

import "strconv"

// nameless says whether an uplink's keys stand in [uplink] itself, and reports the first
// one: what is missing is the name, once for all of them.
func (d *decoder) nameless(uplinks any) bool {
	var first []string
	start := 0
	m, _ := uplinks.(map[string]any)
	for _, key := range uplinkKeys {
		v, there := m[key]
		if _, isTable := v.(map[string]any); !there || isTable {
			continue
		}
		path := []string{"uplink", key}
		if p, _ := d.doc.source(path).place(path); first == nil || p.key.start < start {
			first, start = path, p.key.start
		}
	}
	if first == nil {
		return false
	}
	d.doc.failKey(first, "`"+first[1]+"` is a key of an uplink", "give the uplink a name: write [uplink.NAME]")
	return true
}

// uplinkName checks the name of an uplink.
func (d *decoder) uplinkName(name string) bool {
	help := againstName(name)
	if help != "" {
		d.doc.failKey(d.path, quote(name)+" cannot be an uplink's name", help)
	}
	return help == ""
}

// IsName says whether an uplink may have this name.
func IsName(name string) bool { return againstName(name) == "" }

// againstName says why a name cannot be an uplink's, which becomes a table's name and part
// of file names; "" if it can.
func againstName(name string) string {
	switch name {
	case "default", "main", "local", "unspec", "all", "lo":
		return "it has a meaning of its own for iproute2 or systemd"
	case "":
		return "give it one, as in [uplink.isp1]"
	}
	if len(name) > 64 {
		return "at most 64 characters"
	}
	for i, c := range name {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
		if !letter && (i == 0 || c != '-' && c != '.') {
			return "letters, digits, `_`, and after the first also `-` and `.`"
		}
	}
	if _, err := strconv.ParseUint(name, 0, 64); err == nil {
		return "iproute2 would take it for the number of a table"
	}
	return ""
}
