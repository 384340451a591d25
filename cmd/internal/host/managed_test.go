package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// startNetworkd starts a process with networkd's name, and nothing else of it.
func startNetworkd(t *testing.T) {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "systemd-networkd")
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// TestThePolicyIsNetworkdsWhereItUsesOurDropIn lets networkd decide about a link of which only
// the policy is ours: until then the link counts as networkd's, and apply waits for the decision.
func TestThePolicyIsNetworkdsWhereItUsesOurDropIn(t *testing.T) {
	startNetworkd(t)
	state := fib.State{Links: []fib.Link{
		{Name: "own", Match: fib.Match{Name: "eth0"}, Uplinks: []fib.Named{{Name: "own"}}},
		{Name: "policy", Match: fib.Match{Name: "eth1"}, PolicyOnly: true, Uplinks: []fib.Named{{Name: "policy"}}},
	}}
	root := rootfs.At(t.TempDir())
	const ofEth1 = "run/systemd/netif/links/3"
	put(t, root.String(), "run/systemd/netif/links/2", "ADMIN_STATE=configured\nNETWORK_FILE=/run/systemd/network/10-uplink-own.network\n")
	put(t, root.String(), "run/systemd/network/10-mine.network.d/10-uplink-policy.conf", "x")
	for _, watching := range []bool{false, true} {
		h := &Host{Root: root, Applier: apply.Applier{Kernel: kerneltest.NewFake("eth0", "eth1"), Watching: watching}}
		managed := func(what string, policy, undecided bool) {
			t.Helper()
			names, err := h.Managed(state)
			if err != nil || names["own"] != "eth0" || names["policy"] == "eth1" != policy || h.undecided != undecided {
				t.Errorf("%s: networkd has %v, undecided %t: %v", what, names, h.undecided, err)
			}
			beside, _, err := h.besideNetworkd(state)
			if err != nil || beside["own"] || beside["policy"] == policy {
				t.Errorf("%s: beside networkd: %v: %v", what, beside, err)
			}
		}
		put(t, root.String(), ofEth1, "ADMIN_STATE=pending\n")
		managed("pending", true, true)
		h.WaitFor = "eth0"
		managed("pending, and somebody else is waited for", true, false)
		h.WaitFor = ""
		decided := time.AfterFunc(100*time.Millisecond, func() {
			_ = os.WriteFile(filepath.Join(root.String(), ofEth1), []byte("ADMIN_STATE=configuring\nNETWORK_FILE=/etc/systemd/network/20-wired.network\n"), 0o644)
		})
		if err := h.awaitDecision(t.Context(), 10*time.Second, state); err != nil {
			t.Fatal(err)
		}
		decided.Stop()
		managed("another's file", false, false)
		put(t, root.String(), ofEth1, "ADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/10-mine.network\n")
		managed("a file with our drop-in", true, false)
	}
}

// TestWhatBelongsToNoLinkIsNetworkdsWhereLoHasIt asks with no link of the state there: what
// belongs to none is networkd's where lo has our file, or another's with our drop-in.
func TestWhatBelongsToNoLinkIsNetworkdsWhereLoHasIt(t *testing.T) {
	startNetworkd(t)
	links := []fib.Link{{Name: "vpn", Match: fib.Match{Name: "wg0"}, Uplinks: []fib.Named{{Name: "vpn"}}}}
	rule := fib.Rule{Family: fib.Inet, Priority: 10000, Table: 5}
	bound := rule
	bound.Link = "vpn"
	root := rootfs.At(t.TempDir())
	put(t, root.String(), "run/systemd/network/20-lo.network.d/10-uplink-lo.conf", "x")
	h := &Host{Root: root, Applier: apply.Applier{Kernel: kerneltest.NewFake("eth0")}}
	for _, test := range []struct {
		lo               string
		rule             fib.Rule
		theirs, awaiting bool
	}{
		{"ADMIN_STATE=configured\nNETWORK_FILE=/run/systemd/network/10-uplink-lo.network\n", rule, true, false},
		{"ADMIN_STATE=configuring\nNETWORK_FILE=/etc/systemd/network/20-lo.network\n", rule, true, false},
		{"ADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/30-lo.network\n", rule, false, false},
		{"ADMIN_STATE=unmanaged\n", rule, false, false},
		{"ADMIN_STATE=pending\n", rule, true, true},
		{"ADMIN_STATE=configured\nNETWORK_FILE=/run/systemd/network/10-uplink-lo.network\n", bound, false, false},
	} {
		put(t, root.String(), "run/systemd/netif/links/1", test.lo)
		state := fib.State{Links: links, Rules: []fib.Rule{test.rule}}
		rest, err := h.WithoutManaged(state.Clone())
		if left := len(rest.Rules) == 0; err != nil || left != test.theirs || h.undecided != test.awaiting || len(rest.Links) != 1 {
			t.Errorf("lo is %q: for netlink %v, undecided %t: %v", test.lo, rest, h.undecided, err)
		}
	}
}
