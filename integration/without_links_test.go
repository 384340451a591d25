package integration

import (
	"strings"
	"testing"
)

// TestWhatBelongsToNoLinkIsNetworkdsWithoutLinks has none of a spec's links there, or none that
// networkd has the policy of: what belongs to no link stands in its file for lo all the same.
// Nobody adds it a second time, and all that looks agrees.
func TestWhatBelongsToNoLinkIsNetworkdsWithoutLinks(t *testing.T) {
	t.Parallel()
	vpn := failsClosed[strings.Index(failsClosed, "[uplink.vpn]"):]
	for name, test := range map[string]struct {
		spec  string
		files map[string]string
	}{
		"the link is absent":            {strings.Replace(vpn, "eth1", "wg0", 1), nil},
		"main-routes-first, and absent": {"main-routes-first = true\n" + strings.Replace(vpn, "eth1", "wg0", 1), nil},
		"all beside networkd":           {strings.Replace(vpn, "table ", "manage = \"policy\"\ntable ", 1), map[string]string{wiredFile: wired}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := bootNetworkd(t, test.files, provider1, provider2)
			h.spec(test.spec)
			if a := h.run("reload"); a.code != 0 {
				t.Errorf("reload: %v", a)
			}
			if a := h.run("reload"); a.code != 0 || a.stdout != "" {
				t.Errorf("again: %v", a)
			}
			h.run("apply", "--if-needed").expect(t, "apply", 0, "", ".*")
			rules, err := h.Host.Rules(h.ctx)
			if err != nil {
				t.Fatal(err)
			}
			seen := map[string]bool{}
			for _, r := range rules {
				if line := ruleLine(r); seen[line] {
					t.Errorf("twice: %s", r)
				} else {
					seen[line] = true
				}
			}
			h.run("diff").expect(t, "diff", 0, "", ".*")
			if a := h.run("status"); strings.Contains(a.stdout, "differs") {
				t.Errorf("status: %s", a.stdout)
			}
		})
	}
}
