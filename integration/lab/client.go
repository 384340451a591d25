package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Program is a program that gets addresses and routes from the network.
type Program string

// The programs that a [Client] can be.
const (
	ClientNetworkd       Program = "systemd-networkd"
	ClientDhclient       Program = "dhclient"
	ClientDhcpcd         Program = "dhcpcd"
	ClientUdhcpc         Program = "udhcpc" // IPv4 alone
	ClientNetworkManager Program = "NetworkManager"
)

// Programs lists all of them.
func Programs() []Program {
	return []Program{ClientNetworkd, ClientDhclient, ClientDhcpcd, ClientUdhcpc, ClientNetworkManager}
}

// ClientOptions says what a [Client] does.
type ClientOptions struct {
	Program Program

	// Links are the cards that it asks on.
	Links []string

	// IPv4 is DHCP. IPv6 is router advertisements, and DHCPv6 where these say
	// that addresses are managed. dhclient asks for an address by DHCPv6
	// whatever they say, and both it and udhcpc leave the advertisements to the
	// kernel.
	IPv4, IPv6 bool

	// Files are put over the program's configuration, as in
	// [NetworkdOptions.Files]. Where there are none the program has that of its
	// Debian package, and what makes it serve Links.
	Files map[string]string
}

// Client is a program that gets addresses and routes from the network, in a
// [Namespace] and with /etc, /run and /var of its own. It runs until Stop or
// Kill, or until the lab is closed.
type Client struct {
	ns        *Namespace
	processes []*process // in the order of starting
}

// StartClient starts a client in the namespace, as the service or `ifup` that
// runs it would. It returns once the program runs: see
// [Namespace.WaitAddresses] and [Namespace.WaitDefaultRoute]. ctx bounds only
// the start.
func (n *Namespace) StartClient(ctx context.Context, opts ClientOptions) (*Client, error) {
	c := &Client{ns: n}
	if err := c.start(ctx, opts); err != nil {
		return nil, fmt.Errorf("start %s in %s: %w", opts.Program, n.name, errors.Join(err, c.Stop()))
	}
	n.adopt(c)
	return c, nil
}

func (c *Client) start(ctx context.Context, opts ClientOptions) error {
	launch, ok := launches[opts.Program]
	if !ok {
		return errors.New("no such program")
	}
	l, err := launch(opts)
	if err != nil {
		return err
	}
	files, err := collect(nil, opts.Files)
	if err != nil {
		return err
	}
	if !l.manages {
		for _, link := range opts.Links {
			if err := c.ns.up(link); err != nil {
				return err
			}
		}
		// DHCPv6 needs a link-local address that can be used.
		if err := c.ns.WaitSettled(ctx); err != nil {
			return err
		}
	}
	return c.ns.Do(func() error {
		// Some of them set the host's name, and most tell it to the server.
		if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
			return fmt.Errorf("unshare host name: %w", err)
		}
		if err := unix.Sethostname([]byte("host")); err != nil {
			return fmt.Errorf("set host name: %w", err)
		}
		if err := privateMounts("/", append(l.files, files...), "var"); err != nil {
			return err
		}
		if l.bus {
			bus, err := startBus(ctx, "/")
			if bus != nil {
				c.processes = append(c.processes, bus)
			}
			if err != nil {
				return err
			}
		}
		for _, argv := range l.commands {
			p, err := startProcess("/", l.env, argv[0], argv[1:]...)
			if err != nil {
				return err
			}
			c.processes = append(c.processes, p)
		}
		return nil
	})
}

