package host

import (
	"fmt"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// sayLost names what others had on the host's links before the run and networkd has removed: when
// networkd configures a link again it drops addresses and routes that it did not make, for
// example those of keepalived or bird (KeepConfiguration= in systemd.network(5)). They are not
// put back, because their owner may have given them up a moment before.
func (r *reload) sayLost() error {
	if !r.changed {
		return nil
	}
	have, err := r.Kernel.Observe(apply.Scope{Foreign: true})
	if err != nil {
		return err
	}
	lost := r.lost(have)
	if len(lost) == 0 {
		return nil
	}
	fmt.Fprintln(r.stderr, "uplinkctl: systemd-networkd has configured links again, and taken away what others had there (how it stays is under NETWORKD in uplink.toml(5)). To bring it back:")
	const most = 16
	for _, o := range lost[:min(len(lost), most)] {
		fmt.Fprintf(r.stderr, "  ip %s\n", o.Batch())
	}
	if more := len(lost) - most; more > 0 {
		fmt.Fprintf(r.stderr, "  and %d more\n", more)
	}
	return nil
}

// lost returns the operations that would bring back what others had before and have no more.
func (r *reload) lost(have apply.Snapshot) (lost []apply.Op) {
	links := map[string]bool{}
	for _, l := range have.Links {
		links[l.Name] = true
	}
	now := contents(have)
	gone := func(key string) bool { return key != "" && now[key] == 0 }
	for _, a := range r.before.Addresses {
		if a.Ours || a.Valid > 0 || !links[a.Link] || !gone(addressKey(&a)) {
			continue
		}
		if _, old := r.oldHas.Address(a.Address); !old {
			lost = append(lost, apply.Op{Verb: apply.AddressAdd, Address: &a.Address})
		}
	}
	for _, e := range r.before.Routes {
		learned := e.Protocol == apply.ProtocolRA || e.Protocol == apply.ProtocolDHCP
		if e.Ours() || learned || e.Table == fib.TableLocal || e.Link != "" && !links[e.Link] || !gone(routeKey(&e)) {
			continue
		}
		_, old := r.oldHas.Route(e.Route)
		if old = old || e.MayBeNetworkds() && r.oldRoutes[e.Key()]; !old {
			lost = append(lost, apply.Op{Verb: apply.RouteAdd, Route: &e.Route, Owner: fib.Some(e.Protocol)})
		}
	}
	return lost
}
