package host

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/rtnl"
	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

// Status is what there is of a spec on its host.
type Status struct {
	Backend spec.Backend
	Uplinks []UplinkStatus // sorted by name
	Drift   []Drift        // what is no uplink's
	Rules   []RuleStatus   // of the host, in the order in which they are asked, IPv4 first
	Notes   []string

	// Unread says that the spec is not for this user to read, so that only the rules
	// are known.
	Unread bool
}

// OK says whether all is as the spec says.
func (s *Status) OK() bool {
	return !s.Unread && len(s.Drift) == 0 && !slices.ContainsFunc(s.Uplinks, func(u UplinkStatus) bool { return u.State() != InEffect })
}

// UplinkState is what counts of an uplink.
type UplinkState string

// The states.
const (
	InEffect UplinkState = "ok"
	Waits    UplinkState = "waiting" // for its link; what can be there is
	Differs  UplinkState = "differs"
)

// Charge says who brings an uplink about.
type Charge string

// Who it can be.
const (
	ByNetworkd Charge = "networkd"
	ByNetlink  Charge = "netlink"
	ByNobody   Charge = "nobody"
)

// UplinkStatus is one uplink of the spec.
type UplinkStatus struct {
	Name      string
	Table     uint32
	Device    apply.Link // the zero value while there is none
	Waiting   []apply.Waiting
	Addresses []AddressStatus
	Gateways  []GatewayStatus
	Rules     []UplinkRule // by family and priority
	Charge    Charge
	Drift     []Drift
}

// State sums the uplink up. That IPv6 is switched off on its link is the host's will.
func (u *UplinkStatus) State() UplinkState {
	switch {
	case len(u.Drift) > 0:
		return Differs
	case slices.ContainsFunc(u.Waiting, func(w apply.Waiting) bool { return !w.Inet6 }):
		return Waits
	}
	return InEffect
}

// Presence says whether the kernel has something of an uplink.
type Presence string

// What it can be.
const (
	Present   Presence = "present"
	Learned   Presence = "learned" // and not in the spec
	Missing   Presence = "missing"
	Pending   Presence = "waiting"   // for the link
	Tentative Presence = "tentative" // an address whose duplicate address detection is not done
	Duplicate Presence = "duplicate" // an address that another host has
)

// AddressStatus is an address of an uplink.
type AddressStatus struct {
	Prefix   netip.Prefix
	Presence Presence
}

// GatewayStatus is a gateway of an uplink.
type GatewayStatus struct {
	Addr      netip.Addr
	Neighbour string // its state in the neighbour table, as in ip-neighbour(8), or "unknown"
}

// UplinkRule is a rule that the spec has for an uplink.
type UplinkRule struct {
	fib.Rule
	Presence Presence
}

// RuleStatus is a rule of the host.
type RuleStatus struct {
	apply.Rule
	Wanted bool   // by the spec
	Uplink string // whose it is; "" where it is no uplink's, or all uplinks'
}

// DriftKind says how the kernel differs.
type DriftKind string

// How it can.
const (
	Lacks     DriftKind = "missing"
	Different DriftKind = "different"
	TooMuch   DriftKind = "extra"
	InTheWay  DriftKind = "in-the-way" // a route of somebody else's has the place
)

// Drift is one thing in which the kernel differs from the spec.
type Drift struct {
	Kind DriftKind
	Text string // the remedy in the words of ip(8), or what is in the way
	Have string // what is there instead, of something different
}

// ReadStatus reads the spec below root, and what the kernel holds of it. It needs no
// root: what cannot be seen without is in the notes. Without a spec it is spec.ErrNone.
func ReadStatus(root string, stderr io.Writer) (*Status, error) {
	s, state, err := run.Check(root)
	unread := unreadable(rootfs.At(root), err)
	if err != nil && unread == "" {
		return nil, err
	}
	h, notes, err := openToLook(root)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	line := gen.ReadCommandLine(h.Root)
	if line.Off {
		notes = append(notes, "the kernel command line says uplink=0: nothing is done at boot")
	}
	if unread != "" {
		notes = append(notes, fmt.Sprintf("%s: only root may read it: the uplinks are not known", unread))
		have, err := h.kernel.Observe(apply.Scope{Only: apply.Rules})
		l := looker{Host: h, out: &Status{Unread: true, Notes: notes}, have: have}
		l.rules()
		return l.out, err
	}
	h.dropMissingFamily(&state, stderr)
	l := looker{Host: h, spec: s, state: state, out: &Status{Backend: cmp.Or(line.Backend, s.Backend), Notes: notes}}
	return l.out, l.look()
}

