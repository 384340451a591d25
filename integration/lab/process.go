package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// stopLimit is how long a process may take over SIGTERM.
const stopLimit = 5 * time.Second

// process is a program in the background.
type process struct {
	cmd  *exec.Cmd
	log  logBuffer
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

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// stop ends the process, gently at first. A nil process is none to stop.
func (p *process) stop() error {
	if p == nil || !p.running() {
		return nil
	}
	// An error is that it has just ended.
	_ = p.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopLimit):
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	return fmt.Errorf("%s did not end within %s of SIGTERM and was killed", p.cmd.Path, stopLimit)
}

// logBuffer is a buffer that can be read while it is written to.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends to the buffer.
func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns what has been written so far.
func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
