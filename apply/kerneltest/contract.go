package kerneltest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Links are the links of a kernel under contract: up, with a carrier, and with an MTU of 1500.
// There are no others but lo and the other ends of pairs.
var Links = []string{"card0", "card1", "card2"}

// Run runs the contract of an apply.Kernel. For each part newKernel makes a kernel that holds
// nothing but Links.
func Run(t *testing.T, newKernel func(t *testing.T) apply.Kernel) {
	for _, part := range []struct {
		name string
		run  func(*contract)
	}{
		{"Links", (*contract).links},
		{"Addresses", (*contract).addresses},
		{"PrimaryAddress", (*contract).primaryAddress},
		{"RoutesByTable", (*contract).routeTable},
		{"RoutesAtRandom", (*contract).routesAtRandom},
		{"RouteErrors", (*contract).routeErrors},
		{"RouteReplace", (*contract).routeReplace},
		{"RouteDelete", (*contract).routeDelete},
		{"RoutesGoWithTheirSource", (*contract).routeSource},
		{"RulesByTable", (*contract).ruleTable},
		{"RulesAtRandom", (*contract).rulesAtRandom},
		{"RuleErrors", (*contract).ruleErrors},
		{"RuleOrder", (*contract).ruleOrder},
		{"Owner", (*contract).owner},
		{"ManyAtOnce", (*contract).manyAtOnce},
		{"InversesUndo", (*contract).inverses},
	} {
		t.Run(part.name, func(t *testing.T) {
			part.run(&contract{t, newKernel(t)})
		})
	}
}

type contract struct {
	*testing.T
	kernel apply.Kernel
}

func (c *contract) observe() apply.Snapshot {
	c.Helper()
	s, err := c.kernel.Observe(apply.Scope{})
	if err != nil {
		c.Fatal(err)
	}
	return s
}

// do carries out operations, all of which must succeed.
func (c *contract) do(ops ...apply.Op) {
	c.Helper()
	answers := c.kernel.Execute(ops)
	if len(answers) != len(ops) {
		c.Fatalf("%d operations, %d answers", len(ops), len(answers))
	}
	for _, err := range answers {
		if err != nil {
			c.Fatal(err)
		}
	}
}

// refused wants one operation to be refused with an errno, and the error to be an
// OpError that names the operation and says msg, unless that is "".
func (c *contract) refused(op apply.Op, errno syscall.Errno, msg string) {
	c.Helper()
	answers := c.kernel.Execute([]apply.Op{op})
	if len(answers) != 1 || answers[0] == nil {
		c.Errorf("ip %s: %v, want %v", op, answers, errno)
		return
	}
	var e *apply.OpError
	if !errors.As(answers[0], &e) {
		c.Errorf("ip %s: %T, not an OpError: %v", op, answers[0], answers[0])
		return
	}
	if !errors.Is(e, errno) {
		c.Errorf("ip %s: errno %v, want %v", op, e.Err, errno)
	}
	if e.Op.String() != op.String() {
		c.Errorf("the error of %q names %q", op, e.Op)
	}
	if msg != "" && e.Msg != msg {
		c.Errorf("ip %s: the kernel says %q, want %q", op, e.Msg, msg)
	}
	want := fmt.Sprintf("ip %s: %v", op, errno)
	if e.Msg != "" {
		want = "ip " + op.String() + ": " + e.Msg
	}
	if e.Error() != want {
		c.Errorf("%q, want %q", e.Error(), want)
	}
}

func addressAdd(link, prefix string) apply.Op {
	return apply.Op{Verb: apply.AddressAdd, Address: &fib.Address{Link: link, Prefix: netip.MustParsePrefix(prefix)}}
}

func routeAdd(r fib.Route) apply.Op { return apply.Op{Verb: apply.RouteAdd, Route: &r} }
func ruleAdd(r fib.Rule) apply.Op   { return apply.Op{Verb: apply.RuleAdd, Rule: &r} }

// inverse returns the operation that undoes op.
func inverse(op apply.Op) apply.Op {
	switch op.Verb {
	case apply.AddressAdd:
		op.Verb = apply.AddressDel
	case apply.RouteAdd:
		op.Verb = apply.RouteDel
	case apply.RouteReplace:
		op.Route, op.Before = op.Before, op.Route
	case apply.RuleAdd:
		op.Verb = apply.RuleDel
	}
	return op
}

// setUp gives the links the addresses that random routes need.
func (c *contract) setUp() {
	c.Helper()
	for i, link := range Links {
		for _, p := range Setup(i) {
			c.do(addressAdd(link, p.String()))
		}
	}
	c.settle()
}

func (c *contract) settle() {
	c.Helper()
	if err := settle(c.kernel); err != nil {
		c.Fatal(err)
	}
}

