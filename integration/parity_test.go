package integration

// What the tests of parity have taught about networkd 252. The rendering takes care of
// the first group; where it does is in brackets.
//
//   - It adds rules first, addresses next, routes last, and routes and rules among
//     themselves in no order. Rules of one priority therefore come in any order: which of
//     two that disagree is asked first is left to chance.
//   - The kernel looks a gateway up through the rules, and so a rule that catches the
//     lookup makes it refuse the route; networkd gives the link up for good ("Could not
//     set route: No route to host"; gen/onlink.go). A multipath route has no onlink: see
//     spoilt.
//   - It asks for new rules with NLM_F_EXCL, and the kernel takes a rule with open
//     selectors for one that is there already where a narrower one is: of the two, one is
//     missing without a word (gen/hidden.go). What it removes may be another one: see
//     ambiguous.
//   - Where a .network file has no address, a gateway becomes onlink; drop-ins count with
//     their main file (units, GatewayOnLink=no).
//   - Local, broadcast and anycast routes without Table= go into table local.
//   - An MTU below 1280 is raised to it, unless the link has no link-local addressing.
//   - Two [Route] sections that differ only in MultiPathRoute= are one.
//   - It makes /run/systemd/netif but not /run/systemd: without that, it never says of a
//     link that it is configured.
//   - Reload in 252 gets from one rendering to another, lo included.

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/rtnl"
	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
	"github.com/uplink-generator/uplink-generator/integration/lab"
	"github.com/uplink-generator/uplink-generator/units"
)

var (
	paritySpecs  = flag.Int("parity.specs", 250, "how many generated specs are brought about by both back ends")
	transitions  = flag.Int("parity.transitions", 60, "how many generated specs are changed into another")
	networkdRoot = flag.String("networkd.root", "/", "the root directory of the systemd whose networkd is compared")
	paritySeed   = flag.Uint64("parity.seed", 1, "what the generated specs are drawn from")
)

// A subject is a spec with the host that it is for, to be brought about by each of
// the two back ends on a host of its own.
type subject struct {
	root string // the host's root directory
	lab  lab.Options

	// others has what others configure on the host beside the State. networkd finds
	// it in their files, which are below root; for the oneshot it is put there.
	others snapshot
	up     []string // the cards that others set up
}

// state compiles the subject's spec.
func (s subject) state() (fib.State, error) {
	loaded, err := spec.Load(rootfs.At(s.root))
	if err != nil {
		return fib.State{}, err
	}
	return gen.Compile(loaded)
}

// render returns the files that networkd reads.
func (s subject) render(state fib.State, version units.Version) (units.Tree, error) {
	tree, _, err := units.Render(state, units.Target{Version: version, Root: rootfs.At(s.root)})
	return tree, err
}

// A backend brings a State about in a fresh host, and returns once it says that all is
// there.
type backend func(ctx context.Context, s subject, state fib.State, host *lab.Namespace) (log func() string, err error)

// viaNetworkd has real networkd do it.
func viaNetworkd(version units.Version) backend {
	return func(ctx context.Context, s subject, state fib.State, host *lab.Namespace) (func() string, error) {
		tree, err := s.render(state, version)
		if err != nil {
			return noLog, err
		}
		d, err := startOn(ctx, s, tree, host, false)
		if err != nil {
			return noLog, err
		}
		return d.Log, d.WaitConfigured(ctx, managedLinks(s, tree)...)
	}
}

func noLog() string { return "" }

// startOn starts networkd on a subject's root with rendered files over it.
func startOn(ctx context.Context, s subject, tree units.Tree, host *lab.Namespace, bus bool) (*lab.Networkd, error) {
	files := map[string]string{}
	for _, f := range tree {
		files[f.Path] = string(f.Data)
	}
	return host.StartNetworkd(ctx, lab.NetworkdOptions{Root: *networkdRoot, Tree: os.DirFS(s.root), Files: files, Bus: bus})
}

// managedLinks returns the cards, and lo where there is a file for it.
func managedLinks(s subject, tree units.Tree) (links []string) {
	state, _ := s.state()
	for _, l := range state.Links {
		if !l.Learn.Any() {
			links = append(links, s.device(l))
		}
	}
	if slices.ContainsFunc(tree, func(f units.File) bool { return strings.HasSuffix(f.Path, "-lo.network") }) {
		links = append(links, "lo")
	}
	return links
}

// device returns the card that a link of the State is.
func (s subject) device(l fib.Link) string {
	for _, p := range s.lab.Providers {
		card := p.Cards[0]
		name, _ := fib.MatchGlob(l.Match.Name, card.Name)
		if (name || l.Match.Name == "") && (l.Match.MAC == "" || l.Match.MAC == card.MAC.String()) {
			return card.Name
		}
	}
	return ""
}

