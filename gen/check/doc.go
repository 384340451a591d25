// Package check finds what is not wrong in a spec, and still not what anybody wants:
// sources that leave by another uplink, rules that nothing reaches, a family without a
// way out. What is wrong is gen/spec's and gen's to refuse; a warning never keeps a spec
// from being used.
//
// It stands beside the data's way: `uplinkctl check` gives it the Spec and the State that
// was compiled of it, and it sends packets through that with gen/lookup.
package check
