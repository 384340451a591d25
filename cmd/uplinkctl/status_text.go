package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/uplink-generator/uplink-generator/cmd/internal/host"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

func printStatus(w io.Writer, s *host.Status, all bool) error {
	out := newScreen(w)
	table := tableNames(s)
	for _, n := range s.Notes {
		out.items("note: ", yellow, words(n)...)
	}
	if len(s.Notes) > 0 {
		fmt.Fprintln(out)
	}
	fold := !all && len(s.Uplinks) > host.Few
	if fold {
		out.summaries(s)
	}
	waiting := 0
	for i := range s.Uplinks {
		u := &s.Uplinks[i]
		if fold && u.State() == host.Waits && !u.Dead() {
			if waiting++; waiting > host.Few {
				continue
			}
		}
		if !fold || !folds(u) {
			out.uplink(u, table, fold)
		}
	}
	if more := host.MoreWait(waiting - host.Few); more != "" {
		out.items("", plain, words(more)...)
		fmt.Fprintln(out)
	}
	if len(s.Drift) > 0 {
		fmt.Fprintln(out, out.paint(bold, "of no uplink")+": "+out.paint(red, "differs from the spec"))
		out.drifts(s.Drift, fold)
		fmt.Fprintln(out)
	}
	out.rules(s, table, fold)
	return out.Flush()
}

var stateWords = map[host.UplinkState]item{
	host.InEffect: {"as the spec says", green},
	host.Waits:    {"waits for its link", yellow},
	host.Differs:  {"differs from the spec", red},
}

var chargeWords = map[host.Charge]string{
	host.ByNetworkd: "by systemd-networkd", host.ByNetlink: "through netlink", host.ByNobody: "by another program",
}

// dead is what a probe has found.
var dead = item{"dead", red}

// summary is an uplink's state in a word. It says dead only if everything else is right.
func summary(u *host.UplinkStatus) item {
	if u.State() == host.InEffect && u.Dead() {
		return dead
	}
	return stateWords[u.State()]
}

// folds says whether one line says everything about an uplink.
func folds(u *host.UplinkStatus) bool { return summary(u) == stateWords[host.InEffect] }

// summaries writes how many uplinks there are in each state, and a line for each that is as the
// spec says.
func (s *screen) summaries(st *host.Status) {
	count := map[item]int{}
	var name, device int
	for i := range st.Uplinks {
		u := &st.Uplinks[i]
		count[summary(u)]++
		name, device = max(name, utf8.RuneCountInString(u.Name)), max(device, len(u.Device.Name))
	}
	fmt.Fprintf(s, "%d uplinks:", len(st.Uplinks))
	comma := ""
	for _, words := range []item{stateWords[host.InEffect], dead, stateWords[host.Waits], stateWords[host.Differs]} {
		if n := count[words]; n > 0 {
			if n > 1 {
				words.text = strings.NewReplacer("waits", "wait", "its", "their", "differs", "differ").Replace(words.text)
			}
			fmt.Fprintf(s, "%s %d %s", comma, n, s.paint(words.how, words.text))
			comma = ","
		}
	}
	fmt.Fprint(s, "\n\n")
	for i := range st.Uplinks {
		if u := &st.Uplinks[i]; folds(u) {
			head := fmt.Sprintf("%-*s  %-*s  %5d  ", name, u.Name, device, u.Device.Name, u.Table)
			list := commas(addressItems(u))
			if gateways := commas(gatewayItems(u)); len(gateways) > 0 {
				list = append(append(list, item{"via", plain}), gateways...)
			}
			s.items(head, plain, append(list, item{"(" + chargeWords[u.Charge] + ")", plain})...)
		}
	}
	if count[stateWords[host.InEffect]] > 0 {
		fmt.Fprintln(s)
	}
}

