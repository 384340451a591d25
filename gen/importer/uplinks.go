package importer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// uplink is one uplink as it will be written. It points to the items of Found that it is
// made of, so that the comparison can tell what became of each.
type uplink struct {
	name   string
	link   string
	table  uint32 // 0 if the source has none, and the uplink only gets one now
	policy bool

	addresses []*Address
	subnets   []*Route // those that follow from the addresses
	gateways  []*Route
	onlink    bool
	defaults  []*Route // in main, from default-route
	metric    uint32
	last      fib.RouteType // from fallthrough
	lasts     []*Route      // the routes that last stands for
	learn     fib.Learn

	priority uint32 // 0 for an automatic one
	from, to []*Rule
	mark     []*Rule
	routes   []*Route
	rules    [][]*Rule // each the same rule for each of its families
}

// guess is one way to express Found as uplinks. It need not be right: the result is compared.
type guess struct {
	*Found
	index     *index
	o         Options
	mainFirst bool
	rules     []*Rule // without those that main-routes-first implies
	uplinks   []*uplink
	byTable   map[uint32]*uplink
	shared    []*Route          // in main, of [multipath]
	noLearn   map[string]string // why a link learns nothing
	why       map[any]string    // why something is not carried over
}

// policy says whether a link is left to whatever configures it.
func (g *guess) policy(link string) bool {
	if g.o.Manage != "" {
		return g.o.Manage == Policy
	}
	stays, made := g.index.policy[link]
	return stays || !made
}

// carried says whether the spec is to make a route.
func (g *guess) carried(r *Route) bool {
	return !r.Learned && (!r.Stays || r.Link != "" && !g.policy(r.Link))
}

// newGuess finds the uplinks: a link with a table that rules or routes refer to, and a link
// without one that has something to carry over.
func newGuess(f *Found, o Options, mainFirst bool) *guess {
	g := &guess{Found: f, o: o, mainFirst: mainFirst, byTable: map[uint32]*uplink{}, noLearn: map[string]string{}}
	g.chooseRules()
	g.index = newIndex(f, g.rules)
	tables := g.ownTables()
	balance := g.balanceTables(tables)
	for _, t := range tables {
		if link := g.linkOfTable(t); link != "" && !balance[t] {
			u := &uplink{link: link, table: t, policy: g.policy(link)}
			g.uplinks, g.byTable[t] = append(g.uplinks, u), u
		}
	}
	for _, link := range g.otherLinks() {
		g.uplinks = append(g.uplinks, &uplink{link: link, policy: g.policy(link)})
	}
	g.nameUplinks()
	if len(g.uplinks) == 0 {
		return g
	}
	g.assignAddresses()
	g.assignLearned()
	g.assignRoutes()
	g.assignRules()
	return g
}

func kernelTable(t uint32) bool { return t == 0 || t >= fib.TableDefault && t <= fib.TableLocal }

// ownTables returns the tables that are not the kernel's, in the order of their numbers.
func (g *guess) ownTables() []uint32 {
	seen := map[uint32]bool{}
	for i := range g.Routes {
		seen[g.Routes[i].Table] = true
	}
	for _, r := range g.rules {
		if r.Action == fib.Lookup && !r.L3MDev {
			seen[r.Table] = true
		}
	}
	for _, l := range g.Links {
		seen[l.Learn.Table] = l.Learn.Any() || seen[l.Learn.Table]
	}
	var list []uint32
	for t, is := range seen {
		if is && !kernelTable(t) {
			list = append(list, t)
		}
	}
	slices.Sort(list)
	return list
}

// balanceTables returns the tables that only balance between links with tables of their
// own: such a table is for no single link.
func (g *guess) balanceTables(tables []uint32) map[uint32]bool {
	shares, single := map[uint32]*Route{}, map[uint32]bool{}
	own := map[string]bool{}
	for _, t := range tables {
		for _, r := range g.index.routes[t] {
			switch {
			case !r.IsDefault():
			case len(r.Nexthops) == 1:
				single[t], own[r.Nexthops[0].Link] = true, true
			case len(r.Nexthops) > 1:
				shares[t] = r
			}
		}
	}
	balance := map[uint32]bool{}
	for t, r := range shares {
		balance[t] = !single[t] && !slices.ContainsFunc(r.Nexthops, func(n fib.Nexthop) bool { return !own[n.Link] })
	}
	return balance
}

// linkOfTable finds the link that a table is for, mainly by its default routes.
func (g *guess) linkOfTable(t uint32) string {
	votes := map[string]int{}
	for _, r := range g.index.routes[t] {
		if len(r.Nexthops) == 0 {
			continue
		}
		weight := 1
		if r.IsDefault() {
			weight = 1000
		}
		votes[r.Nexthops[0].Link] += weight
	}
	for _, link := range g.index.learning[t] {
		votes[link] += 10000
	}
	for _, r := range g.index.lookups[t] {
		if r.From.IsValid() {
			for _, a := range g.index.within(r.From) {
				votes[a.Link] += 10
			}
		}
	}
	delete(votes, "")
	delete(votes, "lo")
	best := ""
	for link, n := range votes {
		if best == "" || n > votes[best] || n == votes[best] && link < best {
			best = link
		}
	}
	return best
}

