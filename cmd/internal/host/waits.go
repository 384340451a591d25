package host

import "github.com/uplink-generator/uplink-generator/apply"

// WaitText says for people why an uplink waits. Only IPv6 that is switched off on its
// link is not waited for.
func WaitText(w apply.Waiting) string {
	if w.Inet6 {
		return w.String() + ": its IPv6 part is left out"
	}
	return w.String() + ": it waits"
}
