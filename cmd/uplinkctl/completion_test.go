package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// completed is a command as the shells complete it: made of its flags and its usage.
type completed struct {
	name, summary string
	arguments     string // "SPEC", "FILE", "UPLINK", "COMMAND" or ""
	options       []completedOption
}

type completedOption struct {
	name, help string
	value      string // "" for none, or what the usage calls it: "DIR", "LINK", "N"
	choices    []string
}

var (
	summaries   = regexp.MustCompile(`(?m)^  (\S+)(?: \[[^\]]*\]| [A-Z]+\b)* +(.*)$`)
	optionLines = regexp.MustCompile(`(?m)^  --([a-z-]+)(?: ([A-Z]+))? +(\S.*(?:\n {4,}\S.*)*)`)
	blanks      = regexp.MustCompile(`\s+`)
	choices     = regexp.MustCompile(`^there are (.*) and (.*)$`)
)

// completions returns all commands, help included.
func completions(t *testing.T) (list []completed) {
	t.Helper()
	summary := map[string]string{}
	for _, m := range summaries.FindAllStringSubmatch(usage, -1) {
		summary[m[1]] = strings.SplitN(m[2], "; ", 2)[0]
	}
	for _, c := range commands() {
		done := completed{name: c.name, summary: summary[c.name]}
		first, _, _ := strings.Cut(c.usage, "\n\n")
		switch {
		case strings.Contains(first, "[FILE…]") && strings.Contains(first, "--from"):
			done.arguments = "FILE" // of any kind
		case strings.Contains(first, "FILE…"):
			done.arguments = "SPEC"
		case strings.Contains(first, " SRC ") || strings.Contains(first, "UPLINK"):
			done.arguments = "UPLINK"
		}
		described := map[string]completedOption{}
		for _, m := range optionLines.FindAllStringSubmatch(c.usage, -1) {
			help := strings.SplitN(blanks.ReplaceAllString(m[3], " "), "; ", 2)[0]
			described[m[1]] = completedOption{name: m[1], help: help, value: m[2]}
		}
		flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
		c.flags(flags)
		flags.VisitAll(func(f *flag.Flag) {
			o, ok := described[f.Name]
			b, isBool := f.Value.(interface{ IsBoolFlag() bool })
			if isBool = isBool && b.IsBoolFlag(); !ok || isBool != (o.value == "") {
				t.Errorf("%s --%s: its usage does not say what it takes", c.name, f.Name)
			}
			if !isBool {
				if err := f.Value.Set("?"); err != nil {
					if m := choices.FindStringSubmatch(err.Error()); m != nil {
						o.choices = append(strings.Split(m[1], ", "), m[2])
						o.help = strings.Join(o.choices, ", ")
					}
				}
			}
			done.options = append(done.options, o)
		})
		if done.summary == "" {
			t.Errorf("the usage says nothing of %s", c.name)
		}
		list = append(list, done)
	}
	return append(list, completed{name: "help", summary: summary["help"], arguments: "COMMAND"})
}

const madeBy = "# Made from the commands' flags by: go test ./cmd/uplinkctl -run TestCompletion -update\n"

func commandNames(list []completed) (names []string) {
	for _, c := range list {
		names = append(names, c.name)
	}
	return names
}

