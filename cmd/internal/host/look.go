package host

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

// ReadStatus reads the spec below root, and what the kernel holds of it. It works without root
// privileges: the notes say what cannot be seen then. Without a spec it returns spec.ErrNone.
func ReadStatus(root string, stderr io.Writer) (*Status, error) {
	s, state, broken := run.Check(root)
	unread := unreadable(broken)
	var was Effective
	known := broken == nil
	if broken != nil && unread == "" {
		var err error
		if was, known, err = Standing(rootfs.At(root), broken, "what is in effect is not known, and only the rules are shown", stderr); err != nil {
			return nil, err
		}
	}
	h, notes, err := openToLook(root)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	if err := h.NotTrying(); err != nil {
		notes = append(notes, err.Error())
	}
	line := gen.ReadCommandLine(h.Root)
	if line.Off {
		notes = append(notes, "the kernel command line says uplink=0: nothing is done at boot")
	}
	out := &Status{Notes: notes, Unread: unread != "", Broken: broken}
	switch {
	case !known:
		if out.Unread {
			out.Broken, out.Notes = nil, append(notes, fmt.Sprintf("%s: only root may read it: the uplinks are not known", unread))
		}
		have, err := h.kernel.Observe(apply.Scope{Only: apply.Rules})
		l := looker{Host: h, out: out, have: have}
		l.rules()
		return out, err
	case broken != nil:
		s, state, out.Backend = was.Spec(), was.State, was.Backend
	default:
		out.Backend = cmp.Or(line.Backend, s.Backend)
		state = run.Lay(h.Root, out.Backend, state)
	}
	h.dropMissingFamily(&state, stderr)
	l := looker{Host: h, spec: s, state: state, out: out}
	return out, l.look()
}

// unreadable returns the file of a spec that this user may not read, or "".
func unreadable(err error) string {
	var list spec.Errors
	if !errors.As(err, &list) {
		return ""
	}
	for _, e := range list {
		if errors.Is(e, fs.ErrPermission) {
			return e.File
		}
	}
	return ""
}

// looker puts a Status together.
type looker struct {
	*Host
	spec  *spec.Spec
	state fib.State
	out   *Status

	have   apply.Snapshot
	want   apply.Resolved
	inet6  bool                // whether the kernel has it
	wanted map[fib.Rule]string // uplink by a rule's key

	byName   map[string]*UplinkStatus
	byOrigin map[fib.Origin]string // "" where it is shared by several uplinks
	byTable  map[uint32]string
	byDevice map[string]string // the first uplink of an interface
}

func (l *looker) look() error {
	plan, _, err := l.Plan(l.state)
	conflicts, isConflict := foreign(err)
	if err != nil && !isConflict {
		return err
	}
	if l.have, err = l.kernel.Observe(apply.Scope{Foreign: l.state.Learns() || len(l.Dead) > 0}); err != nil {
		return err
	}
	if l.want, err = l.Resolve(l.state, l.have); err != nil {
		return err
	}
	for _, err := range l.want.Ambiguous {
		l.out.Notes = append(l.out.Notes, err.Error())
	}
	l.inet6 = l.kernel.HasInet6()
	neighbours, err := l.kernel.Neighbours()
	if err != nil {
		l.out.Notes = append(l.out.Notes, fmt.Sprintf("whether the gateways answer is not known: %v", err))
	}
	l.uplinks()
	l.health()
	l.rules()
	l.addresses()
	l.gateways(neighbours)
	l.charges()
	l.drift(plan, conflicts)
	if l.state.Learns() && !l.isWatched() {
		l.out.Notes = append(l.out.Notes, "nobody follows what the uplinks learn: see `systemctl status uplink-watch`")
	}
	if len(l.state.Probes) > 0 && !l.isWatched() {
		l.out.Notes = append(l.out.Notes, "nobody probes the uplinks: see `systemctl status uplink-watch`")
	}
	if l.out.Backend == spec.Networkd && !units.NetworkdRuns() {
		l.out.Notes = append(l.out.Notes, "the spec says backend = \"networkd\", and systemd-networkd does not run: start it with `systemctl start systemd-networkd`")
	}
	return nil
}

