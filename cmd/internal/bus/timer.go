package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// Timer is a command that systemd runs once, some time from now: a transient timer and a service
// of the same name, as systemd-run(1) makes them.
type Timer struct {
	Name        string // of the units, without a suffix
	Description string
	After       time.Duration
	Command     []string // an absolute path and its arguments
}

// StartTimer starts a timer, replacing one of that name. Both units are gone once the command has
// ended, however it did.
func (s *Systemd) StartTimer(ctx context.Context, t Timer) error {
	timerUnit, serviceUnit := t.Name+".timer", t.Name+".service"
	if err := errors.Join(s.remove(ctx, timerUnit), s.remove(ctx, serviceUnit)); err != nil {
		return err
	}
	property := func(name string, value any) sd.Property {
		return sd.Property{Name: name, Value: dbus.MakeVariant(value)}
	}
	type monotonic struct {
		Base  string
		Value uint64 // microseconds
	}
	collect := property("CollectMode", "inactive-or-failed")
	timer := []sd.Property{
		sd.PropDescription(t.Description), collect,
		property("TimersMonotonic", []monotonic{{"OnActiveSec", uint64(t.After.Microseconds())}}),
		property("AccuracyUSec", uint64((100 * time.Millisecond).Microseconds())),
		property("RemainAfterElapse", false),
	}
	service := []sd.Property{
		sd.PropDescription(t.Description), collect, sd.PropType("oneshot"), sd.PropExecStart(t.Command, false),
	}
	err := wait(ctx, "start", timerUnit, func(done chan<- string) (int, error) {
		return s.conn.StartTransientUnitAux(ctx, timerUnit, "fail", timer, []sd.PropertyCollection{{Name: serviceUnit, Properties: service}}, done)
	})
	if err != nil {
		return err
	}
	// The wait may have ended before the job did.
	state, err := s.State(ctx, timerUnit)
	if err == nil && state != "active" {
		err = fmt.Errorf("%s is %s: see `journalctl -u %[1]s`", timerUnit, state)
	}
	return err
}

// StopTimer stops a timer, if it exists. It leaves the command alone.
func (s *Systemd) StopTimer(ctx context.Context, name string) error {
	return s.remove(ctx, name+".timer")
}

// remove stops a transient unit, and makes systemd forget that it has failed.
func (s *Systemd) remove(ctx context.Context, unit string) error {
	switch state, err := s.State(ctx, unit); {
	case err != nil || state == "inactive":
		return err
	case state == "failed":
		return s.ResetFailed(ctx, unit)
	}
	return s.Stop(ctx, unit)
}
