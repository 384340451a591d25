package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/need"
)

// TestGraphvizTakesTheGraph draws each example with the real dot(1).
func TestGraphvizTakesTheGraph(t *testing.T) {
	t.Parallel()
	need.Program(t, "dot", "graphviz")
	for name, file := range exampleSpecs(t) {
		graph := output(t, "graph", file)
		if again := output(t, "graph", file); again != graph {
			t.Errorf("%s: the graph is another the second time", name)
		}
		cmd := exec.Command("dot", "-Tsvg")
		var stdout, stderr bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(graph), &stdout, &stderr
		if err := cmd.Run(); err != nil || stderr.Len() > 0 || !strings.Contains(stdout.String(), "</svg>") {
			t.Errorf("%s: %v\n%s%s", name, err, &stderr, graph)
		}
		if !strings.Contains(stdout.String(), "routes of others") {
			t.Errorf("%s: table main is not in the drawing", name)
		}
	}
}

// TestGraphOfManyUplinks checks that the time grows with the spec, not with its square.
func TestGraphOfManyUplinks(t *testing.T) {
	many := func(n int) *fib.State {
		s := &fib.State{}
		for i := range n {
			name, table := fmt.Sprintf("u%05d", i), uint32(10000+i)
			addr := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1})
			s.Tables = append(s.Tables, fib.Table{ID: table, Name: name})
			s.Links = append(s.Links, fib.Link{Name: name, Match: fib.Match{Name: name}})
			s.Routes = append(s.Routes, fib.Route{Family: fib.Inet, Table: table, Type: fib.Unicast, Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Nexthops: []fib.Nexthop{{Link: name, Via: addr}}})
			s.Rules = append(s.Rules, fib.Rule{Family: fib.Inet, Priority: table, From: netip.PrefixFrom(addr, 32), Action: fib.Lookup, Table: table})
		}
		return s
	}
	took := func(n int) time.Duration {
		s, best := many(n), time.Hour
		for range 3 {
			began := time.Now()
			drawState(s)
			best = min(best, time.Since(began))
		}
		return best
	}
	const few, times = 500, 16
	if a, b := took(few), took(few*times); b > 4*times*a {
		t.Errorf("%d uplinks take %v, and %d take %v", few, a, few*times, b)
	}
}
