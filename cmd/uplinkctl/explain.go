package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/uplink-generator/uplink-generator/cmd/internal/host"
	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/lookup"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

const explainUsage = `Usage: uplinkctl explain SRC DST [OPTIONS]

Trace one packet rule by rule: which rules select it, what their tables have for
it, why the kernel goes on, and where the packet leaves, each with its line of
the spec. The result is compared with the kernel's own route lookup. SRC is an
address, an uplink (its first address of DST's family), or "-" for none.

Options:
  --mark M       the packet's firewall mark, like 0x10
  --iif LINK     the link it comes in by (default: the host itself sends it)
  --oif LINK     the link that its socket is bound to
  --uid N        the user who sends it (default: root)
  --proto P      tcp, udp, icmp or icmpv6
  --sport N      its source port, with --proto
  --dport N      its destination port, with --proto
  --all          also show the rules that do not select it
  --offline      use the spec alone: what a kernel would do with it in effect
  --root DIR     the host's root directory (default /)
  --json         print one JSON object

Exit status: 0 the packet leaves or arrives; 1 it does not, the host does not
have SRC, or an error; 2 wrong usage.

Examples:
  uplinkctl explain rt2 8.8.8.8
  uplinkctl explain - 2001:db8::1 --mark 0x66
  uplinkctl explain 192.0.2.10 8.8.8.8 --offline --root /srv/image
`

// question is what the user asks of explain.
type question struct {
	src, root            string
	packet               lookup.Packet
	all, offline, asJSON bool
}

func explainCommand() *command {
	var q question
	var set *flag.FlagSet
	return &command{
		name: "explain", usage: explainUsage,
		flags: func(f *flag.FlagSet) {
			set = f
			q.flags(f)
		},
		run: func(args []string, stdout, stderr io.Writer) int {
			words, err := interleaved(set, args)
			switch {
			case errors.Is(err, flag.ErrHelp):
				fmt.Fprint(stdout, explainUsage)
				return run.ExitOK
			case err == nil && len(words) != 2:
				err = fmt.Errorf("%d arguments, want SRC and DST", len(words))
			}
			if err == nil {
				err = q.addresses(words)
			}
			if err != nil {
				return wrongUsage(stderr, explainUsage, err)
			}
			e, err := q.answer(stderr)
			if err == nil && q.asJSON {
				err = e.json(stdout)
			} else if err == nil {
				err = e.text(stdout, q.all)
			}
			if err == nil {
				host.SayWaiting(stderr, e.waiting) // after the answer, where people see it
			}
			if err != nil {
				run.ReportOf(stderr, "uplinkctl", err, "")
				return run.ExitFail
			}
			if e.kernel != nil && !e.agrees && e.result.Reason != lookup.NotADirectWay {
				fmt.Fprintf(stderr, "uplinkctl: DISAGREEMENT: the kernel sends this packet another way than its rules and routes say\n")
				return run.ExitFail
			}
			if !e.ok() || e.broken != nil {
				return run.ExitFail
			}
			return run.ExitOK
		},
	}
}

// interleaved parses options that come after arguments, and returns the arguments.
func interleaved(f *flag.FlagSet, args []string) (words []string, err error) {
	for len(args) > 0 {
		words = append(words, args[0])
		if err := f.Parse(args[1:]); err != nil {
			return nil, ofOptions(f, err)
		}
		args = f.Args()
	}
	return words, nil
}