// unreadable returns the file of a spec that this user may not read, or "".
func unreadable(root rootfs.Root, err error) string {
	var list spec.Errors
	if !errors.As(err, &list) {
		return ""
	}
	for _, e := range list {
		if _, err := root.ReadFile(e.File, 1<<20); e.Line == 0 && errors.Is(err, fs.ErrPermission) {
			return e.File
		}
	}
	return ""
}

// openToLook is Open for somebody who changes nothing, and who may be anybody.
func openToLook(root string) (h *Host, notes []string, err error) {
	h = &Host{Root: rootfs.At(root), unlock: func() {}}
	runDir, err := h.Root.Path("/run/uplink")
	if err != nil {
		return nil, nil, err
	}
	if h.kernel, err = rtnl.New(); err != nil {
		return nil, nil, err
	}
	h.Applier = apply.Applier{Kernel: h.kernel, Hardware: rtnl.Hardware{}, Adopt: true}
	if !rtnl.MarksAddresses() {
		switch h.Journal, err = apply.OpenJournal(filepath.Join(runDir, "addresses")); {
		case errors.Is(err, fs.ErrPermission):
			h.Journal, notes = nil, []string{"only root may read which addresses are ours: one too much is not seen"}
		case err != nil:
			h.Close()
			return nil, nil, err
		}
	}
	return h, notes, nil
}

// looker puts a Status together.
type looker struct {
	*Host
	spec  *spec.Spec
	state fib.State
	out   *Status

	have   apply.Snapshot
	want   apply.Resolved
	wanted map[fib.Rule]string // uplink by a rule's key

	byName   map[string]*UplinkStatus
	byOrigin map[fib.Origin]string // "" where several uplinks have it
	byTable  map[uint32]string
	byDevice map[string]string // the first uplink of an interface
}

func (l *looker) look() error {
	plan, _, err := l.Plan(l.state)
	conflicts, isConflict := foreign(err)
	if err != nil && !isConflict {
		return err
	}
	learns := slices.ContainsFunc(l.state.Links, func(k fib.Link) bool { return k.Learn.Any() })
	if l.have, err = l.kernel.Observe(apply.Scope{Foreign: learns}); err != nil {
		return err
	}
	if l.want, err = apply.Resolve(l.state, l.have, l.Hardware); err != nil {
		return err
	}
	neighbours, err := l.kernel.Neighbours()
	if err != nil {
		l.out.Notes = append(l.out.Notes, fmt.Sprintf("whether the gateways answer is not known: %v", err))
	}
	l.uplinks()
	l.rules()
	l.addresses()
	l.gateways(neighbours)
	l.charges()
	l.drift(plan, conflicts)
	for _, k := range l.state.Links {
		if u := l.byName[l.byTable[k.Learn.Table]]; k.Learn.Any() && u != nil && u.Charge != ByNetworkd {
			l.out.Notes = append(l.out.Notes, fmt.Sprintf("uplink %s learns its addresses, which only systemd-networkd does for it", u.Name))
		}
	}
	if l.out.Backend == spec.Networkd && !units.NetworkdRuns() {
		l.out.Notes = append(l.out.Notes, `the spec says backend = "networkd", and systemd-networkd does not run`)
	}
	return nil
}

// foreign returns the routes of others that are in the way, if that is all of an error.
func foreign(err error) (list []*apply.ForeignError, all bool) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // as errors.Join made it
		for _, e := range joined.Unwrap() {
			more, ok := foreign(e)
			if list = append(list, more...); !ok {
				return nil, false
			}
		}
		return list, true
	}
	var f *apply.ForeignError
	if !errors.As(err, &f) {
		return nil, false
	}
	return []*apply.ForeignError{f}, true
}

