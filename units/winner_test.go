package units

import (
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

const (
	etc = "/etc/systemd/network/"
	run = "/run/systemd/network/"
	lib = "/usr/lib/systemd/network/"
)

func TestTheFileThatNetworkdWouldTakeIsFound(t *testing.T) {
	eth0, anyMAC := fib.Match{Name: "eth0"}, fib.Match{MAC: "02:00:00:00:00:01"}
	both := fib.Match{Name: "eth0", MAC: "02:00:00:00:00:01"}
	// A running host's links: a card, a bridge on it with the card's own address, a
	// wlan card, a tunnel, and lo.
	sys := map[string]string{
		"/sys/class/net/eth0/address":       "02:00:00:00:00:01\n",
		"/sys/class/net/eth0/type":          "1\n",
		"/sys/class/net/eth0/uevent":        "INTERFACE=eth0\nIFINDEX=2\n",
		"/sys/class/net/eth0/device/driver": "-> ../../../../bus/pci/drivers/igb_core",
		"/sys/class/net/eth0/ifindex":       "2\n",
		"/run/udev/data/n2":                 "I:4711\nE:ID_PATH=pci-0000:00:1f.6\nE:ID_NET_DRIVER=igb\n",
		"/sys/class/net/br0/address":        "02:00:00:00:00:01\n",
		"/sys/class/net/br0/type":           "1\n",
		"/sys/class/net/br0/uevent":         "DEVTYPE=bridge\nINTERFACE=br0\n",
		"/sys/class/net/wlan0/address":      "02:00:00:00:00:03\n",
		"/sys/class/net/wlan0/type":         "1\n",
		"/sys/class/net/wlan0/uevent":       "DEVTYPE=wlan\n",
		"/sys/class/net/wg0/type":           "65534\n",
		"/sys/class/net/lo/address":         "00:00:00:00:00:00\n",
		"/sys/class/net/lo/type":            "772\n",
	}
	with := func(more map[string]string) map[string]string {
		all := maps.Clone(sys)
		maps.Copy(all, more)
		return all
	}
	const eth0File = "[Match]\nName=eth0\n"
	tests := []struct {
		name    string
		files   map[string]string
		sys     map[string]string
		match   fib.Match
		want    string // the path of the file; "" for none
		because string // a part of the reason why it is unknown; "" if all is known
	}{
		{"no files", nil, nil, eth0, "", ""},
		{"one that matches", map[string]string{etc + "10-a.network": eth0File}, nil, eth0, etc + "10-a.network", ""},
		{"one that does not", map[string]string{etc + "10-a.network": "[Match]\nName=eth1\n"}, nil, eth0, "", ""},
		{"the first by name, not by directory", map[string]string{etc + "20-a.network": eth0File, lib + "10-b.network": eth0File}, nil, eth0, lib + "10-b.network", ""},
		{"capitals come before small letters", map[string]string{etc + "a.network": eth0File, etc + "B.network": eth0File}, nil, eth0, etc + "B.network", ""},
		{"of one name that in /etc", map[string]string{lib + "10-a.network": eth0File, run + "10-a.network": eth0File, etc + "10-a.network": eth0File}, nil, eth0, etc + "10-a.network", ""},
		{"of one name that in /run before /usr", map[string]string{lib + "10-a.network": eth0File, run + "10-a.network": eth0File}, nil, eth0, run + "10-a.network", ""},
		{"one in /etc hides one in /usr even where it does not match", map[string]string{etc + "10-a.network": "[Match]\nName=eth1\n", lib + "10-a.network": eth0File}, nil, eth0, "", ""},
		{"in /usr/local and in /lib", map[string]string{"/usr/local/lib/systemd/network/10-a.network": eth0File, "/lib/systemd/network/05-a.network": eth0File}, nil, eth0, "/lib/systemd/network/05-a.network", ""},
		{"masked by a link to /dev/null", map[string]string{etc + "10-a.network": "-> /dev/null", lib + "10-a.network": eth0File}, nil, eth0, "", ""},
		{"masked by an empty file", map[string]string{etc + "10-a.network": "", lib + "10-a.network": eth0File}, nil, eth0, "", ""},
		{"a link to another file is followed inside the root", map[string]string{etc + "10-a.network": "-> /srv/eth0", "/srv/eth0": eth0File}, nil, eth0, etc + "10-a.network", ""},
		{"other names are no .network files", map[string]string{etc + "10-a.netdev": eth0File, etc + "10-a.network.bak": eth0File, etc + "10-a.conf": eth0File}, nil, eth0, "", ""},

		{"a drop-in adds a key", map[string]string{lib + "10-a.network": "[Match]\nName=eth*\n", etc + "10-a.network.d/x.conf": "[Match]\nMACAddress=02:00:00:00:00:09\n"}, nil, both, "", ""},
		{"a drop-in adds to a list", map[string]string{lib + "10-a.network": "[Match]\nName=eth1\n", etc + "10-a.network.d/x.conf": eth0File}, nil, eth0, lib + "10-a.network", ""},
		{"a drop-in clears a list", map[string]string{lib + "10-a.network": eth0File, etc + "10-a.network.d/x.conf": "[Match]\nName=\nName=eth1\n"}, nil, eth0, "", ""},
		{"drop-ins are read by name, whatever their directory", map[string]string{lib + "10-a.network": eth0File, etc + "10-a.network.d/1.conf": "[Match]\nName=\n", lib + "10-a.network.d/2.conf": eth0File}, nil, eth0, lib + "10-a.network", ""},
		{"a drop-in in /etc hides one of the same name in /usr", map[string]string{lib + "10-a.network": eth0File, lib + "10-a.network.d/1.conf": "[Match]\nName=\nName=eth1\n", etc + "10-a.network.d/1.conf": "[Network]\n"}, nil, eth0, lib + "10-a.network", ""},
		{"a drop-in of another file", map[string]string{lib + "10-a.network": eth0File, etc + "10-b.network.d/x.conf": "[Match]\nName=\n"}, nil, eth0, lib + "10-a.network", ""},
		{"what is in the directory and is no .conf", map[string]string{lib + "10-a.network": eth0File, etc + "10-a.network.d/x.conf.bak": "[Match]\nName=\n"}, nil, eth0, lib + "10-a.network", ""},
		{"a drop-in of ours takes no part", map[string]string{lib + "10-a.network": eth0File, run + "10-a.network.d/10-uplink-x.conf": madeBy + "x\n[Match]\nName=\n"}, nil, eth0, lib + "10-a.network", ""},
		{"a drop-in directory that is a file", map[string]string{lib + "10-a.network": eth0File, etc + "10-a.network.d": "x"}, nil, eth0, lib + "10-a.network", ""},

		{"one name of several", map[string]string{etc + "10-a.network": "[Match]\nName=eth1 eth0\n"}, nil, eth0, etc + "10-a.network", ""},
		{"a key that comes twice adds to its list", map[string]string{etc + "10-a.network": "[Match]\nName=eth0\nName=eth1\n"}, nil, eth0, etc + "10-a.network", ""},
		{"an empty value clears the list", map[string]string{etc + "10-a.network": "[Match]\nName=eth0\nName=\n"}, nil, eth0, "", ""},
		{"blanks around the value", map[string]string{etc + "10-a.network": "[Match]\n  Name =  eth0  \n"}, nil, eth0, etc + "10-a.network", ""},
		{"comments", map[string]string{etc + "10-a.network": "# Name=eth1\n[Match]\n; Name=eth1\nName=eth0\n"}, nil, eth0, etc + "10-a.network", ""},
		{"the section twice", map[string]string{etc + "10-a.network": "[Match]\nName=eth0\n[Network]\n[Match]\nMACAddress=02:00:00:00:00:09\n"}, nil, both, "", ""},
		{"the same key in another section is none of [Match]", map[string]string{etc + "10-a.network": "[Link]\nName=eth0\n"}, nil, eth0, "", ""},
		{"a pattern", map[string]string{etc + "10-a.network": "[Match]\nName=e[!n]h?\n"}, nil, eth0, etc + "10-a.network", ""},
		{"a pattern that does not fit", map[string]string{etc + "10-a.network": "[Match]\nName=e[nv]*\n"}, nil, eth0, "", ""},
		{"a pattern that is none", map[string]string{etc + "10-a.network": "[Match]\nName=eth[\n"}, nil, eth0, "", ""},
		{"all names", map[string]string{etc + "99-a.network": "[Match]\nName=*\n"}, nil, anyMAC, etc + "99-a.network", ""},
		{"inverted", map[string]string{etc + "10-a.network": "[Match]\nName=!eth1 eth2\n"}, nil, eth0, etc + "10-a.network", ""},
		{"inverted, and the second of the list", map[string]string{etc + "10-a.network": "[Match]\nName=!eth1 eth0\n"}, nil, eth0, "", ""},
		{"inverted and not inverted, on two lines", map[string]string{etc + "10-a.network": "[Match]\nName=eth*\nName=!eth0\n"}, nil, eth0, "", ""},
		{"all names but one", map[string]string{etc + "10-a.network": "[Match]\nName=* !eth0\n", etc + "20-a.network": "[Match]\nName=* !eth1\n"}, nil, eth0, etc + "20-a.network", ""},
		{"a name after a pattern that does not fit", map[string]string{etc + "10-a.network": "[Match]\nName=wlan* eth0\n", etc + "20-a.network": eth0File}, nil, eth0, etc + "10-a.network", ""},
		{"all keys must match", map[string]string{etc + "10-a.network": "[Match]\nName=eth0\nMACAddress=02:00:00:00:00:02\n"}, nil, both, "", ""},
		{"and do", map[string]string{etc + "10-a.network": "[Match]\nName=eth0\nMACAddress=02:00:00:00:00:01\n"}, nil, both, etc + "10-a.network", ""},
		{"a MAC in capitals", map[string]string{etc + "10-a.network": "[Match]\nMACAddress=02:00:00:00:00:0A 02:00:00:00:00:01\n"}, nil, fib.Match{MAC: "02:00:00:00:00:0a"}, etc + "10-a.network", ""},
		{"a MAC with hyphens", map[string]string{etc + "10-a.network": "[Match]\nMACAddress=02-00-00-00-00-0A\n"}, nil, fib.Match{MAC: "02:00:00:00:00:0a"}, etc + "10-a.network", ""},
		{"a MAC with dots", map[string]string{etc + "10-a.network": "[Match]\nMACAddress=0200.0000.000A\n"}, nil, fib.Match{MAC: "02:00:00:00:00:0a"}, etc + "10-a.network", ""},
		{"the permanent MAC", map[string]string{etc + "10-netplan-x.network": "[Match]\nPermanentMACAddress=02:00:00:00:00:01\n"}, nil, anyMAC, etc + "10-netplan-x.network", ""},
		{"another permanent MAC", map[string]string{etc + "10-netplan-x.network": "[Match]\nPermanentMACAddress=02:00:00:00:00:02\n"}, nil, anyMAC, "", ""},
		{"names with capitals are others", map[string]string{etc + "10-a.network": "[Match]\nName=ETH0\n"}, nil, eth0, "", ""},
		{"driver and path that the spec gives", map[string]string{etc + "10-a.network": "[Match]\nDriver=ig?\nPath=pci-0000:00:1f.*\n"}, nil, fib.Match{Driver: "igb", Path: "pci-0000:00:1f.6"}, etc + "10-a.network", ""},

		{"no [Match] at all, which networkd ignores", map[string]string{etc + "10-a.network": "[Network]\nDHCP=yes\n", etc + "20-a.network": eth0File}, nil, eth0, etc + "20-a.network", ""},
		{"an empty [Match], which networkd ignores", map[string]string{etc + "10-a.network": "[Match]\n[Network]\nDHCP=yes\n"}, nil, eth0, "", ""},
		{"only a comment", map[string]string{etc + "10-a.network": "# nothing\n"}, nil, eth0, "", ""},
		{"a key that cannot be told", map[string]string{etc + "10-a.network": "[Match]\nName=eth0\nHost=box\n"}, nil, eth0, etc + "10-a.network", "Host="},
		{"a key of the future", map[string]string{etc + "10-a.network": "[Match]\nColour=red\n", etc + "20-a.network": eth0File}, nil, eth0, etc + "10-a.network", "Colour="},
		{"a key that cannot be told beside one that does not match", map[string]string{etc + "10-a.network": "[Match]\nHost=box\nName=eth1\n"}, nil, eth0, "", ""},
		{"a MAC, of a link of which only the name is known", map[string]string{etc + "10-a.network": "[Match]\nMACAddress=02:00:00:00:00:01\n"}, nil, eth0, etc + "10-a.network", "MACAddress="},
		{"a name, of a link that the spec gives by a pattern", map[string]string{etc + "10-a.network": eth0File}, nil, fib.Match{Name: "eth*"}, etc + "10-a.network", "Name="},
		{"a specifier", map[string]string{etc + "10-a.network": "[Match]\nName=%H\n"}, nil, eth0, etc + "10-a.network", "Name="},
		{"a broken file", map[string]string{etc + "10-a.network": "[Match]\nName\n"}, nil, eth0, etc + "10-a.network", "unexpected newline"},
		{"a broken file that does not match as far as it can be read", map[string]string{etc + "10-a.network": "[Match]\nName=eth1\n[Network]\nDHCP\n"}, nil, eth0, "", ""},
		{"a section that is not closed", map[string]string{etc + "10-a.network": "[Match"}, nil, eth0, etc + "10-a.network", "end of section"},
		{"a line that is too long", map[string]string{etc + "10-a.network": "[Match]\nName=" + strings.Repeat("x", 5000) + "\n"}, nil, eth0, etc + "10-a.network", "line too long"},
		{"a file that is too large", map[string]string{etc + "10-a.network": strings.Repeat("# xxx\n", maxUnitSize/6+1)}, nil, eth0, etc + "10-a.network", "too large"},
		{"a link to nowhere, which networkd ignores", map[string]string{etc + "10-a.network": "-> /nowhere", etc + "20-a.network": eth0File}, nil, eth0, etc + "20-a.network", ""},
		{"a directory, which networkd ignores, hides others of its name", map[string]string{etc + "10-a.network/x": "", lib + "10-a.network": eth0File, etc + "20-a.network": eth0File}, nil, eth0, etc + "20-a.network", ""},
		{"a link to a directory", map[string]string{etc + "10-a.network": "-> /srv", "/srv/x": ""}, nil, eth0, "", ""},
		{"a hidden file", map[string]string{etc + ".10-a.network": eth0File}, nil, eth0, "", ""},
		{"a broken drop-in", map[string]string{etc + "10-a.network": eth0File, etc + "10-a.network.d/x.conf": "[Match]\nName\n"}, nil, eth0, etc + "10-a.network", "unexpected newline"},
		{"a drop-in that cannot be read", map[string]string{etc + "10-a.network": eth0File, etc + "10-a.network.d/x.conf": "-> /nowhere"}, nil, eth0, etc + "10-a.network", ""},

		{"the running kernel knows the MAC of a name", map[string]string{etc + "10-a.network": "[Match]\nMACAddress=02:00:00:00:00:01\n"}, sys, eth0, etc + "10-a.network", ""},
		{"and that it is another", map[string]string{etc + "10-a.network": "[Match]\nMACAddress=02:00:00:00:00:02\n"}, sys, eth0, "", ""},
		{"the running kernel knows the name of a MAC, and takes the card, not what is stacked on it", map[string]string{etc + "10-a.network": "[Match]\nName=br0\n", etc + "20-a.network": eth0File}, sys, anyMAC, etc + "20-a.network", ""},
		{"two cards of one MAC: which is meant cannot be told", map[string]string{etc + "10-a.network": "[Match]\nName=eth1\n"}, with(map[string]string{"/sys/class/net/eth0/device/x": "", "/sys/class/net/eth1/device/x": "", "/sys/class/net/eth1/address": "02:00:00:00:00:01\n"}), anyMAC, etc + "10-a.network", "Name="},
		{"the permanent MAC, where nobody has changed it", map[string]string{etc + "10-a.network": "[Match]\nPermanentMACAddress=02:00:00:00:00:02\n", etc + "20-a.network": "[Match]\nPermanentMACAddress=02:00:00:00:00:01\n"}, with(map[string]string{"/sys/class/net/eth0/addr_assign_type": "0\n"}), eth0, etc + "20-a.network", ""},
		{"the permanent MAC, where somebody has", map[string]string{etc + "10-a.network": "[Match]\nPermanentMACAddress=02:00:00:00:00:02\n"}, with(map[string]string{"/sys/class/net/eth0/addr_assign_type": "3\n"}), eth0, etc + "10-a.network", "PermanentMACAddress="},
		{"the driver, as udev knows it", map[string]string{etc + "05-a.network": "[Match]\nDriver=igb_core\n", etc + "10-a.network": "[Match]\nDriver=igb\n"}, sys, eth0, etc + "10-a.network", ""},
		{"another driver", map[string]string{etc + "10-a.network": "[Match]\nDriver=!igb\n"}, sys, eth0, "", ""},
		{"the driver and the path before udev has looked", map[string]string{etc + "10-a.network": "[Match]\nDriver=e1000\nPath=x\n"}, with(map[string]string{"/run/udev/data/n2": "E:ID_NET_DRIVER=igb\n"}), eth0, etc + "10-a.network", "Driver="},
		{"the path, as udev knows it", map[string]string{etc + "05-a.network": "[Match]\nPath=pci-0000:01:*\n", etc + "10-a.network": "[Match]\nPath=pci-0000:00:*\n"}, sys, eth0, etc + "10-a.network", ""},
		{"no path, as udev knows it", map[string]string{etc + "10-a.network": "[Match]\nPath=*\n"}, with(map[string]string{"/run/udev/data/n2": "I:4711\n"}), eth0, "", ""},
		{"the type by its hardware", map[string]string{etc + "10-a.network": "[Match]\nType=ether\n"}, sys, eth0, etc + "10-a.network", ""},
		{"the type by udev's name", map[string]string{etc + "10-a.network": "[Match]\nType=ether\n", etc + "20-a.network": "[Match]\nType=wlan\n"}, sys, fib.Match{Name: "wlan0"}, etc + "20-a.network", ""},
		{"the type of a tunnel", map[string]string{etc + "10-a.network": "[Match]\nType=ether\n", etc + "20-a.network": "[Match]\nType=none\n"}, sys, fib.Match{Name: "wg0"}, etc + "20-a.network", ""},
		{"an inverted list of types", map[string]string{etc + "10-a.network": "[Match]\nType=!wlan bridge\n"}, sys, eth0, etc + "10-a.network", ""},
		{"the type of lo", map[string]string{etc + "10-a.network": "[Match]\nType=loopback\n"}, map[string]string{"/sys/class/net/dummy/type": "772\n"}, fib.Match{Name: "dummy"}, etc + "10-a.network", ""},
		{"a type that is not known", map[string]string{etc + "10-a.network": "[Match]\nType=ether\n"}, map[string]string{"/sys/class/net/eth0/type": "32\n"}, eth0, etc + "10-a.network", "Type="},
		{"a name that the running kernel does not have", map[string]string{etc + "10-a.network": "[Match]\nType=ether\n"}, sys, fib.Match{Name: "eth7"}, etc + "10-a.network", "Type="},
		{"a MAC that the running kernel does not have", map[string]string{etc + "10-a.network": eth0File}, sys, fib.Match{MAC: "02:00:00:00:00:77"}, etc + "10-a.network", "Name="},
		{"a pattern, of which the kernel tells nothing", map[string]string{etc + "10-a.network": "[Match]\nDriver=igb\n"}, sys, fib.Match{Name: "eth*"}, etc + "10-a.network", "Driver="},

		{"lo has a MAC, a type and no driver in an image as well", map[string]string{etc + "10-a.network": "[Match]\nMACAddress=02:00:00:00:00:01\n", etc + "11-a.network": "[Match]\nDriver=*\n", etc + "12-a.network": "[Match]\nType=ether\n", etc + "13-a.network": "[Match]\nPath=pci-*\n", etc + "14-a.network": "[Match]\nDriver=!igb\nType=loopback\n"}, nil, fib.Match{Name: "lo"}, etc + "14-a.network", ""},

		{"files of ours take no part", map[string]string{run + "10-uplink-a.network": madeBy + "x\n" + eth0File, run + "20-a.network": eth0File}, nil, eth0, run + "20-a.network", ""},
		{"one of ours in /etc hides others as any file does", map[string]string{etc + "10-a.network": madeBy + "x\n" + eth0File, lib + "10-a.network": eth0File}, nil, eth0, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, files := range []map[string]string{tt.files, tt.sys} {
				for name, content := range files {
					putFile(t, dir, name, content)
				}
			}
			root := rootfs.At(dir)
			files, err := networkFiles(root)
			if err != nil {
				t.Fatal(err)
			}
			path, because := "", ""
			if c := files.candidates(newLinks(root).facts(tt.match)); c.next() {
				path, because = c.file.path, c.because
			}
			if path != tt.want {
				t.Errorf("got %q, want %q", path, tt.want)
			}
			if (because == "") != (tt.because == "") || !strings.Contains(because, tt.because) {
				t.Errorf("because %q, want %q", because, tt.because)
			}
		})
	}
}

