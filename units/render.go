package units

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// Where the files go on the host that they are rendered for.
const (
	networkDir   = "/run/systemd/network"
	networkdConf = "/run/systemd/networkd.conf.d/10-uplink.conf"
	tablesFile   = "/run/uplink/rt_tables.conf"

	filePrefix = "10-uplink-"
)

// madeBy begins each of our files, which tells them from others'.
const madeBy = "# Made by uplink-generator from "

func isOurs(data []byte) bool { return strings.HasPrefix(string(data), madeBy) }

// Target is the host to render for.
type Target struct {
	Version Version     // of its systemd
	Root    rootfs.Root // its root directory, for the .network files of others

	// WithoutNetworkd leaves out all that is for networkd, and keeps the names of the tables.
	WithoutNetworkd bool

	// KeepForeign tells networkd to leave alone what it did not make, because the
	// oneshot's routes and rules are in the kernel while networkd configures links.
	// Render does the same where it finds that links are left to the oneshot.
	KeepForeign bool
}

// File is one file, by its absolute path on the host.
type File struct {
	Path string
	Data []byte
}

// Tree is a set of files, sorted by path. All have mode 0644.
type Tree []File

// Note is something that the user should know about a rendering that succeeded.
type Note struct {
	Origin fib.Origin
	Text   string
}

// String returns "FILE:LINE: text", or the text alone where the note is about no line.
func (n Note) String() string {
	if n.Origin == (fib.Origin{}) {
		return n.Text
	}
	return n.Origin.String() + ": " + n.Text
}

// LinkError says that networkd would fail a link.
type LinkError struct {
	Origin fib.Origin // of the rule or route
	Link   string     // Link.Name
	Has    string     // for what networkd fails it, and the remedy
}

// Error returns "FILE:LINE: …" with the remedy.
func (e *LinkError) Error() string {
	return fmt.Sprintf("%s: uplink `%s` has %s", e.Origin, e.Link, e.Has)
}

// LoopbackError says that networkd would not apply what belongs to no link.
type LoopbackError struct {
	Origin fib.Origin // of the first rule or route
	File   string     // of somebody else's
	Does   string     // what the file does, and the remedy
}

// Error returns "FILE:LINE: …" with the remedy.
func (e *LoopbackError) Error() string {
	return fmt.Sprintf("%s: the rules and routes that belong to no link, those that fail closed or wait for another link among them, stand in a file for lo, but %s %s, or take backend = \"netlink\"",
		e.Origin, e.File, e.Does)
}

// MultipathError says that networkd cannot write a way of a multipath route.
type MultipathError struct {
	Origin fib.Origin
	Link   string // Link.Name
	Needs  string // what networkd needs for it
}

// Error returns "FILE:LINE: …" with the remedy.
func (e *MultipathError) Error() string {
	return fmt.Sprintf("%s: in a multipath route through uplink `%s` networkd needs %s", e.Origin, e.Link, e.Needs)
}

// Render writes a State as files for a host: .network files for systemd-networkd,
// drop-ins to the .network files that win for links with PolicyOnly, and the names of the
// tables. The same State and Target give the same bytes. Render refuses what the host's
// systemd cannot express: the error wraps an UnsupportedError for each such thing.
func Render(s fib.State, t Target) (Tree, []Note, error) {
	r := renderer{Target: t, state: s, syntax: s.Syntax(), tree: make(Tree, 0, len(s.Links)+3)}
	if len(s.Links) > 0 {
		if !t.WithoutNetworkd && t.Version.Before(Oldest) {
			return nil, nil, fmt.Errorf("systemd %s is older than %s, the oldest that is supported: take backend = \"netlink\"", t.Version, Oldest)
		}
		r.file(tablesFile, fileOrigins(s), tableNames(s))
		if !t.WithoutNetworkd {
			if err := r.network(); err != nil {
				return nil, nil, err
			}
		}
		r.networkdConf()
	}
	if len(r.refused) > 0 {
		r.errs = append(r.errs, r.refused)
	}
	if err := errors.Join(r.errs...); err != nil {
		return nil, nil, err
	}
	fib.SortStable(r.tree, func(a, b *File) int { return strings.Compare(a.Path, b.Path) })
	return r.tree, r.notes, nil
}