// uplinks begins with what is known of each uplink without the kernel's help, and with
// its link.
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
		l.byName[t.Name].Table = t.ID
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
	return "" // all uplinks'
}

// rules lists those of the host, and those of each uplink.
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
		s := RuleStatus{Rule: h}
		if uplink, ok := l.wanted[h.Key()]; ok && held(h) {
			s.Wanted, s.Uplink = true, uplink
			there[h.Key()] = true
		} else if h.Ours() {
			s.Uplink = l.byTable[h.Table]
		}
		l.out.Rules = append(l.out.Rules, s)
	}
	slices.SortStableFunc(l.out.Rules, func(a, b RuleStatus) int { return cmp.Compare(a.Priority, b.Priority) })
	for i, r := range all {
		u := l.byName[l.wanted[r.Key()]]
		if u == nil {
			continue
		}
		s := UplinkRule{r, Missing}
		switch {
		case there[r.Key()]:
			s.Presence = Present
		case i >= later:
			s.Presence = Pending
		}
		u.Rules = append(u.Rules, s)
	}
	for i := range l.out.Uplinks {
		slices.SortStableFunc(l.out.Uplinks[i].Rules, func(a, b UplinkRule) int {
			return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Priority, b.Priority))
		})
	}
}

// held says whether a rule is one that a back end may have brought about.
func held(r apply.Rule) bool {
	const unspec, static = 0, 4 // RTPROT_UNSPEC, which networkd's bear before 248; RTPROT_STATIC
	return r.Ours() || r.Protocol == static || r.Protocol == unspec
}

