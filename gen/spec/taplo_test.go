package spec

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/need"
)

// TestTaploTakesTheSchema runs the tool behind editors' TOML support: what it marks is
// what people see while they type. It takes seconds to start, so it runs once, on the
// example that has every key; TestSchemaTakesTheExamples reads the others.
func TestTaploTakesTheSchema(t *testing.T) {
	t.Parallel()
	taplo := need.Program(t, "taplo", "npm install -g @taplo/cli")
	reference, err := os.ReadFile("../../integration/examples/reference/root/etc/uplink/uplink.toml")
	if err != nil {
		t.Fatal(err)
	}
	files := []struct{ name, text, wrong string }{
		{"reference.toml", string(reference), ""},
		{"key.toml", "[uplink.a]\ninterface = \"eth0\"\ngatways = [\"192.0.2.1\"]\n", "'gatways' was unexpected"},
		{"value.toml", "[uplink.a]\ninterface = \"eth0\"\nmanage = \"all\"\n", `"all" is not one of ["link","policy"]`},
		{"type.toml", "[uplink.a]\ninterface = \"eth0\"\nonlink = \"yes\"\n", `"yes" is not of type "boolean"`},
		{"top.toml", "bakend = \"auto\"\n", "'bakend' was unexpected"},
	}
	c := exec.Command(taplo, "check")
	c.Dir = t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(c.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("uplink.schema.json", Schema)
	for _, f := range files {
		write(f.name, "#:schema ./uplink.schema.json\n"+f.text)
		c.Args = append(c.Args, f.name)
	}
	out, err := c.CombinedOutput()
	if err == nil {
		t.Error("it takes all of them")
	}
	for _, f := range files {
		if marked := strings.Contains(string(out), "/"+f.name); marked != (f.wrong != "") || !strings.Contains(string(out), f.wrong) {
			t.Errorf("%s: marked: %v, want %q", f.name, marked, f.wrong)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}