type renderer struct {
	Target
	state  fib.State
	syntax fib.Syntax

	tree    Tree
	notes   []Note
	errs    []error
	refused unsupported

	others *networks       // .network files that are not ours
	admin  map[string]bool // the entries of /etc/systemd/network
	links  *links
}

// network renders all that networkd reads.
func (r *renderer) network() error {
	var err error
	if r.others, err = networkFiles(r.Root); err != nil {
		return err
	}
	r.links = newLinks(r.Root)
	r.admin = map[string]bool{}
	names, _ := r.Root.ReadDir(networkPath[0]) // networkFiles has just read it without an error
	for _, n := range names {
		r.admin[n] = true
	}
	byLink := map[string]*body{"": {}}
	for i := range r.state.Links {
		l := &r.state.Links[i]
		b := &body{}
		b.device, _ = l.Match.Device()
		byLink[l.Name] = b
	}
	for i := range r.state.Addresses {
		a := &r.state.Addresses[i]
		byLink[a.Link].addresses = append(byLink[a.Link].addresses, a)
	}
	for i := range r.state.Routes {
		for _, e := range split(&r.state.Routes[i]) {
			byLink[e.Link].routes = append(byLink[e.Link].routes, e)
		}
	}
	for i := range r.state.Rules {
		e := &r.state.Rules[i]
		b := byLink[e.Link]
		if r.awaits(e, b.device) {
			b = byLink[""]
		}
		b.rules = append(b.rules, e)
	}
	for i := range r.state.Links {
		l := &r.state.Links[i]
		r.link(l, byLink[l.Name])
		// networkd makes neither the rules of learned addresses nor the way around a
		// dead uplink.
		r.KeepForeign = r.KeepForeign || len(l.Learn.Rules) > 0 || len(r.state.Probes) > 0
	}
	r.loopback(byLink[""])
	return nil
}

// split divides an IPv6 multipath route, so that each link's file has its own nexthop:
// the kernel joins routes of one metric, and only a link's own part comes and goes with
// it. With all nexthops in one file, networkd loses parts of the route whenever a link
// flaps (247, 252). The kernel does not join IPv4 routes of one metric.
func split(r *fib.Route) (parts []*fib.Route) {
	if r.Family != fib.Inet6 || len(r.Nexthops) < 2 {
		return []*fib.Route{r}
	}
	weighted := map[string]*fib.Route{} // by link
	for _, n := range r.Nexthops {
		// networkd does not tell two routes apart by MultiPathRoute= (252), so a link
		// has one section for all its ways that need it.
		if first, ok := weighted[n.Link]; ok && n.Weight > 1 {
			first.Nexthops = append(first.Nexthops, n)
			continue
		}
		part := *r
		part.Link, part.Nexthops = n.Link, []fib.Nexthop{n}
		if n.Weight > 1 {
			weighted[n.Link] = &part
		}
		parts = append(parts, &part)
	}
	return parts
}

// awaits says whether networkd adds a rule only once a link exists other than lo and the one
// that the file is for. Until then, from 257 on, networkd calls the file's link "configuring"
// and the host is not online. So no uplink's file may have such a rule; nothing waits for lo.
func (r *renderer) awaits(e *fib.Rule, own string) bool {
	is := func(name string) bool { return name == "" || name == "lo" || name == own }
	if is(e.IIF) && is(e.OIF) || !r.Version.AwaitsLinks() {
		return false
	}
	if e.Not {
		r.note(e.Origin, "systemd-networkd adds this rule only once its iif and oif are there: until then the rules behind it decide")
	}
	return true
}

// body is what a link's file holds besides the link's settings.
type body struct {
	device    string // the link's name, where it is known
	addresses []*fib.Address
	routes    []*fib.Route
	rules     []*fib.Rule
}

