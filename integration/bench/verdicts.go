package main

import (
	"fmt"
	"io"
	"time"
)

// verdicts are the figures that have a limit.
type verdicts struct {
	b *bencher
	t table
}

func (b *bencher) verdicts() *verdicts {
	return &verdicts{b, table{head: []string{"figure", "measured", "at most", ""}}}
}

// add notes a figure that has no limit.
func (v *verdicts) add(what, have string) { v.t.add(what, have, "-", "") }

// limit notes a figure, and whether it is within its limit.
func (v *verdicts) limit(what string, have, most float64, format string) {
	v.t.add(what, fmt.Sprintf(format, have), fmt.Sprintf(format, most), v.b.verdict(have, most))
}

// ratio notes our time as a part of a peer's; without a limit it is for information only.
func (v *verdicts) ratio(what string, ours, theirs []time.Duration, most float64) {
	r := ratios(ours, theirs)
	if most == 0 {
		v.add(what, r.String())
		return
	}
	v.t.add(what, r.String(), fmt.Sprint(most), v.b.verdict(r.median, most))
}

func (v *verdicts) write(w io.Writer) error { return v.t.write(w) }

// verdict says whether a figure is within its limit.
func (b *bencher) verdict(have, limit float64) string {
	if have > limit {
		b.missed = true
		return "**MISSED**"
	}
	return "met"
}
