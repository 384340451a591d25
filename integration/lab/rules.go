package lab

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Rule is a policy routing rule as the kernel has it. It can be compared with
// ==. What a rule does not have is its type's zero value.
type Rule struct {
	Family   Family
	Priority uint32
	Not      bool
	From     netip.Prefix
	To       netip.Prefix
	TOS      string
	FwMark   string // with a mask, unless it is all ones, as in "0x1/0xff"
	IIF      string
	OIF      string
	L3MDev   bool
	UIDRange string // "0-99"
	IPProto  string // the number
	SPort    string // "80" or "80-90"
	DPort    string

	// Action is "lookup", "goto", "nop", "blackhole", "unreachable" or
	// "prohibit".
	Action string
	Table  uint32 // of lookup; 0 for that of a VRF
	Goto   uint32 // of goto

	// SuppressPrefixLength is the longest prefix whose routes are ignored, in
	// digits, since 0 is a length too.
	SuppressPrefixLength string
	SuppressIfGroup      string

	Protocol uint32

	// Other has what else iproute2 says of the rule, such as its realms.
	Other string
}

// String returns the rule much as `ip rule` shows it, with its family.
func (r Rule) String() string {
	w := words{string(r.Family), fmt.Sprintf("%d:", r.Priority)}
	w.flag("not", r.Not)
	if r.From.IsValid() {
		add(&w, "from", r.From)
	} else {
		add(&w, "from", "all")
	}
	add(&w, "to", r.To)
	add(&w, "tos", r.TOS)
	add(&w, "fwmark", r.FwMark)
	add(&w, "iif", r.IIF)
	add(&w, "oif", r.OIF)
	w.flag("l3mdev", r.L3MDev)
	add(&w, "uidrange", r.UIDRange)
	add(&w, "ipproto", r.IPProto)
	add(&w, "sport", r.SPort)
	add(&w, "dport", r.DPort)
	add(&w, "", r.Action)
	add(&w, "", r.Table)
	add(&w, "", r.Goto)
	add(&w, "suppress_prefixlength", r.SuppressPrefixLength)
	add(&w, "suppress_ifgroup", r.SuppressIfGroup)
	add(&w, "proto", r.Protocol)
	add(&w, "", r.Other)
	return w.String()
}

// Rules returns the rules of both families, those of the kernel included,
// sorted by family, priority and content.
func (n *Namespace) Rules(ctx context.Context) ([]Rule, error) {
	var rules []Rule
	for _, f := range families {
		objects, err := n.show(ctx, "-family", string(f), "rule", "show")
		if err != nil {
			return nil, err
		}
		for _, o := range objects {
			rule := parseRule(f, o)
			if o.err != nil {
				return nil, fmt.Errorf("%s rule %d: %w", f, rule.Priority, o.err)
			}
			rules = append(rules, rule)
		}
	}
	slices.SortFunc(rules, func(a, b Rule) int {
		return cmp.Or(
			cmp.Compare(a.Family, b.Family),
			cmp.Compare(a.Priority, b.Priority),
			cmp.Compare(a.String(), b.String()))
	})
	return rules, nil
}

func parseRule(f Family, o *object) Rule {
	r := Rule{
		Family:               f,
		Priority:             o.number("priority"),
		Not:                  o.has("not"),
		From:                 o.selector("src", "srclen", f),
		To:                   o.selector("dst", "dstlen", f),
		TOS:                  o.text("tos"),
		FwMark:               o.text("fwmark"),
		IIF:                  o.text("iif"),
		OIF:                  o.text("oif"),
		L3MDev:               o.has("l3mdev"),
		UIDRange:             o.span("uid"),
		IPProto:              ipProto(o.text("ipproto")),
		SPort:                o.span("sport"),
		DPort:                o.span("dport"),
		Action:               "lookup",
		Table:                o.number("table"),
		SuppressPrefixLength: o.text("suppress_prefixlen"),
		SuppressIfGroup:      o.text("suppress_ifgroup"),
		Protocol:             o.number("protocol"),
	}
	if mask := o.text("fwmask"); mask != "" {
		r.FwMark += "/" + mask
	}
	if action := o.named("action", typeNames); action != "" {
		r.Action = action
	}
	if o.has("nop") {
		r.Action = "nop"
	}
	if target, ok := o.optional("goto"); ok {
		r.Action, r.Goto = "goto", target
	}
	r.Other = o.rest()
	return r
}

// selector takes a rule's address and prefix length, two members of which the
// second is there unless it is a single address.
func (o *object) selector(key, bits string, f Family) netip.Prefix {
	length, ok := o.optional(bits)
	if raw, there := o.members[key]; there && string(raw) == `"all"` {
		o.take(key)
		return netip.Prefix{}
	}
	p := o.prefix(key, f)
	if ok {
		p = netip.PrefixFrom(p.Addr(), int(length))
	}
	return p
}

// span takes a range, which is one member or two.
func (o *object) span(key string) string {
	single, first, last := o.text(key), o.text(key+"_start"), o.text(key+"_end")
	if first == "" {
		return single
	}
	return first + "-" + last
}

// ipProto returns the number out of what `ip -Numeric` shows, "ipproto-6".
func ipProto(s string) string {
	return strings.TrimPrefix(s, "ipproto-")
}
