package main

import (
	"io"
	"net/url"
	"strings"

	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen/check"
)

// specError is the id of a finding for which a spec is refused.
const specError = "spec-error"

// jsonFinding and the types in it are the stable form of check --format json; absent values are
// left out.
type jsonFinding struct {
	ID      string `json:"id"`
	Uplink  string `json:"uplink,omitempty"`
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
	Help    string `json:"help,omitempty"`
}

type jsonFindings struct {
	Version  int           `json:"version"`
	OK       bool          `json:"ok"`
	Files    []string      `json:"files"`
	Errors   []jsonFinding `json:"errors"`
	Warnings []jsonFinding `json:"warnings"`
}

func (f *findings) json(w io.Writer, strict bool) error {
	out := jsonFindings{Version: 1, OK: f.ok(strict), Files: append([]string{}, f.files...), Errors: []jsonFinding{}, Warnings: []jsonFinding{}}
	for _, e := range f.errors {
		out.Errors = append(out.Errors, jsonFinding{ID: specError, File: e.File, Line: e.Line, Column: e.Col, Message: e.Msg, Help: e.Help})
	}
	for _, w := range f.warnings {
		out.Warnings = append(out.Warnings, jsonFinding{ID: string(w.ID), Uplink: w.Uplink, File: w.Origin.File, Line: w.Origin.Line, Message: w.Text, Help: w.Help})
	}
	return writeJSON(w, out)
}

// The part of SARIF 2.1.0 (OASIS, section 3) that code hosts read.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool       sarifTool     `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID               string       `json:"id"`
		ShortDescription sarifMessage `json:"shortDescription"`
		Default          sarifDefault `json:"defaultConfiguration"`
	}
	sarifDefault struct {
		Level string `json:"level"`
	}
	sarifMessage struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID    string          `json:"ruleId"`
		RuleIndex int             `json:"ruleIndex"`
		Level     string          `json:"level"`
		Message   sarifMessage    `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifLocation struct {
		Physical sarifPhysical `json:"physicalLocation"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn,omitempty"`
	}
)

func (f *findings) sarif(w io.Writer) error {
	driver := sarifDriver{
		Name: "uplinkctl", Version: strings.Fields(run.Version("uplinkctl"))[1],
		Rules: []sarifRule{{specError, sarifMessage{"The spec is wrong, and is not used."}, sarifDefault{"error"}}},
	}
	index := map[check.ID]int{}
	for _, k := range check.Kinds {
		index[k.ID] = len(driver.Rules)
		what := strings.ToUpper(k.What[:1]) + k.What[1:] + "."
		driver.Rules = append(driver.Rules, sarifRule{string(k.ID), sarifMessage{what}, sarifDefault{"warning"}})
	}
	results := []sarifResult{} // if it were absent, nothing would have been looked at (3.14.23)
	add := func(rule int, text, help, file string, line, column int) {
		if help != "" {
			text += " (" + help + ")"
		}
		at := sarifPhysical{Artifact: sarifArtifact{uri(file)}}
		if line > 0 {
			at.Region = &sarifRegion{line, column}
		}
		r := driver.Rules[rule]
		results = append(results, sarifResult{r.ID, rule, r.Default.Level, sarifMessage{text}, []sarifLocation{{at}}})
	}
	for _, e := range f.errors {
		add(0, e.Msg, e.Help, e.File, e.Line, e.Col)
	}
	for _, w := range f.warnings {
		add(index[w.ID], w.Text, w.Help, w.Origin.File, w.Origin.Line, 0)
	}
	return writeJSON(w, sarifLog{
		Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0",
		Runs: []sarifRun{{Tool: sarifTool{driver}, ColumnKind: "unicodeCodePoints", Results: results}},
	})
}

// uri makes a file's name a URI: relative as it was given, as code hosts need it, or absolute
// with its scheme.
func uri(file string) string {
	u := url.URL{Path: file}
	if strings.HasPrefix(file, "/") {
		u.Scheme = "file"
	}
	return u.String()
}
