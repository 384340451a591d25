package apply

import (
	"errors"
	"strconv"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// ErrNotSent is the answer to an operation that was not tried because one before it failed.
var ErrNotSent = errors.New("not tried")

// ErrUnanswered says that it is not known whether an operation was carried out.
var ErrUnanswered = errors.New("the kernel's answer was lost")

// Verb is what an operation does.
type Verb uint8

// The verbs, in the order in which a plan has them.
const (
	LinkUp Verb = iota + 1
	LinkMTU
	LinkPromote // whether the next IPv4 address of a subnet stays when the first goes
	AddressAdd
	RouteAdd
	RouteReplace // of a route of ours with the same key
	RuleAdd
	RuleDel
	RouteDel
	AddressDel
)

// Op is one change to the kernel. Verb says which of the fields count.
type Op struct {
	Verb    Verb
	Link    string // interface name, of LinkUp and LinkMTU
	Address *fib.Address
	Route   *fib.Route
	Rule    *fib.Rule
	MTU     uint32
	Promote bool

	// Owner is the protocol number that the route or rule bears, where that is not ours. A Plan
	// never sets it.
	Owner fib.Opt[uint8]

	// What RouteReplace and LinkMTU replace.
	BeforeMTU uint32
	Before    *fib.Route

	tableName func(uint32) string
}

// Batch returns the operation as a line that `ip -batch` reads, or `ip -6 -batch`
// after a leading "-6 " is taken off: tables by number.
func (o Op) Batch() string {
	if o.Verb == LinkPromote {
		return "# " + o.text(nil) // which ip(8) cannot say
	}
	return o.text(nil)
}

// String returns the operation in the words of ip(8), tables by name.
func (o Op) String() string { return o.text(o.tableName) }

func (o Op) text(table func(uint32) string) string {
	x := fib.Syntax{Device: func(link string) string { return link }, Table: table, Protocol: o.Owner}
	switch o.Verb {
	case LinkUp:
		return "link set dev " + o.Link + " up"
	case LinkMTU:
		return "link set dev " + o.Link + " mtu " + strconv.FormatUint(uint64(o.MTU), 10)
	case LinkPromote:
		value := "0"
		if o.Promote {
			value = "1"
		}
		return "sysctl " + sysctlName("ipv4", o.Link, "promote_secondaries") + "=" + value
	case AddressAdd:
		return x.Address("add", *o.Address)
	case AddressDel:
		return x.Address("del", *o.Address)
	case RouteAdd:
		return x.Route("add", *o.Route)
	case RouteReplace:
		return x.Route("replace", *o.Route)
	case RouteDel:
		return x.Route("del", *o.Route)
	case RuleAdd:
		return x.Rule("add", *o.Rule)
	case RuleDel:
		return x.Rule("del", *o.Rule)
	}
	return "unknown operation"
}

// Protocol returns the protocol number that the operation's route or rule bears.
func (o Op) Protocol() uint8 {
	if o.Owner.Set {
		return o.Owner.Value
	}
	return fib.Protocol
}