func TestUnmanagedIsReadAsNetworkdReadsABoolean(t *testing.T) {
	for text, want := range map[string]bool{
		"[Link]\nUnmanaged=yes\n": true, "[Link]\nUnmanaged=Y\n": true, "[Link]\nUnmanaged=on\n": true, "[Link]\nUnmanaged=1\n": true, "[Link]\nUnmanaged=True\n": true, "[Link]\nUnmanaged=t\n": true,
		"[Link]\nUnmanaged=no\n": false, "[Link]\nUnmanaged=off\n": false, "[Link]\nUnmanaged=\n": false, "[Link]\nUnmanaged=maybe\n": false, "[Network]\nUnmanaged=yes\n": false,
		"[Link]\nUnmanaged=yes\nUnmanaged=no\n": false, "[Link]\nUnmanaged=yes\nUnmanaged=N\n": false, "[Link]\nUnmanaged=tRUE\n": true,
		"[Link]\nUnmanaged=yes\nUnmanaged=maybe\n": true, "[Link]\nUnmanaged=yes\nUnmanaged=\n": true, // lines that networkd ignores
	} {
		var f networkFile
		if f.read([]byte(text)); f.unmanaged != want {
			t.Errorf("%q: %v", text, f.unmanaged)
		}
	}
}

// rendered renders one link, and returns the files and the notes.
func rendered(t *testing.T, s fib.State, files map[string]string) (tree Tree, notes []string, err error) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		putFile(t, dir, name, content)
	}
	tree, said, err := Render(s, Target{Version: newest, Root: rootfs.At(dir)})
	for _, n := range said {
		notes = append(notes, n.String())
	}
	return tree, notes, err
}