// byOthers does on a host what the .network files of others ask for.
func (s subject) byOthers(ctx context.Context, host *lab.Namespace) error {
	var lines []string
	for _, card := range s.up {
		lines = append(lines, "link set up dev "+card)
	}
	for _, a := range s.others.addresses {
		words := strings.Fields(a)
		lines = append(lines, "address add "+words[2]+" dev "+words[0])
		if words[1] == string(lab.Inet) {
			lines[len(lines)-1] += " brd +"
		}
	}
	for _, r := range s.others.routes {
		_, r, _ = strings.Cut(r, " ") // the family
		lines = append(lines, "route add "+r)
	}
	for _, line := range lines {
		if _, err := host.Run(ctx, "ip", strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

// viaProgram has the built program do it.
func viaProgram(ctx context.Context, s subject, _ fib.State, host *lab.Namespace) (func() string, error) {
	if err := s.byOthers(ctx, host); err != nil {
		return noLog, err
	}
	dir, err := built()
	if err != nil {
		return noLog, err
	}
	_, err = host.Run(ctx, filepath.Join(dir, programs.Control), "apply", "--root", s.root, "--wait", "10")
	return noLog, err
}

// viaApply does in this process what the program does: starting one takes as long as
// all of its work.
func viaApply(ctx context.Context, s subject, state fib.State, host *lab.Namespace) (func() string, error) {
	if err := s.byOthers(ctx, host); err != nil {
		return noLog, err
	}
	return noLog, applyIn(ctx, s, state, host)
}

func applyIn(ctx context.Context, s subject, state fib.State, host *lab.Namespace) error {
	return host.Do(func() error {
		kernel, err := rtnl.New()
		if err != nil {
			return err
		}
		defer kernel.Close()
		a := apply.Applier{Kernel: kernel, Hardware: rtnl.Hardware{}, Wait: 10 * time.Second}
		if !rtnl.MarksAddresses() {
			if a.Journal, err = apply.OpenJournal(filepath.Join(s.root, "run/uplink/addresses")); err != nil {
				return err
			}
		}
		result, err := a.Apply(ctx, state)
		if err == nil && len(result.Waiting) > 0 {
			err = fmt.Errorf("not done: %s", result.Waiting[0])
		}
		return err
	})
}

// everything returns all that a namespace holds, the kernel's own included, without
// what is indifferent.
func everything(ctx context.Context, n *lab.Namespace) (snapshot, error) {
	var s snapshot
	addresses, err1 := n.Addresses(ctx)
	routes, err2 := n.Routes(ctx)
	rules, err3 := n.Rules(ctx)
	for _, a := range addresses {
		a.Protocol = "" // whose it is: the oneshot says uplink, networkd nothing
		s.addresses = append(s.addresses, a.String())
	}
	for _, r := range routes {
		s.routes = append(s.routes, routeLine(r))
	}
	for _, r := range rules {
		s.rules = append(s.rules, ruleLine(r))
	}
	return s, errors.Join(err1, err2, err3)
}

// outcome is what one back end made of a subject.
type outcome struct {
	host *lab.Namespace
	log  func() string
	err  error
}

// compare brings a subject about by two back ends at the same time, and returns what
// differs: "-" is what only the first has, "+" what only the second. An error is that
// the lab failed, not that a back end did.
func compare(ctx context.Context, s subject, patience time.Duration, first, second backend) (difference string, err error) {
	state, err := s.state()
	if err != nil {
		return "", err
	}
	var out [2]outcome
	var wg sync.WaitGroup
	for i, b := range [...]backend{first, second} {
		l, err := lab.New(s.lab)
		if err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, l.Close()) }()
		out[i] = outcome{host: l.Host, log: noLog}
		wg.Go(func() {
			limit, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			out[i].log, out[i].err = b(limit, s, state, l.Host)
		})
	}
	wg.Wait()
	if out[0].err != nil || out[1].err != nil {
		return fmt.Sprintf("- %v\n+ %v\n", out[0].err, out[1].err), nil
	}
	return settled(ctx, patience, out)
}

// patience is how long a back end may take, and then how long two hosts may take to become equal:
// the kernel acts on a carrier a moment later.
const patience = 15 * time.Second

// settled waits until two hosts are equal, and returns what still differs in the end.
func settled(ctx context.Context, patience time.Duration, out [2]outcome) (difference string, err error) {
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_ = lab.Poll(limit, func() (bool, string) {
		var a, b snapshot
		if a, err = everything(ctx, out[0].host); err != nil {
			return true, ""
		}
		if b, err = everything(ctx, out[1].host); err != nil {
			return true, ""
		}
		difference = diff(a, b)
		return difference == "", difference
	})
	if difference != "" {
		for _, o := range out {
			if log := o.log(); log != "" {
				difference += "its log:\n" + log
			}
		}
	}
	return difference, err
}

// subject returns a copy of the example.
func (e example) subject(t *testing.T) subject {
	t.Helper()
	root := e.root()
	if e.name == "reference" {
		root = installedSubset(t, root)
	}
	s := subject{root: t.TempDir(), lab: e.lab, others: e.foreign}
	if err := os.CopyFS(s.root, os.DirFS(root)); err != nil {
		t.Fatal(err)
	}
	for _, a := range s.others.addresses {
		card, _, _ := strings.Cut(a, " ")
		s.up = append(s.up, card)
	}
	s.lab.Providers = slices.Clone(s.lab.Providers)
	for i := range s.lab.Providers {
		s.lab.Providers[i].Cards = slices.Clone(s.lab.Providers[i].Cards)
		s.lab.Providers[i].Cards[0].MAC = macOf(s.lab, i)
	}
	if !e.duplicates {
		s.lab.HostSysctls = withoutDAD
	}
	return s
}

// macOf returns the hardware address that a lab gives to a provider's first card.
func macOf(o lab.Options, provider int) []byte {
	if mac := o.Providers[provider].Cards[0].MAC; mac != nil {
		return mac
	}
	return []byte{2, 0, 0, 0, byte(provider + 1), 1}
}

// withoutDAD saves two seconds.
var withoutDAD = map[string]string{"net.ipv6.conf.default.accept_dad": "0"}

// TestExamplesAreTheSameByEitherBackEnd is the promise of the product for what the
// documentation shows, by the programs themselves.
func TestExamplesAreTheSameByEitherBackEnd(t *testing.T) {
	for _, e := range examples {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			require(t, lab.NeedNetworkd)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			d, err := compare(ctx, e.subject(t), patience, viaNetworkd(installedVersion(t)), viaProgram)
			if err != nil {
				t.Fatal(err)
			}
			if d != "" {
				t.Errorf("networkd (-) and the oneshot (+) differ:\n%s", d)
			}
		})
	}
}

