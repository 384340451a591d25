// Package probe finds out whether uplinks work: it asks targets beyond the provider
// again and again, by the uplink in question, and damps what comes of it.
package probe
