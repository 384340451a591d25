package host

import (
	"fmt"
	"io"

	"github.com/uplink-generator/uplink-generator/apply"
)

// Few is how many uplinks are shown one by one.
const Few = 16

// SayWaiting says which uplinks wait and why. Of many it names only the first, so that they do
// not drown other messages.
func SayWaiting(w io.Writer, list []apply.Waiting) {
	for _, l := range list[:min(len(list), Few)] {
		fmt.Fprintf(w, "uplinkctl: %s\n", waitText(l))
	}
	if more := MoreWait(len(list) - Few); more != "" {
		fmt.Fprintf(w, "uplinkctl: %s\n", more)
	}
}

// MoreWait says that n more uplinks wait than were named; "" for none.
func MoreWait(n int) string {
	switch {
	case n < 1:
		return ""
	case n == 1:
		return "1 more waits: `uplinkctl status --all` shows it"
	}
	return fmt.Sprintf("%d more wait: `uplinkctl status --all` lists them", n)
}

// waitText says why an uplink waits. Only IPv6 that is switched off on its link is not waited
// for.
func waitText(w apply.Waiting) string {
	if w.Inet6 {
		return w.String() + ": its IPv6 part is left out"
	}
	return w.String() + ": it waits"
}
