package spec

import (
	"fmt"
	"net/netip"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// unique checks values that two uplinks must not share.
func (s *Spec) unique() {
	tables := map[uint32]string{}
	priorities := map[uint32]string{}
	addresses := map[netip.Addr]string{}
	sharedAddress := map[netip.Addr]bool{} // reported already
	type selector struct {
		key    string
		prefix netip.Prefix
		mark   Mark
	}
	selectors := make(map[selector]string, 2*len(s.Uplinks)) // an address each
	for i := range s.Uplinks {
		u := &s.Uplinks[i]
		v := uplinkChecker{s, u}
		if first, taken := tables[u.Table]; taken && u.Table != 0 {
			v.failValue("each uplink needs a table of its own; leave `table` out for a free number", fmt.Sprintf("table %d is uplink `%s`'s", u.Table, first), "table")
		}
		tables[u.Table] = u.Name
		own := []uint32{u.Priority}
		if s.MainRoutesFirst && u.Fallthrough != 0 {
			own = append(own, u.Priority+1) // the rules that refuse come right behind
		}
		for _, p := range own {
			if first, taken := priorities[p]; taken && u.Priority != 0 {
				v.failValue("give another, or leave `priority` out for a free number", fmt.Sprintf("priority %d is uplink `%s`'s", p, first), "priority")
			}
			if u.Priority != 0 {
				priorities[p] = u.Name
			}
		}
		for n, p := range u.Addresses {
			if first, taken := addresses[p.Addr()]; taken && first != u.Name {
				v.failValue("", fmt.Sprintf("%s is uplink `%s`'s as well: packets from it would always leave there", p.Addr(), first), "addresses", element(n))
				sharedAddress[p.Addr()] = true
				continue
			}
			addresses[p.Addr()] = u.Name
		}
		for _, sel := range []struct {
			key  string
			list []netip.Prefix
		}{{"from", u.From}, {"to", u.To}} {
			at := func(n int) []string { return []string{sel.key, element(n)} }
			if sel.list == nil { // then its own addresses
				at = func(n int) []string { return []string{"addresses", element(n)} }
				for _, p := range u.Addresses {
					sel.list = append(sel.list, netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
				}
			}
			for n, p := range sel.list {
				id := selector{sel.key, p, Mark{}}
				if first, taken := selectors[id]; taken && first != u.Name && !sharedAddress[p.Addr()] {
					v.failValue(u.asReserve(), fmt.Sprintf("uplink `%s` has %s %s already", first, sel.key, p), at(n)...)
				}
				selectors[id] = u.Name
			}
		}
		if u.Mark.Mask != 0 {
			id := selector{key: "fwmark", mark: u.Mark}
			if first, taken := selectors[id]; taken {
				v.failValue(u.asReserve(), fmt.Sprintf("uplink `%s` has the same fwmark", first), "fwmark")
			}
			selectors[id] = u.Name
		}
	}
}

// asReserve says what to do with two uplinks for the same packets. Which of their own rules is
// asked first would otherwise depend on names or numbers that were chosen for other reasons.
func (u *Uplink) asReserve() string {
	return fmt.Sprintf("which of the two is asked first would be left to chance; as the reserve, for when the other has no way out, this one selects it by a [[uplink.%s.rule]] with a `priority` behind the other's", u.Name)
}

// sharedLinks checks uplinks on one link: they must agree about it, and must match it in
// the same way.
func (s *Spec) sharedLinks() {
	// The first uplink on a link that sets a key. An uplink that leaves it out does not
	// count: two others may set it in two ways.
	type said struct {
		match fib.Match
		key   string
	}
	first := map[said]*Uplink{}
	var globs []*Uplink
	for i := range s.Uplinks {
		u := &s.Uplinks[i]
		if fib.IsGlob(u.Match.Name) {
			globs = append(globs, u)
		}
		if u.Match == (fib.Match{}) {
			continue
		}
		v := uplinkChecker{s, u}
		before := func(key string) *Uplink {
			id := said{u.Match, key}
			if f := first[id]; f != nil {
				return f
			}
			first[id] = u
			return u
		}
		differ := func(key string, says bool, other func(f *Uplink) bool) {
			if !says {
				return
			}
			if f := before(key); other(f) {
				v.fail("both are about the link itself", fmt.Sprintf("uplink `%s` is on the same link and has another `%s`", f.Name, key), key)
			}
		}
		differ("manage", true, func(f *Uplink) bool { return u.PolicyOnly != f.PolicyOnly })
		differ("mtu", u.MTU != 0, func(f *Uplink) bool { return u.MTU != f.MTU })
		differ("required-for-online", u.RequiredForOnline != "", func(f *Uplink) bool { return u.RequiredForOnline != f.RequiredForOnline })
		if !u.learnsAny() {
			continue
		}
		if f := before("dhcp"); f != u {
			for key, learns := range map[string]bool{"dhcp": u.DHCP != Families{}, "accept-ra": u.AcceptRA != Families{}} {
				if learns {
					v.fail("what a link learns can go into one table only", fmt.Sprintf("uplink `%s` is on the same link and learns its gateway too", f.Name), key)
				}
			}
		}
	}
	s.sameDevice()
	for _, g := range globs {
		for i := range s.Uplinks {
			u := &s.Uplinks[i]
			dev, literal := u.Match.Device()
			if !literal || g.Match.MAC+g.Match.Driver+g.Match.Path+u.Match.MAC+u.Match.Driver+u.Match.Path != "" {
				continue
			}
			if ok, _ := fib.MatchGlob(g.Match.Name, dev); ok {
				uplinkChecker{s, g}.failValue("for two uplinks on one link give both the same `interface`; otherwise narrow the pattern",
					fmt.Sprintf("the pattern matches %s, which is uplink `%s`'s", dev, u.Name), "interface")
			}
		}
	}
}

// sameDevice reports two uplinks that are certainly on one card and match it in different
// ways: networkd would use the file of only one of them.
func (s *Spec) sameDevice() {
	type card struct{ name, mac string }
	first := map[card]*Uplink{}
	for i := range s.Uplinks {
		u := &s.Uplinks[i]
		dev, literal := u.Match.Device()
		if !literal {
			dev = ""
		}
		for _, c := range []struct {
			card
			key string
		}{{card{name: dev}, "interface"}, {card{mac: u.Match.MAC}, "mac"}} {
			if c.card == (card{}) {
				continue
			}
			if f, taken := first[c.card]; !taken {
				first[c.card] = u
			} else if other, named := f.Match.Device(); f.Match != u.Match && (dev == "" || !named || dev == other) {
				// A VLAN has the address of its card: two names mean two links.
				uplinkChecker{s, u}.failValue("networkd uses one file for a link: match it in the same way in both",
					fmt.Sprintf("uplink `%s` is on this link too, and matches it otherwise", f.Name), c.key)
			}
		}
	}
}

func (u *Uplink) learnsAny() bool { return u.DHCP != Families{} || u.AcceptRA != Families{} }

// multipath checks that every uplink named in [multipath] has a way out to share.
func (s *Spec) multipath() {
	given, _ := s.doc.tree["multipath"].(map[string]any)
	uplinks, isTable := given["uplinks"].(map[string]any)
	if given != nil && (given["uplinks"] == nil || isTable && len(uplinks) == 0) {
		s.Fail("[multipath] names no uplink", "like uplinks = { isp1 = 2, rt2 = 1 }", "multipath")
	}
	for _, m := range s.Multipath {
		at := []string{"multipath", "uplinks", m.Uplink}
		u := s.Uplink(m.Uplink)
		switch {
		case u == nil:
			names := make([]string, len(s.Uplinks))
			for i := range s.Uplinks {
				names[i] = s.Uplinks[i].Name
			}
			s.Fail("no uplink is called "+quote(m.Uplink), DidYouMean(m.Uplink, names), at...)
		case len(u.Gateways) == 0 && u.learnsAny():
			s.Fail("uplink `"+u.Name+"` learns its gateway, which cannot be written into a multipath route", "give it `gateways`", at...)
		case len(u.Gateways) == 0 && !u.hasDefault():
			s.Fail("uplink `"+u.Name+"` has no default route to share", "give it `gateways`", at...)
		}
	}
}
