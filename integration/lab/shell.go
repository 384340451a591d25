package lab

import (
	"context"
	"fmt"
	"io/fs"
	"os/exec"
	"strconv"
	"time"
)

// Shell is a host's network with a file system of its own, as [Namespace.StartNetworkd] makes it,
// but without a daemon: what an administrator at the console would have.
type Shell struct{ holder *process }

// StartShell makes one with the given files, a tree as in [NetworkdOptions] and single
// ones by path. It lasts until the lab is closed.
func (n *Namespace) StartShell(tree fs.FS, single map[string]string) (*Shell, error) {
	s := &Shell{}
	files, err := collect(tree, single)
	if err == nil {
		err = n.Do(func() error {
			if err := privateMounts("/", files); err != nil {
				return err
			}
			// The file system lasts as long as somebody is in it.
			s.holder, err = startProcess("/", nil, "sleep", "infinity")
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("start a shell in %s: %w", n.name, err)
	}
	n.adopt(s)
	return s, nil
}

// Command returns a command that will run in the network and the file system.
func (s *Shell) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	argv := append([]string{"--target=" + strconv.Itoa(s.holder.cmd.Process.Pid), "--net", "--mount", "--root", "--wd", "--", name}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", argv...)
	cmd.WaitDelay = time.Second
	return cmd
}

// Stop ends it, and with it all that was written in its file system.
func (s *Shell) Stop() error { return s.holder.stop() }
