package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// TestGraphvizTakesTheGraph draws each example with the real dot(1).
func TestGraphvizTakesTheGraph(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("dot"); err != nil {
		t.Skip("NOT TESTED: there is no dot here (graphviz)")
	}
	for name, file := range exampleSpecs(t) {
		graph := output(t, "graph", file)
		if again := output(t, "graph", file); again != graph {
			t.Errorf("%s: the graph is another the second time", name)
		}
		cmd := exec.Command("dot", "-Tsvg")
		var stdout, stderr bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(graph), &stdout, &stderr
		if err := cmd.Run(); err != nil || stderr.Len() > 0 || !strings.Contains(stdout.String(), "</svg>") {
			t.Errorf("%s: %v\n%s%s", name, err, &stderr, graph)
		}
		if !strings.Contains(stdout.String(), "routes of others") {
			t.Errorf("%s: table main is not in the drawing", name)
		}
	}
}
