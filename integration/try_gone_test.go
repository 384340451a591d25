package integration

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// byNetlink is what the specs of the tests that use only netlink say.
const byNetlink = "backend = \"netlink\"\n"

// anotherMTU is a change that does not concern the second uplink.
var anotherMTU = strings.NewReplacer("interface = \"eth0\"", "interface = \"eth0\"\nmtu = 1400")

// allElse is the last line of a try that has left something out.
const allElse = "all else is as it was before; the spec still says the new: change it before the next reboot or reload\n$"

// TestTryWithAnotherLease gives the second card another address while a try is pending: what
// follows from the first one cannot come back, and what follows from the second is there at once.
func TestTryWithAnotherLease(t *testing.T) {
	t.Parallel()
	require(t)
	for name, watches := range map[string]bool{"watched": true, "unwatched": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, l, c := bootHost(t, provider1, provider2)
			w := &watched{cli: c, Lab: l}
			const spec = byNetlink + "[uplink.isp1]\ninterface = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.1\"]\n" +
				"[uplink.rt2]\ninterface = \"eth1\"\nmanage = \"policy\"\ntable = 1\ndhcp = \"ipv4\"\n"
			lease := func(a string) {
				ip(ctx, t, l.Host, "address flush dev eth1 scope global", "address add "+a+"/24 dev eth1", "route add default via 198.51.100.1 dev eth1 metric 200")
			}
			a, b := netip.MustParseAddr("198.51.100.50"), netip.MustParseAddr("198.51.100.60")
			ip(ctx, t, l.Host, "link set eth1 up")
			if err := l.Host.WaitSettled(ctx); err != nil {
				t.Fatal(err)
			}
			lease(a.String())
			c.spec(spec)
			c.ok("reload")
			if watches {
				w.start()
			}
			w.becomes("lease", leased(a)...)

			c.spec(anotherMTU.Replace(spec))
			r := startTry(ctx, t, c.command("try"), c.root)
			lease(b.String())
			if watches {
				w.becomes("another lease", leased(b)...)
			}
			began := time.Now()
			says := "no longer has 198.51.100.50\n.*" + allElse
			c.run("try", "--cancel").expect(t, "--cancel", 0, "(is|are) not back: eth1 "+says, "")
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("it took %v", took)
			}
			r.end().expect(t, "cancelled", 1, inEffect+"$", "not back: eth1 no longer has 198.51.100.50\n(.*\n)?uplinkctl: all else is ")
			r.decided()
			have, err := w.ours()
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range leased(b) {
				if !strings.Contains(strings.Join(have, "\n"), want) {
					t.Errorf("it lacks %s, has %q", want, have)
				}
			}
			c.spec(spec)
			c.ok("apply")
			c.ok("reload")
			w.becomes("reloaded", leased(b)...)
			w.answers(b)
			c.ok("down")
		})
	}
}

// TestTryWithoutALink sets a link down while a try is pending, and removes what belongs to
// somebody else.
func TestTryWithoutALink(t *testing.T) {
	t.Parallel()
	require(t)
	static := byNetlink + strings.NewReplacer(", \"2001:db8:1::10/64\"", "", ", \"2001:db8:1::1\"", "", ", \"2001:db8:2::10/64\"", "", ", \"2001:db8:2::1\"", "").Replace(twoUplinks)
	for name, test := range map[string]struct {
		spec, lose, back, says string
	}{
		"a link is set down": {static, "link set eth1 down", "link set eth1 up", "are not back: eth1 is down\n"},
		"one of several ways": {
			static + "[multipath]\nuplinks = { isp1 = 1, rt2 = 1 }\n", "link set eth1 down", "link set eth1 up", "are not back: eth1 is down\n",
		},
		"another's address is gone": {
			strings.Replace(static, "interface = \"eth1\"", "interface = \"eth1\"\nmanage = \"policy\"", 1),
			"address del 198.51.100.10/24 dev eth1", "address add 198.51.100.10/24 dev eth1", "(is|are) not back: (eth1 no longer has 198.51.100.10|the kernel says: .*)\n",
		},
		"another's link is down": {
			strings.Replace(static, "interface = \"eth1\"", "interface = \"eth1\"\nmanage = \"policy\"", 1),
			"link set eth1 down", "link set eth1 up", "are not back: eth1 is down\n",
		},
		"a link has another name": {
			static, "link set eth1 down;link set eth1 name wan1;link set wan1 up", "link set wan1 down;link set wan1 name eth1;link set eth1 up", "are not back: there is no link eth1\n",
		},
		"IPv6 on a link that is down": {byNetlink + twoUplinks, "link set eth1 down", "link set eth1 up", "are not back: eth1 is down\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, l, c := bootHost(t, provider1, provider2)
			if strings.Contains(test.spec, "policy") {
				ip(ctx, t, l.Host, "link set eth1 up", "address add 198.51.100.10/24 dev eth1")
				if err := l.Host.WaitSettled(ctx); err != nil {
					t.Fatal(err)
				}
			}
			c.spec(test.spec)
			c.ok("reload")
			before := dump(ctx, t, l.Host)
			c.spec(anotherMTU.Replace(test.spec))
			r := startTry(ctx, t, c.command("try"), c.root)
			ip(ctx, t, l.Host, strings.Split(test.lose, ";")...)
			began := time.Now()
			c.run("try", "--cancel").expect(t, "--cancel", 0, test.says+".*"+allElse, "")
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("it took %v", took)
			}
			r.end()
			r.decided()
			now := dump(ctx, t, l.Host)
			if strings.Contains(test.spec, "multipath") && !strings.Contains(now, "default via 192.0.2.1") {
				t.Errorf("the other way is not there:\n%s", now)
			}
			c.spec(test.spec)
			if a := c.run("apply"); a.code != 0 {
				t.Errorf("apply: %v", a)
			}
			ip(ctx, t, l.Host, strings.Split(test.back, ";")...)
			if err := l.Host.WaitSettled(ctx); err != nil {
				t.Fatal(err)
			}
			c.ok("apply")
			c.ok("diff")
			ours := func(dump string) string {
				var list []string
				for line := range strings.Lines(dump) {
					if strings.Contains(line, " 118 ") {
						list = append(list, line)
					}
				}
				return sorted(strings.Join(list, ""))
			}
			if now := ours(dump(ctx, t, l.Host)); now != ours(before) {
				t.Errorf("of ours the kernel holds\n%s, held\n%s", now, ours(before))
			}
			c.ok("down")
		})
	}
}
