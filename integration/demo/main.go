// Command demo shows in a few seconds what the product does. It takes the recipe example from its
// spec through the rendered files and a real systemd-networkd to packets that are answered, and
// for comparison shows the same host without the product. Everything happens in networks that are
// thrown away; the machine's own is not touched.
//
// It exits with 0 only if everything was as it should be.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
	"github.com/uplink-generator/uplink-generator/integration/lab"
	"github.com/uplink-generator/uplink-generator/units"
)

// answerTime is how long the client waits for an answer: one that comes takes about a
// millisecond.
const answerTime = 400 * time.Millisecond

func main() {
	// A user who stops it, or reads only its beginning, must not be left with what it made.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := demo(ctx, &screen{out: os.Stdout, color: isTerminal(os.Stdout)})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo runs the show.
func demo(ctx context.Context, s *screen) error {
	root, err := findExample()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "uplink-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tree := filepath.Join(dir, "tree")
	control, err := findControl(ctx, dir)
	if err != nil {
		return err
	}
	state, err := compile(root)
	if err != nil {
		return err
	}

	s.title("A host with two network cards, each with a gateway of its own")
	if err := showSpec(s, root); err != nil {
		return err
	}
	if err := render(ctx, s, control, root, tree); err != nil {
		return err
	}

	if err := lab.Require(); err != nil {
		return fmt.Errorf("what follows, real packets, cannot be shown here: %w", err)
	}
	if err := lab.RemoveStale(ctx); err != nil {
		return err
	}
	options := lab.TwoUplinks()
	// This saves the two seconds in which a host checks that its addresses are free.
	options.HostSysctls = map[string]string{"net.ipv6.conf.default.accept_dad": "0"}
	with, err := lab.New(options)
	if err != nil {
		return err
	}
	defer with.Close()
	if err := lab.Require(lab.NeedNetworkd); err != nil {
		s.title("Applied by ip(8)")
		s.say("This machine has no systemd-networkd (%v).\nSo ip(8) brings a throw-away network to the state that networkd would reach.", err)
		if err := applyByHand(ctx, s, with.Host, state); err != nil {
			return err
		}
	} else if err := startNetworkd(ctx, s, with.Host, tree); err != nil {
		return err
	}
	good, err := ask(ctx, s, with, state, "A client behind both providers asks each address")
	if err != nil {
		return err
	}

	without, err := lab.New(options)
	if err != nil {
		return err
	}
	defer without.Close()
	if err := withoutPolicy(ctx, without.Host, state); err != nil {
		return err
	}
	bad, err := ask(ctx, s, without, state, "The same host without uplink-generator: two addresses, one default route")
	if err != nil {
		return err
	}
	return errors.Join(verdict(good, bad), with.Close(), without.Close())
}

// findExample returns the recipe example's root directory, from anywhere below the sources.
func findExample() (string, error) {
	const example = "integration/examples/recipe/root"
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		root := filepath.Join(dir, example)
		if _, err := os.Stat(root); err == nil {
			return root, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s: not found: run this where the sources are", example)
		}
	}
}

// findControl returns the uplinkctl beside this program, where make puts both, or builds one:
// often root has no Go.
func findControl(ctx context.Context, dir string) (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), programs.Control)
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	return filepath.Join(dir, programs.Control), programs.Build(ctx, dir)
}

func compile(root string) (fib.State, error) {
	sp, err := spec.Load(rootfs.At(root))
	if err != nil {
		return fib.State{}, err
	}
	return gen.Compile(sp)
}

func showSpec(s *screen, root string) error {
	const name = "/etc/uplink/uplink.toml"
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		return err
	}
	s.command("cat " + name)
	s.text(string(data))
	return nil
}

// render writes the files and shows those for the second card.
func render(ctx context.Context, s *screen, control, root, tree string) error {
	args := []string{"render", "--root", root, "--output", tree}
	if v, ok := units.DetectVersion(rootfs.At("/")); ok {
		args = append(args, "--systemd-version", v.String())
	}
	out, err := exec.CommandContext(ctx, control, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("uplinkctl render: %w: %s", err, out)
	}
	s.title("Rendered for systemd-networkd")
	s.command("uplinkctl render --output /")
	s.text(string(out))
	const name = "/run/systemd/network/10-uplink-rt2.network"
	data, err := os.ReadFile(filepath.Join(tree, name))
	if err != nil {
		return err
	}
	s.command("cat " + name)
	s.text(string(data))
	return nil
}

