package host

import (
	"context"
	"fmt"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/cmd/internal/bus"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/units"
)

// relearn asks networkd once more for links that had an IPv4 address before, should learn one
// now, and have none. When a DHCP server gives an address that was in the file, networkd 252
// removes that address from the link, and still thinks that it has a lease.
func (r *reload) relearn(ctx context.Context) error {
	var lost []apply.ResolvedLink
	look := func() (bool, error) {
		var err error
		lost, err = r.withoutAddress()
		return len(lost) == 0, err
	}
	if there, err := poll(ctx, leftTime, look); there || err != nil {
		return err
	}
	for _, l := range lost {
		if err := bus.ReconfigureLink(ctx, r.Root, l.Device.Index); err != nil {
			return fmt.Errorf("%s: %w", l.Device.Name, err)
		}
	}
	// If there is no server, nothing can be mended here.
	_, err := poll(ctx, patience, look)
	return err
}

// withoutAddress returns networkd's links that learn IPv4 addresses and have lost the last one
// that they had before the run.
func (r *reload) withoutAddress() ([]apply.ResolvedLink, error) {
	have, err := r.Kernel.Observe(apply.Scope{Only: apply.Links | apply.Addresses})
	if err != nil {
		return nil, err
	}
	want, err := apply.Resolve(r.state, have, r.Hardware)
	if err != nil {
		return nil, err
	}
	var lost []apply.ResolvedLink
	progress := units.LinkProgress(r.Root)
	for _, l := range want.Links {
		if l.Learn.DHCP4 && hasInet(r.before, l.Device.Name) && !hasInet(have, l.Device.Name) && progress(l.Device.Index, fib.Link{}) != units.NotNetworkds {
			lost = append(lost, l)
		}
	}
	return lost, nil
}

// hasInet says whether a link has an IPv4 address.
func hasInet(s apply.Snapshot, device string) bool {
	for _, a := range s.Addresses {
		if a.Link == device && a.Family() == fib.Inet {
			return true
		}
	}
	return false
}
