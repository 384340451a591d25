package integration

import (
	"fmt"
	"strings"
	"testing"
)

// TestManyUplinksThroughTheCommands has so many uplinks that their rules are laid out in blocks,
// and checks that the commands still speak of uplinks.
func TestManyUplinksThroughTheCommands(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	many := func(n int) string {
		var b strings.Builder
		b.WriteString("backend = \"netlink\"\n")
		for i := range n {
			fmt.Fprintf(&b, "[uplink.u%02d]\ninterface = \"eth%d\"\ntable = %d\naddresses = [\"10.0.%d.2/24\"]\ngateways = [\"10.0.%d.1\"]\ndefault-route = %t\n", i, i%2, 1000+i, i, i, i == 0)
		}
		return b.String()
	}
	c.spec(many(25))
	c.ok("reload")
	if rules := c.ok("status", "--all"); strings.Contains(rules, "goto") {
		t.Errorf("25 uplinks are laid out:\n%s", rules)
	}
	c.spec(many(40))
	c.ok("reload")
	c.ok("diff")
	c.run("status").expect(t, "status", 0, "10801-16313 +80 rules of 40 uplinks, in blocks \\(20 more lead to them\\) +u16 … u39\n", "")
	c.run("explain", "10.0.7.2", "8.8.8.8").expect(t, "explain", 0,
		"        7 rules do not match, 2 lead on\n 12630  from 10\\.0\\.7\\.2 lookup u07 .*uplink.toml:44\n.*leaves by eth1 via 10.0.7.1, table u07\nthe kernel says the same\n$", "")
	c.run("explain", "10.0.7.2", "8.8.8.8", "--all").expect(t, "explain --all", 0, " 10801  from 0.0.0.0/4 goto 11386 .*→ goes on at 11386\n", "")
	// Somebody else's rule among them is never asked, and that is reported.
	ip(ctx, t, l.Host, "rule add priority 12000 from 192.0.2.0/24 lookup 7")
	c.run("verify").expect(t, "verify", 0, "is never asked, because the uplinks' rules are laid out around it", "")
	ip(ctx, t, l.Host, "rule del priority 12000")
	// An uplink that is inserted among the others leaves all of them as they are.
	c.spec(many(40) + "[uplink.z]\ninterface = \"eth1\"\nfwmark = 9\naddresses = [\"10.1.0.2/24\"]\ngateways = [\"10.1.0.1\"]\n")
	c.run("check").expect(t, "check", 0, "", "uplink.toml:242: warning: for each packet the kernel tries .*\\[many-rules\\].*below 10000")
	c.ok("reload")
	if rules := c.ok("status", "--all"); strings.Contains(rules, "goto") {
		t.Errorf("they are laid out all the same:\n%s", rules)
	}
}
