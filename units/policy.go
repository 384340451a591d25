package units

import (
	"bytes"
	"io"
	"path"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// policy renders the drop-in for a link with PolicyOnly. networkd applies a drop-in to
// every link that its file matches, so the drop-in goes only to files for this link
// alone. It goes to each such file that networkd may use, because a drop-in does
// nothing if networkd does not use the file. If networkd uses another file, the policy
// comes through netlink (see LinkProgress).
func (r *renderer) policy(l *fib.Link, b *body) {
	const (
		nothing = iota
		unsure
		certain
		extended
	)
	found := nothing
	var file *networkFile // the file that found is about
	var because string
	var text []byte
	for c := r.others.candidates(r.links.facts(l.Match)); c.next(); {
		is := certain
		if c.because != "" {
			is, r.KeepForeign = unsure, true
		}
		if !c.file.unmanaged && r.isFor(c.file, c.facts, l.Match) {
			if text == nil {
				// Reading from memory cannot fail.
				text, _ = io.ReadAll(r.sections(l, b))
			}
			r.linkFile(path.Join(c.file.name+".d", filePrefix+l.Name+".conf"), l.Uplinks, bytes.NewReader(text))
			if is == certain {
				return
			}
			is = extended
		}
		if is > found {
			found, file, because = is, c.file, c.because
		}
		if c.because == "" {
			break
		}
	}
	r.KeepForeign = true
	var says string
	matched := l.Match.String()
	switch {
	case found == nothing:
		says = "no .network file matches " + matched + ": networkd does not manage it, and there is nothing to extend"
	case found == extended:
		says = file.path + " is extended because it " + matchWords(l, because)
	case found == certain && file.unmanaged:
		says = file.path + " says Unmanaged=yes for " + matched + ": networkd leaves it alone, and there is nothing to extend"
	default:
		says = file.path + " " + matchWords(l, because)
		if found == certain {
			says += " and other links"
		}
		says += ": the uplink's routes and rules are added beside systemd-networkd, through netlink, or with backend = \"networkd\" not at all; a .network file for this link alone lets networkd have them"
	}
	r.note(l.Uplinks[0].Origin, "%s", says)
}

// isFor says whether a file is for this link alone, because it matches something that no
// other link has. A hardware address counts if no other link that the file may match has it.
func (r *renderer) isFor(f *networkFile, k facts, m fib.Match) bool {
	mac := ""
	for _, key := range [...]string{"Name", "Path", "MACAddress", "PermanentMACAddress"} {
		if list := f.lists[key]; len(list) == 1 && isLiteral(list[0]) && slices.Contains(k[key], list[0]) && f.broken == nil {
			if key == "Name" || key == "Path" {
				return true
			}
			mac = list[0]
		}
	}
	own, _ := r.links.device(m)
	for _, dev := range r.links.withMAC(mac) {
		if v, _ := f.matches(r.links.facts(fib.Match{Name: dev})); dev != own && v != no {
			return false
		}
	}
	return mac != ""
}
