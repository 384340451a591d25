package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/cmd/internal/host"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// screen writes lines that are no wider than it is.
type screen struct {
	*bufio.Writer
	width  int // 0 for no limit
	colour bool
}

// newScreen finds out what w can show. What is no terminal is not limited, unless
// COLUMNS says so.
func newScreen(w io.Writer) *screen {
	s := &screen{Writer: bufio.NewWriter(w)}
	s.width, _ = strconv.Atoi(os.Getenv("COLUMNS"))
	if f, ok := w.(*os.File); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			s.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
			if size.Col > 0 {
				s.width = int(size.Col)
			}
		}
	}
	return s
}

// style is how something looks in colour (ECMA-48, SGR).
type style string

const (
	plain  style = ""
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
)

func (s *screen) paint(how style, text string) string {
	if !s.colour || how == plain || text == "" {
		return text
	}
	return "\x1b[" + string(how) + "m" + text + "\x1b[0m"
}

// item is a text that is better not broken.
type item struct {
	text string
	how  style
}

// items writes items after a head, each on the line if there is room, else on the next
// from the column where the first began. One that is too long for any line is broken
// between words.
func (s *screen) items(head string, how style, list ...item) {
	fmt.Fprint(s, s.paint(how, head))
	indent := utf8.RuneCountInString(head)
	at := indent
	put := func(text string, how style, space bool) {
		n := utf8.RuneCountInString(text)
		if at > indent && space {
			if n++; s.width > 0 && at+n > s.width {
				fmt.Fprint(s, "\n", strings.Repeat(" ", indent))
				at, n = indent, n-1
			} else {
				fmt.Fprint(s, " ")
			}
		}
		fmt.Fprint(s, s.paint(how, text))
		at += n
	}
	for _, it := range list {
		if s.width > 0 && indent+utf8.RuneCountInString(it.text) > s.width {
			for _, word := range strings.Fields(it.text) {
				put(word, it.how, true)
			}
			continue
		}
		put(it.text, it.how, true)
	}
	fmt.Fprintln(s)
}

// row writes what there is of one kind.
func (s *screen) row(label string, how style, list ...item) {
	if len(list) > 0 {
		s.items(fmt.Sprintf("  %-10s ", label), how, list...)
	}
}

// commas puts commas behind all items but the last.
func commas(list []item) []item {
	for i := range list[:max(len(list)-1, 0)] {
		list[i].text += ","
	}
	return list
}

// few is how many uplinks are shown one by one.
const few = 16

func printStatus(w io.Writer, s *host.Status, all bool) error {
	out := newScreen(w)
	table := tableNames(s)
	for _, n := range s.Notes {
		out.items("note: ", yellow, words(n)...)
	}
	if len(s.Notes) > 0 {
		fmt.Fprintln(out)
	}
	fold := !all && len(s.Uplinks) > few
	if fold {
		out.summaries(s)
	}
	for i := range s.Uplinks {
		if u := &s.Uplinks[i]; !fold || u.State() != host.InEffect {
			out.uplink(u, table, fold)
		}
	}
	if len(s.Drift) > 0 {
		fmt.Fprintln(out, out.paint(bold, "of no uplink")+": "+out.paint(red, "differs from the spec"))
		out.drifts(s.Drift, fold)
		fmt.Fprintln(out)
	}
	out.rules(s, table, fold)
	return out.Flush()
}

// words makes items of a sentence.
func words(text string) (list []item) {
	for _, w := range strings.Fields(text) {
		list = append(list, item{w, plain})
	}
	return list
}

var stateWords = map[host.UplinkState]item{
	host.InEffect: {"as the spec says", green},
	host.Waits:    {"waits for its link", yellow},
	host.Differs:  {"differs from the spec", red},
}

var chargeWords = map[host.Charge]string{
	host.ByNetworkd: "by systemd-networkd", host.ByNetlink: "through netlink", host.ByNobody: "in nobody's charge",
}

