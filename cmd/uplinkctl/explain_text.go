package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/blocks"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/lookup"
)

// explanation is a packet's way, with everything that is needed to describe it.
type explanation struct {
	result lookup.Result
	words  fib.Syntax
	owners map[any]uint8
	kernel *apply.Way // nil offline
	agrees bool

	waiting []apply.Waiting // uplinks that concern the packet
	dead    []string        // likewise, in words
	broken  error           // what is wrong with the spec: the rest is about the one in effect, if there is one
}

func newExplanation(p lookup.Packet, h lookup.Host, state fib.State) *explanation {
	names := make(map[uint32]string, len(state.Tables))
	for _, t := range state.Tables {
		names[t.ID] = t.Name
	}
	return &explanation{
		result: lookup.New(h).Trace(p),
		words: fib.Syntax{
			Device: func(link string) string { return link },
			Table: func(id uint32) string {
				if n, ok := names[id]; ok {
					return n
				}
				return fmt.Sprint(id)
			},
			Protocol: fib.Some[uint8](0), // the owner is named beside it
		},
	}
}

// ok says whether a program's packet has a way.
func (e *explanation) ok() bool {
	r := e.result.Final()
	return r.OK() && !r.Unheld
}

// usual is the width of an explanation, which has two columns, if the output is no terminal.
const usual = 80

// line writes a thing and where it comes from, on two lines if it does not fit on one.
func (s *screen) line(indent int, what, from string) {
	// Each way of a route with several gets its own line, as in ip(8).
	what = strings.ReplaceAll(what, " nexthop ", "\n"+strings.Repeat(" ", indent+4)+"nexthop ")
	text := strings.Repeat(" ", indent) + what
	if at := strings.LastIndexByte(text, '\n'); at >= 0 {
		fmt.Fprintln(s, text[:at])
		text = text[at+1:]
	}
	for utf8.RuneCountInString(text) > s.width {
		head, rest := broken(text, s.width)
		if head == "" {
			break
		}
		fmt.Fprintln(s, head)
		text = strings.Repeat(" ", 12) + rest
	}
	used := utf8.RuneCountInString(text) + utf8.RuneCountInString(from)
	switch {
	case from == "":
		fmt.Fprintln(s, text)
	case used+2 <= s.width:
		fmt.Fprintf(s, "%s%s%s\n", text, strings.Repeat(" ", s.width-used), from)
	default:
		fmt.Fprintf(s, "%s\n%*s\n", text, s.width, from)
	}
}

// say writes a sentence.
func (s *screen) say(format string, args ...any) {
	s.items("", plain, words(fmt.Sprintf(format, args...))...)
}

// broken breaks a line that is too long at the last space that leaves its first part short
// enough. If there is no such space, that part is empty.
func broken(text string, width int) (head, rest string) {
	n := 0
	for at, c := range text {
		if c == ' ' && strings.TrimSpace(text[:at]) != "" {
			head, rest = text[:at], text[at+1:]
		}
		if n++; n > width {
			break
		}
	}
	return head, rest
}

// said takes the object out of a line of ip(8): what comes before it says nothing here.
func said(s, object string) string {
	_, s, _ = strings.Cut(s, object+" ")
	return strings.TrimSpace(s)
}

func (e *explanation) rule(r *fib.Rule) string {
	return strings.TrimPrefix(said(e.words.Rule("", *r), "rule"), fmt.Sprintf("priority %d ", r.Priority))
}

func (e *explanation) route(r *fib.Route) string {
	s := said(e.words.Route("", *r), "route")
	if r.Table != fib.TableMain {
		s = strings.Replace(s, " table "+e.table(r.Table), "", 1)
	}
	return s
}

func (e *explanation) table(id uint32) string {
	switch id {
	case fib.TableMain:
		return "main"
	case fib.TableLocal:
		return "local"
	case fib.TableDefault:
		return "default"
	}
	return e.words.Table(id)
}

// from says where a rule or route is from: FILE:LINE, or its owner if it was observed.
func (e *explanation) from(key any, o fib.Origin) string {
	if o.File != "" {
		return o.String()
	}
	if p, ok := e.owners[key]; ok && p != fib.Protocol {
		name, _, _ := strings.Cut(apply.ProtocolName(p), " (")
		return name
	}
	if e.kernel == nil {
		return "the kernel"
	}
	return "not in the spec"
}

