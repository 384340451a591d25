package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// namespace is a network namespace of its own, with a thread that lives in it.
type namespace struct{ work chan func() }

func newNamespace() (*namespace, error) {
	n := &namespace{work: make(chan func())}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked, so that the namespace ends with the thread
		err := unix.Unshare(unix.CLONE_NEWNET)
		failed <- err
		if err != nil {
			return
		}
		for f := range n.work {
			f()
		}
	}()
	if err := <-failed; err != nil {
		return nil, fmt.Errorf("a network namespace: %w", err)
	}
	return n, nil
}

// do calls f in the namespace. Processes that f starts are in it, and sockets that f
// opens stay there.
func (n *namespace) do(f func() error) error {
	failed := make(chan error)
	n.work <- func() { failed <- f() }
	return <-failed
}

// close ends the thread, and the namespace with its last socket.
func (n *namespace) close() { close(n.work) }

// inNamespace calls f in a namespace that ends with it.
func inNamespace(f func() error) error {
	n, err := newNamespace()
	if err != nil {
		return err
	}
	defer n.close()
	return n.do(f)
}

// tornDown waits until the kernel has taken down the namespaces that have ended. With thousands
// of routes this takes a second, in which nobody else can change anything.
func tornDown(ctx context.Context) error {
	return inNamespace(func() error {
		// They are taken down in the order in which they ended, and with one of them its end of a
		// veth.
		last, err := newNamespace()
		if err != nil {
			return err
		}
		var there *os.File
		err = last.do(func() (err error) {
			there, err = os.Open("/proc/thread-self/ns/net")
			return err
		})
		if err == nil {
			err = errors.Join(netlink.LinkAdd(&netlink.Veth{
				LinkAttrs: netlink.LinkAttrs{Name: "near"}, PeerName: "far", PeerNamespace: netlink.NsFd(there.Fd()),
			}), there.Close())
		}
		last.close()
		for err == nil && ctx.Err() == nil {
			if _, err := netlink.LinkByName("near"); errors.As(err, &netlink.LinkNotFoundError{}) {
				return nil
			}
			time.Sleep(10 * time.Millisecond)
		}
		return errors.Join(err, ctx.Err())
	})
}
