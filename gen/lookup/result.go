package lookup

import (
	"net/netip"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Packet is what to find a way for. A field with the zero value is left out of the lookup.
type Packet struct {
	From, To netip.Addr
	Mark     uint32
	IIF      string // where it came in; "" for the host's own
	OIF      string // the link that its socket is bound to
	UID      fib.Opt[uint32]
	TOS      uint8
	IPProto  uint8 // for IPv4 0 stands for UDP, as in RTM_GETROUTE
	SPort    uint16
	DPort    uint16
}

// Way is where a packet goes.
type Way struct {
	Type   fib.RouteType // those without a device end the packet's way
	Table  uint32        // 0 where no table gave it
	Device string
	Via    netip.Addr
	Src    netip.Addr // what the kernel gives a packet that has no source
}

// Reason says why a packet's way ends as it does.
type Reason string

// The reasons.
const (
	ByRoute         Reason = "route"           // a route was found
	ByRefusal       Reason = "refused"         // a route or rule refuses the packet
	ByNothing       Reason = "no-route"        // no rule led to a route
	ByOIF           Reason = "on-link"         // IPv4, bound to a link: taken to be on that link
	BadSource       Reason = "source-not-held" // IPv4: the host does not have the source
	MartianSource   Reason = "martian-source"  // IPv4: a source that cannot come in, or go out, there
	NoForwarding    Reason = "no-forwarding"   // IPv4: the link does not forward
	ReversePath     Reason = "reverse-path"    // IPv4: rp_filter drops it
	LinkDown        Reason = "link-down"       // IPv4, bound to a link that is down, or come in by one that does not exist
	NotADirectWay   Reason = "not-evaluated"   // multicast, limited broadcast, no address at all
	NotADestination Reason = "martian-target"  // IPv4: a destination that cannot be forwarded to
)

// Outcome is what came of one rule.
type Outcome string

// The outcomes. All but Refused and Found go on with the next rule.
const (
	NoMatch    Outcome = "no-match"
	Jumped     Outcome = "goto"
	NoTarget   Outcome = "goto-nowhere" // no rule has that priority: goes on
	Passed     Outcome = "nop"
	NoRoute    Outcome = "no-route"
	Thrown     Outcome = "throw"
	Suppressed Outcome = "suppressed"
	Refused    Outcome = "refused"
	Found      Outcome = "found"
)

// Step is one rule that was tried.
type Step struct {
	Rule     *fib.Rule
	Outcome  Outcome
	Selector string     // for NoMatch: the first selector that does not fit, as in ip-rule(8)
	Route    *fib.Route // what the table has; for NoRoute one that cannot be used, or nil
	Why      string     // for Suppressed: which of the rule's words did it
}

// Result is a packet's way.
type Result struct {
	Packet Packet
	Steps  []Step
	Reason Reason
	Way    Way
	Others []Way // the kernel may as well choose one of these

	// Unheld says that the host sends an IPv6 packet with a source that it does not have.
	// The kernel's lookup does not check that, but no program may send from such a source
	// (__inet6_bind in net/ipv6/af_inet6.c).
	Unheld bool

	// Again is what the kernel does with an IPv6 packet without a source if it found no
	// way: it chooses a source and looks up once more (ip6_dst_lookup_tail in
	// net/ipv6/ip6_output.c). RTM_GETROUTE does not.
	Again *Result
}

// Final returns the result that counts for a packet that is really sent.
func (r *Result) Final() *Result {
	if r.Again != nil {
		return r.Again
	}
	return r
}

// OK says whether there is a way.
func (r *Result) OK() bool { return r.Way.Type != 0 && r.Way.Type.HasDevice() }

// Last returns the step that decided, if one did.
func (r *Result) Last() (Step, bool) {
	if n := len(r.Steps); n > 0 && (r.Steps[n-1].Outcome == Found || r.Steps[n-1].Outcome == Refused) {
		return r.Steps[n-1], true
	}
	return Step{}, false
}

// Ways returns all the ways that the kernel may choose.
func (r *Result) Ways() []Way { return append([]Way{r.Way}, r.Others...) }
