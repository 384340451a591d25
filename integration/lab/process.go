package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stopLimit is how long a process may take to end after SIGTERM.
const stopLimit = 20 * time.Second

// process is a program in the background.
type process struct {
	cmd  *exec.Cmd
	log  Buffer
	done chan struct{} // closed when it has ended
	err  error         // why, after done
}

// startProcess starts a program in root, in the namespaces of the calling
// thread and with nothing of the caller's environment but what env has.
func startProcess(root string, env []string, name string, args ...string) (*process, error) {
	p := &process{done: make(chan struct{})}
	p.cmd = exec.Command(name, args...)
	p.cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C"}, env...)
	p.cmd.Dir = "/"
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.WaitDelay = time.Second
	if root != "/" {
		p.cmd.SysProcAttr = &unix.SysProcAttr{Chroot: root}
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		if p.err == nil {
			p.err = errors.New("exit status 0")
		}
		close(p.done)
	}()
	return p, nil
}

// waitLog waits until the process has logged a text. It gives up when the process has ended.
func (p *process) waitLog(ctx context.Context, text string) error {
	err := Poll(ctx, func() (bool, string) {
		return strings.Contains(p.log.String(), text) || !p.running(), "it has not logged " + strconv.Quote(text)
	})
	if err == nil && !p.running() {
		err = fmt.Errorf("ended: %w", p.err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w; its log:\n%s", p.cmd.Path, err, p.log.String())
	}
	return nil
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the process, and all that it has started, without warning. For a nil process it does
// nothing.
func (p *process) kill() {
	if p == nil || !p.running() {
		return
	}
	// A stopped process starts no other, so in the end all of them are known. One that was only
	// told to stop may be within a fork. Errors mean that a process has just ended.
	all := map[int]bool{}
	for found := []int{p.cmd.Process.Pid}; len(found) > 0; {
		for _, pid := range found {
			all[pid] = true
			_ = unix.Kill(pid, unix.SIGSTOP)
		}
		for _, pid := range found {
			awaitStopped(pid)
		}
		found = slices.DeleteFunc(descendants(p.cmd.Process.Pid), func(pid int) bool { return all[pid] })
	}
	for pid := range all {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	<-p.done
}

// awaitStopped waits until no thread of a process runs. A thread in an uninterruptible call does
// not stop, so it does not wait for long.
func awaitStopped(pid int) {
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if !slices.ContainsFunc(threads, runs) {
			return
		}
	}
}

// runs says whether a thread, or a process, is neither stopped nor dead.
func runs(stat string) bool {
	data, err := os.ReadFile(stat)
	// NUMBER (COMMAND) STATE …, and a command may have a parenthesis in it: proc_pid_stat(5).
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	return err == nil && len(fields) > 0 && !strings.Contains("TtZX", fields[0])
}

// descendants returns the numbers of the processes that one has started, and of those that these
// have started.
func descendants(pid int) []int {
	var all []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		data, _ := os.ReadFile(task)
		for _, field := range strings.Fields(string(data)) {
			if child, err := strconv.Atoi(field); err == nil {
				all = append(append(all, child), descendants(child)...)
			}
		}
	}
	return all
}

// stop ends the process, gently at first. For a nil process it does nothing.
func (p *process) stop() error {
	if p == nil || !p.running() {
		return nil
	}
	// An error means that it has just ended.
	_ = p.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopLimit):
	}
	p.kill()
	return fmt.Errorf("%s did not end within %s of SIGTERM and was killed", p.cmd.Path, stopLimit)
}
