package host

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// TestWhatIsInEffectTellsItsUplinks checks that the names and addresses of the examples come back
// from the note of what is in effect.
func TestWhatIsInEffectTellsItsUplinks(t *testing.T) {
	roots, err := filepath.Glob("../../../integration/examples/*/root")
	if err != nil || len(roots) < 8 {
		t.Fatal(roots, err)
	}
	for _, root := range roots {
		s, state, err := run.Check(root)
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(Effective{State: state})
		if err != nil {
			t.Fatal(err)
		}
		var e Effective
		if err := json.Unmarshal(data, &e); err != nil {
			t.Fatal(err)
		}
		got := e.Spec()
		for _, u := range s.Uplinks {
			g := got.Uplink(u.Name)
			if g == nil || g.Origin != u.Origin {
				t.Errorf("%s: %s: %+v", root, u.Name, g)
				continue
			}
			// The first one is the source when a command gives the uplink's name.
			if !slices.Equal(g.Addresses, u.Addresses) {
				t.Errorf("%s: %s has %v, want %v", root, u.Name, g.Addresses, u.Addresses)
			}
		}
		if len(got.Uplinks) != len(s.Uplinks) {
			t.Errorf("%s: %d uplinks, want %d", root, len(got.Uplinks), len(s.Uplinks))
		}
	}
}

// TestStanding checks that the errors of a spec are reported with what is shown instead, and that
// no other error is taken for one of them.
func TestStanding(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{"etc/uplink/uplink.toml": "[uplink.a]\ninterface =\n", "run/uplink/none": ""} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, _, broken := run.Check(root)
	try := func(err error) (said string, ok bool, back error) {
		var b bytes.Buffer
		_, ok, back = Standing(rootfs.At(root), err, "nothing instead", &b)
		return b.String(), ok, back
	}
	if said, ok, err := try(broken); ok || err != nil || !strings.HasSuffix(said, "\nuplinkctl: 1 error; nothing instead\n") || !strings.Contains(said, "/etc/uplink/uplink.toml:2:") {
		t.Errorf("nothing in effect: %v, %v, %s", ok, err, said)
	}
	h := Host{Root: rootfs.At(root)}
	if err := h.MarkInEffect(Effective{Backend: spec.Netlink}); err != nil {
		t.Fatal(err)
	}
	if said, ok, err := try(broken); !ok || err != nil || !strings.Contains(said, "uplinkctl: 1 error; what follows is of the spec in effect since 20") {
		t.Errorf("in effect: %v, %v, %s", ok, err, said)
	}
	for _, other := range []error{spec.ErrNone, spec.Errors{{File: "/etc/uplink/uplink.toml", Err: os.ErrPermission}}} {
		if said, ok, err := try(other); ok || err == nil || said != "" {
			t.Errorf("%v: %v, %v, %s", other, ok, err, said)
		}
	}
	if err := os.WriteFile(filepath.Join(root, inEffectFile), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if said, ok, err := try(broken); ok || err != nil || !strings.Contains(said, "in-effect.json: ") || !strings.HasSuffix(said, "; nothing instead\n") {
		t.Errorf("a note that cannot be read: %v, %v, %s", ok, err, said)
	}
}
