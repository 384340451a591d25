package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/uplink-generator/uplink-generator/cmd/internal/bus"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// tryUnit is the name of the dead-man's units.
const tryUnit = "uplink-try"

// armTime bounds how long systemd may take for them.
const armTime = 10 * time.Second

// arm sees to it that GoBack runs when the time is over, whatever becomes of this process
// and of the session that it is in: as a timer of systemd's, or where systemd is not the
// one that has this network, as a process that nobody waits for.
//
// The timer runs out after timeout, which is never late: GoBack waits for the rest of the
// deadline. So the deadline can move without a moment in which there is no dead-man.
//
// Both run this very file. That it is removed within two minutes is not worth a copy of it.
func arm(ctx context.Context, root rootfs.Root, timeout time.Duration) error {
	exe, err := os.Executable()
	if err == nil {
		_, err = os.Stat(exe)
	}
	if err != nil {
		return err
	}
	command := []string{exe, "try", "--go-back"}
	if ofSystemd(root) {
		ctx, cancel := context.WithTimeout(ctx, armTime)
		defer cancel()
		systemd, err := bus.DialSystemd(ctx)
		if err != nil {
			return err
		}
		defer systemd.Close()
		return systemd.StartTimer(ctx, bus.Timer{
			Name: tryUnit, Description: "Go back to the uplinks as they were before uplinkctl try", After: timeout, Command: command,
		})
	}
	if !root.IsHost() {
		dir, err := filepath.Abs(root.String())
		if err != nil {
			return err
		}
		command = append(command, "--root", dir)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir, cmd.Env = "/", []string{}
	if root.IsHost() {
		// There is no journal. In some containers there is no log of the kernel's either.
		if log, err := os.OpenFile("/dev/kmsg", os.O_WRONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0); err == nil {
			defer log.Close()
			cmd.Stderr = log
		}
	}
	// No terminal and no session of anybody's: it is sent no signal when they end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// ofSystemd says whether systemd is PID 1 and in the network namespace of this process:
// what it starts is in its own.
func ofSystemd(root rootfs.Root) bool {
	if !root.IsHost() || !root.Exists("/run/systemd/system") {
		return false
	}
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return false
	}
	its, err := os.Readlink("/proc/1/ns/net")
	return err == nil && its == own
}

// disarm takes the timer away once there is nothing left to do for it. GoBack, where it
// runs already, finds that out by itself.
func disarm(root rootfs.Root) error {
	if !ofSystemd(root) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), armTime)
	defer cancel()
	systemd, err := bus.DialSystemd(ctx)
	if err != nil {
		return err
	}
	defer systemd.Close()
	return systemd.StopTimer(ctx, tryUnit)
}

const (
	// lockPatience is how long a try that is not in effect may keep the lock from who wants
	// to go back, because its time is over or somebody has said so.
	lockPatience = 5 * time.Second

	// lookInterval is how often it is looked whether a try has been decided.
	lookInterval = 200 * time.Millisecond
)

// GoBack is what the dead-man runs: it waits until the time of the try below root is
// over, and then brings everything back. It returns false where the try was decided
// before.
func GoBack(root string, stderr io.Writer) (bool, error) {
	signal.Ignore(syscall.SIGHUP)
	for {
		at, p, err := readTry(rootfs.At(root))
		switch {
		case err != nil:
			return false, err
		case at == noTry:
			return false, nil
		case at == pending && p.left() > 0:
			time.Sleep(min(p.left(), lookInterval))
			continue
		}
		h, err := openFrom(root, p)
		if err != nil {
			return false, err
		}
		at, p, err = readTry(h.Root)
		if err == nil && (at == goingBack || at == pending && p.left() <= 0) {
			err = h.goBack(stderr)
			h.Close()
			return true, err
		}
		h.Close()
	}
}

// openFrom is Open with the lock, even where the process has it that brings the try about,
// and hangs.
func openFrom(root string, p progress) (*Host, error) {
	done := make(chan struct{})
	defer close(done)
	if !p.InEffect {
		go func() {
			select {
			case <-done:
			case <-time.After(lockPatience):
				// Between the two it may end, and its number be another's: that takes all
				// numbers to be used up in a microsecond.
				if p.isAtWork() {
					_ = syscall.Kill(p.PID, syscall.SIGKILL)
				}
			}
		}()
	}
	return Open(context.Background(), root, 0, true)
}

// errNoTry says that there is nothing to decide.
var errNoTry = errors.New("no try is pending")

// CancelTry goes back at once, or tries once more where that has failed.
func CancelTry(root string, stderr io.Writer) error {
	return cancelTry(root, stderr, func() bool { return false })
}

// cancelTry is CancelTry for somebody who knows better once nobody else is at work.
func cancelTry(root string, stderr io.Writer, decided func() bool) error {
	at, p, err := readTry(rootfs.At(root))
	if err != nil {
		return err
	}
	if at == noTry {
		return errNoTry
	}
	h, err := openFrom(root, p)
	if err != nil {
		return err
	}
	if at, _, err = readTry(h.Root); err == nil && (at == noTry || decided()) {
		err = errNoTry
	}
	if err == nil {
		err = h.goBack(stderr)
	}
	h.Close()
	if err == nil {
		sayDisarmed(h.Root, stderr)
	}
	return err
}

func sayDisarmed(root rootfs.Root, stderr io.Writer) {
	if err := disarm(root); err != nil {
		fmt.Fprintf(stderr, "uplinkctl: it is decided, and the timer will find nothing to do, but: %v\n", err)
	}
}
