package main

import (
	"testing"
	"time"
)

// TestAsk answers the question of a try in each way, with none of them a signal.
func TestAsk(t *testing.T) {
	for _, c := range []struct {
		what, typed string
		want        answer
	}{
		{"ENTER", "\n", keepIt},
		{"q", "q\n", goBack},
		{"something else first", "hm\nyes\n", keepIt},
		{"Ctrl-D", "\x04", goBack},
		{"a lost session", "", hungUp},
		{"a session lost while somebody types", "q", hungUp},
	} {
		master, tty := openTerminal(t, 80)
		answers := ask(tty)
		if _, err := master.WriteString(c.typed); err != nil {
			t.Fatal(err)
		}
		if c.want == hungUp {
			master.Close()
		}
		select {
		case have := <-answers:
			if have != c.want {
				t.Errorf("%s: %v, want %v", c.what, have, c.want)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: no answer", c.what)
		}
		tty.Close()
	}
}
