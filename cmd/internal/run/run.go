// Package run is what the two programs share: the way from the files of a host to what is
// written, and how errors are reported.
package run

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/uplink-generator/uplink-generator/gen"
	"github.com/uplink-generator/uplink-generator/gen/blocks"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

// Exit codes of all commands.
const (
	ExitOK    = 0
	ExitFail  = 1 // something is wrong with the spec or the host
	ExitUsage = 2 // something is wrong with the command line
)

// version and commit are set by the linker.
var version, commit = "devel", ""

// CheckArguments refuses what cannot be an argument of ours: what a terminal would obey, or what
// is longer than a path may be (PATH_MAX). It would appear in messages, and in files.
func CheckArguments(args []string) error {
	const longest = 4096
	for i, a := range args {
		switch {
		case len(a) > longest:
			return fmt.Errorf("argument %d is too long: %d bytes", i+1, len(a))
		case !utf8.ValidString(a) || strings.ContainsFunc(a, func(c rune) bool { return !unicode.IsPrint(c) }):
			return fmt.Errorf("argument %d has a character that cannot be shown", i+1)
		}
	}
	return nil
}

// CheckRoot refuses a host's root directory that does not exist: it would have no spec, and
// whoever writes below it would create it.
func CheckRoot(dir string) error {
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("no such directory")
	case err == nil && !st.IsDir():
		return errors.New("not a directory")
	}
	return err
}

// Version returns the line that --version prints.
func Version(program string) string {
	s := program + " " + version
	if commit != "" {
		s += " (" + commit + ")"
	}
	return s + " " + runtime.Version()
}

// Rendering says what to render, and for which host.
type Rendering struct {
	Root    string // the host's root directory; "" for "/"
	Version string // of its systemd; "" for the one that is installed below Root
}

// Render reads the host's spec and renders it. A host without a spec gives an
// empty tree and spec.ErrNone.
func (r Rendering) Render() (units.Tree, []units.Note, error) {
	backend, state, err := State(rootfs.At(r.Root))
	if err != nil {
		return nil, nil, err
	}
	root := rootfs.At(r.Root)
	// Because of one rule that the kernel cannot hold, networkd gives up a link with all its IPv4
	// (257, with ipv6.disable=1 on the kernel command line).
	lacks := root.IsHost() && !root.Exists("/proc/sys/net/ipv6") && state.DropFamily(fib.Inet6)
	tree, notes, err := r.files(backend, state, root.Exists(AppliedFile))
	if lacks {
		notes = append(notes, units.Note{Text: WithoutInet6})
	}
	return tree, notes, err
}

// WithoutInet6 is the message where the kernel lacks IPv6.
const WithoutInet6 = "this kernel has no IPv6: the IPv6 part of the spec is left out"

// AppliedFile exists while routes or rules of the oneshot are in the kernel. A networkd that is
// started later must not remove them before its own are there.
const AppliedFile = "/run/uplink/applied"

// Files renders a State for a host whose networkd, if there is one, runs already. The State must
// not contain what the kernel lacks.
func (r Rendering) Files(backend spec.Backend, state fib.State) (units.Tree, []units.Note, error) {
	return r.files(backend, state, false)
}

func (r Rendering) files(backend spec.Backend, state fib.State, keepForeign bool) (units.Tree, []units.Note, error) {
	target, known := units.Target{Root: rootfs.At(r.Root), WithoutNetworkd: backend == spec.Netlink}, true
	target.KeepForeign = target.WithoutNetworkd || keepForeign
	if r.Version == "" {
		target.Version, known = units.DetectVersion(target.Root)
	} else if v, err := units.ParseVersion(r.Version); err == nil {
		target.Version = v
	} else {
		return nil, nil, err
	}
	if !known {
		target.Version = units.Oldest
	}
	if !target.WithoutNetworkd && target.Version.HasGoto() {
		state = inBlocks(state)
	}
	tree, notes, err := units.Render(state, target)
	if !known && !target.WithoutNetworkd {
		notes = append(notes, units.Note{Text: fmt.Sprintf("no systemd is installed below %s: rendered for systemd %s, the oldest that is supported; --systemd-version says otherwise", target.Root, target.Version)})
	}
	return tree, notes, err
}

// State reads and compiles the host's spec, and says which back end it is for: the kernel command
// line overrides the spec.
func State(root rootfs.Root) (spec.Backend, fib.State, error) {
	s, err := spec.Load(root)
	if err != nil {
		return "", fib.State{}, err
	}
	if line := gen.ReadCommandLine(root); line.Backend != "" {
		s.Backend = line.Backend
	}
	state, err := gen.Compile(s)
	return s.Backend, state, err
}

// Lay lays many rules out so that the kernel tries few of them (package blocks), where the back
// end on this host can add such rules: netlink always, networkd since systemd 257.
func Lay(root rootfs.Root, backend spec.Backend, state fib.State) fib.State {
	if !blocks.Worth(state, blocks.Threshold) {
		return state // as most do, and then nothing else has to be found out
	}
	version, known := units.DetectVersion(root)
	if backend == spec.Netlink || known && version.HasGoto() || backend == spec.Auto && !units.NetworkdRuns() {
		return inBlocks(state)
	}
	return state
}

// inBlocks lays a State out. What prevents that is reported by check.
func inBlocks(state fib.State) fib.State {
	state, _ = blocks.Lay(state, blocks.Threshold)
	return state
}

// Check reads and compiles the files, or the host's spec where none is given.
func Check(root string, files ...string) (*spec.Spec, fib.State, error) {
	var s *spec.Spec
	var err error
	if len(files) > 0 {
		s, err = spec.LoadFiles(rootfs.At(""), files...)
	} else {
		s, err = spec.Load(rootfs.At(root))
	}
	if err != nil {
		return nil, fib.State{}, err
	}
	state, err := gen.Compile(s)
	return s, state, err
}

// WarnOfExposure says who other than root could change the host's spec. Whoever brings a spec
// into effect says so first.
func WarnOfExposure(w io.Writer, program string, root rootfs.Root) {
	const most = 8
	found := spec.Exposures(root)
	for _, e := range found[:min(len(found), most)] {
		fmt.Fprintf(w, "%s: %s\n", program, e)
	}
	if len(found) > most {
		fmt.Fprintf(w, "%s: and %d more such warnings: see `uplinkctl check`\n", program, len(found)-most)
	}
}

// Report is ReportOf for a command that would have changed something.
func Report(w io.Writer, program string, err error) { ReportOf(w, program, err, "nothing was changed") }

// ReportOf writes an error for people: each thing that is wrong with a spec, with its source
// line, then how many there are and, unless then is "", what follows from that.
func ReportOf(w io.Writer, program string, err error, then string) {
	denied := errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0
	var list spec.Errors
	if !errors.As(err, &list) {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(w, "%s: %s\n", program, strings.TrimSuffix(line, "\n"))
		}
		if errors.Is(err, spec.ErrNone) {
			fmt.Fprintln(w, "uplink.toml(5) says what to write there, `uplinkctl help` what can be done with it")
		}
		if denied {
			fmt.Fprintf(w, "%s: only root may do this: run it with sudo\n", program)
		}
		return
	}
	fmt.Fprintln(w, list.Detail())
	plural := "s"
	if len(list) == 1 {
		plural = ""
	}
	if then != "" {
		then = "; " + then
	}
	fmt.Fprintf(w, "\n%s: %d error%s%s\n", program, len(list), plural, then)
	if denied {
		fmt.Fprintf(w, "%s: only root may read it: run this with sudo, or let others read it\n", program)
	}
}