// otherLinks returns the links that have no table, but something to carry over.
func (g *guess) otherLinks() (list []string) {
	has := map[string]bool{"": true, "lo": true}
	for _, u := range g.uplinks {
		has[u.link] = true
	}
	add := func(link string) {
		if !has[link] {
			has[link] = true
			list = append(list, link)
		}
	}
	for i := range g.Routes {
		if r := &g.Routes[i]; g.carried(r) && (!g.Everything || !kernelTable(r.Table) || r.IsDefault()) {
			for _, n := range r.Nexthops {
				add(n.Link)
			}
		}
	}
	for i := range g.Links {
		if l := &g.Links[i]; l.Learn.Any() && !g.policy(l.Name) {
			add(l.Name)
		}
	}
	if !g.Everything {
		for i := range g.Addresses {
			if a := &g.Addresses[i]; !g.policy(a.Link) {
				add(a.Link)
			}
		}
	}
	slices.Sort(list)
	return list
}

// nameUplinks names each uplink after its table, or else its link.
func (g *guess) nameUplinks() {
	taken := map[string]bool{}
	for _, t := range g.Tables {
		if u := g.byTable[t.ID]; u != nil && u.name == "" && spec.IsName(t.Name) && !taken[t.Name] {
			u.name, taken[t.Name] = t.Name, true
		}
	}
	for _, u := range g.uplinks {
		if u.name != "" {
			continue
		}
		base := nameOf(u.link)
		name := base
		if u.table != 0 && taken[name] {
			name = fmt.Sprintf("%s-%d", base, u.table)
		}
		for n := 2; taken[name]; n++ {
			name = fmt.Sprintf("%s-%d", base, n)
		}
		u.name, taken[name] = name, true
	}
	slices.SortFunc(g.uplinks, func(a, b *uplink) int { return cmp.Compare(a.name, b.name) })
	for _, u := range g.uplinks {
		g.index.on[u.link] = append(g.index.on[u.link], u)
	}
}

// nameOf makes an uplink's name from a link's.
func nameOf(link string) string {
	b := []byte(link)
	for i, c := range b {
		if !spec.IsName("x" + string(rune(c))) {
			b[i] = '_'
		}
	}
	if s := string(b); spec.IsName(s) {
		return s
	}
	return "uplink-" + string(b)
}

// on returns the uplinks of a link.
func (g *guess) on(link string) []*uplink { return g.index.on[link] }

// assignAddresses gives each address to one uplink of its link. If the link is left alone,
// only addresses from which rules and routes follow matter.
func (g *guess) assignAddresses() {
	for i := range g.Addresses {
		a := &g.Addresses[i]
		on := g.on(a.Link)
		if len(on) == 0 {
			continue
		}
		concerned, all := g.concern(a)
		best, most := on[0], concerned[on[0].table]
		if len(on) == 1 {
			most = all
		}
		for t, n := range concerned {
			if u := g.byTable[t]; u != nil && u.link == a.Link && (n > most || n == most && u.name < best.name) {
				best, most = u, n
			}
		}
		if (!best.policy || most > 0) && !a.Learned {
			best.addresses = append(best.addresses, a)
		}
	}
}

// concern says how much each table has to do with an address: by rules for it, routes from
// it or to its subnet, and gateways in that subnet. All is the number for an uplink that is
// alone on its link, for which gateways in other tables count too.
func (g *guess) concern(a *Address) (tables map[uint32]int, all int) {
	tables = map[uint32]int{}
	x := g.index
	for _, h := range x.hosts[host(a)] {
		tables[h.table] += 4 * h.count
	}
	src := a.Prefix.Addr()
	for _, r := range x.bySource[src] {
		tables[r.Table] += 2
	}
	for _, r := range x.subnets[onLink{a.Link, a.Prefix.Masked()}] {
		if r.Src != src {
			tables[r.Table] += 2
		}
	}
	if on := g.on(a.Link); len(on) == 1 && on[0].table != 0 {
		all = tables[on[0].table]
	}
	for _, w := range x.ways(a.Link, a.Prefix) {
		if g.carried(w.route) {
			tables[w.route.Table]++
			all++
		}
	}
	return tables, all
}

func host(a *Address) netip.Prefix {
	x := a.Prefix.Addr()
	return netip.PrefixFrom(x, x.BitLen())
}

// assignLearned lets one uplink of each link learn what the link learns.
func (g *guess) assignLearned() {
	for i := range g.Links {
		l := &g.Links[i]
		on := g.on(l.Name)
		if !l.Learn.Any() || len(on) == 0 || on[0].policy {
			continue
		}
		u := on[0]
		for _, o := range on {
			if o.table == l.Learn.Table {
				u = o
			}
		}
		u.learn = l.Learn
		u.learn.DefaultRoute = u.learn.DefaultRoute || l.Learn.Table == 0 && !l.NoDefault
	}
}
