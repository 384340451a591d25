package main

import (
	"flag"
	"fmt"
	"html"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

const graphUsage = `Usage: uplinkctl graph [--root DIR | FILE…]

Draw the state that the kernel would hold, in the language of Graphviz: for each
family the rules in the order in which the kernel tries them, the tables that
they look up with their routes, and the gateways and links that these use. It
needs neither root nor a kernel. With FILEs it reads only those, each overriding
the ones before it.

Options:
  --root DIR   the host's root directory (default /)

Exit status: 0 done, 1 the spec has errors or there is none, 2 wrong usage.

Examples:
  uplinkctl graph | dot -Tsvg > uplinks.svg
`

func graphCommand() *command {
	var root string
	return &command{
		name: "graph", usage: graphUsage, files: true,
		flags: func(f *flag.FlagSet) { rootOption(f, &root) },
		run: func(files []string, stdout, stderr io.Writer) int {
			return printState(graphUsage, root, files, stderr, func(s *spec.Spec, state *fib.State) error {
				laid := laidOut(root, files, s, *state)
				_, err := io.WriteString(stdout, drawState(&laid))
				return err
			})
		},
	}
}

// drawing is a graph in the language of dot. Gateways and links are shared by the families, so
// they come after both of them, and so do the edges.
type drawing struct {
	b      strings.Builder
	state  *fib.State
	syntax fib.Syntax
	links  map[string]int    // by name, the number of the node
	names  map[uint32]string // of tables
	ways   []way             // gateways; the index is the number of the node
	wayOf  map[way]int       // the index in ways
	edges  []string

	routes map[tableKey][]fib.Route
	learns map[tableKey][]fib.Link // where a table has a gateway that is learned
}

// tableKey is a table of one family.
type tableKey struct {
	family fib.Family
	id     uint32
}

type way struct{ link, via string }

func drawState(state *fib.State) string {
	d := &drawing{state: state, syntax: state.Syntax(), links: map[string]int{}, names: map[uint32]string{}, wayOf: map[way]int{}}
	d.syntax.Protocol = fib.Some[uint8](0) // all of them are ours
	for i, l := range state.Links {
		d.links[l.Name] = i
	}
	d.index()
	d.line("digraph uplinks {")
	d.line("\trankdir=LR;")
	d.line("\tranksep=1;")
	d.line("\tnode [fontname=monospace, fontsize=10];")
	d.line("\tedge [fontname=monospace, fontsize=9];")
	for _, f := range fib.Families {
		d.family(f)
	}
	d.line("")
	for i, w := range d.ways {
		d.line(fmt.Sprintf("\tgateway%d [label=%s, shape=ellipse];", i, dotText(w.via)))
		d.edge(fmt.Sprintf("gateway%d", i), d.link(w.link), "")
	}
	for i, l := range state.Links {
		label := []string{l.Match.String()}
		if dev, ok := l.Match.Device(); ok {
			label[0] = dev
		}
		for _, u := range l.Uplinks {
			label = append(label, "uplink "+u.Name)
		}
		d.line(fmt.Sprintf("\tlink%d [label=%s, shape=box, style=rounded];", i, dotText(label...)))
	}
	d.line("")
	for _, e := range d.edges {
		d.line("\t" + e)
	}
	d.line("}")
	return d.b.String()
}

// index finds the tables' names and contents once, because there may be thousands.
func (d *drawing) index() {
	for _, t := range d.state.Tables {
		if _, twice := d.names[t.ID]; !twice {
			d.names[t.ID] = t.Name
		}
	}
	d.routes, d.learns = map[tableKey][]fib.Route{}, map[tableKey][]fib.Link{}
	for _, r := range d.state.Routes {
		key := tableKey{r.Family, r.Table}
		d.routes[key] = append(d.routes[key], r)
	}
	for _, l := range d.state.Links {
		for _, f := range fib.Families {
			if !l.Learn.Learns(f) {
				continue
			}
			own, main := tableKey{f, l.Learn.Table}, tableKey{f, fib.TableMain}
			d.learns[own] = append(d.learns[own], l)
			if l.Learn.DefaultRoute && own != main {
				d.learns[main] = append(d.learns[main], l)
			}
		}
	}
}

func (d *drawing) line(s string) { d.b.WriteString(s + "\n") }

func (d *drawing) link(name string) string { return fmt.Sprintf("link%d", d.links[name]) }

func (d *drawing) edge(from, to, attributes string) {
	if attributes != "" {
		attributes = " [" + attributes + "]"
	}
	d.edges = append(d.edges, from+" -> "+to+attributes+";")
}

// grid is a node with lines, from each of which edges can start.
type grid struct {
	id   string
	rows []string
}

// add adds a line of cells, and returns the port from which an edge can start.
func (g *grid) add(cells ...string) (port string) {
	n := len(g.rows)
	row := ""
	for i, c := range cells {
		at := ""
		if i == len(cells)-1 {
			at = fmt.Sprintf(" port=\"r%d\"", n)
		}
		text := html.EscapeString(c)
		if strings.Contains(c, "\n") {
			text = strings.ReplaceAll(text+"\n", "\n", `<br align="left"/>`)
		}
		row += fmt.Sprintf("<td%s align=\"left\">%s</td>", at, text)
	}
	g.rows = append(g.rows, row)
	return fmt.Sprintf("%s:r%d:e", g.id, n)
}

func (d *drawing) grid(g grid, title string, columns int) {
	d.line(fmt.Sprintf("\t%s [shape=plain, label=<<table border=\"0\" cellborder=\"1\" cellspacing=\"0\">", g.id))
	d.line(fmt.Sprintf("\t\t<tr><td port=\"title\" colspan=\"%d\" bgcolor=\"lightgrey\">%s</td></tr>", columns, html.EscapeString(title)))
	for _, r := range g.rows {
		d.line("\t\t<tr>" + r + "</tr>")
	}
	d.line("\t</table>>];")
}

// family draws the rules of a family, with those that differ only in their selectors on one line,
// and then the tables.
func (d *drawing) family(f fib.Family) {
	var rules []fib.Rule // without selectors
	var selectors []string
	for _, r := range d.state.Rules {
		if r.Family != f {
			continue
		}
		same := r.Bare()
		if n := len(rules); n > 0 && rules[n-1] == same {
			selectors[n-1] += "\n" + d.selector(r)
			continue
		}
		rules, selectors = append(rules, same), append(selectors, d.selector(r))
	}
	tables := d.tables(f)
	if len(rules) == 0 && len(tables) == 0 {
		return
	}
	// The kernel's own rule: what no other rule sends elsewhere goes there.
	if !slices.Contains(tables, fib.TableMain) {
		tables = append(tables, fib.TableMain)
	}
	rules = append(rules, fib.Rule{Family: f, Priority: fib.PriorityMain, Action: fib.Lookup, Table: fib.TableMain})
	selectors = append(selectors, "from all")

	d.line("")
	g := grid{id: familyID(f) + "_rules"}
	for i, r := range rules {
		port := g.add(strconv.FormatUint(uint64(r.Priority), 10), selectors[i], d.action(r))
		if r.Action == fib.Lookup && !r.L3MDev {
			d.edge(port, tableID(f, r.Table)+":title:w", "")
		}
	}
	d.grid(g, f.String()+" rules", 3)
	for _, id := range tables {
		d.table(f, id)
	}
}

func familyID(f fib.Family) string { return strings.ToLower(f.String()) }

// selector is what a rule selects, in the words of ip(8).
func (d *drawing) selector(r fib.Rule) string {
	r.Action, r.L3MDev = fib.Nop, false
	r.SuppressPrefixLength, r.SuppressIfGroup = fib.Opt[uint32]{}, fib.Opt[uint32]{}
	text := strings.TrimPrefix(d.syntax.Rule("add", r), "-6 ")
	text = strings.TrimPrefix(text, fmt.Sprintf("rule add priority %d ", r.Priority))
	text = strings.TrimSuffix(text, " nop")
	if rest, more := strings.CutPrefix(text, "from all "); more {
		return rest
	}
	return text
}

// action is what a rule does, in the words of ip(8), tables by name.
func (d *drawing) action(r fib.Rule) string {
	x := d.syntax
	x.Table = d.tableName
	text := strings.TrimPrefix(x.Rule("add", r), "-6 ")
	text = strings.TrimPrefix(text, fmt.Sprintf("rule add priority %d from all ", r.Priority))
	return strings.ReplaceAll(text, " suppress_", "\nsuppress_")
}

func tableID(f fib.Family, id uint32) string { return fmt.Sprintf("%s_table%d", familyID(f), id) }

// tables are the tables that rules or routes of a family name, in order.
func (d *drawing) tables(f fib.Family) (ids []uint32) {
	for _, r := range d.state.Rules {
		if r.Family == f && r.Action == fib.Lookup && !r.L3MDev {
			ids = append(ids, r.Table)
		}
	}
	for _, r := range d.state.Routes {
		if r.Family == f {
			ids = append(ids, r.Table)
		}
	}
	for _, l := range d.state.Links {
		if l.Learn.Learns(f) {
			ids = append(ids, l.Learn.Table)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// table draws a table with a line for each route, from which edges lead on.
func (d *drawing) table(f fib.Family, id uint32) {
	g := grid{id: tableID(f, id)}
	for _, r := range d.routes[tableKey{f, id}] {
		port := g.add(routeText(r))
		for _, hop := range r.Nexthops {
			attributes := ""
			if len(r.Nexthops) > 1 {
				attributes = fmt.Sprintf("label=\"weight %d\"", hop.Weight)
			}
			d.edge(port, d.way(hop), attributes)
		}
	}
	for _, l := range d.learns[tableKey{f, id}] {
		if l.Learn.Table == id {
			d.edge(g.add("default, learned"), d.link(l.Name), "style=dashed")
		}
		if id == fib.TableMain && l.Learn.DefaultRoute {
			text := "default, learned"
			if l.Learn.Metric != 0 {
				text += fmt.Sprintf(", metric %d", l.Learn.Metric)
			}
			d.edge(g.add(text), d.link(l.Name), "style=dashed")
		}
	}
	if id == fib.TableMain || id == fib.TableDefault || len(g.rows) == 0 {
		g.add("routes of others")
	}
	title := d.tableName(id)
	if t := strconv.FormatUint(uint64(id), 10); t != title && id != fib.TableMain && id != fib.TableDefault {
		title += " (" + t + ")"
	}
	d.grid(g, f.String()+" table "+title, 1)
}

func (d *drawing) tableName(id uint32) string {
	switch id {
	case fib.TableMain:
		return "main"
	case fib.TableDefault:
		return "default"
	}
	if name, there := d.names[id]; there {
		return name
	}
	return strconv.FormatUint(uint64(id), 10)
}

// way is the node for the gateway of a nexthop or, without one, of its link.
func (d *drawing) way(hop fib.Nexthop) string {
	if !hop.Via.IsValid() {
		return d.link(hop.Link)
	}
	w := way{hop.Link, hop.Via.String()}
	i, there := d.wayOf[w]
	if !there {
		i = len(d.ways)
		d.ways, d.wayOf[w] = append(d.ways, w), i
	}
	return fmt.Sprintf("gateway%d", i)
}

// routeText is a route without its gateways and links.
func routeText(r fib.Route) string {
	text := "default"
	if !r.IsDefault() {
		text = r.Dst.String()
	}
	if r.Type != fib.Unicast {
		text = r.Type.String() + " " + text
	}
	if r.Src.IsValid() {
		text += " src " + r.Src.String()
	}
	if r.Metric != 0 && r.Metric != r.Family.Metric(0) {
		text += fmt.Sprintf(" metric %d", r.Metric)
	}
	return text
}

// dotText is a label of one or more lines.
func dotText(lines ...string) string {
	end := ""
	if len(lines) > 1 {
		end = `\l` // ends a line and aligns it left
	}
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(l) + end)
	}
	return `"` + b.String() + `"`
}
