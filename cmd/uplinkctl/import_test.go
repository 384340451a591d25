package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// TestHandOverIsTakenAsItStands runs what a spec says to run: the shell does not touch the lines
// for ip(8), whatever the links are called.
func TestHandOverIsTakenAsItStands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ip"), []byte("#!/bin/sh\nexec cat\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	var ops []apply.Op
	var want string
	for i, f := range fib.Families {
		r := &fib.Rule{Family: f, Priority: 5, IIF: []string{"$(id)", "`id`$HOME\\"}[i], Action: fib.Lookup, Table: 7}
		ops = append(ops, apply.Op{Verb: apply.RuleAdd, Rule: r})
		want += "rule add priority 5 from all iif " + r.IIF + " lookup 7 protocol 118\n"
	}
	spec := filepath.Join(dir, "spec")
	if err := os.WriteFile(spec, []byte(handOverText(ops)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", "sed -n 's/^#~ //p' "+spec+" | sh -e")
	cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != want {
		t.Errorf("%v\n got %s\nwant %s", err, strings.TrimSpace(string(out)), want)
	}
}
