package lab

import (
	"context"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// busSocket is where programs look for the system bus.
const busSocket = "run/dbus/system_bus_socket"

// startBus starts a message bus on a thread that has its own /run, and waits until it answers. It
// may return a process along with an error.
func startBus(ctx context.Context, root string) (*process, error) {
	if err := mkdirAll(filepath.Join(root, filepath.Dir(busSocket))); err != nil {
		return nil, err
	}
	bus, err := startProcess(root, nil, "dbus-daemon", "--system", "--nofork", "--nopidfile", "--nosyslog")
	if err != nil {
		return nil, err
	}
	return bus, Poll(ctx, func() (bool, string) {
		if !bus.running() {
			return false, "dbus-daemon ended: " + bus.log.String()
		}
		// Connecting, not only looking: the socket exists before the bus listens on it.
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return false, err.Error()
		}
		defer unix.Close(fd)
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: filepath.Join(root, busSocket)})
		if err != nil {
			return false, fmt.Sprintf("bus: %v: %s", err, bus.log.String())
		}
		return true, ""
	})
}