// summaries writes how many uplinks there are of each state, and a line for each that is
// as the spec says.
func (s *screen) summaries(st *host.Status) {
	count := map[host.UplinkState]int{}
	var name, device int
	for i := range st.Uplinks {
		u := &st.Uplinks[i]
		count[u.State()]++
		name, device = max(name, utf8.RuneCountInString(u.Name)), max(device, len(u.Device.Name))
	}
	fmt.Fprintf(s, "%d uplinks:", len(st.Uplinks))
	comma := ""
	for _, state := range []host.UplinkState{host.InEffect, host.Waits, host.Differs} {
		if n := count[state]; n > 0 {
			words := stateWords[state]
			if n > 1 {
				words.text = strings.NewReplacer("waits", "wait", "its", "their", "differs", "differ").Replace(words.text)
			}
			fmt.Fprintf(s, "%s %d %s", comma, n, s.paint(words.how, words.text))
			comma = ","
		}
	}
	fmt.Fprint(s, "\n\n")
	for i := range st.Uplinks {
		if u := &st.Uplinks[i]; u.State() == host.InEffect {
			head := fmt.Sprintf("%-*s  %-*s  %5d  ", name, u.Name, device, u.Device.Name, u.Table)
			list := commas(addressItems(u))
			if gateways := commas(gatewayItems(u)); len(gateways) > 0 {
				list = append(append(list, item{"via", plain}), gateways...)
			}
			s.items(head, plain, append(list, item{"(" + chargeWords[u.Charge] + ")", plain})...)
		}
	}
	if count[host.InEffect] > 0 {
		fmt.Fprintln(s)
	}
}

// uplink writes all that there is of one.
func (s *screen) uplink(u *host.UplinkStatus, table func(uint32) string, fold bool) {
	state := stateWords[u.State()]
	fmt.Fprintf(s, "%s: %s (%s)\n", s.paint(bold, u.Name), s.paint(state.how, state.text), chargeWords[u.Charge])
	switch d := u.Device; {
	case d.Name == "":
		s.row("link", dim, item{"none", yellow})
	case !d.Up:
		s.row("link", dim, item{d.Name + ", down", yellow})
	case !d.Carrier:
		s.row("link", dim, item{d.Name + ", up, no carrier", yellow})
	default:
		s.row("link", dim, item{d.Name + ", up, carrier", plain})
	}
	for _, w := range u.Waiting {
		label := "waits"
		if w.Inet6 {
			label = "left out"
		}
		s.row(label, yellow, words(w.Why)...)
	}
	s.row("addresses", dim, commas(addressItems(u))...)
	s.row("gateways", dim, commas(gatewayItems(u))...)
	s.row("table", dim, item{fmt.Sprintf("%s (%d)", u.Name, u.Table), plain})
	s.row("rules", dim, ruleItems(u, table)...)
	s.drifts(u.Drift, fold)
	fmt.Fprintln(s)
}

// presences says how what is not simply there is shown.
var presences = map[host.Presence]item{
	host.Learned: {" learned", plain}, host.Missing: {" missing", red}, host.Pending: {" waits", yellow},
	host.Tentative: {" tentative", yellow}, host.Duplicate: {" duplicate", red},
}

func addressItems(u *host.UplinkStatus) (list []item) {
	for _, a := range u.Addresses {
		p := presences[a.Presence]
		list = append(list, item{a.Prefix.String() + p.text, p.how})
	}
	return list
}

func gatewayItems(u *host.UplinkStatus) (list []item) {
	how := map[string]style{"reachable": green, "permanent": green, "failed": red, "incomplete": yellow}
	for _, g := range u.Gateways {
		list = append(list, item{g.Addr.String() + " " + g.Neighbour, how[g.Neighbour]})
	}
	return list
}

// ruleItems returns the rules of an uplink by priority. What looks up its own table says
// only for what.
func ruleItems(u *host.UplinkStatus, table func(uint32) string) (list []item) {
	rules := slices.Clone(u.Rules)
	slices.SortStableFunc(rules, func(a, b host.UplinkRule) int { return int(a.Priority) - int(b.Priority) })
	seen := map[string]bool{}
	for i, r := range rules {
		text := strings.TrimSuffix(ruleText(r.Rule, table), " lookup "+table(u.Table)) + presences[r.Presence].text
		text = strings.TrimPrefix(text, "from all ")
		if i == 0 || rules[i-1].Priority != r.Priority {
			if i > 0 {
				list[len(list)-1].text += ";"
			}
			clear(seen)
			list = append(list, item{fmt.Sprintf("%d: %s", r.Priority, text), presences[r.Presence].how})
		} else if !seen[text] { // of the other family
			list[len(list)-1].text += ","
			list = append(list, item{text, presences[r.Presence].how})
		}
		seen[text] = true
	}
	return list
}

var driftWords = map[host.DriftKind]string{
	host.Lacks: "missing", host.Different: "different", host.TooMuch: "too much", host.InTheWay: "in the way",
}

func (s *screen) drifts(list []host.Drift, fold bool) {
	const some = 3
	for i, d := range list {
		if fold && i == some && len(list) > some+1 {
			s.row("", plain, item{fmt.Sprintf("and %d more: see --all", len(list)-some), plain})
			return
		}
		s.row(driftWords[d.Kind], red, words(d.Text)...)
		if d.Have != "" {
			s.row("instead of", dim, words(d.Have)...)
		}
	}
}

