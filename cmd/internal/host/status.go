package host

import (
	"net/netip"
	"slices"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// Status is what the host holds of a spec.
type Status struct {
	Backend spec.Backend
	Uplinks []UplinkStatus // sorted by name
	Drift   []Drift        // what belongs to no uplink
	Rules   []RuleStatus   // of the host, and those that it lacks, in the order in which they are asked, IPv4 first
	Notes   []string

	Failover uint32 // the table that leads around dead uplinks; 0 without probes

	// Unread says that this user may not read the spec, so that only the rules are known.
	Unread bool

	// Broken is what is wrong with the spec, and has been reported: the rest is about the spec in
	// effect, or has only the rules if none is.
	Broken error
}

// OK says whether everything is as the spec says.
func (s *Status) OK() bool {
	return !s.Unread && s.Broken == nil && len(s.Drift) == 0 && !slices.ContainsFunc(s.Uplinks, func(u UplinkStatus) bool { return u.State() != InEffect })
}

// UplinkState sums up an uplink.
type UplinkState string

// The states.
const (
	InEffect UplinkState = "ok"
	Waits    UplinkState = "waiting" // for its link or address; the rest of it is there
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
	Unlearned string // why no address was learned yet; "" for none
	Lacks     string // which addresses others have to bring, if nothing else of the uplink waits for them; "" for none
	Addresses []AddressStatus
	Gateways  []GatewayStatus
	Rules     []UplinkRule // by family and priority
	Charge    Charge
	Health    []Health // by family; none where there is no probe, or no verdict
	Drift     []Drift
}

// State sums the uplink up. IPv6 that is switched off on its link is the host's decision, and
// does not count.
func (u *UplinkStatus) State() UplinkState {
	switch {
	case len(u.Drift) > 0:
		return Differs
	case u.Unlearned != "" || u.Lacks != "" || u.waits(false):
		return Waits
	}
	return InEffect
}

// Dead says whether a probe has found the uplink dead in a family. That is the provider's fault:
// what the host holds of the uplink may be as the spec says.
func (u *UplinkStatus) Dead() bool {
	return slices.ContainsFunc(u.Health, func(h Health) bool { return h.Dead })
}

// Presence says whether the kernel has a thing of an uplink.
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
	Lease    *Lease // of one that was learned
}

// Lease is what is known about something learned.
type Lease struct {
	From  string    // "DHCP", "DHCPv6", "router advertisement"; "another program" for what does not expire
	Since time.Time // zero where the kernel does not say
	Until time.Time // zero where it does not expire
}

// GatewayStatus is a gateway of an uplink.
type GatewayStatus struct {
	Addr      netip.Addr
	Neighbour string // its state in the neighbour table, as in ip-neighbour(8), or "unknown"
	Lease     *Lease // of one that was learned
}

// UplinkRule is a rule that the spec has for an uplink.
type UplinkRule struct {
	fib.Rule
	Presence Presence
}

// RuleStatus is a rule of the host, or one that the spec wants and the kernel lacks.
type RuleStatus struct {
	apply.Rule
	Presence Presence // Present; Missing or Pending for one that is not there
	Wanted   bool     // by the spec
	Uplink   string   // the uplink that it belongs to; "" for none, or for all of them
}

// DriftKind says how the kernel differs from the spec.
type DriftKind string

// The ways in which it can differ.
const (
	Lacks     DriftKind = "missing"
	Different DriftKind = "different"
	Extra     DriftKind = "extra"
	InTheWay  DriftKind = "in-the-way" // somebody else's route is in its place
)

// Drift is one thing in which the kernel differs from the spec.
type Drift struct {
	Kind DriftKind
	Text string // the remedy in the words of ip(8), or what is in the way
	Have string // what is there instead, of something that is different
}

// LacksAddress says whether the uplink waits only for an address that others have to bring.
func (u *UplinkStatus) LacksAddress() bool {
	return (u.Lacks != "" || u.waits(false)) && !slices.ContainsFunc(u.Waiting, func(w apply.Waiting) bool { return !w.Inet6 && !w.Lacks.IsValid() })
}

// LeftOut says whether the uplink's part of a family is not waited for: IPv6 that is switched off
// on its link.
func (u *UplinkStatus) LeftOut(f fib.Family) bool {
	return f == fib.Inet6 && u.waits(true) && !u.waits(false)
}

// waits says whether the uplink's part of a family waits for its link.
func (u *UplinkStatus) waits(inet6 bool) bool {
	return slices.ContainsFunc(u.Waiting, func(w apply.Waiting) bool { return inet6 || !w.Inet6 })
}
