package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/cmd/internal/host"
)

const verifyUsage = `Usage: uplinkctl verify [--root DIR] [--json]

Ask the kernel's own route lookup which way packets would leave from each
address of each uplink: to destinations outside, in the connected subnet, and of
every route of the uplink. It works with either back end. It also notes what
else on the host may get in the way; a note does not change the exit status.

Options:
  --root DIR   the host's root directory (default /)
  --json       print one JSON object

Exit status: 0 all is right, 1 something is wrong, or an error, 2 wrong usage.

Examples:
  uplinkctl verify
  uplinkctl verify --json
`

func verifyCommand() *command {
	var root string
	var asJSON bool
	return &command{
		name: "verify", usage: verifyUsage,
		flags: func(f *flag.FlagSet) {
			rootOption(f, &root)
			f.BoolVar(&asJSON, "json", false, "")
		},
		run: onlyLooks(verifyUsage, func(stdout, stderr io.Writer) error {
			h, err := host.Open(context.Background(), root, 0, false)
			if err != nil {
				return err
			}
			defer h.Close()
			state, _, broken := h.State(stderr)
			if broken != nil {
				e, ok, err := host.Standing(h.Root, broken, "what is in effect is not known, and cannot be verified", stderr)
				if err != nil || !ok {
					return cmp.Or(err, errSaid)
				}
				state = e.State
			}
			v, err := h.Verify(state)
			if err != nil {
				return err
			}
			dead, err := h.DeadUplinks(state)
			if err != nil { // the kernel's answers do not depend on it
				fmt.Fprintf(stderr, "uplinkctl: %v\n", err)
			}
			if asJSON {
				err = printVerificationJSON(stdout, v, dead, broken)
			} else {
				err = printVerification(stdout, v, dead)
			}
			if err == nil {
				err = v.Err()
			}
			switch {
			case errors.Is(err, apply.ErrWrongWay):
				err = fmt.Errorf("%w: see `uplinkctl explain SRC DST`", err)
			case err == nil && broken != nil:
				err = errSaid
			case errors.Is(err, apply.ErrMissing) && !slices.ContainsFunc(v.Missing, func(m apply.Missing) bool { return !m.Others && !m.Duplicate }):
				err = fmt.Errorf("%w: see `uplinkctl status`", err)
			case errors.Is(err, apply.ErrMissing):
				err = fmt.Errorf("%w: see `uplinkctl status`; `uplinkctl reload` brings about what is missing", err)
			}
			return err
		}),
	}
}

func printVerification(w io.Writer, v apply.Verification, dead []host.Dead) error {
	s := newScreen(w)
	name := 0
	for _, c := range v.Checks {
		name = max(name, utf8.RuneCountInString(c.Uplink))
	}
	for _, m := range v.Missing {
		name = max(name, utf8.RuneCountInString(m.Uplink))
	}
	for _, c := range v.Checks {
		word, how := "ok   ", green
		if !c.OK() {
			word, how = "WRONG", red
		}
		s.items(fmt.Sprintf("%s  %-*s  ", word, name, c.Uplink), how, words(c.String())...)
	}
	for _, m := range v.Missing {
		s.items(fmt.Sprintf("WRONG  %-*s  ", name, m.Uplink), red, words(m.String())...)
	}
	for _, l := range v.Waiting[:min(len(v.Waiting), host.Few)] {
		s.items("waits  ", yellow, words(l.String())...)
	}
	if more := host.MoreWait(len(v.Waiting) - host.Few); more != "" {
		s.items("waits  ", yellow, words(more)...)
	}
	for _, d := range dead {
		s.items("note   ", yellow, words(d.String())...)
	}
	for _, h := range v.Hazards {
		s.items("note   ", yellow, words(h.String())...)
	}
	return s.Flush()
}

// printWrongWays prints the wrong ways that verify has found after a reload, if err is about
// them.
func printWrongWays(w io.Writer, err error) {
	var wrong *host.WrongWayError
	if errors.As(err, &wrong) {
		v := wrong.Verification
		v.Checks = slices.DeleteFunc(v.Checks, apply.Check.OK)
		v.Waiting = nil // these were printed already
		_ = printVerification(w, v, nil)
	}
}

// jsonWay and the types in it are the stable form of verify --json; absent values are left out.
type jsonWay struct {
	Type   string `json:"type"`
	Table  uint32 `json:"table,omitempty"`
	Device string `json:"dev,omitempty"`
	Via    string `json:"via,omitempty"`
	Src    string `json:"src,omitempty"`
}

func newJSONWay(w apply.Way) *jsonWay {
	j := &jsonWay{Type: w.Type.String(), Table: w.Table, Device: w.Device}
	if w.Via.IsValid() {
		j.Via = w.Via.String()
	}
	if w.Src.IsValid() {
		j.Src = w.Src.String()
	}
	return j
}

type jsonCheck struct {
	Uplink string   `json:"uplink"`
	OK     bool     `json:"ok"`
	From   string   `json:"from,omitempty"`
	To     string   `json:"to"`
	Mark   uint32   `json:"fwmark,omitempty"`
	Want   *jsonWay `json:"want"`
	Have   *jsonWay `json:"have,omitempty"`
	Error  string   `json:"error,omitempty"`
}

type jsonVerification struct {
	Version int         `json:"version"`
	OK      bool        `json:"ok"`
	Checks  []jsonCheck `json:"checks"`
	Missing []string    `json:"missing"`
	Waiting []string    `json:"waiting"`
	Hazards []string    `json:"hazards"`
	Dead    []string    `json:"dead"`
	Broken  string      `json:"spec-error,omitempty"`
}

func printVerificationJSON(w io.Writer, v apply.Verification, dead []host.Dead, broken error) error {
	out := jsonVerification{Version: 1, OK: v.OK(), Checks: []jsonCheck{}, Missing: []string{}, Waiting: []string{}, Hazards: []string{}, Dead: []string{}}
	for _, c := range v.Checks {
		j := jsonCheck{Uplink: c.Uplink, OK: c.OK(), To: c.Packet.To.String(), Mark: c.Packet.Mark, Want: newJSONWay(c.Want)}
		if c.Packet.From.IsValid() {
			j.From = c.Packet.From.String()
		}
		if c.Err != nil {
			j.Error = c.Err.Error()
		} else {
			j.Have = newJSONWay(c.Have)
		}
		out.Checks = append(out.Checks, j)
	}
	for _, m := range v.Missing {
		out.Missing = append(out.Missing, "uplink "+m.Uplink+": "+m.String())
	}
	for _, l := range v.Waiting {
		out.Waiting = append(out.Waiting, l.String())
	}
	for _, h := range v.Hazards {
		out.Hazards = append(out.Hazards, h.String())
	}
	for _, d := range dead {
		out.Dead = append(out.Dead, d.String())
	}
	if broken != nil {
		out.OK, out.Broken = false, broken.Error()
	}
	return writeJSON(w, out)
}