// addresses looks up those of the spec, and those that were learned.
func (l *looker) addresses() {
	type key struct {
		device string
		addr   netip.Addr
	}
	there := make(map[key]apply.Address, len(l.have.Addresses))
	of := map[string][]apply.Address{}
	for _, a := range l.have.Addresses {
		there[key{a.Link, a.Prefix.Addr()}] = a
		of[a.Link] = append(of[a.Link], a)
	}
	named := map[key]bool{}
	for i, u := range l.spec.Uplinks {
		s := &l.out.Uplinks[i]
		for _, p := range u.Addresses {
			if p.Addr().Is6() && !l.kernel.HasInet6() {
				continue
			}
			k := key{s.Device.Name, p.Addr()}
			named[k] = true
			a, ok := there[k]
			s.Addresses = append(s.Addresses, AddressStatus{p, presence(a, ok, s.waits(p.Addr().Is6()))})
			if a.Duplicate {
				s.Drift = append(s.Drift, Drift{Kind: Different, Text: fmt.Sprintf("%s on %s: another host has this address (duplicate address detection has failed)", p.Addr(), a.Link)})
			}
		}
	}
	for _, k := range l.want.Links {
		u := l.byTable[k.Learn.Table]
		for _, a := range of[k.Device.Name] {
			addr := a.Prefix.Addr()
			if s := l.byName[u]; s != nil && k.Learn.Learns(a.Family()) && !addr.IsLinkLocalUnicast() && !named[key{a.Link, addr}] {
				p := presence(a, true, false)
				if p == Present {
					p = Learned
				}
				s.Addresses = append(s.Addresses, AddressStatus{a.Prefix, p})
			}
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

// waits says whether what the uplink has of a family waits for its link.
func (u *UplinkStatus) waits(inet6 bool) bool {
	return slices.ContainsFunc(u.Waiting, func(w apply.Waiting) bool { return inet6 || !w.Inet6 })
}

// gateways looks up those of the spec, and those that were learned, in the neighbour
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
	add := func(s *UplinkStatus, device string, addr netip.Addr) {
		if addr.IsValid() && !slices.ContainsFunc(s.Gateways, func(g GatewayStatus) bool { return g.Addr == addr }) {
			s.Gateways = append(s.Gateways, GatewayStatus{addr, cmp.Or(states[key{device, addr}], "unknown")})
		}
	}
	for i, u := range l.spec.Uplinks {
		s := &l.out.Uplinks[i]
		for _, g := range u.Gateways {
			if g.Is4() || l.kernel.HasInet6() {
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

// defaultGateways adds the gateways of a default route of an uplink's table that are on
// its own link.
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

// charges finds out who brings each uplink about: who has its link, and whose what there
// is of it is.
func (l *looker) charges() {
	ours, others := map[string]bool{}, map[string]bool{}
	for _, r := range l.out.Rules {
		if r.Uplink != "" {
			map[bool]map[string]bool{true: ours, false: others}[r.Ours()][r.Uplink] = true
		}
	}
	for _, r := range l.have.Routes {
		if name := l.byTable[r.Table]; name != "" && r.Ours() {
			ours[name] = true
		}
	}
	managed := units.ManagedLinks(l.Root)
	for i := range l.out.Uplinks {
		s := &l.out.Uplinks[i]
		byNetworkd := l.out.Backend != spec.Netlink && s.Device.Index != 0 && managed(s.Device.Index)
		switch {
		case byNetworkd && (others[s.Name] || !ours[s.Name]):
			s.Charge = ByNetworkd
		case ours[s.Name]:
			s.Charge = ByNetlink
		default:
			s.Charge = ByNobody
		}
	}
}

// drift shares out what a plan would change.
func (l *looker) drift(plan apply.Plan, conflicts []*apply.ForeignError) {
	add := func(o apply.Op, d Drift) {
		if s := l.byName[l.ownerOf(o)]; s != nil {
			s.Drift = append(s.Drift, d)
		} else {
			l.out.Drift = append(l.out.Drift, d)
		}
	}
	taken := map[fib.RouteKey]bool{}
	for _, c := range conflicts {
		taken[c.Want.Route.Key()] = true
		add(c.Want, Drift{Kind: InTheWay, Text: c.Error()})
	}
	ops := plan.Ops()
	// What is both added and removed is only put elsewhere, or helps for a moment.
	added, removed := map[fib.Rule]bool{}, map[fib.Rule]bool{}
	for _, o := range ops {
		switch o.Verb {
		case apply.RuleAdd:
			added[o.Rule.Key()] = true
		case apply.RuleDel:
			removed[o.Rule.Key()] = true
		default:
		}
	}
	for _, o := range ops {
		kind := Lacks
		switch o.Verb {
		case apply.LinkPromote:
			continue
		case apply.LinkMTU, apply.RouteReplace:
			kind = Different
		case apply.AddressDel, apply.RouteDel, apply.RuleDel:
			kind = TooMuch
		default:
		}
		if o.Rule != nil && added[o.Rule.Key()] && removed[o.Rule.Key()] || o.Route != nil && taken[o.Route.Key()] {
			continue
		}
		add(o, Drift{kind, "ip " + o.String(), l.instead(o)})
	}
}

// instead returns what an operation replaces, or "".
func (l *looker) instead(o apply.Op) string {
	switch o.Verb {
	case apply.LinkMTU:
		return fmt.Sprintf("mtu %d", o.BeforeMTU)
	case apply.RouteReplace:
		x := fib.Syntax{Device: func(link string) string { return link }, Table: func(id uint32) string {
			return cmp.Or(l.byTable[id], fmt.Sprint(id))
		}}
		_, text, _ := strings.Cut(x.Route("add", *o.Before), "route add ")
		return text
	default:
		return ""
	}
}

// ownerOf returns the uplink that an operation belongs to, or "".
func (l *looker) ownerOf(o apply.Op) string {
	switch {
	case o.Address != nil:
		return l.owner(o.Address.Origin, 0, o.Address.Link)
	case o.Route != nil:
		return l.owner(o.Route.Origin, o.Route.Table, "")
	case o.Rule != nil:
		return l.owner(o.Rule.Origin, o.Rule.Table, "")
	}
	return l.byDevice[o.Link]
}
