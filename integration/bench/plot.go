package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"slices"
	"time"
)

// panel is one part of the drawing: lines over the number of uplinks, both axes
// logarithmic.
type panel struct {
	title, unit string
	lines       []line
}

// line is one program's, ours first.
type line struct {
	name   string
	points []point
}

type point struct {
	uplinks int
	took    time.Duration
}

func (l *line) add(uplinks int, took time.Duration) {
	l.points = append(l.points, point{uplinks, took})
}

// Of the drawing, in its own units.
const (
	plotWidth, plotHeight = 330.0, 250.0
	plotLeft, plotTop     = 62.0, 52.0
	panelWidth            = 470.0
	legendStep            = 20.0
)

// The colours tell lines apart on white and on black, also for the colour-blind. A reader that
// does not know which of the two it is on still gets them right.
const style = `
text { font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #59636e }
.title { font-size: 14px; font-weight: 600; fill: #1f2328 }
.grid { stroke: #808890; stroke-opacity: .25 }
.line { fill: none; stroke-width: 1.75 }
.ours { stroke-width: 3 }
.c0 { stroke: #1f83e0; color: #1f83e0 } .c1 { stroke: #e0701a; color: #e0701a }
.c2 { stroke: #17a07b; color: #17a07b } .c3 { stroke: #a46bd6; color: #a46bd6 }
.dot { fill: currentColor; stroke: none }
@media (prefers-color-scheme: dark) { text { fill: #9198a1 } .title { fill: #f0f6fc } }
`

// drawing returns the panels side by side, as SVG for a README: without a background, and
// readable on a light and on a dark one.
func drawing(panels []panel) []byte {
	rows := 0
	for _, p := range panels {
		rows = max(rows, len(p.lines))
	}
	width, height := panelWidth*float64(len(panels)), plotTop+plotHeight+56+legendStep*float64(rows)
	var b bytes.Buffer
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\" role=\"img\">\n", width, height, width, height)
	b.WriteString("<title>How the time grows with the number of uplinks</title>\n<style>" + style + "</style>\n")
	for i, p := range panels {
		fmt.Fprintf(&b, "<g transform=\"translate(%.0f 0)\">\n", float64(i)*panelWidth)
		p.draw(&b)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func (p panel) draw(b *bytes.Buffer) {
	lowX, highX, lowY, highY := p.decades()
	x := func(uplinks float64) float64 {
		return plotLeft + plotWidth*(math.Log10(uplinks)-lowX)/(highX-lowX)
	}
	y := func(ms float64) float64 { return plotTop + plotHeight*(1-(math.Log10(ms)-lowY)/(highY-lowY)) }

	fmt.Fprintf(b, "<text class=\"title\" x=\"%.0f\" y=\"20\">%s</text>\n", plotLeft, html.EscapeString(p.title))
	fmt.Fprintf(b, "<text x=\"%.0f\" y=\"38\">%s; less is better</text>\n", plotLeft, html.EscapeString(p.unit))
	for e := lowX; e <= highX; e++ {
		at := x(math.Pow(10, e))
		fmt.Fprintf(b, "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/>", at, plotTop, plotTop+plotHeight)
		fmt.Fprintf(b, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", at, plotTop+plotHeight+18, thousands(math.Pow(10, e)))
	}
	fmt.Fprintf(b, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">uplinks</text>\n", plotLeft+plotWidth/2, plotTop+plotHeight+36)
	for e := lowY; e <= highY; e++ {
		at := y(math.Pow(10, e))
		fmt.Fprintf(b, "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/>", plotLeft, at, plotLeft+plotWidth)
		fmt.Fprintf(b, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", plotLeft-8, at+4, scale(e))
	}
	// Ours last, so that it is on top.
	for i := len(p.lines) - 1; i >= 0; i-- {
		class := fmt.Sprintf("line c%d", i)
		if i == 0 {
			class += " ours"
		}
		fmt.Fprintf(b, "<g class=\"%s\"><path d=\"", class)
		var dots bytes.Buffer
		for j, at := range p.lines[i].points {
			command := 'L'
			if j == 0 {
				command = 'M'
			}
			px, py := x(float64(at.uplinks)), y(milliseconds(at.took))
			fmt.Fprintf(b, "%c%.1f %.1f", command, px, py)
			fmt.Fprintf(&dots, "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>", px, py)
		}
		fmt.Fprintf(b, "\"/>%s</g>\n", dots.Bytes())
	}
	for i, l := range p.lines {
		at := plotTop + plotHeight + 60 + legendStep*float64(i)
		name, class := l.name, fmt.Sprintf("line c%d", i)
		if len(l.points) == 0 {
			name += ": not installed here"
		} else {
			last := l.points[len(l.points)-1]
			name += fmt.Sprintf(": %s with %s", rounded(last.took), thousands(float64(last.uplinks)))
		}
		if i == 0 {
			class += " ours"
		}
		fmt.Fprintf(b, "<path class=\"%s\" d=\"M%.0f %.0fh22\"/><text x=\"%.0f\" y=\"%.0f\">%s</text>\n", class, plotLeft, at-4, plotLeft+30, at, html.EscapeString(name))
	}
}

// decades returns the powers of ten between which all points lie.
func (p panel) decades() (lowX, highX, lowY, highY float64) {
	var x, y []float64
	for _, l := range p.lines {
		for _, at := range l.points {
			x = append(x, math.Log10(float64(at.uplinks)))
			y = append(y, math.Log10(milliseconds(at.took)))
		}
	}
	if len(x) == 0 {
		return 0, 1, 0, 1
	}
	lowX, highX = math.Floor(slices.Min(x)), math.Ceil(slices.Max(x))
	lowY, highY = math.Floor(slices.Min(y)), math.Ceil(slices.Max(y))
	return lowX, max(highX, lowX+1), lowY, max(highY, lowY+1)
}

func milliseconds(d time.Duration) float64 { return max(float64(d), 1) / float64(time.Millisecond) }

// scale names a power of ten of milliseconds.
func scale(e float64) string {
	switch {
	case e >= 3:
		return thousands(math.Pow(10, e-3)) + " s"
	case e >= 0:
		return thousands(math.Pow(10, e)) + " ms"
	}
	return thousands(math.Pow(10, e+3)) + " µs"
}

// rounded is a time as people say it.
func rounded(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%.0f ms", milliseconds(d))
	}
	return fmt.Sprintf("%.1f ms", milliseconds(d))
}

func thousands(n float64) string {
	if n >= 1000 {
		return fmt.Sprintf("%.0f,%03d", math.Floor(n/1000), int(n)%1000)
	}
	return fmt.Sprintf("%.0f", n)
}
