package importer

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// Scripts reads shell scripts that configure the network with ip(8), and files for `ip
// -batch`, which lack only the word `ip`, in the order in which they run. It replaces
// variables that are set to plain text, and notes as left what depends on anything else.
func Scripts(root rootfs.Root, names Names, files ...string) (*Found, error) {
	f := &Found{From: "a script of ip(8) commands"}
	s := newShell(f, names)
	for _, file := range files {
		data, err := root.ReadFile(file, maxSize)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		f.Files = append(f.Files, file)
		s.read(file, string(data))
	}
	s.finish()
	return f, nil
}

// read reads one file, which does not know the variables of others.
func (s *shell) read(file, text string) {
	at := fib.Origin{File: file, Line: 1}
	s.vars, s.unset, s.sourced = map[string]string{}, map[string]bool{}, false
	if isBatch(text) {
		s.batch(at, text, 0)
	} else {
		s.run(at, text)
	}
}

// isBatch says whether the first command is an object of ip(8).
func isBatch(text string) bool {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		w := strings.Fields(line)
		if len(w) == 0 {
			continue
		}
		for _, o := range []string{"address", "route", "rule", "link"} {
			if len(w) > 1 && (w[0] == o || len(w[0]) > 1 && strings.HasPrefix(o, w[0]) || w[0] == "a" || w[0] == "r" || w[0] == "l") {
				return true
			}
		}
		return false
	}
	return false
}

// shell goes through scripts as sh would, as far as that is possible without running them.
type shell struct {
	f     *Found
	names Names
	vars  map[string]string
	unset map[string]bool // variables whose value is not known
	// sourced says that the script sources a file, which is not read and may have set any variable.
	sourced bool
	// iface is the interface whose configuration runs the script: a command that names no
	// link is about this one.
	iface string
	stays bool // addresses belong to the link's own configuration
	// removed holds commands that remove something before it is added, or without its being added.
	removed []removal
	// routes and rules have everything that was ever added.
	routes map[fib.RouteKey]bool
	rules  map[fib.Rule]bool
}

func newShell(f *Found, names Names) *shell {
	if names == nil {
		names = Names{}
	}
	return &shell{
		f: f, names: maps.Clone(names), vars: map[string]string{}, unset: map[string]bool{},
		routes: map[fib.RouteKey]bool{}, rules: map[fib.Rule]bool{},
	}
}

// run reads a script whose first line is at.
func (s *shell) run(at fib.Origin, text string) {
	parsed, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), at.File)
	if err != nil {
		line, why := at.Line, err.Error()
		if pe := (syntax.ParseError{}); errors.As(err, &pe) {
			line, why = at.Line+int(pe.Pos.Line())-1, pe.Text
		}
		wrong := text
		if lines := strings.Split(text, "\n"); line-at.Line >= 0 && line-at.Line < len(lines) {
			wrong = lines[line-at.Line]
		}
		s.f.left(fib.Origin{File: at.File, Line: line}, firstLine(wrong), "no shell script, and nothing of it is read: %s", why)
		return
	}
	w := &walker{shell: s, at: at, text: text}
	w.statements(parsed.Stmts)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// walker walks through one script.
type walker struct {
	*shell
	at   fib.Origin
	text string
	done bool // the script has exited
}

func (w *walker) origin(n syntax.Node) fib.Origin {
	return fib.Origin{File: w.at.File, Line: w.at.Line + int(n.Pos().Line()) - 1}
}

func (w *walker) source(n syntax.Node) string {
	from, to := int(n.Pos().Offset()), int(n.End().Offset())
	if from < 0 || to > len(w.text) || from > to {
		return ""
	}
	return firstLine(w.text[from:to])
}

func (w *walker) left(n syntax.Node, format string, args ...any) {
	w.f.left(w.origin(n), w.source(n), format, args...)
}

func (w *walker) statements(list []*syntax.Stmt) {
	for _, s := range list {
		if w.done {
			return
		}
		w.statement(s)
	}
}

