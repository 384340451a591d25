package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/rtnl"
	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
)

// The highest cost of a packet with so many uplinks, as a ratio to a host without rules.
var lookupTargets = map[int]float64{1000: 1.35, 10000: 1.8}

// lookupWindow is how long packets of one source are sent before the next source's turn.
const lookupWindow = 500 * time.Microsecond

// layout is how the uplinks' addresses are spread. It only decides how well rules can be grouped.
type layout struct {
	name string
	// home returns the i-th uplink's link, address and gateway.
	home func(v6 bool, i int) home
}

type home struct {
	device  string
	address netip.Prefix
	gateway netip.Addr
}

func newHome(device, address, gateway string) home {
	return home{device, netip.MustParsePrefix(address), netip.MustParseAddr(gateway)}
}

// fewSize is how many uplinks share a subnet in the layout with few subnets.
const fewSize = 2500

var layouts = []layout{
	{"a subnet for each uplink", func(v6 bool, i int) home {
		if v6 {
			net := fmt.Sprintf("2001:db8:%x::", i)
			return newHome(device(i), net+"10/64", net+"1")
		}
		net := fmt.Sprintf("10.%d.%d.", i/256, i%256)
		return newHome(device(i), net+"10/24", net+"1")
	}},
	{"all uplinks in one to four subnets", func(v6 bool, i int) home {
		subnet, host := i/fewSize, 16+i%fewSize
		if v6 {
			net := fmt.Sprintf("2001:db8:%x::", subnet)
			return newHome(device(subnet), fmt.Sprintf("%s%x/64", net, host), net+"1")
		}
		return newHome(device(subnet), fmt.Sprintf("198.18.%d.%d/20", subnet*16+host/256, host%256), fmt.Sprintf("198.18.%d.1", subnet*16))
	}},
}

// stranger is a link that belongs to no uplink. It has the default route of table main.
func stranger(v6 bool) home {
	if v6 {
		return newHome("other", "2001:db8:ffff::10/64", "2001:db8:ffff::1")
	}
	return newHome("other", "192.0.2.10/24", "192.0.2.1")
}

// target is where the packets are sent to. Nobody is there.
func target(v6 bool) netip.AddrPort {
	if v6 {
		return netip.MustParseAddrPort("[2001:db8:fffe::9]:9")
	}
	return netip.MustParseAddrPort("203.0.113.9:9")
}

// lookup measures what the rules then cost every packet. It sends UDP packets that are
// addressed one by one, so that each is a lookup that nothing has cached. They leave by ifb links,
// which drop what is sent through them, so that only the sender's own work is measured. For
// comparison there is the same host, with the same addresses, without a rule.
func (b *bencher) lookup(ctx context.Context, most int) error {
	fmt.Fprintf(b.out, "## What the rules cost every packet\n\nThe time of sending a UDP packet, by its source, as a ratio to the same host without rules: medians of %d rounds in turn, in brackets the quartiles.\n\n", b.runs)
	v := b.verdicts()
	for _, l := range layouts {
		for _, v6 := range []bool{false, true} {
			family := map[bool]string{false: "IPv4", true: "IPv6"}[v6]
			t := &table{head: []string{family + " uplinks", "no rules, ns", "first", "middle", "last", "no uplink's source"}}
			pair, err := newLookupPair(b, l, v6)
			if err != nil {
				return err
			}
			defer pair.close()
			for _, n := range []int{0, 4, 50, 100, 1000, 10000} {
				// The kernel walks every table of IPv6 for each rule: minutes.
				if n > most || v6 && n > 1000 && !b.full {
					break
				}
				row, err := pair.row(ctx, n)
				if err != nil {
					return fmt.Errorf("%s, %s, %d uplinks: %w", l.name, family, n, err)
				}
				t.add(row.cells(fmt.Sprint(n))...)
				if limit, ok := lookupTargets[n]; ok {
					v.limit(fmt.Sprintf("%s, %d uplinks, %s, the dearest source", family, n, l.name), row.worst(), limit, "%.2f")
				}
			}
			if !v6 {
				if err := b.oneAfterTheOther(ctx, l, t); err != nil {
					return fmt.Errorf("%s: %w", l.name, err)
				}
			}
			fmt.Fprintf(b.out, "### %s, %s\n\n", strings.ToUpper(l.name[:1])+l.name[1:], family)
			if err := t.write(b.out); err != nil {
				return err
			}
		}
	}
	return v.write(b.out)
}

