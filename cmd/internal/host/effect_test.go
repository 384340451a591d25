package host

import (
	"errors"
	"io"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// sourceless is a kernel that refuses routes so many times.
type sourceless struct {
	*kerneltest.Fake
	times int
	errno syscall.Errno
}

// Execute implements apply.Kernel.
func (k *sourceless) Execute(ops []apply.Op) []error {
	var answers []error
	for _, o := range ops {
		if o.Verb == apply.RouteAdd && k.times > 0 {
			k.times--
			answers = append(answers, &apply.OpError{Op: o, Msg: "Invalid prefsrc address", Err: k.errno})
			continue
		}
		answers = append(answers, k.Fake.Execute([]apply.Op{o})...)
	}
	return answers
}

// TestSettleTriesAgain refuses a route of a learned address, as the kernel does at the moment
// in which networkd puts the address of a DHCP server in the place of its own.
func TestSettleTriesAgain(t *testing.T) {
	const ever = 1 << 20
	for _, c := range []struct {
		name     string
		times    int
		errno    syscall.Errno
		networkd bool
		want     error
	}{
		{"for a moment", 2, syscall.EINVAL, true, nil},
		{"for ever", ever, syscall.EINVAL, true, syscall.EINVAL},
		{"for another reason", 1, syscall.EPERM, true, syscall.EPERM},
		{"without networkd", 1, syscall.EINVAL, false, syscall.EINVAL},
	} {
		t.Run(c.name, func(t *testing.T) {
			kernel := &sourceless{kerneltest.NewFake("eth0"), c.times, c.errno}
			kernel.Addresses = append(kernel.Addresses, apply.Address{Address: fib.Address{Link: "eth0", Prefix: netip.MustParsePrefix("192.0.2.10/24")}})
			r := &reload{
				Host:   &Host{Root: rootfs.At(t.TempDir()), Applier: apply.Applier{Kernel: kernel}},
				stderr: io.Discard, wait: 300 * time.Millisecond, backend: spec.Auto, networkd: c.networkd,
				state: fib.State{Links: []fib.Link{{
					Name: "a", Uplinks: []fib.Named{{Name: "a"}}, Match: fib.Match{Name: "eth0"}, Learn: fib.Learn{DHCP4: true, Table: 7},
				}}},
			}
			if err := r.settle(t.Context()); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if c.want == nil && len(kernel.Routes) != 1 {
				t.Errorf("the kernel holds %v", kernel.Routes)
			}
		})
	}
}
