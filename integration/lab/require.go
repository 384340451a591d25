package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrUnavailable is what [Require] returns, with the reason wrapped around it,
// on a machine where a lab cannot run.
var ErrUnavailable = errors.New("lab unavailable")

// Need is something beyond namespaces that a lab can need of the machine.
type Need int

const (
	// NeedNetworkd is systemd-networkd, for [Namespace.StartNetworkd].
	NeedNetworkd Need = iota + 1
	// NeedBus is dbus-daemon and networkctl, for [NetworkdOptions.Bus].
	NeedBus
	// NeedDHCP is the servers and clients of [Lab.StartDHCPServer],
	// [Lab.StartAdvertiser] and [Namespace.StartClient], but for networkd.
	NeedDHCP
	// NeedNftables is nft, and a kernel that translates addresses for it.
	NeedNftables
)

// Require returns nil if this machine can run a lab, and an [ErrUnavailable]
// that says what is missing if it cannot. Whether that is a reason to skip or
// to fail is for the caller to say.
func Require(needs ...Need) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: needs root", ErrUnavailable)
	}
	tools := []string{"ip", "nsenter"}
	if slices.Contains(needs, NeedBus) {
		tools = append(tools, "dbus-daemon", "networkctl")
	}
	if slices.Contains(needs, NeedDHCP) {
		tools = append(tools, "dhcpd", "radvd", "dhclient", "dhcpcd", "udhcpc", "NetworkManager")
	}
	if slices.Contains(needs, NeedNftables) {
		tools = append(tools, "nft")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	if slices.Contains(needs, NeedNetworkd) {
		if _, err := findNetworkd("/"); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	// Root in a container may have neither right: only trying tells.
	err := onOwnThread(func() error {
		ns, err := netns.New()
		if err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		defer ns.Close()
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("make a mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("make mounts private: %w", err)
		}
		if slices.Contains(needs, NeedNftables) {
			if out, err := exec.Command("nft", translation).CombinedOutput(); err != nil {
				return fmt.Errorf("translate addresses by nft: %w: %s", err, out)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// translation is refused by a kernel that lacks the parts for it.
const translation = "table ip t { chain c { type nat hook postrouting priority srcnat; ct mark 1 masquerade; }; }"