// text writes the way for people.
func (e *explanation) text(out io.Writer, all bool) error {
	w := newScreen(out)
	if w.width == 0 {
		w.width = usual
	}
	e.steps(w, &e.result, all)
	if e.result.Again != nil {
		fmt.Fprintln(w)
		w.say("not sent: %s.", e.end(&e.result))
		w.say("The kernel then chooses the source %s and asks once more.", e.result.Again.Packet.From)
		fmt.Fprintln(w)
		e.steps(w, e.result.Again, all)
	}
	r := e.result.Final()
	fmt.Fprintln(w)
	w.say("%s", e.end(r))
	if r.Reason == lookup.ByOIF {
		w.say("No rule leads to a route there; whoever is bound to a link is sent on it.")
	}
	if r.Unheld {
		w.say("this host does not have %s: no program can send from it", r.Packet.From)
	}
	for _, o := range r.Others {
		w.items("  or ", plain, words(e.way(apply.Way(o)))...)
	}
	for _, d := range e.dead {
		w.say("%s", d)
	}
	e.notEvaluated(w, r)
	switch {
	case e.kernel == nil:
	case r.Reason == lookup.NotADirectWay:
		w.say("the kernel says: %s", e.way(*e.kernel))
	case e.agrees && len(r.Others) == 0:
		w.say("the kernel says the same")
	case e.agrees:
		w.say("the kernel takes: %s", e.way(*e.kernel))
	default:
		fmt.Fprintln(w)
		w.say("!!! DISAGREEMENT !!! the kernel says: %s", e.way(*e.kernel))
		w.say("Trust the kernel: there is something that explain does not know (a VRF, an IPsec policy, a learned redirect), or an error in it, to be reported.")
	}
	return w.Flush()
}

// notEvaluated says which of the rules that were asked select by something that package lookup
// does not know: whether a packet belongs to a VRF.
func (e *explanation) notEvaluated(w *screen, r *lookup.Result) {
	for _, s := range r.Steps {
		if s.Rule.L3MDev && (s.Rule.Not || s.Selector == "l3mdev") {
			w.say("not evaluated: whether the packet is of a VRF, which the rule at %d asks (l3mdev); it is taken to be of none", s.Rule.Priority)
		}
	}
}

// steps writes one line for each rule that mattered.
func (e *explanation) steps(w *screen, r *lookup.Result, all bool) {
	skipped, leading := 0, 0
	fold := func() {
		plural, lead := "rules do", ""
		if skipped == 1 {
			plural = "rule does"
		}
		if leading > 0 {
			lead = fmt.Sprintf(", %d lead on", leading)
		}
		if skipped > 0 || leading > 0 {
			fmt.Fprintf(w, "        %d %s not match%s\n", skipped, plural, lead)
		}
		skipped, leading = 0, 0
	}
	for _, s := range r.Steps {
		if s.Outcome == lookup.NoMatch && !all {
			skipped++
			continue
		}
		if !all && s.Rule.Origin.File != "" && blocks.Leads(s.Rule) {
			leading++
			continue
		}
		fold()
		w.line(0, fmt.Sprintf("%6d  %s", s.Rule.Priority, e.rule(s.Rule)), e.from(s.Rule, s.Rule.Origin))
		what, from := outcome(s), ""
		if s.Route != nil && s.Outcome != lookup.NoMatch {
			from = e.from(s.Route, s.Route.Origin)
			if route := e.route(s.Route); what == "" {
				what = route
			} else {
				what = route + ": " + what
			}
		}
		w.line(8, "→ "+what, from)
	}
	fold()
}

// outcome says why the kernel goes on, or "" if a route was found.
func outcome(s lookup.Step) string {
	switch s.Outcome {
	case lookup.NoMatch:
		return "does not match: " + s.Selector
	case lookup.Jumped:
		return fmt.Sprintf("goes on at %d", s.Rule.Goto)
	case lookup.NoTarget:
		return fmt.Sprintf("there is no rule at %d: goes on", s.Rule.Goto)
	case lookup.Passed:
		return "nothing: goes on"
	case lookup.NoRoute:
		if s.Route != nil {
			return "no way that can be used: goes on"
		}
		return "no route: goes on"
	case lookup.Thrown:
		return "goes on"
	case lookup.Suppressed:
		return "suppressed (" + s.Why + "): goes on"
	case lookup.Refused:
		if s.Route == nil {
			return "refused"
		}
	}
	return ""
}