// link renders one link's .network file, or its drop-ins to others' files.
func (r *renderer) link(l *fib.Link, b *body) {
	origin := l.Uplinks[0].Origin
	if l.Match.IsMACAlone() {
		if cards := r.links.cards(l.Match.MAC); len(cards) > 1 {
			r.note(origin, "%s is on more than one card (%s): networkd takes each of them for this uplink's; say `driver` or `interface` beside `mac`", l.Match, strings.Join(cards, ", "))
		}
	}
	if l.PolicyOnly {
		r.policy(l, b)
		return
	}
	name := filePrefix + l.Name + ".network"
	if len(r.others.files) > 0 && r.others.files[0].name < name {
		if c := r.others.candidates(r.links.facts(l.Match)); c.next() && c.file.name < name {
			r.KeepForeign = r.KeepForeign || c.file.unmanaged
			r.note(origin, "%s comes before %s and %s: networkd uses only the first file that matches. Take manage = \"policy\" to extend it, or remove it",
				c.file.path, name, matchWords(l, c.because))
		}
	}
	r.linkFile(name, l.Uplinks, r.sections(l, b))
}

// linkFile adds a file in networkDir.
func (r *renderer) linkFile(name string, from []fib.Named, body io.Reader) {
	if hidden := r.hides(name); hidden != "" {
		r.note(from[0].Origin, "%s hides the file of that name in %s: networkd reads only the first. Move it away", hidden, networkDir)
	}
	r.file(path.Join(networkDir, name), from, body)
}

// hides returns the file that keeps networkd from reading the one of that name in
// networkDir; "" if there is none.
func (r *renderer) hides(name string) string {
	first, _, _ := strings.Cut(name, "/")
	if hidden := path.Join(networkPath[0], name); r.admin[first] && r.Root.Exists(hidden) {
		return hidden
	}
	return ""
}

func matchWords(l *fib.Link, because string) string {
	if because == "" {
		return "matches " + l.Match.String()
	}
	return "may match " + l.Match.String() + " (" + because + " cannot be told here)"
}

// loopback renders what belongs to no link into a file for lo. Rules that fail closed
// and their routes must stay when a link goes away, and networkd removes with a link
// everything that stands in its file.
//
// If it is unknown whether somebody else's file takes lo, they stand in more than one
// file, of which networkd uses one. If no file that networkd uses could hold them,
// packets would go astray: that is an error.
func (r *renderer) loopback(b *body) {
	if len(b.routes) == 0 && len(b.rules) == 0 {
		return
	}
	var from []fib.Named
	seen := map[string]bool{}
	add := func(o fib.Origin) {
		if !seen[o.File] {
			seen[o.File] = true
			from = append(from, fib.Named{Origin: o})
		}
	}
	for _, e := range b.routes {
		add(e.Origin)
	}
	for _, e := range b.rules {
		add(e.Origin)
	}
	put := func(name string, policyOnly bool) {
		if hidden := r.hides(name); hidden != "" {
			r.errs = append(r.errs, &LoopbackError{from[0].Origin, hidden, "hides the file of that name in " + networkDir + ": move it away"})
			return
		}
		r.file(path.Join(networkDir, name), from, r.sections(&fib.Link{Name: "lo", Match: fib.Match{Name: "lo"}, PolicyOnly: policyOnly}, b))
	}
	name := filePrefix + "lo.network"
	lo := &fib.Link{Match: fib.Match{Name: "lo"}}
	for c := r.others.candidates(r.links.facts(lo.Match)); c.next() && c.file.name < name; {
		file, because := c.file, c.because
		if file.unmanaged {
			const remedy = "says Unmanaged=yes for lo: let its [Match] leave lo out (Name=!lo)"
			if because == "" {
				r.errs = append(r.errs, &LoopbackError{from[0].Origin, file.path, remedy})
				return
			}
			r.note(from[0].Origin, "%s says Unmanaged=yes and %s: if it does, the rules and routes that belong to no link are lost", file.path, matchWords(lo, because))
			continue
		}
		if because != "" {
			r.note(from[0].Origin, "%s is extended because it %s", file.path, matchWords(lo, because))
		}
		put(path.Join(file.name+".d", filePrefix+"lo.conf"), true)
		if because == "" {
			return
		}
	}
	put(name, false)
}

