package lab

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

func TestParseFrame(t *testing.T) {
	t.Parallel()
	ether := func(kind uint16) []byte {
		return binary.BigEndian.AppendUint16(make([]byte, 12), kind)
	}
	// Six words of header: with one option, which moves the ports.
	v4 := append(ether(unix.ETH_P_IP), 0x46, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0,
		192, 0, 2, 10, 203, 0, 113, 10, 1, 1, 1, 0, 0x10, 0x01, 0x00, 0x35)
	src, dst := netip.MustParseAddr("2001:db8:1::10").As16(), netip.MustParseAddr("2001:db8:ffff::10").As16()
	v6 := append(ether(unix.ETH_P_IPV6), 0x60, 0, 0, 0, 0, 0, unix.IPPROTO_TCP, 64)
	v6 = append(append(v6, src[:]...), dst[:]...)
	v6 = append(v6, 0x10, 0x01, 0x00, 0x50)

	for name, test := range map[string]struct {
		frame []byte
		want  sighting
	}{
		"v4, UDP, with an option": {v4, sighting{
			proto: unix.IPPROTO_UDP,
			src:   netip.MustParseAddrPort("192.0.2.10:4097"),
			dst:   netip.MustParseAddrPort("203.0.113.10:53"),
		}},
		"v6, TCP": {v6, sighting{
			proto: unix.IPPROTO_TCP,
			src:   netip.MustParseAddrPort("[2001:db8:1::10]:4097"),
			dst:   netip.MustParseAddrPort("[2001:db8:ffff::10]:80"),
		}},
	} {
		if got, ok := parseFrame(test.frame); !ok || got != test.want {
			t.Errorf("%s: got %+v, %t", name, got, ok)
		}
		for cut := range test.frame {
			if got, ok := parseFrame(test.frame[:cut]); ok {
				t.Errorf("%s, cut to %d bytes: got %+v", name, cut, got)
			}
		}
	}
	if _, ok := parseFrame(append(ether(unix.ETH_P_ARP), make([]byte, 46)...)); ok {
		t.Error("ARP taken for IP")
	}
}

func TestLogLevel(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]int{"<30>eth0: Link UP": 6, "<28>Unknown key": 4, "<3>plain": 3, "no prefix": -1, "<x>y": -1, "<5": -1} {
		level, ok := logLevel(line)
		if !ok {
			level = -1
		}
		if level != want {
			t.Errorf("%s: got %d, want %d", line, level, want)
		}
	}
}

func TestObjectsKeepWhatIsUnknown(t *testing.T) {
	t.Parallel()
	list, err := parseObjects(`[{"priority":5,"src":"all","newthing":"x","table":"77","novelty":null}]`)
	if err != nil {
		t.Fatal(err)
	}
	r := parseRule(Inet, list[0])
	if want := "inet 5: from all lookup 77 newthing x novelty"; r.String() != want || list[0].err != nil {
		t.Errorf("got %q, %v; want %q", r, list[0].err, want)
	}

	list, err = parseObjects(`[{"priority":5,"src":"nonsense","table":"many"}]`)
	if err != nil {
		t.Fatal(err)
	}
	parseRule(Inet, list[0])
	if err := list[0].err; err == nil || !strings.Contains(err.Error(), "src: ") {
		t.Errorf("a wrong address gave %v", err)
	}
}

func TestFilesGoOverTheTree(t *testing.T) {
	t.Parallel()
	files, err := collect(fstest.MapFS{
		"etc/a": {Data: []byte("tree")},
		"etc/b": {Data: []byte("tree"), Mode: 0o600},
	}, map[string]string{"/etc/../etc/a": "single"})
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, f := range files {
		if err := f.write(root); err != nil {
			t.Fatal(err)
		}
	}
	got := fstest.MapFS{}
	for _, f := range files {
		got[f.path] = &fstest.MapFile{Data: f.data, Mode: f.mode}
	}
	if a, b := got["etc/a"], got["etc/b"]; string(a.Data) != "single" || a.Mode != 0o644 || b.Mode != 0o600 {
		t.Errorf("a: %q %o, b: %o", a.Data, a.Mode, b.Mode)
	}
}
