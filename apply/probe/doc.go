// Package probe finds out whether uplinks work: it repeatedly asks targets beyond the provider,
// by the uplink in question, and damps the results.
package probe
