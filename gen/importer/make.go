package importer

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// Manage is the spec's key of that name, for all links.
type Manage string

// Who manages the links.
const (
	ByLink Manage = "link"
	Policy Manage = "policy"
)

// Options say how the spec is made.
type Options struct {
	// Manage is for all links. "" decides for each: "link" if the source is a script that
	// adds the link's addresses, because nobody else does; otherwise "policy", because
	// whatever configures the link still does.
	Manage Manage
}

// Result is a spec, and all the differences from what it was made of.
type Result struct {
	TOML    string // the whole file, with the differences as comments
	State   fib.State
	Lost    []Left   // what is not carried over
	Changed []string // what will be different
	Added   []string // what will be added, in the words of ip(8)
	Stays   []string // links that are left to whatever configures them
}

// ErrNothing says that there is nothing to make an uplink of.
var ErrNothing = errors.New("there is no link with a routing table, or with a default route to carry over: nothing to import")

// differences returns the number of differences.
func (r *Result) differences() int { return len(r.Lost) + len(r.Changed) + len(r.Added) }

// Make makes a spec. The error is ErrNothing, or says that no valid spec could be made.
func Make(f *Found, o Options) (*Result, error) {
	f.settle()
	var best *Result
	var worst error
	for _, mainFirst := range []bool{false, true} {
		if mainFirst && !f.hasMainFirst() {
			continue
		}
		c := *f // one attempt must not affect the other
		c.Links = append([]Link(nil), f.Links...)
		c.Left = append([]Left(nil), f.Left...)
		r, err := attempt(newGuess(&c, o, mainFirst))
		if err != nil {
			worst = err
		} else if best == nil || r.differences() <= best.differences() {
			best = r
		}
	}
	if best == nil {
		return &Result{Lost: f.Left}, worst
	}
	return best, nil
}

func (f *Found) hasMainFirst() bool {
	for i := range f.Rules {
		if k := f.Rules[i].Key(); k == mainRule(k.Family) {
			return true
		}
	}
	return false
}

// attempt writes a guess, and fixes what the spec does not accept until it is valid.
func attempt(g *guess) (*Result, error) {
	g.why = map[any]string{}
	for {
		if len(g.uplinks) == 0 {
			return nil, ErrNothing
		}
		d := g.write(omit{})
		state, err := compile(d.String())
		if err == nil {
			if g.unclosed(state) {
				continue
			}
			return g.finish(d, state), nil
		}
		var list spec.Errors
		if !errors.As(err, &list) {
			return nil, fmt.Errorf("what was imported makes no spec: %w", err)
		}
		fixes := d.fixes(list)
		for _, fix := range fixes {
			fix()
		}
		if len(fixes) == 0 {
			return nil, fmt.Errorf("what was imported makes no spec: %w", err)
		}
	}
}

// unclosed turns into full routes those routes of last resort that fallthrough does not make,
// because no rule of their family leads to the table. It does so with all of an uplink's if
// fallthrough makes one too many: in the source, packets of that family went on to the next rule.
func (g *guess) unclosed(state fib.State) (found bool) {
	have, source := map[fib.RouteKey]bool{}, map[fib.RouteKey]bool{}
	for i := range g.Routes {
		source[g.Routes[i].Key()] = true
	}
	more := map[uint32]bool{} // by table
	for i := range state.Routes {
		r := &state.Routes[i]
		have[r.Key()] = true
		if r.IsDefault() && r.Metric == lastMetric && !source[r.Key()] {
			more[r.Table] = true
		}
	}
	for _, u := range g.uplinks {
		u.lasts = slices.DeleteFunc(u.lasts, func(r *Route) bool {
			if have[r.Key()] && !more[u.table] {
				return false
			}
			u.routes, found = append(u.routes, r), true
			return true
		})
		if len(u.lasts) == 0 {
			u.last = 0
		}
	}
	return found
}

func compile(text string) (fib.State, error) {
	s, err := spec.Parse("import", []byte(text))
	if err != nil {
		return fib.State{}, err
	}
	return gen.Compile(s)
}

// finish leaves out the numbers that gen.Compile would choose anyway, and compares.
func (g *guess) finish(d *document, state fib.State) *Result {
	for _, o := range []omit{{true, true}, {priorities: true}, {tables: true}} {
		shorter := g.write(o)
		if s, err := compile(shorter.String()); err == nil && s.Text() == state.Text() {
			d = shorter
			break
		}
	}
	r := &Result{State: state}
	g.compare(r)
	r.TOML = g.head(r) + d.String() + tail(r)
	return r
}

// because notes why things are not carried over.
func (g *guess) because(why string, things ...any) {
	for _, x := range things {
		g.why[x] = why
	}
}

func (g *guess) head(r *Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Made by uplinkctl import from %s", oneLine(g.From))
	if len(g.Files) > 0 {
		b.WriteString(":")
	}
	b.WriteString("\n")
	for _, f := range g.Files {
		fmt.Fprintf(&b, "#   %s\n", oneLine(f))
	}
	if len(r.Stays) > 0 {
		fmt.Fprintf(&b, "# Whoever configures %s goes on to do so: addresses and the routes of table main\n# are left alone there (manage = \"policy\").\n", plain(strings.Join(r.Stays, ", ")))
	}
	return b.String() + "\n"
}

// Lines returns the differences, one a line.
func (r *Result) Lines() (list []string) {
	for _, l := range r.Lost {
		list = append(list, "not carried over: "+l.String())
	}
	for _, s := range r.Changed {
		list = append(list, "will change: "+plain(s))
	}
	for _, s := range r.Added {
		list = append(list, "will be added: "+plain(s))
	}
	return list
}

func tail(r *Result) string {
	var b strings.Builder
	for i, l := range r.Lines() {
		if i == 0 {
			b.WriteString("\n")
		}
		b.WriteString("# " + l + "\n")
	}
	return b.String()
}
