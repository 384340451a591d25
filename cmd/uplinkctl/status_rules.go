package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/cmd/internal/host"
	"github.com/uplink-generator/uplink-generator/gen/blocks"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// ruleLine is a line of the host's rules.
type ruleLine struct {
	priority, family, text, whose string
	how                           style

	uplink string // for one that can be folded
	leads  bool   // to the uplinks' rules: it can be folded as well
	state  string // why it is not there; "" if it is
	count  int
}

// rules writes the rules of the host in the order in which they are asked.
func (s *screen) rules(st *host.Status, table func(uint32) string, fold bool) {
	lines := ruleLines(st, table)
	if fold {
		lines = folded(lines)
	}
	var priority, text int
	for _, l := range lines {
		priority, text = max(priority, len(l.priority)), max(text, utf8.RuneCountInString(l.text))
	}
	const least = 20 // columns for the owner of a rule
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

// ruleLines has a line for each rule, or one for two if both families have the same rule at a
// priority.
func ruleLines(st *host.Status, table func(uint32) string) (lines []ruleLine) {
	uplinks := make(map[string]*host.UplinkStatus, len(st.Uplinks))
	for i := range st.Uplinks {
		uplinks[st.Uplinks[i].Name] = &st.Uplinks[i]
	}
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
			if r.Wanted {
				p := presence(uplinks[r.Uplink], r.Family, r.Presence)
				l.state, l.how = p.text, p.how
			}
			switch {
			case r.Wanted && r.Uplink == "":
				l.whose, l.leads = "all uplinks"+l.state, blocks.Leads(&r.Rule.Rule)
			case r.Wanted:
				l.whose += l.state
			case r.Ours() && !st.Unread:
				l.whose, l.how, l.uplink = "extra, of "+apply.ProtocolName(r.Protocol), red, ""
			default:
				l.whose, l.how, l.uplink = apply.ProtocolName(r.Protocol), dim, ""
			}
			lines = append(lines, l)
		}
	}
	return lines
}

// bothFamilies says whether an IPv4 and an IPv6 rule differ only in their family.
func bothFamilies(a, b host.RuleStatus) bool {
	if a.Family != fib.Inet || b.Family != fib.Inet6 {
		return false
	}
	a.Family = b.Family
	return a.Key() == b.Key() && a.Protocol == b.Protocol && a.Presence == b.Presence && a.Wanted == b.Wanted && a.Uplink == b.Uplink
}

// folded has one line for all rules of uplinks that stand between two others.
func folded(lines []ruleLine) (list []ruleLine) {
	for len(lines) > 0 {
		n, count := 0, 0
		uplinks := map[string]bool{}
		leading := 0
		var named []string
		for n < len(lines) && (lines[n].uplink != "" || lines[n].leads) && lines[n].state == lines[0].state {
			if l := lines[n]; l.leads {
				leading += l.count
			} else {
				uplinks[l.uplink] = true
				named = append(named, l.whose)
				count += l.count
			}
			n++
		}
		if n < 2 || len(named) == 0 {
			list, lines = append(list, lines[0]), lines[1:]
			continue
		}
		l := ruleLine{priority: lines[0].priority, text: fmt.Sprintf("%d rules", count), whose: lines[0].whose, how: lines[0].how}
		if last := lines[n-1]; last.priority != l.priority {
			l.priority += "-" + last.priority
		}
		if len(uplinks) > 1 {
			l.text += fmt.Sprintf(" of %d uplinks", len(uplinks))
			l.whose = fmt.Sprintf("%s … %s", strings.TrimSuffix(named[0], lines[0].state), named[len(named)-1])
		}
		if leading > 0 {
			l.text += fmt.Sprintf(", in blocks (%d more lead to them)", leading)
		}
		list, lines = append(list, l), lines[n:]
	}
	return list
}