// uplinks starts each uplink's status with what is known without asking the kernel, and with its
// link.
func (l *looker) uplinks() {
	l.byName, l.byOrigin = map[string]*UplinkStatus{}, map[fib.Origin]string{}
	l.byTable, l.byDevice = map[uint32]string{}, map[string]string{}
	l.out.Uplinks = make([]UplinkStatus, len(l.spec.Uplinks))
	for i, u := range l.spec.Uplinks {
		l.out.Uplinks[i].Name = u.Name
		l.byName[u.Name] = &l.out.Uplinks[i]
		if _, twice := l.byOrigin[u.Origin]; twice {
			l.byOrigin[u.Origin] = ""
		} else {
			l.byOrigin[u.Origin] = u.Name
		}
	}
	for _, t := range l.state.Tables {
		l.byTable[t.ID] = t.Name
		if u := l.byName[t.Name]; u != nil {
			u.Table = t.ID
		}
	}
	for _, k := range l.want.Links {
		for _, u := range k.Uplinks {
			l.byName[u.Name].Device = k.Device
		}
		l.byDevice[k.Device.Name] = k.Uplinks[0].Name
	}
	for _, w := range l.want.Later.Links {
		for _, u := range w.Uplinks {
			s := l.byName[u.Name]
			s.Waiting = append(s.Waiting, w)
		}
	}
}

// owner returns the uplink that something belongs to, or "".
func (l *looker) owner(origin fib.Origin, table uint32, device string) string {
	name, known := l.byOrigin[origin]
	switch {
	case name != "":
		return name
	case known || origin == (fib.Origin{}):
		return cmp.Or(l.byTable[table], l.byDevice[device])
	}
	return "" // it belongs to all uplinks
}

// rules lists the rules of the host, and those of each uplink.
func (l *looker) rules() {
	l.wanted = map[fib.Rule]string{}
	later := len(l.want.Rules)
	all := slices.Concat(l.want.Rules, l.want.Later.Rules)
	for _, r := range all {
		l.wanted[r.Key()] = l.owner(r.Origin, r.Table, r.Link)
	}
	there := map[fib.Rule]bool{}
	l.out.Rules = make([]RuleStatus, 0, len(l.have.Rules))
	for _, h := range l.have.Rules {
		s := RuleStatus{Rule: h, Presence: Present}
		if uplink, ok := l.wanted[h.Key()]; ok && (h.Ours() || h.MayBeNetworkds()) {
			s.Wanted, s.Uplink = true, uplink
			there[h.Key()] = true
		} else if h.Ours() {
			s.Uplink = l.byTable[h.Table]
		}
		l.out.Rules = append(l.out.Rules, s)
	}
	for i, r := range all {
		uplink, presence := l.wanted[r.Key()], Missing
		switch {
		case there[r.Key()]:
			presence = Present
		case i >= later:
			presence = Pending
		}
		if presence != Present {
			l.out.Rules = append(l.out.Rules, RuleStatus{Rule: apply.Rule{Rule: r}, Presence: presence, Wanted: true, Uplink: uplink})
		}
		if u := l.byName[uplink]; u != nil {
			u.Rules = append(u.Rules, UplinkRule{r, presence})
		}
	}
	slices.SortStableFunc(l.out.Rules, func(a, b RuleStatus) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Family, b.Family))
	})
	for i := range l.out.Uplinks {
		slices.SortStableFunc(l.out.Uplinks[i].Rules, func(a, b UplinkRule) int {
			return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Priority, b.Priority))
		})
	}
}

// addresses looks up the addresses of the spec, and those that were learned.
func (l *looker) addresses() {
	type key struct {
		device string
		addr   netip.Addr
	}
	there := make(map[key]apply.Address, len(l.have.Addresses))
	of, anywhere := map[string][]apply.Address{}, map[netip.Addr]apply.Address{}
	for _, a := range l.have.Addresses {
		there[key{a.Link, a.Prefix.Addr()}] = a
		anywhere[a.Prefix.Addr()] = a
		of[a.Link] = append(of[a.Link], a)
	}
	named := map[key]bool{}
	for i, u := range l.spec.Uplinks {
		s := &l.out.Uplinks[i]
		var lacks []string
		for _, p := range u.Addresses {
			if p.Addr().Is6() && !l.inet6 {
				continue
			}
			k := key{s.Device.Name, p.Addr()}
			named[k] = true
			a, ok := there[k]
			if !ok && u.PolicyOnly { // as in verify
				a, ok = anywhere[k.addr]
			}
			is := presence(a, ok, s.waits(p.Addr().Is6()))
			s.Addresses = append(s.Addresses, AddressStatus{Prefix: p, Presence: is})
			if is == Missing && u.PolicyOnly {
				lacks = append(lacks, k.addr.String())
			}
			if a.Duplicate {
				s.Drift = append(s.Drift, Drift{Kind: Different, Text: fmt.Sprintf("%s on %s: another host has this address (duplicate address detection has failed)", p.Addr(), a.Link)})
			}
		}
		if len(lacks) > 0 {
			s.Lacks = s.Device.Name + " does not have " + strings.Join(lacks, ", ")
		}
	}
	now := clock()
	for _, k := range l.want.Links {
		s := l.byName[l.byTable[k.Learn.Table]]
		if s == nil || !k.Learn.Any() {
			continue
		}
		s.Unlearned = k.Unlearned()
		if s.waits(true) {
			s.Unlearned = "" // that is reported already
		}
		for _, a := range of[k.Device.Name] {
			addr := a.Prefix.Addr()
			if !k.Learn.Learns(a.Family()) || addr.IsLinkLocalUnicast() || named[key{a.Link, addr}] {
				continue
			}
			p := presence(a, true, false)
			if p == Present {
				p, s.Unlearned = Learned, ""
			}
			s.Addresses = append(s.Addresses, AddressStatus{a.Prefix, p, now.lease(a)})
		}
	}
}

