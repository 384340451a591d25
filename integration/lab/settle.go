package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// settleLinks waits until the kernel has acted on the carrier of every link that is up. It does
// so a moment after the link shows the carrier, and drops until then what is sent.
func (n *Namespace) settleLinks(ctx context.Context) error {
	err := Poll(ctx, func() (bool, string) {
		links, err := n.nl.LinkList()
		if err != nil {
			return false, err.Error()
		}
		for _, link := range links {
			a := link.Attrs()
			const running = unix.IFF_UP | unix.IFF_LOWER_UP
			// lo and the like never say more than unknown.
			if a.RawFlags&running == running && a.OperState != netlink.OperUp && a.OperState != netlink.OperUnknown {
				return false, fmt.Sprintf("%s is %s", a.Name, a.OperState)
			}
		}
		return true, ""
	})
	if err != nil {
		return fmt.Errorf("wait for links in %s: %w", n.name, err)
	}
	return nil
}

// WaitAddresses waits until the namespace has each of the given addresses on
// some link, and can send from it.
func (n *Namespace) WaitAddresses(ctx context.Context, addrs ...netip.Addr) error {
	err := Poll(ctx, func() (bool, string) {
		have, err := n.Addresses(ctx)
		if err != nil {
			return false, err.Error()
		}
		var missing []string
		for _, want := range addrs {
			i := slices.IndexFunc(have, func(a Address) bool { return a.Prefix.Addr() == want })
			switch {
			case i < 0:
				missing = append(missing, fmt.Sprintf("%s is not there", want))
			case have[i].Tentative():
				missing = append(missing, have[i].String())
			}
		}
		return len(missing) == 0, strings.Join(missing, ", ")
	})
	if err != nil {
		return fmt.Errorf("wait for addresses in %s: %w", n.name, err)
	}
	return nil
}

// WaitSettled waits until every address that the namespace has can be used,
// and every link that is up and has a carrier has the link-local address that
// the kernel makes for it. Without that one a card cannot ask for its gateway
// on behalf of a packet whose source is another card's address.
func (n *Namespace) WaitSettled(ctx context.Context) error {
	if err := n.settleLinks(ctx); err != nil {
		return err
	}
	err := Poll(ctx, func() (bool, string) {
		want, err := n.linkLocalLinks()
		if err != nil {
			return false, err.Error()
		}
		have, err := n.Addresses(ctx)
		if err != nil {
			return false, err.Error()
		}
		for _, a := range have {
			if a.Tentative() {
				return false, a.String()
			}
			if a.Family == Inet6 && a.Prefix.Addr().IsLinkLocalUnicast() {
				delete(want, a.Link)
			}
		}
		for link := range want {
			return false, link + " has no link-local address"
		}
		return true, ""
	})
	if err != nil {
		return fmt.Errorf("wait for addresses in %s: %w", n.name, err)
	}
	return nil
}

// linkLocalLinks returns the links that the kernel makes a link-local address
// for.
func (n *Namespace) linkLocalLinks() (map[string]bool, error) {
	links := make(map[string]bool)
	return links, n.Do(func() error {
		all, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, link := range all {
			const running = net.FlagUp | net.FlagRunning
			if link.Flags&running != running || link.Flags&net.FlagLoopback != 0 {
				continue
			}
			mode, err := ipv6Setting(link.Name, "addr_gen_mode")
			if err != nil {
				return err
			}
			disabled, err := ipv6Setting(link.Name, "disable_ipv6")
			if err != nil {
				return err
			}
			// 1 means none; an empty one, that the link has just gone
			if mode != "" && mode != "1" && disabled == "0" {
				links[link.Name] = true
			}
		}
		return nil
	})
}

func ipv6Setting(link, key string) (string, error) {
	data, err := os.ReadFile(filepath.Join("/proc/sys/net/ipv6/conf", link, key))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(data)), err
}
