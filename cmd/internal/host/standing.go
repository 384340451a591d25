package host

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// Standing serves commands that only look. It reports on stderr what is wrong with a spec, and
// returns what is in effect: while somebody edits the spec, the diagnosis of the one in effect
// must stay available. ok is false where nothing is in effect; without says in words what is
// shown then, or is "". It returns an error that does not concern the spec's content: that there
// is none, or that it cannot be read.
func Standing(root rootfs.Root, broken error, without string, stderr io.Writer) (e Effective, ok bool, err error) {
	var list spec.Errors
	if !errors.As(broken, &list) || unreadable(broken) != "" {
		return e, false, broken
	}
	h := Host{Root: root}
	e, ok, err = h.Effective()
	then := without
	switch note, _ := h.noted(); {
	case err != nil:
		fmt.Fprintf(stderr, "uplinkctl: %v\n", err)
	case ok && note == nil:
		then = "what follows is of the spec in effect"
	case ok:
		then = "what follows is of the spec in effect since " + note.ModTime().Format(time.DateTime)
	}
	run.ReportOf(stderr, "uplinkctl", broken, then)
	return e, ok, nil
}

// Spec returns what a State says about its uplinks: their names, places and addresses. The
// gateways are in its routes.
func (e *Effective) Spec() *spec.Spec {
	type own struct {
		link   string
		origin fib.Origin
	}
	s := &spec.Spec{Backend: e.Backend}
	tables := map[string]uint32{}
	for _, t := range e.State.Tables {
		tables[t.Name] = t.ID
	}
	addresses := map[own][]netip.Prefix{}
	for _, a := range slices.Concat(e.State.Addresses, e.State.Held) {
		k := own{a.Link, a.Origin}
		addresses[k] = append(addresses[k], a.Prefix)
	}
	for _, l := range e.State.Links {
		for _, n := range l.Uplinks {
			u := spec.Uplink{Name: n.Name, Origin: n.Origin, Table: tables[n.Name], PolicyOnly: l.PolicyOnly, Addresses: addresses[own{l.Name, n.Origin}]}
			s.Uplinks = append(s.Uplinks, u)
		}
	}
	slices.SortFunc(s.Uplinks, func(a, b spec.Uplink) int { return strings.Compare(a.Name, b.Name) })
	return s
}
