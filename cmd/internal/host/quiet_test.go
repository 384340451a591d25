package host

import "testing"

func TestCodeMapping(t *testing.T) {
	const file = "/usr/bin/uplinkctl"
	for line, want := range map[string]bool{
		"00400000-007a3000 r-xp 00000000 00:1d 4711   /usr/bin/uplinkctl":           true,
		"007a3000-00b45000 r--p 003a3000 00:1d 4711   /usr/bin/uplinkctl":           false, // relocated, maybe
		"00b45000-00b67000 rw-p 00745000 00:1d 4711   /usr/bin/uplinkctl":           false, // what was written would be lost
		"00b45000-00b67000 r-xs 00745000 00:1d 4711   /usr/bin/uplinkctl":           false,
		"00400000-007a3000 r-xp 00000000 00:1d 4711   /usr/lib/other":               false,
		"00400000-007a3000 r-xp 00000000 00:1d 4711   /usr/bin/uplinkctl (deleted)": false,
		"3f46d1800000-3f46d2400000 rw-p 00000000 00:00 0":                           false,
		"7ffd1000-7ffd2000 r-xp 00000000 00:00 0      [vdso]":                       false,
		"": false,
	} {
		start, end, ok := codeMapping(line, file)
		if ok != want {
			t.Errorf("%q: %v, want %v", line, ok, want)
		}
		if ok && (start >= end || start < 0x400000) {
			t.Errorf("%q: %x-%x", line, start, end)
		}
	}
}