func (c *contract) links() {
	s := c.observe()
	for _, name := range append([]string{"lo"}, Links...) {
		i := slices.IndexFunc(s.Links, func(l apply.Link) bool { return l.Name == name })
		if i < 0 {
			c.Fatalf("no link %s in %v", name, s.Links)
		}
		l := s.Links[i]
		if !l.Up || !l.Carrier || l.Index == 0 || l.Loopback != (name == "lo") {
			c.Errorf("%+v", l)
		}
		if name != "lo" && l.MTU != 1500 {
			c.Errorf("%+v, want an MTU of 1500", l)
		}
	}
	c.do(apply.Op{Verb: apply.LinkMTU, Link: "card0", MTU: 1400, BeforeMTU: 1500}, apply.Op{Verb: apply.LinkUp, Link: "card0"})
	for _, l := range c.observe().Links {
		if want := map[string]uint32{"card0": 1400, "card1": 1500}[l.Name]; want != 0 && l.MTU != want {
			c.Errorf("%s: MTU %d, want %d", l.Name, l.MTU, want)
		}
	}
	c.refused(apply.Op{Verb: apply.LinkUp, Link: "absent0"}, syscall.ENODEV, "")
	c.refused(apply.Op{Verb: apply.LinkMTU, Link: "absent0", MTU: 1400}, syscall.ENODEV, "")
}

func (c *contract) addresses() {
	var want []apply.Address
	for i, p := range []string{
		"192.0.2.10/24", "192.0.2.11/24", "192.0.2.10/25", "198.51.100.1/32", "203.0.113.2/31", "10.0.0.1/8", "100.64.0.1/30",
		"2001:db8::10/64", "2001:db8::11/64", "2001:db8:1::1/128", "2001:db8:2::/127", "fd00::1/8", "fe80::10/64",
	} {
		op := addressAdd(Links[i%2], p)
		c.do(op)
		want = append(want, apply.Address{Address: *op.Address, Ours: true})
		c.refused(op, syscall.EEXIST, "")
	}
	// The same address on another link is another one.
	op := addressAdd("card2", "192.0.2.10/24")
	c.do(op)
	want = append(want, apply.Address{Address: *op.Address, Ours: true})
	// Only in IPv4 does another prefix length make it another address (above), with its own
	// removal.
	c.refused(addressAdd(Links[1], "2001:db8::10/48"), syscall.EEXIST, "")
	c.refused(inverse(addressAdd(Links[1], "2001:db8::10/48")), syscall.EADDRNOTAVAIL, "")

	compare := func() {
		c.Helper()
		c.settle()
		var have []apply.Address
		for _, a := range c.observe().Addresses {
			if slices.Contains(Links, a.Link) {
				a.Since = 0
				have = append(have, a)
			}
		}
		byText := func(a, b apply.Address) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) }
		slices.SortFunc(have, byText)
		slices.SortFunc(want, byText)
		if !slices.Equal(have, want) {
			c.Errorf("addresses\n%v, want\n%v", have, want)
		}
	}
	compare()
	// Last one first: on Linux the first address of a subnet takes the others along.
	for i := 12; i >= 0; i-- {
		j := slices.IndexFunc(want, func(a apply.Address) bool { return a.Prefix == netip.MustParsePrefix("192.0.2.11/24") })
		if j < 0 {
			j = len(want) - 1
		}
		gone := want[j].Address
		del := apply.Op{Verb: apply.AddressDel, Address: &gone}
		c.do(del)
		c.refused(del, syscall.EADDRNOTAVAIL, "")
		want = slices.Delete(want, j, j+1)
		compare()
	}
	c.refused(addressAdd("absent0", "192.0.2.1/24"), syscall.ENODEV, "")
	c.refused(inverse(addressAdd("absent0", "192.0.2.1/24")), syscall.ENODEV, "")
}

// primaryAddress removes the first address of a subnet, without and with promotion.
func (c *contract) primaryAddress() {
	first, second, other := addressAdd("card0", "192.0.2.10/24"), addressAdd("card0", "192.0.2.11/24"), addressAdd("card0", "192.0.2.12/25")
	for _, promote := range []bool{false, true} {
		c.do(first, second, other, apply.Op{Verb: apply.LinkPromote, Link: "card0", Promote: promote}, inverse(first))
		var have []netip.Prefix
		for _, a := range c.observe().Addresses {
			if a.Link == "card0" && a.Prefix.Addr().Is4() {
				have = append(have, a.Prefix)
			}
		}
		want := []netip.Prefix{other.Address.Prefix}
		if promote {
			want = []netip.Prefix{second.Address.Prefix, other.Address.Prefix}
		}
		slices.SortFunc(have, netip.Prefix.Compare)
		slices.SortFunc(want, netip.Prefix.Compare)
		if !slices.Equal(have, want) {
			c.Errorf("promotion %t: %v, want %v", promote, have, want)
		}
		c.do(inverse(other))
	}
}

