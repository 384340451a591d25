package main

import (
	"errors"
	"flag"
	"io"
	"strconv"
	"strings"

	"github.com/uplink-generator/uplink-generator/gen/blocks"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

const exportUsage = `Usage: uplinkctl export [--format F] [--root DIR | FILE…]

Print the state that the kernel would hold, for other tools. It needs neither
root nor a kernel. With FILEs it reads only those, each overriding the ones
before it.

Options:
  --root DIR   the host's root directory (default /)
  --format F   iproute2 (default): a script for sh that runs ip(8), for a host
               that has nothing of the state yet; json: one JSON object, with
               the field names of ip -json

Exit status: 0 done, 1 the spec has errors or there is none, 2 wrong usage.

Examples:
  uplinkctl export > uplinks.sh
  uplinkctl export --format json my-uplink.toml
`

func exportCommand() *command {
	var root string
	format := "iproute2"
	return &command{
		name: "export", usage: exportUsage, files: true,
		flags: func(f *flag.FlagSet) {
			rootOption(f, &root)
			f.Func("format", "", func(s string) error {
				if s != "iproute2" && s != "json" {
					return errors.New("there are iproute2 and json")
				}
				format = s
				return nil
			})
		},
		run: func(files []string, stdout, stderr io.Writer) int {
			return printState(exportUsage, root, files, stderr, func(s *spec.Spec, state *fib.State) error {
				*state, _ = blocks.Lay(*state, blocks.Threshold) // ip(8) can express everything in it
				if format == "json" {
					return exportJSON(stdout, s, state)
				}
				_, err := io.WriteString(stdout, exportScript(s, state))
				return err
			})
		},
	}
}

// script writes the lines of a State for ip(8) in here-documents, one for each family, because ip
// takes the family of a batch only as an option.
type script struct {
	b    strings.Builder
	vars map[string]string // by link: the variable for its interface, if the spec does not name it
}

// exportScript returns a script for sh that brings a State about.
func exportScript(s *spec.Spec, state *fib.State) string {
	w := &script{}
	w.name(state)
	w.line("#!/bin/sh")
	w.line("# Made by uplinkctl export from:")
	for _, f := range s.Files {
		w.line("#   " + oneLine(f))
	}
	w.line("# For a host that has none of it yet: what is there already is refused, and ends it.")
	for _, t := range state.Tables {
		w.line("# table " + strconv.FormatUint(uint64(t.ID), 10) + " " + t.Name)
	}
	x := fib.Syntax{Device: w.device(state)}
	var inet, addresses6, inet6 []string
	for _, l := range state.Links {
		comment, mtu, hasMTU := strings.Cut(x.Link(l), "\n")
		w.line(comment)
		if l.Learn.Any() {
			w.line("# What uplink " + l.Name + " learns is not in here: `uplinkctl watch` follows it.")
		}
		if !l.PolicyOnly {
			inet = append(inet, "link set dev "+x.Device(l.Name)+" up")
		}
		if hasMTU {
			inet = append(inet, mtu)
		}
	}
	wait := false // for the sources of routes
	for _, a := range state.Addresses {
		if line := x.Address("add", a); a.Family() == fib.Inet {
			inet = append(inet, line)
		} else {
			addresses6 = append(addresses6, line)
		}
	}
	for _, r := range state.Routes {
		if line := x.Route("add", r); r.Family == fib.Inet {
			inet = append(inet, line)
		} else {
			inet6 = append(inet6, line)
			wait = wait || r.Src.IsValid()
		}
	}
	for _, r := range state.Rules {
		if line := x.Rule("add", r); r.Family == fib.Inet {
			inet = append(inet, line)
		} else {
			inet6 = append(inet6, line)
		}
	}

	w.line("set -eu")
	w.variables(state)
	w.batch("ip -batch -", inet)
	if wait && len(addresses6) > 0 {
		w.batch("ip -6 -batch -", addresses6)
		addresses6 = nil
		w.line("")
		w.line("# An address is no source of a route before it is known to be no duplicate.")
		w.line("seconds=5")
		w.line("while [ $seconds -gt 0 ] && [ -n \"$(ip -6 -oneline address show tentative)\" ]; do")
		w.line("\tsleep 1")
		w.line("\tseconds=$((seconds - 1))")
		w.line("done")
	}
	w.batch("ip -6 -batch -", append(addresses6, inet6...))
	return w.b.String()
}

func (w *script) line(s string) { w.b.WriteString(s + "\n") }

// name finds variables for the links that the spec does not identify by name.
func (w *script) name(state *fib.State) {
	w.vars = map[string]string{}
	taken := map[string]bool{}
	for _, l := range state.Links {
		if _, named := l.Match.Device(); named {
			continue
		}
		base := "dev_" + strings.NewReplacer("-", "_", ".", "_").Replace(l.Name)
		v := base
		for n := 2; taken[v]; n++ {
			v = base + "_" + strconv.Itoa(n)
		}
		w.vars[l.Name], taken[v] = v, true
	}
}

// device returns the interface of a link, or a placeholder with a NUL, which no line has.
func (w *script) device(state *fib.State) func(string) string {
	named := state.Syntax()
	return func(link string) string {
		if v, ok := w.vars[link]; ok {
			return "\x00{" + v + "}"
		}
		return named.Device(link)
	}
}

func (w *script) variables(state *fib.State) {
	if len(w.vars) == 0 {
		return
	}
	w.line("")
	w.line("# The spec does not name these links: say what they are called here.")
	for _, l := range state.Links {
		if v, ok := w.vars[l.Name]; ok {
			w.line(": \"${" + v + ":?is not set: the link of uplink " + l.Name + "}\"")
		}
	}
}

// batch feeds lines to a command.
func (w *script) batch(command string, lines []string) {
	if len(lines) == 0 {
		return
	}
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(l, "-6 ") // the command has it already
	}
	text, end := strings.Join(lines, "\n"), "'END'"
	if strings.Contains(text, "\x00") { // the shell must expand that, and nothing else
		text = strings.NewReplacer(`\`, `\\`, "`", "\\`", "$", `\$`, "\x00", "$").Replace(text)
		end = "END"
	}
	w.line("")
	w.line(command + " <<" + end)
	w.line(text)
	w.line("END")
}

// oneLine makes a file's name fit into a comment.
func oneLine(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}
