package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTheComparisonNamesItsSources holds the table to the page's own rule: each statement about
// another program has the number of a source, or says that it was not looked at.
func TestTheComparisonNamesItsSources(t *testing.T) {
	data, err := os.ReadFile("doc/comparison.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	sources, used := map[string]bool{}, map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([0-9]+)\. `).FindAllStringSubmatch(text, -1) {
		sources[m[1]] = true
	}
	number := regexp.MustCompile(`\[([0-9]+)\]`)
	cells := 0
	for line := range strings.Lines(text) {
		row := strings.Split(strings.TrimSpace(line), "|")
		if len(row) < 9 || strings.HasPrefix(row[1], "---") || strings.TrimSpace(row[1]) == "" {
			continue
		}
		for i, cell := range row[3 : len(row)-1] { // without what is compared, and our column
			cells++
			if strings.TrimSpace(cell) == "not looked at" {
				continue
			}
			found := number.FindAllStringSubmatch(cell, -1)
			if len(found) == 0 {
				t.Errorf("%s, column %d: %s has no source", row[1], i+3, cell)
			}
			for _, m := range found {
				if used[m[1]] = true; !sources[m[1]] {
					t.Errorf("%s: there is no source %s", row[1], m[1])
				}
			}
		}
	}
	if cells < 50 {
		t.Fatalf("found %d cells", cells)
	}
	for n := range sources {
		if !used[n] {
			t.Errorf("nothing is from source %s", n)
		}
	}
}
