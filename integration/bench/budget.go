package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
)

// budget records size and start-up of the programs, so that nobody lets them grow unnoticed.
type budget struct {
	// Bytes is the size of each program for linux/amd64, as the Makefile builds it.
	Bytes map[string]int64 `json:"bytes"`
	// StartUp is the start-up with four uplinks, as a ratio to a Go program that does
	// nothing, on the machine that wrote the record.
	StartUp map[string]float64 `json:"start-up"`
}

const (
	mayGrow = 1.10

	budgetBlocks = 5
	budgetRounds = 40 // a block
	budgetTries  = 3
	budgetTime   = 6 * time.Second // a try
)

// checkBudget compares the programs with the record, or writes it.
//
// Other work on the machine only ever makes a run longer, so the fastest of many runs says most
// about the program: a start-up of 2 ms mostly fits between two interruptions. The runs take
// turns, in blocks, and the block counts in which the ratio of the fastest is smallest. A program
// is too slow if it was too slow in each of the blocks, and again in a new measurement. The
// record was taken the same way.
func (b *bencher) checkBudget(ctx context.Context, name string, update bool) error {
	have := budget{Bytes: map[string]int64{}, StartUp: map[string]float64{}}
	for _, p := range []string{programs.Generator, programs.Control} {
		info, err := os.Stat(filepath.Join(b.bin, p))
		if err != nil {
			return err
		}
		have.Bytes[p] = info.Size()
	}
	data, err := os.ReadFile(name)
	if err != nil && !update {
		return err
	}
	var record budget
	if err == nil {
		if err := json.Unmarshal(data, &record); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	empty, list, err := b.starters()
	if err != nil {
		return err
	}
	for try := range budgetTries {
		ratio, err := startUpRatios(ctx, empty, list)
		if err != nil {
			return err
		}
		slow := false
		for p, r := range ratio {
			if try == 0 || r < have.StartUp[p] {
				have.StartUp[p] = r
			}
			slow = slow || have.StartUp[p] > record.StartUp[p]*mayGrow
		}
		if !slow && !update {
			break
		}
	}
	if update {
		for p, r := range have.StartUp {
			have.StartUp[p] = float64(int(100*r+0.5)) / 100
		}
		data, err := json.MarshalIndent(have, "", "  ")
		if err != nil {
			return err
		}
		return os.WriteFile(name, append(data, '\n'), 0o644)
	}
	v := b.verdicts()
	for _, p := range []string{programs.Generator, programs.Control} {
		v.limit("bytes of "+p, float64(have.Bytes[p]), float64(record.Bytes[p])*mayGrow, "%.0f")
	}
	for _, c := range list {
		v.limit("start-up of "+c.name+" / "+nothing, have.StartUp[c.name], record.StartUp[c.name]*mayGrow, "%.2f")
	}
	if err := v.write(b.out); err != nil || !b.missed {
		return err
	}
	return fmt.Errorf("more than %.0f %% over %s: find out why, or record it with make budget-update", 100*(mayGrow-1), filepath.Base(name))
}

// starters returns the program that does nothing, and those whose start-up is recorded. These run
// as at boot, with / for their root: --root is for images, and walks each path link by link.
func (b *bencher) starters() (empty contestant, list []contestant, err error) {
	in := input{startUpUplinks}
	root, _, _, err := in.roots(filepath.Join(b.dir, "start-up"))
	if err != nil {
		return empty, nil, err
	}
	// At the same paths inside; "peak" is for measuring memory.
	if err := os.CopyFS(filepath.Join(root, b.bin), os.DirFS(b.bin)); err != nil {
		return empty, nil, err
	}
	units := []string{"/run/generator", "/run/generator.early", "/run/generator.late"}
	output := []string{root + "/run"}
	for _, dir := range units {
		output = append(output, root+dir)
	}
	program := filepath.Join(b.bin, programs.Generator)
	return contestant{name: nothing, argv: []string{filepath.Join(b.bin, "empty")}}, []contestant{
		{name: generator, root: root, argv: append([]string{program}, units...), output: output, files: 2 + in.n},
		{name: rendering, root: root, argv: []string{program, "--render"}, output: output, files: in.n + 2},
	}, nil
}

// startUpRatios measures each program of list beside the one that does nothing.
func startUpRatios(ctx context.Context, empty contestant, list []contestant) (map[string]float64, error) {
	ratio := map[string]float64{}
	start := time.Now()
	for block := range budgetBlocks {
		fastest := make([]time.Duration, 1+len(list))
		for round := 0; round < budgetRounds && (round < budgetRounds/4 || time.Since(start) < budgetTime*time.Duration(block+1)/budgetBlocks); round++ {
			for i, c := range slices.Concat([]contestant{empty}, list) {
				took, err := c.run(ctx)
				if err == nil && block == 0 && round == 0 {
					err = c.check()
				}
				if err != nil {
					return nil, fmt.Errorf("%s: %w", c.name, err)
				}
				if fastest[i] == 0 || took < fastest[i] {
					fastest[i] = took
				}
			}
		}
		for i, c := range list {
			r := float64(fastest[i+1]) / float64(fastest[0])
			if block == 0 || r < ratio[c.name] {
				ratio[c.name] = r
			}
		}
	}
	return ratio, nil
}
