package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/rtnl"
	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
)

// The oneshot's targets, as ratios to the compared programs.
var kernelTargets = map[int]struct{ batch, prebuilt, process, idle, down float64 }{
	1000:  {batch: 0.35, prebuilt: 1.5, idle: 1, down: 0.4},
	10000: {batch: 0.06, process: 0.35, idle: 1},
}

// kernelDevices is how many links the uplinks are spread over. With a single one, the kernel's
// own table of nexthops would make every program quadratic.
const kernelDevices = 100

// kernel measures the oneshot beside `ip -batch`, in a network namespace of its own.
func (b *bencher) kernel(ctx context.Context, most int) error {
	return inNamespace(func() error { return b.kernelHere(ctx, most) })
}

func (b *bencher) kernelHere(ctx context.Context, most int) error {
	var links strings.Builder
	links.WriteString("link set lo up\n")
	for i := range kernelDevices {
		fmt.Fprintf(&links, "link add %s type veth peer name p%d\nlink set %[1]s up\nlink set p%[2]d up\n", device(i), i)
	}
	if err := b.batch(ctx, "links", links.String()); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "## The oneshot\n\n2 routes and 2 rules an uplink, over %d links, IPv4; medians, ms. `apply`, `prebuilt`, `nothing to do` and `down` are without the start of a process and the reading of the spec. `prebuilt` is the floor: messages made beforehand, sent in the best order, every answer read.\n\n", kernelDevices)
	t := &table{head: []string{"uplinks", "ip -batch", "prebuilt", "apply", "uplinkctl apply", "nothing to do", "ip rule+route", "down", "ip -batch down"}}
	plot := panel{title: "Applying 2 routes and 2 rules an uplink", unit: "netlink", lines: []line{
		{name: "uplinkctl apply"}, {name: "ip -batch"}, {name: "apply, process left out"}, {name: "prebuilt messages: the floor"},
	}}
	var rows []kernelRow
	for n := 1; n <= most; n *= 10 {
		row, err := b.kernelRow(ctx, n)
		if err != nil {
			return err
		}
		rows = append(rows, row)
		cells := []string{fmt.Sprint(n)}
		for _, list := range [][]time.Duration{row.batch, row.prebuilt, row.apply, row.process, row.idle, row.show, row.down, row.batchDown} {
			cells = append(cells, fmt.Sprintf("%.2f", float64(median(list))/float64(time.Millisecond)))
		}
		t.add(cells...)
		for i, list := range [][]time.Duration{row.process, row.batch, row.apply, row.prebuilt} {
			plot.lines[i].add(n, median(list))
		}
	}
	b.plots = append(b.plots, plot)
	if err := t.write(b.out); err != nil {
		return err
	}
	v := b.verdicts()
	for _, r := range rows {
		limits := kernelTargets[r.n]
		ratio := func(ours, theirs []time.Duration, limit float64, what string) {
			if limit != 0 || r.n >= 1000 {
				v.ratio(fmt.Sprintf("%s, %d uplinks", what, r.n), ours, theirs, limit)
			}
		}
		ratio(r.apply, r.batch, limits.batch, "apply / ip -batch")
		ratio(r.apply, r.prebuilt, limits.prebuilt, "apply / prebuilt messages")
		ratio(r.process, r.batch, limits.process, "uplinkctl apply / ip -batch")
		ratio(r.idle, r.show, limits.idle, "nothing to do / ip rule and ip route show table all")
		ratio(r.down, r.batchDown, limits.down, "down / ip -batch")
	}
	return v.write(b.out)
}

func device(i int) string { return fmt.Sprintf("eth%d", i%kernelDevices) }

// kernelRow is what was measured for one number of uplinks.
type kernelRow struct {
	n                                                            int
	batch, prebuilt, apply, process, idle, show, down, batchDown []time.Duration
}