// Run runs a command, such as networkctl or nmcli, in the network and the file
// system of the client, and returns its standard output.
func (c *Client) Run(ctx context.Context, name string, args ...string) (string, error) {
	argv := append([]string{"--target=" + strconv.Itoa(c.PID()), "--net", "--mount", "--uts", "--", name}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", argv...)
	cmd.WaitDelay = time.Second
	return output(cmd, append([]string{name}, args...))
}

// PID returns the process number of the program, or of the last one where
// there is one for each link and family.
func (c *Client) PID() int { return c.processes[len(c.processes)-1].cmd.Process.Pid }

// Stop ends the program by SIGTERM, as its service does. What becomes of
// addresses and routes is the program's choice. It may be called more than
// once.
func (c *Client) Stop() error {
	var errs []error
	for _, p := range slices.Backward(c.processes) {
		errs = append(errs, p.stop())
	}
	return errors.Join(errs...)
}

// Kill ends the program without warning, as a crash does.
func (c *Client) Kill() {
	for _, p := range slices.Backward(c.processes) {
		p.kill()
	}
}

// Log returns all that the program has logged so far.
func (c *Client) Log() string {
	var b strings.Builder
	for _, p := range c.processes {
		b.WriteString(p.log.String())
	}
	return b.String()
}

// WaitDefaultRoute waits until table main has a default route of the family
// over the link.
func (n *Namespace) WaitDefaultRoute(ctx context.Context, family Family, link string) error {
	err := Poll(ctx, func() (bool, string) {
		routes, err := n.Routes(ctx)
		if err != nil {
			return false, err.Error()
		}
		return slices.ContainsFunc(routes, func(r Route) bool {
			return r.Family == family && r.Table == unix.RT_TABLE_MAIN && r.Dst.Bits() == 0 &&
				(r.Dev == link || strings.Contains(r.NextHops, " dev "+link+" "))
		}), "there is none"
	})
	if err != nil {
		return fmt.Errorf("wait for the %s default route by %s in %s: %w", family, link, n.name, err)
	}
	return nil
}

// launch says how a program is started.
type launch struct {
	files    []file
	env      []string
	commands [][]string

	manages bool // sets links up itself
	bus     bool // needs a message bus
}

var launches = map[Program]func(ClientOptions) (launch, error){
	ClientNetworkd:       launchNetworkd,
	ClientDhclient:       launchDhclient,
	ClientDhcpcd:         launchDhcpcd,
	ClientUdhcpc:         launchUdhcpc,
	ClientNetworkManager: launchNetworkManager,
}

func launchNetworkd(opts ClientOptions) (launch, error) {
	binary, err := findNetworkd("/")
	if err != nil {
		return launch{}, err
	}
	l := launch{env: networkdEnv("info"), commands: [][]string{{binary}}, manages: true, bus: true}
	dhcp, ra := "no", "no"
	switch {
	case opts.IPv4 && opts.IPv6:
		dhcp, ra = "yes", "yes"
	case opts.IPv4:
		dhcp = "ipv4"
	case opts.IPv6:
		dhcp, ra = "ipv6", "yes"
	}
	for _, link := range opts.Links {
		l.files = append(l.files, file{path: "run/systemd/network/10-" + link + ".network", mode: 0o644,
			data: fmt.Appendf(nil, "[Match]\nName=%s\n[Network]\nDHCP=%s\nIPv6AcceptRA=%s\n", link, dhcp, ra)})
	}
	return l, nil
}

func launchDhclient(opts ClientOptions) (launch, error) {
	var l launch
	for _, link := range opts.Links {
		for _, family := range opts.families() {
			// As ifup starts them, but in the foreground.
			l.commands = append(l.commands, []string{"dhclient", "-" + family, "-d", "-v", "-i",
				"-pf", fmt.Sprintf("/run/dhclient%s.%s.pid", family, link),
				"-lf", fmt.Sprintf("/var/lib/dhcp/dhclient%s.%s.leases", family, link), link})
		}
	}
	return l, nil
}

func launchDhcpcd(opts ClientOptions) (launch, error) {
	// A namespace has no udev that would report links.
	argv := []string{"dhcpcd", "--nobackground", "--nodev"}
	if families := opts.families(); len(families) == 1 {
		argv = append(argv, "-"+families[0])
	}
	return launch{commands: [][]string{append(argv, opts.Links...)}, manages: true}, nil
}

func launchUdhcpc(opts ClientOptions) (launch, error) {
	var l launch
	if !opts.IPv4 {
		return l, errors.New("it knows IPv4 alone")
	}
	for _, link := range opts.Links {
		l.commands = append(l.commands, []string{"udhcpc", "-f", "-i", link})
	}
	return l, nil
}

func launchNetworkManager(opts ClientOptions) (launch, error) {
	l := launch{commands: [][]string{{"NetworkManager", "--no-daemon"}}, manages: true, bus: true}
	method := map[bool]string{true: "auto", false: "disabled"}
	unmanaged := "*"
	// NetworkManager refuses profiles that others can read.
	for i, link := range opts.Links {
		unmanaged += ",except:interface-name:" + link
		l.files = append(l.files, file{path: "etc/NetworkManager/system-connections/" + link + ".nmconnection", mode: 0o600,
			data: fmt.Appendf(nil, "[connection]\nid=%[1]s\nuuid=00000000-0000-4000-8000-%012[2]x\ntype=ethernet\ninterface-name=%[1]s\n"+
				"[ipv4]\nmethod=%[3]s\n[ipv6]\nmethod=%[4]s\n", link, i+1, method[opts.IPv4], method[opts.IPv6])})
	}
	l.files = append(l.files, file{path: "etc/NetworkManager/NetworkManager.conf", mode: 0o644,
		data: []byte("[main]\nplugins=keyfile\nauth-polkit=false\n[keyfile]\nunmanaged-devices=" + unmanaged + "\n")})
	return l, nil
}

// families returns what the options ask for, as programs write it.
func (o ClientOptions) families() []string {
	wanted := map[string]bool{"4": o.IPv4, "6": o.IPv6}
	maps.DeleteFunc(wanted, func(_ string, on bool) bool { return !on })
	return slices.Sorted(maps.Keys(wanted))
}
