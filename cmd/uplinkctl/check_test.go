package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
)

const warned = `
[uplink.isp1]
interface     = "eth0"
addresses     = ["192.0.2.10/24"]
gateways      = ["192.0.2.1"]
default-route = true

[uplink.rt2]
interface = "eth1"
addresses = ["198.51.100.10/24"]
metric    = 5
`

func TestCheckWarnings(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, "my uplink.toml", warned)
	writeFile(t, "bad.toml", "[uplink.a]\ninterface = \"eth0\"\ngatways = 1\n")
	const text = "my uplink.toml:8: warning: `metric` of uplink `rt2` does nothing"
	for _, c := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{[]string{"my uplink.toml"}, 0, "", text},
		{[]string{"--strict", "my uplink.toml"}, 1, "", "\nuplinkctl: 2 warnings\n"},
		{[]string{"--strict", "--state", "my uplink.toml"}, 1, "# table 10000 isp1\n", text},
		{[]string{"--format", "json", "my uplink.toml"}, 0, `"id": "metric-without-default-route",`, ""},
		{[]string{"--format", "sarif", "my uplink.toml"}, 0, `"ruleId": "no-way-out",`, ""},
		{[]string{"--strict", "--format", "json", "my uplink.toml"}, 1, `"ok": false`, ""},
		{[]string{"--format", "json", "bad.toml"}, 1, `"message": "unknown key \"gatways\" in an uplink"`, ""},
		{[]string{"--format", "sarif", "bad.toml"}, 1, `"level": "error"`, ""},
		{[]string{"--format", "xml"}, 2, "", "there are text, json and sarif"},
		{[]string{"--format", "json", "--state"}, 2, "", "--state is text"},
	} {
		code, stdout, stderr := runCommand(checkCommand(), c.args...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || (c.stdout == "") != (stdout == "") || !strings.Contains(stderr, c.stderr) || (c.stderr == "") != (stderr == "") {
			t.Errorf("%q: exit status %d, want %d\n%s\n%s", c.args, code, c.code, stdout, stderr)
		}
	}
}

// TestSARIFShape holds the output to what the schema of SARIF 2.1.0 requires of the
// parts that are used.
func TestSARIFShape(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, "my uplink.toml", warned)
	_, stdout, _ := runCommand(checkCommand(), "--format", "sarif", "my uplink.toml")
	var log struct {
		Schema  string `json:"$schema"`
		Version string
		Runs    []struct {
			Tool struct {
				Driver struct {
					Name  string
					Rules []struct {
						ID               string
						ShortDescription struct{ Text string }
					}
				}
			}
			ColumnKind string
			Results    []struct {
				RuleID    string
				RuleIndex int
				Level     string
				Message   struct{ Text string }
				Locations []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI string }
						Region           struct{ StartLine int }
					}
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(stdout), &log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || !strings.Contains(log.Schema, "sarif-2.1.0") || len(log.Runs) != 1 {
		t.Fatalf("%+v", log)
	}
	r := log.Runs[0]
	if r.Tool.Driver.Name != "uplinkctl" || r.ColumnKind != "unicodeCodePoints" || len(r.Results) != 2 {
		t.Errorf("%+v", r)
	}
	for _, rule := range r.Tool.Driver.Rules {
		if rule.ID == "" || rule.ShortDescription.Text == "" {
			t.Errorf("%+v", rule)
		}
	}
	for _, f := range r.Results {
		if r.Tool.Driver.Rules[f.RuleIndex].ID != f.RuleID || f.Level != "warning" || f.Message.Text == "" || len(f.Locations) != 1 {
			t.Errorf("%+v", f)
		}
		at := f.Locations[0].PhysicalLocation
		if at.ArtifactLocation.URI != "my%20uplink.toml" || at.Region.StartLine != 8 {
			t.Errorf("%+v", at)
		}
	}
	if uri("/etc/uplink/uplink.toml") != "file:///etc/uplink/uplink.toml" {
		t.Error(uri("/etc/uplink/uplink.toml"))
	}
}

// TestCheckOfNoSpec checks that a reader of the output finds the error there.
func TestCheckOfNoSpec(t *testing.T) {
	for format, want := range map[string]string{
		"json":  `^\{\s+"version": 1,\s+"ok": false,\s+"files": \[\],\s+"errors": \[\s+\{\s+"id": "spec-error",\s+"file": "/etc/uplink/uplink.toml",\s+"message": "no spec: [^"]+"\s+\}\s+\],\s+"warnings": \[\]\s+\}\s+$`,
		"sarif": `"level": "error",\s+"message": \{\s+"text": "no spec: [^"]+"\s+\},\s+"locations": \[\s+\{\s+"physicalLocation": \{\s+"artifactLocation": \{\s+"uri": "file:///etc/uplink/uplink.toml"\s+\}\s+\}`,
	} {
		code, stdout, stderr := runCommand(checkCommand(), "--format", format, "--root", t.TempDir())
		if code != run.ExitFail || stderr != "" || !regexp.MustCompile(want).MatchString(stdout) {
			t.Errorf("%s: exit status %d\n%s%s", format, code, stdout, stderr)
		}
	}
}

// TestCheckOfManyUplinks checks that a user of an old systemd learns that its rules are tried one
// after the other, and that nobody else does.
func TestCheckOfManyUplinks(t *testing.T) {
	const netlink = "backend = \"netlink\"\n"
	for _, c := range []struct {
		what, head, systemd string
		uplinks             int
		want                bool
	}{
		{"an old one", "", "252", 60, true},
		{"one that can lay them out", "", "257", 60, false},
		{"none that is known", "", "", 60, false},
		{"an old one that has no link", netlink, "252", 60, false},
		{"an old one, and few uplinks", "", "252", 2, false},
	} {
		root, text := t.TempDir(), c.head
		for i := range c.uplinks {
			text += fmt.Sprintf("[uplink.u%02d]\ninterface = \"e%02[1]d\"\naddresses = [\"10.0.%[1]d.2/24\"]\ngateways = [\"10.0.%[1]d.1\"]\n", i)
		}
		text += "default-route = true\n"
		for _, dir := range []string{"etc/uplink", "usr/lib/systemd"} {
			if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		writeFile(t, filepath.Join(root, "etc/uplink/uplink.toml"), text)
		if c.systemd != "" {
			writeFile(t, filepath.Join(root, "usr/lib/systemd/libsystemd-shared-"+c.systemd+".so"), "")
		}
		want := run.ExitOK
		if c.want {
			want = run.ExitFail
		}
		code, _, stderr := runCommand(checkCommand(), "--strict", "--root", root)
		if code != want || strings.Contains(strings.Join(strings.Fields(stderr), " "), "systemd-networkd "+c.systemd+" cannot lay them out in blocks") != c.want {
			t.Errorf("%s: exit status %d\n%s", c.what, code, stderr)
		}
	}
}