func (b *bencher) kernelRow(ctx context.Context, n int) (row kernelRow, err error) {
	row.n = n
	root := filepath.Join(b.dir, "kernel")
	toml, addresses := kernelSpec(n)
	if err := os.MkdirAll(filepath.Join(root, "etc/uplink"), 0o755); err != nil {
		return row, err
	}
	if err := os.WriteFile(filepath.Join(root, "etc/uplink/uplink.toml"), []byte(toml), 0o644); err != nil {
		return row, err
	}
	if err := b.batch(ctx, "addresses", strings.ReplaceAll(addresses, "address add", "address replace")); err != nil {
		return row, err
	}
	s, err := spec.Parse("bench", []byte(toml))
	if err != nil {
		return row, err
	}
	state, err := gen.Compile(s)
	if err != nil {
		return row, err
	}
	k, err := rtnl.New()
	if err != nil {
		return row, err
	}
	defer k.Close()
	a := apply.Applier{Kernel: k, Hardware: rtnl.Hardware{}}
	add, del := written(state)
	floor := prebuild(state, interfaceIndex(state))

	runs := max(3, min(b.runs, 3*b.runs*100/n))
	timed := func(list *[]time.Duration, f func() error) {
		if err == nil {
			runtime.GC() // one program's garbage must not cost the next one
			start := time.Now()
			err = f()
			*list = append(*list, time.Since(start))
		}
	}
	applied := func() error { _, err := a.Apply(ctx, state); return err }
	taken := func() error { _, err := a.Down(ctx); return err }
	for i := 0; i < runs && err == nil; i++ {
		timed(&row.batch, func() error { return b.batch(ctx, "add", add) })
		timed(&row.batchDown, func() error { return b.batch(ctx, "del", del) })
		timed(&row.apply, applied)
		sent := k.Sent()
		timed(&row.idle, applied)
		if err == nil && k.Sent() != sent {
			return row, fmt.Errorf("with nothing to do %d changes were sent", k.Sent()-sent)
		}
		timed(&row.show, func() error {
			return exec.CommandContext(ctx, "sh", "-c", "ip rule >/dev/null && ip route show table all >/dev/null").Run()
		})
		timed(&row.down, taken)
		timed(&row.process, func() error {
			return exec.CommandContext(ctx, filepath.Join(b.bin, programs.Control), "apply", "--root", root).Run()
		})
		timed(new([]time.Duration), taken)
		if err == nil {
			var took time.Duration
			took, err = floor.run()
			row.prebuilt = append(row.prebuilt, took)
		}
		timed(new([]time.Duration), taken)
	}
	return row, err
}

// kernelSpec returns a spec of n uplinks whose links are somebody else's, so that only routes and
// rules are measured, and the addresses that the links have.
func kernelSpec(n int) (toml, addresses string) {
	var t, a strings.Builder
	for i := range n {
		net := fmt.Sprintf("10.%d.%d", i/256, i%256)
		fmt.Fprintf(&t, "[uplink.u%05d]\ninterface = %q\nmanage = \"policy\"\naddresses = [\"%s.2/24\"]\ngateways = [\"%[3]s.1\"]\n", i, device(i), net)
		fmt.Fprintf(&a, "address add %s.2/24 dev %s\n", net, device(i))
	}
	return t.String(), a.String()
}

// written returns the state as people would write it for ip(8), uplink by uplink, and how they
// would remove it again.
func written(s fib.State) (add, del string) {
	x := s.Syntax()
	lines := map[uint32][]func(verb string) string{}
	for _, r := range s.Routes {
		lines[r.Table] = append(lines[r.Table], func(verb string) string { return x.Route(verb, r) })
	}
	for _, r := range s.Rules {
		lines[r.Table] = append(lines[r.Table], func(verb string) string { return x.Rule(verb, r) })
	}
	var a, d strings.Builder
	for _, t := range s.Tables {
		for _, line := range lines[t.ID] {
			a.WriteString(line("add") + "\n")
			d.WriteString(line("del") + "\n")
		}
	}
	return a.String(), d.String()
}

func interfaceIndex(s fib.State) func(link string) uint32 {
	index := map[string]uint32{}
	for _, l := range s.Links {
		if dev, err := net.InterfaceByName(l.Match.Name); err == nil {
			index[l.Name] = uint32(dev.Index)
		}
	}
	return func(link string) uint32 { return index[link] }
}

// batch runs `ip -batch`.
func (b *bencher) batch(ctx context.Context, name, lines string) error {
	file := filepath.Join(b.dir, name+".batch")
	if err := os.WriteFile(file, []byte(lines), 0o644); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "ip", "-batch", file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip -batch %s: %w: %s", name, err, out)
	}
	return nil
}
