package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// manyUplinks returns a spec with rules enough to be laid out in blocks.
func manyUplinks(n int) string {
	var b strings.Builder
	b.WriteString("backend = \"auto\"\n")
	for i := range n {
		fmt.Fprintf(&b, "[uplink.u%02d]\ninterface = \"eth%d\"\naddresses = [\"10.0.%d.10/24\"]\ngateways = [\"10.0.%d.1\"]\n", i, i, i, i)
	}
	return b.String()
}

var (
	ipRule      = regexp.MustCompile(`(?m)^(?:-6 )?rule add priority (\d+) (.*)$`)
	drawnGoto   = regexp.MustCompile(`<tr><td align="left">(\d+)</td>.*>goto \d+<`)
	drawnNumber = regexp.MustCompile(`<tr><td align="left">(\d+)</td>`)
)

// priorities returns those that an expression finds, each once.
func priorities(found *regexp.Regexp, text string) (list []string) {
	for _, m := range found.FindAllStringSubmatch(text, -1) {
		list = append(list, m[1])
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// TestManyRulesAreShownAsTheKernelHoldsThem compares what check and graph print for 60 uplinks
// with what export prints: the same rules, in the same blocks.
func TestManyRulesAreShownAsTheKernelHoldsThem(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "many.toml")
	// check would warn about an old systemd here, and about a missing default route.
	quiet := strings.Replace(manyUplinks(60), "auto", "netlink", 1) + "default-route = true\n"
	if err := os.WriteFile(file, []byte(quiet), 0o644); err != nil {
		t.Fatal(err)
	}
	rules := func(text string) (list []string) {
		for _, m := range ipRule.FindAllStringSubmatch(text, -1) {
			list = append(list, m[1]+" "+m[2])
		}
		return list
	}
	want := rules(output(t, "export", file))
	leads := slices.DeleteFunc(slices.Clone(want), func(r string) bool { return !strings.Contains(r, " goto ") })
	if len(want) <= 120 || len(leads) == 0 {
		t.Fatalf("export has %d rules, %d of them with goto", len(want), len(leads))
	}
	if have := rules(output(t, "check", "--state", file)); !slices.Equal(have, want) {
		t.Errorf("check --state has %d rules, and export %d:\n%s", len(have), len(want), strings.Join(have, "\n"))
	}
	drawing, exported := output(t, "graph", file), strings.Join(want, "\n")
	all := priorities(regexp.MustCompile(`(?m)^(\d+) `), exported+"\n32766 main") // the kernel's own is drawn too
	if have := priorities(drawnNumber, drawing); !slices.Equal(have, all) {
		t.Errorf("graph has the priorities %v, and export %v", have, all)
	}
	if have, want := priorities(drawnGoto, drawing), priorities(regexp.MustCompile(`(?m)^(\d+) .* goto `), exported); !slices.Equal(have, want) {
		t.Errorf("graph has goto at %v, and export at %v", have, want)
	}
}

// TestManyRulesOfAnImage: the image's systemd adds them, whatever runs here.
func TestManyRulesOfAnImage(t *testing.T) {
	t.Parallel()
	for version, blocks := range map[string]bool{"252": false, "257": true} {
		root := t.TempDir()
		for name, text := range map[string]string{
			"etc/uplink/uplink.toml":                               manyUplinks(60),
			"usr/lib/systemd/libsystemd-shared-" + version + ".so": "",
		} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for _, args := range [][]string{{"check", "--state"}, {"graph"}} {
			var text, said strings.Builder // check warns about many rules
			if status := uplinkctl(append(args, "--root", root), &text, &said); status != 0 {
				t.Fatal(&said)
			}
			if have := strings.Contains(text.String(), "goto "); have != blocks {
				t.Errorf("%v with systemd %s: blocks are %v", args, version, have)
			}
		}
	}
}