// endings say why there is no way, in words.
var endings = map[lookup.Reason]string{
	lookup.ByRefusal:       "refused",
	lookup.ByNothing:       "no rule leads to a route",
	lookup.BadSource:       "this host does not have the source",
	lookup.MartianSource:   "a packet with this source is not taken here (martian)",
	lookup.NoForwarding:    "the link does not forward (net.ipv4.conf.LINK.forwarding), or has no way",
	lookup.ReversePath:     "its answer would leave another way (rp_filter)",
	lookup.LinkDown:        "the link is down, or there is none of that name",
	lookup.NotADirectWay:   "not evaluated, this is no address of one host: `ip route get` asks the kernel",
	lookup.NotADestination: "no packet is forwarded there (martian)",
}

func (e *explanation) end(r *lookup.Result) string {
	switch {
	case r.Reason == lookup.NotADirectWay:
		return endings[r.Reason]
	case !r.OK():
		return fmt.Sprintf("%s: %s", r.Way.Type, endings[r.Reason])
	}
	return e.way(apply.Way(r.Way))
}

// way says where a packet goes.
func (e *explanation) way(w apply.Way) string {
	var b strings.Builder
	switch w.Type {
	case fib.Unicast:
		fmt.Fprintf(&b, "leaves by %s", w.Device)
	case fib.Local:
		b.WriteString("is for this host")
	default:
		if !w.Type.HasDevice() {
			return w.Type.String()
		}
		fmt.Fprintf(&b, "%s by %s", w.Type, w.Device)
	}
	if w.Via.IsValid() {
		fmt.Fprintf(&b, " via %s", w.Via)
	}
	if w.Table != 0 {
		fmt.Fprintf(&b, ", table %s", e.table(w.Table))
	}
	if w.Src.IsValid() {
		fmt.Fprintf(&b, ", with source %s", w.Src)
	}
	return b.String()
}

// jsonStep and the types in it are the stable form of explain --json; absent values are left out.
type jsonStep struct {
	Priority uint32 `json:"priority"`
	Rule     string `json:"rule"`
	From     string `json:"from,omitempty"`
	Outcome  string `json:"outcome"`
	Selector string `json:"selector,omitempty"`
	Why      string `json:"why,omitempty"`
	Route    string `json:"route,omitempty"`
	RouteOf  string `json:"route-from,omitempty"`
}

type jsonResult struct {
	Src    string     `json:"src,omitempty"`
	Dst    string     `json:"dst"`
	Steps  []jsonStep `json:"steps"`
	Reason string     `json:"reason"`
	Unheld bool       `json:"source-not-held,omitempty"`
	Way    *jsonWay   `json:"way"`
	Others []*jsonWay `json:"others,omitempty"`
}

type jsonExplanation struct {
	Version int `json:"version"`
	jsonResult
	Again  *jsonResult `json:"again,omitempty"`
	Kernel *jsonWay    `json:"kernel,omitempty"`
	Agrees *bool       `json:"agrees,omitempty"`
	Dead   []string    `json:"dead,omitempty"`
	OK     bool        `json:"ok"`
	Broken string      `json:"spec-error,omitempty"`
}

func (e *explanation) json(w io.Writer) error {
	out := jsonExplanation{Version: 1, jsonResult: e.jsonResult(&e.result), Dead: e.dead, OK: e.ok()}
	if e.result.Again != nil {
		again := e.jsonResult(e.result.Again)
		out.Again = &again
	}
	if e.kernel != nil {
		out.Kernel, out.OK = newJSONWay(*e.kernel), out.OK && e.agrees
		if e.result.Reason != lookup.NotADirectWay {
			out.Agrees = &e.agrees
		}
	}
	if e.broken != nil {
		out.OK, out.Broken = false, e.broken.Error()
	}
	return writeJSON(w, out)
}

func (e *explanation) jsonResult(r *lookup.Result) jsonResult {
	out := jsonResult{Dst: r.Packet.To.String(), Steps: []jsonStep{}, Reason: string(r.Reason), Unheld: r.Unheld, Way: newJSONWay(apply.Way(r.Way))}
	if r.Packet.From.IsValid() {
		out.Src = r.Packet.From.String()
	}
	for _, o := range r.Others {
		out.Others = append(out.Others, newJSONWay(apply.Way(o)))
	}
	for _, s := range r.Steps {
		j := jsonStep{
			Priority: s.Rule.Priority, Rule: e.rule(s.Rule), From: e.from(s.Rule, s.Rule.Origin),
			Outcome: string(s.Outcome), Selector: s.Selector, Why: s.Why,
		}
		if s.Route != nil {
			j.Route, j.RouteOf = e.route(s.Route), e.from(s.Route, s.Route.Origin)
		}
		out.Steps = append(out.Steps, j)
	}
	return out
}
