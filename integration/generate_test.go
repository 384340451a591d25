package integration

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/integration/lab"
	"github.com/uplink-generator/uplink-generator/units"
)

// keys is a table of a spec.
type keys = map[string]any

// A draft is a spec before it is written: the tree of its keys.
type draft struct {
	tree keys
}

// toml writes the draft.
func (d draft) toml() string {
	var b bytes.Buffer
	e := toml.NewEncoder(&b)
	e.Indent = ""
	if err := e.Encode(d.tree); err != nil {
		panic(err) // a tree of strings, numbers and booleans
	}
	return b.String()
}

// maxCards is how many cards the host of a drawn spec has: eth0 and so on.
const maxCards = 6

// cards returns a lab with so many cards, each in a network of its own without hosts: nothing is
// sent there.
func cards(n int) lab.Options {
	var o lab.Options
	for i := range n {
		p := lab.Provider{Unfiltered: true, Cards: []lab.Card{{Name: fmt.Sprintf("eth%d", i)}}}
		o.Providers = append(o.Providers, p)
		o.Providers[i].Cards[0].MAC = macOf(o, i)
	}
	return o
}

// drawer draws specs. It covers every key, except what networkd 252 refuses by name or
// what needs a network that answers: dhcp and accept-ra, path, goto, l3mdev, type nop,
// a mark of 0.
type drawer struct {
	*rand.Rand
	uplinks []*drawnUplink
	marks   int
}

// drawnUplink is what the drawer must remember about an uplink.
type drawnUplink struct {
	name    string
	number  int
	card    int
	policy  bool
	literal bool // its link is given by name
	onlink  bool
	own     []netip.Prefix // addresses
	keys    keys
}

// draw returns the spec of a seed and a number. It need not be valid.
func draw(seed, number uint64) draft {
	g := drawer{Rand: rand.New(rand.NewPCG(seed, number))}
	return g.spec()
}

// oneIn is true once in n times.
func (g *drawer) oneIn(n int) bool { return g.IntN(n) == 0 }

// among picks one of several.
func among[T any](g *drawer, list ...T) T { return list[g.IntN(len(list))] }

func (g *drawer) spec() draft {
	d := draft{tree: keys{}}
	names := []string{"isp1", "rt2", "a", "Fibre", "x_y-z.0", "lte0"}
	g.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	count := among(g, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 5, 6)
	for i := range count {
		u := &drawnUplink{name: names[i], number: i, card: i, literal: true, keys: keys{}}
		if i > 0 && g.oneIn(6) { // on another's link
			o := g.uplinks[g.IntN(i)]
			u.card, u.policy, u.literal = o.card, o.policy, o.literal
			for _, key := range []string{"interface", "mac", "driver", "manage"} {
				if v, ok := o.keys[key]; ok {
					u.keys[key] = v
				}
			}
		} else {
			u.policy = g.oneIn(6)
			g.match(u)
		}
		g.uplinks = append(g.uplinks, u)
	}
	all := keys{}
	for _, u := range g.uplinks {
		g.addresses(u)
	}
	for _, u := range g.uplinks {
		g.gateways(u)
		g.selectors(u)
		g.settings(u)
	}
	for _, u := range g.uplinks {
		g.routes(u)
		g.rules(u)
		all[u.name] = u.keys
	}
	d.tree["uplink"] = all
	if g.oneIn(4) {
		d.tree["main-routes-first"] = true
	}
	if g.oneIn(3) {
		g.multipath(d.tree)
	}
	return d
}

// match draws how an uplink's link is found.
func (g *drawer) match(u *drawnUplink) {
	name, mac := fmt.Sprintf("eth%d", u.card), fmt.Sprintf("02:00:00:00:%02x:01", u.card+1)
	kind := g.IntN(8)
	switch {
	case kind == 0:
		u.keys["mac"], u.literal = mac, false
	case kind == 1:
		u.keys["interface"], u.keys["mac"] = name, mac
	case kind == 2 && !u.policy: // which file is extended would depend on the host's /sys
		u.keys["interface"], u.literal = among(g, name+"*", "?th"+name[3:], "[e]th"+name[3:], "eth["+name[3:]+"]"), false
	case kind == 3:
		u.keys["interface"], u.keys["driver"] = name, among(g, "veth", "v*")
	default:
		u.keys["interface"] = name
	}
	if u.policy {
		u.keys["manage"] = "policy"
	}
}

