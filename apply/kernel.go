package apply

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Kernel is the routing state of one network namespace.
//
// Links are named by interface name here; which interface a name meant is settled
// by the last Observe, so that a link which is renamed or replaced afterwards is
// not mistaken for another.
type Kernel interface {
	// Observe reads what Scope asks for.
	Observe(Scope) (Snapshot, error)

	// Execute carries operations out in order and returns the kernel's answer to
	// each. Many are sent at once: one that is refused does not keep those after it
	// from being carried out. Where nothing was sent, the answer is ErrNotSent.
	Execute([]Op) []error

	// RouteGet asks which way a packet would go (RTM_GETROUTE).
	RouteGet(Packet) (Way, error)

	// Neighbours reads the neighbour tables of both families.
	Neighbours() ([]Neighbour, error)
}

// Neighbour is what the kernel knows of a host on a link.
type Neighbour struct {
	Link  string
	Addr  netip.Addr
	State string // as in ip-neighbour(8): "reachable", "stale", …; "" where it has none
}

// Failed says whether it was asked for and did not answer.
func (n Neighbour) Failed() bool { return n.State == "failed" }

// Part is a set of what a kernel holds.
type Part uint8

// The parts. Without Links, they stay those of the last Observe.
const (
	Links Part = 1 << iota
	Addresses
	Rules
	Routes
)

// Scope says what is observed.
type Scope struct {
	// Foreign asks for the routes of others as well, of all tables but local. Addresses
	// and rules are always everybody's.
	Foreign bool
	// Local asks, with Foreign, for table local, which is left out otherwise.
	Local bool
	// Learned asks for the routes of others that may have been learned, as far as the
	// kernel can tell them from the rest: those of DHCP clients, router advertisements,
	// boot scripts and administrators.
	Learned bool
	// Defaults asks for the default routes of table main, whoever put them there.
	Defaults bool
	// Only leaves out all other parts; the zero value leaves nothing out.
	Only Part
	// Family leaves out routes and rules of the other family; the zero value leaves none out.
	Family fib.Family
}

// Has says whether a part is observed.
func (s Scope) Has(p Part) bool { return s.Only == 0 || s.Only&p != 0 }

// Families returns the families whose routes and rules are observed.
func (s Scope) Families() []fib.Family {
	if s.Family != 0 {
		return []fib.Family{s.Family}
	}
	return fib.Families[:]
}

// Snapshot is what the kernel holds.
type Snapshot struct {
	Links     []Link
	Addresses []Address
	Routes    []Route
	Rules     []Rule
}

// held returns the addresses that the host has, on whichever link.
func (s *Snapshot) held() map[netip.Addr]bool {
	held := make(map[netip.Addr]bool, len(s.Addresses))
	for i := range s.Addresses {
		held[s.Addresses[i].Prefix.Addr()] = true
	}
	return held
}

// Link is a network interface of the host.
type Link struct {
	Index    int
	Name     string
	AltNames []string
	MAC      string // lower case, colons; "" for none
	Kind     string // "" for a physical one; "vlan", "bridge", "veth", …
	MTU      uint32
	Group    uint32
	Up       bool // set up by an administrator (IFF_UP)
	Carrier  bool // has a carrier (IFF_LOWER_UP)
	Loopback bool
	NoARP    bool // it neither sends nor answers ARP (IFF_NOARP)

	Master int    // Index of the link that it is a port of, or of the VRF that it is in; 0 for none
	PortOf string // the kind of that: "bridge", "bond", "vrf", …

	CarrierChanges uint32 // how often it got or lost its carrier, also by being set up or down
}

// Address is an address on a link.
type Address struct {
	fib.Address
	Peer      netip.Addr // the other end, where that is given instead of a subnet
	Ours      bool
	Tentative bool // duplicate address detection is not done, or has failed
	Duplicate bool // it has failed: another host has this address

	Deprecated bool          // no new connection takes it as its source
	Temporary  bool          // made up for privacy (RFC 8981)
	Valid      time.Duration // what is left of its lifetime; 0 for unlimited
	Since      time.Duration // the time since boot when it came
}

// Route is a route with its owner.
type Route struct {
	fib.Route
	Protocol uint8
	Pref     int8          // of an IPv6 router: 1 high, 0 medium, -1 low (RFC 4191)
	Expires  time.Duration // what is left of its lifetime; 0 for unlimited, negative once it has expired
	Unread   string        // what it has beyond a fib.Route, in the words of ip-route(8); "" for nothing
}

// Rule is a rule with its owner.
type Rule struct {
	fib.Rule
	Protocol uint8
	Unread   string // what it has beyond a fib.Rule, in the words of ip-rule(8); "" for nothing
}

// Packet is what RouteGet asks about. The zero value of a field is left out.
type Packet struct {
	From, To netip.Addr
	Mark     uint32
	IIF      string
	OIF      string
	UID      fib.Opt[uint32]
	TOS      uint8
	IPProto  uint8
	SPort    uint16
	DPort    uint16
}

// Way is the kernel's answer to a Packet.
type Way struct {
	Type   fib.RouteType
	Table  uint32
	Device string
	Via    netip.Addr
	Src    netip.Addr
}

// OpError is an operation that the kernel refused.
type OpError struct {
	Op  Op
	Msg string // the kernel's own message (extended ack); may be empty
	Err error  // the errno
}

// Error returns the operation in the words of ip(8) with what the kernel says.
func (e *OpError) Error() string {
	if e.Msg != "" {
		return fmt.Sprintf("ip %s: %s", e.Op, e.Msg)
	}
	return fmt.Sprintf("ip %s: %v", e.Op, e.Err)
}

// Unwrap returns the errno.
func (e *OpError) Unwrap() error { return e.Err }