func (w *walker) statement(s *syntax.Stmt) {
	switch c := s.Cmd.(type) {
	case *syntax.CallExpr:
		if s.Negated || s.Background {
			w.dynamic(s, "it is not run as it stands")
			return
		}
		w.call(s, c)
	case *syntax.Block:
		w.statements(c.Stmts)
	case *syntax.BinaryCmd:
		w.binary(s, c)
	case *syntax.DeclClause:
		for _, a := range c.Args {
			w.assign(a)
		}
	case *syntax.FuncDecl:
		w.dynamic(s, "in a function")
	case *syntax.IfClause, *syntax.CaseClause, *syntax.TestClause:
		w.dynamic(s, "in a condition")
	case *syntax.ForClause, *syntax.WhileClause:
		w.dynamic(s, "in a loop")
	case nil:
	default:
		w.dynamic(s, "it cannot be told without running it")
	}
}

// binary treats `A && B` as A and then B, and `A || true` as A.
func (w *walker) binary(s *syntax.Stmt, c *syntax.BinaryCmd) {
	switch {
	case c.Op == syntax.AndStmt:
		all := chain(s)
		if slices.ContainsFunc(all[:len(all)-1], func(s *syntax.Stmt) bool { return !isCall(s) }) {
			w.dynamic(s, "in a condition")
			return
		}
		w.statements(all)
	case c.Op == syntax.OrStmt && !slices.ContainsFunc(chain(c.X), func(s *syntax.Stmt) bool { return !isCall(s) }) && w.harmless(c.Y):
		w.statement(c.X)
	default:
		w.dynamic(s, "in a condition")
	}
}

// chain returns the statements of `A && B && C`.
func chain(s *syntax.Stmt) (list []*syntax.Stmt) {
	for {
		b, ok := s.Cmd.(*syntax.BinaryCmd)
		if !ok || b.Op != syntax.AndStmt {
			break
		}
		list, s = append(list, b.Y), b.X
	}
	list = append(list, s)
	slices.Reverse(list)
	return list
}

// isCall says whether a statement is `ip …`, which is expected to succeed.
func isCall(s *syntax.Stmt) bool {
	c, ok := s.Cmd.(*syntax.CallExpr)
	return ok && len(c.Args) > 0 && isIP(c.Args[0].Lit())
}

func isIP(name string) bool { return path.Base(name) == "ip" }

// harmless says whether a statement does nothing to the network.
func (w *walker) harmless(s *syntax.Stmt) bool {
	found := false
	syntax.Walk(s, func(n syntax.Node) bool {
		if c, ok := n.(*syntax.CallExpr); ok && len(c.Args) > 0 && !isHarmless(c) {
			found = true
		}
		return true
	})
	return !found
}

var harmlessCommands = []string{
	"set", "exit", "echo", "printf", "sleep", "true", "false", ":", "logger", "test", "[", "cd", "umask", "export",
	"readonly", "local", "unset", "shift", "return", "trap", "wait", "date", "cat", "grep", "ping",
}

func isHarmless(c *syntax.CallExpr) bool {
	name := c.Args[0].Lit()
	if slices.Contains(harmlessCommands, path.Base(name)) {
		return true
	}
	if !isIP(name) {
		return false
	}
	words := 0 // without any behind the object, ip(8) shows it
	for _, a := range c.Args[1:] {
		switch w := a.Lit(); {
		case slices.Contains([]string{"show", "list", "get", "monitor", "s", "sh", "ls"}, w):
			return true
		case !strings.HasPrefix(w, "-"):
			words++
		}
	}
	return words == 1 && !slices.ContainsFunc(c.Args, func(a *syntax.Word) bool { return a.Lit() == "" || strings.HasPrefix(a.Lit(), "-b") })
}