// drawValid draws the n-th spec of the seed: the first that the product accepts.
func drawValid(t *testing.T, n int) (draft, subject) {
	t.Helper()
	return drawWith(t, n, func(subject) bool { return true })
}

func drawWith(t *testing.T, n int, fits func(subject) bool) (draft, subject) {
	t.Helper()
	root, version := t.TempDir(), installedVersion(t)
	var err error
	for attempt := range 100 {
		d := draw(*paritySeed, uint64(n)<<8|uint64(attempt))
		var s subject
		if s, err = d.valid(root, version); err == nil && fits(s) && (!version.AwaitsLinks() || !s.namesAbsent()) {
			return d, s
		} else if err == nil {
			continue
		}
		refused.Add(1)
		if testing.Verbose() {
			line, _, _ := strings.Cut(err.Error(), "\n")
			t.Log(line)
		}
	}
	t.Fatalf("no valid spec in 100; the last one: %v", err)
	return draft{}, subject{}
}

// namesAbsent says whether a rule is for a link that the host does not have. networkd may add such
// a rule late, and say until then that it is still configuring (units.Version.AwaitsLinks).
func (s subject) namesAbsent() bool {
	absent := func(link string) bool {
		return link != "" && link != "lo" && !slices.ContainsFunc(s.lab.Providers, func(p lab.Provider) bool {
			return slices.ContainsFunc(p.Cards, func(c lab.Card) bool { return c.Name == link })
		})
	}
	state, err := s.state()
	return err == nil && slices.ContainsFunc(state.Rules, func(r fib.Rule) bool { return absent(r.IIF) || absent(r.OIF) })
}

// refused counts the specs that were drawn but not accepted.
var refused atomic.Int64

// shrinkTime bounds the search for the smallest spec.
const shrinkTime = time.Minute

// slowOnes have duplicate address detection on, as a real host has.
const slowOnes = 25

// TestGeneratedSpecsAreTheSameByEitherBackEnd is the promise of the product for any spec that
// users may write.
func TestGeneratedSpecsAreTheSameByEitherBackEnd(t *testing.T) {
	t.Logf("-parity.specs %d -parity.seed %d", *paritySpecs, *paritySeed)
	t.Cleanup(func() { t.Logf("%d specs were drawn that are not valid", refused.Load()) })
	for n := range *paritySpecs {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			require(t, lab.NeedNetworkd)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			d, s := drawValid(t, n)
			parity := func(s subject, patience time.Duration) (string, error) {
				if n%slowOnes != 0 {
					s.lab.HostSysctls = withoutDAD
				}
				return compare(ctx, s, patience, viaNetworkd(installedVersion(t)), viaApply)
			}
			difference, err := parity(s, patience)
			if err != nil {
				t.Fatal(err)
			}
			if difference == "" {
				return
			}
			root, start := t.TempDir(), time.Now()
			smallest := d.shrink(func(smaller draft) bool {
				if time.Since(start) > shrinkTime {
					return false
				}
				s, err := smaller.valid(root, installedVersion(t))
				if err != nil {
					return false
				}
				found, err := parity(s, patience/8)
				if err != nil || found == "" {
					return false
				}
				difference = found
				return true
			})
			t.Errorf("-parity.seed %d, spec %d: networkd (-) and the oneshot (+) differ:\n%s\nthe smallest spec that shows it:\n%s", *paritySeed, n, difference, smallest.toml())
		})
	}
}
