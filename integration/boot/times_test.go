package boot_test

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/boot"
)

var timesOfAll = flag.Bool("times.all", false, "measure the boots of each systemd")

// times is what systemd reports about one boot.
type times struct{ total, generators, render, apply, reload time.Duration }

// TestBootTimes reports what the product costs a boot, with networkd: a table of medians. All
// generators run at once, and a boot mostly does not wait for the time that our services take. It
// runs alone, because it would measure other machines too.
func TestBootTimes(t *testing.T) {
	require(t)
	suites := []boot.Suite{boot.Trixie}
	if *timesOfAll {
		suites = boot.Debian
	}
	const boots = 3
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "suite\tproduct\tboot\tgenerators\trender\tapply\treload\t")
	for _, suite := range suites {
		var medians []times
		for _, p := range []*boot.Product{nil, installed(t)} {
			files := byHand
			if p != nil {
				files = nil
			}
			h := booted(t, boot.Config{
				Root: boot.Root{Suite: suite}, Product: p, Tree: recipe, Files: files, Enable: []string{networkd},
			}, "running")
			all := []times{h.times()}
			for len(all) < boots {
				if err := h.Reboot(h.ctx); err != nil {
					t.Fatal(err)
				}
				h.wait("running")
				all = append(all, h.times())
			}
			m := median(all)
			medians = append(medians, m)
			fmt.Fprintf(w, "%s\t%t\t%v\t%v\t%v\t%v\t%v\t\n", suite, p != nil, m.total, m.generators, m.render, m.apply, m.reload)
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
		}
		// Far more than it takes, far less than anybody would wait.
		const most = 2 * time.Second
		if cost := medians[1].total - medians[0].total; cost > most {
			t.Errorf("%s: the product makes a boot %v longer", suite, cost)
		}
	}
	w.Flush()
	t.Logf("medians of %d boots:\n%s", boots, table.String())
}

// median returns the median of each.
func median(all []times) times {
	middle := func(of func(times) time.Duration) time.Duration {
		list := make([]time.Duration, len(all))
		for i, one := range all {
			list[i] = of(one)
		}
		slices.Sort(list)
		return list[len(list)/2].Round(time.Millisecond)
	}
	return times{
		middle(func(t times) time.Duration { return t.total }),
		middle(func(t times) time.Duration { return t.generators }),
		middle(func(t times) time.Duration { return t.render }),
		middle(func(t times) time.Duration { return t.apply }),
		middle(func(t times) time.Duration { return t.reload }),
	}
}

// times asks systemd.
func (h *host) times() times {
	h.t.Helper()
	between := func(from, to string, unit ...string) time.Duration {
		out := h.must("systemctl", append([]string{"show", "--property=" + from + "," + to}, unit...)...)
		at := map[string]time.Duration{}
		for line := range strings.Lines(out) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				at[key] = time.Duration(n) * time.Microsecond
			}
		}
		return max(0, at[to]-at[from])
	}
	run := func(unit string) time.Duration {
		return between("ExecMainStartTimestampMonotonic", "ExecMainExitTimestampMonotonic", unit)
	}
	return times{
		total:      between("UserspaceTimestampMonotonic", "FinishTimestampMonotonic"),
		generators: between("GeneratorsStartTimestampMonotonic", "GeneratorsFinishTimestampMonotonic"),
		render:     run("uplink-networkd.service"),
		apply:      run("uplink-apply.service"),
		reload:     run("uplink-reload.service"),
	}
}
