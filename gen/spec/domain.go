package spec

import "strings"

// domain reads a search domain, or a routing domain with a leading ~.
func (d *decoder) domain(v any) string {
	s, ok := d.str(v, "a domain")
	switch name := strings.TrimPrefix(s, "~"); {
	case !ok:
	case s == "" || !isWord(s, "\"'\\;,#!/:") || !isDomain(name):
		d.fail("", "%s is not a domain", quote(s))
	case isLocalhost(name):
		d.fail("leave it out: systemd-resolved answers it by itself", "%s is not a domain for a link", quote(s))
	}
	return s
}

// isDomain says whether networkd accepts a name as a domain; it skips any other (dns_name_normalize
// in src/shared/dns-domain.c of systemd). The empty name, like ".", is the root.
func isDomain(s string) bool {
	const longest, longestLabel = 253, 63 // RFC 1035, without the root's dot
	s = strings.TrimSuffix(s, ".")
	for label := range strings.SplitSeq(s, ".") {
		if label == "" && s != "" || len(label) > longestLabel {
			return false
		}
	}
	return len(s) <= longest
}

// isLocalhost says whether networkd skips a domain because it is the host's own
// (is_localhost in src/basic/hostname-util.c of systemd).
func isLocalhost(s string) bool {
	s = strings.TrimSuffix(strings.TrimSuffix("."+strings.ToLower(s), "."), ".localdomain")
	return strings.HasSuffix(s, ".localhost")
}
