package boot_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/uplink-generator/uplink-generator/integration/boot"
	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// TestMachine boots one with everything that a Config can say.
func TestMachine(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite boot.Suite) {
		h := booted(t, boot.Config{
			Root: boot.Root{Suite: suite}, Enable: []string{"hello.service"},
			Files: map[string]boot.File{
				"/usr/local/bin/hello":              boot.Program("#!/bin/sh\necho hello\n"),
				"/etc/systemd/system/hello.service": boot.Text("[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=hello\n[Install]\nWantedBy=multi-user.target\n"),
				"/etc/systemd/system/" + networkd:   boot.Masked,
			},
			CommandLine: []string{"lab.word=1"},
			Credentials: map[string]string{"lab": "secret"},
			ReadOnly:    true, Tmpfs: []string{"/var"},
		}, "")
		if out := h.must("hello"); out != "hello\n" {
			t.Errorf("%q", out)
		}
		if out := h.must("cat", "/proc/1/cmdline"); !strings.HasSuffix(out, "\x00lab.word=1\x00") {
			t.Errorf("the command line is %q", out)
		}
		if state := h.must("systemctl", "is-active", "hello.service"); state != "active\n" {
			t.Errorf("the enabled unit is %s", state)
		}
		// It says where it has them in its own environment.
		if out := h.must("sh", "-c", `cat "$(tr '\0' '\n' < /proc/1/environ | sed -n 's/^CREDENTIALS_DIRECTORY=//p')/lab"`); out != "secret" {
			t.Errorf("the credential is %q", out)
		}
		if out, err := h.Run(h.ctx, "touch", "/usr/x"); err == nil {
			t.Errorf("/usr can be written to: %s", out)
		}
		h.must("touch", "/var/x")
		if out, err := h.Run(h.ctx, "sh", "-c", "echo out; echo err >&2; exit 3"); out != "out\n" || err == nil || !strings.Contains(err.Error(), "exit status 3: err") {
			t.Errorf("%q %v", out, err)
		}
		if state, _ := h.Run(h.ctx, "systemctl", "is-enabled", networkd); state != "masked\n" {
			t.Errorf("networkd is %q", state)
		}
	})
}

// TestRebootAndPowerOff has PID 1 end itself in both ways.
func TestRebootAndPowerOff(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite boot.Suite) {
		h := booted(t, boot.Config{Root: boot.Root{Suite: suite}, Files: byHand, Enable: []string{networkd}}, "running")
		if err := h.lab.Host.WaitAddresses(h.ctx, recipeAddrs...); err != nil {
			t.Fatal(err)
		}
		id := h.must("cat", "/proc/sys/kernel/random/boot_id")
		h.must("touch", "/root/kept", "/run/gone")
		h.must("ip", "rule", "add", "priority", "77", "from", "192.0.2.10", "lookup", "77")
		h.must("ip", "route", "add", "blackhole", "203.0.113.0/24", "table", "77")
		h.must("systemctl", "disable", networkd, "systemd-networkd.socket")
		if err := h.Reboot(h.ctx); err != nil {
			t.Fatal(err)
		}
		h.wait("running")
		h.must("test", "-e", "/root/kept", "-a", "!", "-e", "/run/gone")
		// systemd-nspawn gives each boot one of its own.
		if h.must("cat", "/proc/sys/kernel/random/boot_id") == id {
			t.Error("it is the same boot")
		}
		if out := h.network(); strings.Contains(out, "77") || strings.Contains(out, "192.0.2.") {
			t.Errorf("left of the first boot:\n%s", out)
		}
		if err := h.PowerOff(h.ctx); err != nil {
			t.Fatal(err)
		}
		if out, err := h.Run(h.ctx, "true"); err == nil {
			t.Errorf("it runs still: %s", out)
		}
	})
}

// TestMachineThatDoesNotBoot checks that the error has what a machine has said.
func TestMachineThatDoesNotBoot(t *testing.T) {
	t.Parallel()
	require(t)
	l, err := lab.New(lab.TwoUplinks())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m, err := boot.Start(t.Context(), boot.Config{
		Root: boot.Root{Suite: boot.Bookworm}, Lab: l,
		Files: map[string]boot.File{"/lib/systemd/systemd": boot.Program("#!/bin/sh\necho no boot today\n")},
	})
	if err == nil {
		defer m.Close()
		_, err = m.WaitBooted(t.Context())
	}
	if err == nil || !strings.Contains(err.Error(), "no boot today") {
		t.Errorf("the error is %v", err)
	}
}

// TestPrepareAtTheSameTime has two ask for what is made already; what is not there is
// an error.
func TestPrepareAtTheSameTime(t *testing.T) {
	t.Parallel()
	require(t)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			dir, err := boot.Prepare(t.Context(), boot.Root{Suite: boot.Bookworm})
			if _, statErr := os.Stat(filepath.Join(dir, "etc/os-release")); err != nil || statErr != nil {
				t.Error(err, statErr)
			}
		})
	}
	wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := boot.Prepare(ctx, boot.Root{Suite: "no-such-suite"}); err == nil || !strings.Contains(err.Error(), "no-such-suite") {
		t.Error(err)
	}
}

// asChild is set for the process that TestKilledRun kills.
const asChild = "UPLINK_BOOT_TEST_CHILD"

// TestKilledRun kills a process that has a machine, which must end with it, and then removes the
// rest.
func TestKilledRun(t *testing.T) {
	require(t)
	if os.Getenv(asChild) != "" {
		booted(t, boot.Config{Root: boot.Root{Suite: boot.Bookworm}, Product: installed(t)}, "running")
		os.Stderr.WriteString("booted\n")
		select {}
	}
	if _, err := boot.Prepare(t.Context(), boot.Root{Suite: boot.Bookworm}); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestKilledRun$")
	cmd.Env = append(os.Environ(), asChild+"=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stderr).ReadString('\n'); line != "booted\n" {
		t.Errorf("%q %v", line, err)
	}
	inside := machineProcesses(t, cmd.Process.Pid)
	if dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), "uplink-product-"+strconv.Itoa(cmd.Process.Pid)+"-*")); len(dirs) != 1 {
		t.Errorf("the child's product is in %v", dirs)
	}
	if len(inside) < 3 {
		t.Errorf("only %v in the machine's groups", inside)
	}
	if err := errors.Join(cmd.Process.Kill(), cmd.Wait()); err == nil {
		t.Error("the child ended by itself")
	}
	err = lab.Poll(t.Context(), func() (bool, string) {
		left := machineProcesses(t, cmd.Process.Pid)
		return len(left) == 0, strings.Join(left, " ") + " still run"
	})
	if err != nil {
		t.Error(err)
	}
	if err := boot.RemoveStale(t.Context()); err != nil {
		t.Error(err)
	}
	prefix := "uplink-boot-" + strconv.Itoa(cmd.Process.Pid)
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), prefix) {
		t.Error(err, string(mounts))
	}
	for _, pattern := range []string{"/sys/fs/cgroup/" + prefix + "*", "/sys/fs/cgroup/*/" + prefix + "*", "/run/netns/uplink-" + strconv.Itoa(cmd.Process.Pid) + "-*", "/run/systemd/nspawn/*", filepath.Join(os.TempDir(), "uplink-product-"+strconv.Itoa(cmd.Process.Pid)+"-*")} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// machineProcesses returns the processes, of whatever computer, whose control group is
// one of the machines of an owner.
func machineProcesses(t *testing.T, owner int) (pids []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, _ := os.ReadFile(file) // it may have ended
		if strings.Contains(string(data), "/uplink-boot-"+strconv.Itoa(owner)+"-") {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return pids
}
