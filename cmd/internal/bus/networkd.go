// Package bus tells systemd and systemd-networkd over D-Bus what has changed.
package bus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

const (
	network  = "org.freedesktop.network1"
	manager  = network + ".Manager"
	busError = "org.freedesktop.DBus.Error."
)

// ReloadNetworkd makes networkd read its files again and configure the links whose files have
// changed. networkd answers before it has done that.
func ReloadNetworkd(ctx context.Context, root rootfs.Root) error {
	return callNetworkd(ctx, root, "Reload")
}

// ReconfigureLink makes networkd configure the link with that index from scratch, without reading
// its files again.
func ReconfigureLink(ctx context.Context, root rootfs.Root, index int) error {
	return callNetworkd(ctx, root, "ReconfigureLink", int32(index))
}

// attempts is how often networkd is looked for on the bus: it starts before the bus does, and may
// not be on it yet.
const attempts = 20

// CallTime bounds one call, including the search for networkd. networkd answers at once unless it
// hangs, and then the bus would wait for ever.
const CallTime = 10 * time.Second

var callTime = CallTime

func callNetworkd(ctx context.Context, root rootfs.Root, method string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	conn, err := dial(ctx, root)
	for ; errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil; conn, err = dial(ctx, root) {
		time.Sleep(100 * time.Millisecond) // during a boot the bus may not be up yet
	}
	if err != nil {
		return fmt.Errorf("systemd-networkd is told of new files through the message bus, which does not answer: %w: see `systemctl status dbus`", err)
	}
	defer conn.Close()
	object := conn.Object(network, "/org/freedesktop/network1")
	for i := 1; ; i++ {
		err = object.CallWithContext(ctx, manager+"."+method, dbus.FlagNoAutoStart, args...).Err
		if err == nil {
			return nil
		}
		var refused dbus.Error
		answered := errors.As(err, &refused)
		absent := answered && (refused.Name == busError+"ServiceUnknown" || refused.Name == busError+"NameHasNoOwner")
		if end := ctx.Err(); end != nil && !answered {
			err = end // The connection is closed with ctx, and the call may notice that first.
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("systemd-networkd does not answer %s within %v: %w: see `systemctl status systemd-networkd`", method, callTime, err)
		}
		if !absent || i == attempts || ctx.Err() != nil {
			return fmt.Errorf("systemd-networkd refuses %s: %w: see `journalctl -u systemd-networkd`", method, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// dial connects to the host's system bus. It logs in by number, because looking up the name would
// need more than a static program has.
func dial(ctx context.Context, root rootfs.Root) (*dbus.Conn, error) {
	socket, err := root.Path("/run/dbus/system_bus_socket")
	if err != nil {
		return nil, err
	}
	conn, err := dbus.Dial("unix:path="+dbus.EscapeBusAddressValue(socket), dbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	if err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err == nil {
		err = conn.Hello()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
