package boot

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Command returns a command that will run inside the machine, as root, beside its
// services. PID 1 must run when it starts.
func (m *Machine) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	argv := append([]string{"--target=" + strconv.Itoa(m.now().pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--", name}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", argv...)
	cmd.Env = []string{searchPath, "LANG=C", "HOME=/root", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER="}
	// A grandchild that holds the output open must not hold up Wait.
	cmd.WaitDelay = time.Second
	return cmd
}

// Run runs a command inside the machine and returns its standard output. The error,
// if any, has the command line and what it wrote to standard error.
func (m *Machine) Run(ctx context.Context, name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := m.Command(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(append([]string{name}, args...), " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

const (
	// bootPoll is how often a machine that does not answer yet is asked.
	bootPoll = 50 * time.Millisecond

	// bootWait bounds one answer, in seconds: systemctl does not report by itself a boot that
	// ends unusually, for example in emergency mode.
	bootWait = "2"
)

// WaitBooted waits until PID 1 has started all that it had to, and returns the state that it
// reports: "running", or "degraded" if a unit has failed. If the machine or ctx ends first, the
// error has the console.
func (m *Machine) WaitBooted(ctx context.Context) (state string, err error) {
	r := m.now()
	tick := time.NewTicker(bootPoll)
	defer tick.Stop()
	for {
		// Polling would take time from what it waits for.
		_, _ = m.Run(ctx, "timeout", bootWait, "systemctl", "is-system-running", "--wait")
		out, err := m.Run(ctx, "systemctl", "is-system-running")
		switch state := strings.TrimSpace(out); state {
		case "running", "degraded":
			return state, nil
		case "maintenance", "stopping":
			return state, r.failure("the machine is " + state)
		}
		select {
		case <-r.done:
			return "", r.failure("the machine ended")
		case <-ctx.Done():
			jobs, _ := m.Run(context.WithoutCancel(ctx), "systemctl", "list-jobs", "--no-legend")
			return "", r.failure(fmt.Sprintf("wait for the boot: %v: %v\njobs:\n%s", ctx.Err(), err, jobs))
		case <-tick.C:
		}
	}
}

// FailedUnits returns the names of the units that have failed.
func (m *Machine) FailedUnits(ctx context.Context) ([]string, error) {
	out, err := m.Run(ctx, "systemctl", "list-units", "--failed", "--plain", "--no-legend")
	var units []string
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 0 {
			units = append(units, fields[0])
		}
	}
	return units, err
}

// Journal returns what this boot has logged; args, such as "--priority=warning" or
// "--unit=NAME", choose as journalctl does.
func (m *Machine) Journal(ctx context.Context, args ...string) (string, error) {
	if _, err := m.Run(ctx, "journalctl", "--sync"); err != nil {
		return "", err
	}
	return m.Run(ctx, "journalctl", append([]string{"--boot", "--quiet", "--no-pager", "--output=short-monotonic"}, args...)...)
}

// Console returns what this boot has written to the console.
func (m *Machine) Console() string { return m.now().console.String() }
