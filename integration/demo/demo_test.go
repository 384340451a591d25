package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/need"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// TestTheREADMEShowsTheDemo checks that the session in the README equals a real one.
func TestTheREADMEShowsTheDemo(t *testing.T) {
	need.Nil(t, lab.Require(lab.NeedNetworkd))
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin+"/", ".", "../../cmd/uplinkctl").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	demo := exec.Command(filepath.Join(bin, "demo"))
	demo.Dir = "../.."
	out, err := demo.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, session, _ := strings.Cut(string(readme), "`make demo` shows (shortened):\n\n```\n")
	session, _, found := strings.Cut(session, "\n```\n")
	if !found {
		t.Fatal("the README has no session")
	}
	// In any order: networkd adds rules of one priority in varying order.
	shown := map[string]int{}
	for line := range strings.Lines(string(out)) {
		shown[strings.TrimSpace(line)]++
	}
	for line := range strings.Lines(session) {
		line = strings.TrimSpace(line)
		if shown[line]--; line != "" && shown[line] < 0 {
			t.Errorf("%q is not in what the demo shows:\n%s", line, out)
		}
	}
}