func presence(a apply.Address, there, waits bool) Presence {
	switch {
	case a.Duplicate:
		return Duplicate
	case a.Tentative:
		return Tentative
	case there:
		return Present
	case waits:
		return Pending
	}
	return Missing
}

// gateways looks up the gateways of the spec, and those that were learned, in the neighbour
// table.
func (l *looker) gateways(neighbours []apply.Neighbour) {
	type key struct {
		device string
		addr   netip.Addr
	}
	states := make(map[key]string, len(neighbours))
	for _, n := range neighbours {
		states[key{n.Link, n.Addr}] = n.State
	}
	leases := l.gatewayLeases()
	add := func(s *UplinkStatus, device string, addr netip.Addr) {
		if addr.IsValid() && !slices.ContainsFunc(s.Gateways, func(g GatewayStatus) bool { return g.Addr == addr }) {
			s.Gateways = append(s.Gateways, GatewayStatus{addr, cmp.Or(states[key{device, addr}], "unknown"), leases[fib.Nexthop{Link: device, Via: addr}]})
		}
	}
	for i, u := range l.spec.Uplinks {
		s := &l.out.Uplinks[i]
		for _, g := range u.Gateways {
			if g.Is4() || l.inet6 {
				add(s, s.Device.Name, g)
			}
		}
	}
	for _, routes := range [][]fib.Route{l.want.Routes, l.want.Later.Routes} {
		for _, r := range routes {
			l.defaultGateways(r, add)
		}
	}
	for _, r := range l.have.Routes {
		if !r.Ours() {
			l.defaultGateways(r.Route, add)
		}
	}
}

// defaultGateways adds those gateways of a default route in an uplink's table that are on the
// uplink's own link.
func (l *looker) defaultGateways(r fib.Route, add func(*UplinkStatus, string, netip.Addr)) {
	s := l.byName[l.byTable[r.Table]]
	if s == nil || !r.IsDefault() {
		return
	}
	for _, n := range r.Nexthops {
		if n.Link == s.Device.Name {
			add(s, n.Link, n.Via)
		}
	}
}

// charges finds out who brings each uplink about: who has its link, and who has added what is
// there.
func (l *looker) charges() {
	ours, others := map[string]bool{}, map[string]bool{}
	for _, r := range l.out.Rules {
		if r.Uplink != "" && r.Presence == Present {
			map[bool]map[string]bool{true: ours, false: others}[r.Ours()][r.Uplink] = true
		}
	}
	for _, r := range l.have.Routes {
		if name := l.byTable[r.Table]; name != "" && r.Ours() {
			ours[name] = true
		}
	}
	learns := map[string]bool{}
	for _, k := range l.state.Links {
		learns[l.byTable[k.Learn.Table]] = k.Learn.Any()
	}
	progress, byNetworkd := l.progress(l.state), map[string]bool{}
	for _, k := range l.want.Links {
		for _, u := range k.Uplinks {
			byNetworkd[u.Name] = l.out.Backend != spec.Netlink && progress(k) != units.NotNetworkds
		}
	}
	for i := range l.out.Uplinks {
		s := &l.out.Uplinks[i]
		switch {
		case byNetworkd[s.Name] && (others[s.Name] || !ours[s.Name] || learns[s.Name]):
			// Even then the rules for what it learns are ours.
			s.Charge = ByNetworkd
		case ours[s.Name]:
			s.Charge = ByNetlink
		default:
			s.Charge = ByNobody
		}
	}
}
