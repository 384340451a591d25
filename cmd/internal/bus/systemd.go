package bus

import (
	"context"
	"fmt"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
)

// Systemd is a connection to the service manager.
type Systemd struct {
	conn  *sd.Conn
	close context.CancelFunc
}

const (
	// dialTime bounds how long systemd, or the message bus, may take to accept a connection.
	dialTime = 5 * time.Second

	// reloadTime bounds a daemon-reload: systemd allows its generators 90 seconds, but each takes
	// a few milliseconds.
	reloadTime = 10 * time.Second
)

// DialSystemd connects to the service manager itself, which needs no message bus. The
// connection ends with ctx.
func DialSystemd(ctx context.Context) (*Systemd, error) {
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(dialTime, cancel)
	conn, err := sd.NewSystemdConnectionContext(ctx)
	if !late.Stop() && err == nil {
		conn.Close()
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("systemd does not answer: %w: see `systemctl status`, and run this again", err)
	}
	return &Systemd{conn, cancel}, nil
}

// Close ends the connection.
func (s *Systemd) Close() {
	s.conn.Close()
	s.close()
}

// Reload makes systemd run the generators again and read the units: `systemctl daemon-reload`.
func (s *Systemd) Reload(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reloadTime)
	defer cancel()
	if err := s.conn.ReloadContext(ctx); err != nil {
		return fmt.Errorf("systemctl daemon-reload: %w", err)
	}
	return nil
}

// State returns a unit's ActiveState, which is "inactive" where there is no such unit.
func (s *Systemd) State(ctx context.Context, unit string) (string, error) {
	p, err := s.conn.GetUnitPropertyContext(ctx, unit, "ActiveState")
	if err != nil {
		return "", fmt.Errorf("systemctl show %s: %w", unit, err)
	}
	state, _ := p.Value.Value().(string)
	return state, nil
}

// Start starts a unit and waits for it for as long as ctx lasts. It is no error if the unit takes
// longer: what it depends on may be waiting for the very unit that calls.
func (s *Systemd) Start(ctx context.Context, unit string) error {
	return wait(ctx, "start", unit, func(done chan<- string) (int, error) {
		return s.conn.StartUnitContext(ctx, unit, "replace", done)
	})
}

// Stop stops a unit, and waits like Start.
func (s *Systemd) Stop(ctx context.Context, unit string) error {
	return wait(ctx, "stop", unit, func(done chan<- string) (int, error) {
		return s.conn.StopUnitContext(ctx, unit, "replace", done)
	})
}

// ResetFailed makes systemd forget that a unit has failed.
func (s *Systemd) ResetFailed(ctx context.Context, unit string) error {
	if err := s.conn.ResetFailedUnitContext(ctx, unit); err != nil {
		return fmt.Errorf("systemctl reset-failed %s: %w", unit, err)
	}
	return nil
}

// wait queues a job and waits for its end.
func wait(ctx context.Context, verb, unit string, queue func(chan<- string) (int, error)) error {
	done := make(chan string, 1)
	if _, err := queue(done); err != nil {
		return fmt.Errorf("systemctl %s %s: %w", verb, unit, err)
	}
	select {
	case <-ctx.Done():
		return nil
	case result := <-done:
		if result != "done" && result != "skipped" {
			return fmt.Errorf("systemctl %s %s: the job is %s: see `journalctl -u %[2]s`", verb, unit, result)
		}
		return nil
	}
}