func (q *question) flags(f *flag.FlagSet) {
	p := &q.packet
	number := func(name, want string, bits int, to func(uint64)) {
		f.Func(name, "", func(s string) error {
			n, err := strconv.ParseUint(s, 0, bits)
			if err != nil {
				return errors.New(want)
			}
			to(n)
			return nil
		})
	}
	number("mark", "a number like 0x10", 32, func(n uint64) { p.Mark = uint32(n) })
	number("uid", "a user's number, like 1000", 32, func(n uint64) { p.UID = fib.Some(uint32(n)) })
	number("sport", "a port's number, like 443", 16, func(n uint64) { p.SPort = uint16(n) })
	number("dport", "a port's number, like 443", 16, func(n uint64) { p.DPort = uint16(n) })
	f.Func("proto", "", func(s string) error {
		// RTM_GETROUTE accepts no others (rtm_getroute_parse_ip_proto in net/ipv4/route.c).
		names := map[string]uint8{"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "6": 6, "17": 17, "1": 1, "58": 58}
		if p.IPProto = names[s]; p.IPProto == 0 {
			return errors.New("the kernel looks up tcp, udp, icmp and icmpv6 only")
		}
		return nil
	})
	f.StringVar(&p.IIF, "iif", "", "")
	f.StringVar(&p.OIF, "oif", "", "")
	rootOption(f, &q.root)
	f.BoolVar(&q.all, "all", false, "")
	f.BoolVar(&q.offline, "offline", false, "")
	f.BoolVar(&q.asJSON, "json", false, "")
}

// addresses reads SRC and DST. An uplink's name waits until the spec is read.
func (q *question) addresses(words []string) error {
	to, err := netip.ParseAddr(words[1])
	if err != nil || to.Zone() != "" {
		return fmt.Errorf("DST is %q and has to be an address, like 8.8.8.8 or 2001:db8::1", words[1])
	}
	q.packet.To = to
	if q.packet.IPProto == 1 && to.Is6() {
		q.packet.IPProto = 58
	}
	if words[0] != "-" {
		q.src = words[0]
		if from, err := netip.ParseAddr(q.src); err == nil && from.Zone() == "" {
			if from.Is4() != to.Is4() {
				return fmt.Errorf("%s and %s are of different families", from, to)
			}
			q.src, q.packet.From = "", from
		}
	}
	if (q.packet.SPort != 0 || q.packet.DPort != 0) && q.packet.IPProto != 6 && q.packet.IPProto != 17 {
		return errors.New("ports need --proto tcp or udp")
	}
	if q.packet.IIF != "" && q.packet.OIF != "" {
		return errors.New("a packet that comes in is bound to no link: give one of --iif and --oif")
	}
	return nil
}

// answer finds the packet's way.
func (q *question) answer(stderr io.Writer) (*explanation, error) {
	root := rootfs.At(q.root)
	s, state, err := run.Check(q.root)
	if err != nil && q.offline {
		return nil, err
	}
	var broken error
	if err != nil && !errors.Is(err, spec.ErrNone) {
		broken = err
		was, ok, err := host.Standing(root, broken, "what is in effect is not known, and what follows is what the host has", stderr)
		if err != nil {
			return nil, err
		}
		if ok {
			s, state = was.Spec(), was.State
		}
	}
	if q.offline {
		if q.packet.From, err = q.source(s, lookup.FromState(state), state.Syntax().Device); err != nil {
			return nil, err
		}
		e := newExplanation(q.packet, lookup.FromState(state), state)
		e.result.Unheld = e.result.Unheld && !mayHold(s, q.packet.From)
		return e, nil
	}
	if s != nil && broken == nil {
		state = run.Lay(root, cmp.Or(gen.ReadCommandLine(root).Backend, s.Backend), state)
	}
	h, err := openLookup(root, state)
	if err != nil {
		return nil, err
	}
	defer h.kernel.Close()
	if q.packet.From, err = q.source(s, h.host, h.device); err != nil {
		return nil, err
	}
	for _, name := range []string{q.packet.IIF, q.packet.OIF} {
		if name != "" && !slices.Contains(h.links(), name) {
			return nil, fmt.Errorf("there is no link %s: there are %s", name, some(h.links()))
		}
	}
	e := newExplanation(q.packet, h.host, state)
	e.owners, e.broken = h.owners, broken
	e.waiting, e.dead = h.concerned(e, q.src, state), h.deadOf(e, q.src, state.Failover.Table)
	return e, h.ask(e)
}

// mayHold says whether a spec has an address that others bring, or may learn it: without a
// kernel, nobody knows which ones there are.
func mayHold(s *spec.Spec, a netip.Addr) bool {
	return slices.ContainsFunc(s.Uplinks, func(u spec.Uplink) bool {
		return u.Learns(fib.FamilyOf(a)) || slices.ContainsFunc(u.Addresses, func(p netip.Prefix) bool { return p.Addr() == a })
	})
}

// source finds the address of an uplink: in the spec or, as it may have been learned, on its
// link.
func (q *question) source(s *spec.Spec, h lookup.Host, device func(string) string) (netip.Addr, error) {
	f := fib.FamilyOf(q.packet.To)
	if q.src == "" {
		return q.packet.From, nil
	}
	if s == nil || s.Uplink(q.src) == nil {
		return netip.Addr{}, fmt.Errorf("SRC is %q and has to be an address, \"-\", or an uplink of the spec%s", q.src, uplinkNames(s))
	}
	for _, p := range s.Uplink(q.src).Addresses {
		if fib.FamilyOf(p.Addr()) == f {
			return p.Addr(), nil
		}
	}
	for _, a := range h.Addresses {
		if a.Family() == f && a.Link == device(q.src) && !a.Prefix.Addr().IsLinkLocalUnicast() {
			return a.Prefix.Addr(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("uplink %s has no %s address: give as SRC an address, or \"-\" for none", q.src, f)
}

// uplinkNames lists the uplinks of a spec, if there is one, to follow a message that asks for
// one.
func uplinkNames(s *spec.Spec) string {
	if s == nil {
		return ", which there is not"
	}
	var names []string
	for _, u := range s.Uplinks {
		names = append(names, u.Name)
	}
	return ": " + some(names)
}

// some lists names; of many, only the first.
func some(names []string) string {
	const most = 8
	if n := len(names) - most; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n)
	}
	return strings.Join(names, ", ")
}