// oneAfterTheOther measures the rules without blocks: the reason why there are blocks.
func (b *bencher) oneAfterTheOther(ctx context.Context, l layout, t *table) error {
	const n = 1000
	pair, err := newLookupPair(b, l, false)
	if err != nil {
		return err
	}
	defer pair.close()
	pair.flat = true
	row, err := pair.row(ctx, n)
	if err == nil {
		t.add(row.cells(fmt.Sprintf("%d, without blocks", n))...)
	}
	return err
}

// lookupRow is what was measured for one number of uplinks.
type lookupRow struct {
	base float64  // ns without rules
	with []spread // by source; only the stranger's where there are no uplinks
}

func (r lookupRow) cells(first string) []string {
	cells := []string{first, fmt.Sprintf("%.0f", r.base)}
	for range 4 - len(r.with) {
		cells = append(cells, "-")
	}
	for _, s := range r.with {
		cells = append(cells, s.String())
	}
	return cells
}

func (r lookupRow) worst() (worst float64) {
	for _, s := range r.with {
		worst = max(worst, s.median)
	}
	return worst
}

// lookupPair is the same host twice: without rules and with them. It grows from row to row,
// because making ten thousand addresses takes longer than measuring.
type lookupPair struct {
	*bencher
	layout layout
	v6     bool
	hosts  [2]*namespace
	links  map[string]bool
	homes  []home
	flat   bool // without blocks
}