func seed() uint64 { return rand.Uint64() }

// owner checks that what bears another protocol is read back with it, and is removed only where
// the operation names its owner.
func (c *contract) owner() {
	c.setUp()
	for _, f := range fib.Families {
		route := routeAdd(fib.Route{Family: f, Table: 10000, Dst: f.Any(), Type: fib.Unicast, Metric: 100, Nexthops: []fib.Nexthop{{Link: "card0", Via: host(subnet(f, 0), 1)}}})
		rule := ruleAdd(fib.Rule{Family: f, Priority: 100, Action: fib.Lookup, Table: 10000})
		for i, op := range []apply.Op{route, rule} {
			op.Owner = fib.Some[uint8](apply.ProtocolStatic)
			c.do(op)
			gone := []error{syscall.ESRCH, syscall.ENOENT}[i]
			ours := inverse(op)
			ours.Owner = fib.Opt[uint8]{}
			if answers := c.kernel.Execute([]apply.Op{ours}); !errors.Is(answers[0], gone) {
				c.Errorf("ip %s: %v, want %v", ours, answers[0], gone)
			}
			c.do(inverse(op))
		}
		for _, r := range c.observe().Rules {
			if r.Protocol == apply.ProtocolStatic {
				c.Errorf("not deleted: %+v", r)
			}
		}
	}
}

// manyAtOnce sends more than any buffer holds, and checks that each error comes with its
// operation.
func (c *contract) manyAtOnce() {
	c.setUp()
	var ops []apply.Op
	bad := map[int]bool{}
	for i := range 5000 {
		r := fib.Route{Family: fib.Inet, Table: uint32(10000 + i), Dst: fib.Inet.Any(), Type: fib.Unicast, Nexthops: []fib.Nexthop{{Link: "card0", Via: host(subnet(fib.Inet, 0), 1)}}}
		if i >= 4900 && i%7 == 0 {
			r.Nexthops = []fib.Nexthop{{Link: "card0", Via: host(subnet(fib.Inet, 77), 1)}}
			bad[i] = true
		}
		ops = append(ops, routeAdd(r))
	}
	carried := 0
	for i, err := range c.kernel.Execute(ops) {
		var e *apply.OpError
		switch {
		case err == nil:
			carried++
			if bad[i] {
				c.Errorf("operation %d was not refused", i)
			}
		case errors.Is(err, apply.ErrNotSent):
			if i < 4900 {
				c.Fatalf("operation %d: %v", i, err)
			}
		case !bad[i] || !errors.As(err, &e) || e.Op.Route.Table != ops[i].Route.Table || !errors.Is(err, syscall.ENETUNREACH):
			c.Fatalf("operation %d: %v", i, err)
		}
	}
	if have := len(c.observe().Routes); have != carried {
		c.Errorf("%d operations were carried out, and there are %d routes", carried, have)
	}
	if answers := c.kernel.Execute(nil); len(answers) != 0 {
		c.Errorf("%v for no operation", answers)
	}
}

// inverses checks that every operation's inverse leaves the kernel as it was.
func (c *contract) inverses() {
	c.setUp()
	s := seed()
	c.Logf("seed %#x", s)
	r := NewRandom(s, Links...)
	before := c.observe()
	var ops []apply.Op
	keys := map[fib.RouteKey]bool{}
	// Routes first: the rules that are there take part in looking up a gateway.
	for len(ops) < 60 {
		if e := r.Route(); !keys[e.Key()] && !twice(e) {
			keys[e.Key()] = true
			ops = append(ops, routeAdd(e))
		}
	}
	for len(ops) < 120 {
		ops = append(ops, ruleAdd(r.Rule()))
	}
	c.do(ops...)
	slices.Reverse(ops)
	for i := range ops {
		ops[i] = inverse(ops[i])
	}
	c.do(ops...)
	after := c.observe()
	if d := Diff(text(before), text(after)); d != "" {
		c.Error(d)
	}
}

// text is a snapshot, one thing a line.
func text(s apply.Snapshot) string {
	var b strings.Builder
	for _, a := range s.Addresses {
		fmt.Fprintf(&b, "%+v\n", a)
	}
	for _, r := range s.Routes {
		fmt.Fprintf(&b, "%+v\n", r)
	}
	for _, r := range s.Rules {
		fmt.Fprintf(&b, "%+v\n", r)
	}
	return b.String()
}
