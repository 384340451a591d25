// Package spec reads what the user wrote: it finds the TOML files, merges them,
// checks every word of them, and returns typed values. It comes first; gen.Compile
// takes the Spec from here, and nothing after that knows of TOML.
//
// A Spec is valid by construction: Load returns one only if no file has an error.
// Otherwise it returns all errors, each with its file, line and column (see Errors).
package spec

import (
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Backend says which back end puts the State into effect.
type Backend string

// The back ends.
const (
	Auto     Backend = "auto" // networkd for the links that it has, netlink for the others
	Networkd Backend = "networkd"
	Netlink  Backend = "netlink"
)

// ParseBackend reads a back end by its name in the spec and on the kernel command
// line.
func ParseBackend(s string) (Backend, bool) {
	b := Backend(s)
	return b, b == Auto || b == Networkd || b == Netlink
}

// Spec is the whole of what the user wants.
type Spec struct {
	Backend         Backend
	MainRoutesFirst bool
	Uplinks         []Uplink   // sorted by name
	Multipath       []Weighted // the uplinks that share one default route in main, sorted by name
	Files           []string   // what was read, in the order in which it was merged

	doc     *document
	own     map[netip.Addr]bool // addresses of all uplinks
	unknown Families            // those of which the host may have addresses that are not in own
}

// Weighted is an uplink's share of the traffic.
type Weighted struct {
	Uplink string
	Weight uint16 // 1..256
}

// Families is a set of address families.
type Families struct{ Inet, Inet6 bool }

// Has says whether f is in the set.
func (s Families) Has(f fib.Family) bool { return f == fib.Inet && s.Inet || f == fib.Inet6 && s.Inet6 }

// Uplink is one way out of the host.
type Uplink struct {
	Name   string
	Match  fib.Match
	Origin fib.Origin

	Table    uint32 // 0 for an automatic number
	Priority uint32 // 0 for an automatic number

	Addresses    []netip.Prefix // not masked
	Gateways     []netip.Addr   // at most one a family
	DefaultRoute bool
	Metric       uint32 // of its default routes in main; 0 for none given
	OnLink       bool

	From, To []netip.Prefix // nil: its own addresses; empty but not nil: none
	Mark     Mark

	DHCP, AcceptRA Families
	Fallthrough    fib.RouteType // of the last-resort routes; 0 for fallthrough = "main"
	PolicyOnly     bool          // manage = "policy"

	MTU               uint32
	DNS               []netip.Addr
	Domains           []string
	RequiredForOnline string

	Routes []Route
	Rules  []Rule
	Probe  *Probe // nil for none
}

// Probe is the [uplink.NAME.probe]: how to find out whether the uplink works.
type Probe struct {
	Targets           []netip.Addr
	Port              uint16 // of a TCP connect; 0 for an ICMP echo
	Interval, Timeout uint32 // seconds
	Down, Up          uint32 // rounds
	Reliability       uint32 // targets of a family
}

// Mark is a firewall mark and which of its bits count; Mask 0 for none.
type Mark struct{ Value, Mask uint32 }

// Route is a [[uplink.NAME.route]].
type Route struct {
	Families Families // one, or both where `to = "default"` leaves it open
	To       netip.Prefix
	Via      netip.Addr
	Src      netip.Addr
	Table    Table
	Type     fib.RouteType
	Scope    fib.Opt[fib.Scope]
	Metric   uint32
	MTU      uint32
	AdvMSS   uint32
	InitCwnd uint32
	InitRwnd uint32
	OnLink   bool
	Nexthops []Nexthop // of multipath; Via is then not given
}

// Nexthop is one way of a multipath route.
type Nexthop struct {
	Uplink string
	Via    netip.Addr
	Weight uint16
	OnLink bool
}

// Table names a table: by number, or by the uplink whose table it is. The zero value
// is the table of the uplink in which it is used.
type Table struct {
	ID     uint32
	Uplink string
}

// Rule is a [[uplink.NAME.rule]].
type Rule struct {
	Families             Families
	Priority             uint32 // 0 for the uplink's own
	Not                  bool
	From, To             netip.Prefix
	Mark                 Mark
	IIF, OIF             string
	TOS                  uint8
	IPProto              uint8
	SPort, DPort         fib.Range[uint16]
	UIDRange             fib.Opt[fib.Range[uint32]]
	Action               fib.Action
	Table                Table
	Goto                 uint32
	L3MDev               bool
	SuppressPrefixLength fib.Opt[uint32]
	SuppressIfGroup      fib.Opt[uint32]
}

// Fail adds an error that only shows once the Spec is compiled. The path names the
// key that is wrong: "uplink", "isp1", "metric"; array elements are Element(i). If
// that key was not given, the error points at the nearest one above it.
func (s *Spec) Fail(msg, help string, path ...string) {
	s.doc.failKey(path, msg, help)
}

// Err returns the errors that were added, in the order of the files, or nil.
func (s *Spec) Err() error {
	if len(s.doc.errs) == 0 {
		return nil
	}
	return s.doc.sorted()
}

// HasProbes says whether any uplink has a probe.
func (s *Spec) HasProbes() bool {
	return slices.ContainsFunc(s.Uplinks, func(u Uplink) bool { return u.Probe != nil })
}

// Element returns the path element for the i-th entry of an array.
func Element(i int) string { return element(i) }
