package host

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/apply/probe"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// TestTargetsThatFailAreNotDone checks that what systemd has refused is requested again.
func TestTargetsThatFailAreNotDone(t *testing.T) {
	have := map[string]string{}
	var asked []string
	refuse := ""
	tell := func(unit string, start bool) error {
		verb := "stop "
		if start {
			verb = "start "
		}
		asked = append(asked, verb+strings.TrimSuffix(strings.TrimPrefix(unit, "uplink@"), ".target"))
		if unit == refuse {
			return errors.New("refused")
		}
		return nil
	}
	for _, c := range []struct {
		want, refuse string
		asks         []string
		done         bool
	}{
		{"up", "", []string{"stop a-down", "start a-up"}, true},
		{"up", "", nil, true},
		{"down", "uplink@a-down.target", []string{"stop a-up", "start a-down"}, false},
		{"down", "uplink@a-up.target", []string{"stop a-up", "start a-down"}, false},
		{"down", "", []string{"stop a-up", "start a-down"}, true},
		{"", "", []string{"stop a-up", "stop a-down"}, true},
	} {
		asked, refuse = nil, c.refuse
		want := map[string]string{"a": c.want}
		err := changeEach(have, want, tell)
		if !slices.Equal(asked, c.asks) || (err == nil) != c.done || maps.Equal(have, want) != c.done {
			t.Errorf("%q: asked for %q, noted %v: %v", c.want, asked, have, err)
		}
	}
}

// TestTargetsAreTheHosts wants a watch below another root to leave this host's units alone.
func TestTargetsAreTheHosts(t *testing.T) {
	root := t.TempDir()
	put(t, root, "run/systemd/system/x", "")
	h := &Host{Root: rootfs.At(root)}
	all := h.followTargets(t.Context(), func(string) {})
	all.tell(map[fib.Verdict]probe.Judgement{{Uplink: "a"}: {Judged: true}})
	time.Sleep(200 * time.Millisecond)
	if len(all.more) == 0 {
		t.Error("somebody follows")
	}
}
