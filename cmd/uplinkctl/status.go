package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/cmd/internal/host"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

const statusUsage = `Usage: uplinkctl status [--root DIR] [--all] [--json]

Show how much of the spec is in effect: each uplink with its link, addresses,
gateways and rules, who configures it, and where the kernel differs; then all
rules of the host, those of others included, in the order in which the kernel
tries them. It needs no root, and is what uplinkctl does without a command.

Options:
  --root DIR   the host's root directory (default /)
  --all        show every uplink and every rule, however many there are
  --json       print one JSON object

Exit status: 0 all is as the spec says, 1 something differs, waits for its
link, or an error; 2 wrong usage.

Examples:
  uplinkctl
  uplinkctl status --json
`

// errShown makes the exit status 1 where everything was shown already.
var errShown = fmt.Errorf("not all is as the spec says: %w", errDiffers)

func statusCommand() *command {
	var root string
	var all, asJSON bool
	return &command{
		name: "status", usage: statusUsage,
		flags: func(f *flag.FlagSet) {
			rootOption(f, &root)
			f.BoolVar(&all, "all", false, "")
			f.BoolVar(&asJSON, "json", false, "")
		},
		run: onlyLooks(statusUsage, func(stdout, stderr io.Writer) error {
			s, err := host.ReadStatus(root, stderr)
			if err != nil {
				return err
			}
			if asJSON {
				err = printStatusJSON(stdout, s)
			} else {
				err = printStatus(stdout, s, all)
			}
			if err == nil && !s.OK() {
				err = errShown
			}
			return err
		}),
	}
}

// ruleText returns a rule in the words of ip(8), without its priority and owner.
func ruleText(r fib.Rule, table func(uint32) string) string {
	text := fib.Syntax{Table: table, Protocol: fib.Some[uint8](0)}.Rule("add", r)
	_, text, _ = strings.Cut(text, fmt.Sprintf("rule add priority %d ", r.Priority))
	return text
}

// tableNames names the tables of the uplinks, for fib.Syntax.
func tableNames(s *host.Status) func(uint32) string {
	names := make(map[uint32]string, len(s.Uplinks))
	for _, u := range s.Uplinks {
		names[u.Table] = u.Name
	}
	if s.Failover != 0 {
		names[s.Failover] = spec.FailoverTable
	}
	return func(id uint32) string {
		if name, ok := names[id]; ok {
			return name
		}
		return fmt.Sprint(id)
	}
}

// jsonStatus and the types in it are the stable form of status --json; absent values are left
// out.
type jsonStatus struct {
	Version int                `json:"version"`
	OK      bool               `json:"ok"`
	Backend string             `json:"backend,omitempty"`
	Uplinks []jsonStatusUplink `json:"uplinks"`
	Drift   []jsonStatusDrift  `json:"drift"`
	Rules   []jsonHostRule     `json:"rules"`
	Notes   []string           `json:"notes"`
	Broken  string             `json:"spec-error,omitempty"`
}

type jsonStatusUplink struct {
	Name      string              `json:"name"`
	State     string              `json:"state"`
	Backend   string              `json:"backend"`
	Table     uint32              `json:"table"`
	Link      *jsonStatusLink     `json:"link,omitempty"`
	Waiting   []string            `json:"waiting"`
	Addresses []jsonStatusAddress `json:"addresses"`
	Gateways  []jsonStatusGateway `json:"gateways"`
	Rules     []jsonStatusRule    `json:"rules"`
	Health    []jsonStatusHealth  `json:"health,omitempty"`
	Drift     []jsonStatusDrift   `json:"drift"`
}

type jsonStatusHealth struct {
	Family string    `json:"family"`
	State  string    `json:"state"` // "alive" or "dead"
	Since  time.Time `json:"since"`
	Why    string    `json:"why"`
}

type jsonStatusLink struct {
	Device  string `json:"dev"`
	Up      bool   `json:"up"`
	Carrier bool   `json:"carrier"`
}

type jsonStatusAddress struct {
	Address string           `json:"address"`
	State   string           `json:"state"`
	Learned *jsonStatusLease `json:"learned,omitempty"`
}

type jsonStatusGateway struct {
	Address   string           `json:"address"`
	Neighbour string           `json:"neighbour"`
	Learned   *jsonStatusLease `json:"learned,omitempty"`
}