// quoted is a word for all three shells.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func bashCompletion(list []completed) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# bash completion for uplinkctl(8)\n%s", madeBy)
	p(`_uplinkctl()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]-} root='' i
	COMPREPLY=()
	# "=" is a word of its own: --root=DIR.
	if [[ $cur == = ]]; then
		cur=''
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD-2]}
	fi
	if ((COMP_CWORD == 1)); then
		mapfile -t COMPREPLY < <(compgen -W '%s --help --version' -- "$cur")
		return
	fi
	for ((i = 2; i < COMP_CWORD; i++)); do
		if [[ ${COMP_WORDS[i]} == --root ]]; then
			root=${COMP_WORDS[i+1]}
			[[ $root == = ]] && root=${COMP_WORDS[i+2]-}
		fi
	done
	case $command$prev in`, strings.Join(commandNames(list), " "))
	for _, c := range list {
		for _, o := range c.options {
			switch {
			case o.choices != nil:
				p("\t%s--%s) mapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\") ;;", c.name, o.name, strings.Join(o.choices, " "))
			case o.value == "DIR":
				p("\t%s--%s) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- \"$cur\") ;;", c.name, o.name)
			case o.value == "FILE":
				p("\t%s--%s) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\") ;;", c.name, o.name)
			case o.value == "LINK": // not -W, which expands what a name may hold
				p("\t%s--%s) mapfile -t COMPREPLY < <(cd /sys/class/net 2>/dev/null && compgen -f -- \"$cur\") ;;", c.name, o.name)
			case o.value != "":
				p("\t%s--%s) ;;", c.name, o.name)
			}
		}
	}
	p("\t*)\n\t\tcase $command in")
	for _, c := range list {
		p("\t\t%s)", c.name)
		if len(c.options) > 0 {
			var words []string
			for _, o := range c.options {
				words = append(words, "--"+o.name)
			}
			p("\t\t\t[[ $cur == -* ]] && mapfile -t COMPREPLY < <(compgen -W '%s --help' -- \"$cur\")", strings.Join(words, " "))
		}
		switch c.arguments {
		case "SPEC":
			p("\t\t\tif [[ $cur != -* ]]; then\n\t\t\t\tcompopt -o filenames 2>/dev/null\n\t\t\t\tmapfile -t COMPREPLY < <(compgen -f -X '!*.toml' -- \"$cur\"; compgen -d -- \"$cur\")\n\t\t\tfi")
		case "FILE":
			p("\t\t\tif [[ $cur != -* ]]; then\n\t\t\t\tcompopt -o filenames 2>/dev/null\n\t\t\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n\t\t\tfi")
		case "UPLINK":
			p("\t\t\t[[ $cur != -* ]] && mapfile -t COMPREPLY < <(compgen -W \"$(uplinkctl names ${root:+--root \"$root\"} 2>/dev/null)\" -- \"$cur\")")
		case "COMMAND":
			p("\t\t\tmapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\")", strings.Join(commandNames(list), " "))
		}
		p("\t\t\t;;")
	}
	p("\t\tesac\n\t\t;;\n\tesac\n}\ncomplete -F _uplinkctl uplinkctl")
	return b.String()
}

func zshCompletion(list []completed) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	plain := strings.NewReplacer(`[`, `\[`, `]`, `\]`, `:`, `\:`)
	p("#compdef uplinkctl\n%s", madeBy)
	p(`_uplinkctl_uplinks() {
	local -a names
	names=(${(f)"$(uplinkctl names ${opt_args[--root]:+--root} ${opt_args[--root]:+${(Q)opt_args[--root]}} 2>/dev/null)"})
	_describe -t uplinks uplink names
}

_uplinkctl_links() {
	local -a links
	links=(/sys/class/net/*(N:t))
	_describe -t links link links
}

_uplinkctl_commands() {
	local -a commands
	commands=(`)
	for _, c := range list {
		p("\t\t%s", quoted(c.name+":"+strings.ReplaceAll(c.summary, ":", `\:`)))
	}
	p(`	)
	_describe -t commands command commands
}

_uplinkctl() {
	local curcontext=$curcontext state line
	typeset -A opt_args
	_arguments -C '(- *)--help[print the commands]' '(- *)--version[print the version]' '1:command:_uplinkctl_commands' '*::argument:->arguments'
	[[ $state == arguments ]] || return
	case $words[1] in`)
	for _, c := range list {
		specs := []string{}
		for _, o := range c.options {
			s := "--" + o.name
			if o.value != "" {
				s += "="
			}
			s += "[" + plain.Replace(o.help) + "]"
			switch {
			case o.choices != nil:
				s += ":" + o.name + ":(" + strings.Join(o.choices, " ") + ")"
			case o.value == "DIR":
				s += ":directory:_directories"
			case o.value == "FILE":
				s += ":file:_files"
			case o.value == "LINK":
				s += ":link:_uplinkctl_links"
			case o.value != "":
				s += ":" + strings.ToLower(o.value) + ":"
			}
			specs = append(specs, quoted(s))
		}
		switch c.arguments {
		case "SPEC":
			specs = append(specs, quoted(`*:file:_files -g "*.toml"`))
		case "FILE":
			specs = append(specs, quoted("*:file:_files"))
		case "UPLINK":
			specs = append(specs, quoted("1:uplink:_uplinkctl_uplinks"))
		case "COMMAND":
			specs = append(specs, quoted("1:command:_uplinkctl_commands"))
		}
		if len(specs) == 0 {
			p("\t%s) _message 'no more arguments' ;;", c.name)
			continue
		}
		p("\t%s)\n\t\t_arguments \\\n\t\t\t%s\n\t\t;;", c.name, strings.Join(specs, " \\\n\t\t\t"))
	}
	p("\tesac\n}\n\n_uplinkctl \"$@\"")
	return b.String()
}

