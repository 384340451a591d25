package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/need"
)

// shells say what each offers for a command line, whose last word is being written.
var shells = map[string]func(t *testing.T, dir string, lines []string) [][]string{
	"bash": each(func(t *testing.T, dir, line string) []string {
		const script = `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _uplinkctl; printf '%s\n' "${COMPREPLY[@]}"`
		var split []string // as readline does at COMP_WORDBREAKS
		for _, w := range strings.Split(line, " ") {
			name, value, ok := strings.Cut(w, "=")
			if split = append(split, name); ok {
				if split = append(split, "="); value != "" {
					split = append(split, value)
				}
			}
		}
		return shell(t, dir, "bash", append([]string{"--norc", "-euc", strings.Replace(script, "_uplinkctl;", "_uplinkctl || :;", 1), "bash", completionFile(t, "uplinkctl.bash")}, split...)...)
	}),
	"fish": each(func(t *testing.T, dir, line string) []string {
		lines := shell(t, dir, "fish", "--no-config", "-c", `source $argv[1]; complete -C "$argv[2]"`, completionFile(t, "uplinkctl.fish"), line)
		for i, l := range lines {
			l, _, _ = strings.Cut(l, "\t")
			if _, value, ok := strings.Cut(l, "="); ok {
				l = value
			}
			lines[i] = l
		}
		return lines
	}),
	"zsh": func(t *testing.T, dir string, lines []string) [][]string {
		answers := make([][]string, len(lines))
		for _, l := range shell(t, dir, "zsh", append([]string{"-f", "-c", zshCapture, "zsh", filepath.Dir(completionFile(t, "_uplinkctl"))}, lines...)...) {
			n, word, _ := strings.Cut(l, " ")
			if i, err := strconv.Atoi(n); err == nil && i < len(lines) {
				answers[i] = append(answers[i], word)
			}
		}
		return answers
	},
}

// each asks a shell line by line.
func each(ask func(t *testing.T, dir, line string) []string) func(*testing.T, string, []string) [][]string {
	return func(t *testing.T, dir string, lines []string) (answers [][]string) {
		for _, l := range lines {
			answers = append(answers, ask(t, dir, l))
		}
		return answers
	}
}

// zshCapture makes an interactive zsh complete lines, and prints what it offers after the number
// of the line.
const zshCapture = `zmodload zsh/zpty
zpty z zsh -f -i
line() { zpty -w z "$1" }
line "PROMPT= RPROMPT=; unsetopt zle_bracketed_paste 2>/dev/null; unset zle_bracketed_paste; stty -echo columns 4000 2>/dev/null"
line "fpath=(${(q)1} \$fpath); autoload -U compinit; compinit -u -D"
line "bindkey '^I' complete-word; LISTMAX=0; zstyle ':completion:*' list-prompt ''"
line 'compadd() {
  case " $* " in *" -O "*|*" -A "*|*" -D "*) builtin compadd "$@"; return ;; esac
  local -a hits; builtin compadd -A hits "$@"; local h; for h in $hits; do print -r -- "HIT<$h>"; done
  builtin compadd "$@"
}
done-now() { print -r -- "DO""NE-NOW"; }; zle -N done-now; bindkey "^X" done-now; print "RE""ADY"'
out=
zpty -r z out '*READY*'
shift
n=0
for l; do
  zpty -w -n z $'\C-u'"$l"$'\t\C-x'
  zpty -r z out '*DONE-NOW*'
  print -r -- "$out" | tr -d '\r' | grep -o 'HIT<[^>]*>' | sed "s/^HIT</$n /; s/>\$//" | sort -u
  n=$((n + 1))
done
zpty -d z
`

func completionFile(t *testing.T, name string) string {
	t.Helper()
	file, err := filepath.Abs(filepath.Join("completion", name))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// shell runs a shell and returns the words that it prints, sorted.
func shell(t *testing.T, dir, name string, args ...string) []string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "GORACE=atexit_sleep_ms=0", "TERM=dumb")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		t.Errorf("%s: %v\n%s", name, err, &stderr)
	}
	words := slices.DeleteFunc(strings.Split(stdout.String(), "\n"), func(s string) bool { return s == "" })
	slices.Sort(words)
	return slices.Compact(words)
}

// TestShellsComplete asks the real shells.
func TestShellsComplete(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"host/etc/uplink/uplink.toml": "[uplink.isp1]\ninterface = \"eth0\"\n[uplink.rt2]\ninterface = \"eth1\"\n",
		"my.toml":                     "", "other.txt": "", "folder/x": "",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	flags := func(name string) (all []string) {
		for _, c := range commands() {
			if c.name == name {
				f := flag.NewFlagSet(name, flag.ContinueOnError)
				f.SetOutput(io.Discard)
				c.flags(f)
				f.VisitAll(func(f *flag.Flag) { all = append(all, "--"+f.Name) })
			}
		}
		return all
	}
	cases := []struct {
		line string
		want []string // all of these are offered
		not  []string // and none of these
	}{
		{"uplinkctl ", append(commandNames(completions(t)), "help"), []string{"isp1", "my.toml"}},
		{"uplinkctl ver", []string{"verify"}, []string{"check"}},
		{"uplinkctl apply --", flags("apply"), []string{"--output"}},
		{"uplinkctl explain --", flags("explain"), []string{"--output"}},
		{"uplinkctl check ", []string{"my.toml"}, []string{"other.txt", "isp1"}},
		{"uplinkctl check --format ", []string{"json", "sarif", "text"}, []string{"my.toml", "iproute2"}},
		{"uplinkctl export --format=j", []string{"json"}, []string{"iproute2"}},
		{"uplinkctl render --output ", []string{"folder/"}, []string{"my.toml"}},
		{"uplinkctl explain --root host ", []string{"isp1", "rt2"}, []string{"my.toml"}},
		{"uplinkctl explain --root=host r", []string{"rt2"}, []string{"isp1"}},
		{"uplinkctl explain --iif l", []string{"lo"}, []string{"isp1"}},
		{"uplinkctl import o", []string{"other.txt"}, []string{"my.toml"}},
		{"uplinkctl import --output m", []string{"my.toml"}, []string{"other.txt"}},
		{"uplinkctl help re", []string{"reload", "render"}, []string{"check"}},
	}
	for name, ask := range shells {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			need.Program(t, name)
			var lines []string
			for _, c := range cases {
				lines = append(lines, c.line)
			}
			answers := ask(t, dir, lines)
			for i, c := range cases {
				got := answers[i]
				for i, w := range got {
					if strings.Contains(c.line, "render --output") && !strings.HasSuffix(w, "/") {
						got[i] += "/"
					}
				}
				for _, w := range c.want {
					if !slices.Contains(got, w) {
						t.Errorf("%q: %s is not offered: %q", c.line, w, got)
					}
				}
				for _, w := range c.not {
					if w == "other.txt" && name == "fish" {
						continue // fish offers all files, those with the suffix first
					}
					if slices.Contains(got, w) {
						t.Errorf("%q: %s is offered: %q", c.line, w, got)
					}
				}
			}
		})
	}
}
