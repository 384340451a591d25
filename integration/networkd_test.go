package integration

import (
	"context"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
	"github.com/uplink-generator/uplink-generator/integration/lab"
	"github.com/uplink-generator/uplink-generator/units"
)

// answerTime is long enough for any answer that comes, which takes about a millisecond; tests
// that expect none wait for all of it.
const answerTime = 500 * time.Millisecond

// host is an example's host in its lab.
type host struct {
	example
	*lab.Lab
	root     string // its root directory
	state    fib.State
	devices  map[string]string // link → interface
	networkd *lab.Networkd
}

// boot makes the lab of an example.
func boot(t *testing.T, e example) (context.Context, *host) {
	t.Helper()
	opts := e.lab
	if !e.duplicates {
		opts.HostSysctls = map[string]string{"net.ipv6.conf.default.accept_dad": "0"}
	}
	ctx, l := open(t, opts)
	for key, value := range e.sysctls {
		if err := l.Router.Sysctl(key, value); err != nil {
			t.Fatal(err)
		}
	}
	ip(ctx, t, l.Router, e.router...)
	h := &host{example: e, Lab: l, root: e.root()}
	h.compile(t)
	return ctx, h
}

// compile reads the host's spec.
func (h *host) compile(t *testing.T) {
	t.Helper()
	h.state = compile(t, h.root)
	macs := map[string]string{}
	for _, p := range h.lab.Providers {
		macs[p.Cards[0].MAC.String()] = p.Cards[0].Name
	}
	h.devices = map[string]string{}
	for _, link := range h.state.Links {
		dev, ok := link.Match.Device()
		if !ok {
			dev, ok = macs[link.Match.MAC]
		}
		if !ok {
			t.Fatalf("no card for %s", link.Match)
		}
		h.devices[link.Name] = dev
	}
}

// tree renders the host's files for the installed networkd and adds those of its own.
func (h *host) tree(ctx context.Context, t *testing.T) string {
	t.Helper()
	tree := t.TempDir()
	if err := os.CopyFS(tree, os.DirFS(h.root)); err != nil {
		t.Fatal(err)
	}
	version := installedVersion(t).String()
	_, notes := run(ctx, t, programs.Control, "render", "--root", h.root, "--output", tree, "--systemd-version", version)
	if want := strings.Join(h.notes, "\n"); strings.TrimSpace(notes) != want {
		t.Errorf("the rendering has to say\n%s\nwant\n%s", notes, want)
	}
	return tree
}

func installedVersion(t *testing.T) units.Version {
	t.Helper()
	v, ok := units.DetectVersion(rootfs.At(*networkdRoot))
	if !ok {
		t.Fatal("no version of systemd found on this machine")
	}
	return v
}

// startNetworkd starts networkd on a tree and waits until the kernel holds what the
// host's State asks for, and what others configure.
func (h *host) startNetworkd(ctx context.Context, t *testing.T, tree string) {
	t.Helper()
	d, err := h.Host.StartNetworkd(ctx, lab.NetworkdOptions{Root: *networkdRoot, Tree: os.DirFS(tree)})
	if err != nil {
		t.Fatal(err)
	}
	h.networkd = d
	h.converged(ctx, t)
	var links []string
	for _, l := range h.state.Links {
		// A host that learns waits for a network that no lab of an example has.
		if !l.Learn.Any() {
			links = append(links, h.devices[l.Name])
		}
	}
	if err := d.WaitConfigured(ctx, links...); err != nil {
		t.Fatal(err)
	}
}

// converged waits until the kernel holds exactly the State.
func (h *host) converged(ctx context.Context, t *testing.T) {
	t.Helper()
	limit, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	want := wanted(h.state, h.devices).and(h.foreign)
	err := lab.Poll(limit, func() (bool, string) {
		have, err := observe(ctx, h.Host)
		if err != nil {
			return false, err.Error()
		}
		d := diff(want, have)
		return d == "", "the kernel differs from the State (- missing, + too much):\n" + d
	})
	if err != nil {
		t.Fatalf("%v\nnetworkd's log:\n%s", err, h.networkd.Log())
	}
}

// quiet fails the test when networkd had something to complain of.
func (h *host) quiet(t *testing.T) {
	t.Helper()
	if w := h.networkd.Warnings(); len(w) > 0 {
		t.Errorf("networkd warns:\n%s", strings.Join(w, "\n"))
	}
}

// sorted returns a text with its lines in order.
func sorted(text string) string { return strings.Join(slices.Sorted(strings.Lines(text)), "") }

// located is an address, with its subnet's length, and the card that it belongs to.
type located struct {
	prefix netip.Prefix
	card   string
}

// addresses returns the host's addresses, those included that others configure.
func (h *host) addresses() (list []located) {
	for _, a := range h.state.Addresses {
		list = append(list, located{a.Prefix, h.devices[a.Link]})
	}
	for _, line := range h.foreign.addresses {
		words := strings.Fields(line)
		list = append(list, located{netip.MustParsePrefix(words[2]), words[0]})
	}
	return list
}

// cards returns which card each address belongs to.
func (h *host) cards() map[netip.Addr]string {
	cards := map[netip.Addr]string{}
	for _, a := range h.addresses() {
		cards[a.prefix.Addr()] = a.card
	}
	return cards
}

// echo asks each address from the client, by TCP and by UDP.
func (h *host) echo(ctx context.Context, t *testing.T, addrs []netip.Addr, check func(proto string, a lab.Answer)) {
	t.Helper()
	for proto, ask := range map[string]func(context.Context, time.Duration, ...netip.Addr) ([]lab.Answer, error){
		"TCP": h.TCPEcho, "UDP": h.UDPEcho,
	} {
		answers, err := ask(ctx, answerTime, addrs...)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range answers {
			check(proto, a)
		}
	}
}

// TestNetworkdReachesTheState is the product's promise for each example: given the rendered
// files, networkd brings the kernel to exactly the compiled State without a complaint, and every
// address is answered by its own card.
func TestNetworkdReachesTheState(t *testing.T) {
	for _, e := range examples {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			require(t, lab.NeedNetworkd)
			ctx, h := boot(t, e)
			if e.name == "reference" {
				h.root = installedSubset(t, h.root)
				h.compile(t)
			}
			h.startNetworkd(ctx, t, h.tree(ctx, t))
			h.quiet(t)
			if err := h.Host.WaitSettled(ctx); err != nil {
				t.Fatal(err)
			}
			cards := h.cards()
			h.echo(ctx, t, slices.SortedFunc(maps.Keys(cards), netip.Addr.Compare), func(proto string, a lab.Answer) {
				if !a.Answered || a.Card != cards[a.Addr] {
					t.Errorf("%s: %s; want an answer by %s", proto, a, cards[a.Addr])
				}
			})
			// Nothing happened afterwards, and the answers changed nothing.
			h.converged(ctx, t)
			h.quiet(t)
		})
	}
}
