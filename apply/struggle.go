package apply

import (
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// past remembers what Keep has added, to notice when somebody else takes it away again and again.
// Keep then leaves that alone for a while instead of joining the struggle. A link that goes down
// and up counts as somebody else.
type past struct {
	seed  maphash.Seed
	held  map[uint64]*recent // what was added and not removed by us since; nil until it had to be added again
	links map[string]linkPast
	rests map[uint64]time.Time // what is left alone, and until when
}

type recent struct {
	times  []time.Time // when it came back
	downs  int         // of its links, at the last of times
	byLink []bool      // for each of times, whether a link had gone down before
	said   bool
}

// linkPast is the history of a link.
type linkPast struct {
	up      bool
	changes uint32
	downs   int // how often it has been seen to have gone down
	said    time.Time
}

const (
	struggleTime  = 10 * time.Second
	struggleTimes = 8
	struggleRest  = 5 * time.Second
)

// see notes links that have gone down, even if only between two looks.
func (p *past) see(links []Link) {
	now := make(map[string]linkPast, len(links))
	for _, l := range links {
		was, known := p.links[l.Name]
		if known && (was.up && !l.Up || was.changes != l.CarrierChanges) {
			was.downs++
		}
		was.up, was.changes = l.Up, l.CarrierChanges
		now[l.Name] = was
	}
	p.links = now
}

// devices returns the links that make the kernel drop something when they are set down.
func devices(o Op) (names []string) {
	switch {
	case o.Address != nil:
		names = append(names, o.Address.Link)
	case o.Route != nil:
		for _, n := range o.Route.Nexthops {
			names = append(names, n.Link)
		}
	}
	return names
}

func (p *past) key(o Op) uint64 { return maphash.String(p.seed, o.Batch()) }

// add notes what was done, and returns what to say about things that are left alone from now on.
func (p *past) add(now time.Time, done []Op) (say []string) {
	if p.held == nil {
		p.seed, p.held, p.rests = maphash.MakeSeed(), map[uint64]*recent{}, map[uint64]time.Time{}
	}
	for _, o := range done {
		added, isDel := map[Verb]Verb{RuleDel: RuleAdd, RouteDel: RouteAdd, AddressDel: AddressAdd}[o.Verb]
		if isDel {
			o.Verb = added
			delete(p.held, p.key(o))
			continue
		}
		if o.Verb != RuleAdd && o.Verb != RouteAdd && o.Verb != AddressAdd {
			continue
		}
		downs := 0
		for _, d := range devices(o) {
			downs += p.links[d].downs
		}
		key := p.key(o)
		r, again := p.held[key]
		if !again {
			p.held[key] = nil
			continue
		}
		if r == nil {
			r = &recent{}
			p.held[key] = r
		}
		if r.struggles(now, downs) {
			p.rests[key] = now.Add(struggleRest)
			say = append(say, p.say(now, o, r)...)
		}
	}
	return say
}

// struggles says whether something that has just come back has done so too often.
func (r *recent) struggles(now time.Time, downs int) bool {
	before := time.Time{}
	if n := len(r.times); n > 0 {
		before = r.times[n-1]
	}
	r.times, r.byLink = append(r.times, now), append(r.byLink, downs != r.downs)
	if r.downs = downs; len(r.times) > struggleTimes {
		r.times, r.byLink = r.times[1:], r.byLink[1:]
	}
	switch {
	case len(r.times) == struggleTimes && now.Sub(r.times[0]) <= struggleTime:
		return true
	case r.said && now.Sub(before) <= 2*struggleRest:
		return true // it did not stay after the last rest
	}
	r.said = r.said && now.Sub(r.times[0]) <= 10*struggleTime
	return false
}

// say reports, once, who takes something away.
func (p *past) say(now time.Time, o Op, r *recent) []string {
	if r.said {
		return nil
	}
	r.said = true
	flaps := 0
	for _, by := range r.byLink {
		if by {
			flaps++
		}
	}
	if 2*flaps <= len(r.byLink) {
		return []string{fmt.Sprintf("something else keeps taking away: ip %s; it comes back at most every %v", o, struggleRest)}
	}
	var say []string
	for _, d := range devices(o) {
		// Everything on the link has come back as often.
		l, there := p.links[d]
		if there && l.downs > 0 && now.Sub(l.said) > 10*struggleTime {
			say = append(say, fmt.Sprintf("%s goes down and up: its routes come back at most every %v", d, struggleRest))
		}
		if l.downs > 0 {
			l.said = now
			p.links[d] = l
		}
	}
	return say
}

// awake forgets what need not be left alone any longer.
func (p *past) awake(now time.Time) {
	for key, until := range p.rests {
		if !now.Before(until) {
			delete(p.rests, key)
		}
	}
}

// until is the time until something need not be left alone any longer; 0 where there is nothing.
func (p *past) until(now time.Time) (next time.Duration) {
	for _, until := range p.rests {
		// What is over already gets another look at once.
		if d := max(until.Sub(now), time.Millisecond); next == 0 || d < next {
			next = d
		}
	}
	return next
}

// leaveAlone puts off what others keep taking away.
func (r *Resolved) leaveAlone(p *past) {
	if len(p.rests) == 0 {
		return
	}
	rests := func(o Op) bool { _, is := p.rests[p.key(o)]; return is }
	r.Addresses = put(r.Addresses, &r.Later.Addresses, func(e fib.Address) bool { return rests(Op{Verb: AddressAdd, Address: &e}) })
	r.Routes = put(r.Routes, &r.Later.Routes, func(e fib.Route) bool { return rests(Op{Verb: RouteAdd, Route: &e}) })
	r.Rules = put(r.Rules, &r.Later.Rules, func(e fib.Rule) bool { return rests(Op{Verb: RuleAdd, Rule: &e}) })
}

// remember tells past what Keep has done.
func (a *Applier) remember(result *Result) {
	now := time.Now()
	result.Struggles = a.past.add(now, result.Done)
	slices.Sort(result.Struggles)
	if next := a.past.until(now); next > 0 && (result.Until == 0 || next < result.Until) {
		result.Until = next
	}
}
