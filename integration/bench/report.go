package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
)

// bencher measures and prints.
type bencher struct {
	dir, bin string
	unpacked string // a root directory below which cloud-init is unpacked, or ""
	runs     int
	full     bool
	out      io.Writer
	missed   bool
	plots    []panel
}

// Names of the contestants.
const (
	generator = "uplink-generator NORMAL EARLY LATE"
	rendering = "uplink-generator --render"
	render    = "uplinkctl render"
	peerNet   = "systemd-network-generator"
	peerPlan  = "netplan generate"
	peerCloud = "cloud-init net-convert"
	nothing   = "a Go program that does nothing"
)

// startUpUplinks is the number of uplinks of a host with many.
const startUpUplinks = 4

// startUp measures what a boot waits for.
func (b *bencher) startUp(ctx context.Context, _ int) error {
	in := input{startUpUplinks}
	dir := filepath.Join(b.dir, "start-up")
	peers, err := b.renderers(in, dir)
	if err != nil {
		return err
	}
	empty, ours, err := b.starters()
	if err != nil {
		return err
	}
	list := slices.Concat([]contestant{empty}, ours, peers[1:])
	results, err := measure(ctx, list, b.runs, filepath.Join(b.bin, "peak"))
	if err != nil {
		return err
	}
	get := index(results)
	fmt.Fprintf(b.out, "## Start-up with %d uplinks\n\nWhole processes, medians of %d runs in turn. The ratio is the median of the rounds' own ratios, in brackets the quartiles.\n\n", in.n, b.runs)
	t := &table{head: []string{"program", "ms", "peak KiB", "file KiB", "the generator takes of it", "the renderer takes of it"}}
	for _, r := range results {
		size := "-"
		if r.name != peerCloud { // that would measure Python
			size = fmt.Sprint(r.bytes >> 10)
		}
		t.add(r.name, fmt.Sprintf("%.2f", r.wall()), fmt.Sprint(r.peak()), size, ratios(get[generator].times, r.times).String(), ratios(get[rendering].times, r.times).String())
	}
	if err := t.write(b.out); err != nil {
		return err
	}
	v := b.verdicts()
	for _, name := range []string{generator, rendering} {
		for _, peer := range []struct {
			name  string
			limit float64
		}{{peerNet, maxOfNetworkGenerator}, {peerPlan, maxOfNetplan}, {peerCloud, maxOfNetplan}} {
			if r := get[peer.name]; r != nil {
				v.ratio(name+" / "+peer.name, get[name].times, r.times, peer.limit)
			} else {
				v.add(name+" / "+peer.name, "not installed here")
			}
		}
		v.limit("peak memory of "+name, float64(get[name].peak()), maxPeakKiB, "%.0f KiB")
	}
	v.limit("size of "+programs.Generator, float64(get[generator].bytes), maxBinaryBytes, "%.0f B")
	return v.write(b.out)
}

// growth measures how the time grows with the number of uplinks.
func (b *bencher) growth(ctx context.Context, most int) error {
	names := []string{render, peerPlan, peerNet, peerCloud}
	type row struct {
		n   int
		get map[string]*result
	}
	var rows []row
	for n := 1; n <= most; n *= 10 {
		list, err := b.renderers(input{n}, filepath.Join(b.dir, fmt.Sprint(n)))
		if err != nil {
			return err
		}
		if len(rows) > 0 {
			last := rows[len(rows)-1].get
			list = slices.DeleteFunc(list, func(c contestant) bool { return last[c.name] == nil })
		}
		results, err := measure(ctx, list, b.runs, filepath.Join(b.bin, "peak"))
		if err != nil {
			return fmt.Errorf("%d uplinks: %w", n, err)
		}
		rows = append(rows, row{n, index(results)})
	}

	fmt.Fprintf(b.out, "## Writing the files\n\nWhole processes, medians of up to %d runs in turn, ms; in brackets what our part of it is, and the quartiles of that. systemd-network-generator reads addresses and gateways from the kernel command line, and Debian 12's cloud-init writes no tables and no rules: both do less.\n\n", b.runs)
	t := &table{head: []string{"uplinks", render, "peak KiB", "us an uplink", peerPlan, "peak KiB", peerNet, peerCloud}}
	plot := panel{title: "Writing the files", unit: "whole process"}
	for _, name := range names {
		plot.lines = append(plot.lines, line{name: name})
	}
	// Without the time to start a process, which would flatter the small numbers, and from the
	// runs that were disturbed least: differences of medians say little.
	perUplink := func(r row) float64 { return (r.get[render].fastest() - rows[0].get[render].fastest()) / float64(r.n-1) }
	for i, r := range rows {
		per := "-"
		if i > 0 {
			per = fmt.Sprintf("%.1f", 1000*perUplink(r))
		}
		cell := func(name string) string {
			if r.get[name] == nil && rows[0].get[name] != nil {
				return fmt.Sprintf("more than %.0f s a run", tooSlow.Seconds())
			}
			if r.get[name] == nil {
				return "not installed here"
			}
			return fmt.Sprintf("%.1f: %v", r.get[name].wall(), ratios(r.get[render].times, r.get[name].times))
		}
		peak := "-"
		if p := r.get[peerPlan]; p != nil {
			peak = fmt.Sprint(p.peak())
		}
		t.add(fmt.Sprint(r.n), fmt.Sprintf("%.2f", r.get[render].wall()), fmt.Sprint(r.get[render].peak()), per, cell(peerPlan), peak, cell(peerNet), cell(peerCloud))
		for i, name := range names {
			if x := r.get[name]; x != nil {
				plot.lines[i].add(r.n, time.Duration(x.wall()*float64(time.Millisecond)))
			}
		}
	}
	b.plots = append(b.plots, plot)
	if err := t.write(b.out); err != nil {
		return err
	}
	v := b.verdicts()
	for _, r := range rows {
		if p := r.get[peerPlan]; p != nil && r.n == rows[len(rows)-1].n {
			v.ratio(fmt.Sprintf("%s / %s, %d uplinks", render, peerPlan, r.n), r.get[render].times, p.times, maxOfNetplan)
		}
		if r.n > 100 {
			v.limit(fmt.Sprintf("time an uplink takes, %d / 100, start-up left out", r.n), perUplink(r)/perUplink(rows[2]), maxGrowth, "%.2f")
		}
	}
	return v.write(b.out)
}

func index(results []*result) map[string]*result {
	m := map[string]*result{}
	for _, r := range results {
		m[r.name] = r
	}
	return m
}
