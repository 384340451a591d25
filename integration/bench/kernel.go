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
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/rtnl"
	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
)

// The oneshot's targets, as ratios to what stands beside them.
var kernelTargets = map[int]struct{ batch, prebuilt, process, down float64 }{
	1000:  {batch: 0.35, prebuilt: 1.5, down: 0.4},
	10000: {batch: 0.06, process: 0.35},
}

// kernelDevices is how many links the uplinks are spread over. On one alone the
// kernel's own table of nexthops would make everybody quadratic.
const kernelDevices = 100

// kernel measures the oneshot beside `ip -batch`, in a network namespace of its own.
func (b *bencher) kernel(ctx context.Context, most int) error {
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the namespace ends with the thread
		failed <- b.kernelHere(ctx, most)
	}()
	return <-failed
}

func (b *bencher) kernelHere(ctx context.Context, most int) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("a network namespace: %w", err)
	}
	var links strings.Builder
	links.WriteString("link set lo up\n")
	for i := range kernelDevices {
		fmt.Fprintf(&links, "link add %s type veth peer name p%d\nlink set %[1]s up\nlink set p%[2]d up\n", device(i), i)
	}
	if err := b.batch(ctx, "links", links.String()); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "\nThe oneshot: 2 routes and 2 rules an uplink, over %d links. Milliseconds, medians.\n\n", kernelDevices)
	w := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "uplinks\tip -batch\tprebuilt\tapply\tprocess\tnothing to do\tip rule+route\tdown\tip -batch down\t")
	var rows []kernelRow
	for _, n := range []int{10, 100, 1000, 10000} {
		if n > most {
			break
		}
		row, err := b.kernelRow(ctx, n)
		if err != nil {
			return err
		}
		rows = append(rows, row)
		ms := func(list []time.Duration) string {
			return fmt.Sprintf("%.2f", float64(median(list))/float64(time.Millisecond))
		}
		fmt.Fprintln(w, strings.Join([]string{fmt.Sprint(n), ms(row.batch), ms(row.prebuilt), ms(row.apply), ms(row.process), ms(row.idle), ms(row.show), ms(row.down), ms(row.batchDown), ""}, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(b.out)
	for _, r := range rows {
		t, ok := kernelTargets[r.n]
		if !ok {
			continue
		}
		ratio := func(x, y []time.Duration, limit float64, what string) {
			if limit != 0 {
				b.target(float64(median(x))/float64(median(y)), limit, "%10.3f", fmt.Sprintf("%s, %d uplinks", what, r.n))
			}
		}
		ratio(r.apply, r.batch, t.batch, "apply / ip -batch")
		ratio(r.apply, r.prebuilt, t.prebuilt, "apply / prebuilt messages")
		ratio(r.process, r.batch, t.process, "uplinkctl apply / ip -batch")
		ratio(r.idle, r.show, 1, "nothing to do / ip rule and ip route show table all")
		ratio(r.down, r.batchDown, t.down, "down / ip -batch")
	}
	return nil
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
			runtime.GC() // what one leaves behind is not the next one's
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

// kernelSpec returns a spec of n uplinks whose links are somebody else's, so that only
// routes and rules are measured, and the addresses that they have.
func kernelSpec(n int) (toml, addresses string) {
	var t, a strings.Builder
	for i := range n {
		net := fmt.Sprintf("10.%d.%d", i/256, i%256)
		fmt.Fprintf(&t, "[uplink.u%05d]\ninterface = %q\nmanage = \"policy\"\naddresses = [\"%s.2/24\"]\ngateways = [\"%[3]s.1\"]\n", i, device(i), net)
		fmt.Fprintf(&a, "address add %s.2/24 dev %s\n", net, device(i))
	}
	return t.String(), a.String()
}

// written returns the state as people would write it down for ip(8), uplink by uplink,
// and how they would take it away again.
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