// uplink writes everything about one uplink.
func (s *screen) uplink(u *host.UplinkStatus, table func(uint32) string, fold bool) {
	state := stateWords[u.State()]
	if u.Unlearned != "" && u.State() == host.Waits {
		state.text = "waits for an address"
	}
	if state == stateWords[host.Waits] && u.LacksAddress() {
		state.text = "waits for its address"
	}
	if summary(u) == dead {
		state = item{state.text + ", but dead", red}
	}
	charge := chargeWords[u.Charge]
	switch {
	case u.Charge != host.ByNobody:
	case u.State() == host.Differs:
		charge = "not brought about yet: `uplinkctl reload`"
	case u.State() == host.Waits:
		charge = "not brought about yet"
	}
	fmt.Fprintf(s, "%s: %s (%s)\n", s.paint(bold, u.Name), s.paint(state.how, state.text), charge)
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
	if u.Unlearned != "" {
		s.row("waits", yellow, words(u.Unlearned)...)
	}
	if u.Lacks != "" {
		s.row("waits", yellow, words(u.Lacks)...)
	}
	s.row("addresses", dim, commas(addressItems(u))...)
	s.row("gateways", dim, commas(gatewayItems(u))...)
	s.row("table", dim, item{fmt.Sprintf("%s (%d)", u.Name, u.Table), plain})
	s.row("rules", dim, ruleItems(u, table)...)
	s.row("health", dim, healthItems(u)...)
	s.drifts(u.Drift, fold)
	fmt.Fprintln(s)
}

// healthWords says what a probe has found.
func healthWords(h host.Health) item {
	if h.Dead {
		return dead
	}
	return item{"alive", green}
}

func healthItems(u *host.UplinkStatus) (list []item) {
	for _, h := range u.Health {
		is := healthWords(h)
		is.text = fmt.Sprintf("%s %s since %s", h.Family, is.text, h.Since.Format(time.DateTime))
		if h.Dead {
			is.text += " (" + h.Why + ")"
		}
		list = append(list, is)
	}
	return commas(list)
}

// presences says how something that is not simply there is shown.
var presences = map[host.Presence]item{
	host.Learned: {" learned", plain}, host.Missing: {" missing", red}, host.Pending: {" waits", yellow},
	host.Tentative: {" tentative", yellow}, host.Duplicate: {" duplicate", red},
}

// presence says how something of an uplink is shown.
func presence(u *host.UplinkStatus, f fib.Family, p host.Presence) item {
	if p == host.Pending && u != nil && u.LeftOut(f) {
		return item{" left out", yellow}
	}
	return presences[p]
}

func addressItems(u *host.UplinkStatus) (list []item) {
	for _, a := range u.Addresses {
		p := presence(u, fib.FamilyOf(a.Prefix.Addr()), a.Presence)
		list = append(list, item{a.Prefix.String() + p.text + leaseText(a.Lease), p.how})
	}
	return list
}

// leaseText says from whom something was learned, since when and until when.
func leaseText(l *host.Lease) string {
	if l == nil {
		return ""
	}
	text := " (" + l.From
	if !l.Since.IsZero() {
		text += ", for " + span(time.Since(l.Since))
	}
	if !l.Until.IsZero() {
		text += ", " + span(time.Until(l.Until)) + " left"
	}
	return text + ")"
}

// span returns a duration in its largest unit: "3 d", "5 h", "12 min", "40 s".
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch d = max(d, 0); {
	case d >= 2*day:
		return fmt.Sprintf("%d d", d/day)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return fmt.Sprintf("%d s", d.Round(time.Second)/time.Second)
}

func gatewayItems(u *host.UplinkStatus) (list []item) {
	how := map[string]style{"reachable": green, "permanent": green, "failed": red, "incomplete": yellow}
	for _, g := range u.Gateways {
		list = append(list, item{g.Addr.String() + " " + g.Neighbour + leaseText(g.Lease), how[g.Neighbour]})
	}
	return list
}

// ruleItems returns the rules of an uplink by priority. A rule that looks up the uplink's own
// table is shown only by what it selects.
func ruleItems(u *host.UplinkStatus, table func(uint32) string) (list []item) {
	rules := slices.Clone(u.Rules)
	slices.SortStableFunc(rules, func(a, b host.UplinkRule) int { return int(a.Priority) - int(b.Priority) })
	seen := map[string]bool{}
	for i, r := range rules {
		p := presence(u, r.Family, r.Presence)
		text := strings.TrimSuffix(ruleText(r.Rule, table), " lookup "+table(u.Table)) + p.text
		text = strings.TrimPrefix(text, "from all ")
		if i == 0 || rules[i-1].Priority != r.Priority {
			if i > 0 {
				list[len(list)-1].text += ";"
			}
			clear(seen)
			list = append(list, item{fmt.Sprintf("%d: %s", r.Priority, text), p.how})
		} else if !seen[text] { // the one of the other family
			list[len(list)-1].text += ","
			list = append(list, item{text, p.how})
		}
		seen[text] = true
	}
	return list
}

var driftWords = map[host.DriftKind]string{
	host.Lacks: "missing", host.Different: "different", host.Extra: "extra", host.InTheWay: "in the way",
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
