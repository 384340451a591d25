package units

import (
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// TestNetworkdLeavesAloneWhatTheOneshotMade checks that the two settings are there
// exactly if networkd and the oneshot run beside each other.
func TestNetworkdLeavesAloneWhatTheOneshotMade(t *testing.T) {
	const routes, rules = "ManageForeignRoutes=no\n", "ManageForeignRoutingPolicyRules=no\n"
	for name, c := range map[string]struct {
		target Target
		policy bool
		file   string // somebody else's .network file for the link
		more   string // the content of one that comes before it
		want   string
	}{
		"networkd has the link":                 {target: Target{Version: newest}},
		"the oneshot is asked for":              {target: Target{Version: newest, KeepForeign: true, WithoutNetworkd: true}, want: routes + rules},
		"before 249 there is one of them":       {target: Target{Version: Oldest, KeepForeign: true, WithoutNetworkd: true}, want: routes},
		"no file for a link that is extended":   {target: Target{Version: newest}, policy: true, want: routes + rules},
		"an unmanaged link":                     {target: Target{Version: newest}, policy: true, file: "[Match]\nName=eth0\n[Link]\nUnmanaged=yes\n", want: routes + rules},
		"a file for the link that is extended":  {target: Target{Version: newest}, policy: true, file: "[Match]\nName=eth0\n"},
		"a file for other links too":            {target: Target{Version: newest}, policy: true, file: "[Match]\nName=eth*\n", want: routes + rules},
		"a file that may be for the link":       {target: Target{Version: newest}, policy: true, file: "[Match]\nName=eth0\nHost=x\n", want: routes + rules},
		"a file for wlan before that":           {target: Target{Version: newest}, policy: true, file: "[Match]\nName=eth0\n", more: "[Match]\nType=wlan\n", want: routes + rules},
		"a file for wlan alone":                 {target: Target{Version: newest}, policy: true, more: "[Match]\nType=wlan\n", want: routes + rules},
		"only the tables' names when that's it": {target: Target{Version: newest, WithoutNetworkd: true}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.file != "" {
				putFile(t, dir, "/etc/systemd/network/50-host.network", c.file)
			}
			if c.more != "" {
				putFile(t, dir, "/etc/systemd/network/40-more.network", c.more)
			}
			c.target.Root = rootfs.At(dir)
			state := fib.State{
				Tables: []fib.Table{{ID: 7, Name: "a"}},
				Links:  []fib.Link{{Name: "a", Match: fib.Match{Name: "eth0"}, PolicyOnly: c.policy, Uplinks: []fib.Named{{Name: "a"}}}},
			}
			tree, _, err := Render(state, c.target)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, f := range tree {
				if f.Path == networkdConf {
					for line := range strings.Lines(string(f.Data)) {
						if strings.HasPrefix(line, "ManageForeign") {
							got += line
						}
					}
				}
			}
			if got != c.want {
				t.Errorf("networkd is told %q, want %q:\n%s", got, c.want, textOf(tree))
			}
		})
	}
}
