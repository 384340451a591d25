package check

import (
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// closed finds rules for an uplink that fails closed which do so for IPv4 alone. Where an
// IPv6 lookup without a source is refused, the kernel picks a source and asks again
// (ip6_dst_lookup_tail in net/ipv6/ip6_output.c): a rule for that source that comes before
// lets the packet out. Automatic priorities see to it. A packet that is forwarded has a source.
func (c *checker) closed() {
	sources := fib.Rule{} // the first rule for a source of an uplink with another way out
	var other *spec.Uplink
	see := func(r fib.Rule) {
		u := c.owners[r.Table]
		if r.Family == fib.Inet6 && r.Action == fib.Lookup && !r.Not && u != nil && u.Fallthrough == 0 && sent(&r) &&
			(u.LearnsGateway(fib.Inet6) || c.leadsOut(r.Table, fib.Inet6)) && (other == nil || r.Priority < sources.Priority) {
			sources, other = r, u
		}
	}
	for _, r := range c.state.Rules {
		if r.From.Bits() > 0 && !c.jumped(&r) {
			see(r)
		}
	}
	for _, l := range c.state.Links {
		for _, r := range l.Learn.Rules {
			if !r.To {
				see(r.Rule)
			}
		}
	}
	if other == nil {
		return
	}
	warned := map[*spec.Uplink]bool{}
	for _, r := range c.state.Rules {
		u := c.owners[r.Table]
		if r.Family != fib.Inet6 || r.Action != fib.Lookup || u == nil || u.Fallthrough == 0 || warned[u] ||
			r.From.Bits() > 0 || !sent(&r) || c.toItself(&r) || r.Priority <= sources.Priority {
			continue
		}
		warned[u] = true
		c.warn(ClosedLeak, u, "leave the priorities out, or give this one's rules a lower `priority` than the other's",
			"IPv6 packets for uplink `%s` leave by uplink `%s` while its own ways are gone: the kernel then picks a source for them, and the rule for that comes first (priority %d, before %d)",
			u.Name, other.Name, sources.Priority, r.Priority)
	}
}

// sent says whether a rule may select what the host itself sends.
func sent(r *fib.Rule) bool { return r.IIF == "" || r.IIF == "lo" }