type jsonStatusLease struct {
	From  string `json:"from"`
	Since string `json:"since,omitempty"`
	Until string `json:"until,omitempty"`
}

func newJSONStatusLease(l *host.Lease) *jsonStatusLease {
	if l == nil {
		return nil
	}
	stamp := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	return &jsonStatusLease{l.From, stamp(l.Since), stamp(l.Until)}
}

type jsonStatusRule struct {
	Family   string `json:"family"`
	Priority uint32 `json:"priority"`
	Rule     string `json:"rule"`
	State    string `json:"state"`
}

type jsonHostRule struct {
	Family   string `json:"family"`
	Priority uint32 `json:"priority"`
	Rule     string `json:"rule"`
	State    string `json:"state"`
	Protocol uint8  `json:"protocol"`
	Owner    string `json:"owner"`
	Wanted   bool   `json:"wanted"`
	Uplink   string `json:"uplink,omitempty"`
}

type jsonStatusDrift struct {
	Kind string `json:"kind"`
	Text string `json:"text"`
	Have string `json:"have,omitempty"`
}

func jsonStatusFamily(f fib.Family) string { return strings.ToLower(f.String()) }

func jsonStatusDrifts(list []host.Drift) []jsonStatusDrift {
	out := []jsonStatusDrift{}
	for _, d := range list {
		out = append(out, jsonStatusDrift{string(d.Kind), d.Text, d.Have})
	}
	return out
}

func printStatusJSON(w io.Writer, s *host.Status) error {
	out := jsonStatus{
		Version: 1, OK: s.OK(), Backend: string(s.Backend), Uplinks: []jsonStatusUplink{}, Drift: jsonStatusDrifts(s.Drift),
		Rules: []jsonHostRule{}, Notes: append([]string{}, s.Notes...),
	}
	if s.Broken != nil {
		out.Broken = s.Broken.Error()
	}
	table := tableNames(s)
	for i := range s.Uplinks {
		out.Uplinks = append(out.Uplinks, newJSONStatusUplink(&s.Uplinks[i], table))
	}
	for _, r := range s.Rules {
		j := jsonHostRule{
			Family: jsonStatusFamily(r.Family), Priority: r.Priority, Rule: ruleText(r.Rule.Rule, table), State: string(r.Presence),
			Wanted: r.Wanted, Uplink: r.Uplink,
		}
		if r.Presence == host.Present {
			j.Protocol, j.Owner = r.Protocol, apply.ProtocolName(r.Protocol)
		}
		out.Rules = append(out.Rules, j)
	}
	return writeJSON(w, out)
}

func newJSONStatusUplink(u *host.UplinkStatus, table func(uint32) string) jsonStatusUplink {
	j := jsonStatusUplink{
		Name: u.Name, State: string(u.State()), Backend: string(u.Charge), Table: u.Table, Drift: jsonStatusDrifts(u.Drift),
		Waiting: []string{}, Addresses: []jsonStatusAddress{}, Gateways: []jsonStatusGateway{}, Rules: []jsonStatusRule{},
	}
	if u.Device.Name != "" {
		j.Link = &jsonStatusLink{u.Device.Name, u.Device.Up, u.Device.Carrier}
	}
	for _, w := range u.Waiting {
		j.Waiting = append(j.Waiting, w.Why)
	}
	for _, why := range []string{u.Unlearned, u.Lacks} {
		if why != "" {
			j.Waiting = append(j.Waiting, why)
		}
	}
	for _, a := range u.Addresses {
		j.Addresses = append(j.Addresses, jsonStatusAddress{a.Prefix.String(), string(a.Presence), newJSONStatusLease(a.Lease)})
	}
	for _, g := range u.Gateways {
		j.Gateways = append(j.Gateways, jsonStatusGateway{g.Addr.String(), g.Neighbour, newJSONStatusLease(g.Lease)})
	}
	for _, r := range u.Rules {
		j.Rules = append(j.Rules, jsonStatusRule{jsonStatusFamily(r.Family), r.Priority, ruleText(r.Rule, table), string(r.Presence)})
	}
	for _, h := range u.Health {
		j.Health = append(j.Health, jsonStatusHealth{jsonStatusFamily(h.Family), healthWords(h).text, h.Since, h.Why})
	}
	return j
}