// subnet draws a prefix that belongs to the n-th subnet of an uplink.
func (g *drawer) subnet(u *drawnUplink, n int, f fib.Family) netip.Prefix {
	if f == fib.Inet {
		bits := among(g, 16, 20, 22, 24, 24, 24, 26, 28, 29, 30, 31, 32)
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(10*u.number + n), byte(g.IntN(256)), byte(g.IntN(256))}), bits).Masked()
	}
	a := netip.MustParseAddr(fmt.Sprintf("2001:db8:%x%x:%x::", u.number+1, n, g.IntN(4))).As16()
	a[14], a[15] = byte(g.IntN(256)), byte(g.IntN(256))
	return netip.PrefixFrom(netip.AddrFrom16(a), among(g, 48, 56, 64, 64, 64, 64, 96, 120, 126, 127, 128)).Masked()
}

// inside draws an address of a prefix.
func (g *drawer) inside(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		if i >= 8*len(b)-24 && g.IntN(2) == 0 { // short ones are easier to read
			b[i/8] |= 0x80 >> (i % 8)
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// isHost says whether an address is neither its subnet's own nor its last.
func (g *drawer) isHost(p netip.Prefix) bool {
	return p.Addr().Is6() || p.Bits() > 30 || p != p.Masked() && p.Addr() != lastOf(p)
}

func (g *drawer) addresses(u *drawnUplink) {
	var list []string
	for _, f := range fib.Families {
		if g.oneIn(4) {
			continue
		}
		for n := range among(g, 1, 1, 1, 1, 2, 3) {
			p := g.subnet(u, n, f)
			if g.oneIn(12) { // two cards on one subnet
				p = g.subnet(g.uplinks[0], n, f)
			}
			for range among(g, 1, 1, 1, 2, 3) {
				a := netip.PrefixFrom(g.inside(p), p.Bits())
				if !g.isHost(a) || slices.Contains(u.own, a) {
					continue
				}
				u.own, list = append(u.own, a), append(list, a.String())
			}
		}
	}
	if len(list) > 0 || g.oneIn(2) {
		g.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i]; u.own[i], u.own[j] = u.own[j], u.own[i] })
		u.keys["addresses"] = list
	}
}

// gateway draws a gateway that an uplink reaches, and says whether it does so only with onlink.
func (g *drawer) gateway(u *drawnUplink, f fib.Family) (a netip.Addr, onlink, ok bool) {
	if f == fib.Inet6 && g.oneIn(5) {
		return netip.MustParseAddr(fmt.Sprintf("fe80::%x", 1+g.IntN(9))), false, true
	}
	for _, i := range g.Perm(len(u.own)) {
		if p := u.own[i]; fib.FamilyOf(p.Addr()) == f && !p.IsSingleIP() {
			if a := g.inside(p.Masked()); a != p.Addr() && a != p.Masked().Addr() && g.isHost(netip.PrefixFrom(a, p.Bits())) {
				return a, false, true
			}
		}
	}
	if !g.oneIn(3) {
		return netip.Addr{}, false, false
	}
	if f == fib.Inet {
		return netip.AddrFrom4([4]byte{10, 200, byte(u.number), byte(1 + g.IntN(9))}), true, true
	}
	return netip.MustParseAddr(fmt.Sprintf("2001:db8:ff%02x::%x", u.number, 1+g.IntN(9))), true, true
}

func (g *drawer) gateways(u *drawnUplink) {
	var list []string
	for _, f := range fib.Families {
		if a, onlink, ok := g.gateway(u, f); ok && !g.oneIn(8) {
			list = append(list, a.String())
			u.onlink = u.onlink || onlink
		}
	}
	if g.oneIn(20) {
		u.onlink = true
	}
	if u.onlink {
		u.keys["onlink"] = true
	}
	if len(list) > 0 {
		u.keys["gateways"] = list
		if g.oneIn(2) {
			u.keys["default-route"] = true
			if !g.oneIn(3) {
				u.keys["metric"] = int64(among(g, 100+u.number, 7+u.number, 4294967290-u.number))
			}
		}
	}
}

