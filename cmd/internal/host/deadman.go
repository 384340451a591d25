package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/uplink-generator/uplink-generator/cmd/internal/bus"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// tryUnit is the name of the dead-man's units.
const tryUnit = "uplink-try"

// armTime bounds how long systemd may take to start or stop them.
const armTime = 10 * time.Second

// arm makes sure that GoBack runs when the time is over, whatever happens to this process and its
// session. It uses a timer of systemd's or, where this network is not systemd's, a process that
// nobody waits for.
//
// The timer runs out after timeout, which is never too late, because GoBack waits for the rest of
// the deadline. So the deadline can move without a moment in which there is no dead-man.
//
// Both run this very executable. It may be removed within the two minutes, but that is not worth
// a copy of it.
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
		// There is no journal, and in some containers no kernel log either.
		if log, err := os.OpenFile("/dev/kmsg", os.O_WRONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0); err == nil {
			defer log.Close()
			cmd.Stderr = log
		}
	}
	// No terminal and no session of anybody's, so that no signal reaches it when they end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// ofSystemd says whether systemd is PID 1 and in the network namespace of this process, because
// it starts processes in its own.
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

// disarm removes the timer once it has nothing left to do. A GoBack that runs already finds that
// out by itself.
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
	// lockPatience is how long a try that is not in effect yet may keep the lock from somebody
	// who wants to go back, because the time is over or on request.
	lockPatience = 5 * time.Second

	// lookInterval is how often GoBack looks whether a try has been decided.
	lookInterval = 200 * time.Millisecond
)

// GoBack is what the dead-man runs: it waits until the time of the try below root is over, and
// then brings everything back. It returns a message that says so, or "" if the try was decided
// before. If somebody else has failed to go back before, it tries again when the time is over,
// not at once.
func GoBack(root string, stderr io.Writer) (string, error) {
	signal.Ignore(syscall.SIGHUP)
	for {
		at, p, err := readTry(rootfs.At(root))
		left := p.left()
		if at == goingBack {
			left = untilAgain(rootfs.At(root))
		}
		switch {
		case err != nil:
			return "", err
		case at == noTry:
			return "", nil
		case left > 0:
			time.Sleep(min(left, lookInterval))
			continue
		}
		h, err := openFrom(root, p)
		if err != nil {
			return "", err
		}
		at, p, err = readTry(h.Root)
		if err == nil && (at == goingBack && untilAgain(h.Root) <= 0 || at == pending && p.left() <= 0) {
			left, err := h.goBack(stderr, false)
			h.Close()
			if err != nil {
				return "", err
			}
			return wentBack(left), nil
		}
		h.Close()
	}
}

// hasFailed says whether somebody has tried to go back and failed.
func hasFailed(root rootfs.Root) bool {
	back, err := root.Path(tryBackDir)
	if err != nil {
		return false
	}
	data, err := os.ReadFile(filepath.Join(back, outcomeFile))
	return err == nil && strings.HasPrefix(string(data), string(outcomeFailed)+"\n")
}

// untilAgain is the time until the dead-man goes back where somebody has failed to; 0 where
// somebody was killed while going back.
func untilAgain(root rootfs.Root) time.Duration {
	var p progress
	back, err := root.Path(tryBackDir)
	if err == nil {
		err = readJSON(filepath.Join(back, progressFile), &p)
	}
	if err != nil || !hasFailed(root) {
		return 0
	}
	return time.Duration(p.Deadline - monotonic())
}

// goBackAgainIn sets the time that untilAgain returns.
func goBackAgainIn(root rootfs.Root, left time.Duration) error {
	back, err := root.Path(tryBackDir)
	if err != nil {
		return err
	}
	return writeProgress(back, left, false)
}

// openFrom is Open with the lock, even if the process that brings the try about has it and hangs.
func openFrom(root string, p progress) (*Host, error) {
	done := make(chan struct{})
	defer close(done)
	if !p.InEffect {
		go func() {
			select {
			case <-done:
			case <-time.After(lockPatience):
				// The process may end after this check, and its number go to another one: for
				// that, all numbers would have to be used up within a microsecond.
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

// CancelTry goes back at once, or once more if that has failed; then it gives up what it cannot
// bring back. It returns what to say about it.
func CancelTry(root string, stderr io.Writer) (string, error) {
	return cancelTry(root, stderr, func() bool { return false })
}

// cancelTry is CancelTry, with a last check under the lock: decided says whether the try was
// decided.
func cancelTry(root string, stderr io.Writer, decided func() bool) (string, error) {
	at, p, err := readTry(rootfs.At(root))
	if err != nil && (at == noTry || errors.As(err, new(*PendingError))) {
		return "", err
	}
	if at == noTry {
		return "", errNoTry
	}
	h, err := openFrom(root, p)
	if err != nil {
		return "", err
	}
	var left []string
	// A record that cannot be read must not keep everybody out for good.
	if at, _, err = readTry(h.Root); at == noTry || decided() {
		err = cmp.Or(err, errNoTry)
	} else {
		left, err = h.goBack(stderr, at == goingBack && hasFailed(h.Root))
	}
	h.Close()
	if !errors.Is(err, errNoTry) && h.NotTrying() == nil {
		sayDisarmed(h.Root, stderr)
	}
	return wentBack(left), err
}

func sayDisarmed(root rootfs.Root, stderr io.Writer) {
	if err := disarm(root); err != nil {
		fmt.Fprintf(stderr, "uplinkctl: it is decided, and the timer will find nothing to do, but: %v\n", err)
	}
}
