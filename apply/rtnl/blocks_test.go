package rtnl_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/gen/blocks"
	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// TestBlocksInTheKernel brings the uplinks of a spec about flat, then in blocks, and asks the
// kernel each time for the way of every source, and of one that no uplink has. Then another run
// finds nothing to do, and a change of one uplink touches only its block.
func TestBlocksInTheKernel(t *testing.T) {
	t.Parallel()
	const n = 300
	text := func(moved string) string {
		var b strings.Builder
		for i := range n {
			address := fmt.Sprintf("10.%d.%d.2", i/200, i%200)
			if i == 150 {
				address = moved
			}
			fmt.Fprintf(&b, "[uplink.u%03d]\ninterface = \"e%d\"\ntable = %d\naddresses = [\"%s/32\", \"2001:db8:%x::2/128\"]\n[[uplink.u%03d.route]]\nto = \"default\"\n", i, i%3, 1000+i, address, i, i)
		}
		return b.String()
	}
	ns := kerneltest.NewNamespace(t)
	ns.Card("e0", "e1", "e2")
	kernel := ns.Kernel()
	a := apply.Applier{Kernel: kernel, Hardware: ns.Hardware()}
	var state fib.State // that was brought about last
	bringAbout := func(text string, inBlocks bool) apply.Result {
		t.Helper()
		state = compile(t, text)
		if inBlocks {
			laid, o := blocks.Lay(state, 0)
			if o != nil {
				t.Fatalf("%+v", o)
			}
			state = laid
		}
		r, err := a.Apply(context.Background(), state)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	ways := func() (list []apply.Way) {
		t.Helper()
		for i := range n {
			for _, p := range []apply.Packet{
				{From: netip.AddrFrom4([4]byte{10, byte(i / 200), byte(i % 200), 2}), To: netip.MustParseAddr("8.8.8.8")},
				{From: netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::2", i)), To: netip.MustParseAddr("2001:4860:4860::8888")},
			} {
				if i == 150 {
					continue
				}
				w, err := kernel.RouteGet(p)
				if err != nil {
					t.Fatalf("%+v: %v", p, err)
				}
				if want := fmt.Sprintf("e%d", i%3); w.Device != want || w.Table != uint32(1000+i) {
					t.Fatalf("%+v: %+v, want %s and table %d", p, w, want, 1000+i)
				}
				w.Src = netip.Addr{} // the packet has its own; this changes while addresses are tentative
				list = append(list, w)
			}
		}
		return list
	}
	spec1, spec2 := text("10.9.9.9"), text("10.0.7.77")
	bringAbout(spec1, false)
	flat := ways()
	bringAbout(spec1, true)
	if laid := ways(); fmt.Sprint(laid) != fmt.Sprint(flat) {
		t.Error("in blocks the kernel sends them another way")
	}
	if r := bringAbout(spec1, true); len(r.Done) > 0 {
		t.Errorf("a second run does %d things, the first: %s", len(r.Done), r.Done[0])
	}
	r := bringAbout(spec2, true)
	block := netip.MustParsePrefix("10.0.0.0/20")
	for _, o := range r.Done {
		// The block that it belongs into is full, and is divided.
		if r := o.Rule; r != nil && r.Action == fib.Lookup && r.Table != 1150 && !block.Overlaps(r.From) && !block.Overlaps(r.To) {
			t.Errorf("another uplink's rule is touched: %s", o)
		}
	}
	t.Logf("another address of one of %d uplinks: %d operations", n, len(r.Done))
	if len(r.Done) > 2*(2*16+9) {
		t.Errorf("%d operations for one address", len(r.Done))
	}
	ways()
	// A rule of somebody else's that all packets are led past is reported.
	ns.IP("rule add priority 12000 from 192.0.2.0/24 lookup 7", "rule add priority 20000 from 192.0.2.0/24 lookup 7")
	jumped := hazards(t, &a, state, "is never asked")
	if len(jumped) != 1 || !strings.Contains(jumped[0], "(10803 to 13556): priority 12000 from 192.0.2.0/24 lookup 7") {
		t.Errorf("hazards: %q", jumped)
	}
	// So is one that leads others past some of ours, but not one that leads nowhere.
	ns.IP("rule add priority 10802 fwmark 7 goto 12000", "rule add priority 10802 fwmark 8 goto 12001")
	past := hazards(t, &a, state, "leads packets past")
	if len(past) != 1 || !strings.HasSuffix(past[0], "past rules of the uplinks (priority 10803 and on): priority 10802 from all fwmark 0x7/0xffffffff goto 12000") {
		t.Errorf("hazards: %q", past)
	}
	bringAbout(spec1, false)
	if back := ways(); fmt.Sprint(back) != fmt.Sprint(flat) {
		t.Error("flat again, the kernel sends them another way")
	}
}

// TestAGotoThatSelectsJumpsOverNobody has somebody else's rule behind a goto that only marked
// packets follow: all other packets reach it, and nothing is reported.
func TestAGotoThatSelectsJumpsOverNobody(t *testing.T) {
	t.Parallel()
	ns := kerneltest.NewNamespace(t)
	ns.Card("e0")
	ns.IP("rule add priority 150 from 192.0.2.0/24 lookup 7")
	for selector, jumped := range map[string]bool{"fwmark = 1": false, "iif = \"e0\"": false, "from = \"0.0.0.0/0\"": true} {
		a, state := applied(t, ns, "[uplink.a]\ninterface = \"e0\"\naddresses = [\"198.51.100.2/24\"]\n[[uplink.a.rule]]\npriority = 100\ngoto = 200\nfamily = \"ipv4\"\n"+selector+"\n")
		v, err := a.Verify(state)
		if err != nil {
			t.Fatal(err)
		}
		if said := strings.Contains(fmt.Sprint(v.Hazards), "is never asked"); said != jumped {
			t.Errorf("%s: %v", selector, v.Hazards)
		}
	}
}