func fishCompletion(list []completed) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	text := func(s string) string { return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'" }
	p("# fish completion for uplinkctl(8)\n%s", madeBy)
	p(`function __uplinkctl_command -d 'whether the command is one of these, none without any'
    set -l words (commandline -opc)
    if test (count $argv) -eq 0
        test (count $words) -eq 1
    else
        test (count $words) -gt 1; and contains -- $words[2] $argv
    end
end

function __uplinkctl_uplinks
    set -l words (commandline -opc)
    set -l root
    for i in (seq (count $words))
        switch $words[$i]
            case --root
                set -q words[(math $i + 1)]; and set root --root $words[(math $i + 1)]
            case '--root=*'
                set root $words[$i]
        end
    end
    uplinkctl names $root 2>/dev/null
end

complete -c uplinkctl -f`)
	p("complete -c uplinkctl -n __uplinkctl_command -l help -d 'print the commands'")
	p("complete -c uplinkctl -n __uplinkctl_command -l version -d 'print the version'")
	for _, c := range list {
		p("complete -c uplinkctl -n __uplinkctl_command -a %s -d %s", c.name, text(c.summary))
	}
	for _, c := range list {
		p("")
		on := "complete -c uplinkctl -n '__uplinkctl_command " + c.name + "'"
		for _, o := range c.options {
			s := on + " -l " + o.name
			switch {
			case o.choices != nil:
				s += " -x -a " + text(strings.Join(o.choices, " "))
			case o.value == "DIR":
				s += " -x -a '(__fish_complete_directories)'"
			case o.value == "FILE":
				s += " -r -F"
			case o.value == "LINK":
				s += " -x -a '(command ls /sys/class/net 2>/dev/null)'"
			case o.value != "":
				s += " -x"
			}
			p("%s -d %s", s, text(o.help))
		}
		switch c.arguments {
		case "SPEC":
			p("%s -k -a '(__fish_complete_suffix .toml)'", on)
		case "FILE":
			p("%s -F", on)
		case "UPLINK":
			p("%s -a '(__uplinkctl_uplinks)' -d uplink", on)
		case "COMMAND":
			p("%s -a %s", on, text(strings.Join(commandNames(list), " ")))
		}
	}
	return b.String()
}

// TestCompletion makes the shells' files anew, and compares them with those that are
// shipped.
func TestCompletion(t *testing.T) {
	list := completions(t)
	for name, text := range map[string]string{"uplinkctl.bash": bashCompletion(list), "_uplinkctl": zshCompletion(list), "uplinkctl.fish": fishCompletion(list)} {
		file := filepath.Join("completion", name)
		if *update {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if have, err := os.ReadFile(file); err != nil || string(have) != text {
			t.Errorf("%s is not that of the commands (%v): go test ./cmd/uplinkctl -run TestCompletion -update", file, err)
		}
	}
}
