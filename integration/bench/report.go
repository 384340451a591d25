package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"

	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
)

// bencher measures and prints.
type bencher struct {
	dir, bin string
	runs     int
	out      io.Writer
	missed   bool
}

// Names of the contestants.
const (
	generator = "uplink-generator NORMAL EARLY LATE"
	rendering = "uplink-generator --render"
	render    = "uplinkctl render --output"
	peerNet   = "systemd-network-generator"
	peerPlan  = "netplan generate"
	nothing   = "a Go program that does nothing"
)

// startUpUplinks is how many uplinks a host has that has many.
const startUpUplinks = 4

// startUp measures what a boot waits for.
func (b *bencher) startUp(ctx context.Context) error {
	in := input{startUpUplinks}
	dir := filepath.Join(b.dir, "start-up")
	ours, plan, net, err := in.roots(dir)
	if err != nil {
		return err
	}
	units := []string{filepath.Join(dir, "normal"), filepath.Join(dir, "early"), filepath.Join(dir, "late")}
	program := filepath.Join(b.bin, programs.Generator)
	list := []contestant{
		{nothing, []string{filepath.Join(b.bin, "empty")}, nil, 0},
		{generator, append([]string{program, "--root", ours}, units...), units, 2 + in.n},
		{rendering, []string{program, "--root", ours, "--render"}, []string{ours + "/run"}, in.n + 2},
	}
	if p := installed(networkGenerator); p != "" {
		list = append(list, contestant{peerNet, append([]string{p, "--root=" + net, "--"}, in.commandLine()...), []string{net + "/run"}, in.n})
	}
	if p := installed(netplanGenerate); p != "" {
		list = append(list, contestant{peerPlan, []string{p, "--root-dir", plan}, []string{plan + "/run"}, in.n})
	}
	results, err := measure(ctx, list, b.runs, filepath.Join(b.bin, "peak"))
	if err != nil {
		return err
	}
	get := index(results)
	fmt.Fprintf(b.out, "Start-up with %d uplinks: whole processes, medians of %d interleaved runs.\n\n", in.n, b.runs)
	for _, name := range []string{generator, rendering} {
		r := get[name]
		b.ratio(r, get[peerNet], peerNet, maxOfNetworkGenerator)
		b.ratio(r, get[peerPlan], peerPlan, maxOfNetplan)
		b.ratio(r, get[nothing], nothing, 0)
		b.target(float64(r.peak()), maxPeakKiB, "%6.0f KiB", "peak memory of %s", name)
	}
	b.target(float64(get[generator].bytes), maxBinaryBytes, "%6.0f B  ", "size of the %s binary", programs.Generator)
	fmt.Fprintln(b.out)
	w := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "ms\tpeak KiB\tbinary KiB\t  program")
	for _, r := range results {
		fmt.Fprintf(w, "%.2f\t%d\t%d\t  %s\n", r.wall(), r.peak(), r.bytes>>10, r.name)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(b.out)
	return nil
}

// growth measures how the time grows with the number of uplinks.
func (b *bencher) growth(ctx context.Context, most int) error {
	type row struct {
		n          int
		ours, peer *result
	}
	var rows []row
	for n := 1; n <= most; n *= 10 {
		in := input{n}
		dir := filepath.Join(b.dir, fmt.Sprint(n))
		ours, plan, _, err := in.roots(dir)
		if err != nil {
			return err
		}
		out := filepath.Join(dir, "output")
		list := []contestant{{
			render, []string{filepath.Join(b.bin, programs.Control), "render", "--root", ours, "--output", out}, []string{out}, n + 2,
		}}
		if p := installed(netplanGenerate); p != "" {
			list = append(list, contestant{peerPlan, []string{p, "--root-dir", plan}, []string{plan + "/run"}, n})
		}
		results, err := measure(ctx, list, b.runs, filepath.Join(b.bin, "peak"))
		if err != nil {
			return err
		}
		get := index(results)
		rows = append(rows, row{n, get[render], get[peerPlan]})
	}

	fmt.Fprintf(b.out, "Growth: %s, whole processes, medians of %d interleaved runs.\n\n", render, b.runs)
	last := rows[len(rows)-1]
	b.ratio(last.ours, last.peer, fmt.Sprintf("%s, %d uplinks", peerPlan, last.n), maxOfNetplan)
	// Without what starting a process takes, which would flatter the small numbers.
	perUplink := func(r row) float64 { return (r.ours.wall() - rows[0].ours.wall()) / float64(r.n-1) }
	for _, r := range rows {
		if r.n > 100 {
			b.target(perUplink(r)/perUplink(rows[2]), maxGrowth, "%10.2f", "time an uplink takes, %d uplinks / 100, start-up left out", r.n)
		}
	}
	fmt.Fprintln(b.out)
	w := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "uplinks\tratio\tms\tpeak KiB\tus an uplink\tnetplan ms\tpeak KiB\t")
	for i, r := range rows {
		per := "-"
		if i > 0 {
			per = fmt.Sprintf("%.1f", 1000*perUplink(r))
		}
		if r.peer == nil {
			fmt.Fprintf(w, "%d\t-\t%.2f\t%d\t%s\t-\t-\t\n", r.n, r.ours.wall(), r.ours.peak(), per)
			continue
		}
		fmt.Fprintf(w, "%d\t%.2f\t%.2f\t%d\t%s\t%.2f\t%d\t\n", r.n, r.ours.wall()/r.peer.wall(), r.ours.wall(), r.ours.peak(), per, r.peer.wall(), r.peer.peak())
	}
	return w.Flush()
}

func index(results []*result) map[string]*result {
	m := map[string]*result{}
	for _, r := range results {
		m[r.name] = r
	}
	return m
}

// ratio prints how our time compares with a peer's; without a limit it only informs.
func (b *bencher) ratio(ours, peer *result, name string, limit float64) {
	what := ours.name + " / " + name
	if peer == nil {
		fmt.Fprintf(b.out, "         -  %s: not installed here\n", what)
		return
	}
	if limit == 0 {
		fmt.Fprintf(b.out, "%10.2f  %s\n", ours.wall()/peer.wall(), what)
		return
	}
	b.target(ours.wall()/peer.wall(), limit, "%10.2f", "%s", what)
}

// target prints a figure that has a limit.
func (b *bencher) target(have, limit float64, format, what string, args ...any) {
	verdict := "met"
	if have > limit {
		verdict, b.missed = "MISSED", true
	}
	fmt.Fprintf(b.out, format+"  "+what+" (at most %v: %s)\n", append(append([]any{have}, args...), limit, verdict)...)
}
