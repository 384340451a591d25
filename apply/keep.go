package apply

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/uplink-generator/uplink-generator/gen/fib"
)

// Keep is Apply for a State that is in effect and must stay so: one link must not hold up the
// others. Where the kernel refuses something of a link, or somebody else's route is in its place,
// Keep adds nothing of that link, does all else, and puts the errors into Result.Refused. The
// next Keep tries again, after everything else. What somebody else keeps taking away is left
// alone for a while.
func (a *Applier) Keep(ctx context.Context, s fib.State) (Result, error) {
	a.past.awake(time.Now())
	before := a.refused
	result, refused, err := a.without(ctx, s, before)
	if err == nil && len(before) > 0 {
		var more Result
		done := result.Done
		more, refused, err = a.without(ctx, s, nil)
		result, result.Done = more, append(done, more.Done...)
	}
	a.refused = refused
	for _, link := range slices.Sorted(maps.Keys(refused)) {
		result.Refused = append(result.Refused, refused[link])
	}
	if err == nil {
		a.remember(&result)
	}
	return result, err
}

// without applies a State without the links in off, and without those of which something is
// refused, which it returns with the errors.
func (a *Applier) without(ctx context.Context, s fib.State, off map[string]error) (Result, map[string]error, error) {
	defer func() { a.putOff = nil }()
	refused := map[string]error{}
	a.putOff = maps.Clone(off)
	for {
		result, err := a.Apply(ctx, s)
		blame, ok := blamed(err)
		if !ok || len(blame) == 0 {
			return result, refused, err
		}
		for link, e := range blame {
			if _, twice := a.putOff[link]; twice {
				return result, refused, err // something else is refused than what was put off
			}
			refused[link] = e
		}
		if a.putOff == nil {
			a.putOff = map[string]error{}
		}
		maps.Copy(a.putOff, refused)
	}
}

// blamed returns the links that an error is about, by interface name. ok is false where it is
// about something else as well.
func blamed(err error) (links map[string]error, ok bool) {
	links = map[string]error{}
	var walk func(error) bool
	walk = func(err error) bool {
		//nolint:errorlint // what is wrapped further is not the kernel's answer alone
		switch e := err.(type) {
		case nil:
			return true
		case *OpError:
			return blame(links, e.Op, e)
		case *ForeignError:
			return blame(links, e.Want, e)
		case interface{ Unwrap() []error }:
			return !slices.ContainsFunc(e.Unwrap(), func(e error) bool { return !walk(e) })
		}
		return false
	}
	return links, walk(err)
}

func blame(links map[string]error, o Op, err error) bool {
	link := o.Link
	switch {
	case o.Address != nil:
		link = o.Address.Link
	case o.Rule != nil:
		link = o.Rule.Link
	case o.Route != nil:
		link = o.Route.Link
		if link == "" && len(o.Route.Nexthops) > 0 {
			link = o.Route.Nexthops[0].Link
		}
	}
	if link != "" && links[link] == nil {
		links[link] = err
	}
	return link != ""
}

// postpone puts off everything that belongs to links, given by interface name.
func (r *Resolved) postpone(links map[string]error) {
	if len(links) == 0 {
		return
	}
	off := func(link string) bool { _, is := links[link]; return is }
	r.Addresses = put(r.Addresses, &r.Later.Addresses, func(e fib.Address) bool { return off(e.Link) })
	r.Rules = put(r.Rules, &r.Later.Rules, func(e fib.Rule) bool { return off(e.Link) })
	r.Routes = put(r.Routes, &r.Later.Routes, func(e fib.Route) bool {
		return off(e.Link) || slices.ContainsFunc(e.Nexthops, func(n fib.Nexthop) bool { return off(n.Link) })
	})
}

// spare puts off everything of another State.
func (r *Resolved) spare(other Resolved) {
	r.Later.Addresses = slices.Concat(r.Later.Addresses, other.Addresses, other.Later.Addresses)
	r.Later.Rules = slices.Concat(r.Later.Rules, other.Rules, other.Later.Rules)
	r.Later.Routes = slices.Concat(r.Later.Routes, other.Routes, other.Later.Routes)
}

// answer is the error of a stage: the first one. While a State is kept it joins all of them;
// otherwise each link in trouble would cost one more attempt.
func (a *Applier) answer(so, next error) error {
	switch {
	case so == nil:
		return next
	case a.Watching && !errors.Is(next, ErrNotSent):
		return errors.Join(so, next)
	}
	return so
}