func TestWhereALinksFileGoesAndWhatIsSaidOfIt(t *testing.T) {
	rule := fib.Rule{Family: fib.Inet, Priority: 5, Action: fib.Lookup, Table: 100, Link: "a", Origin: testLine}
	own := oneLink(func(s *fib.State) { s.Rules = []fib.Rule{rule} })
	policy := oneLink(func(s *fib.State) { s.Links[0].PolicyOnly, s.Rules = true, []fib.Rule{rule} })
	closed := oneLink(func(s *fib.State) { s.Rules = []fib.Rule{rule}; s.Rules[0].Link = "" })
	const (
		file   = run + "10-uplink-a.network"
		loFile = run + "10-uplink-lo.network"
		where  = "/etc/uplink/uplink.toml:7: "
		lost   = "the rules and routes that belong to no link, those that fail closed or wait for another link among them, stand in a file for lo, but "
	)
	byMAC := oneLink(func(s *fib.State) {
		s.Links[0].Match, s.Rules = fib.Match{MAC: "02:00:00:00:00:01"}, []fib.Rule{rule}
	})
	with := func(all map[string]string, more ...string) map[string]string {
		all = maps.Clone(all)
		for i := 0; i < len(more); i += 2 {
			all[more[i]] = more[i+1]
		}
		return all
	}
	cards := map[string]string{
		"/sys/class/net/eth0/address": "02:00:00:00:00:01\n", "/sys/class/net/eth0/addr_assign_type": "0\n", "/sys/class/net/eth0/device/x": "",
		"/sys/class/net/eth0/type": "1\n", "/sys/class/net/eth0/ifindex": "2\n", "/run/udev/data/n2": "I:4711\nE:ID_PATH=pci-0000:00:1f.6\n",
		"/sys/class/net/eth1/address": "02:00:00:00:00:02\n", "/sys/class/net/eth1/device/x": "",
	}
	twins := with(cards, "/sys/class/net/eth1/address", "02:00:00:00:00:01\n")
	const beside = ": the uplink's routes and rules are added beside systemd-networkd, through netlink, or with backend = \"networkd\" not at all; a .network file for this link alone lets networkd have them"
	shared := func(file string) []string {
		return []string{where + file + " matches name eth0 and other links" + beside}
	}
	mayBe := func(file, because string) []string {
		return []string{where + etc + file + " may match name eth0 (" + because + " cannot be told here)" + beside}
	}
	tests := []struct {
		name  string
		state fib.State
		files map[string]string
		want  string   // the file that the rule is in, or the files; "" for none
		notes []string // the beginnings of the notes, or "error: " and the beginning of the error
	}{
		{"alone", own, nil, file, nil},
		{"a later file of another is no matter", own, map[string]string{lib + "99-default.network": "[Match]\nName=*\n"}, file, nil},
		{"an earlier file of another wins", own, map[string]string{etc + "05-a.network": "[Match]\nName=eth0\n"}, file, []string{where + etc + "05-a.network comes before 10-uplink-a.network and matches name eth0: "}},
		{"an earlier file of another may win", own, map[string]string{etc + "05-a.network": "[Match]\nHost=x\n"}, file, []string{where + etc + "05-a.network comes before 10-uplink-a.network and may match name eth0 (Host= cannot be told here): "}},
		{"an earlier file for another link does not", own, map[string]string{etc + "05-a.network": "[Match]\nName=eth1\n"}, file, nil},
		{"a file of the same name in /etc hides ours", own, map[string]string{etc + "10-uplink-a.network": "[Match]\nName=eth0\n"}, file, []string{where + etc + "10-uplink-a.network hides the file of that name in /run/systemd/network: "}},
		{"a mask of the same name in /etc hides ours", own, map[string]string{etc + "10-uplink-a.network": "-> /dev/null"}, file, []string{where + etc + "10-uplink-a.network hides the file of that name in /run/systemd/network: "}},

		{"policy: a drop-in to the file that wins", policy, map[string]string{etc + "10-a.network": "[Match]\nName=eth0\n", etc + "20-a.network": "[Match]\nName=eth0\n"}, run + "10-a.network.d/10-uplink-a.conf", nil},
		{"policy: to one that sorts after ours as well", policy, map[string]string{lib + "99-default.network": "[Match]\nName=eth0\n"}, run + "99-default.network.d/10-uplink-a.conf", nil},
		{"policy: to one that may win, with a note", policy, map[string]string{etc + "10-a.network": "[Match]\nName=eth0\nHost=x\n"}, run + "10-a.network.d/10-uplink-a.conf", []string{where + etc + "10-a.network is extended because it may match name eth0 (Host= cannot be told here)"}},
		{"policy: to one that may win, and the one that does otherwise", policy, map[string]string{etc + "10-a.network": "[Match]\nName=eth0\nHost=x\n", etc + "20-a.network": "[Match]\nName=eth0\n", etc + "30-a.network": "[Match]\nName=eth0\n"}, run + "10-a.network.d/10-uplink-a.conf" + run + "20-a.network.d/10-uplink-a.conf", nil},
		{"policy: nothing to extend", policy, nil, "", []string{where + "no .network file matches name eth0: "}},
		{"policy: unmanaged", policy, map[string]string{etc + "10-a.network": "[Match]\nName=eth0\n[Link]\nUnmanaged=yes\n"}, "", []string{where + etc + "10-a.network says Unmanaged=yes for name eth0: "}},
		{"policy: our drop-in is hidden", policy, map[string]string{etc + "10-a.network": "[Match]\nName=eth0\n", etc + "10-a.network.d/10-uplink-a.conf": "-> /dev/null"}, run + "10-a.network.d/10-uplink-a.conf", []string{where + etc + "10-a.network.d/10-uplink-a.conf hides the file of that name"}},

		{"policy: not to one for all links", policy, map[string]string{lib + "99-default.network": "[Match]\nName=*\n"}, "", shared(lib + "99-default.network")},
		{"policy: not to one for many", policy, map[string]string{etc + "20-wired.network": "[Match]\nName=eth*\n", etc + "30-a.network": "[Match]\nName=eth0\n"}, "", shared(etc + "20-wired.network")},
		{"policy: not to one for two", policy, map[string]string{etc + "20-wired.network": "[Match]\nName=eth0 eth1\n"}, "", shared(etc + "20-wired.network")},
		{"policy: not to one for all others than one", policy, map[string]string{etc + "20-wired.network": "[Match]\nName=!eth1\n"}, "", shared(etc + "20-wired.network")},
		{"policy: not to one of another's drop-in for two", policy, map[string]string{etc + "20-a.network": "[Match]\nName=eth0\n", etc + "20-a.network.d/x.conf": "[Match]\nName=eth1\n"}, "", shared(etc + "20-a.network")},
		{"policy: to one that is for many by name and for one by address", policy, with(cards, etc+"20-a.network", "[Match]\nName=eth*\nMACAddress=02-00-00-00-00-01\n"), run + "20-a.network.d/10-uplink-a.conf", nil},
		{"policy: to one for its permanent address", policy, with(cards, etc+"20-a.network", "[Match]\nPermanentMACAddress=02:00:00:00:00:01\n"), run + "20-a.network.d/10-uplink-a.conf", nil},
		{"policy: not to one for an address that two cards have", policy, with(twins, etc+"20-a.network", "[Match]\nMACAddress=02:00:00:00:00:01\n"), "", shared(etc + "20-a.network")},
		{"policy: to one for that and its name", policy, with(twins, etc+"20-a.network", "[Match]\nMACAddress=02:00:00:00:00:01\nName=eth0\n"), run + "20-a.network.d/10-uplink-a.conf", nil},
		{"policy: to one that leaves out what is stacked on the card", policy, with(cards, "/sys/class/net/eth0.7/uevent", "DEVTYPE=vlan\n", "/sys/class/net/eth0.7/address", "02:00:00:00:00:01\n", etc+"20-a.network", "[Match]\nMACAddress=02:00:00:00:00:01\nType=!vlan bridge\n"), run + "20-a.network.d/10-uplink-a.conf", nil},
		{"policy: not to one that does not", policy, with(cards, "/sys/class/net/eth0.7/uevent", "DEVTYPE=vlan\n", "/sys/class/net/eth0.7/address", "02:00:00:00:00:01\n", etc+"20-a.network", "[Match]\nMACAddress=02:00:00:00:00:01\n"), "", shared(etc + "20-a.network")},
		{"policy: to one for its path", policy, with(cards, etc+"20-a.network", "[Match]\nPath=pci-0000:00:1f.6\n"), run + "20-a.network.d/10-uplink-a.conf", nil},
		{"policy: not to one for paths", policy, with(cards, etc+"20-a.network", "[Match]\nPath=pci-*\n"), "", shared(etc + "20-a.network")},
		{"policy: not to strangers' that may be its own while it is absent", policy, map[string]string{etc + "10-a.network": "[Match]\nMACAddress=02:00:00:00:00:01\n", etc + "10-b.network": "[Match]\nMACAddress=02:00:00:00:00:02\n", lib + "80-wifi-adhoc.network": "[Match]\nType=wlan\n"}, "", mayBe("10-a.network", "MACAddress=")},
		{"policy: not to one for wlan", policy, map[string]string{etc + "80-wifi-adhoc.network": "[Match]\nType=wlan\nWLANInterfaceType=ad-hoc\n"}, "", mayBe("80-wifi-adhoc.network", "Type=")},
		{"policy: past one that may win to one that does otherwise", policy, map[string]string{etc + "05-wlan.network": "[Match]\nType=wlan\n", etc + "10-a.network": "[Match]\nName=eth0\n"}, run + "10-a.network.d/10-uplink-a.conf", nil},
		{"policy: to one that may win, before one for many", policy, map[string]string{etc + "05-wlan.network": "[Match]\nType=wlan\n", etc + "10-a.network": "[Match]\nName=eth0\nMACAddress=02:00:00:00:00:01\n", etc + "20-wired.network": "[Match]\nName=eth*\n"}, run + "10-a.network.d/10-uplink-a.conf", []string{where + etc + "10-a.network is extended because it may match name eth0 (MACAddress= cannot be told here)"}},
		{"policy: not to one for many behind one that may win", policy, map[string]string{etc + "05-wlan.network": "[Match]\nType=wlan\n", etc + "20-wired.network": "[Match]\nName=eth*\n"}, "", shared(etc + "20-wired.network")},
		{"policy: not to one with a specifier", policy, map[string]string{etc + "10-a.network": "[Match]\nName=%H\n"}, "", mayBe("10-a.network", "Name=")},
		{"policy: not to one that cannot be read to its end", policy, map[string]string{etc + "10-a.network": "[Match]\nName=eth0\nName\n"}, "", []string{where + etc + "10-a.network may match name eth0 ("}},
		{"one address on two cards", byMAC, twins, file, []string{where + "MAC 02:00:00:00:00:01 is on more than one card (eth0, eth1): networkd takes each of them for this uplink's; say `driver` or `interface` beside `mac`"}},
		{"one address on a card and on what is stacked on it", byMAC, with(cards, "/sys/class/net/eth0.7/address", "02:00:00:00:00:01\n"), file, nil},

		{"lo: a file of our own", closed, nil, loFile, nil},
		{"lo: beside a file for all links that sorts later", closed, map[string]string{lib + "99-default.network": "[Match]\nName=*\n"}, loFile, nil},
		{"lo: a file that comes first is extended", closed, map[string]string{etc + "05-lo.network": "[Match]\nName=lo\n"}, run + "05-lo.network.d/10-uplink-lo.conf", nil},
		{"lo: one that may come first is extended with a note, beside our own", closed, map[string]string{etc + "05-x.network": "[Match]\nName=l*\nHost=x\n"}, run + "05-x.network.d/10-uplink-lo.conf" + loFile, []string{where + etc + "05-x.network is extended because it may match name lo (Host= cannot be told here)"}},
		{"lo: as well as the one that comes first otherwise", closed, map[string]string{etc + "05-x.network": "[Match]\nName=l*\nHost=x\n", etc + "06-lo.network": "[Match]\nName=lo\n"}, run + "05-x.network.d/10-uplink-lo.conf" + run + "06-lo.network.d/10-uplink-lo.conf", []string{where + etc + "05-x.network is extended because it may match name lo"}},
		{"lo: unmanaged", closed, map[string]string{etc + "05-lo.network": "[Match]\nName=lo\n[Link]\nUnmanaged=yes\n"}, "", []string{"error: " + where + lost + etc + "05-lo.network says Unmanaged=yes for lo: let its [Match] leave lo out (Name=!lo), or take backend = \"netlink\""}},
		{"lo: unmanaged with all others", closed, map[string]string{lib + "05-all.network": "[Match]\nName=*\n", etc + "05-all.network.d/x.conf": "[Link]\nUnmanaged=yes\n"}, "", []string{"error: " + where + lost + lib + "05-all.network says Unmanaged=yes for lo: "}},
		{"lo: unmanaged by a file that comes later", closed, map[string]string{lib + "80-all.network": "[Match]\nName=*\n[Link]\nUnmanaged=yes\n"}, loFile, nil},
		{"lo: perhaps unmanaged", closed, map[string]string{etc + "05-x.network": "[Match]\nName=l*\nHost=x\n[Link]\nUnmanaged=yes\n"}, loFile, []string{where + etc + "05-x.network says Unmanaged=yes and may match name lo (Host= cannot be told here): if it does, "}},
		{"lo: a card's file is none of lo's", closed, map[string]string{etc + "10-netplan-x.network": "[Match]\nName=!eth0\nPermanentMACAddress=02:00:00:00:00:01\n", etc + "05-x.network": "[Match]\nName=!eth0\nDriver=igb\n", etc + "06-x.network": "[Match]\nName=!eth0\nType=ether\n"}, loFile, nil},
		{"lo: our file is hidden", closed, map[string]string{etc + "10-uplink-lo.network": "x"}, "", []string{"error: " + where + lost + etc + "10-uplink-lo.network hides the file of that name in /run/systemd/network: move it away"}},
		{"lo: our drop-in is masked", closed, map[string]string{etc + "05-lo.network": "[Match]\nName=lo\n", etc + "05-lo.network.d/10-uplink-lo.conf": "-> /dev/null"}, "", []string{"error: " + where + lost + etc + "05-lo.network.d/10-uplink-lo.conf hides "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tree, notes, err := rendered(t, tt.state, tt.files)
			if err != nil {
				notes = []string{"error: " + err.Error()}
			}
			got := ""
			for _, f := range tree {
				if strings.Contains(string(f.Data), "[RoutingPolicyRule]") {
					got += f.Path
					if dropIn := strings.HasSuffix(f.Path, ".conf"); dropIn == strings.Contains(string(f.Data), "[Match]") {
						t.Errorf("[Match] belongs into .network files alone:\n%s", f.Data)
					}
				}
			}
			if got != tt.want {
				t.Errorf("the rule is in %q, want %q", got, tt.want)
			}
			if len(notes) != len(tt.notes) {
				t.Fatalf("notes %q, want %q", notes, tt.notes)
			}
			for i, n := range notes {
				if !strings.HasPrefix(n, tt.notes[i]) {
					t.Errorf("note %q, want %q", n, tt.notes[i])
				}
			}
		})
	}
}

