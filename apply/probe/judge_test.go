package probe

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestJudge feeds rounds, a letter each: g for a good one, b for a bad one, l for a lost path.
// The result has a letter for the verdict after each: a for alive, d for dead, in upper case
// where it changed.
func TestJudge(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, rounds, want string
		down, up           uint32
		known              Judgement
	}{
		{name: "the first verdict", rounds: "ggg", want: "Aaa", down: 3, up: 5},
		{name: "down in a row", rounds: "gbbb", want: "AaaD", down: 3, up: 5},
		{name: "not in a row", rounds: "gbbgbbgbbb", want: "AaaaaaaaaD", down: 3, up: 5},
		{name: "up in a row", rounds: "gbbgggg", want: "AaDdddA", down: 2, up: 4},
		{name: "up not in a row", rounds: "gbbggbgggg", want: "AaDddddddA", down: 2, up: 4},
		{name: "dead from the start", rounds: "bbggg", want: "aDddA", down: 2, up: 3},
		{name: "the first answer after a round without", rounds: "bgg", want: "aAa", down: 3, up: 5},
		{name: "at once", rounds: "gbgbg", want: "ADADA", down: 1, up: 1},
		{name: "lost", rounds: "gllggg", want: "ADdddA", down: 3, up: 3},
		{name: "lost in between", rounds: "gblggbggglg", want: "AaDdddddADd", down: 2, up: 3},
		{name: "lost while coming back", rounds: "glgglggg", want: "ADdddddA", down: 2, up: 3},
		{name: "no path yet", rounds: "llg", want: "DdA", down: 3, up: 5},
		{name: "no path yet, then no answer", rounds: "lbggg", want: "DdddA", down: 3, up: 3},
		{name: "known to be dead", rounds: "ggg", want: "ddA", down: 3, up: 3, known: Judgement{Dead: true, Judged: true}},
		{name: "known to be alive", rounds: "gbbb", want: "aaaD", down: 3, up: 3, known: Judgement{Judged: true}},
	} {
		j := judge{Judgement: tt.known, down: tt.down, up: tt.up}
		var got strings.Builder
		start := time.Now()
		for i, r := range tt.rounds {
			now, changed := start.Add(time.Duration(i)*time.Second), false
			why := func(n uint32) string { return fmt.Sprint(n) }
			switch r {
			case 'g':
				changed = j.good(now, why)
			case 'b':
				changed = j.bad(now, why)
			case 'l':
				changed = j.lose(now, "lost")
			}
			letter := map[bool]string{true: "d", false: "a"}[j.Dead]
			if changed {
				letter = strings.ToUpper(letter)
				if !j.Since.Equal(now) {
					t.Errorf("%s: round %d: since %v", tt.name, i, j.Since)
				}
			}
			got.WriteString(letter)
		}
		if got.String() != tt.want {
			t.Errorf("%s: %s gives %s, want %s", tt.name, tt.rounds, got.String(), tt.want)
		}
	}
}
