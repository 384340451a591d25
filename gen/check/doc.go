// Package check finds what is valid in a spec, and still not what anybody wants: sources
// that leave by another uplink, rules that nothing reaches, a family without a way out.
// gen/spec and gen refuse what is wrong; a warning never keeps a spec from being used.
//
// It stands beside the way from spec to kernel: `uplinkctl check` hands it the Spec and the
// State compiled from it, and it sends packets through that State with gen/lookup.
package check
