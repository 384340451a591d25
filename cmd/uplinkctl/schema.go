package main

import (
	"flag"
	"io"

	"github.com/uplink-generator/uplink-generator/gen/spec"
)

const schemaUsage = `Usage: uplinkctl schema

Print the JSON Schema (draft 2020-12) of the spec's files, for editors: they
complete keys and words, show what a key means, and mark wrong values while you
write. It is the schema of this version of uplinkctl. What is wrong only in
combination is found by check alone.

Exit status: 0 done, 1 an error, 2 wrong usage.

Examples:
  uplinkctl schema > uplink.schema.json
`

func schemaCommand() *command {
	return &command{
		name: "schema", usage: schemaUsage,
		flags: func(*flag.FlagSet) {},
		run: onlyLooks(schemaUsage, func(stdout, _ io.Writer) error {
			_, err := io.WriteString(stdout, spec.Schema)
			return err
		}),
	}
}