// ruleLine is a line of the host's rules.
type ruleLine struct {
	priority, family, text, whose string
	how                           style

	uplink string // of one that can be folded
	count  int
}

// rules writes those of the host in the order in which they are asked.
func (s *screen) rules(st *host.Status, table func(uint32) string, fold bool) {
	lines := ruleLines(st, table)
	if fold {
		lines = folded(lines)
	}
	var priority, text int
	for _, l := range lines {
		priority, text = max(priority, len(l.priority)), max(text, utf8.RuneCountInString(l.text))
	}
	const least = 20 // columns for whose a rule is
	if s.width > 0 {
		text = min(text, max(s.width-least-priority-len("    IPv4    "), least))
	}
	fmt.Fprintln(s, s.paint(bold, "rules of the host")+", in the order in which they are asked")
	for _, l := range lines {
		head := fmt.Sprintf("  %*s  %-4s  ", priority, l.priority, l.family)
		pad := head + l.text + strings.Repeat(" ", max(text-utf8.RuneCountInString(l.text), 0)) + "  "
		at, whose := utf8.RuneCountInString(pad), l.whose
		fits := func() bool { return s.width == 0 || at+utf8.RuneCountInString(whose) <= s.width }
		if !fits() {
			whose, _, _ = strings.Cut(whose, " (protocol ")
		}
		switch {
		case fits():
			s.items(pad, l.how, item{whose, l.how})
		case at+least > s.width:
			s.items(head, l.how, painted(l.text, l.how)...)
			s.items(strings.Repeat(" ", len(head)+2), plain, painted(whose, l.how)...)
		default:
			s.items(pad, l.how, painted(whose, l.how)...)
		}
	}
}

func painted(text string, how style) []item {
	list := words(text)
	for i := range list {
		list[i].how = how
	}
	return list
}

// ruleLines has a line for each rule, and one for the two where both families have the
// same at a priority.
func ruleLines(st *host.Status, table func(uint32) string) (lines []ruleLine) {
	for rest := st.Rules; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Priority == rest[0].Priority {
			n++
		}
		group := rest[:n]
		rest = rest[n:]
		family := ""
		if half := n / 2; n%2 == 0 && slices.EqualFunc(group[:half], group[half:], bothFamilies) {
			group, family = group[:half], "both"
		}
		for _, r := range group {
			l := ruleLine{
				priority: fmt.Sprint(r.Priority), family: family, text: ruleText(r.Rule.Rule, table), whose: r.Uplink,
				uplink: r.Uplink, count: 2,
			}
			if family == "" {
				l.family, l.count = r.Family.String(), 1
			}
			switch {
			case r.Wanted && r.Uplink == "":
				l.whose = "all uplinks"
			case r.Wanted:
			case r.Ours() && !st.Unread:
				l.whose, l.how, l.uplink = "too much, of "+apply.ProtocolName(r.Protocol), red, ""
			default:
				l.whose, l.how, l.uplink = apply.ProtocolName(r.Protocol), dim, ""
			}
			lines = append(lines, l)
		}
	}
	return lines
}

// bothFamilies says whether an IPv4 and an IPv6 rule are otherwise the same.
func bothFamilies(a, b host.RuleStatus) bool {
	if a.Family != fib.Inet || b.Family != fib.Inet6 {
		return false
	}
	a.Family = b.Family
	return a.Key() == b.Key() && a.Protocol == b.Protocol && a.Wanted == b.Wanted && a.Uplink == b.Uplink
}

// folded has one line for all rules of uplinks between two of others.
func folded(lines []ruleLine) (list []ruleLine) {
	for len(lines) > 0 {
		n, count := 0, 0
		uplinks := map[string]bool{}
		for n < len(lines) && lines[n].uplink != "" {
			uplinks[lines[n].uplink] = true
			count += lines[n].count
			n++
		}
		if n < 2 {
			list, lines = append(list, lines[0]), lines[1:]
			continue
		}
		l := ruleLine{priority: lines[0].priority, text: fmt.Sprintf("%d rules", count), whose: lines[0].uplink}
		if last := lines[n-1]; last.priority != l.priority {
			l.priority += "-" + last.priority
		}
		if len(uplinks) > 1 {
			l.text += fmt.Sprintf(" of %d uplinks", len(uplinks))
			l.whose = fmt.Sprintf("%s … %s", lines[0].uplink, lines[n-1].uplink)
		}
		list, lines = append(list, l), lines[n:]
	}
	return list
}