// network draws a prefix to select by or to route to.
func (g *drawer) network(f fib.Family) netip.Prefix {
	if f == fib.Inet {
		a := netip.AddrFrom4([4]byte{among[byte](g, 100, 172, 192, 203), byte(g.IntN(256)), byte(g.IntN(256)), byte(g.IntN(256))})
		return netip.PrefixFrom(a, among(g, 1, 5, 8, 12, 16, 20, 24, 24, 25, 30, 31, 32)).Masked()
	}
	var b [16]byte
	for i := range b {
		b[i] = byte(g.IntN(256))
	}
	b[0], b[1] = among[byte](g, 0x20, 0x2a, 0xfd), 0x01
	return netip.PrefixFrom(netip.AddrFrom16(b), among(g, 3, 16, 32, 40, 48, 56, 64, 65, 96, 127, 128)).Masked()
}

func (g *drawer) family() fib.Family { return among(g, fib.Inet, fib.Inet6) }

// selectors draws from, to, fwmark, table and priority.
func (g *drawer) selectors(u *drawnUplink) {
	for _, key := range []string{"from", "to"} {
		switch g.IntN(8) {
		case 0:
			u.keys[key] = []string{}
		case 1, 2:
			var list []string
			for range 1 + g.IntN(3) {
				list = append(list, g.network(g.family()).String())
			}
			if len(u.own) > 0 && g.oneIn(3) {
				list = append(list, u.own[0].Addr().String())
			}
			if g.oneIn(8) {
				list = append(list, among(g, "0.0.0.0/0", "::/0"))
			}
			u.keys[key] = list
		}
	}
	if g.oneIn(4) {
		u.keys["fwmark"] = g.mark()
	}
	if g.oneIn(2) {
		u.keys["table"] = among(g, int64(1+u.number), int64(252-u.number), int64(256+u.number), 1<<31+int64(u.number), 4294967295-int64(u.number), int64(10000+g.IntN(4)))
	}
	if g.oneIn(3) {
		u.keys["priority"] = int64(among(g, 1+u.number, 900+u.number, 9999+u.number, 16000+u.number, 32765-u.number))
	}
	u.keys["fallthrough"] = among(g, "main", "main", "unreachable", "blackhole", "prohibit")
	if u.keys["fallthrough"] == "main" && g.oneIn(2) {
		delete(u.keys, "fallthrough")
	}
}

func (g *drawer) mark() any {
	g.marks++
	switch g.IntN(5) {
	case 0:
		return int64(g.marks)
	case 1:
		return fmt.Sprintf("%#x", 0x80000000+g.marks)
	case 2:
		return fmt.Sprintf("%#x/0xffffffff", 0x100*g.marks)
	case 3:
		return "0xffffffff"
	}
	mask := among(g, 0xff00, 0xffff, 0xff0)
	return fmt.Sprintf("%#x/%#x", (g.marks<<8|0x110)&mask, mask)
}

// settings draws what is the link's.
func (g *drawer) settings(u *drawnUplink) {
	if u.policy {
		return
	}
	if g.oneIn(5) {
		u.keys["mtu"] = int64(among(g, 576, 1280, 1280, 1400, 1500, 9000))
	}
	if g.oneIn(6) {
		u.keys["dns"] = []string{"192.0.2.53", "2001:db8::53"}[:1+g.IntN(2)]
		u.keys["domains"] = []string{"example.net", "~example.org"}[:1+g.IntN(2)]
	}
	if g.oneIn(6) {
		u.keys["required-for-online"] = among[any](g, true, false, "degraded", "degraded:routable")
	}
}

// multipath draws the uplinks that share the default routes of main.
func (g *drawer) multipath(tree keys) {
	share := keys{}
	for _, u := range g.uplinks {
		if u.keys["gateways"] != nil && u.literal && !g.oneIn(3) {
			share[u.name] = int64(among(g, 1, 2, 3, 10, 256))
		}
	}
	if len(share) > 0 {
		tree["multipath"] = keys{"uplinks": share}
	}
}

