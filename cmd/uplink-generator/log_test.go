package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/uplink-generator/uplink-generator/gen"
)

// TestTheKernelTakesEachRecord has lines that are long in bytes, but not in characters.
func TestTheKernelTakesEachRecord(t *testing.T) {
	t.Parallel()
	const most = 976
	for _, line := range []string{strings.Repeat("x", 5000), strings.Repeat("網", 400), "x" + strings.Repeat("é", 4000)} {
		r := record(gen.LogErr, line)
		if len(r) > most || len(r) < most/2 || !utf8.ValidString(r) || !strings.HasPrefix(r, "<3>uplink-generator[") || !strings.HasSuffix(r, "\n") {
			t.Errorf("%d bytes: %q", len(r), r)
		}
	}
}
