package units

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// TestMain stands in for networkd when the test runs itself under that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "systemd-networkd" {
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	os.Exit(m.Run())
}

// startNetworkd starts a process that has networkd's name, and does nothing.
func startNetworkd(t *testing.T) {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "systemd-networkd")
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func TestALinkIsNetworkdsWhereItSaysSoAndRuns(t *testing.T) {
	dir := t.TempDir()
	for index, state := range map[string]string{
		"2": "# This is private data. Do not parse.\nADMIN_STATE=configured\nOPER_STATE=routable\n",
		"3": "ADMIN_STATE=unmanaged\n",
		"4": "ADMIN_STATE=linger\n",
		"5": "OPER_STATE=routable\n",
		"6": "",
		"7": "ADMIN_STATE=pending\n",
		"8": "ADMIN_STATE=failed\n",
		"9": "ADMIN_STATE=configuring\nNETWORK_FILE=/etc/systemd/network/20-wired.network\n",

		"20": "ADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/10-a.network\n",
		"21": "ADMIN_STATE=failed\nNETWORK_FILE=/usr/lib/systemd/network/20-wired.network\n",
	} {
		putFile(t, dir, "/run/systemd/netif/links/"+index, state)
	}
	root := rootfs.At(dir)
	if NetworkdRuns() {
		t.Log("NOT TESTED: networkd runs here, so it cannot be seen that its state alone does not count")
	} else if LinkProgress(root)(2, fib.Link{}) != NotNetworkds {
		t.Error("the state of a networkd that has ended counts")
	}
	startNetworkd(t)
	progress := LinkProgress(root)
	for index, want := range []Progress{2: Done, 3: NotNetworkds, 4: NotNetworkds, 5: NotNetworkds, 6: NotNetworkds, 7: Undecided, 8: Done, 9: NotYet, 10: NotNetworkds, 20: Done, 21: Done} {
		for _, l := range []fib.Link{{}, {Name: "a"}} {
			if got := progress(index, l); got != want {
				t.Errorf("link %d: %v, want %v", index, got, want)
			}
		}
	}
	// Links with PolicyOnly.
	putFile(t, dir, networkDir+"/10-a.network.d/10-uplink-a.conf", "")
	putFile(t, dir, networkDir+"/20-wired.network.d/10-uplink-b.conf", "")
	for index, want := range map[int]Progress{3: NotNetworkds, 7: Undecided, 9: NotNetworkds, 20: Done, 21: NotNetworkds} {
		if got := progress(index, fib.Link{Name: "a", PolicyOnly: true}); got != want {
			t.Errorf("policy of link %d: %v, want %v", index, got, want)
		}
	}
}
