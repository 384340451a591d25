package apply

import "slices"

// Held returns what the kernel holds, including the addresses that only the journal knows to be
// ours. Restore takes such a Snapshot.
func (a *Applier) Held(scope Scope) (Snapshot, error) { return a.observe(scope) }

// Restore makes what is ours as it was in an earlier Snapshot of this host: it adds what is
// missing, then removes what is ours and was not there. It ignores what others have in the
// Snapshot. A link gets back its MTU where the Snapshot has one other than 0, and stays up; what
// belongs to a link that is gone is left out. Where the kernel refuses something Restore does the
// rest all the same, and joins all errors.
func (a *Applier) Restore(had Snapshot) error {
	now, err := a.observe(Scope{Only: Links})
	if err != nil {
		return err
	}
	type card struct{ name, mac string }
	there, index := make(map[int]bool, len(now.Links)), make(map[card]int, len(now.Links))
	for _, l := range now.Links {
		there[l.Index], index[card{l.Name, l.MAC}] = true, l.Index
	}
	had.Links = slices.Clone(had.Links)
	var mtus []Op
	for i := range had.Links {
		h := &had.Links[i]
		if !there[h.Index] {
			// A card that was pulled and plugged in again has another index.
			if i, back := index[card{h.Name, h.MAC}]; back {
				h.Index = i
			}
		}
		if h.MTU != 0 {
			mtus = append(mtus, Op{Verb: LinkMTU, Link: h.Name, BeforeMTU: h.MTU})
		}
	}
	return a.undo(Plan{Make: []Stage{{Ops: mtus}}}, had)
}
