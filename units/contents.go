package units

import (
	"bytes"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Contents says which file of a Tree asks networkd for what. It serves to find what
// networkd keeps of an earlier rendering: after a reload, 247 and 248 leave the old rules
// in place, and all versions answer a reload before they have begun to carry it out.
//
// Contents compares sections as they are written, so it need not parse anything.
type Contents struct {
	sections   map[string]string // [Route] and [RoutingPolicyRule] as text
	sourceless map[string]string // [Route] without PreferredSource=
	addresses  map[string]string // Address=
	learned    map[string]string // RouteTable= of what is learned
}

// Contents lists what the tree asks networkd for.
func (t Tree) Contents() Contents {
	c := Contents{sections: map[string]string{}, sourceless: map[string]string{}, addresses: map[string]string{}, learned: map[string]string{}}
	for _, f := range t {
		if !AffectsNetworkd(f.Path) {
			continue
		}
		for _, section := range strings.Split("\n"+string(f.Data), "\n[") {
			section = "[" + strings.TrimSpace(section)
			c.sections[section] = f.Path
			if strings.HasPrefix(section, "[Route]") {
				lines := slices.DeleteFunc(strings.Split(section, "\n"), func(line string) bool { return strings.HasPrefix(line, "PreferredSource=") })
				c.sourceless[strings.Join(lines, "\n")] = f.Path
			}
			for line := range strings.Lines(section) {
				line = strings.TrimSpace(line)
				if a, ok := strings.CutPrefix(line, "Address="); ok && strings.HasPrefix(section, "[Network]") {
					c.addresses[a] = f.Path
				}
				if table, ok := strings.CutPrefix(line, "RouteTable="); ok {
					c.learned[table] = f.Path
				}
			}
		}
	}
	return c
}

// Empty says whether networkd is asked for nothing.
func (c Contents) Empty() bool { return len(c.sections) == 0 }

// Rule returns the file that asks for a rule.
func (c Contents) Rule(r fib.Rule) (name string, ok bool) {
	return find(c.sections, func(f *file) { f.rule(&r) })
}

// Route returns the file that asks for a route, whose nexthops name interfaces. Where
// each link's file has its own part of the route, every part must be asked for, and
// Route returns the file of one of them. An IPv6 route without a source may have had
// one: the kernel removes it together with the address, and leaves the route
// (fib6_remove_prefsrc, net/ipv6/route.c).
func (c Contents) Route(r fib.Route) (name string, ok bool) {
	for _, part := range split(&r) {
		if name, ok = c.part(part); !ok {
			return "", false
		}
	}
	return name, ok
}

func (c Contents) part(r *fib.Route) (name string, ok bool) {
	sections := c.sections
	if r.Family == fib.Inet6 && !r.Src.IsValid() {
		sections = c.sourceless
	}
	for _, guesses := range []bool{false, true} {
		name, ok = find(sections, func(f *file) {
			f.guessesOnLink = guesses
			for _, n := range r.Nexthops {
				f.renderer.state.Links = append(f.renderer.state.Links, fib.Link{Name: n.Link, Match: fib.Match{Name: n.Link}})
			}
			f.renderer.state.Sort()
			f.route(r)
		})
		if ok {
			break
		}
	}
	return name, ok
}

// Address returns the file that asks for an address.
func (c Contents) Address(a fib.Address) (name string, ok bool) {
	name, ok = c.addresses[a.Prefix.String()]
	return name, ok
}

// Learned returns a file that has what networkd learns put into a table.
func (c Contents) Learned(table uint32) (name string, ok bool) {
	name, ok = c.learned[strconv.FormatUint(uint64(table), 10)]
	return name, ok
}

// find writes one section and looks it up.
func find(sections map[string]string, write func(*file)) (name string, ok bool) {
	// The newest version knows all keys; a key that the host's version refuses is not
	// in its files.
	f := file{renderer: &renderer{Target: Target{Version: Version{Major: math.MaxInt}}}}
	write(&f)
	var b strings.Builder
	// Reading from memory cannot fail.
	_, _ = io.Copy(&b, unit.SerializeSections(f.sections))
	name, ok = sections[strings.TrimSpace(b.String())]
	return name, ok
}

// AffectsNetworkd says whether networkd takes up a change of that file when it reloads: so it
// does with .network files and drop-ins. It reads its own configuration only when it starts.
func AffectsNetworkd(file string) bool {
	return strings.HasPrefix(file, networkDir+"/")
}

// AffectNetworkd says whether AffectsNetworkd is true of any of the changes.
func (c Changes) AffectNetworkd() bool {
	return slices.ContainsFunc(slices.Concat(c.Written, c.Removed), AffectsNetworkd)
}

// KeepsForeign says whether done, the changes of writing the tree, brought the
// setting that makes networkd leave alone what others have made. networkd reads that
// setting only when it starts.
func (t Tree) KeepsForeign(done Changes) bool {
	return slices.Contains(done.Written, networkdConf) && slices.ContainsFunc(t, func(f File) bool {
		return f.Path == networkdConf && bytes.Contains(f.Data, []byte("\nManageForeign"))
	})
}