//go:noinline
func (r *renderer) note(o fib.Origin, format string, args ...any) {
	r.notes = append(r.notes, Note{o, fmt.Sprintf(format, args...)})
}

// file adds a file with a header that says what it was made from.
func (r *renderer) file(name string, from []fib.Named, body io.Reader) {
	b := bytes.NewBuffer(make([]byte, 0, 512)) // enough for most uplinks
	b.WriteString(madeBy + sources(from) + "\n# Changes made here are lost: change the spec instead.\n\n")
	// Reading from memory cannot fail.
	_, _ = io.Copy(b, body)
	r.tree = append(r.tree, File{name, b.Bytes()})
}

// sources names files and uplinks: "FILE (uplink a), FILE (uplink b)". It leaves out
// line numbers, so that a change of the spec changes only the files that it is about:
// networkd reconfigures each link whose file is new. It is short, because networkd
// reads no line above 1 MiB.
func sources(from []fib.Named) string {
	const most = 8
	var words []string
	for _, n := range from[:min(len(from), most)] {
		w := n.Origin.File
		if n.Name != "" {
			w += " (uplink " + n.Name + ")"
		}
		words = append(words, w)
	}
	if more := len(from) - most; more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, ", ")
}

// fileOrigins lists the files that a State comes from.
func fileOrigins(s fib.State) (files []fib.Named) {
	seen := map[string]bool{}
	for _, l := range s.Links {
		for _, u := range l.Uplinks {
			if !seen[u.Origin.File] {
				seen[u.Origin.File] = true
				files = append(files, fib.Named{Origin: fib.Origin{File: u.Origin.File}})
			}
		}
	}
	return files
}

// tableNames lists the tables for iproute2 (ip-route(8), /etc/iproute2/rt_tables).
func tableNames(s fib.State) io.Reader {
	var b strings.Builder
	for _, t := range s.Tables {
		fmt.Fprintf(&b, "%d\t%s\n", t.ID, t.Name)
	}
	return strings.NewReader(b.String())
}

// networkdConf writes networkd's settings for all links, which networkd reads when it starts.
//
// networkctl shows the names of the tables. The .network files do not use them, because
// networkd drops a section that names a table it does not know.
//
// Whenever networkd configures a link, it removes all rules, and all routes of that
// link, that it did not make. It must not do so if some exist that it cannot make, such
// as those of learned addresses or of links that the oneshot serves. Otherwise it
// should: its own rules of an earlier run would stay for ever (257, 262).
func (r *renderer) networkdConf() {
	s := unit.UnitSection{Section: "Network"}
	set := func(key, value string) {
		// An older systemd has no such setting: networkctl does not show the names, and
		// networkd does not remove rules that are not its own.
		if !r.Version.Before(since["networkd.conf/Network."+key]) {
			s.Entries = append(s.Entries, &unit.UnitEntry{Name: key, Value: value})
		}
	}
	if !r.WithoutNetworkd {
		const perLine = 32
		for tables := range slices.Chunk(r.state.Tables, perLine) {
			var words []string
			for _, t := range tables {
				words = append(words, fmt.Sprintf("%s:%d", t.Name, t.ID))
			}
			set("RouteTable", strings.Join(words, " "))
		}
	}
	if r.KeepForeign {
		set("ManageForeignRoutes", "no")
		set("ManageForeignRoutingPolicyRules", "no")
	}
	if len(s.Entries) > 0 {
		r.file(networkdConf, fileOrigins(r.state), unit.SerializeSections([]*unit.UnitSection{&s}))
	}
}
