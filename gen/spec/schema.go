package spec

import _ "embed" // for Schema

// Schema is a JSON Schema (draft 2020-12) of one file of the spec, main file or
// drop-in, for editors. It is made from what the decoder takes, and knows of single
// values only: what stands together wrongly is for uplinkctl check to find.
//
//go:embed uplink.schema.json
var Schema string
