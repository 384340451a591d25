package lookup_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/lookup"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// FuzzLookup checks that each packet through each State comes to an end, in time, the same
// one each time, and by a way that the State has. The lab checks that it is the kernel's way.
func FuzzLookup(f *testing.F) {
	files, _ := filepath.Glob("../../integration/examples/*/root/etc/uplink/uplink.toml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, packet := range [][2]string{{"192.0.2.10", "203.0.113.1"}, {"2001:db8:1::10", "2001:db8:9::1"}, {"", "198.51.100.10"}, {"0.0.0.0", "255.255.255.255"}, {"::1", "ff02::1"}} {
			f.Add(data, packet[0], packet[1], uint32(0), uint8(0))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, from, to string, mark uint32, proto uint8) {
		s, err := spec.Parse("f", data)
		if err != nil {
			return
		}
		state, err := gen.Compile(s)
		if err != nil {
			return
		}
		p := lookup.Packet{Mark: mark, IPProto: proto}
		p.From, _ = netip.ParseAddr(from)
		if p.To, err = netip.ParseAddr(to); err != nil || p.To.Zone() != "" || p.From.Zone() != "" || p.From.IsValid() && fib.FamilyOf(p.From) != fib.FamilyOf(p.To) || p.To.Is4In6() || p.From.Is4In6() {
			return
		}
		start := time.Now()
		host := lookup.FromState(state)
		r := lookup.New(host).Lookup(p)
		again := lookup.New(host).Lookup(p)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("it takes %v", took)
		}
		if r.OK() != again.OK() || r.Way != again.Way {
			t.Errorf("%+v, and then %+v", r.Way, again.Way)
		}
		if last, ok := r.Last(); r.OK() && r.Way.Via.IsValid() && (!ok || last.Route.Type != fib.Unicast) {
			t.Errorf("by %+v, which no route says", r.Way)
		}
	})
}
