package check

import (
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// The kinds of warnings about the files of a spec, as opposed to their content.
const (
	WritableSpec ID = "spec-writable"
	LinkedSpec   ID = "spec-linked-elsewhere"
)

// Files returns a warning for each way in which somebody other than root could change the
// spec of the host at root, see spec.Exposures.
func Files(root rootfs.Root) (found []Warning) {
	for _, e := range spec.Exposures(root) {
		id := WritableSpec
		if e.Linked {
			id = LinkedSpec
		}
		found = append(found, Warning{ID: id, Origin: fib.Origin{File: e.File}, Text: e.Text, Help: e.Help})
	}
	return found
}
