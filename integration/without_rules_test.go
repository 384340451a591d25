package integration

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
)

// Every kernel that the tests run on has rules. A supervisor gives a program the answers of a
// kernel without them: it changes what the program sends before the kernel reads it, so that
// requests for rules become requests for what this kernel does not have. seccomp_unotify(2).

// supervisedEnv makes a test process run supervised: runSupervised.
const supervisedEnv = "UPLINK_TEST_SUPERVISED"

// The files that it gets from its supervisor.
const (
	supervisedSays  = 3 // where its listener is: "PID DESCRIPTOR\n"
	supervisedWaits = 4 // until the supervisor has it
)

// runSupervised makes sendto(2) of this thread wait for a supervisor, and then executes the
// program in its arguments.
func runSupervised() error {
	runtime.LockOSThread()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: unix.SYS_SENDTO},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	listener, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	if _, err := fmt.Fprintf(os.NewFile(supervisedSays, ""), "%d %d\n", os.Getpid(), listener); err != nil {
		return err
	}
	if _, err := os.NewFile(supervisedWaits, "").Read(make([]byte, 1)); err != nil {
		return err
	}
	unix.CloseOnExec(supervisedSays)
	unix.CloseOnExec(supervisedWaits)
	if err := os.Unsetenv(supervisedEnv); err != nil {
		return err
	}
	return unix.Exec(os.Args[1], os.Args[1:], os.Environ())
}

// notification and response are struct seccomp_notif and struct seccomp_notif_resp.
type notification struct {
	id         uint64
	pid, flags uint32
	call, arch uint32
	at         uint64
	args       [6]uint64
}

type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// supervise changes what a process sends, until it has ended. The process waits meanwhile.
func supervise(listener int, change func(messages []byte)) error {
	for {
		poll := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		switch _, err := unix.Poll(poll, -1); {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case poll[0].Revents&unix.POLLIN == 0:
			return nil // the process that it was for is gone
		}
		var asks notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&asks))); errno != 0 {
			if errno == unix.EINTR || errno == unix.ENOENT {
				continue
			}
			return errno
		}
		if err := changeSent(&asks, change); err != nil {
			return err
		}
		answer := response{id: asks.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&answer))); errno != 0 && errno != unix.ENOENT {
			return errno
		}
	}
}

// changeSent changes the buffer of a sendto(2).
func changeSent(asks *notification, change func([]byte)) error {
	memory, err := os.OpenFile("/proc/"+strconv.FormatUint(uint64(asks.pid), 10)+"/mem", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer memory.Close()
	at, messages := int64(asks.args[1]), make([]byte, asks.args[2])
	if _, err := memory.ReadAt(messages, at); err != nil {
		return err
	}
	change(messages)
	_, err = memory.WriteAt(messages, at)
	return err
}

// withoutRules returns a function that turns requests for rules into some that this kernel cannot
// serve, and counts them. There are two such kernels (fib_nl_dumprule in net/core/fib_rules.c,
// and rtnetlink_rcv_msg): one where others, such as IPv6, use the code of rules, and one without
// that code.
func withoutRules(code bool, asked, changed *int) func([]byte) {
	const header, family, unregistered = 16, unix.AF_PACKET, 52 // RTM_NEWPREFIX is only ever told
	return func(b []byte) {
		for len(b) > header {
			n := int(binary.NativeEndian.Uint32(b))
			if n <= header || n > len(b) {
				return
			}
			switch kind := binary.NativeEndian.Uint16(b[4:]); kind {
			case unix.RTM_GETRULE:
				if *asked++; code {
					b[header] = family
				} else {
					binary.NativeEndian.PutUint16(b[4:], unregistered+2)
				}
			case unix.RTM_NEWRULE, unix.RTM_DELRULE, unix.RTM_NEWROUTE, unix.RTM_NEWADDR:
				if *changed++; kind == unix.RTM_NEWRULE || kind == unix.RTM_DELRULE {
					binary.NativeEndian.PutUint16(b[4:], unregistered)
				}
			}
			b = b[min((n+3)&^3, len(b)):]
		}
	}
}

// supervised runs uplinkctl, and changes what it sends.
func (c *cli) supervised(change func([]byte), command string, args ...string) answer {
	c.t.Helper()
	dir, err := built()
	if err != nil {
		c.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	says, saysThere, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	defer says.Close()
	waitsThere, waits, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	defer waits.Close()
	var stdout, stderr strings.Builder
	cmd := c.host.Command(c.ctx, self, append([]string{filepath.Join(dir, programs.Control), command, "--root", c.root}, args...)...)
	cmd.Env = append(os.Environ(), supervisedEnv+"=1")
	cmd.ExtraFiles = []*os.File{saysThere, waitsThere}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Start()
	saysThere.Close()
	waitsThere.Close()
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	var pid, number int
	if _, err := fmt.Fscan(says, &pid, &number); err != nil {
		_ = cmd.Wait()
		c.t.Fatal(err, stderr.String())
	}
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	defer unix.Close(process)
	listener, err := unix.PidfdGetfd(process, number, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	defer unix.Close(listener)
	if _, err := waits.WriteString("\n"); err != nil {
		c.t.Fatal(err)
	}
	if err := supervise(listener, change); err != nil {
		c.t.Fatal(err)
	}
	_ = cmd.Wait()
	return answer{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// TestKernelWithoutPolicyRouting brings a spec into effect where the kernel has no rules: one
// line says so, and nothing is left half done.
func TestKernelWithoutPolicyRouting(t *testing.T) {
	t.Parallel()
	require(t)
	ctx, l, c := bootHost(t, provider1, provider2)
	c.spec(twoUplinks)
	before := dump(ctx, t, l.Host)
	for what, code := range map[string]bool{"with the code for rules": true, "without the code for rules": false} {
		for _, command := range []string{"apply", "reload", "diff", "verify"} {
			asked, changed := 0, 0
			a := c.supervised(withoutRules(code, &asked, &changed), command)
			const says = "this kernel was built without policy routing (CONFIG_IP_MULTIPLE_TABLES, CONFIG_IPV6_MULTIPLE_TABLES)"
			if a.said(t, command+" "+what, programs.Control, says); a.stdout != "" || strings.Count(a.stderr, says) != 1 {
				t.Errorf("%s %s: it says\n%s%s", command, what, a.stdout, a.stderr)
			}
			if command == "apply" && strings.Count(a.stderr, "\n") != 1 {
				t.Errorf("%s %s: that is more than a line:\n%s", command, what, a.stderr)
			}
			if asked == 0 || changed != 0 {
				t.Errorf("%s %s: %d requests for rules, and %d changes", command, what, asked, changed)
			}
			if after := dump(ctx, t, l.Host); after != before {
				t.Errorf("%s %s: the kernel was changed: %s", command, what, firstDifference(before, after))
			}
		}
	}
	err := filepath.WalkDir(filepath.Join(c.root, "run"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && e.Name() != "lock" {
			t.Errorf("%s is left", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	// If nothing that it sends is changed, the same way works.
	if a := c.supervised(func([]byte) {}, "apply"); a.code != 0 || a.stderr != "" {
		t.Errorf("exit status %d: %s", a.code, a.stderr)
	}
}