// write puts a draft below a root directory, and beside it .network files of others. For links of
// which only the policy is ours, these give the addresses that the links should have.
func (d draft) write(root string) (subject, error) {
	s := subject{root: root, lab: cards(maxCards)}
	files := map[string]string{
		"etc/uplink/uplink.toml": d.toml(),
		// networkd does not make its directory's parent.
		"run/systemd/README": "",
	}
	if err := os.RemoveAll(root); err != nil {
		return s, err
	}
	write := func() error {
		for name, text := range files {
			name = filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
				return err
			}
		}
		return nil
	}
	if err := write(); err != nil {
		return s, err
	}
	loaded, err := spec.Load(rootfs.At(root))
	if err != nil {
		return s, err
	}
	seen := map[string]bool{}
	for _, u := range loaded.Uplinks {
		card := s.device(fib.Link{Match: u.Match})
		if !u.PolicyOnly || card == "" {
			continue
		}
		name := "etc/systemd/network/10-other-" + card + ".network"
		if files[name] == "" {
			var number int
			fmt.Sscanf(card, "eth%d", &number)
			files[name] = fmt.Sprintf("[Match]\nName=%s\nMACAddress=%s\n\n[Network]\nIPv6AcceptRA=no\n", card, net.HardwareAddr(macOf(s.lab, number)))
		}
		for _, p := range u.Addresses {
			family := lab.Inet
			if p.Addr().Is6() {
				family = lab.Inet6
			}
			line := fmt.Sprintf("%s %s %s", card, family, p)
			if !seen[line] {
				seen[line] = true
				files[name] += fmt.Sprintf("Address=%s\n", p)
				s.others.addresses = append(s.others.addresses, line)
			}
		}
		s.up = append(s.up, card)
	}
	return s, write()
}

// valid writes a draft and says whether the spec is one that the product accepts for
// a version of systemd. The lab has only the cards that it uses.
func (d draft) valid(root string, version units.Version) (subject, error) {
	s, err := d.write(root)
	if err != nil {
		return s, err
	}
	state, err := s.state()
	if err != nil {
		return s, err
	}
	if _, err := s.render(state, version); err != nil {
		return s, err
	}
	if spoilt(state) {
		return s, errors.New("a rule spoils the check of a multipath route's gateways")
	}
	held := strings.Join(s.others.addresses, "\n")
	for _, a := range state.Addresses {
		held += " " + a.Prefix.String()
	}
	for _, r := range state.Routes {
		// With manage = "policy" the spec may name an address that others add later.
		if r.Src.IsValid() && !strings.Contains(held, " "+r.Src.String()+"/") {
			return s, fmt.Errorf("nobody has %s", r.Src)
		}
	}
	most := -1
	for _, l := range state.Links {
		var n int
		if _, err := fmt.Sscanf(s.device(l), "eth%d", &n); err != nil {
			return s, fmt.Errorf("link %s is no card", l.Name)
		}
		most = max(most, n)
	}
	if most < 0 {
		return s, errors.New("no link")
	}
	s.lab = cards(most + 1)
	return s, nil
}

// spoilt says whether a rule may catch the kernel's lookup of a gateway where onlink cannot avoid
// that: networkd has no onlink in a multipath route, and the kernel refuses it for an IPv6
// gateway that main has on another link too. networkd adds rules before routes, so the link fails
// (252, measured).
func spoilt(state fib.State) bool {
	var rules fib.GatewayRules
	for _, r := range state.Rules {
		rules.Add(r)
	}
	return slices.ContainsFunc(state.Routes, func(r fib.Route) bool {
		return slices.ContainsFunc(r.Nexthops, func(n fib.Nexthop) bool {
			if n.OnLink && elsewhere(state, n) {
				return true
			}
			return (len(r.Nexthops) > 1 || !n.OnLink && slices.ContainsFunc(state.Addresses, func(a fib.Address) bool {
				return n.Via.Is6() && a.Link != n.Link && a.Prefix.Contains(n.Via)
			})) && n.Via.IsValid() && rules.Catch(n.Via)
		})
	})
}

// elsewhere says whether main has an IPv6 gateway on another link: then the kernel takes
// onlink for a mistake (ip6_route_check_nh_onlink).
func elsewhere(state fib.State, n fib.Nexthop) bool {
	return n.Via.Is6() && (slices.ContainsFunc(state.Addresses, func(a fib.Address) bool { return a.Link != n.Link && a.Prefix.Contains(n.Via) }) ||
		slices.ContainsFunc(state.Routes, func(r fib.Route) bool {
			return r.Table == fib.TableMain && !r.IsDefault() && r.Dst.Contains(n.Via) && r.Link != n.Link
		}))
}
