package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/apply/kerneltest"
	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/need"
)

// exampleSpecs returns the specs of integration/examples by name.
func exampleSpecs(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../integration/examples/*/root/etc/uplink/uplink.toml")
	if err != nil || len(files) < 8 {
		t.Fatal("examples:", files, err)
	}
	specs := map[string]string{}
	for _, f := range files {
		name := filepath.Base(f[:strings.Index(f, "/root/")])
		specs[name] = f
	}
	return specs
}

// output runs uplinkctl and returns what it prints.
func output(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if status := uplinkctl(args, &stdout, &stderr); status != run.ExitOK || stderr.Len() > 0 {
		t.Fatalf("uplinkctl %q: exit status %d\n%s", args, status, &stderr)
	}
	return stdout.String()
}

// hairy has everything that is special to a shell and that a spec may contain.
const hairy = "[uplink.a-b]\nmac = \"02:00:00:00:00:01\"\naddresses = [\"192.0.2.10/24\"]\nonlink = true\n" +
	"route = [{ to = \"203.0.113.0/24\", via = \"100.64.0.1\" }]\n" +
	"rule = [{ priority = 5, iif = \"`false`\", table = \"a.b\" }]\n" +
	"[uplink.\"a.b\"]\ninterface = \"<a.b>\"\nmtu = 1400\naddresses = [\"198.51.100.10/24\", \"2001:db8::10/64\"]\n" +
	"[uplink.a_b]\ndriver = \"x}y*`false`\"\naddresses = [\"2001:db8:1::10/64\"]\n"

// TestExportedScriptReachesTheSame feeds the script of each example to a real shell and
// the real ip(8): the kernel then holds what apply makes of the spec.
func TestExportedScriptReachesTheSame(t *testing.T) {
	t.Parallel()
	specs := exampleSpecs(t)
	specs["hairy"] = filepath.Join(t.TempDir(), "hairy.toml")
	if err := os.WriteFile(specs["hairy"], []byte(hairy), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, file := range specs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, state, err := run.Check("", file)
			if err != nil {
				t.Fatal(err)
			}
			var env, devices []string
			vars := &script{}
			vars.name(&state)
			for i := range state.Links {
				l := &state.Links[i]
				dev, named := l.Match.Device()
				if !named {
					dev = fmt.Sprint("card", i)
					env = append(env, vars.vars[l.Name]+"="+dev)
				}
				l.Match = fib.Match{Name: dev}
				devices = append(devices, dev)
			}
			applied, fed := kerneltest.NewNamespace(t), kerneltest.NewNamespace(t)
			for _, n := range []*kerneltest.Namespace{applied, fed} {
				for _, dev := range devices { // its peer's name is too long for some
					n.IP("link add "+dev+" type veth peer name p"+dev, "link set p"+dev+" addrgenmode none up", "link set "+dev+" addrgenmode none")
				}
				for i, l := range state.Links {
					if !l.PolicyOnly {
						continue
					}
					n.IP("link set " + devices[i] + " up") // by somebody else, with its addresses
					for _, r := range state.Routes {
						if r.Link == l.Name && r.Src.IsValid() {
							n.IP(fmt.Sprintf("address add %s/%d dev %s", r.Src, r.Dst.Bits(), devices[i]))
						}
					}
				}
			}
			a := &apply.Applier{Kernel: applied.Kernel(), Hardware: applied.Hardware(), Wait: 5e9}
			result, err := a.Apply(context.Background(), state)
			if err != nil || len(result.Waiting) > 0 {
				t.Fatal(result.Waiting, err)
			}
			script := output(t, "export", file)
			if _, err := fed.Run(script, append(append([]string{"env"}, env...), "sh")...); err != nil {
				t.Fatalf("%v\n%s", err, script)
			}
			// The kernel acts on carriers and addresses a moment later.
			d := "-"
			for end := time.Now().Add(5 * time.Second); d != "" && time.Now().Before(end); {
				d = kerneltest.Diff(settled(applied), settled(fed))
			}
			if d != "" {
				t.Errorf("- applied, + by the script:\n%s", d)
			}
			if len(env) > 0 {
				if out, err := fed.Run(script, "sh"); err == nil || !strings.Contains(err.Error(), "is not set: the link of uplink ") || out != "" {
					t.Errorf("without the variables: %v, %s", err, out)
				}
			}
			t.Run("shellcheck", func(t *testing.T) {
				need.Program(t, "shellcheck")
				if out, err := fed.Run(script, "shellcheck", "-s", "sh", "-e", "SC2086", "-"); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			})
			t.Run("JSON", func(t *testing.T) { sameAsTheKernel(t, fed, output(t, "export", "--format", "json", file)) })
		})
	}
}

// settled is what a namespace holds, without what differs from one to another.
func settled(n *kerneltest.Namespace) string {
	n.Settle()
	var lines []string
	for line := range strings.Lines(n.Dump()) {
		if !strings.Contains(line, "link/") {
			// apply marks its addresses, which iproute2 before 6.3 cannot.
			lines = append(lines, strings.NewReplacer("proto 118 ", "", "proto 0x76 ", "", "proto uplink ", "").Replace(line))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// sameAsTheKernel compares the routes, rules and addresses of an export with what ip -json says
// of a kernel that has them: what both name must be the same.
func sameAsTheKernel(t *testing.T, n *kerneltest.Namespace, export string) {
	var state exportedState
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(export), &state); err != nil || state.Version != 1 {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(export), &raw); err != nil {
		t.Fatal(err)
	}
	objects := func(data []byte) (list []map[string]any) {
		if err := json.Unmarshal(data, &list); err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		return list
	}
	for _, what := range []struct {
		name string
		ip   string
	}{{"routes", "route show table all"}, {"rules", "rule show"}} {
		var kernel []map[string]any
		for family, option := range map[string]string{"inet": "-4", "inet6": "-6"} {
			out, err := n.Run("", append([]string{"ip", "-json", "-details", "-N", option}, strings.Fields(what.ip)...)...)
			if err != nil && !strings.Contains(err.Error(), "table does not exist") {
				t.Fatal(err)
			}
			if strings.TrimSpace(out) == "" {
				out = "[]"
			}
			for _, o := range objects([]byte(out)) {
				if o["protocol"] == "118" {
					o["family"] = family
					kernel = append(kernel, o)
				}
			}
		}
		ours := objects(raw[what.name])
		for _, o := range ours {
			i := slices.IndexFunc(kernel, func(k map[string]any) bool { return agree(o, k) })
			if i < 0 {
				t.Errorf("%s: the kernel has nothing like %v", what.name, o)
				continue
			}
			kernel = slices.Delete(kernel, i, i+1)
		}
		if len(kernel) > 0 {
			t.Errorf("%s: only the kernel has %v", what.name, kernel)
		}
	}
}

// numbers are what ip -N prints for words.
var numbers = map[string]string{
	"unicast": "1", "local": "2", "broadcast": "3", "anycast": "4", "multicast": "5",
	"blackhole": "6", "unreachable": "7", "prohibit": "8", "throw": "9",
	"global": "0", "site": "200", "link": "253", "host": "254",
}

// agree says whether an object of ours and one of ip -json are the same thing.
func agree(ours, kernel map[string]any) bool {
	for key, v := range ours {
		want, have := fmt.Sprint(v), fmt.Sprint(kernel[key])
		switch key {
		case "origin", "link":
			continue // not the kernel's
		case "dev":
			if _, has := kernel[key]; !has {
				continue // of several ways
			}
		case "table":
			if _, has := kernel[key]; !has {
				have = "254" // left out for main
			}
		case "type", "scope":
			if n, ok := numbers[want]; ok {
				want = n
			}
			if key == "scope" && kernel[key] == nil {
				have = "0"
			}
			if key == "type" && kernel[key] == nil {
				have = "1"
			}
		case "action":
			switch want {
			case "lookup":
				continue
			case "goto", "nop":
				_, has := kernel[want]
				have = map[bool]string{true: want}[has]
			default:
				want = numbers[want]
			}
		case "not", "l3mdev":
			_, has := kernel[key]
			have = fmt.Sprint(has)
		case "fwmask":
			if kernel[key] == nil {
				have = "0xffffffff"
			}
		case "ipproto":
			have = strings.TrimPrefix(have, "ipproto-")
		case "flags", "nexthops":
			for _, state := range []string{"linkdown", "dead"} {
				have = strings.ReplaceAll(have, state, "")
			}
			if key == "nexthops" {
				have, want = "", "" // its parts are compared as text by apply's tests
			}
		}
		if want != have {
			return false
		}
	}
	for key := range kernel {
		if _, has := ours[key]; !has && !slices.Contains([]string{"dev", "scope", "iif_detached", "oif_detached", "nop", "pref"}, key) {
			return false
		}
	}
	return true
}
