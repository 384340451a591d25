package boot

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

const qemu = "qemu-system-x86_64"

// VMConfig describes a virtual machine. Disk and Lab are needed.
type VMConfig struct {
	Disk *Disk

	// Lab is the network. The machine's cards are on the wires of those of the lab's
	// host, which has no addresses then.
	Lab *lab.Lab

	// Cards are the cards of the lab's host that the machine has from the start, in order.
	Cards []string

	// CommandLine is added to the kernel's.
	CommandLine []string

	// Credentials are passed by the firmware, by name.
	Credentials map[string]string

	// Writable adds a tmpfs over the disk. Without it, only /run and an empty /var can be
	// written.
	Writable bool
}

// VM is a virtual machine with its own kernel, firmware and devices. It is slow, because its
// processor is emulated, so that it runs everywhere.
type VM struct {
	config  VMConfig
	dir     string
	thread  *thread
	cmd     *exec.Cmd
	output  lab.Buffer
	done    chan struct{} // closed when QEMU has ended
	agent   *agent
	monitor *monitor
	sockets []net.Conn
}

// StartVM starts a virtual machine and returns once its systemd runs: see [VM.WaitBooted].
// ctx bounds only the start. On error nothing is left of it.
func StartVM(ctx context.Context, c VMConfig) (*VM, error) {
	v := &VM{config: c, done: make(chan struct{})}
	if err := v.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start a virtual machine: %w; its console:\n%s", err, v.Console()), v.Close())
	}
	return v, nil
}

func (v *VM) start(ctx context.Context) (err error) {
	if v.dir, err = ownDir(vmPrefix); err != nil {
		return err
	}
	if err := v.wire(ctx); err != nil {
		return err
	}
	// QEMU connects to us, so there is nothing to wait for.
	var listeners []*net.UnixListener
	for _, name := range []string{"agent", "monitor"} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: v.socket(name), Net: "unix"})
		if err != nil {
			return err
		}
		defer l.Close()
		listeners = append(listeners, l)
	}
	v.thread = newThread(v.config.Lab.Host)
	err = v.thread.do(func() error {
		v.cmd = exec.Command(qemu, v.arguments()...)
		v.cmd.Stdout, v.cmd.Stderr = &v.output, &v.output
		// The thread ends when this process does, in whatever way.
		v.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
		return v.cmd.Start()
	})
	if err != nil {
		v.cmd = nil
		return err
	}
	go func() {
		_ = v.cmd.Wait() // how QEMU ended does not say how the machine did
		close(v.done)
	}()
	for _, l := range listeners {
		if err := l.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			return err
		}
		conn, err := l.Accept()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", qemu, err, v.output.String())
		}
		v.sockets = append(v.sockets, conn)
	}
	if v.monitor, err = newMonitor(v.sockets[1]); err != nil {
		return err
	}
	v.agent = newAgent(v.sockets[0])
	_, err = v.agent.wait(ctx, "ready")
	return err
}

func (v *VM) socket(name string) string { return filepath.Join(v.dir, name) }

// cards returns the lab's cards by name.
func (v *VM) cards() ([]string, error) {
	var names []string
	err := v.config.Lab.Host.Do(func() error {
		links, err := net.Interfaces()
		for _, l := range links {
			if strings.HasPrefix(l.Name, "eth") {
				names = append(names, l.Name)
			}
		}
		return err
	})
	return names, err
}

// wire lays a wire from each of the host's cards to a tap device.
func (v *VM) wire(ctx context.Context) error {
	host := v.config.Lab.Host
	// The wires must not send packets of their own.
	for _, key := range []string{"net.ipv6.conf.all.disable_ipv6", "net.ipv6.conf.default.disable_ipv6"} {
		if err := host.Sysctl(key, "1"); err != nil {
			return err
		}
	}
	cards, err := v.cards()
	if err != nil {
		return err
	}
	for _, card := range cards {
		for _, command := range []string{
			"link add wire-" + card + " type bridge mcast_snooping 0 forward_delay 0",
			"tuntap add dev tap-" + card + " mode tap",
			"link set " + card + " master wire-" + card + " up",
			"link set tap-" + card + " master wire-" + card + " up",
			"link set wire-" + card + " up",
		} {
			if _, err := host.Run(ctx, "ip", strings.Fields(command)...); err != nil {
				return err
			}
		}
	}
	return nil
}

// MAC returns the address of the machine's card on the wire of a card of the lab's host.
func MAC(card string) string {
	return fmt.Sprintf("52:54:00:00:00:%02x", 1+card[len(card)-1]-'0')
}

// device returns the properties of a card.
func device(card string) map[string]string {
	return map[string]string{
		"driver": "virtio-net-pci", "id": card, "netdev": "wire-" + card, "mac": MAC(card),
		"romfile": "", "addr": fmt.Sprintf("0x%x", 0x10+card[len(card)-1]-'0'),
	}
}

