package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// TestNamesInIproute2 does what the recipe tells its readers to do to see whether it worked, with
// the files that a package installs.
func TestNamesInIproute2(t *testing.T) {
	t.Parallel()
	require(t, lab.NeedNetworkd)
	ctx, h := boot(t, find(t, "recipe"))
	tree := h.tree(ctx, t)
	install(t, tree)
	h.startNetworkd(ctx, t, tree)

	show := func(line string) string {
		t.Helper()
		out, err := h.networkd.Run(ctx, "ip", strings.Fields(line)...)
		if err != nil {
			t.Fatal(err)
		}
		return regexp.MustCompile(`(?m) +$`).ReplaceAllString(out, "")
	}
	for line, want := range map[string]string{
		"route list table rt2":  "default via 198.51.100.1 dev eth1 proto static\n198.51.100.0/24 dev eth1 proto static scope link src 198.51.100.10\n",
		"rule list lookup rt2":  "10001:\tfrom all to 198.51.100.10 lookup rt2 proto static\n10001:\tfrom 198.51.100.10 lookup rt2 proto static\n",
		"rule list lookup isp1": "10000:\tfrom all to 192.0.2.10 lookup isp1 proto static\n10000:\tfrom 192.0.2.10 lookup isp1 proto static\n",
	} {
		// The kernel keeps rules of one priority in the order in which they came.
		if have := show(line); sorted(have) != sorted(want) {
			t.Errorf("ip %s: got\n%swant\n%s", line, have, want)
		}
	}

	show("route add blackhole 203.0.113.99 table rt2 proto uplink")
	if have, want := show("route list table rt2 proto uplink"), "blackhole 203.0.113.99\n"; have != want {
		t.Errorf("routes of protocol uplink in table rt2: got\n%swant\n%s", have, want)
	}
	show("rule add from 203.0.113.99 lookup rt2 proto uplink")
	if have := show("rule list from 203.0.113.99"); !strings.HasSuffix(have, " proto uplink\n") {
		t.Errorf("a rule of protocol uplink: %s", have)
	}
}

// install puts into a tree what a package has for iproute2.
func install(t *testing.T, tree string) {
	t.Helper()
	protocol, err := os.ReadFile("../units/iproute2/rt_protos.conf")
	if err != nil {
		t.Fatal(err)
	}
	tables, protocols := filepath.Join(tree, "etc/iproute2/rt_tables.d"), filepath.Join(tree, "etc/iproute2/rt_protos.d")
	for _, dir := range []string{tables, protocols} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(protocols, "uplink.conf"), protocol, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/run/uplink/rt_tables.conf", filepath.Join(tables, "uplink.conf")); err != nil {
		t.Fatal(err)
	}
}
