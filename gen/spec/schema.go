package spec

import _ "embed" // for Schema

// Schema is a JSON Schema (draft 2020-12) of one file of the spec, main file or
// drop-in, for editors. It is made from what the decoder accepts, and checks single
// values only: values that do not fit together are for uplinkctl check to find.
//
//go:embed uplink.schema.json
var Schema string
