package main

import (
	"encoding/json"
	"io"
)

// writeJSON writes what a command prints with --json or --format json.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // the output is not part of an HTML page
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