func TestANoteWithoutAPlaceIsItsTextAlone(t *testing.T) {
	if got := (Note{Text: "x"}).String(); got != "x" {
		t.Errorf("%q", got)
	}
}

func TestADirectoryThatCannotBeListedIsAnError(t *testing.T) {
	dir := t.TempDir()
	putFile(t, dir, "/etc/systemd/network", "a file")
	s := withLink(func(*fib.Link) {})
	if _, _, err := Render(s, Target{Version: newest, Root: rootfs.At(dir)}); err == nil || !strings.HasPrefix(err.Error(), "/etc/systemd/network: ") {
		t.Errorf("got %v", err)
	}
	dir = t.TempDir()
	putFile(t, dir, etc+"10-a.network.d", "-> 10-a.network.d")
	if _, _, err := Render(s, Target{Version: newest, Root: rootfs.At(dir)}); err == nil || !strings.HasPrefix(err.Error(), "/etc/systemd/network/10-a.network.d: ") {
		t.Errorf("got %v", err)
	}
}

// TestTheKernelTellsMoreOfALink reads an answer to RTM_GETLINK.
func TestTheKernelTellsMoreOfALink(t *testing.T) {
	attribute := func(typ uint16, value string) string {
		b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
		b = binary.NativeEndian.AppendUint16(b, typ)
		return string(b) + value + strings.Repeat("\x00", -len(value)&3)
	}
	message := func(typ uint16, body string) string {
		b := binary.NativeEndian.AppendUint32(nil, uint32(syscall.NLMSG_HDRLEN+len(body)))
		b = binary.NativeEndian.AppendUint16(b, typ)
		return string(append(b, make([]byte, 10)...)) + body
	}
	info := strings.Repeat("\x00", syscall.SizeofIfInfomsg)
	const nested = 0x8000
	names := attribute(iflaAltIfname, "enp1s0\x00") + attribute(iflaAltIfname, "uplink-of-the-first-floor\x00")
	known := parseLinks([]byte(message(syscall.RTM_NEWLINK, info+attribute(syscall.IFLA_IFNAME, "eth0\x00")+attribute(iflaPermAddress, "\x02\x00\x00\x00\x00\x09")+attribute(iflaPropList|nested, names)) +
		message(syscall.RTM_NEWLINK, info+attribute(syscall.IFLA_IFNAME, "eth1\x00")+"\xff\xff\x01\x00") + message(syscall.NLMSG_DONE, "\x00\x00\x00\x00")))

	dir := t.TempDir()
	putFile(t, dir, "/sys/class/net/eth0/address", "02:00:00:00:00:01\n")
	putFile(t, dir, "/sys/class/net/eth1/address", "02:00:00:00:00:02\n")
	l := newLinks(rootfs.At(dir))
	l.know(known)
	for name, c := range map[string]struct {
		match fib.Match
		file  string
		want  verdict
	}{
		"an alternative name":                      {fib.Match{Name: "eth0"}, "Name=enp*", yes},
		"the link by its alternative name":         {fib.Match{Name: "enp1s0"}, "Name=eth0", yes},
		"and by its MAC":                           {fib.Match{MAC: "02:00:00:00:00:01"}, "Name=uplink-of-the-first-floor", yes},
		"of another link":                          {fib.Match{Name: "eth1"}, "Name=enp1s0", no},
		"one that is excluded, where another fits": {fib.Match{Name: "eth0"}, "Name=!eth0", yes},
		"all that are excluded":                    {fib.Match{Name: "eth0"}, "Name=!eth0 enp1s0 uplink*", no},
		"the permanent address":                    {fib.Match{Name: "eth0"}, "PermanentMACAddress=02:00:00:00:00:09", yes},
		"which is not that of now":                 {fib.Match{Name: "eth0"}, "PermanentMACAddress=02:00:00:00:00:01", no},
		"one that is not told":                     {fib.Match{Name: "eth1"}, "PermanentMACAddress=02:00:00:00:00:02", unknown},
	} {
		var f networkFile
		f.read([]byte("[Match]\n" + c.file + "\n"))
		f.keys, f.lists = f.patterns()
		if got, _ := f.matches(l.facts(c.match)); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// FuzzNetworkFile reads any text as somebody else's .network file.
func FuzzNetworkFile(f *testing.F) {
	for _, seed := range []string{
		"", "[Match]\nName=eth0\n", "[Match]\nName=!eth0 eth1\nMACAddress=02-00-00-00-00-01\n", "[Match]\nName=\n", "[Match]\nName=[\n", "[Match\n", "Name=eth0\n",
		"[Match]\nName=eth0 \\\n eth1\n[Link]\nUnmanaged=yes\n", "[Match]\r\nType=ether\r\n", "[]\n=\n", "\xff[Match]\nName=\xff\n", "[Match]\nMACAddress=0200.0000.0001\nHost=x\n",
	} {
		f.Add([]byte(seed))
	}
	for _, pattern := range []string{etc, lib} {
		names, err := filepath.Glob(pattern + "*.network")
		if err != nil {
			f.Fatal(err)
		}
		for _, n := range names {
			if data, err := os.ReadFile(n); err == nil {
				f.Add(data)
			}
		}
	}
	links := []facts{
		{}, {"Name": {"eth0"}}, {"Name": {"eth0"}, "MACAddress": {"02:00:00:00:00:01"}, "Type": {"ether"}, "Driver": {"igb"}}, {"Name": {"lo"}, "Driver": {}},
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var file networkFile
		file.read(data)
		file.keys, file.lists = file.patterns()
		for _, k := range links {
			v, because := file.matches(k)
			if (v == unknown) != (because != "") {
				t.Errorf("verdict %d because %q", v, because)
			}
			if again, _ := file.matches(k); again != v {
				t.Errorf("verdict %d, then %d", v, again)
			}
			if v == no {
				continue
			}
			if len(file.keys) == 0 && file.broken == nil {
				t.Errorf("a file without [Match] matches %s", fmt.Sprint(k))
			}
		}
	})
}
