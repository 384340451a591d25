// Package rtnl is the running kernel behind apply.Kernel: rtnetlink(7), for the network namespace
// of the thread that made it.
//
// Neighbours come from github.com/vishvananda/netlink. Rules, routes, addresses and links have
// codecs of our own; each file says why. Requests are pipelined: many are sent at once, and only
// the last one asks for an acknowledgement. Each error still finds its operation, because the
// kernel answers every request that it refuses.
package rtnl

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Kernel is an apply.Kernel. It is not safe for concurrent use.
type Kernel struct {
	socket     *socket
	neighbours *netlink.Handle
	byName     map[string]uint32 // as of the last Observe
	byID       map[uint32]string

	sent int
}

// New opens the network namespace of the calling thread. Close it after use.
func New() (*Kernel, error) {
	s, err := dial()
	if err != nil {
		return nil, err
	}
	neighbours, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		s.close()
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &Kernel{socket: s, neighbours: neighbours, byName: map[string]uint32{}, byID: map[uint32]string{}}, nil
}

// Close closes the sockets.
func (k *Kernel) Close() {
	k.socket.close()
	k.neighbours.Close()
}

// Sent counts the changes that were requested from the kernel so far.
func (k *Kernel) Sent() int { return k.sent }

// HasInet6 says whether the kernel has IPv6 at all (not with ipv6.disable=1). It asks for a way
// to ::1: without IPv6 the kernel has no handler for that (EOPNOTSUPP, rtnetlink_rcv_msg in
// net/core/rtnetlink.c), and any other answer comes from IPv6. A socket of AF_INET6 would tell
// too, but a service with RestrictAddressFamilies= may not open one.
func (k *Kernel) HasInet6() bool {
	_, err := k.RouteGet(apply.Packet{To: netip.IPv6Loopback()})
	return !errors.Is(err, unix.EOPNOTSUPP)
}

// MarksAddresses says whether the kernel keeps the owner of an address (IFA_PROTO, since Linux
// 5.18). Under `setarch --uname-2.6` a program takes the kernel for one that does not.
func MarksAddresses() bool { return marksAddresses() }

var marksAddresses = sync.OnceValue(func() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	major, rest, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), ".")
	minor := rest[:max(0, len(rest)-len(strings.TrimLeft(rest, "0123456789")))]
	ma, _ := strconv.Atoi(major)
	mi, _ := strconv.Atoi(minor)
	return ma > 5 || ma == 5 && mi >= 18
})

func (k *Kernel) name(index uint32) string {
	if n, ok := k.byID[index]; ok {
		return n
	}
	return fmt.Sprintf("if%d", index)
}

func (k *Kernel) index(name string) uint32 { return k.byName[name] }

// Observe implements apply.Kernel.
func (k *Kernel) Observe(scope apply.Scope) (apply.Snapshot, error) {
	var s apply.Snapshot
	var err error
	if scope.Has(apply.Links) {
		if s.Links, err = k.observeLinks(); err != nil {
			return s, fmt.Errorf("read the links: %w", err)
		}
	}
	if scope.Has(apply.Addresses) {
		if s.Addresses, err = k.addresses(); err != nil {
			return s, fmt.Errorf("read the addresses: %w", err)
		}
	}
	for _, f := range scope.Families() {
		if scope.Has(apply.Rules) {
			rules, err := k.rules(f)
			if isNoFamily(err) {
				err = k.withoutRules(f, err)
			}
			if err != nil {
				return s, fmt.Errorf("read the %s rules: %w", f, err)
			}
			s.Rules = join(s.Rules, rules)
		}
		if scope.Has(apply.Routes) {
			routes, err := k.routes(f, scope)
			if err != nil && !isNoFamily(err) {
				return s, fmt.Errorf("read the %s routes: %w", f, err)
			}
			s.Routes = join(s.Routes, routes)
		}
	}
	return s, nil
}

// ErrNoRules says that the kernel has a family, but routes it by destination alone.
var ErrNoRules = errors.New("this kernel was built without policy routing (CONFIG_IP_MULTIPLE_TABLES, CONFIG_IPV6_MULTIPLE_TABLES): there is one routing table, and no rules")

// withoutRules returns why there are no rules of a family: nil where the kernel lacks the family
// itself, as with ipv6.disable=1. Every kernel here has IPv4.
func (k *Kernel) withoutRules(f fib.Family, err error) error {
	if f == fib.Inet6 && !k.HasInet6() {
		return nil
	}
	return fmt.Errorf("%w (%w)", ErrNoRules, err)
}

// isNoFamily says whether a dump failed because the kernel lacks the family.
func isNoFamily(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPFNOSUPPORT)
}

// neighbourStates are the names in ip-neighbour(8). A neighbour is in one state at a time.
var neighbourStates = map[int]string{
	unix.NUD_INCOMPLETE: "incomplete", unix.NUD_REACHABLE: "reachable", unix.NUD_STALE: "stale", unix.NUD_DELAY: "delay",
	unix.NUD_PROBE: "probe", unix.NUD_FAILED: "failed", unix.NUD_NOARP: "noarp", unix.NUD_PERMANENT: "permanent",
}

// Neighbours implements apply.Kernel.
func (k *Kernel) Neighbours() (list []apply.Neighbour, err error) {
	for _, f := range fib.Families {
		found, err := k.neighbours.NeighList(0, int(f))
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("read the %s neighbours: %w", f, err)
		}
		for _, n := range found {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				list = append(list, apply.Neighbour{
					Link: k.name(uint32(n.LinkIndex)), Addr: addr.Unmap(),
					State: neighbourStates[n.State],
				})
			}
		}
	}
	return list, nil
}

