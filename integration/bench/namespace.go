package main

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace of its own, with a thread that lives in it.
type namespace struct{ work chan func() }

func newNamespace() (*namespace, error) {
	n := &namespace{work: make(chan func())}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the namespace ends with the thread
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