func (v *VM) arguments() []string {
	// If the timer is late, as on a busy computer, the kernel would panic.
	line := []string{"no_timer_check", "console=ttyS0", "panic=-1", "quiet", "systemd.show_status=0", "systemd.log_target=journal"}
	if v.config.Writable {
		line = append(line, overlayWord)
	} else {
		line = append(line, "systemd.volatile=state")
	}
	line = append(line, v.config.CommandLine...)
	args := []string{
		// One processor: QEMU does not emulate well a kernel that changes its own code while
		// another processor runs it (an oops by int3 in one boot of ten, QEMU 7.2).
		"-machine", "pc", "-accel", "tcg", "-cpu", "max", "-m", "512", "-smp", "1",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", v.config.Disk.kernel(), "-initrd", v.config.Disk.initrd(), "-append", strings.Join(line, " "),
		"-drive", "file=" + v.config.Disk.image() + ",format=raw,if=virtio,readonly=on",
		"-device", "virtio-rng-pci",
		"-serial", "file:" + v.socket("console"),
		"-chardev", "socket,id=agent,path=" + v.socket("agent"), "-serial", "chardev:agent",
		"-chardev", "socket,id=monitor,path=" + v.socket("monitor"), "-mon", "chardev=monitor,mode=control",
	}
	for _, id := range slices.Sorted(maps.Keys(v.config.Credentials)) {
		text := base64.StdEncoding.EncodeToString([]byte(v.config.Credentials[id]))
		args = append(args, "-smbios", "type=11,value=io.systemd.credential.binary:"+id+"="+text)
	}
	cards, _ := v.cards() // wire has called it before
	for _, card := range cards {
		args = append(args, "-netdev", "tap,id=wire-"+card+",ifname=tap-"+card+",script=no,downscript=no")
	}
	for _, card := range v.config.Cards {
		properties := device(card)
		words := []string{properties["driver"]}
		for _, key := range slices.Sorted(maps.Keys(properties)) {
			if key != "driver" {
				words = append(words, key+"="+properties[key])
			}
		}
		args = append(args, "-device", strings.Join(words, ","))
	}
	return args
}

// Plug plugs in the machine's card on the wire of a card of the lab's host.
func (v *VM) Plug(card string) error { return v.monitor.execute("device_add", device(card)) }

// Unplug asks the machine to release a card, and waits until it has.
func (v *VM) Unplug(ctx context.Context, card string) error {
	if err := v.monitor.execute("device_del", map[string]string{"id": card}); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := v.monitor.conn.SetReadDeadline(deadline); err != nil {
			return err
		}
	}
	if err := v.monitor.waitDeleted(card); err != nil {
		return err
	}
	return v.monitor.conn.SetReadDeadline(time.Time{})
}

// Run runs a command inside the machine, as root, and returns its standard output. The
// error, if any, has the command line and what it wrote to standard error. Commands run
// one after the other.
func (v *VM) Run(ctx context.Context, name string, args ...string) (string, error) {
	var script strings.Builder
	fmt.Fprintf(&script, "export %s LANG=C HOME=/root SYSTEMD_COLORS=0 SYSTEMD_PAGER=\nexec", searchPath)
	for _, word := range append([]string{name}, args...) {
		script.WriteString(" '" + strings.ReplaceAll(word, "'", `'\''`) + "'")
	}
	out, err := v.agent.run(ctx, script.String())
	if errors.Is(err, errEnded) {
		err = fmt.Errorf("%w; its console:\n%s", err, v.Console())
	}
	if err != nil {
		return out, fmt.Errorf("%s: %w", strings.Join(append([]string{name}, args...), " "), err)
	}
	return out, nil
}

// WaitBooted waits and returns as [Machine.WaitBooted] does, but notices a change later, and does
// not list the jobs that a boot hangs in.
func (v *VM) WaitBooted(ctx context.Context) (state string, err error) {
	const poll = time.Second // asking costs the machine a lot of time
	for {
		out, err := v.Run(ctx, "systemctl", "is-system-running")
		switch state := strings.TrimSpace(out); state {
		case "running", "degraded":
			return state, nil
		case "maintenance", "stopping":
			return state, fmt.Errorf("the machine is %s; its console:\n%s", state, v.Console())
		}
		switch {
		case errors.Is(err, errEnded):
			return "", err // the error has the console
		case ctx.Err() != nil:
			return "", fmt.Errorf("wait for the boot: %w; its console:\n%s", ctx.Err(), v.Console())
		}
		time.Sleep(poll)
	}
}

// PowerOff makes the machine shut itself down. That QEMU ends does not prove it did, because QEMU
// ends after a panic too.
func (v *VM) PowerOff(ctx context.Context) error {
	if _, err := v.Run(ctx, "systemctl", "--no-block", "poweroff"); err != nil {
		return fmt.Errorf("power off: %w", err)
	}
	how, err := v.agent.wait(ctx, "ended")
	if err != nil || how[0] != "poweroff" {
		return fmt.Errorf("power off: ended by %v: %w; its console:\n%s", how, err, v.Console())
	}
	select {
	case <-v.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("power off: %w", ctx.Err())
	}
}

// Console returns what the machine has written to the console.
func (v *VM) Console() string {
	text, _ := os.ReadFile(v.socket("console"))
	return string(text) + v.output.String()
}

// Close ends the machine at once, as if the plug were pulled, and removes everything but the
// wires in the lab. It may be called more than once.
func (v *VM) Close() error {
	var err error
	if v.cmd != nil {
		if killErr := v.cmd.Process.Kill(); !errors.Is(killErr, os.ErrProcessDone) {
			err = killErr
		}
		<-v.done
	}
	for _, conn := range v.sockets {
		conn.Close()
	}
	if v.thread != nil {
		v.thread.end()
	}
	return errors.Join(err, os.RemoveAll(v.dir))
}