// Execute implements apply.Kernel.
func (k *Kernel) Execute(ops []apply.Op) []error {
	answers := make([]error, len(ops))
	for at := 0; at < len(ops); {
		n := min(k.socket.burst, len(ops)-at)
		failed := k.burst(ops[at:at+n], answers[at:at+n])
		if at += n; failed {
			for i := at; i < len(ops); i++ {
				answers[i] = apply.ErrNotSent
			}
			break
		}
	}
	return answers
}

// burst sends operations in one go and reads which ones the kernel refuses.
func (k *Kernel) burst(ops []apply.Op, answers []error) (failed bool) {
	var e encoder
	e.b = make([]byte, 0, 128*len(ops))
	first := k.socket.seq + 1
	for i, o := range ops {
		flags := uint16(0)
		if i == len(ops)-1 {
			flags = unix.NLM_F_ACK
		}
		k.encode(&e, o, flags, k.socket.next())
	}
	lost := func(err error) bool {
		for i := range answers {
			if answers[i] == nil {
				answers[i] = fmt.Errorf("ip %s: %w: %w", ops[i], apply.ErrUnanswered, err)
			}
		}
		return true
	}
	if err := k.socket.send(e.b); err != nil {
		for i := range answers {
			answers[i] = &apply.OpError{Op: ops[i], Err: err}
		}
		return true
	}
	k.sent += len(ops)
	for done := false; !done; {
		err := k.socket.receive(func(m message) error {
			i := int(m.seq - first)
			if m.typ != unix.NLMSG_ERROR || i < 0 || i >= len(ops) {
				return nil
			}
			if err := parseAnswer(m); err != nil {
				failed = true
				answers[i] = opError(ops[i], err)
			}
			done = i == len(ops)-1
			return nil
		})
		if err != nil {
			return lost(err)
		}
	}
	return failed
}

func opError(o apply.Op, err error) error {
	var r *refusal
	if errors.As(err, &r) {
		return &apply.OpError{Op: o, Msg: r.text, Err: r.errno}
	}
	return &apply.OpError{Op: o, Err: err}
}

// encode writes the request for one operation.
func (k *Kernel) encode(e *encoder, o apply.Op, flags uint16, seq uint32) {
	const add = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	switch o.Verb {
	case apply.LinkUp, apply.LinkMTU:
		e.begin(unix.RTM_NEWLINK, flags, seq)
		header := make([]byte, unix.SizeofIfInfomsg)
		native.PutUint32(header[4:], k.index(o.Link))
		if o.Verb == apply.LinkUp {
			native.PutUint32(header[8:], unix.IFF_UP)
			native.PutUint32(header[12:], unix.IFF_UP)
		}
		if e.bytes(header...); o.Verb == apply.LinkMTU {
			e.attr32(unix.IFLA_MTU, o.MTU)
		}
	case apply.LinkPromote:
		e.begin(unix.RTM_NEWLINK, flags, seq)
		e.encodePromote(k.index(o.Link), o.Promote)
	case apply.AddressAdd:
		e.begin(unix.RTM_NEWADDR, flags|add, seq)
		e.encodeAddress(o.Address, false, k.index)
	case apply.AddressDel:
		e.begin(unix.RTM_DELADDR, flags, seq)
		e.encodeAddress(o.Address, true, k.index)
	case apply.RouteAdd:
		e.begin(unix.RTM_NEWROUTE, flags|add, seq)
		e.encodeRoute(o.Route, o.Protocol(), false, k.index)
	case apply.RouteReplace:
		e.begin(unix.RTM_NEWROUTE, flags|unix.NLM_F_CREATE|unix.NLM_F_REPLACE, seq)
		e.encodeRoute(o.Route, o.Protocol(), false, k.index)
	case apply.RouteDel:
		e.begin(unix.RTM_DELROUTE, flags, seq)
		e.encodeRoute(o.Route, o.Protocol(), true, k.index)
	case apply.RuleAdd:
		// Not NLM_F_EXCL: for each rule the kernel would walk its list once more, and the plan
		// adds only what the dump has just shown to be missing.
		e.begin(unix.RTM_NEWRULE, flags|unix.NLM_F_CREATE, seq)
		e.encodeRule(o.Rule, o.Protocol())
	case apply.RuleDel:
		e.begin(unix.RTM_DELRULE, flags, seq)
		e.encodeRule(o.Rule, o.Protocol())
	}
	e.end()
}

// encodePromote writes the payload of the RTM_NEWLINK that sets promote_secondaries, as sysctl
// does, but in the socket's namespace and on the link with this index (inet_set_link_af,
// net/ipv4/devinet.c).
func (e *encoder) encodePromote(index uint32, on bool) {
	const (
		inetConf = 1  // IFLA_INET_CONF, include/uapi/linux/if_link.h
		promote  = 20 // IPV4_DEVCONF_PROMOTE_SECONDARIES, include/uapi/linux/ip.h
	)
	header := make([]byte, unix.SizeofIfInfomsg)
	native.PutUint32(header[4:], index)
	e.bytes(header...)
	spec := e.nest(unix.IFLA_AF_SPEC)
	inet := e.nest(unix.AF_INET)
	conf := e.nest(inetConf)
	value := uint32(0)
	if on {
		value = 1
	}
	e.attr32(promote, value)
	e.unnest(conf)
	e.unnest(inet)
	e.unnest(spec)
}
