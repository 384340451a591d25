package boot

import (
	"errors"
	"slices"
	"testing"
)

func TestArchives(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"": nil,
		"deb http://a/debian bookworm main\n# deb http://b/debian sid main\ndeb-src http://c/debian sid main\n": {"http://a/debian"},
		"deb [signed-by=/k arch=amd64] https://a/debian/ sid main\n":                                            {"https://a/debian/"},
		"Types: deb\n# http://x/debian\nURIs: http://a/debian http://b/debian\n http://c/debian\nSuites: sid\n\nTypes: deb\nuris:\n http://d/debian\n": {
			"http://a/debian", "http://b/debian", "http://c/debian", "http://d/debian",
		},
	} {
		if got := archives(text); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestRootsAreNamedByWhatIsInThem(t *testing.T) {
	t.Parallel()
	base := Root{Suite: Sid}.name()
	if other := (Root{Suite: Sid, Packages: []string{"dbus"}}).name(); other != base {
		t.Errorf("dbus is there: %s, %s", base, other)
	}
	one, two := Root{Sid, []string{"a", "b"}}.name(), Root{Sid, []string{"b", "a"}}.name()
	if one != two || one == base || one == (Root{Trixie, []string{"a", "b"}}).name() {
		t.Error(base, one, two)
	}
}

func TestAnArchiveThatCannotBeReached(t *testing.T) {
	t.Parallel()
	// Nobody listens on tcpmux.
	if err := reach(t.Context(), "http://127.0.0.1:1/ubuntu/dists/noble/InRelease"); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
}