func newLookupPair(b *bencher, l layout, v6 bool) (*lookupPair, error) {
	p := &lookupPair{bencher: b, layout: l, v6: v6}
	for i := range p.hosts {
		var err error
		if p.hosts[i], err = newNamespace(); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

func (p *lookupPair) close() {
	for _, host := range p.hosts {
		if host != nil {
			host.close()
		}
	}
}

// grow gives both hosts the links and addresses of n uplinks, and one the rules.
func (p *lookupPair) grow(ctx context.Context, n int) (tables map[string]int, err error) {
	var lines strings.Builder
	add := func(h home) {
		if !p.links[h.device] {
			fmt.Fprintf(&lines, "link add %s type ifb\nlink set %[1]s up\n", h.device)
		}
		p.links[h.device] = true
		fmt.Fprintf(&lines, "address add %s dev %s", h.address, h.device)
		if p.v6 {
			lines.WriteString(" nodad") // the address can be used at once
		}
		lines.WriteString("\n")
	}
	if p.links == nil {
		p.links = map[string]bool{}
		lines.WriteString("link set lo up\n")
		add(stranger(p.v6))
		fmt.Fprintf(&lines, "route add default via %s\n", stranger(p.v6).gateway)
	}
	for i := len(p.homes); i < n; i++ {
		p.homes = append(p.homes, p.layout.home(p.v6, i))
		add(p.homes[i])
	}
	for i, host := range p.hosts {
		err := host.do(func() (err error) {
			if err = p.batch(ctx, "lookup", lines.String()); err == nil && i == 1 && n > 0 {
				tables, err = p.lookupRules(ctx, p.homes, p.flat)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return tables, nil
}

// senders opens a socket for each source on a host, and makes sure that its packets leave by the
// table that they are measured for.
func (p *lookupPair) senders(host *namespace, sources []home, tables []int) (list []*sender, err error) {
	to := target(p.v6)
	err = host.do(func() error {
		for i, s := range sources {
			if err := leavesBy(s, to, tables[i]); err != nil {
				return err
			}
			one, err := newSender(s.address.Addr(), to)
			if err != nil {
				return err
			}
			list = append(list, one)
		}
		return nil
	})
	return list, err
}

func (p *lookupPair) row(ctx context.Context, n int) (row lookupRow, err error) {
	numbers, err := p.grow(ctx, n)
	if err != nil {
		return row, err
	}
	sources, tables := []home{stranger(p.v6)}, []int{unix.RT_TABLE_MAIN}
	if n > 0 {
		for _, i := range []int{n - 1, n / 2, 0} {
			sources = slices.Insert(sources, 0, p.homes[i])
			tables = slices.Insert(tables, 0, numbers[uplinkName(i)])
		}
	}
	main := slices.Repeat([]int{unix.RT_TABLE_MAIN}, len(sources))
	var hosts [2][]*sender // without rules, with them
	for i, tables := range [][]int{main, tables} {
		hosts[i], err = p.senders(p.hosts[i], sources, tables)
		for _, s := range hosts[i] {
			defer s.close()
		}
		if err != nil {
			return row, err
		}
	}

	var took [2][][]time.Duration
	took[0], took[1] = make([][]time.Duration, len(sources)), make([][]time.Duration, len(sources))
	for round := range p.runs + 1 { // the first warms up
		for j := range sources {
			for k := range hosts {
				i := (k + round + j) % len(hosts)
				one, err := hosts[i][j].window()
				if err != nil {
					return row, err
				}
				if round > 0 {
					took[i][j] = append(took[i][j], one)
				}
			}
		}
		if err := ctx.Err(); err != nil {
			return row, err
		}
	}
	var base []float64
	for j := range sources {
		row.with = append(row.with, ratios(took[1][j], took[0][j]))
		base = append(base, float64(median(took[0][j])))
	}
	row.base = median(base)
	return row, nil
}

func uplinkName(i int) string { return fmt.Sprintf("u%05d", i) }

// lookupRules makes the oneshot add the rules or, with flat, does the same without blocks. It
// returns the tables' numbers.
func (b *bencher) lookupRules(ctx context.Context, homes []home, flat bool) (map[string]int, error) {
	var toml strings.Builder
	for i, h := range homes {
		fmt.Fprintf(&toml, "[uplink.%s]\ninterface = %q\nmanage = \"policy\"\naddresses = [%q]\ngateways = [%q]\n", uplinkName(i), h.device, h.address, h.gateway)
	}
	s, err := spec.Parse("bench", []byte(toml.String()))
	if err != nil {
		return nil, err
	}
	state, err := gen.Compile(s)
	if err != nil {
		return nil, err
	}
	tables := map[string]int{}
	for _, t := range state.Tables {
		tables[t.Name] = int(t.ID)
	}
	if flat {
		kernel, err := rtnl.New()
		if err != nil {
			return nil, err
		}
		defer kernel.Close()
		_, err = (&apply.Applier{Kernel: kernel, Hardware: rtnl.Hardware{}}).Apply(ctx, state)
		return tables, err
	}
	root := filepath.Join(b.dir, "lookup")
	if err := os.MkdirAll(filepath.Join(root, "etc/uplink"), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(root, "etc/uplink/uplink.toml"), []byte(toml.String()), 0o644); err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, filepath.Join(b.bin, programs.Control), "apply", "--root", root).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("apply: %w: %s", err, out)
	}
	return tables, nil
}

// leavesBy fails where packets of a source do not leave by the table that they are
// measured for.
func leavesBy(h home, to netip.AddrPort, table int) error {
	routes, err := netlink.RouteGetWithOptions(net.IP(to.Addr().AsSlice()), &netlink.RouteGetOptions{SrcAddr: net.IP(h.address.Addr().AsSlice())})
	if err != nil {
		return fmt.Errorf("the way from %s: %w", h.address.Addr(), err)
	}
	if len(routes) != 1 || routes[0].Table != table {
		return fmt.Errorf("packets from %s leave by %v, not by table %d: it does not do what it is measured for", h.address.Addr(), routes, table)
	}
	return nil
}

// sender sends packets from one source. Its socket is not connected, so that each packet is
// routed by itself.
type sender struct {
	fd      int
	to      unix.Sockaddr
	packets int // in a window
}

func newSender(from netip.Addr, to netip.AddrPort) (*sender, error) {
	family := unix.AF_INET
	if from.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	s := &sender{fd: fd, to: sockaddr(to), packets: 16}
	if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(from, 0))); err != nil {
		s.close()
		return nil, fmt.Errorf("bind to %s: %w", from, err)
	}
	return s, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is6() {
		return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
}

// window sends as many packets as fit, and returns the time of one.
func (s *sender) window() (time.Duration, error) {
	packet := make([]byte, 64)
	start := time.Now()
	for range s.packets {
		if err := unix.Sendto(s.fd, packet, 0, s.to); err != nil {
			return 0, fmt.Errorf("send: %w", err)
		}
	}
	one := max(1, time.Since(start)/time.Duration(s.packets))
	s.packets = max(16, int(lookupWindow/one))
	return one, nil
}

func (s *sender) close() { unix.Close(s.fd) }