// startNetworkd starts networkd on the rendered files, and shows what a reader of the recipe
// would look at to see whether it worked.
func startNetworkd(ctx context.Context, s *screen, host *lab.Namespace, tree string) error {
	// As a package installs it.
	names := filepath.Join(tree, "etc/iproute2/rt_tables.d")
	if err := os.MkdirAll(names, 0o755); err != nil {
		return err
	}
	if err := os.Symlink("/run/uplink/rt_tables.conf", filepath.Join(names, "uplink.conf")); err != nil {
		return err
	}
	s.title("systemd-networkd starts, in a network of its own that is thrown away")
	d, err := host.StartNetworkd(ctx, lab.NetworkdOptions{Tree: os.DirFS(tree)})
	if err != nil {
		return err
	}
	if err := d.WaitConfigured(ctx, "eth0", "eth1"); err != nil {
		return err
	}
	for _, c := range []struct{ command, has string }{
		{"ip rule", "from 198.51.100.10 lookup rt2"},
		{"ip route list table rt2", "default via 198.51.100.1 dev eth1"},
	} {
		words := strings.Fields(c.command)
		var out string
		// The last rule can come after networkd has reported the links as configured.
		err := lab.Poll(ctx, func() (bool, string) {
			var err error
			if out, err = d.Run(ctx, words[0], words[1:]...); err != nil {
				return false, err.Error()
			}
			return strings.Contains(out, c.has), "no " + c.has + " in:\n" + out
		})
		if err != nil {
			return fmt.Errorf("%s: %w", c.command, err)
		}
		s.command(c.command)
		s.text(out)
	}
	if w := d.Warnings(); len(w) > 0 {
		return fmt.Errorf("networkd warns:\n%s", strings.Join(w, "\n"))
	}
	return nil
}

// applyByHand brings the host to the state with ip(8), on a host without networkd.
func applyByHand(ctx context.Context, s *screen, host *lab.Namespace, state fib.State) error {
	if err := cardsUp(ctx, host); err != nil {
		return err
	}
	if err := batch(ctx, host, state); err != nil {
		return err
	}
	for _, command := range []string{"ip rule", "ip route list table 1"} {
		words := strings.Fields(command)
		out, err := host.Run(ctx, words[0], words[1:]...)
		if err != nil {
			return err
		}
		s.command(command)
		s.text(out)
	}
	return nil
}

// withoutPolicy sets the host up as it would be without the product: addresses and the default
// route by the first card.
func withoutPolicy(ctx context.Context, host *lab.Namespace, state fib.State) error {
	if err := cardsUp(ctx, host); err != nil {
		return err
	}
	var plain fib.State
	plain.Links, plain.Addresses = state.Links, state.Addresses
	for _, r := range state.Routes {
		if r.Table == fib.TableMain {
			plain.Routes = append(plain.Routes, r)
		}
	}
	return batch(ctx, host, plain)
}

// batch applies a state, whose cards are up, with ip(8).
func batch(ctx context.Context, host *lab.Namespace, state fib.State) error {
	command := host.Command(ctx, "ip", "-batch", "-")
	command.Stdin = strings.NewReader(state.Text())
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("ip -batch: %w: %s", err, out)
	}
	return host.WaitSettled(ctx)
}

func cardsUp(ctx context.Context, host *lab.Namespace) error {
	for _, card := range []string{"eth0", "eth1"} {
		if _, err := host.Run(ctx, "ip", "link", "set", card, "up"); err != nil {
			return err
		}
	}
	return nil
}

// ask lets the client connect to each of the host's addresses.
func ask(ctx context.Context, s *screen, l *lab.Lab, state fib.State, title string) ([]lab.Answer, error) {
	var addresses []netip.Addr
	for _, a := range state.Addresses {
		addresses = append(addresses, a.Prefix.Addr())
	}
	answers, err := l.TCPEcho(ctx, answerTime, addresses...)
	if err != nil {
		return nil, err
	}
	s.title(title)
	for _, a := range answers {
		switch {
		case a.Answered:
			s.result(true, "client asked %-14s answered by %s", a.Addr.String()+":", a.Card)
		case a.Card == "eth0":
			s.result(false, "client asked %-14s not answered: the reply left by eth0 and provider 1 dropped it", a.Addr.String()+":")
		default:
			s.result(false, "client asked %-14s not answered: %v", a.Addr.String()+":", a.Err)
		}
	}
	fmt.Fprintln(s.out)
	return answers, nil
}

// verdict says which of the answers are not as they should be.
func verdict(with, without []lab.Answer) error {
	var errs []error
	for i, card := range []string{"eth0", "eth1"} {
		if a := with[i]; !a.Answered || a.Card != card {
			errs = append(errs, fmt.Errorf("%s; want an answer by %s", a, card))
		}
		if a := without[i]; a.Answered != (i == 0) || a.Card != "eth0" {
			errs = append(errs, fmt.Errorf("without the product: %s; want an answer by eth0 that only reaches the client for the first address", a))
		}
	}
	return errors.Join(errs...)
}
