package integration

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// TestApplyWaitsWithoutTheLock has an apply wait for a carrier, as for a card that was just
// plugged in: nobody else waits for it, and it then applies what is in effect by that time.
func TestApplyWaitsWithoutTheLock(t *testing.T) {
	t.Parallel()
	require(t)
	const wait = 8 * time.Second
	for name, test := range map[string]struct {
		args  []string
		while func(t *testing.T, l *lab.Lab, c *cli)
		holds string
	}{
		"reload": {[]string{"--if-needed"}, func(t *testing.T, _ *lab.Lab, c *cli) {
			c.spec(changedUplink)
			if a := c.run("reload"); a.code != 0 {
				t.Error(a)
			}
		}, changedUplink},
		"a plain one":                     {nil, func(_ *testing.T, _ *lab.Lab, c *cli) { c.spec(changedUplink) }, changedUplink},
		"a spec that is broken meanwhile": {[]string{"--if-needed"}, func(_ *testing.T, _ *lab.Lab, c *cli) { c.spec("bogus = 1\n" + twoUplinks) }, twoUplinks},
		"watch": {[]string{"--if-needed"}, func(t *testing.T, l *lab.Lab, c *cli) {
			w := &watched{cli: c, Lab: l}
			w.start()
			const rule = "from 192.0.2.10 lookup 10000"
			time.Sleep(500 * time.Millisecond)
			ip(c.ctx, t, l.Host, "rule del "+rule)
			err := lab.Poll(c.ctx, func() (bool, string) {
				rules, err := l.Host.Run(c.ctx, "ip", "-N", "rule")
				return err == nil && strings.Contains(rules, rule), rules
			})
			if err != nil {
				t.Error(err)
			}
		}, twoUplinks},
		"down": {[]string{"--if-needed"}, func(_ *testing.T, _ *lab.Lab, c *cli) { c.ok("down") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, l, c := bootHost(t, provider1, provider2)
			ip(ctx, t, l.Router, "link set p2 down")
			c.spec(twoUplinks)
			if a := c.run("apply"); a.code != 0 {
				t.Fatal(a)
			}
			cmd := c.command("apply", append(test.args, "--wait", "8")...)
			log := background(t, cmd)
			began := time.Now()
			time.Sleep(300 * time.Millisecond)
			test.while(t, l, c)
			if took := time.Since(began); took > wait/2 {
				t.Errorf("it was waited for: %v", took)
			}
			ip(ctx, t, l.Router, "link set p2 up")
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%v: %s", err, log)
			}
			if took := time.Since(began); took > wait {
				t.Errorf("the carrier was there, and it took %v", took)
			}
			c.holdsThrough(test.holds)
		})
	}
}

// holdsThrough checks that the kernel holds a spec through netlink; "" for nothing.
func (c *cli) holdsThrough(spec string) {
	c.t.Helper()
	if spec == "" {
		if rules, err := c.host.Run(c.ctx, "ip", "-N", "rule"); err != nil || strings.Contains(rules, "lookup 1") {
			c.t.Errorf("%v: there are rules:\n%s", err, rules)
		}
		return
	}
	c.spec(spec)
	c.run("diff").expect(c.t, "diff", 0, "^$", "^$")
}

// TestATryIsNotWaitedFor cancels a try while an apply waits for a carrier: the try goes back at
// once, and the apply does not bring about again what was tried.
func TestATryIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	c.spec(twoUplinks)
	c.ok("reload")
	c.spec(changedUplink)
	r := startTry(ctx, t, c.command("try"), c.root)
	ip(ctx, t, l.Router, "link set p2 down")
	cmd := c.command("apply", "--if-needed", "--wait", "6")
	log := background(t, cmd)
	time.Sleep(300 * time.Millisecond)
	began := time.Now()
	c.run("try", "--cancel").expect(t, "--cancel", 0, wentBack, "")
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	r.end()
	ip(ctx, t, l.Router, "link set p2 up")
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, log)
	}
	c.holdsThrough(twoUplinks)
	if left, _ := filepath.Glob(filepath.Join(c.root, "run/uplink/*.tmp")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