// dynamic notes as left each command inside s that does something.
func (w *walker) dynamic(s *syntax.Stmt, why string) {
	if _, is := s.Cmd.(*syntax.ForClause); is || len(s.Redirs) > 0 || !w.harmless(s) {
		before := len(w.f.Left)
		syntax.Walk(s, func(n syntax.Node) bool {
			switch n := n.(type) {
			case *syntax.CallExpr:
				if len(n.Args) > 0 && !isHarmless(n) {
					w.left(n, "%s", why)
				}
				for _, a := range n.Assigns {
					w.forget(a)
				}
			case *syntax.Assign:
				w.forget(n)
			}
			return true
		})
		if len(w.f.Left) == before && !w.harmless(s) {
			w.left(s, "%s", why)
		}
		return
	}
	syntax.Walk(s, func(n syntax.Node) bool {
		if a, ok := n.(*syntax.Assign); ok {
			w.forget(a)
		}
		return true
	})
}

// call runs one simple command.
func (w *walker) call(s *syntax.Stmt, c *syntax.CallExpr) {
	var args []string
	for _, a := range c.Args {
		fields, ok := w.word(a, true)
		if !ok {
			if isHarmless(c) && len(s.Redirs) == 0 {
				return
			}
			w.left(s, "%s is not known here", w.source(a))
			return
		}
		args = append(args, fields...)
	}
	if len(args) == 0 { // or the words expand to nothing
		for _, a := range c.Assigns {
			w.assign(a)
		}
		return
	}
	for len(args) > 1 && slices.Contains([]string{"command", "exec", "sudo", "nice", "env"}, args[0]) {
		args = args[1:]
	}
	switch name := path.Base(args[0]); {
	case name == "ip":
		w.ip(s, args[1:])
	case name == "exit":
		w.done = true
	case name == "." || name == "source":
		w.sourced = true
		w.left(s, "the file that it names is to be imported by itself")
	case name == "echo" || name == "printf":
		w.echo(s, args[1:])
	case slices.Contains(harmlessCommands, name):
	default:
		w.left(s, "no command of ip(8)")
	}
}

// echo reads a line that is written to rt_tables.
func (w *walker) echo(s *syntax.Stmt, args []string) {
	for _, r := range s.Redirs {
		if r.Op != syntax.AppOut && r.Op != syntax.RdrOut || r.N != nil {
			continue
		}
		to, ok := w.word(r.Word, false)
		target := strings.Join(to, " ")
		switch {
		case ok && strings.Contains(target, "rt_tables"):
			for len(args) > 0 && strings.HasPrefix(args[0], "-") {
				args = args[1:]
			}
			w.names.read(strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(strings.Join(args, " ")))
		case ok && (target == "/dev/null" || strings.HasPrefix(target, "/dev/std")):
		default:
			w.left(s, "it writes to a file")
		}
	}
}

// ip reads one command of ip(8), or a batch of them.
func (w *walker) ip(s *syntax.Stmt, args []string) {
	for i, a := range args {
		if !strings.HasPrefix(a, "-") {
			break
		}
		if o := strings.TrimLeft(a, "-"); o == "b" || o == "ba" || strings.HasPrefix("batch", o) && len(o) > 2 {
			w.batchCall(s, args[:i], args[i+1:])
			return
		}
	}
	w.change(w.origin(s), w.source(s), args)
}

// batchCall reads `ip -batch -` with its lines in a here-document.
func (w *walker) batchCall(s *syntax.Stmt, options, rest []string) {
	family := fib.Family(0)
	switch {
	case slices.Contains(options, "-6"):
		family = fib.Inet6
	case slices.Contains(options, "-4"):
		family = fib.Inet
	}
	if len(rest) == 1 && rest[0] == "-" {
		for _, r := range s.Redirs {
			if r.Hdoc == nil {
				continue
			}
			text, ok := w.document(r)
			if !ok {
				w.left(s, "a variable in the here-document is not known here")
				return
			}
			w.batch(w.origin(r.Hdoc), text, family)
			return
		}
	}
	w.left(s, "the file of a batch is to be imported by itself")
}
